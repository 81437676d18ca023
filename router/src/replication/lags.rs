//! How far those who follow an origin from here are behind, partition by partition: counted from the records of the commits that they lack.

use std::collections::BTreeMap;
use std::ops::Range;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{CommitNumber, CommitRecord, Offset, OriginId, PartitionId, ReadError, Store, hlc_ms};

use crate::event_log::EventLog;
use crate::transport::NodeId;

/// What was counted is remembered where it took so long, and goes on from there.
const WORTH_KEEPING: Duration = Duration::from_millis(5);
/// Of one that moves on, it is counted anew after so many times of what it took: those who look often cost no more than that.
const RESTS: u32 = 50;
/// Followers of which it is remembered.
const KEPT_MAX: usize = 64;

/// How far one is behind with a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartitionLag {
    /// The partition.
    pub partition: PartitionId,
    /// The first event that it has not synced.
    pub next: Offset,
    /// Events that it has not synced, of those that are kept here.
    pub events: u64,
    /// Their bytes as they are stored, about.
    pub bytes: u64,
    /// Since the first of them was written, in milliseconds.
    pub ms: u64,
}

/// How far one is behind with an origin.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lag {
    /// Commits that it has not synced.
    pub commits: u64,
    /// Events in them, of those that are kept here.
    pub events: u64,
    /// Their bytes as they are stored, about.
    pub bytes: u64,
    /// Since the first of these commits was written, in milliseconds.
    pub ms: u64,
    /// Whether it may lack more: records of commits that it lacks are gone here, and it will be sent a copy.
    pub is_at_least: bool,
    /// The partitions that it lacks something of.
    pub partitions: Vec<PartitionLag>,
}

/// Where that begins which one lacks of a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct First {
    offset: Offset,
    hlc: u64,
}

/// What one lacks that has all commits up to `has`, as far as records were looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Lacks {
    has: CommitNumber,
    /// The next record to look at.
    next: CommitNumber,
    is_at_least: bool,
    /// The clock of the first commit that it lacks, of those whose records are here.
    since: Option<u64>,
    first: BTreeMap<PartitionId, First>,
}

/// What is said of an origin's partitions, by who keeps them.
struct Kept<'a> {
    synced: CommitNumber,
    now_ms: i64,
    /// What is kept of a partition, up to where it is synced.
    extent: &'a dyn Fn(PartitionId) -> Range<Offset>,
    /// Stored bytes of so many events of it, about.
    bytes: &'a dyn Fn(PartitionId, u64) -> u64,
}

impl Lacks {
    fn after(has: CommitNumber) -> Self {
        Self { has, next: has.next(), is_at_least: false, since: None, first: BTreeMap::new() }
    }

    fn take(&mut self, record: &CommitRecord) {
        self.next = record.number.next();
        self.since.get_or_insert(record.hlc);
        for appended in &record.appended {
            let first = First { offset: appended.base_offset, hlc: record.hlc };
            self.first.entry(appended.partition).or_insert(first);
        }
    }

    /// Looks at the records that have come.
    fn look(&mut self, store: &Store, origin: OriginId) -> Result<(), ReadError> {
        let from = self.next;
        let next = store.each_commit_of(origin, from, &mut |record| self.take(record))?;
        let first_kept = store.first_kept_commit_of(origin);
        if next == from && first_kept > from {
            self.is_at_least = true;
            store.each_commit_of(origin, first_kept, &mut |record| self.take(record))?;
        }
        Ok(())
    }

    /// What that comes to (pure).
    fn lag(&self, kept: &Kept<'_>) -> Lag {
        let age = |hlc| u64::try_from(kept.now_ms.saturating_sub(hlc_ms(hlc))).unwrap_or(0);
        let of = |(id, first): (&PartitionId, &First)| {
            let Range { start, end } = (kept.extent)(*id);
            let events = end.saturating_sub(first.offset.max(start));
            let (partition, next) = (*id, first.offset);
            let bytes = (kept.bytes)(partition, events);
            (events > 0).then(|| PartitionLag { partition, next, events, bytes, ms: age(first.hlc) })
        };
        let partitions: Vec<PartitionLag> = self.first.iter().filter_map(of).collect();
        let commits = kept.synced.0.saturating_sub(self.has.0);
        Lag {
            commits,
            events: partitions.iter().map(|lag| lag.events).sum(),
            bytes: partitions.iter().map(|lag| lag.bytes).sum(),
            ms: self.since.filter(|_| commits > 0).map_or(0, age),
            is_at_least: self.is_at_least,
            partitions,
        }
    }
}

