//! What a running guard may ask for.

use std::sync::Arc;

use super::bindings::edgeway::plugin::plugin_state;
use super::kept::Kept;
use crate::plugin_host::guest::Guest;

/// The data of one instance of a guard.
pub struct GuardGuest {
    /// What it has like every plugin: clock, log, settings, bounds.
    pub base: Guest,
    /// The plugins whose state it may read.
    pub may_read: Arc<[String]>,
    /// Where that state is.
    pub kept: Arc<dyn Kept>,
}

impl plugin_state::Host for GuardGuest {
    fn read(&mut self, plugin: String, key: Vec<u8>) -> wasmtime::Result<Vec<Vec<u8>>> {
        if !self.may_read.contains(&plugin) {
            let text = format!("the state of `{plugin}` is not granted: add it to `grants.read_state`");
            return Err(wasmtime::Error::msg(text));
        }
        self.kept.values(&plugin, &key).map_err(|error| {
            self.base.store_error = Some(error.clone());
            wasmtime::Error::msg(error)
        })
    }
}
