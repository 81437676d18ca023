//! A host for a guard's native unit tests.

use std::collections::BTreeMap;

use super::{AskedCommand, Guard, GuardHost, Verdict};
use crate::{Config, Level};

/// Stands in for the node: has what other plugins keep, and collects the log.
#[derive(Debug, Default)]
pub struct MockGuardHost {
    /// What [`GuardHost::now_ms`] says.
    pub now_ms: i64,
    /// All lines logged.
    pub log: Vec<(Level, String)>,
    /// The stored values of other plugins, by plugin and key.
    pub kept: BTreeMap<String, BTreeMap<Vec<u8>, Vec<Vec<u8>>>>,
}

impl MockGuardHost {
    /// Sets the one value that a plugin keeps under a key.
    pub fn keep(&mut self, plugin: &str, key: &str, value: impl Into<Vec<u8>>) {
        let values = self.kept.entry(plugin.to_owned()).or_default();
        values.insert(key.as_bytes().to_vec(), vec![value.into()]);
    }
}

impl GuardHost for MockGuardHost {
    fn log(&mut self, level: Level, text: &str) {
        self.log.push((level, text.to_owned()));
    }

    fn now_ms(&mut self) -> i64 {
        self.now_ms
    }

    fn kept(&mut self, plugin: &str, key: &[u8]) -> Vec<Vec<u8>> {
        self.kept.get(plugin).and_then(|values| values.get(key)).cloned().unwrap_or_default()
    }
}

/// A guard that is asked as the node asks it.
pub struct GuardBench<G> {
    /// The host that the guard sees.
    pub host: MockGuardHost,
    guard: G,
}

impl<G: Guard> GuardBench<G> {
    /// Makes an instance from settings.
    ///
    /// # Errors
    /// What the guard says to its configuration.
    pub fn new<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<GuardBench<G>, String> {
        let config: Config = settings.into_iter().collect();
        Ok(GuardBench { host: MockGuardHost::default(), guard: G::init(&config)? })
    }

    /// Asks about a command that a person sent, not an urgent one.
    pub fn judge(&mut self, device: &str, name: &str, payload: &str) -> Verdict {
        self.ask(&AskedCommand {
            id: "01893f6e-7a2b-7c3d-8e4f-0123456789ab".into(),
            device: device.into(),
            name: name.into(),
            payload: payload.into(),
            issued_by: "cli".into(),
            urgent: false,
        })
    }

    /// Asks about any command.
    pub fn ask(&mut self, command: &AskedCommand) -> Verdict {
        self.guard.judge(command, &mut self.host)
    }
}
