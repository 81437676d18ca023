//! Reading an origin's commits for those who follow it: records first, then one walk a partition for all of them.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;

use super::FollowedCommit;
use crate::backend::{Direction, Span};
use crate::batch::StoredBatch;
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId};
use crate::store::commit_stream::{CommitRecord, walk_records};
use crate::store::read::{ReadError, View};
use crate::store::walk::walk;
use crate::store::{Store, keys};

/// Most commits that one call reads.
const COMMITS_AT_ONCE_MAX: usize = 4_096;
/// How often a call begins anew because a trim went by.
const TRIES_MAX: u32 = 8;

/// A commit on its way to be whole.
struct Ship {
    record: CommitRecord,
    /// Its batches, each with the place of its partition in the record.
    batches: Vec<(usize, StoredBatch)>,
}

/// What one commit appended to the partition that is being read.
struct Run {
    /// The commit, by its place in the call.
    commit: usize,
    /// The partition's place in its record.
    place: usize,
    base: Offset,
    end: Offset,
}

/// The commits of one call, and how many bytes those gathered so far have, each with all before it.
struct Gathering {
    ships: Vec<Ship>,
    sums: Vec<usize>,
    bytes_max: usize,
}

impl Store {
    /// Commits of an origin, own or followed, from `from` on, one after the other, with the batches that are kept of them: about
    /// `bytes_max` together, but at least one. Nothing above the newest that is synced here.
    ///
    /// # Errors
    /// [`ReadError::CommitsTrimmed`] where the record of `from` is gone, [`ReadError::Damaged`] where a batch of `from` cannot be read.
    pub fn commits_to_ship(
        &self,
        origin: OriginId,
        from: CommitNumber,
        bytes_max: usize,
    ) -> Result<Vec<FollowedCommit>, ReadError> {
        let from = from.max(CommitNumber(1));
        let synced = self.synced_commit_of(origin);
        if from > synced {
            return Ok(Vec::new());
        }
        let mut tries = 0;
        loop {
            match self.gather(origin, from, synced, bytes_max) {
                Err(ReadError::Trimmed { .. }) if tries < TRIES_MAX => tries += 1,
                other => return other,
            }
        }
    }

    /// Shows the records of an origin's commits, own or followed, from `from` on, one after the other, synced or not; the commit after the
    /// last one that was shown. That is `from` where its record is gone, or not there yet.
    ///
    /// # Errors
    /// What reading may meet.
    pub fn each_commit_of(
        &self,
        origin: OriginId,
        from: CommitNumber,
        visit: &mut dyn FnMut(&CommitRecord),
    ) -> Result<CommitNumber, ReadError> {
        let mut next = from.max(CommitNumber(1));
        self.meta_read(|meta| {
            walk_records(meta, origin, next, &mut |record, _| {
                if record.number != next {
                    return ControlFlow::Break(());
                }
                next = next.next();
                visit(&record);
                ControlFlow::Continue(())
            })
        })?;
        Ok(next)
    }

    /// Up to where one that has synced all of this life's commits up to `has` has each partition: where the first commit that it lacks begins.
    /// Partitions that are not named it has to their ends. `None` where records of commits that it lacks are gone.
    ///
    /// # Errors
    /// What reading may meet.
    pub fn first_offsets_after(&self, has: CommitNumber) -> Result<Option<HashMap<PartitionId, Offset>>, ReadError> {
        let synced = self.synced_commit();
        let mut first = HashMap::new();
        // What is written and not synced yet counts as well, also a commit that is not told as the last one yet: one who asks for it
        // knows where partitions end.
        let next = self.each_commit_of(self.origin, has.next(), &mut |record| {
            for appended in &record.appended {
                first.entry(appended.partition).or_insert(appended.base_offset);
            }
        })?;
        Ok((next > synced).then_some(first))
    }

    /// Stored bytes of so many events of a partition, by the average of those that are kept.
    pub fn bytes_of(&self, id: PartitionId, events: u64) -> u64 {
        let bytes = (u128::from(events) * u128::from(self.event_bytes(id))) >> EVENT_BYTES_SHIFT;
        u64::try_from(bytes).unwrap_or(u64::MAX)
    }

    fn gather(
        &self,
        origin: OriginId,
        from: CommitNumber,
        synced: CommitNumber,
        bytes_max: usize,
    ) -> Result<Vec<FollowedCommit>, ReadError> {
        let mut gathering = self.records_to_ship(origin, from, synced, bytes_max)?;
        if gathering.ships.is_empty() {
            return Err(ReadError::CommitsTrimmed { first: self.first_kept_commit_of(origin) });
        }
        let mut partitions: BTreeMap<PartitionId, Vec<Run>> = BTreeMap::new();
        for (commit, ship) in gathering.ships.iter().enumerate() {
            for (place, appended) in ship.record.appended.iter().enumerate() {
                let (base, end) = (appended.base_offset, appended.base_offset.saturating_add(appended.count));
                partitions.entry(appended.partition).or_default().push(Run { commit, place, base, end });
            }
        }
        for (id, runs) in partitions {
            match self.view(id, |view| gathering.take(&view, &runs)) {
                // Told to who reads from there.
                Err(ReadError::Damaged { from, .. }) if gathering.cut_before(&runs, from) => {}
                other => drop(other?),
            }
        }
        self.passed(gathering.sums.last().copied().unwrap_or(0));
        Ok(gathering.ships.into_iter().map(|ship| ship.whole(origin)).collect())
    }

