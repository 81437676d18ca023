//! Forgetting what was followed: a bounded number of keys a group, so that commits go on between.

use std::ops::ControlFlow;
use std::sync::atomic::Ordering;

use super::{FollowError, put_followed};
use crate::backend::{BackendError, Direction, Group, Span};
use crate::ids::{CommitNumber, OriginId, PartitionId};
use crate::store::commit::Writer;
use crate::store::keys::{self, Owner};
use crate::store::streams::Stream;
use crate::store::values::{CopyV1, FollowedV1};
use crate::store::{Gone, Store, StoreFailed};

/// Most keys that one group removes.
const FORGET_KEYS_MAX: usize = 2_048;

impl Store {
    /// Forgets an origin that was followed: its events, cursors, state and commit records, and all cursors in its partitions. Durable
    /// with the next [`Store::sync`]; cut short by an end of the process, it leaves an origin that is being copied. One that is not followed is
    /// forgotten already.
    ///
    /// # Errors
    /// [`FollowError::Own`], and what writing may meet.
    pub fn forget_followed(&self, origin: OriginId) -> Result<(), FollowError> {
        self.check()?;
        {
            let mut writer = self.writer.lock();
            let record = self.followed_to_write(origin)?;
            if !self.follows(origin) {
                return Ok(());
            }
            let record = FollowedV1 { copy: CopyV1::Taking, ..record };
            self.put_record_of(&mut writer, origin, record, |_| {})?;
        }
        while self.forget_some(origin)? {}
        let gone = self.forget_rest(origin)?;
        self.drop_trees(gone).map_err(|e| self.fail(&e))?;
        Ok(())
    }

    /// Forgets that the origin was followed, and its partitions.
    fn forget_rest(&self, origin: OriginId) -> Result<Gone, FollowError> {
        let _trimming = self.trimming.lock();
        let _writer = self.writer.lock();
        let gone: Vec<PartitionId> = self.partitions().into_iter().filter(|id| id.origin == origin).collect();
        let mut group = Group::new();
        group.remove(&keys::followed(origin));
        gone.iter().for_each(|id| group.remove(&keys::partition(*id)));
        let removed = self.remove_cursors(|at| at.origin == origin, &mut group);
        let removed = removed.and_then(|()| gone.iter().try_for_each(|id| self.remove_gaps(*id, &mut group)));
        removed.and_then(|()| self.meta.apply(&group)).map_err(|e| self.fail(&e))?;
        self.streams.write().followed.remove(&origin);
        Ok(self.take_out(&gone))
    }

    /// Keeps an origin's commit records from `from` on for longer, while somebody takes a copy from here: up to four times the bounds. Each
    /// who needs them has a hold of its own, whose number this is; opening the store ends them all.
    pub fn hold_commits(&self, origin: OriginId, from: CommitNumber) -> u64 {
        let who = self.holds.fetch_add(1, Ordering::Relaxed);
        self.set_hold(origin, who, Some(from));
        who
    }

    /// Ends a hold.
    pub fn release_commits(&self, origin: OriginId, hold: u64) {
        self.set_hold(origin, hold, None);
    }

    fn set_hold(&self, origin: OriginId, who: u64, from: Option<CommitNumber>) {
        let mut writer = self.writer.lock();
        if origin == self.origin {
            writer.kept.hold(who, from);
        } else if let Some(stream) = self.streams.write().followed.get_mut(&origin) {
            stream.kept.hold(who, from);
        }
    }

    /// Removes some of the commit records, cursors and state of an origin that is marked as being copied, in one group; whether there may be
    /// more.
    pub(in crate::store) fn forget_some(&self, origin: OriginId) -> Result<bool, FollowError> {
        let mut writer = self.writer.lock();
        self.being_taken(origin)?;
        let Writer { group, .. } = &mut *writer;
        group.clear();
        let records = match self.streams.read().followed.get(&origin) {
            Some(stream) => stream.kept.forget(origin, FORGET_KEYS_MAX, group),
            None => 0,
        };
        let owner = Owner::Followed(origin);
        let mut keys = records;
        for prefix in [keys::all_cursors(owner), keys::all_state(owner)] {
            let left = FORGET_KEYS_MAX.saturating_sub(keys);
            keys += self.remove_prefix(prefix.bytes(), left, group).map_err(|e| self.fail(&e))?;
        }
        if keys == 0 {
            return Ok(false);
        }
        self.meta.apply(group).map_err(|e| self.take_back(&[], &e))?;
        if let Some(stream) = self.streams.write().followed.get_mut(&origin) {
            stream.kept.apply(&[], records);
        }
        Ok(true)
    }

    /// Removes commit records of followed origins of which no event is kept any more, all but the newest: some of each. Who is behind and
    /// follows them from here gets a copy, of what is left. By the newest one a fork is seen still.
    pub(in crate::store) fn thin_records(&self) -> Result<(), StoreFailed> {
        let is_old = |stream: &Stream| stream.record.copy == CopyV1::Whole && stream.kept.older() > 0;
        let some: Vec<OriginId> = {
            let streams = self.streams.read();
            streams.followed.iter().filter(|(_, stream)| is_old(stream)).map(|(origin, _)| *origin).collect()
        };
        for origin in some.into_iter().filter(|origin| !self.has_events_of(*origin)) {
            let _writer = self.writer.lock();
            // Closing, or a commit, may have come before.
            self.check()?;
            let mut streams = self.streams.write();
            let Some(stream) = streams.followed.get_mut(&origin).filter(|stream| is_old(stream)) else { continue };
            let mut group = Group::new();
            let gone = stream.kept.forget(origin, stream.kept.older().min(FORGET_KEYS_MAX), &mut group);
            self.meta.apply(&group).map_err(|e| self.fail(&e))?;
            stream.kept.apply(&[], gone);
        }
        Ok(())
    }

    /// Removes, in `group`, at most `max` keys that begin with `prefix`; how many that are.
    fn remove_prefix(&self, prefix: &[u8], max: usize, group: &mut Group) -> Result<usize, BackendError> {
        let mut removed = 0;
        if max == 0 {
            return Ok(removed);
        }
        let to = keys::after_prefix(prefix);
        self.meta.scan(Span { from: prefix, to: to.as_deref() }, Direction::Forward, &mut |key, _| {
            group.remove(key);
            removed += 1;
            if removed < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        })?;
        Ok(removed)
    }

    /// Writes how far an origin was followed, and takes note of it after `change`.
    pub(in crate::store) fn put_record_of(
        &self,
        writer: &mut Writer,
        origin: OriginId,
        record: FollowedV1,
        change: impl FnOnce(&mut Stream),
    ) -> Result<(), FollowError> {
        let Writer { group, value, .. } = writer;
        group.clear();
        put_followed(origin, &record, group, value);
        self.meta.apply(group).map_err(|e| self.take_back(&[], &e))?;
        let mut streams = self.streams.write();
        let stream = streams.followed.entry(origin).or_default();
        change(stream);
        self.written(stream, record);
        Ok(())
    }
}
