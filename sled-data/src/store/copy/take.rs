//! Taking a copy: what the origin's cursors and state were is forgotten, events that agree stay, and parts are added as they come.
//!
//! From its begin to its end the origin is marked as being copied, so that an end of the process between leaves nothing that looks whole: the
//! copy is begun again then, and the batches that were stored need not be sent again.

use std::collections::HashSet;

use super::{CopyHead, CopyPart, check_partition};
use crate::backend::Group;
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId};
use crate::store::commit::{Writer, insert_batches, put_small};
use crate::store::follow::plan::{Plan, PlanError, different};
use crate::store::follow::put_ends;
use crate::store::kept::KeptRecords;
use crate::store::keys::{self, Owner};
use crate::store::streams::Stream;
use crate::store::values::{CopyV1, FollowedV1, write_raw};
use crate::store::{COMMIT_BYTES_MAX, FollowError, Gap, Store};

impl Store {
    /// Begins a copy of an origin: forgets its cursors, state and commit records, and keeps the events that agree with the head. One that was
    /// begun already is begun anew. Until [`Store::end_copy`] no commit of the origin is applied.
    ///
    /// # Errors
    /// [`FollowError::Behind`] where the head is older than what is here, [`FollowError::Lacking`] where it lacks a partition that is kept here,
    /// [`FollowError::Different`] where events differ, and what writing may meet.
    pub fn begin_copy(&self, head: &CopyHead) -> Result<(), FollowError> {
        self.check()?;
        head.check()?;
        self.mark_as_taken(head)?;
        while self.forget_some(head.origin)? {}
        let mut writer = self.writer.lock();
        let record = FollowedV1 { commit: head.commit.0, hlc: head.hlc, ..self.being_taken(head.origin)? };
        self.put_record_of(&mut writer, head.origin, record, |stream| stream.kept = KeptRecords::none(head.commit))
    }

    /// Marks the origin as being copied, if the copy can be taken at all.
    fn mark_as_taken(&self, head: &CopyHead) -> Result<(), FollowError> {
        let origin = head.origin;
        let mut writer = self.writer.lock();
        let mut record = self.followed_to_write(origin)?;
        let followed = self.last_commit_of(origin);
        if head.commit < followed {
            return Err(FollowError::Behind { origin, head: head.commit, followed });
        }
        for extent in &head.partitions {
            let id = extent.partition;
            let Some(here) = self.partition(id).map(|partition| partition.extent()) else { continue };
            if here.end > extent.end {
                return Err(different(id, extent.end, "it ends elsewhere"));
            }
            if here.end == extent.end && here.digest != extent.digest {
                return Err(different(id, extent.end, "the events are not the same"));
            }
        }
        self.check_named(head)?;
        (record.commit, record.copy) = (followed.0, CopyV1::Taking);
        self.put_record_of(&mut writer, origin, record, |_| {})?;
        // A life before the present one is followed like any other from now on.
        let mut streams = self.streams.write();
        let ended = streams.ended.remove(&origin);
        if let (Some(kept), Some(stream)) = (ended, streams.followed.get_mut(&origin)) {
            stream.kept = kept;
        }
        Ok(())
    }

    /// Whether the head names each partition of which events are kept here, but for those whose topic is not here: what its source has lost is
    /// not to cost what is here. Where a topic was deleted there, it is soon here too.
    fn check_named(&self, head: &CopyHead) -> Result<(), FollowError> {
        let origin = head.origin;
        let named: HashSet<PartitionId> = head.partitions.iter().map(|extent| extent.partition).collect();
        let holds = |id: PartitionId| {
            let extent = self.partition(id).map(|partition| partition.extent());
            extent.is_some_and(|extent| extent.start < extent.end) && self.topics.read().contains_key(&id.topic)
        };
        let mut others = self.partitions().into_iter().filter(|id| id.origin == origin && !named.contains(id));
        match others.find(|id| holds(*id)) {
            Some(partition) => Err(FollowError::Lacking { origin, partition }),
            None => Ok(()),
        }
    }

    /// Adds parts of the copy, in the order in which its source gave them, all or none. Batches that are here already are left out. What the
    /// source no longer had is told as gaps.
    ///
    /// # Errors
    /// [`FollowError::NotTaking`] unless a copy was begun, [`FollowError::Different`] where events differ; nothing of the call is stored then.
    pub fn add_copy(&self, origin: OriginId, parts: &[CopyPart]) -> Result<Vec<Gap>, FollowError> {
        self.check()?;
        let (bytes, small) = check_call(origin, parts)?;
        let mut writer = self.writer.lock();
        let hlc = self.being_taken(origin)?.hlc;
        self.room(bytes, small)?;
        self.passed(bytes);
        let mut plan = Plan::new(self);
        parts.iter().try_for_each(|part| plan.copy(part)).map_err(|e| e.of(self))?;
        let Plan { touched, appends, gaps, .. } = plan;
        let Writer { group, key, value, .. } = &mut *writer;
        let appends = appends.iter().map(|(at, batch)| (*at, batch.base_offset(), batch.bytes()));
        insert_batches(&touched, appends, value).map_err(|e| self.take_back(&touched, &e))?;
        group.clear();
        for part in parts {
            put_part(origin, part, group, key, value);
        }
        put_ends(&touched, group, value);
        let put = self.put_gaps(&gaps, hlc, group, value).and_then(|()| self.meta.apply(group));
        put.map_err(|e| self.take_back(&touched, &e))?;
        touched.iter().for_each(|t| t.partition.set_extent(t.after));
        self.remove_before_starts(&touched)?;
        Ok(gaps)
    }

