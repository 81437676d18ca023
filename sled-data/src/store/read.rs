//! Reading: batches from an offset on, or back from one.

use std::ops::ControlFlow;

use super::linked::{Holes, hole_at};
use super::partition::Reading;
use super::walk::{base_after, base_at_or_before, walk};
use super::{Store, StoreFailed, keys};
use crate::backend::{BackendError, Direction, Span, Tree};
use crate::batch::{BatchError, StoredBatch};
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId};

/// Why something could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Events before `start` are gone, by retention or trimming, or never came.
    #[error("{partition} begins at {start}")]
    Trimmed {
        /// The partition.
        partition: PartitionId,
        /// The first offset that there is, from the one that was asked for on.
        start: Offset,
    },
    /// Stored events are damaged; those before and after the range can be read.
    #[error("{partition} is damaged from offset {from} to before {to}: {reason}")]
    Damaged {
        /// The partition.
        partition: PartitionId,
        /// First damaged offset.
        from: Offset,
        /// First offset after them.
        to: Offset,
        /// What is wrong.
        reason: String,
    },
    /// A cursor, a state value or a commit record is damaged.
    #[error("{what} is damaged: {reason}")]
    DamagedMeta {
        /// Which.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Commit records before `first` are gone.
    #[error("commit records begin at {first}")]
    CommitsTrimmed {
        /// The oldest one.
        first: CommitNumber,
    },
    /// A copy of an origin is not whole yet: none can be taken from it.
    #[error("what is held of {0} is not whole yet")]
    NotWhole(OriginId),
    /// The backend could not read.
    #[error("reading failed: {0}")]
    Backend(#[from] BackendError),
    /// The store has failed and must be opened again.
    #[error(transparent)]
    Failed(#[from] StoreFailed),
}

/// A partition as one reading call sees it.
pub(super) struct View<'a> {
    pub(super) id: PartitionId,
    pub(super) start: Offset,
    pub(super) end: Offset,
    pub(super) holes: Holes,
    reading: Reading<'a>,
}

impl View<'_> {
    /// The same, as if the partition were no more than this.
    pub(super) fn within(self, start: Offset, end: Offset) -> Self {
        Self { start, end, ..self }
    }

    pub(super) fn tree(&self) -> &dyn Tree {
        self.reading.tree()
    }

    /// Decodes the batch found at `base` and checks that it belongs there.
    pub(super) fn decode(&self, base: Offset, bytes: Vec<u8>) -> Result<StoredBatch, BatchError> {
        let batch = StoredBatch::decode(bytes)?;
        let fits =
            batch.envelope().partition == self.id && batch.base_offset() == base && batch.next_offset() <= self.end;
        if fits { Ok(batch) } else { Err(BatchError::Header) }
    }

    /// Damage from `from` up to the next batch.
    pub(super) fn damaged(&self, from: Offset, reason: impl ToString) -> ReadError {
        match base_after(self.tree(), from) {
            Ok(next) => {
                let to = next.unwrap_or(self.end).min(self.end);
                ReadError::Damaged { partition: self.id, from, to, reason: reason.to_string() }
            }
            Err(e) => e.into(),
        }
    }

    /// The batch that holds `offset`, which is from start on and before the end.
    pub(super) fn batch_at(&self, offset: Offset) -> Result<StoredBatch, ReadError> {
        let Some(base) = base_at_or_before(self.tree(), offset)? else {
            return Err(self.damaged(offset, "events are missing"));
        };
        let mut found = None;
        walk(self.tree(), Span::from(&keys::batch(base)), Direction::Forward, &mut |base, bytes| {
            found = Some((base, bytes));
            ControlFlow::Break(())
        })?;
        match found {
            Some((at, bytes)) if at == base => match self.decode(base, bytes) {
                Ok(batch) if batch.next_offset() > offset => Ok(batch),
                Ok(batch) => Err(self.damaged(batch.next_offset(), "events are missing")),
                Err(e) => Err(self.damaged(base, e)),
            },
            _ => Err(self.damaged(base, "events are missing")),
        }
    }
}

