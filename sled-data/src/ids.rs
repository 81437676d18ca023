//! Names of things that are stored: origins, topics, partitions, commits, offsets.

use std::fmt;

/// An event's number in its partition: dense, from 0.
pub type Offset = u64;

/// Bits of a hybrid logical clock's stamp that count within a millisecond; above them are Unix milliseconds.
pub const HLC_LOGICAL_BITS: u32 = 16;

/// The Unix milliseconds of a hybrid logical clock's stamp.
pub fn hlc_ms(stamp: u64) -> i64 {
    (stamp >> HLC_LOGICAL_BITS) as i64
}

/// A store's life: a random 64-bit number drawn when the life began, and the only writer of its own partitions.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct OriginId(pub u64);

/// A topic's random 64-bit number; the name is an alias for it.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct TopicId(pub u64);

/// A commit's number in its origin's commit stream: dense, from 1; 0 stands for "before the first".
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct CommitNumber(pub u64);

impl CommitNumber {
    /// The commit after this one.
    pub fn next(self) -> CommitNumber {
        CommitNumber(self.0 + 1)
    }
}

/// One ordered part of a topic, of one origin.
#[derive(Copy, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct PartitionId {
    /// The life that writes it.
    pub origin: OriginId,
    /// The topic.
    pub topic: TopicId,
    /// Which of the topic's partitions, from 0.
    pub index: u32,
}

/// Bytes of a [`PartitionId`] in keys and tree names.
pub const PARTITION_ID_BYTES: usize = 20;

impl PartitionId {
    /// The id as key bytes: origin, topic and index, big-endian, so that keys sort as ids do.
    pub fn to_bytes(self) -> [u8; PARTITION_ID_BYTES] {
        let mut out = [0; PARTITION_ID_BYTES];
        out[..8].copy_from_slice(&self.origin.0.to_be_bytes());
        out[8..16].copy_from_slice(&self.topic.0.to_be_bytes());
        out[16..].copy_from_slice(&self.index.to_be_bytes());
        out
    }

    /// Reads what [`PartitionId::to_bytes`] wrote; `None` unless there are exactly 20 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Option<PartitionId> {
        let bytes: &[u8; PARTITION_ID_BYTES] = bytes.try_into().ok()?;
        let (origin, rest) = bytes.split_first_chunk::<8>()?;
        let (topic, index) = rest.split_first_chunk::<8>()?;
        Some(PartitionId {
            origin: OriginId(u64::from_be_bytes(*origin)),
            topic: TopicId(u64::from_be_bytes(*topic)),
            index: u32::from_be_bytes(index.try_into().ok()?),
        })
    }
}

impl fmt::Display for OriginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Display for CommitNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Display for PartitionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.origin, self.topic, self.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_as_their_bytes() {
        let id = |o, t, i| PartitionId { origin: OriginId(o), topic: TopicId(t), index: i };
        let ids = [id(0, 0, 0), id(0, 0, 256), id(0, 1, 1), id(1, 0, 0), id(u64::MAX, 2, 3)];
        for pair in ids.windows(2) {
            assert!(pair[0] < pair[1] && pair[0].to_bytes() < pair[1].to_bytes());
        }
        for id in ids {
            assert_eq!(PartitionId::from_bytes(&id.to_bytes()), Some(id));
        }
        assert_eq!(PartitionId::from_bytes(&[0; 19]), None);
    }
}
