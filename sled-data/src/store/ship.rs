//! One commit as it is shipped to who follows its origin: the record as it is stored, then the batches as they are stored.
//!
//! ```text
//!  0 version 1   1 CRC32C of byte 0 and of bytes 5 up to the first batch 4   5 origin 8   13 number 8
//! 21 bytes of the record 4   25 batches 4   29 the record: CommitV1, then each batch: its bytes 4, the batch
//! ```
//!
//! All numbers are big-endian. A batch's own checksums cover it, and its envelope says its length, so every byte is covered once.

mod frame;
mod read;
#[cfg(test)]
mod tests;

use super::commit::{check_small, small_bytes};
use super::commit_stream::{Appended, CommitRecord, as_v1, to_record};
use super::values::{CommitV1, encode};
use super::{COMMIT_BATCH_BYTES_MAX, COMMIT_STATE_BYTES_MAX};
use crate::batch::{BatchError, SealedBatch, StoredBatch};
use crate::ids::{CommitNumber, OriginId, PartitionId};
use crate::topic::PARTITIONS_MAX;
pub(super) use frame::{FrameError, Taker, finish, start};

/// Most bytes of one shipped commit: its batches with their lengths, its state and cursors, and what it says of each partition.
pub const COMMIT_BYTES_MAX: usize = COMMIT_BATCH_BYTES_MAX + COMMIT_STATE_BYTES_MAX + (12 << 20);

/// One commit of an origin, whole, as it is shipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowedCommit {
    /// The life that wrote it.
    pub origin: OriginId,
    /// Its record.
    pub record: CommitRecord,
    /// The batches that the record names, in its order and then by offset. Those at the front of a partition's run may be absent: the
    /// source had let them go.
    pub batches: Vec<StoredBatch>,
}

