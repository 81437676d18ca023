//! Makes the plugins of this node what the site agreed on.

use std::collections::BTreeMap;
use std::io;

use super::PluginHost;
use super::expected::Problem;
use crate::plugin_host::manifest::Manifest;
use crate::plugin_host::registry::{RecordV2, digest};
use crate::plugin_host::status::RunState;
use crate::plugin_host::{DeployError, Deployed, SettleError};

/// A plugin that this node has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Here {
    /// Its record.
    pub record: RecordV2,
    /// Whether it does not run because its component's file is gone.
    pub is_lost: bool,
}

/// What is to be done about a plugin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// It is as agreed, or nobody has agreed on anything.
    Nothing,
    /// Deploy the version that was agreed on; what there is goes on at its cursor.
    Deploy,
    /// It was removed and deployed again meanwhile: the old one goes with its state.
    DeployAnew,
    /// Remove it with its state.
    Remove,
}

/// What became of a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Settled {
    /// It was as agreed.
    Unchanged,
    /// It runs.
    Deployed(Deployed),
    /// It is gone.
    Removed,
}

/// What is to be done so that `here` becomes what was agreed on (pure). A plugin of before sites agreed is left alone.
pub fn step(here: Option<&Here>, agreed: Option<&RecordV2>) -> Step {
    let Some(agreed) = agreed else {
        return if here.is_some_and(|here| here.record.begun != 0) { Step::Remove } else { Step::Nothing };
    };
    let Some(Here { record, is_lost }) = here else { return Step::Deploy };
    match (record.begun, record.version) {
        place if place == (agreed.begun, agreed.version) && !is_lost => Step::Nothing,
        (begun, _) if begun == agreed.begun || begun == 0 => Step::Deploy,
        _ => Step::DeployAnew,
    }
}

impl PluginHost {
    /// All that is agreed on now: components of it are kept, and what of it does not run is listed.
    pub fn expect(&self, agreed: BTreeMap<String, RecordV2>) {
        self.expected.lock().set(agreed);
    }

    /// Says that a plugin that was agreed on is not here yet, and why.
    pub fn note_waiting(&self, name: &str, why: String) {
        self.expected.lock().note(name, Some(Problem::Waits(why)));
    }

    /// Makes one plugin what was agreed on. `agreed` is asked when nothing else is being changed, so that who comes
    /// late does not bring back what is outdated. May compile, so that it takes up to seconds.
    ///
    /// # Errors
    /// [`SettleError`], which is listed as well; what ran before runs on, unless it was removed.
    pub fn settle(&self, name: &str, agreed: impl Fn() -> Option<RecordV2>) -> Result<Settled, SettleError> {
        let _changing = self.changing.lock();
        let agreed = agreed();
        let settled = self.settle_now(name, agreed.as_ref());
        let problem = settled.as_ref().err().map(|error| match error {
            SettleError::Deploy(DeployError::Missing(_)) => Problem::Waits(error.to_string()),
            _ => Problem::Fails(error.to_string()),
        });
        self.expected.lock().note(name, problem);
        settled
    }

    fn settle_now(&self, name: &str, agreed: Option<&RecordV2>) -> Result<Settled, SettleError> {
        let here = self.here(name);
        match (step(here.as_ref(), agreed), agreed) {
            (Step::Remove, _) => {
                self.remove_now(name)?;
                Ok(Settled::Removed)
            }
            (step @ (Step::Deploy | Step::DeployAnew), Some(agreed)) => {
                if step == Step::DeployAnew {
                    self.remove_now(name)?;
                }
                Ok(Settled::Deployed(self.deploy_agreed(agreed)?))
            }
            _ => Ok(Settled::Unchanged),
        }
    }

    fn deploy_agreed(&self, agreed: &RecordV2) -> Result<Deployed, DeployError> {
        let wasm = self.files.read(&agreed.sha256).map_err(DeployError::Missing)?;
        let manifest = Manifest::parse(&agreed.manifest)?;
        let made = self.make(&wasm, &manifest)?;
        self.put(manifest, agreed.clone(), made)
    }

