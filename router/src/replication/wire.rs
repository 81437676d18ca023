//! What is said on a commit stream: frames from the follower to the source, and back (pure).
//!
//! A frame is a kind byte and a body: postcard, or bytes as the store encodes them. The follower begins with
//! [`Asked::Follow`]; the source sends commits from there on, or a copy first, or why it does neither.

use serde::{Deserialize, Serialize};
use sled_data::{Compression, Durability, OriginId, PartitionId, TopicConfig, TopicId, TopicInfo};

use crate::transport::{read_body, with_body};

/// The version that is spoken.
pub const VERSION: u8 = 1;
/// Largest frame, bytes: a commit with one event of the largest size, and its state. A commit may be larger where an earlier program closed
/// it: see [`Said::COMMIT_BYTES_MAX`].
pub const FRAME_BYTES_MAX: usize = 24 << 20;
/// Partitions that one frame names at most: more than the head of a copy has room for within [`FRAME_BYTES_MAX`].
const ENDS_MAX: usize = 1 << 20;
/// Longest text of a refusal, bytes.
const TEXT_BYTES_MAX: usize = 512;

/// From the follower.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    /// The first frame.
    Follow(Follow),
    /// All commits up to this number are synced here.
    Synced(u64),
    /// The answer to the head of a copy: where the copies of its partitions end here. Those of which nothing is here may be left out.
    Ends(Vec<(PartitionId, u64)>),
}

/// What a follower has, and wants more of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Follow {
    /// [`VERSION`].
    pub version: u8,
    /// The origin.
    pub origin: u64,
    /// The newest commit that is here; 0: none.
    pub have: u64,
    /// That commit's hybrid clock: a log that forked has another.
    pub hlc: u64,
    /// Whether what is here is whole; otherwise the copy begins anew.
    pub whole: bool,
}

/// From the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// A topic, before its first batch.
    Topic(TopicInfo),
    /// A commit, as the store encodes it.
    Commit(Vec<u8>),
    /// A copy begins: its head, as the store encodes it.
    CopyHead(Vec<u8>),
    /// A part of the copy, as the store encodes it.
    CopyPart(Vec<u8>),
    /// The copy is whole when this commit is applied.
    CopyEnd(u64),
    /// There will be nothing.
    Refused(Refused),
}

/// Why a source sends nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What a program goes by.
    pub code: RefusedCode,
    /// For people.
    pub text: String,
}

/// What a refusal means for the follower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum RefusedCode {
    /// The origin is not kept here.
    NotHere,
    /// The follower has more than the source, or something else: one of them was restored or copied.
    Forked,
    /// The follower speaks a version that is not known here.
    Version,
    /// The source cannot read what it has.
    Unreadable,
}

/// A frame that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a frame of the commit stream cannot be read: {0}")]
pub struct WireError(&'static str);

/// A topic as it travels. Frozen.
#[derive(Serialize, Deserialize)]
struct TopicV1 {
    id: u64,
    name: String,
    partitions: u32,
    compression: u8,
    durability: u8,
    retention_ms: Option<u64>,
    retention_bytes: Option<u64>,
}

const FOLLOW: u8 = 1;
const SYNCED: u8 = 2;
const ENDS: u8 = 3;
const TOPIC: u8 = 16;
const COMMIT: u8 = 17;
const COPY_HEAD: u8 = 18;
const COPY_PART: u8 = 19;
const COPY_END: u8 = 20;
const REFUSED: u8 = 21;

fn body<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    read_body(bytes).map_err(WireError)
}

impl Asked {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Follow(follow) => with_body(FOLLOW, follow),
            Self::Synced(number) => with_body(SYNCED, number),
            Self::Ends(ends) => {
                let ends: Vec<_> = ends.iter().map(|(id, end)| (id.origin.0, id.topic.0, id.index, *end)).collect();
                with_body(ENDS, &ends)
            }
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        match frame.split_first() {
            Some((&FOLLOW, rest)) => Ok(Self::Follow(body(rest)?)),
            Some((&SYNCED, rest)) => Ok(Self::Synced(body(rest)?)),
            Some((&ENDS, rest)) => {
                let ends: Vec<(u64, u64, u32, u64)> = body(rest)?;
                if ends.len() > ENDS_MAX {
                    return Err(WireError("it names too many partitions"));
                }
                let id = |origin, topic, index| PartitionId { origin: OriginId(origin), topic: TopicId(topic), index };
                Ok(Self::Ends(ends.into_iter().map(|(o, t, index, end)| (id(o, t, index), end)).collect()))
            }
            _ => Err(WireError("its kind is not known")),
        }
    }
}

