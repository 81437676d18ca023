//! Bounds of the room of twins.

use serde::{Deserialize, Serialize};

/// Bounds of the room of twins.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Devices that may have a twin; beyond, a new one is refused.
    pub twins_max: usize,
    /// Bytes of all twins' documents; beyond, what makes them larger is refused.
    pub bytes_max: usize,
    /// How long changes and devices' reports stay in the log, in milliseconds. Twins themselves stay.
    pub retention_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { twins_max: 20_000, bytes_max: 64 * 1024 * 1024, retention_ms: 7 * 24 * 3_600 * 1_000 }
    }
}