    /// A plugin that this node has.
    pub fn here(&self, name: &str) -> Option<Here> {
        let record = self.plugins.lock().get(name).map(|plugin| plugin.record.clone());
        let record = record.or_else(|| self.guards.get(name).map(|post| post.record.clone()))?;
        Some(self.seen(name, record))
    }

    /// All plugins that this node has, by name.
    pub fn all_here(&self) -> BTreeMap<String, Here> {
        let mut records: BTreeMap<String, RecordV2> = BTreeMap::new();
        records.extend(self.plugins.lock().iter().map(|(name, plugin)| (name.clone(), plugin.record.clone())));
        let posts = self.guards.posts();
        records.extend(posts.iter().map(|post| (post.manifest.name.clone(), post.record.clone())));
        records.into_iter().map(|(name, record)| (name.clone(), self.seen(&name, record))).collect()
    }

    fn seen(&self, name: &str, record: RecordV2) -> Here {
        let is_broken = |state: &RunState| matches!(state, RunState::Broken(_));
        let plugin = self.plugins.lock().get(name).map(|plugin| is_broken(&plugin.task.shared().state.lock()));
        let is_broken = plugin.unwrap_or_else(|| self.guards.get(name).is_some_and(|post| is_broken(&post.state())));
        let is_lost = is_broken && !self.files.has(&record.sha256);
        Here { record, is_lost }
    }

    /// A component of a deployment that came to nothing, or runs, is not kept for it any more.
    pub fn release(&self, sha256: &[u8; 32]) {
        let _changing = self.changing.lock();
        self.expected.lock().release(sha256);
        self.sweep();
    }

    /// Whether the component is here and whole. Reads all of it.
    pub fn has_component(&self, sha256: &[u8; 32]) -> bool {
        self.files.read(sha256).is_ok()
    }

    /// The length of a component in bytes, where it is here and whole. Reads all of it.
    pub fn component_bytes(&self, sha256: &[u8; 32]) -> Option<u64> {
        self.files.read(sha256).ok().map(|wasm| wasm.len() as u64)
    }

    /// A part of a component, `max` bytes at most, and the whole one's length; `None` where it is not here. What is
    /// read is not checked.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn component_part(&self, sha256: &[u8; 32], offset: u64, max: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
        self.files.read_part(sha256, offset, max)
    }

    /// Keeps a component that came from elsewhere, whole or not at all. `false`: it is not the one of that digest.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn keep_component(&self, wasm: &[u8], sha256: &[u8; 32]) -> io::Result<bool> {
        if digest(wasm) != *sha256 {
            return Ok(false);
        }
        let _changing = self.changing.lock();
        self.files.keep(wasm, sha256)?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_to_be_done_about_a_plugin() {
        let record = |begun, version| RecordV2 { begun, version, ..RecordV2::default() };
        let here = |begun, version| Some(Here { record: record(begun, version), is_lost: false });
        let lost = Some(Here { record: record(3, 1), is_lost: true });
        let cases = [
            ("nothing anywhere", None, None, Step::Nothing),
            ("of before sites agreed", here(0, 0), None, Step::Nothing),
            ("removed", here(3, 1), None, Step::Remove),
            ("new", None, Some(record(3, 1)), Step::Deploy),
            ("of before, and agreed on now", here(0, 0), Some(record(3, 1)), Step::Deploy),
            ("as agreed", here(3, 1), Some(record(3, 1)), Step::Nothing),
            ("a new version", here(3, 1), Some(record(3, 2)), Step::Deploy),
            ("removed and deployed again", here(3, 1), Some(record(5, 1)), Step::DeployAnew),
            ("its file is gone", lost, Some(record(3, 1)), Step::Deploy),
        ];
        for (case, here, agreed, want) in cases {
            assert_eq!(step(here.as_ref(), agreed.as_ref()), want, "{case}");
        }
    }
}
