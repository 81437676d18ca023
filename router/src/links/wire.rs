//! What is said on a link's stream: frames from the edge, and back (pure). A frame is a kind byte and a body: postcard, but
//! for what is sent of partitions, whose batches are bytes as they are stored.

mod parts;

use serde::{Deserialize, Serialize};
use sled_data::{
    BatchError, Compression, LINK_HOPS_MAX, OriginId, PARTS_AHEAD_MAX, PartitionId, TopicConfig, TopicId, TopicInfo,
};

pub(super) use parts::{BATCH, HOLE, hole_bytes, put_part, take};
pub use parts::{Parts, part_bytes};

use super::begin::Stand;
use super::later::LiesAhead;
use crate::transport::read_body;
pub(super) use crate::transport::with_body;

/// Largest frame, bytes: a batch with one event of the largest size, and what was in one commit with it.
pub const FRAME_BYTES_MAX: usize = 24 << 20;
/// Partitions that one frame names at most.
pub const PARTITIONS_MAX: usize = 1_024;
/// The code of a topic that is not taken since it is the upstream site's own: nobody need know of it.
pub const OURS_TOPIC: &str = "ours-topic";
/// The code of a partition of which what comes does not fit what is here, again and again.
pub const ANOTHER_LOG: &str = "another-log";
/// Longest text, bytes.
pub(super) const TEXT_BYTES_MAX: usize = 512;

/// The first frame of the edge.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The newest version of what is said that it speaks.
    pub protocol: u8,
    /// The version of its program.
    pub program: String,
    /// Its site.
    pub site: u64,
    /// What people call its node.
    pub name: String,
    /// The place of the stream's priority: 0 high, 1 normal, 2 low.
    pub priority: u8,
    /// Whether it is the connection's first stream.
    pub is_first: bool,
}

/// From the edge.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Said {
    /// The first frame.
    Hello(Hello),
    /// An origin that it has, with the sites that the origin has passed.
    Offer(OriginId, Vec<u64>),
    /// A topic, before its first partition. Its name is what it is to be called upstream, behind the link's.
    Topic(TopicInfo),
    /// Partitions of which it asks where they end upstream.
    Where(Vec<PartitionId>),
    /// What comes next of some partitions of one origin.
    Parts(Parts),
    /// How far it is ahead of what is stored upstream.
    Behind(Behind),
    /// The answer to the question of this number about what comes down.
    Answered(u64, Vec<u8>),
    /// How commands that came down have ended.
    Ended(Vec<u8>),
    /// Within a site: whose all that follows is, until the next of these. The link's id, and what its site is called here.
    Whose(u64, String),
    /// The first and only frame of a stream: a public key, for which it asks a certificate.
    Renew(Vec<u8>),
}

/// How far the upstream is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Behind {
    /// Events.
    pub events: u64,
    /// Bytes as they are stored, about.
    pub bytes: u64,
    /// Age of the oldest one, milliseconds.
    pub ms: u64,
}

impl Behind {
    /// Both together: as old as the older one.
    pub fn plus(self, other: Self) -> Self {
        Self {
            events: self.events.saturating_add(other.events),
            bytes: self.bytes.saturating_add(other.bytes),
            ms: self.ms.max(other.ms),
        }
    }
}

/// From upstream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// The link goes on; what the upstream site is called, and the newest dictionary of packed frames that it knows, 0 where
    /// batches are to come as they are stored.
    Welcome(u64, u8),
    /// Before the next [`Answer::Stands`], to an edge that may skip a partition once: the last part that lies ahead of the ends of its partitions.
    Ahead(Vec<(PartitionId, LiesAhead)>),
    /// The same, to one that may skip more than once: all parts of each, in order.
    AllAhead(Vec<(PartitionId, Vec<LiesAhead>)>),
    /// Where partitions end.
    Stands(Vec<(PartitionId, Stand)>),
    /// All up to this number is stored and synced.
    Stored(u64),
    /// An origin or a topic is not taken.
    Refused(Refused),
    /// A question about what comes down: its number, 0 what may.
    Asked(u64, Vec<u8>),
    /// It knows how these commands have ended.
    Known(Vec<u8>),
    /// In how many seconds the edge is to ask for a new certificate.
    Due(u64),
    /// A new certificate, in PEM form, and in how many seconds it is to ask for the next one.
    Renewed(String, u64),
}

/// What is not taken, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The origin, 0 where it is a topic. Where both are 0 it is told, and nothing is refused.
    pub origin: u64,
    /// The topic's id, 0 where it is all of an origin.
    pub topic: u64,
    /// For programs: `loop`, `ours`, `ours-topic`, `other-link`, `too-many`, `topic`, `another-log`.
    pub code: String,
    /// For people.
    pub text: String,
}

/// A frame that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// Its form.
    #[error("a frame of the link cannot be read: {0}")]
    Form(&'static str),
    /// A batch in it.
    #[error("a batch on the link is damaged: {0}")]
    Batch(#[from] BatchError),
    /// Packed batches are not the same bytes here again.
    #[error(
        "packed batches are not the same here, whose program compresses otherwise: they are to come as they are stored"
    )]
    Differs,
}