impl Said {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        let raw = |kind: u8, bytes: &[u8]| [&[kind], bytes].concat();
        match self {
            Self::Topic(info) => with_body(TOPIC, &TopicV1::new(info)),
            Self::Commit(bytes) => raw(COMMIT, bytes),
            Self::CopyHead(bytes) => raw(COPY_HEAD, bytes),
            Self::CopyPart(bytes) => raw(COPY_PART, bytes),
            Self::CopyEnd(number) => with_body(COPY_END, number),
            Self::Refused(refused) => with_body(REFUSED, refused),
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(mut frame: Vec<u8>) -> Result<Self, WireError> {
        let made: fn(Vec<u8>) -> Self = match frame.first() {
            Some(&COMMIT) => Self::Commit,
            Some(&COPY_HEAD) => Self::CopyHead,
            Some(&COPY_PART) => Self::CopyPart,
            _ => return Self::decode_small(&frame),
        };
        frame.remove(0);
        Ok(made(frame))
    }

    fn decode_small(frame: &[u8]) -> Result<Self, WireError> {
        match frame.split_first() {
            Some((&TOPIC, rest)) => body::<TopicV1>(rest)?.info().map(Self::Topic),
            Some((&COPY_END, rest)) => Ok(Self::CopyEnd(body(rest)?)),
            Some((&REFUSED, rest)) => {
                let refused: Refused = body(rest)?;
                if refused.text.len() > TEXT_BYTES_MAX {
                    return Err(WireError("its text is too long"));
                }
                Ok(Self::Refused(refused))
            }
            _ => Err(WireError("its kind is not known")),
        }
    }

    /// The kind byte of a commit's frame; its bytes follow.
    pub const COMMIT: u8 = COMMIT;
    /// Largest frame of a commit, bytes: whatever a store takes as one.
    pub const COMMIT_BYTES_MAX: usize = sled_data::COMMIT_BYTES_MAX + 1;

    /// Bytes that it takes, about.
    pub fn bytes(&self) -> usize {
        match self {
            Self::Commit(bytes) | Self::CopyHead(bytes) | Self::CopyPart(bytes) => bytes.len(),
            Self::Topic(_) | Self::CopyEnd(_) | Self::Refused(_) => size_of::<Self>(),
        }
    }

    /// A refusal; its text is cut to what a frame may say.
    pub fn refused(code: RefusedCode, text: impl ToString) -> Self {
        let mut text = text.to_string();
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        Self::Refused(Refused { code, text })
    }
}

impl TopicV1 {
    fn new(info: &TopicInfo) -> Self {
        Self {
            id: info.id.0,
            name: info.name.clone(),
            partitions: info.config.partitions,
            compression: info.config.compression.code(),
            durability: info.config.durability.code(),
            retention_ms: info.config.retention_ms,
            retention_bytes: info.config.retention_bytes,
        }
    }

    fn info(self) -> Result<TopicInfo, WireError> {
        let config = TopicConfig {
            partitions: self.partitions,
            compression: Compression::of_code(self.compression)
                .ok_or(WireError("a topic's compression is not known"))?,
            durability: Durability::of_code(self.durability).ok_or(WireError("a topic's durability is not known"))?,
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
        };
        Ok(TopicInfo { id: TopicId(self.id), name: self.name, config })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_has_these_bytes() {
        let id = PartitionId { origin: OriginId(1), topic: TopicId(2), index: 3 };
        let follow = Follow { version: 1, origin: 300, have: 5, hlc: 6, whole: true };
        let cases = [
            (Asked::Follow(follow), vec![1, 1, 0xac, 2, 5, 6, 1]),
            (Asked::Synced(7), vec![2, 7]),
            (Asked::Ends(vec![(id, 4)]), vec![3, 1, 1, 2, 3, 4]),
        ];
        for (asked, bytes) in cases {
            assert_eq!(asked.encode(), bytes);
            assert_eq!(Asked::decode(&bytes), Ok(asked));
            assert!(Asked::decode(&[&bytes[..], &[0]].concat()).is_err(), "a byte too many");
        }
        let all = |count: u32| Asked::Ends((0..count).map(|index| (PartitionId { index, ..id }, u64::MAX)).collect());
        assert_eq!(Asked::decode(&all(100_000).encode()), Ok(all(100_000)));
        assert!(Asked::decode(&all(ENDS_MAX as u32 + 1).encode()).is_err());
        for wrong in [&[][..], &[9], &[1, 1], &[16, 1]] {
            assert!(Asked::decode(wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_said_has_these_bytes() {
        let config = TopicConfig { partitions: 4, durability: Durability::Quorum, ..TopicConfig::default() };
        let topic = TopicInfo { id: TopicId(1), name: "t".into(), config };
        let cases = [
            (Said::Topic(topic), vec![16, 1, 1, b't', 4, 1, 2, 0, 0]),
            (Said::Commit(vec![8, 9]), vec![17, 8, 9]),
            (Said::CopyHead(vec![8]), vec![18, 8]),
            (Said::CopyPart(vec![9]), vec![19, 9]),
            (Said::CopyEnd(3), vec![20, 3]),
            (Said::refused(RefusedCode::Forked, "no"), vec![21, 1, 2, b'n', b'o']),
        ];
        for (said, bytes) in cases {
            assert_eq!(said.encode(), bytes);
            assert_eq!(Said::decode(bytes), Ok(said));
        }
        for wrong in [&[][..], &[1], &[16, 1, 1, b't', 4, 9, 2, 0, 0], &[20], &[21, 9, 0]] {
            assert!(Said::decode(wrong.to_vec()).is_err(), "{wrong:?}");
        }
        let long = Said::refused(RefusedCode::NotHere, "é".repeat(TEXT_BYTES_MAX));
        assert_eq!(Said::decode(long.encode()), Ok(long));
    }
}
