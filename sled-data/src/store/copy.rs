//! A copy of an origin, for who begins to follow it or whose next commits are gone: partitions up to one commit, then cursors and state.
//!
//! The head says where it ends: a commit, and each partition's extent and digest with it. Batches are read up to there and no further, so what
//! lies beyond comes with the commits alone. Cursors and state are read as they are, while the source goes on writing: they are newer than the
//! head, by different amounts. The follower then applies the commits from the head on. As these put and remove values and never change them
//! by what they were, all is exact once the newest commit that the reading could have seen is applied; until then the copy is not whole.
//!
//! ```text
//! head: 0 version 1   1 CRC32C of all other bytes 4   5 CopyHeadV1
//! part: 0 version 1   1 CRC32C of byte 0 and of bytes 5 up to the batch, if there is one 4   5 CopyPartV1, after Batch the batch
//! ```

mod read;
mod take;
#[cfg(test)]
mod tests;

use super::commit_stream::{from_v1, to_v1};
use super::ship::{FrameError, Taker, finish, start};
use super::values::{Bytes, PartitionIdV1, decode, encode};
use super::{CursorMove, NAME_BYTES_MAX, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX};
use crate::batch::{BatchError, ENVELOPE_BYTES, RECORD_BYTES_MAX, StoredBatch};
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId};
use crate::topic::PARTITIONS_MAX;
pub use read::CopyPosition;

/// Most bytes of one part of a copy: a batch of one large event.
pub const COPY_PART_BYTES_MAX: usize = RECORD_BYTES_MAX + ENVELOPE_BYTES + 128;
/// Most bytes of a copy's head: about a million partitions.
pub const COPY_HEAD_BYTES_MAX: usize = 64 << 20;

/// Where a copy ends, but for cursors and state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyHead {
    /// The life.
    pub origin: OriginId,
    /// Its newest commit, synced; commits are followed from the next one on.
    pub commit: CommitNumber,
    /// The hybrid clock of that commit; 0 where it is not known.
    pub hlc: u64,
    /// Whether it is a life of the source's own that has ended: its cursors and state went on into the next one, and the copy is of events alone.
    pub ended: bool,
    /// The life's partitions with that commit, in order.
    pub partitions: Vec<CopyExtent>,
}

/// How far a partition reaches.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct CopyExtent {
    /// The partition.
    pub partition: PartitionId,
    /// First offset that is kept.
    pub start: Offset,
    /// Offset of the next event.
    pub end: Offset,
    /// Running digest at its end.
    pub digest: u64,
}

/// One piece of a copy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CopyPart {
    /// The partition's events before `to` are gone at the source, or are at the follower already.
    Jump {
        /// The partition.
        partition: PartitionId,
        /// Where its next batch begins.
        to: Offset,
        /// Running digest before that.
        digest: u64,
    },
    /// The partition was deleted at the source meanwhile.
    Gone {
        /// The partition.
        partition: PartitionId,
        /// Where it ended with the head's commit.
        end: Offset,
        /// Running digest at that end.
        digest: u64,
    },
    /// A batch.
    Batch(StoredBatch),
    /// All of the partition was sent.
    End {
        /// The partition.
        partition: PartitionId,
        /// Where it ends.
        end: Offset,
        /// Running digest at its end.
        digest: u64,
    },
    /// A cursor.
    Cursor(CursorMove),
    /// A value of a state tree.
    State {
        /// The tree's name.
        tree: String,
        /// The key.
        key: Vec<u8>,
        /// The value.
        value: Vec<u8>,
    },
}

/// Why bytes are no head or part of a copy.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CopyError {
    /// More bytes than there may be.
    #[error("{0} bytes of a copy are over the bound")]
    TooLarge(usize),
    /// They end early.
    #[error("a part of the copy ends early")]
    Short,
    /// A version that this code does not know.
    #[error("version {0} of a copy is not known: use the newer program")]
    Version(u8),
    /// The checksum does not fit.
    #[error("a part of the copy has a checksum that does not fit")]
    Checksum,
    /// It does not decode, or something follows.
    #[error("a part of the copy does not decode")]
    Form,
    /// It is over a bound or has a name that cannot be stored.
    #[error("the copy's {0}")]
    Bound(&'static str),
    /// A batch is damaged.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// A partition of another life than the copy's, or one that cannot be.
    #[error("{0} is no partition of the copy")]
    OtherPartition(PartitionId),
}

