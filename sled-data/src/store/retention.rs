//! Trimming: whole batches leave from the front of a partition, a bounded number a pass.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::ControlFlow;

use super::linked::{HOLES_MAX, HoleWhy};
use super::partition::{Partition, remove_in_steps};
use super::read::{ReadError, View};
use super::values::write;
use super::walk::walk;
use super::{Store, keys, space};
use crate::backend::{BackendError, Direction, Group, Span};
use crate::batch::StoredBatch;
use crate::ids::{Offset, OriginId, PartitionId, TopicId, hlc_ms};

/// Emptied partitions of own earlier lives that stay because somebody has not come to their end: he is told there what has gone. Of more, some go untold.
pub const SPENT_WAITING_MAX: usize = 1_024;

/// Stored bytes that one pass removes, and the batch that passes it: they go through memory.
const TRIM_BYTES_MAX: u64 = 64 << 20;

/// What trimming removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Trimmed {
    /// Number of batches.
    pub batches: u64,
    /// Their stored bytes.
    pub bytes: u64,
    /// The offsets that went: partition, from, to.
    pub ranges: Vec<(PartitionId, Offset, Offset)>,
    /// Partitions that go on behind what was still to come, as that would have gone as well.
    pub closed: Vec<PartitionId>,
    /// Emptied partitions of own earlier lives that are here no more, nor the cursors in them.
    pub dropped: Vec<PartitionId>,
    /// Whether the pass ended at its bound and there may be more to remove.
    pub more: bool,
}

/// What retention waits for, and for how long.
pub struct Wait<'a> {
    /// Up to where nobody needs a partition any more.
    pub floor: &'a dyn Fn(PartitionId) -> Offset,
    /// Bytes by which one partition may have more than its topic keeps, before the floor counts no more.
    pub bytes_max: u64,
    /// Milliseconds by which a batch may be older than its topic keeps it, before the floor counts no more.
    pub ms_max: u64,
    /// Lives that this store has written though it follows them now: what the present one has counts in what is kept of them.
    pub own: &'a [OriginId],
    /// How long events are kept of a topic whose record is not here, in milliseconds, and how many bytes a partition of it.
    pub unknown: (Option<u64>, Option<u64>),
}

impl<'a> Wait<'a> {
    /// Waits for as long as it takes.
    pub fn for_ever(floor: &'a dyn Fn(PartitionId) -> Offset) -> Self {
        Self { floor, bytes_max: u64::MAX, ms_max: u64::MAX, own: &[], unknown: (None, None) }
    }
}

/// Until when batches leave a partition.
struct Rule {
    /// Only batches that end at or before this, unless they have been waited for too long.
    upto: Offset,
    /// Batches that were stored at or before this wait for nobody, Unix milliseconds.
    late_before_ms: Option<i64>,
    /// While more bytes than these are kept nobody is waited for.
    late_bytes_max: Option<u64>,
    /// Batches that were stored at or before this, Unix milliseconds.
    stored_before_ms: Option<i64>,
    /// Batches while more bytes than these are kept.
    bytes_max: Option<u64>,
    /// Bytes that newer lives of the same node have kept of the same topic and number.
    newer_bytes: u64,
    batches_max: u64,
    /// Stored bytes after which no more batches leave: reading them takes memory.
    trimmed_bytes_max: u64,
}

impl Rule {
    /// Whether a batch may leave while the partition keeps `kept_bytes`, it included. Without bounds of age and bytes all may. Damaged
    /// batches have no time and leave by bytes or with `upto`.
    fn lets_go(&self, stored_ms: Option<i64>, kept_bytes: u64) -> bool {
        let old = self.stored_before_ms.is_some_and(|bound| stored_ms.is_some_and(|ms| ms <= bound));
        let large = self.bytes_max.is_some_and(|max| kept_bytes > max);
        old || large || (self.stored_before_ms.is_none() && self.bytes_max.is_none())
    }

    /// Whether a batch that may leave has waited for too long.
    fn is_late(&self, stored_ms: Option<i64>, kept_bytes: u64) -> bool {
        let old = self.late_before_ms.is_some_and(|bound| stored_ms.is_some_and(|ms| ms <= bound));
        old || self.late_bytes_max.is_some_and(|max| kept_bytes > max)
    }
}

/// What became of a partition that may hold nothing any more.
enum Spent {
    /// It is needed, or gone.
    No,
    /// It holds nothing, and somebody is yet to hear of it.
    Waits,
    Dropped,
}

/// The batches that may leave.
#[derive(Default)]
struct Front {
    batches: u64,
    bytes: u64,
    /// The offset after them.
    next: Offset,
    more: bool,
}

