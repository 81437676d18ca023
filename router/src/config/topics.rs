//! `[log.topics]`: what a topic is set to when it is made without settings of its own.

use serde::{Deserialize, Serialize};
use sled_data::{Compression, Durability, TopicConfig};

use super::{Problem, in_range};

/// How a topic's batches are compressed, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CompressionName {
    /// Not at all.
    None,
    /// LZ4: fast.
    #[default]
    Lz4,
    /// Zstandard, level 1: smaller.
    Zstd,
}

impl From<CompressionName> for Compression {
    fn from(name: CompressionName) -> Self {
        match name {
            CompressionName::None => Self::None,
            CompressionName::Lz4 => Self::Lz4,
            CompressionName::Zstd => Self::Zstd,
        }
    }
}

impl From<Compression> for CompressionName {
    fn from(compression: Compression) -> Self {
        match compression {
            Compression::None => Self::None,
            Compression::Lz4 => Self::Lz4,
            Compression::Zstd => Self::Zstd,
        }
    }
}

/// Settings of a topic that is made by a first publish, or without saying otherwise.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TopicDefaults {
    /// Number of partitions, fixed for a topic's life.
    pub partitions: u32,
    /// Compression of its batches.
    pub compression: CompressionName,
    /// Age in milliseconds after which events may go; 0 keeps them.
    pub retention_ms: u64,
    /// Stored bytes that a partition keeps at most; 0 sets no bound.
    pub retention_bytes: u64,
}

impl Default for TopicDefaults {
    fn default() -> Self {
        Self { partitions: 4, compression: CompressionName::Lz4, retention_ms: 0, retention_bytes: 0 }
    }
}

impl TopicDefaults {
    /// Whether the numbers can be.
    ///
    /// # Errors
    /// What is wrong with which key.
    pub fn check(&self) -> Result<(), Problem> {
        in_range(["log.topics", "partitions"], self.partitions, 1..=crate::event_log::PARTITIONS_MAX)
    }

    /// As the store takes it.
    pub fn to_topic_config(&self) -> TopicConfig {
        TopicConfig {
            partitions: self.partitions,
            compression: self.compression.into(),
            durability: Durability::Sync,
            retention_ms: (self.retention_ms > 0).then_some(self.retention_ms),
            retention_bytes: (self.retention_bytes > 0).then_some(self.retention_bytes),
        }
    }
}