    /// Ends the copy: commits are applied from the one after its head on, and what is held is whole once `whole_at` is. Durable with the next
    /// [`Store::sync`].
    ///
    /// # Errors
    /// [`FollowError::NotTaking`] unless a copy was begun.
    pub fn end_copy(&self, origin: OriginId, whole_at: CommitNumber) -> Result<(), FollowError> {
        self.check()?;
        let mut writer = self.writer.lock();
        let mut record = self.being_taken(origin)?;
        record.copy = if whole_at.0 <= record.commit { CopyV1::Whole } else { CopyV1::Until(whole_at.0) };
        self.put_record_of(&mut writer, origin, record, Stream::begin_anew)
    }

    /// How far the origin was followed, of which a copy is being taken.
    pub(in crate::store) fn being_taken(&self, origin: OriginId) -> Result<FollowedV1, FollowError> {
        let streams = self.streams.read();
        let record = streams.followed.get(&origin).map(|stream| stream.record);
        record.filter(|record| record.copy == CopyV1::Taking).ok_or(FollowError::NotTaking(origin))
    }
}

impl<'a> Plan<'a> {
    /// Adds a part of a copy, which is sound.
    fn copy(&mut self, part: &'a CopyPart) -> Result<(), PlanError> {
        let Some(id) = part.partition().filter(|id| !self.is_left_out(*id)) else { return Ok(()) };
        match part {
            CopyPart::Batch(batch) => {
                // Deleted here since the copy began.
                if batch.base_offset() > 0 && self.is_unknown(id) {
                    return Ok(());
                }
                let at = self.touch(id)?;
                let end = self.touched[at].after.end;
                if batch.base_offset() == end {
                    self.append(at, batch);
                } else if batch.next_offset() > end {
                    return Err(different(id, end.min(batch.base_offset()), "it ends elsewhere").into());
                }
                Ok(())
            }
            CopyPart::Jump { to, digest, .. } => self.copy_jump(id, *to, *digest),
            CopyPart::Gone { end, .. } | CopyPart::End { end, .. } if *end == 0 || self.is_unknown(id) => Ok(()),
            CopyPart::Gone { end, digest, .. } => self.copy_jump(id, *end, *digest),
            CopyPart::End { end, digest, .. } => self.copy_end(id, *end, *digest),
            CopyPart::Cursor(_) | CopyPart::State { .. } => Ok(()),
        }
    }

    fn copy_jump(&mut self, id: PartitionId, to: Offset, digest: u64) -> Result<(), PlanError> {
        let at = self.touch(id)?;
        let here = self.touched[at].after;
        if here.end < to {
            self.jump(at, to, digest);
        } else if here.end == to && here.digest != digest {
            return Err(different(id, to, "the events are not the same").into());
        }
        Ok(())
    }

    fn copy_end(&mut self, id: PartitionId, end: Offset, digest: u64) -> Result<(), PlanError> {
        let at = self.touch(id)?;
        let here = self.touched[at].after;
        if here.end != end {
            return Err(different(id, here.end.min(end), "it ends elsewhere").into());
        }
        if here.digest == digest { Ok(()) } else { Err(different(id, end, "the events are not the same").into()) }
    }
}

/// Whether the parts are sound, of one origin and within bounds; the stored bytes of their batches, and of what goes with them.
fn check_call(origin: OriginId, parts: &[CopyPart]) -> Result<(usize, usize), FollowError> {
    let (mut batches, mut small) = (0, 0);
    for part in parts {
        part.check()?;
        match part {
            CopyPart::Batch(batch) => batches += batch.bytes().len(),
            other => small += other.bytes(),
        }
        if let Some(id) = part.partition() {
            check_partition(origin, id)?;
        }
    }
    if batches + small > COMMIT_BYTES_MAX { Err(FollowError::Bound("too many bytes")) } else { Ok((batches, small)) }
}

/// Adds a cursor or a value of state to `group`.
fn put_part(origin: OriginId, part: &CopyPart, group: &mut Group, key: &mut Vec<u8>, value: &mut Vec<u8>) {
    let owner = Owner::Followed(origin);
    match part {
        CopyPart::Cursor(cursor) => put_small(owner, std::slice::from_ref(cursor), &[], group, key, value),
        CopyPart::State { tree, key: of, value: bytes } => {
            keys::state(owner, tree, key);
            key.extend_from_slice(of);
            write_raw(key, value, |out| out.extend_from_slice(bytes));
            group.put(key, value);
        }
        CopyPart::Jump { .. } | CopyPart::Gone { .. } | CopyPart::Batch(_) | CopyPart::End { .. } => {}
    }
}
