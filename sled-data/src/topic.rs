//! What a topic is set to: partitions, compression, durability, retention.

use crate::ids::TopicId;

/// How the records of a batch are compressed.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Hash)]
pub enum Compression {
    /// Stored as they are.
    None = 0,
    /// LZ4 in its frame format, as Kafka does from record batch v2 on.
    #[default]
    Lz4 = 1,
    /// Zstandard, level 1.
    Zstd = 2,
}

impl Compression {
    const ALL: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

    /// As it is stored and said of a topic; a batch has Kafka's number.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What a code means; `None` where it is not known.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|compression| compression.code() == code)
    }
}

/// When an event of the topic may be acknowledged.
#[derive(Copy, Clone, PartialEq, Eq, Debug, Default, Hash)]
pub enum Durability {
    /// After its commit is synced to the disk.
    #[default]
    Sync = 0,
    /// As soon as it is in a commit; a power cut may lose it, and the store then begins a new life.
    Memory = 1,
    /// After enough nodes of the site have synced it, this one among them.
    Quorum = 2,
}

impl Durability {
    const ALL: [Durability; 3] = [Durability::Sync, Durability::Memory, Durability::Quorum];

    /// As it is stored and said.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What a code means; `None` where it is not known.
    pub fn of_code(code: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|durability| durability.code() == code)
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_these_for_ever() {
        assert_eq!(Compression::ALL.map(Compression::code), [0, 1, 2]);
        assert_eq!(Durability::ALL.map(Durability::code), [0, 1, 2]);
        for code in 0..=3 {
            assert_eq!(Compression::of_code(code).map(Compression::code), (code < 3).then_some(code));
            assert_eq!(Durability::of_code(code).map(Durability::code), (code < 3).then_some(code));
        }
    }
}