impl Store {
    /// Removes batches that end at or before `upto`, at most `batches_max`. Durable with the next sync.
    ///
    /// # Errors
    /// [`ReadError::Failed`] when the store fails; a trim that was cut short is ended when the store is opened.
    pub fn trim(&self, id: PartitionId, upto: Offset, batches_max: u64) -> Result<Trimmed, ReadError> {
        let (late_before_ms, late_bytes_max) = (None, None);
        let rule = Rule {
            upto,
            late_before_ms,
            late_bytes_max,
            stored_before_ms: None,
            bytes_max: None,
            newer_bytes: 0,
            batches_max,
            trimmed_bytes_max: TRIM_BYTES_MAX,
        };
        let mut trimmed = Trimmed::default();
        self.trim_by(id, &rule, &mut trimmed)?;
        Ok(trimmed)
    }

    /// Removes what each topic's retention lets go, at most `batches_max` batches in all, and nothing that does not end at or before
    /// the floor of its partition, unless that has been waited for too long. Age is judged by the hybrid clock of a batch's commit, so by when it was stored: events' own timestamps,
    /// which their sources may have wrong by decades, take nothing away and keep nothing. `now_ms` is Unix milliseconds. Emptied
    /// partitions of own earlier lives are dropped once their floor is at their end and all of this life's cursors in them are, or there are more
    /// than [`SPENT_WAITING_MAX`], and commit records of followed origins that have no event any more.
    ///
    /// # Errors
    /// As [`Store::trim`].
    pub fn apply_retention(&self, now_ms: i64, batches_max: u64, wait: &Wait<'_>) -> Result<Trimmed, ReadError> {
        self.check_trim()?;
        let mut trimmed = Trimmed::default();
        let newer = self.newer_bytes(wait.own);
        let (mut waiting, mut unread) = (0, None);
        for id in self.partitions() {
            let known = self.topics.read().get(&id.topic).map(|t| (t.config.retention_ms, t.config.retention_bytes));
            let (kept_ms, kept_bytes) = known.unwrap_or(wait.unknown);
            let age = kept_ms.map(|ms| now_ms.saturating_sub_unsigned(ms));
            if age.is_some() || kept_bytes.is_some() {
                let rule = Rule {
                    upto: (wait.floor)(id),
                    late_before_ms: age.map(|age| age.saturating_sub_unsigned(wait.ms_max)),
                    late_bytes_max: kept_bytes.map(|bytes| bytes.saturating_add(wait.bytes_max)),
                    stored_before_ms: age,
                    bytes_max: kept_bytes,
                    newer_bytes: newer.get(&id).copied().unwrap_or(0),
                    batches_max: batches_max - trimmed.batches.min(batches_max),
                    trimmed_bytes_max: TRIM_BYTES_MAX.saturating_sub(trimmed.bytes),
                };
                self.trim_by(id, &rule, &mut trimmed)?;
                self.close_if_old(id, &rule, now_ms, &mut trimmed)?;
                self.let_go_if_due()?;
            }
            if known.is_none() || !self.is_spent(id) {
                continue;
            }
            let is_needed = (wait.floor)(id) < self.end_offset(id) || self.is_unread(id, &mut unread)?;
            let is_waited_for = waiting < SPENT_WAITING_MAX && is_needed;
            match self.drop_if_spent(id, is_waited_for)? {
                Spent::No => {}
                Spent::Waits => waiting += 1,
                Spent::Dropped => trimmed.dropped.push(id),
            }
        }
        self.thin_records()?;
        Ok(trimmed)
    }

    /// What newer lives of the same node have kept, of each partition of which there are several lives' and whose topic is bounded in bytes: a node that is killed
    /// often keeps no more than one that is not. Of lives that links bring it is not known here whose they are. Reads the store.
    fn newer_bytes(&self, own: &[OriginId]) -> HashMap<PartitionId, u64> {
        let bounded: BTreeSet<TopicId> = {
            let topics = self.topics.read();
            topics.values().filter(|topic| topic.config.retention_bytes.is_some()).map(|topic| topic.id).collect()
        };
        let writers: BTreeMap<OriginId, u64> = self
            .followed()
            .into_iter()
            .filter(|(_, followed)| followed.node != 0)
            .map(|(of, f)| (of, f.node))
            .collect();
        // 0 is this node.
        let writer = |of: OriginId| match own.contains(&of) || !self.follows(of) && !self.is_linked(of) {
            true => Some(0),
            false => writers.get(&of).copied(),
        };
        let mut lives: BTreeMap<(TopicId, u32, u64), Vec<PartitionId>> = BTreeMap::new();
        for id in self.partitions().into_iter().filter(|id| bounded.contains(&id.topic)) {
            if let Some(node) = writer(id.origin) {
                lives.entry((id.topic, id.index, node)).or_default().push(id);
            }
        }
        let mut newer = HashMap::new();
        for ids in lives.into_values().filter(|ids| ids.len() > 1) {
            let age = |id: PartitionId| match id.origin == self.origin {
                true => u64::MAX,
                false => self.last_batch_hlc(id).unwrap_or(0),
            };
            let mut ids: Vec<(u64, PartitionId)> = ids.into_iter().map(|id| (age(id), id)).collect();
            ids.sort_unstable();
            let mut bytes = 0;
            for (_, id) in ids.into_iter().rev() {
                newer.insert(id, bytes);
                bytes += self.reach(id).bytes;
            }
        }
        newer
    }

