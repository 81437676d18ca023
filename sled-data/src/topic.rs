//! What a topic is set to: partitions, compression, durability, retention.

use crate::ids::TopicId;

/// How the records of a batch are compressed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Hash)]
pub enum Compression {
    /// Stored as they are.
    None,
    /// LZ4 in its frame format, as Kafka does from record batch v2 on.
    #[default]
    Lz4,
    /// Zstandard, level 1.
    Zstd,
}

/// When an event of the topic may be acknowledged.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Hash)]
pub enum Durability {
    /// After its commit is synced to the disk.
    #[default]
    Sync,
    /// As soon as it is in a commit; a power cut may lose it, and the store then begins a new life.
    Memory,
    /// After enough nodes of the site have synced it, this one among them.
    Quorum,
}

/// A topic's settings.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicConfig {
    /// Number of partitions, fixed for the topic's life; 1 to [`PARTITIONS_MAX`].
    pub partitions: u32,
    /// Compression of its batches.
    pub compression: Compression,
    /// When its events are acknowledged.
    pub durability: Durability,
    /// Age in milliseconds after which events may go; `None` keeps them.
    pub retention_ms: Option<u64>,
    /// Stored bytes a partition keeps at most; `None` sets no bound.
    pub retention_bytes: Option<u64>,
}

impl Default for TopicConfig {
    fn default() -> Self {
        TopicConfig {
            partitions: 4,
            compression: Compression::default(),
            durability: Durability::default(),
            retention_ms: None,
            retention_bytes: None,
        }
    }
}

/// A topic as the store knows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicInfo {
    /// Its number.
    pub id: TopicId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub config: TopicConfig,
}

/// Most partitions a topic may have.
pub const PARTITIONS_MAX: u32 = 1024;
/// Longest topic name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Most topics in one store.
pub const TOPICS_MAX: usize = 10_000;