/// What is kept of partitions.
pub type Extents = BTreeMap<PartitionId, Range<Offset>>;

/// What was counted of one that is far behind.
struct Counted {
    lacks: Lacks,
    took: Duration,
    at: Duration,
}

impl Counted {
    /// Whether it goes on from there for one that has all commits up to `has`.
    fn holds(&self, has: CommitNumber, now: Duration) -> bool {
        self.lacks.has == has || self.lacks.has < has && now.saturating_sub(self.at) < self.took * RESTS
    }
}

/// What was counted of those that are far behind.
#[derive(Default)]
pub struct Lags {
    counted: Mutex<BTreeMap<(OriginId, NodeId), Counted>>,
}

impl Lags {
    /// How far a node is behind with an origin, own or followed, that has synced all commits up to `has`. `kept` was read before: all that
    /// partitions have then is in records. Reads records of the commits that it lacks: not for a task.
    pub fn of(&self, log: &EventLog, origin: OriginId, kept: &Extents, node: NodeId, has: CommitNumber) -> Lag {
        let (store, clock) = (log.store(), log.clock());
        let synced = store.synced_commit_of(origin);
        let mut counted = self.counted.lock();
        let before = counted.remove(&(origin, node));
        if has >= synced {
            return Lag::default();
        }
        let began = clock.monotonic();
        let before = before.filter(|before| before.holds(has, began));
        let mut count = before.unwrap_or_else(|| Counted { lacks: Lacks::after(has), took: Duration::ZERO, at: began });
        if let Err(error) = count.lacks.look(store, origin) {
            tracing::warn!(%error, %origin, "how far others are behind is not known: a commit's record cannot be read");
            count.lacks.is_at_least = true;
        }
        let lag = count.lacks.lag(&Kept {
            synced,
            now_ms: clock.newest_ms(),
            extent: &|id| kept.get(&id).cloned().unwrap_or_default(),
            bytes: &|id, events| store.bytes_of(id, events),
        });
        count.took = count.took.max(clock.monotonic().saturating_sub(began));
        if count.took >= WORTH_KEEPING && counted.len() < KEPT_MAX {
            counted.insert((origin, node), count);
        }
        lag
    }
}