impl From<FrameError> for CopyError {
    fn from(error: FrameError) -> CopyError {
        match error {
            FrameError::Short => CopyError::Short,
            FrameError::Checksum => CopyError::Checksum,
            FrameError::Trailing => CopyError::Form,
        }
    }
}

const VERSION: u8 = 1;

/// A copy's head, version 1.
#[derive(serde::Serialize, serde::Deserialize)]
struct CopyHeadV1 {
    origin: u64,
    commit: u64,
    hlc: u64,
    ended: bool,
    partitions: Vec<CopyExtentV1>,
}

#[derive(serde::Serialize, serde::Deserialize)]
struct CopyExtentV1 {
    partition: PartitionIdV1,
    start: u64,
    end: u64,
    digest: u64,
}

/// A part of a copy, version 1.
#[derive(serde::Serialize, serde::Deserialize)]
enum CopyPartV1<'a> {
    /// The batch follows.
    Batch,
    Jump(PartitionIdV1, u64, u64),
    Gone(PartitionIdV1, u64, u64),
    End(PartitionIdV1, u64, u64),
    Cursor(&'a str, PartitionIdV1, u64),
    State(&'a str, #[serde(borrow)] Bytes<'a>, #[serde(borrow)] Bytes<'a>),
}

/// How [`CopyPartV1::Batch`] begins.
const BATCH: u8 = 0;

impl CopyHead {
    /// Appends the head's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = start(VERSION, out);
        let extent = |e: &CopyExtent| CopyExtentV1 {
            partition: to_v1(e.partition),
            start: e.start,
            end: e.end,
            digest: e.digest,
        };
        let partitions = self.partitions.iter().map(extent).collect();
        let CopyHead { origin, commit, hlc, ended, .. } = *self;
        encode(&CopyHeadV1 { origin: origin.0, commit: commit.0, hlc, ended, partitions }, out);
        finish(at, out);
    }

    /// Reads what [`CopyHead::encode`] wrote, all of `bytes`.
    ///
    /// # Errors
    /// Any [`CopyError`].
    pub fn decode(bytes: &[u8]) -> Result<CopyHead, CopyError> {
        let rest = open(bytes, COPY_HEAD_BYTES_MAX)?;
        rest.check(rest.left())?;
        let head: CopyHeadV1 = decode(rest.peek(rest.left())?).map_err(|_| CopyError::Form)?;
        let extent = |e: &CopyExtentV1| CopyExtent {
            partition: from_v1(e.partition),
            start: e.start,
            end: e.end,
            digest: e.digest,
        };
        let partitions = head.partitions.iter().map(extent).collect();
        let (origin, commit) = (OriginId(head.origin), CommitNumber(head.commit));
        let head = CopyHead { origin, commit, hlc: head.hlc, ended: head.ended, partitions };
        head.check()?;
        Ok(head)
    }

    /// Whether its partitions are the life's, in order, each once.
    fn check(&self) -> Result<(), CopyError> {
        for (at, extent) in self.partitions.iter().enumerate() {
            check_partition(self.origin, extent.partition)?;
            let in_order = at == 0 || self.partitions[at - 1].partition < extent.partition;
            if !in_order || extent.start > extent.end {
                return Err(CopyError::OtherPartition(extent.partition));
            }
        }
        Ok(())
    }
}

