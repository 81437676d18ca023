//! Following: another life's commits are applied here as they were written there, whole and in order.
//!
//! Batches go into their partitions' trees, then one atomic group in `meta` makes all of a call's commits count: records, the origin's
//! cursors and state under keys of their own, the partitions' ends, and how far the origin was followed. Opening cuts off what no group covers,
//! as it does with own commits.

mod forget;
pub(super) mod plan;

use std::sync::atomic::Ordering;

use super::commit::{CommitError, Touched, Writer, insert_batches, put_small};
use super::commit_stream::{as_v1, put_v1};
use super::keys::{self, Owner};
use super::partition::remove_batches;
use super::streams::{FOLLOWED_ORIGINS_MAX, Stream};
use super::values::{CopyV1, FollowedV1, write};
use super::{COMMIT_BYTES_MAX, CopyError, FollowedCommit, FollowedCommitError, Store, StoreFailed, space};
use crate::backend::{BackendError, Group};
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId};
use plan::Plan;

/// Most commits that are applied at once.
pub const FOLLOW_COMMITS_MAX: usize = 4_096;

/// Events that the origin's commits appended, and that are not here as their source had let them go: offsets `from` to before `to`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Gap {
    /// The partition. What it held before the gap is gone as well: it begins at `to`.
    pub partition: PartitionId,
    /// Where it ended.
    pub from: Offset,
    /// Where it goes on.
    pub to: Offset,
}

