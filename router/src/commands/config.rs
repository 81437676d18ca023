//! Bounds of the commands room.

use serde::{Deserialize, Serialize};

/// What happens to a command for which a device's queue has no room.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Overflow {
    /// It is refused; what waits stays.
    #[default]
    RefuseNewest,
    /// The device's oldest that waits, and is not urgent, is given up for it.
    DropOldest,
}

/// Bounds of the commands room.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Commands that may be pending (not ended) in all. An urgent one may pass this and the next two by a tenth.
    pub pending_max: usize,
    /// Bytes of pending commands in all.
    pub pending_bytes_max: usize,
    /// Commands that may be pending for one device.
    pub pending_per_device_max: usize,
    /// Bytes of commands that may be pending for one device.
    pub pending_bytes_per_device_max: usize,
    /// What happens beyond what may be pending for one device.
    pub overflow: Overflow,
    /// Commands that may be under way to one device without its confirmation; as many urgent ones besides.
    pub in_flight_per_device_max: usize,
    /// How often a command is sent, unless it says less; then it is given up.
    pub deliveries_max: u32,
    /// Ended commands that stay listed; beyond, the oldest is forgotten.
    pub ended_max: usize,
    /// Bytes of ended commands that stay listed.
    pub ended_bytes_max: usize,
    /// Commands that guards may be thinking about at once.
    pub asked_max: usize,
    /// Jobs that are listed; beyond, the oldest that has ended is forgotten.
    pub jobs_max: usize,
    /// Devices of one job.
    pub job_targets_max: usize,
    /// Commands a second of one job.
    pub job_rate_max: u32,
    /// How long the steps and answers stay in the log, in milliseconds.
    pub retention_ms: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            pending_max: 1_100_000,
            pending_bytes_max: 768 * 1024 * 1024,
            pending_per_device_max: 1_000,
            pending_bytes_per_device_max: 4 * 1024 * 1024,
            overflow: Overflow::RefuseNewest,
            in_flight_per_device_max: 8,
            deliveries_max: 10,
            ended_max: 10_000,
            ended_bytes_max: 16 * 1024 * 1024,
            asked_max: 64,
            jobs_max: 100,
            job_targets_max: 100_000,
            job_rate_max: 20_000,
            retention_ms: 7 * 24 * 3_600 * 1_000,
        }
    }
}