    /// Whether there is room for what a trim writes.
    fn check_trim(&self) -> Result<(), ReadError> {
        match space::can_trim(&*self.backend, &self.options, || self.batch_bytes()) {
            true => Ok(()),
            false => Err(BackendError::Full.into()),
        }
    }

    fn trim_by(&self, id: PartitionId, rule: &Rule, trimmed: &mut Trimmed) -> Result<(), ReadError> {
        let _trimming = self.trimming.lock();
        let Some(partition) = self.partition(id) else {
            return Ok(());
        };
        // The extent first: what becomes one with it in between counts less, never twice.
        let bytes = partition.extent().bytes;
        let bytes = bytes + partition.ahead_bytes() + rule.newer_bytes;
        let Some((from, front)) = self.view(id, |view| Ok((view.start, front(&view, rule, bytes)?)))? else {
            return Ok(());
        };
        self.passed(usize::try_from(front.bytes).unwrap_or(usize::MAX));
        trimmed.more |= front.more;
        if front.batches == 0 {
            return Ok(());
        }
        self.check_trim()?;
        if !self.move_start(&partition, from, &front)? {
            return Ok(());
        }
        let after_step = || match space::is_tight(&*self.backend, &self.options) {
            true => self.backend.sync(),
            false => Ok(()),
        };
        remove_in_steps(partition.tree(), from, Some(front.next), &after_step).map_err(|e| self.fail(&e))?;
        trimmed.batches += front.batches;
        trimmed.bytes += front.bytes;
        trimmed.ranges.push((id, from, front.next));
        Ok(())
    }

    /// Gives up what is to come before the first part ahead, where what lies ahead may leave already: it would leave as soon as it came.
    fn close_if_old(&self, id: PartitionId, rule: &Rule, now_ms: i64, trimmed: &mut Trimmed) -> Result<(), ReadError> {
        let parts = self.parts_ahead(id);
        let bytes = parts.iter().map(|part| part.bytes).sum();
        let Some(ahead) = parts.first().filter(|_| bytes > 0) else { return Ok(()) };
        let stored_ms = self.first_from(id, ahead.from).map(|batch| hlc_ms(batch.envelope().hlc));
        let is_waited_for = rule.upto <= ahead.from && !rule.is_late(stored_ms, bytes);
        let may_go = rule.lets_go(stored_ms, bytes) && !is_waited_for;
        if may_go && self.close_ahead(id, HoleWhy::Retention, now_ms)? {
            trimmed.closed.push(id);
        }
        Ok(())
    }

    /// The first batch of a part ahead that begins at an offset, behind the holes that it may begin with; `None` where it cannot be read.
    fn first_from(&self, id: PartitionId, mut from: Offset) -> Option<StoredBatch> {
        for _ in 0..=HOLES_MAX {
            match self.read_newest(id, from, 1) {
                Err(ReadError::Trimmed { start, .. }) if start > from => from = start,
                read => return read.ok()?.into_iter().next(),
            }
        }
        None
    }

    /// First the new start is written, then batches go: opening ends what was cut short between. False where a gap that its origin told has
    /// moved the start from `from` meanwhile.
    fn move_start(&self, partition: &Partition, from: Offset, front: &Front) -> Result<bool, ReadError> {
        let _writer = self.writer.lock();
        // Closing may have come before.
        self.check()?;
        let mut extent = partition.extent();
        if extent.start != from {
            return Ok(false);
        }
        extent.start = front.next;
        extent.bytes = extent.bytes.saturating_sub(front.bytes);
        let key = keys::partition(partition.id);
        let mut value = Vec::new();
        write(&key, &extent, &mut value);
        self.meta.insert(&key, &value).map_err(|e| match e {
            // Nothing was written: it stays as it is.
            BackendError::Full => e.into(),
            e => ReadError::from(self.fail(&e)),
        })?;
        partition.set_extent(extent);
        Ok(true)
    }

