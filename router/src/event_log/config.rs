//! The event log's own settings, with their bounds.

use serde::{Deserialize, Serialize};

use crate::config::TopicDefaults;

/// How much the event log keeps in memory, and how often unsynced topics are synced.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes that may wait for the next commit before doors stop reading their sockets.
    pub open_bytes_max: usize,
    /// Bytes of the newest batches kept in memory for readers at the tail.
    pub recent_bytes_max: usize,
    /// How long a commit of `memory` topics alone may wait for its sync, in milliseconds.
    pub memory_sync_ms: u64,
    /// Topics that may exist.
    pub topics_max: usize,
    /// What a topic is set to that is made without settings of its own.
    pub topics: TopicDefaults,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            open_bytes_max: 8 << 20,
            recent_bytes_max: 16 << 20,
            memory_sync_ms: 1_000,
            topics_max: 1_000,
            topics: TopicDefaults::default(),
        }
    }
}