/// Why commits of another life were not applied. Nothing of the call is stored, and all but [`FollowError::Failed`] leave the store going.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FollowError {
    /// The life is this store's own.
    #[error("{0} is the store's own life: it cannot be followed")]
    Own(OriginId),
    /// A link brings the life, some of its topics at least.
    #[error("{0} comes by a link: it cannot be followed")]
    Linked(OriginId),
    /// The commit is not the one after the newest that was applied.
    #[error("the next commit of {origin} is {expected}, not {found}")]
    NotNext {
        /// The life.
        origin: OriginId,
        /// The commit that is next.
        expected: CommitNumber,
        /// The commit that came.
        found: CommitNumber,
    },
    /// What is held here is not what the origin wrote. It must not be followed on: one of the two is not what it was.
    #[error("{partition} differs from its source's at offset {offset}: {what}")]
    Different {
        /// The partition.
        partition: PartitionId,
        /// Where it was found.
        offset: Offset,
        /// What is different.
        what: &'static str,
    },
    /// The copy that is offered ends before what is here.
    #[error("the copy of {origin} ends at commit {head}, and {followed} was followed: take it from another source")]
    Behind {
        /// The life.
        origin: OriginId,
        /// Where the copy ends.
        head: CommitNumber,
        /// The newest commit that was applied.
        followed: CommitNumber,
    },
    /// The copy that is offered has nothing of a partition of which there are events here, and whose topic is not deleted here.
    #[error(
        "the copy of {origin} that is offered has nothing of {partition}, of which there are events here: it is not taken before they are gone"
    )]
    Lacking {
        /// The life.
        origin: OriginId,
        /// The partition.
        partition: PartitionId,
    },
    /// The partition was deleted, and its batches are still being removed: it is tried again when they are gone.
    #[error("{0} was deleted, and its batches are not removed yet: it is tried again when they are")]
    Dropping(PartitionId),
    /// A copy of the origin is being taken: it must end first.
    #[error("a copy of {0} is being taken: its commits follow when that has ended")]
    Taking(OriginId),
    /// No copy of the origin is being taken.
    #[error("no copy of {0} is being taken")]
    NotTaking(OriginId),
    /// The commit is not sound.
    #[error(transparent)]
    Malformed(#[from] FollowedCommitError),
    /// A part of a copy is not sound.
    #[error(transparent)]
    MalformedCopy(#[from] CopyError),
    /// The call is over a bound.
    #[error("the call has {0}")]
    Bound(&'static str),
    /// As many origins are followed as may be.
    #[error(
        "{FOLLOWED_ORIGINS_MAX} origins are followed already, those that have ended included; a new one is not kept here"
    )]
    TooMany,
    /// The disk's reserve or the store's byte bound would be passed.
    #[error("the store is full")]
    Full,
    /// The store has failed and must be opened again.
    #[error(transparent)]
    Failed(#[from] StoreFailed),
}

impl Store {
    /// Applies commits of another life, of one origin and in order, all or none: durable after the next [`Store::sync`], readable at once.
    /// What the source no longer had is told as gaps.
    ///
    /// # Errors
    /// Any [`FollowError`]; nothing of the call is stored then.
    pub fn follow(&self, commits: &[FollowedCommit]) -> Result<Vec<Gap>, FollowError> {
        self.check()?;
        let Some(first) = commits.first() else { return Ok(Vec::new()) };
        let (bytes, small) = check_call(commits)?;
        let mut writer = self.writer.lock();
        let mut record = self.followed_to_write(first.origin)?;
        check_order(commits, &record)?;
        self.room(bytes, small)?;
        self.passed(bytes);
        let mut plan = Plan::new(self);
        let planned = commits.iter().try_for_each(|commit| plan.add(commit));
        planned.map_err(|e| e.of(self))?;
        let Plan { touched, appends, gaps, .. } = plan;
        let appends = appends.iter().map(|(at, batch)| (*at, batch.base_offset(), batch.bytes()));
        insert_batches(&touched, appends, &mut writer.value).map_err(|e| self.take_back(&touched, &e))?;
        if let Some(last) = commits.last() {
            (record.commit, record.hlc) = (last.record.number.0, last.record.hlc);
        }
        if matches!(record.copy, CopyV1::Until(commit) if commit <= record.commit) {
            record.copy = CopyV1::Whole;
        }
        self.write_followed(&mut writer, commits, &touched, &gaps, record).map_err(|e| self.take_back(&touched, &e))?;
        self.remove_before_starts(&touched)?;
        Ok(gaps)
    }

    /// The group that makes the commits count.
    fn write_followed(
        &self,
        writer: &mut Writer,
        commits: &[FollowedCommit],
        touched: &[Touched],
        gaps: &[Gap],
        record: FollowedV1,
    ) -> Result<(), BackendError> {
        let Writer { group, key, value, .. } = writer;
        let Some(origin) = commits.first().map(|commit| commit.origin) else { return Ok(()) };
        group.clear();
        let mut added = Vec::with_capacity(commits.len());
        for commit in commits {
            let FollowedCommit { record, .. } = commit;
            put_small(Owner::Followed(origin), &record.cursors, &record.state, group, key, value);
            added.push(put_v1(origin, record.number, &as_v1(record), group, value));
        }
        put_ends(touched, group, value);
        put_followed(origin, &record, group, value);
        self.put_gaps(gaps, record.hlc, group, value)?;
        let trimmed = match self.streams.read().followed.get(&origin) {
            Some(stream) => stream.kept.trim(origin, &self.options, &added, group),
            None => 0,
        };
        self.meta.apply(group)?;
        for Touched { partition, after, .. } in touched {
            partition.set_extent(*after);
        }
        let mut streams = self.streams.write();
        let stream = streams.followed.entry(origin).or_default();
        stream.kept.apply(&added, trimmed);
        self.written(stream, record);
        Ok(())
    }

    /// Takes note, once its group is written, of how far an origin was followed.
    pub(super) fn written(&self, stream: &mut Stream, record: FollowedV1) {
        stream.record = record;
        let group = self.follow_groups.load(Ordering::Acquire) + 1;
        stream.written(group, self.follow_synced.load(Ordering::Acquire));
        self.follow_groups.store(group, Ordering::Release);
    }

    /// How far an origin was followed, which may not be done with the own life, or with too many.
    pub(super) fn followed_to_write(&self, origin: OriginId) -> Result<FollowedV1, FollowError> {
        if origin == self.origin {
            return Err(FollowError::Own(origin));
        }
        if self.is_linked(origin) {
            return Err(FollowError::Linked(origin));
        }
        let streams = self.streams.read();
        match streams.followed.get(&origin) {
            Some(stream) => Ok(stream.record),
            None if streams.followed.len() >= FOLLOWED_ORIGINS_MAX => Err(FollowError::TooMany),
            None => Ok(FollowedV1::default()),
        }
    }

    /// Whether there is room for `bytes` of batches, and `small` of what goes with them.
    pub(super) fn room(&self, bytes: usize, small: usize) -> Result<(), FollowError> {
        let room = space::check(&*self.backend, &self.options, (bytes as u64, small as u64), || self.batch_bytes());
        room.map_err(|e| match e {
            CommitError::Failed(failed) => failed.into(),
            _ => FollowError::Full,
        })
    }

    /// Takes back what a refused call has written. Where that fails as well, or the group itself did, the store stops.
    pub(super) fn take_back(&self, touched: &[Touched], error: &BackendError) -> FollowError {
        if !matches!(error, BackendError::Full) {
            return self.fail(error).into();
        }
        for Touched { partition, before, .. } in touched {
            if let Err(e) = partition.remove_past(before.end) {
                return self.fail(&e).into();
            }
        }
        FollowError::Full
    }

    /// Removes what lies before the starts that gaps have moved; opening ends what was cut short.
    pub(super) fn remove_before_starts(&self, touched: &[Touched]) -> Result<(), FollowError> {
        for Touched { partition, before, after } in touched {
            if before.start < after.start {
                remove_batches(partition.tree(), before.start, Some(after.start)).map_err(|e| self.fail(&e))?;
            }
        }
        Ok(())
    }

    /// Notes which node writes an origin; 0 where that is not known. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// [`FollowError::Own`], [`FollowError::TooMany`], [`FollowError::Full`], [`FollowError::Failed`].
    pub fn set_follow_node(&self, origin: OriginId, node: u64) -> Result<(), FollowError> {
        self.check()?;
        let mut writer = self.writer.lock();
        let record = FollowedV1 { node, ..self.followed_to_write(origin)? };
        self.put_record_of(&mut writer, origin, record, |_| {})
    }
}

/// Adds the partitions' new extents to `group`.
pub(super) fn put_ends(touched: &[Touched], group: &mut Group, value: &mut Vec<u8>) {
    for Touched { partition, after, .. } in touched {
        let key = keys::partition(partition.id);
        write(&key, after, value);
        group.put(&key, value);
    }
}

/// Adds how far an origin was followed to `group`.
pub(super) fn put_followed(origin: OriginId, record: &FollowedV1, group: &mut Group, value: &mut Vec<u8>) {
    let key = keys::followed(origin);
    write(&key, record, value);
    group.put(&key, value);
}

/// Whether the commits are sound and within bounds; the stored bytes of their batches, and of what goes with them.
fn check_call(commits: &[FollowedCommit]) -> Result<(usize, usize), FollowError> {
    if commits.len() > FOLLOW_COMMITS_MAX {
        return Err(FollowError::Bound("too many commits"));
    }
    let (mut bytes, mut small) = (0, 0);
    for commit in commits {
        commit.check()?;
        bytes += commit.batch_bytes();
        small += commit.small_bytes();
    }
    if bytes + small > COMMIT_BYTES_MAX { Err(FollowError::Bound("too many bytes")) } else { Ok((bytes, small)) }
}

/// Whether the commits are all of one origin and follow one another, and on what was applied.
fn check_order(commits: &[FollowedCommit], record: &FollowedV1) -> Result<(), FollowError> {
    let mut expected = CommitNumber(record.commit).next();
    for commit in commits {
        if commit.origin != commits[0].origin {
            return Err(FollowError::Bound("commits of several origins"));
        }
        if record.copy == CopyV1::Taking {
            return Err(FollowError::Taking(commit.origin));
        }
        let found = commit.record.number;
        if found != expected {
            return Err(FollowError::NotNext { origin: commit.origin, expected, found });
        }
        expected = expected.next();
    }
    Ok(())
}