impl CopyPart {
    /// Appends the part's bytes to `out`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let at = start(VERSION, out);
        let part = match self {
            CopyPart::Batch(_) => CopyPartV1::Batch,
            CopyPart::Jump { partition, to, digest } => CopyPartV1::Jump(to_v1(*partition), *to, *digest),
            CopyPart::Gone { partition, end, digest } => CopyPartV1::Gone(to_v1(*partition), *end, *digest),
            CopyPart::End { partition, end, digest } => CopyPartV1::End(to_v1(*partition), *end, *digest),
            CopyPart::Cursor(cursor) => CopyPartV1::Cursor(&cursor.reader, to_v1(cursor.partition), cursor.next),
            CopyPart::State { tree, key, value } => CopyPartV1::State(tree, Bytes(key), Bytes(value)),
        };
        encode(&part, out);
        finish(at, out);
        if let CopyPart::Batch(batch) = self {
            out.extend_from_slice(batch.bytes());
        }
    }

    /// Reads what [`CopyPart::encode`] wrote, all of `bytes`.
    ///
    /// # Errors
    /// Any [`CopyError`].
    pub fn decode(bytes: &[u8]) -> Result<CopyPart, CopyError> {
        let mut rest = open(bytes, COPY_PART_BYTES_MAX)?;
        if rest.peek(1)? == [BATCH] {
            rest.check(1)?;
            rest.take(1)?;
            return Ok(CopyPart::Batch(StoredBatch::decode(rest.take(rest.left())?.to_vec())?));
        }
        rest.check(rest.left())?;
        let part: CopyPartV1<'_> = decode(rest.peek(rest.left())?).map_err(|_| CopyError::Form)?;
        let part = match part {
            CopyPartV1::Batch => return Err(CopyError::Form),
            CopyPartV1::Jump(id, to, digest) => CopyPart::Jump { partition: from_v1(id), to, digest },
            CopyPartV1::Gone(id, end, digest) => CopyPart::Gone { partition: from_v1(id), end, digest },
            CopyPartV1::End(id, end, digest) => CopyPart::End { partition: from_v1(id), end, digest },
            CopyPartV1::Cursor(reader, id, next) => {
                CopyPart::Cursor(CursorMove { reader: reader.to_owned(), partition: from_v1(id), next })
            }
            CopyPartV1::State(tree, key, value) => {
                CopyPart::State { tree: tree.to_owned(), key: key.0.to_vec(), value: value.0.to_vec() }
            }
        };
        part.check()?;
        Ok(part)
    }

    /// Stored bytes of a batch; about what anything else takes.
    pub fn bytes(&self) -> usize {
        match self {
            CopyPart::Batch(batch) => batch.bytes().len(),
            CopyPart::Jump { .. } | CopyPart::Gone { .. } | CopyPart::End { .. } => 64,
            CopyPart::Cursor(cursor) => 64 + cursor.reader.len(),
            CopyPart::State { tree, key, value } => 16 + tree.len() + key.len() + value.len(),
        }
    }

    /// The partition whose events it is of.
    fn partition(&self) -> Option<PartitionId> {
        match self {
            CopyPart::Batch(batch) => Some(batch.envelope().partition),
            CopyPart::Jump { partition, .. } | CopyPart::Gone { partition, .. } | CopyPart::End { partition, .. } => {
                Some(*partition)
            }
            CopyPart::Cursor(_) | CopyPart::State { .. } => None,
        }
    }

    fn check(&self) -> Result<(), CopyError> {
        let name_fits = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('\0');
        match self {
            CopyPart::Cursor(cursor) if !name_fits(&cursor.reader) => {
                Err(CopyError::Bound("cursor has a name that cannot be stored"))
            }
            CopyPart::State { tree, .. } if !name_fits(tree) => {
                Err(CopyError::Bound("state has a tree name that cannot be stored"))
            }
            CopyPart::State { key, value, .. }
                if key.len() > STATE_KEY_BYTES_MAX || value.len() > STATE_VALUE_BYTES_MAX =>
            {
                Err(CopyError::Bound("state has a key or value that is too large"))
            }
            _ => Ok(()),
        }
    }
}

/// Checks length and version; what follows.
fn open(bytes: &[u8], bytes_max: usize) -> Result<Taker<'_>, CopyError> {
    if bytes.len() > bytes_max {
        return Err(CopyError::TooLarge(bytes.len()));
    }
    let mut rest = Taker::new(bytes);
    match rest.version()? {
        VERSION => Ok(rest),
        version => Err(CopyError::Version(version)),
    }
}

fn check_partition(origin: OriginId, id: PartitionId) -> Result<(), CopyError> {
    if id.origin == origin && id.index < PARTITIONS_MAX { Ok(()) } else { Err(CopyError::OtherPartition(id)) }
}
