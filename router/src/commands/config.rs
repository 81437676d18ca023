//! Bounds of the commands room.

use serde::{Deserialize, Serialize};

/// Bounds of the commands room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Commands that may be pending (not ended) in all.
    pub pending_max: usize,
    /// Commands that may be pending for one device; beyond, the newest is refused.
    pub pending_per_device_max: usize,
    /// Bytes of pending commands in all.
    pub pending_bytes_max: usize,
    /// Commands that may be under way to one device without its confirmation.
    pub in_flight_per_device_max: usize,
    /// Ended commands that stay listed; beyond, the oldest is forgotten.
    pub ended_max: usize,
    /// Bytes of ended commands that stay listed.
    pub ended_bytes_max: usize,
    /// How long the steps and answers stay in the log, in milliseconds.
    pub retention_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pending_max: 100_000,
            pending_per_device_max: 1_000,
            pending_bytes_max: 64 * 1024 * 1024,
            in_flight_per_device_max: 8,
            ended_max: 10_000,
            ended_bytes_max: 16 * 1024 * 1024,
            retention_ms: 7 * 24 * 3_600 * 1_000,
        }
    }
}
