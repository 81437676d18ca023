//! What applying followed commits comes to: where each partition will begin and end, which batches are new, and what is missing.

use std::collections::HashMap;
use std::sync::Arc;

use super::{FollowError, Gap};
use crate::backend::BackendError;
use crate::batch::StoredBatch;
use crate::ids::{Offset, PartitionId};
use crate::store::commit::Touched;
use crate::store::commit_stream::Appended;
use crate::store::{FollowedCommit, Store};

/// The plan of one call; nothing but empty partitions is written by it.
pub(in crate::store) struct Plan<'a> {
    pub(in crate::store) store: &'a Store,
    pub(in crate::store) touched: Vec<Touched>,
    touched_at: HashMap<PartitionId, usize>,
    /// New batches, in order, each with its partition's place among those touched.
    pub(in crate::store) appends: Vec<(usize, &'a StoredBatch)>,
    pub(in crate::store) gaps: Vec<Gap>,
}

/// Why a plan cannot be made.
pub(in crate::store) enum PlanError {
    Follow(FollowError),
    Backend(BackendError),
}

impl PlanError {
    pub(in crate::store) fn of(self, store: &Store) -> FollowError {
        match self {
            PlanError::Follow(error) => error,
            PlanError::Backend(error) => store.take_back(&[], &error),
        }
    }
}

impl From<FollowError> for PlanError {
    fn from(error: FollowError) -> PlanError {
        PlanError::Follow(error)
    }
}

impl<'a> Plan<'a> {
    pub(in crate::store) fn new(store: &'a Store) -> Plan<'a> {
        let (touched, touched_at) = (Vec::new(), HashMap::new());
        Plan { store, touched, touched_at, appends: Vec::new(), gaps: Vec::new() }
    }

    /// Adds a commit, which is sound and the next.
    pub(in crate::store) fn add(&mut self, commit: &'a FollowedCommit) -> Result<(), PlanError> {
        for (appended, batches) in commit.runs() {
            self.run(appended, batches)?;
        }
        Ok(())
    }

    /// Adds what a commit appended to one partition.
    fn run(&mut self, appended: &Appended, batches: &'a [StoredBatch]) -> Result<(), PlanError> {
        let (id, base) = (appended.partition, appended.base_offset);
        let next = base.saturating_add(appended.count);
        if self.is_left_out(id) || batches.is_empty() && self.is_unknown(id) {
            return Ok(());
        }
        let at = self.touch(id)?;
        let end = self.touched[at].after.end;
        // A partition that was deleted here goes on where its origin goes on.
        if end != base && end != 0 {
            return Err(different(id, end.min(base), "it ends elsewhere").into());
        }
        let first = batches.first().map_or(next, StoredBatch::base_offset);
        if first != end {
            let sum = batches.iter().fold(0_u64, |sum, batch| sum.wrapping_add(batch.envelope().digest));
            self.jump(at, first, appended.digest.wrapping_sub(sum));
        }
        for batch in batches {
            self.append(at, batch);
        }
        if self.touched[at].after.digest != appended.digest {
            return Err(different(id, base, "the events are not the same").into());
        }
        Ok(())
    }

    /// Whether neither the partition nor its topic is here: it was deleted, and nobody misses what is absent.
    pub(in crate::store) fn is_unknown(&self, id: PartitionId) -> bool {
        !self.touched_at.contains_key(&id)
            && self.store.partition(id).is_none()
            && !self.store.topics.read().contains_key(&id.topic)
    }

    /// Whether it is known, besides, that its topic was deleted: nothing of it is to be kept.
    pub(in crate::store) fn is_left_out(&self, id: PartitionId) -> bool {
        self.is_unknown(id) && self.store.is_deleted(id.topic)
    }

    /// The place of a partition among those touched; it is made when it is not there.
    pub(in crate::store) fn touch(&mut self, id: PartitionId) -> Result<usize, PlanError> {
        if let Some(at) = self.touched_at.get(&id) {
            return Ok(*at);
        }
        let partition: Arc<_> = match self.store.partition(id) {
            Some(partition) => partition,
            // That takes long where it is large, and all who write would wait.
            None if self.store.dropping.has(id) => return Err(FollowError::Dropping(id).into()),
            None => self.store.make_partition(id).map_err(PlanError::Backend)?,
        };
        let extent = partition.extent();
        self.touched.push(Touched { partition, before: extent, after: extent });
        self.touched_at.insert(id, self.touched.len() - 1);
        Ok(self.touched.len() - 1)
    }

    /// The partition goes on at `to`, and what it held before is gone, as it is at its source.
    pub(in crate::store) fn jump(&mut self, at: usize, to: Offset, digest: u64) {
        let Touched { partition, after, .. } = &mut self.touched[at];
        self.gaps.push(Gap { partition: partition.id, from: after.end, to });
        (after.start, after.end, after.bytes, after.digest) = (to, to, 0, digest);
    }

    /// Adds a batch that begins where its partition ends.
    pub(in crate::store) fn append(&mut self, at: usize, batch: &'a StoredBatch) {
        let after = &mut self.touched[at].after;
        after.end = batch.next_offset();
        after.bytes += batch.bytes().len() as u64;
        after.digest = after.digest.wrapping_add(batch.envelope().digest);
        self.appends.push((at, batch));
    }
}

pub(in crate::store) fn different(partition: PartitionId, offset: Offset, what: &'static str) -> FollowError {
    FollowError::Different { partition, offset, what }
}
