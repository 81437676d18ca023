//! A host for a plugin's native unit tests.

use std::collections::BTreeMap;

use crate::{Action, Batch, Config, Event, Host, Level, Plugin};

/// Stands in for the node: keeps state in memory and collects the log.
#[derive(Debug, Default)]
pub struct MockHost {
    /// What [`Host::now_ms`] says.
    pub now_ms: i64,
    /// All lines logged.
    pub log: Vec<(Level, String)>,
    /// The partition the next batches are of.
    pub partition: u32,
    /// The state as committed, by partition and key.
    pub state: BTreeMap<(u32, Vec<u8>), Vec<u8>>,
    /// What devices say they are, by name.
    pub reported: BTreeMap<String, String>,
    /// What devices shall be, by name; actions do not change it.
    pub desired: BTreeMap<String, String>,
    pending: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
}

impl Host for MockHost {
    fn log(&mut self, level: Level, text: &str) {
        self.log.push((level, text.to_owned()));
    }

    fn now_ms(&mut self) -> i64 {
        self.now_ms
    }

    fn state_get(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        match self.pending.get(key) {
            Some(written) => written.clone(),
            None => self.state.get(&(self.partition, key.to_vec())).cloned(),
        }
    }

    fn state_set(&mut self, key: &[u8], value: &[u8]) {
        self.pending.insert(key.to_vec(), Some(value.to_vec()));
    }

    fn state_delete(&mut self, key: &[u8]) {
        self.pending.insert(key.to_vec(), None);
    }

    fn twin_reported(&mut self, device: &str) -> Option<String> {
        self.reported.get(device).cloned()
    }

    fn twin_desired(&mut self, device: &str) -> Option<String> {
        self.desired.get(device).cloned()
    }
}

/// A plugin run as the node runs it: state is committed when a call succeeds,
/// and a failed call costs the instance.
pub struct Bench<P> {
    /// The host the plugin sees.
    pub host: MockHost,
    config: Config,
    plugin: P,
    next_offset: u64,
}

impl<P: Plugin> Bench<P> {
    /// Makes an instance from settings.
    ///
    /// # Errors
    /// What the plugin says to its configuration.
    pub fn new<'a>(settings: impl IntoIterator<Item = (&'a str, &'a str)>) -> Result<Bench<P>, String> {
        let config: Config = settings.into_iter().collect();
        Ok(Bench { host: MockHost::default(), plugin: P::init(&config)?, config, next_offset: 0 })
    }

    /// Gives the plugin events of (key, timestamp in ms, value) as one batch.
    ///
    /// # Errors
    /// What the plugin says; its state writes are dropped.
    pub fn feed(&mut self, events: &[(&str, i64, &str)]) -> Result<Vec<Action>, String> {
        let batch = self.batch(events);
        let answer = self.plugin.process(&batch, &mut self.host);
        let written = std::mem::take(&mut self.host.pending);
        if answer.is_err() {
            self.restart()?;
            return answer;
        }
        for (key, value) in written {
            let key = (self.host.partition, key);
            match value {
                Some(value) => self.host.state.insert(key, value),
                None => self.host.state.remove(&key),
            };
        }
        answer
    }

    /// Replaces the instance, as the node does after a restart or a failure.
    ///
    /// # Errors
    /// What the plugin says to its configuration.
    pub fn restart(&mut self) -> Result<(), String> {
        self.plugin = P::init(&self.config)?;
        Ok(())
    }

    fn batch(&mut self, events: &[(&str, i64, &str)]) -> Batch {
        let events = events.iter().map(|(key, timestamp_ms, value)| {
            let offset = self.next_offset;
            self.next_offset += 1;
            Event {
                offset,
                timestamp_ms: *timestamp_ms,
                key: Some(key.as_bytes().to_vec()),
                value: value.as_bytes().to_vec(),
                headers: Vec::new(),
            }
        });
        Batch { topic: "telemetry".into(), partition: self.host.partition, origin: 1, events: events.collect() }
    }
}
