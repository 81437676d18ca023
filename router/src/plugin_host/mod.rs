//! Plugins: readers of the log whose answers are computed in a sandbox.
//!
//! A batch goes through these files: `task` is a plugin's thread; `round` reads
//! at the plugin's cursor; `run` gives the events to the `sandbox` and finds
//! those at fault by `bisect`; `effects` judges the answer by the `manifest`;
//! `prepare` makes events of it; and `round` makes one commit of all of it:
//! outputs, state, commands and the moved cursor.
//!
//! `guard` has plugins of another kind, which are asked before a command is sent.
//!
//! `host` deploys, lists, removes and restores.
#![cfg_attr(test, allow(clippy::unwrap_used))]

mod batch;
pub mod bench;
mod bindings;
mod bisect;
mod cause;
mod compiled;
mod counters;
mod deploy;
mod effects;
mod engine;
mod error;
mod fault;
mod guard;
mod guest;
mod host;
mod loops;
mod manifest;
mod prepare;
mod registry;
mod round;
mod run;
mod sandbox;
mod state;
mod status;
mod task;
#[cfg(test)]
mod test_guest;

pub use counters::PluginCounters;
pub use deploy::WASM_BYTES_MAX;
pub use error::{DeployError, Deployed, RemoveError, StartError};
pub use guard::{GuardCounters, GuardFigures};
pub use host::{PLUGINS_MAX, PluginHost};
pub use manifest::{From, Grants, Kind, Limits, MANIFEST_BYTES_MAX, Manifest, ManifestError, Scope, TwinGrant};
pub use prepare::DEAD_LETTERS_TOPIC;
pub use status::{PluginStatus, RunState};

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
        text
    })
}