    /// Records of as many commits as are likely to have `bytes_max` bytes together.
    fn records_to_ship(
        &self,
        origin: OriginId,
        from: CommitNumber,
        synced: CommitNumber,
        bytes_max: usize,
    ) -> Result<Gathering, ReadError> {
        let mut gathering = Gathering { ships: Vec::new(), sums: Vec::new(), bytes_max };
        let mut event_bytes: HashMap<PartitionId, u64> = HashMap::new();
        let (mut next, mut record_bytes, mut likely_bytes) = (from, 0, 0);
        self.meta_read(|meta| {
            walk_records(meta, origin, from, &mut |record, bytes| {
                if record.number != next || next > synced {
                    return ControlFlow::Break(());
                }
                next = next.next();
                record_bytes += bytes;
                for appended in &record.appended {
                    let id = appended.partition;
                    let each = event_bytes.entry(id).or_insert_with(|| self.event_bytes(id));
                    likely_bytes += (appended.count.saturating_mul(*each) >> EVENT_BYTES_SHIFT) as usize;
                }
                gathering.sums.push(record_bytes);
                gathering.ships.push(Ship { record, batches: Vec::new() });
                let more = record_bytes + likely_bytes < bytes_max && gathering.ships.len() < COMMITS_AT_ONCE_MAX;
                if more { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
        })?;
        Ok(gathering)
    }

    /// Stored bytes of one event of a partition, on average, in parts of 1/256.
    fn event_bytes(&self, id: PartitionId) -> u64 {
        self.partition(id).map_or(0, |partition| {
            let extent = partition.extent();
            (extent.bytes << EVENT_BYTES_SHIFT) / (extent.end - extent.start).max(1)
        })
    }
}

const EVENT_BYTES_SHIFT: u32 = 8;

impl Gathering {
    /// Adds one partition's batches. Where they are too many, the commits from there on are left out.
    fn take(&mut self, view: &View<'_>, runs: &[Run]) -> Result<(), ReadError> {
        let left = self.ships.len();
        let runs = &runs[..runs.iter().position(|run| run.commit >= left).unwrap_or(runs.len())];
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else {
            return Ok(());
        };
        let mut at = first.base.max(view.start);
        let (mut run, mut bytes, mut limit, mut whole) = (0, 0, left, true);
        let mut added = vec![0; left];
        let (from, to) = (keys::batch(at), keys::batch(last.end));
        walk(view.tree(), Span::between(&from, &to), Direction::Forward, &mut |base, found| {
            while runs.get(run).is_some_and(|run| run.end <= base) {
                run += 1;
            }
            let Some(Run { commit, place, .. }) = runs.get(run) else {
                return ControlFlow::Break(());
            };
            bytes += found.len();
            if *commit > 0 && self.sums[*commit] + bytes > self.bytes_max {
                limit = *commit;
                return ControlFlow::Break(());
            }
            let batch = if base == at { view.decode(base, found).ok() } else { None };
            let Some(batch) = batch else {
                whole = false;
                return ControlFlow::Break(());
            };
            added[*commit] += batch.bytes().len();
            at = batch.next_offset();
            self.ships[*commit].batches.push((*place, batch));
            ControlFlow::Continue(())
        })?;
        self.cut(limit);
        self.add(&added);
        if !whole || (limit == left && at < last.end) {
            return Err(view.damaged(at, "events are missing"));
        }
        Ok(())
    }

    /// Counts what one partition added to each commit, and leaves out the commits that it made too many.
    fn add(&mut self, added: &[usize]) {
        let mut sum = 0;
        for (total, added) in self.sums.iter_mut().zip(added) {
            sum += added;
            *total += sum;
        }
        let fits = self.sums.iter().skip(1).take_while(|sum| **sum <= self.bytes_max).count();
        self.cut(1 + fits);
    }

    fn cut(&mut self, commits: usize) {
        self.ships.truncate(commits);
        self.sums.truncate(commits);
    }

    /// Leaves out the commits from the one on that appended `offset`; false where that is the first, or none.
    fn cut_before(&mut self, runs: &[Run], offset: Offset) -> bool {
        let commit = runs.iter().find(|run| offset < run.end).map_or(0, |run| run.commit);
        if commit > 0 {
            self.cut(commit);
        }
        commit > 0
    }
}

impl Ship {
    fn whole(mut self, origin: OriginId) -> FollowedCommit {
        self.batches.sort_by_key(|(place, _)| *place);
        let batches = self.batches.into_iter().map(|(_, batch)| batch).collect();
        FollowedCommit { origin, record: self.record, batches }
    }
}