#[derive(Serialize, Deserialize)]
struct TopicV1 {
    id: u64,
    name: String,
    partitions: u32,
    compression: u8,
}

const HELLO: u8 = 1;
const OFFER: u8 = 2;
const TOPIC: u8 = 3;
const WHERE: u8 = 4;
/// Bytes of a frame of the edge's that brings no events.
const SMALL_BYTES_MAX: usize = 64 << 10;
pub(super) const PARTS: u8 = 5;
const BEHIND: u8 = 6;
/// Of a frame within a site.
const WHOSE: u8 = 14;
/// Of a frame of parts that is packed: see `pack`.
pub(super) const PACKED: u8 = 7;
const ANSWERED: u8 = 8;
const ENDED: u8 = 9;
const RENEW: u8 = 30;
const WELCOME: u8 = 16;
const STANDS: u8 = 17;
const STORED: u8 = 18;
const REFUSED: u8 = 19;
const ASKED: u8 = 20;
const KNOWN: u8 = 21;
const AHEAD: u8 = 22;
const ALL_AHEAD: u8 = 23;
const DUE: u8 = 40;
const RENEWED: u8 = 41;
pub(super) fn body<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, WireError> {
    read_body(bytes).map_err(WireError::Form)
}

/// A partition in plain numbers: origin, topic, index.
pub(super) type PlainId = (u64, u64, u32);
/// Where a partition ends: end, clock, digest, whether it is gapless.
type StandV1 = (PlainId, u64, u64, u64, bool);
/// What lies ahead of a partition's end: from, end, the first clock and the last.
type AheadV1 = (PlainId, u64, u64, u64, u64);
/// All parts that lie ahead of a partition's end, each as above.
type AllAheadV1 = (PlainId, Vec<(u64, u64, u64, u64)>);

pub(super) fn plain(id: &PartitionId) -> PlainId {
    (id.origin.0, id.topic.0, id.index)
}

pub(super) fn partition((origin, topic, index): PlainId) -> PartitionId {
    PartitionId { origin: OriginId(origin), topic: TopicId(topic), index }
}

impl Said {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello(hello) => with_body(HELLO, hello),
            Self::Offer(origin, path) => with_body(OFFER, &(origin.0, path)),
            Self::Topic(info) => with_body(TOPIC, &TopicV1::new(info)),
            Self::Where(ids) => with_body(WHERE, &ids.iter().map(plain).collect::<Vec<_>>()),
            Self::Parts(parts) => parts.encode(),
            Self::Behind(behind) => with_body(BEHIND, behind),
            Self::Answered(number, answer) => with_body(ANSWERED, &(number, answer)),
            Self::Ended(ended) => with_body(ENDED, ended),
            Self::Whose(link, name) => with_body(WHOSE, &(link, name)),
            Self::Renew(public_key) => with_body(RENEW, public_key),
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        // Judged before anything is read: a short list on the wire is a long one in memory.
        if frame.len() > SMALL_BYTES_MAX && frame.first() != Some(&PARTS) {
            return Err(WireError::Form("it is too long for its kind"));
        }
        match frame.split_first() {
            Some((&HELLO, rest)) => Ok(Self::Hello(body(rest)?)),
            Some((&OFFER, rest)) => {
                let (origin, path): (u64, Vec<u64>) = body(rest)?;
                // One too many is refused with words.
                if path.len() > LINK_HOPS_MAX + 1 {
                    return Err(WireError::Form("its path is too long"));
                }
                Ok(Self::Offer(OriginId(origin), path))
            }
            Some((&TOPIC, rest)) => Ok(Self::Topic(body::<TopicV1>(rest)?.info()?)),
            Some((&WHERE, rest)) => {
                let ids: Vec<PlainId> = body(rest)?;
                if ids.len() > PARTITIONS_MAX {
                    return Err(WireError::Form("it names too many partitions"));
                }
                Ok(Self::Where(ids.into_iter().map(partition).collect()))
            }
            Some((&PARTS, rest)) => Ok(Self::Parts(Parts::decode(rest)?)),
            Some((&BEHIND, rest)) => Ok(Self::Behind(body(rest)?)),
            Some((&ANSWERED, rest)) => {
                let (number, answer) = body(rest)?;
                Ok(Self::Answered(number, answer))
            }
            Some((&ENDED, rest)) => Ok(Self::Ended(body(rest)?)),
            Some((&WHOSE, rest)) => {
                let (link, name) = body(rest)?;
                Ok(Self::Whose(link, name))
            }
            Some((&RENEW, rest)) => Ok(Self::Renew(body(rest)?)),
            _ => Err(WireError::Form("its kind is not known")),
        }
    }
}