/// What is kept of these partitions of an origin, up to where they are synced here. Reads records of commits that are not synced: not for a
/// task.
pub fn extents(log: &EventLog, origin: OriginId, partitions: &[PartitionId]) -> Extents {
    let store = log.store();
    let extent = |id: &PartitionId| (*id, log.start_offset(*id)..store.end_offset(*id));
    let mut ends: Extents = partitions.iter().map(extent).collect();
    let mut cut = |record: &CommitRecord| {
        for appended in &record.appended {
            if let Some(extent) = ends.get_mut(&appended.partition) {
                extent.end = extent.end.min(appended.base_offset);
            }
        }
    };
    if let Err(error) = store.each_commit_of(origin, store.synced_commit_of(origin).next(), &mut cut) {
        tracing::warn!(%error, %origin, "up to where partitions are synced is not known: a commit's record cannot be read");
    }
    ends
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use sled_data::{Appended, HLC_LOGICAL_BITS, TopicId};

    fn id(index: u32) -> PartitionId {
        PartitionId { origin: OriginId(1), topic: TopicId(1), index }
    }

    /// A commit that was written at this second, and appended so many events at these offsets of partitions.
    fn record(number: u64, second: u64, appended: &[(u32, u64, u64)]) -> CommitRecord {
        let one = |(index, base_offset, count): &(u32, u64, u64)| Appended {
            partition: id(*index),
            base_offset: *base_offset,
            count: *count,
            digest: 0,
        };
        CommitRecord {
            number: CommitNumber(number),
            hlc: (second * 1_000) << HLC_LOGICAL_BITS,
            appended: appended.iter().map(one).collect(),
            cursors: Vec::new(),
            state: Vec::new(),
        }
    }

    #[test]
    fn what_is_lacked_begins_with_the_first_commit_that_appended_to_a_partition() {
        // Two partitions of which one is lacked from its fifth event on and the other from its first; a third that went.
        let records = [
            record(4, 10, &[]),
            record(5, 12, &[(0, 5, 2), (2, 0, 3)]),
            record(6, 13, &[(0, 7, 1), (1, 0, 40)]),
            record(7, 15, &[(0, 8, 1)]),
        ];
        let mut lacks = Lacks::after(CommitNumber(3));
        records.iter().for_each(|record| lacks.take(record));
        let extents = [0..9, 20..40, 3..3];
        let lag = lacks.lag(&Kept {
            synced: CommitNumber(7),
            now_ms: 20_000,
            extent: &|id| extents[id.index as usize].clone(),
            bytes: &|_, events| events * 100,
        });
        let of = |index, next, events, ms| PartitionLag { partition: id(index), next, events, bytes: events * 100, ms };
        assert_eq!(
            lag,
            Lag {
                commits: 4,
                events: 24,
                bytes: 2_400,
                ms: 10_000,
                is_at_least: false,
                partitions: vec![of(0, 5, 4, 8_000), of(1, 0, 20, 7_000)],
            }
        );
    }

    #[test]
    fn what_is_not_synced_here_is_lacked_by_nobody() {
        let mut lacks = Lacks::after(CommitNumber(3));
        lacks.take(&record(4, 12, &[(0, 5, 2)]));
        let kept = Kept { synced: CommitNumber(3), now_ms: 20_000, extent: &|_| 0..5, bytes: &|_, events| events };
        assert_eq!(lacks.lag(&kept), Lag::default());
    }

    #[test]
    fn what_took_long_goes_on_from_there_for_a_while() {
        let millis = Duration::from_millis;
        for (has, took, at, now, holds) in [
            (7, 0, 100, 10_000, true),
            (8, 20, 100, 1_099, true),
            (8, 20, 100, 1_100, false),
            (8, 0, 100, 100, false),
            // It was set back: what it had is lacked again.
            (6, 20, 100, 101, false),
        ] {
            let counted = Counted { lacks: Lacks::after(CommitNumber(7)), took: millis(took), at: millis(at) };
            assert_eq!(counted.holds(CommitNumber(has), millis(now)), holds, "{has} {took} {at} {now}");
        }
    }

    #[test]
    fn it_is_counted_from_the_store_and_goes_on_where_it_stood() {
        use super::super::stream_tests::{append_blocking, log};
        let log = log(3);
        let config = sled_data::TopicConfig { partitions: 2, ..Default::default() };
        let topic = log.create_topic("line", config).unwrap();
        let own = log.origin();
        let first = log.store().synced_commit();
        for _ in 0..3 {
            append_blocking(&log, &topic, 1, "v");
        }
        let lags = Lags::default();
        let counted = |has| {
            let lag = lags.of(&log, own, &extents(&log, own, &log.store().partitions()), NodeId(9), has);
            let shown = |lag: &PartitionLag| (lag.partition.index, lag.next, lag.events);
            (lag.commits, lag.partitions.iter().map(shown).collect::<Vec<_>>())
        };
        assert_eq!(counted(first), (3, vec![(1, 0, 3)]));
        // As it is of one that took long.
        let lacks = Lacks::after(first);
        let (took, at) = (Duration::from_secs(60), log.clock().monotonic());
        lags.counted.lock().insert((own, NodeId(9)), Counted { lacks, took, at });
        append_blocking(&log, &topic, 0, "v");
        assert_eq!(counted(first), (4, vec![(0, 0, 1), (1, 0, 3)]));
        assert_eq!(lags.counted.lock().len(), 1, "it is remembered");
        assert_eq!(counted(log.store().synced_commit()), (0, vec![]), "it has all");
        assert!(lags.counted.lock().is_empty());
        let bytes = log.store().bytes_of(PartitionId { origin: own, topic: topic.id(), index: 1 }, 3);
        assert!(bytes > 3, "events have bytes: {bytes}");
        log.close();
    }
}
