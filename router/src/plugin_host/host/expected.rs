//! What was agreed on and what of it does not run here: for lists, and so that no component is thrown away that is
//! still asked for. Pure.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::plugin_host::manifest::Manifest;
use crate::plugin_host::registry::RecordV2;
use crate::plugin_host::status::{PluginStatus, RunState};

/// Components that are kept before they are agreed on; the oldest goes first.
const HELD_MAX: usize = 8;

/// What is told of a plugin that does not run as it was agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// It is on its way: why it is not here yet.
    Waits(String),
    /// It cannot run here.
    Fails(String),
}

/// What was agreed on, as far as it was told.
#[derive(Debug, Default)]
pub struct Expected {
    agreed: BTreeMap<String, RecordV2>,
    problems: BTreeMap<String, Problem>,
    held: VecDeque<[u8; 32]>,
}

impl Expected {
    /// All that is agreed on now; what was told of other plugins is forgotten.
    pub fn set(&mut self, agreed: BTreeMap<String, RecordV2>) {
        self.problems.retain(|name, _| agreed.contains_key(name));
        self.agreed = agreed;
    }

    /// Tells how it stands with a plugin.
    pub fn note(&mut self, name: &str, problem: Option<Problem>) {
        match problem {
            Some(problem) if self.agreed.contains_key(name) => {
                self.problems.insert(name.to_owned(), problem);
            }
            _ => drop(self.problems.remove(name)),
        }
    }

    /// Keeps a component that may be agreed on.
    pub fn hold(&mut self, sha256: [u8; 32]) {
        self.held.push_back(sha256);
        if self.held.len() > HELD_MAX {
            self.held.pop_front();
        }
    }

    /// It was agreed on, or never will be.
    pub fn release(&mut self, sha256: &[u8; 32]) {
        if let Some(at) = self.held.iter().position(|held| held == sha256) {
            self.held.remove(at);
        }
    }

    /// Components that are not to be thrown away.
    pub fn components(&self) -> BTreeSet<[u8; 32]> {
        self.agreed.values().map(|record| record.sha256).chain(self.held.iter().copied()).collect()
    }

    /// Adds what does not run as it was agreed on.
    pub fn tell(&self, all: &mut Vec<PluginStatus>) {
        for (name, problem) in &self.problems {
            let (Problem::Waits(why) | Problem::Fails(why)) = problem;
            if let Some(runs) = all.iter_mut().find(|status| status.name == *name) {
                runs.problem = Some(why.clone());
                continue;
            }
            let Some(record) = self.agreed.get(name) else { continue };
            let manifest = Manifest::read(&record.manifest).unwrap_or_default();
            let (state, problem) = match problem {
                Problem::Waits(why) => (RunState::Starting, Some(why.clone())),
                Problem::Fails(why) => (RunState::Broken(why.clone()), None),
            };
            all.push(PluginStatus {
                name: name.clone(),
                kind: manifest.kind,
                state,
                problem,
                sha256: crate::plugin_host::hex(&record.sha256),
                deployed_ms: record.deployed_ms,
                manifest,
                ..PluginStatus::default()
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn agreed(names: &[&str]) -> BTreeMap<String, RecordV2> {
        let record = |name: &&str| RecordV2 { manifest: format!("name = '{name}'\ntopics = ['in']"), ..one() };
        names.iter().map(|name| ((*name).to_owned(), record(name))).collect()
    }

    fn one() -> RecordV2 {
        RecordV2 { sha256: [1; 32], deployed_ms: 5, ..RecordV2::default() }
    }

    #[test]
    fn what_does_not_run_as_agreed_is_told() {
        let mut expected = Expected::default();
        expected.set(agreed(&["a", "b", "c"]));
        expected.note("a", Some(Problem::Fails("no grant".into())));
        expected.note("b", Some(Problem::Waits("nobody has it".into())));
        expected.note("c", Some(Problem::Fails("of another version".into())));
        expected.note("d", Some(Problem::Fails("was never agreed on".into())));
        let tell = |expected: &Expected| {
            let mut all = vec![PluginStatus { name: "c".into(), state: RunState::Running, ..Default::default() }];
            expected.tell(&mut all);
            let told = all.into_iter().map(|status| (status.name, status.state, status.problem));
            told.collect::<Vec<_>>()
        };
        let want = [
            ("c".to_owned(), RunState::Running, Some("of another version".to_owned())),
            ("a".to_owned(), RunState::Broken("no grant".into()), None),
            ("b".to_owned(), RunState::Starting, Some("nobody has it".into())),
        ];
        assert_eq!(tell(&expected), want);
        expected.note("c", None);
        expected.set(agreed(&["b", "c"]));
        assert_eq!(tell(&expected).len(), 2, "of a removed plugin nothing is told");
    }

    #[test]
    fn components_that_are_asked_for_are_kept() {
        let mut expected = Expected::default();
        expected.set(agreed(&["a"]));
        for byte in 0..=u8::try_from(HELD_MAX).unwrap() + 1 {
            expected.hold([byte; 32]);
        }
        assert_eq!(expected.components().len(), HELD_MAX + 1, "the oldest of those that were held went");
        expected.release(&[9; 32]);
        assert!(!expected.components().contains(&[9; 32]) && expected.components().contains(&[1; 32]));
    }
}
