//! What a node does so that its plugins become what was agreed on, and when it tries again. Pure.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::plugin_host::{Here, RecordV2, Step, step};
use crate::transport::NodeId;

/// The pause after the first failure; each next one is twice as long.
const PAUSE_MIN: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);

/// Something to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Task {
    /// Remove this plugin.
    Remove(String),
    /// Run what was agreed on of this plugin.
    Run(String),
    /// Have the site agree on this plugin, which was deployed before sites agreed.
    Agree(String),
}

impl Task {
    /// The plugin.
    pub fn plugin(&self) -> &str {
        match self {
            Self::Remove(name) | Self::Run(name) | Self::Agree(name) => name,
        }
    }
}

/// What is to be done: what goes makes room first. `is_alone`: no other node could have agreed on anything.
pub fn tasks(agreed: &BTreeMap<String, RecordV2>, here: &BTreeMap<String, Here>, is_alone: bool) -> Vec<Task> {
    let mut tasks = Vec::new();
    for (name, plugin) in here.iter().filter(|(name, _)| !agreed.contains_key(*name)) {
        match step(Some(plugin), None) {
            Step::Remove => tasks.push(Task::Remove(name.clone())),
            _ if is_alone => tasks.push(Task::Agree(name.clone())),
            _ => {}
        }
    }
    // As they were deployed, so that one that needs another one's end finds it.
    let mut wanted: Vec<_> =
        agreed.iter().filter(|(name, new)| step(here.get(*name), Some(new)) != Step::Nothing).collect();
    wanted.sort_by_key(|(_, record)| record.deployed_ms);
    tasks.extend(wanted.into_iter().map(|(name, _)| Task::Run(name.clone())));
    tasks
}

/// What has failed, by plugin.
#[derive(Debug, Default)]
pub struct Failures(BTreeMap<String, Failed>);

#[derive(Debug)]
struct Failed {
    /// Of which version.
    place: (u64, u64),
    pause: Duration,
    not_before: Duration,
    /// Who was asked for the component in vain; `None` where it was here.
    asked: Option<BTreeSet<NodeId>>,
}

impl Failures {
    /// Forgets what is not to be done any more.
    pub fn keep(&mut self, tasks: &[Task]) {
        self.0.retain(|name, _| tasks.iter().any(|task| task.plugin() == name));
    }

    /// Whether a version is to be tried now: not before its pause is over, unless there is a node that was not asked.
    pub fn is_due(&self, name: &str, place: (u64, u64), now: Duration, nodes: &[NodeId]) -> bool {
        self.0.get(name).filter(|failed| failed.place == place).is_none_or(|failed| {
            let is_new = |asked: &BTreeSet<NodeId>| nodes.iter().any(|node| !asked.contains(node));
            now >= failed.not_before || failed.asked.as_ref().is_some_and(is_new)
        })
    }

    /// Notes a failure; `asked` are those who were asked for the component in vain. Whether it is the first of this
    /// version.
    pub fn add(&mut self, name: &str, place: (u64, u64), now: Duration, asked: Option<BTreeSet<NodeId>>) -> bool {
        let before = self.0.get(name).filter(|failed| failed.place == place);
        let pause = before.map_or(PAUSE_MIN, |before| (before.pause * 2).min(PAUSE_MAX));
        let is_first = before.is_none();
        self.0.insert(name.to_owned(), Failed { place, pause, not_before: now + pause, asked });
        is_first
    }

    /// It is done.
    pub fn clear(&mut self, name: &str) {
        self.0.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(begun: u64, version: u64, deployed_ms: i64) -> RecordV2 {
        RecordV2 { begun, version, deployed_ms, ..RecordV2::default() }
    }

    #[test]
    fn plugins_become_what_was_agreed_on() {
        let here = |begun, version| Here { record: record(begun, version, 0), is_lost: false };
        let agreed: BTreeMap<String, RecordV2> = [
            ("same".to_owned(), record(1, 1, 1)),
            ("newer".to_owned(), record(2, 2, 9)),
            ("new".to_owned(), record(4, 1, 4)),
        ]
        .into();
        let here: BTreeMap<String, Here> = [
            ("same".to_owned(), here(1, 1)),
            ("newer".to_owned(), here(2, 1)),
            ("gone".to_owned(), here(3, 1)),
            ("old".to_owned(), here(0, 0)),
        ]
        .into();
        let (remove, run) = (Task::Remove("gone".into()), [Task::Run("new".into()), Task::Run("newer".into())]);
        let in_site = [std::slice::from_ref(&remove), &run[..]].concat();
        assert_eq!(tasks(&agreed, &here, false), in_site);
        let alone = [&[remove, Task::Agree("old".into())], &run[..]].concat();
        assert_eq!(tasks(&agreed, &here, true), alone);
        assert_eq!(tasks(&BTreeMap::new(), &BTreeMap::new(), true), []);
    }

    #[test]
    fn what_failed_is_tried_again_later_or_when_another_node_comes() {
        let (a, b, place) = (NodeId(1), NodeId(2), (3, 1));
        let second = Duration::from_secs(1);
        let mut failures = Failures::default();
        assert!(failures.is_due("p", place, second, &[a]));
        assert!(failures.add("p", place, second, Some([a].into())));
        assert!(!failures.is_due("p", place, second, &[a]));
        assert!(failures.is_due("p", place, second * 2, &[a]), "the pause is over");
        assert!(failures.is_due("p", place, second, &[a, b]), "there is another node");
        assert!(failures.is_due("p", (3, 2), second, &[a]), "there is another version");
        assert!(!failures.add("p", place, second * 2, None));
        assert!(!failures.is_due("p", place, second * 3, &[a, b]), "it is here and does not run; no node helps");
        assert!(failures.is_due("p", place, second * 4, &[]));
        for _ in 0..20 {
            failures.add("p", place, Duration::ZERO, None);
        }
        assert!(failures.is_due("p", place, PAUSE_MAX, &[]));
        failures.keep(&[Task::Run("q".into())]);
        assert!(failures.is_due("p", place, Duration::ZERO, &[]));
    }
}