/// Why bytes are no shipped commit.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FollowedCommitError {
    /// More bytes than a commit may have.
    #[error("a commit of {0} bytes is over the bound of {COMMIT_BYTES_MAX}")]
    TooLarge(usize),
    /// They end early.
    #[error("the commit ends early")]
    Short,
    /// More follows than was announced.
    #[error("the commit goes on after its end")]
    Trailing,
    /// A version that this code does not know.
    #[error("version {0} of a shipped commit is not known: use the newer program")]
    Version(u8),
    /// The checksum of head and record does not fit.
    #[error("the commit's checksum does not fit")]
    Checksum,
    /// The record does not decode.
    #[error("the commit's record does not decode")]
    Record,
    /// The record is over a bound or has a name that cannot be stored.
    #[error("the commit's {0}")]
    Bound(&'static str),
    /// A batch is damaged.
    #[error(transparent)]
    Batch(#[from] BatchError),
    /// The batches are not those that the record names.
    #[error("the batches of {0} are not those that the commit's record names")]
    OtherBatches(PartitionId),
}

const VERSION: u8 = 1;
/// Head: origin, number, bytes of the record, batches.
const HEAD_BYTES: usize = 8 + 8 + 4 + 4;

/// A batch whose bytes are shipped as they are stored.
pub(super) trait Shipped {
    fn stored_bytes(&self) -> &[u8];
}

impl Shipped for StoredBatch {
    fn stored_bytes(&self) -> &[u8] {
        self.bytes()
    }
}

impl Shipped for SealedBatch {
    fn stored_bytes(&self) -> &[u8] {
        self.bytes()
    }
}

/// Appends a commit's bytes to `out`, the batches in the record's order.
pub(super) fn encode_shipped<B: Shipped>(
    origin: OriginId,
    number: CommitNumber,
    record: &CommitV1<'_>,
    batches: &[B],
    out: &mut Vec<u8>,
) {
    let at = start(VERSION, out);
    out.extend_from_slice(&origin.0.to_be_bytes());
    out.extend_from_slice(&number.0.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&(batches.len() as u32).to_be_bytes());
    let record_at = out.len();
    encode(record, out);
    let record_bytes = (out.len() - record_at) as u32;
    out[record_at - 8..record_at - 4].copy_from_slice(&record_bytes.to_be_bytes());
    finish(at, out);
    for batch in batches {
        let bytes = batch.stored_bytes();
        out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
        out.extend_from_slice(bytes);
    }
}

impl FollowedCommit {
    /// Appends the commit's bytes to `out`; what is there stays.
    pub fn encode(&self, out: &mut Vec<u8>) {
        encode_shipped(self.origin, self.record.number, &as_v1(&self.record), &self.batches, out);
    }

    /// Reads what [`FollowedCommit::encode`] wrote, all of `bytes`, and checks that the batches are those of the record.
    ///
    /// # Errors
    /// Any [`FollowedCommitError`].
    pub fn decode(bytes: &[u8]) -> Result<FollowedCommit, FollowedCommitError> {
        if bytes.len() > COMMIT_BYTES_MAX {
            return Err(FollowedCommitError::TooLarge(bytes.len()));
        }
        let mut rest = Taker::new(bytes);
        let version = rest.version()?;
        if version != VERSION {
            return Err(FollowedCommitError::Version(version));
        }
        let head = rest.peek(HEAD_BYTES)?;
        let record_bytes = u32::from_be_bytes([head[16], head[17], head[18], head[19]]) as usize;
        rest.check(HEAD_BYTES.saturating_add(record_bytes))?;
        let origin = OriginId(rest.u64()?);
        let number = CommitNumber(rest.u64()?);
        let _ = rest.u32()?;
        let count = rest.u32()?;
        let record = to_record(number, rest.take(record_bytes)?).map_err(|_| FollowedCommitError::Record)?;
        let mut commit = FollowedCommit { origin, record, batches: Vec::new() };
        for _ in 0..count {
            let len = rest.u32()? as usize;
            commit.batches.push(StoredBatch::decode(rest.take(len)?.to_vec())?);
        }
        rest.end()?;
        commit.check()?;
        Ok(commit)
    }

    /// Stored bytes of its batches.
    pub fn batch_bytes(&self) -> usize {
        self.batches.iter().map(|batch| batch.bytes().len()).sum()
    }

    /// About how many bytes its record takes.
    pub(super) fn small_bytes(&self) -> usize {
        let CommitRecord { appended, cursors, state, .. } = &self.record;
        appended.len() * 48 + small_bytes(cursors, state)
    }

    /// Whether the batches are those of the record, all of it within bounds.
    pub(super) fn check(&self) -> Result<(), FollowedCommitError> {
        check_small(&self.record.cursors, &self.record.state).map_err(FollowedCommitError::Bound)?;
        let mut taken = 0;
        for (appended, batches) in self.runs() {
            let id = appended.partition;
            let end = appended.base_offset.checked_add(appended.count);
            let sound = id.origin == self.origin
                && id.index < PARTITIONS_MAX
                && end.is_some_and(|end| appended.count > 0 && is_run(batches, appended.base_offset, end));
            if !sound {
                return Err(FollowedCommitError::OtherBatches(id));
            }
            taken += batches.len();
        }
        match self.batches.get(taken) {
            Some(batch) => Err(FollowedCommitError::OtherBatches(batch.envelope().partition)),
            None => Ok(()),
        }
    }

    /// What the record says was appended, and the batches of it that are here.
    pub(super) fn runs(&self) -> impl Iterator<Item = (&Appended, &[StoredBatch])> {
        let mut rest = &self.batches[..];
        self.record.appended.iter().map(move |appended| {
            let others = |batch: &StoredBatch| batch.envelope().partition != appended.partition;
            let (run, after) = rest.split_at(rest.iter().position(others).unwrap_or(rest.len()));
            rest = after;
            (appended, run)
        })
    }
}

/// Whether batches follow one another up to `end`, none before `base`.
fn is_run(batches: &[StoredBatch], base: u64, end: u64) -> bool {
    let Some(first) = batches.first() else { return true };
    let dense = batches.windows(2).all(|pair| pair[0].next_offset() == pair[1].base_offset());
    dense && first.base_offset() >= base && batches.last().is_some_and(|last| last.next_offset() == end)
}
