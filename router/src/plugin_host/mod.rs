//! Plugins: readers of the log whose answers are computed in a sandbox.
//!
//! A batch goes through these files: `task` reads it at the plugin's cursor,
//! `run` gives it to the `sandbox` and finds events at fault by `bisect`,
//! `effects` judges the answer by the `manifest`, and `task` makes one commit
//! of all of it: outputs, state, commands and the moved cursor.

pub mod batch;
mod bindings;
mod bisect;
mod cause;
mod compiled;
pub mod counters;
mod effects;
mod engine;
mod fault;
mod guest;
mod loops;
pub mod manifest;
mod run;
mod sandbox;
mod state;
#[cfg(test)]
mod test_guest;

/// Bytes as lower-case hexadecimal digits.
fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write;
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}"); // writing to a string does not fail
        text
    })
}