impl Store {
    /// Calls `f` with the partition as it is now; `None` where there is nothing.
    pub(super) fn view<T>(
        &self,
        id: PartitionId,
        f: impl FnOnce(View<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.check()?;
        let Some(partition) = self.partition(id) else {
            return Ok(None);
        };
        // The extent first: a hole that comes in between lies past its end.
        let extent = partition.extent();
        let holes = partition.holes();
        let Some(reading) = partition.reading() else {
            return Ok(None);
        };
        match f(View { id, start: extent.start, end: extent.end, holes, reading }) {
            Err(ReadError::Backend(BackendError::Damaged(reason))) => {
                Err(ReadError::Damaged { partition: id, from: extent.start, to: extent.end, reason })
            }
            Err(ReadError::Backend(e @ BackendError::Io(_))) => Err(self.fail(&e).into()),
            // What a trim took away meanwhile is not damaged.
            Err(ReadError::Damaged { from, .. }) if from < partition.extent().start => {
                Err(ReadError::Trimmed { partition: id, start: partition.extent().start })
            }
            other => other.map(Some),
        }
    }

    /// Batches from the one that holds `from` on (it may begin before), while they have at most `max_bytes` together, but at least one.
    /// Nothing at or past the end.
    ///
    /// # Errors
    /// [`ReadError::Trimmed`] when `from` is gone, [`ReadError::Damaged`] when the batch that holds it cannot be read: go on at its `to`.
    pub fn read(&self, id: PartitionId, from: Offset, max_bytes: usize) -> Result<Vec<StoredBatch>, ReadError> {
        Ok(self.passed_all(self.view(id, |view| read_from(&view, from, max_bytes))?.unwrap_or_default()))
    }

    /// Notes that batches were read.
    pub(super) fn passed_all(&self, batches: Vec<StoredBatch>) -> Vec<StoredBatch> {
        self.passed(batches.iter().map(|batch| batch.bytes().len()).sum());
        batches
    }

    /// Batches before `before`, the newest first, while they have at most `max_bytes` together, but at least one. The first may end past `before`.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when the batch before `before` cannot be read: go on at its `from`.
    pub fn read_back(&self, id: PartitionId, before: Offset, max_bytes: usize) -> Result<Vec<StoredBatch>, ReadError> {
        let read = self.view(id, |view| back_from(&view, before, max_bytes))?;
        Ok(self.passed_all(read.unwrap_or_default()))
    }
}

/// What [`Store::read_back`] reads.
pub(super) fn back_from(view: &View<'_>, before: Offset, max_bytes: usize) -> Result<Vec<StoredBatch>, ReadError> {
    let mut batches = Vec::new();
    let mut bytes = 0;
    let mut before = before.min(view.end);
    while before > view.start {
        if let Some(hole) = hole_at(&view.holes, before - 1) {
            before = hole.from;
            continue;
        }
        match view.batch_at(before - 1) {
            Ok(batch) => {
                bytes += batch.bytes().len();
                if !batches.is_empty() && bytes > max_bytes {
                    break;
                }
                before = batch.base_offset();
                batches.push(batch);
            }
            Err(e) if batches.is_empty() => return Err(e),
            Err(_) => break,
        }
    }
    Ok(batches)
}

/// What [`Store::read`] reads.
pub(super) fn read_from(view: &View<'_>, from: Offset, max_bytes: usize) -> Result<Vec<StoredBatch>, ReadError> {
    if from < view.start {
        return Err(ReadError::Trimmed { partition: view.id, start: view.start });
    }
    if let Some(hole) = hole_at(&view.holes, from) {
        return Err(ReadError::Trimmed { partition: view.id, start: hole.to });
    }
    if from >= view.end {
        return Ok(Vec::new());
    }
    read_forward(view, from, max_bytes)
}

fn read_forward(view: &View<'_>, from: Offset, max_bytes: usize) -> Result<Vec<StoredBatch>, ReadError> {
    let first = view.batch_at(from)?;
    let mut bytes = first.bytes().len();
    let mut next = first.next_offset();
    let mut batches = vec![first];
    if bytes >= max_bytes || next >= view.end {
        return Ok(batches);
    }
    walk(view.tree(), Span::from(&keys::batch(next)), Direction::Forward, &mut |base, found| {
        bytes += found.len();
        if base != next || bytes > max_bytes {
            return ControlFlow::Break(());
        }
        // What is damaged is told to who reads from there.
        let Ok(batch) = view.decode(base, found) else {
            return ControlFlow::Break(());
        };
        next = batch.next_offset();
        batches.push(batch);
        if next < view.end { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(batches)
}