impl Answer {
    /// The frame.
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome(site, dictionary) => with_body(WELCOME, &(site, dictionary)),
            Self::Stands(stands) => {
                let told = |(id, at): &(PartitionId, Stand)| (plain(id), at.end, at.hlc, at.digest, at.is_gapless);
                with_body(STANDS, &stands.iter().map(told).collect::<Vec<_>>())
            }
            Self::Ahead(all) => {
                let told =
                    |(id, ahead): &(PartitionId, LiesAhead)| (plain(id), ahead.from, ahead.end, ahead.first, ahead.hlc);
                with_body(AHEAD, &all.iter().map(told).collect::<Vec<_>>())
            }
            Self::AllAhead(all) => {
                let part = |ahead: &LiesAhead| (ahead.from, ahead.end, ahead.first, ahead.hlc);
                let told = |(id, parts): &(PartitionId, Vec<LiesAhead>)| -> AllAheadV1 {
                    (plain(id), parts.iter().map(part).collect())
                };
                with_body(ALL_AHEAD, &all.iter().map(told).collect::<Vec<_>>())
            }
            Self::Stored(number) => with_body(STORED, number),
            Self::Refused(refused) => with_body(REFUSED, refused),
            Self::Asked(number, question) => with_body(ASKED, &(number, question)),
            Self::Known(known) => with_body(KNOWN, known),
            Self::Due(after_s) => with_body(DUE, after_s),
            Self::Renewed(certificate, after_s) => with_body(RENEWED, &(certificate, after_s)),
        }
    }

    /// Reads a frame.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn decode(frame: &[u8]) -> Result<Self, WireError> {
        match frame.split_first() {
            Some((&WELCOME, rest)) => {
                let (site, dictionary) = body(rest)?;
                Ok(Self::Welcome(site, dictionary))
            }
            Some((&STANDS, rest)) => {
                let all: Vec<StandV1> = body(rest)?;
                if all.len() > PARTITIONS_MAX {
                    return Err(WireError::Form("it names too many partitions"));
                }
                let stand =
                    |(id, end, hlc, digest, is_gapless)| (partition(id), Stand { end, hlc, digest, is_gapless });
                Ok(Self::Stands(all.into_iter().map(stand).collect()))
            }
            Some((&AHEAD, rest)) => {
                let all: Vec<AheadV1> = body(rest)?;
                if all.len() > PARTITIONS_MAX || all.iter().any(|(_, from, end, ..)| from > end) {
                    return Err(WireError::Form("what lies ahead cannot be"));
                }
                let ahead = |(id, from, end, first, hlc)| (partition(id), LiesAhead { from, end, first, hlc });
                Ok(Self::Ahead(all.into_iter().map(ahead).collect()))
            }
            Some((&ALL_AHEAD, rest)) => {
                let all: Vec<AllAheadV1> = body(rest)?;
                let can_be = |(_, parts): &AllAheadV1| {
                    let in_order = parts.is_sorted_by(|(_, end, ..), (from, ..)| end < from);
                    in_order && parts.len() <= PARTS_AHEAD_MAX && parts.iter().all(|(from, end, ..)| from <= end)
                };
                if all.len() > PARTITIONS_MAX || !all.iter().all(can_be) {
                    return Err(WireError::Form("what lies ahead cannot be"));
                }
                let part = |(from, end, first, hlc)| LiesAhead { from, end, first, hlc };
                let ahead = |(id, parts): AllAheadV1| (partition(id), parts.into_iter().map(part).collect());
                Ok(Self::AllAhead(all.into_iter().map(ahead).collect()))
            }
            Some((&STORED, rest)) => Ok(Self::Stored(body(rest)?)),
            Some((&ASKED, rest)) => {
                let (number, question) = body(rest)?;
                Ok(Self::Asked(number, question))
            }
            Some((&KNOWN, rest)) => Ok(Self::Known(body(rest)?)),
            Some((&REFUSED, rest)) => {
                let refused: Refused = body(rest)?;
                if refused.text.len() > TEXT_BYTES_MAX || refused.code.len() > TEXT_BYTES_MAX {
                    return Err(WireError::Form("its text is too long"));
                }
                Ok(Self::Refused(refused))
            }
            Some((&DUE, rest)) => Ok(Self::Due(body(rest)?)),
            Some((&RENEWED, rest)) => {
                let (certificate, after_s) = body(rest)?;
                Ok(Self::Renewed(certificate, after_s))
            }
            _ => Err(WireError::Form("its kind is not known")),
        }
    }
}

impl Refused {
    /// With a text that is cut to what a frame may say.
    pub fn new(origin: u64, topic: u64, code: &str, text: impl ToString) -> Self {
        let mut text = text.to_string();
        text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
        Self { origin, topic, code: code.to_owned(), text }
    }
}

impl TopicV1 {
    fn new(info: &TopicInfo) -> Self {
        let compression = info.config.compression.code();
        Self { id: info.id.0, name: info.name.clone(), partitions: info.config.partitions, compression }
    }

    fn info(self) -> Result<TopicInfo, WireError> {
        let compression = Compression::of_code(self.compression);
        let compression = compression.ok_or(WireError::Form("a topic's compression is not known"))?;
        let config = TopicConfig { partitions: self.partitions, compression, ..TopicConfig::default() };
        Ok(TopicInfo { id: TopicId(self.id), name: self.name, config })
    }
}

#[cfg(test)]
mod tests;
