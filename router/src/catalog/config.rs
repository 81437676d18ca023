//! Bounds of the catalog, and what makes a device known.

use serde::{Deserialize, Serialize};

/// What makes a device known to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum KnownBy {
    /// It has connected: every device may.
    #[default]
    Contact,
    /// People have added it: no other device may connect.
    Enrolment,
}

/// The catalog's settings.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// What makes a device known.
    pub known_by: KnownBy,
    /// Devices of which something may be set.
    pub devices_max: usize,
    /// What they may take in memory, in bytes.
    pub bytes_max: usize,
    /// Bytes of changes that stay in the log, the newest; what is set stays, whatever its age.
    pub retention_bytes: u64,
}

impl Default for Config {
    fn default() -> Self {
        Self { known_by: KnownBy::Contact, devices_max: 100_000, bytes_max: 64 << 20, retention_bytes: 64 << 20 }
    }
}