    /// Whether a partition of an own earlier life holds nothing any more. Those of followed origins stay, as their ends are needed.
    fn is_spent(&self, id: PartitionId) -> bool {
        let is_empty = |partition: &Partition| partition.extent().start >= partition.extent().end;
        let is_another = || self.follows(id.origin) || self.is_linked(id.origin);
        id.origin != self.origin && self.partition(id).is_some_and(|partition| is_empty(&partition)) && !is_another()
    }

    /// Whether a reader of this life has a cursor in a partition, and not at its end: he is yet to be told what has gone. The cursors are read once
    /// a pass, into `known`.
    fn is_unread(&self, id: PartitionId, known: &mut Option<BTreeSet<PartitionId>>) -> Result<bool, ReadError> {
        let unread = match known {
            Some(unread) => unread,
            None => known.insert(self.cursors_before_ends()?),
        };
        Ok(unread.contains(&id))
    }

    /// Drops an empty partition of an own earlier life, with the cursors in it, unless it is waited for: who has not come to its end is told there what has
    /// gone.
    fn drop_if_spent(&self, id: PartitionId, is_waited_for: bool) -> Result<Spent, ReadError> {
        let _trimming = self.trimming.lock();
        let Some(partition) = self.partition(id) else {
            return Ok(Spent::No);
        };
        if !self.is_spent(id) {
            return Ok(Spent::No);
        }
        if is_waited_for {
            return Ok(Spent::Waits);
        }
        let _writer = self.writer.lock();
        // Closing may have come before.
        self.check()?;
        let mut group = Group::new();
        group.remove(&keys::partition(id));
        let removed = self.remove_cursors(|at| at == id, &mut group).and_then(|()| self.remove_gaps(id, &mut group));
        let done = removed.and_then(|()| self.meta.apply(&group));
        done.map_err(|e| self.fail(&e))?;
        self.partitions.write().remove(&id);
        partition.close();
        self.backend.drop_tree(&keys::partition_tree(id)).map_err(|e| self.fail(&e))?;
        Ok(Spent::Dropped)
    }
}

fn front(view: &View<'_>, rule: &Rule, partition_bytes: u64) -> Result<Front, ReadError> {
    let mut front = Front { next: view.start, ..Front::default() };
    // Bytes of a batch that may leave once it is known where it ends, and whether it waits for nobody.
    let mut waiting: Option<(u64, bool)> = None;
    let mut stopped = false;
    walk(view.tree(), Span::from(&keys::batch(view.start)), Direction::Forward, &mut |base, bytes| {
        if base >= view.end {
            // It lies ahead, or has come meanwhile: the last one before it ends at the end.
            return ControlFlow::Break(());
        }
        stopped = !front.take(&mut waiting, base, rule);
        if !stopped && (front.batches >= rule.batches_max || front.bytes >= rule.trimmed_bytes_max) {
            front.more = true;
            stopped = true;
        }
        if stopped {
            return ControlFlow::Break(());
        }
        let len = bytes.len() as u64;
        let stored_ms = StoredBatch::decode(bytes).ok().map(|batch| hlc_ms(batch.envelope().hlc));
        let kept_bytes = partition_bytes.saturating_sub(front.bytes);
        if rule.lets_go(stored_ms, kept_bytes) {
            waiting = Some((len, rule.is_late(stored_ms, kept_bytes)));
            return ControlFlow::Continue(());
        }
        stopped = true;
        ControlFlow::Break(())
    })?;
    if !stopped {
        front.take(&mut waiting, view.end, rule);
    }
    Ok(front)
}

impl Front {
    /// Adds the waiting batch, which ends at `next`; false when it has to stay.
    fn take(&mut self, waiting: &mut Option<(u64, bool)>, next: Offset, rule: &Rule) -> bool {
        let Some((bytes, is_late)) = waiting.take() else {
            return true;
        };
        if next > rule.upto && !is_late {
            return false;
        }
        self.batches += 1;
        self.bytes += bytes;
        self.next = next;
        true
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::MemoryBackend;
    use crate::store::Options;

    #[test]
    fn a_pass_that_waited_while_the_store_was_closed_writes_nothing() {
        let (store, _) = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap();
        let id = PartitionId { origin: OriginId(store.origin().0 ^ 1), topic: TopicId(2), index: 0 };
        let partition = store.make_partition(id).unwrap();
        store.close().unwrap();
        let front = Front { next: 1, ..Front::default() };
        assert!(store.move_start(&partition, 0, &front).is_err());
        assert!(store.drop_if_spent(id, false).is_err());
        assert!(store.partition(id).is_some_and(|partition| partition.extent().start == 0));
    }
}
