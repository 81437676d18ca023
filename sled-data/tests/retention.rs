//! Retention: bounded, from the front, never past the floor, and whole after a power cut.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{Times, append, on_both, partition, seal, seal_at, values};
use sled_data::{
    Backend, Commit, CommitNumber, Compression, CursorMove, Faults, HLC_LOGICAL_BITS, MemoryBackend, Options,
    PartitionId, ReadError, Store, TopicConfig, Wait,
};
use std::sync::Arc;

const BATCH_EVENTS: u64 = 5;

/// 1970, before and after; now; 2100: what devices' clocks may say.
const CLOCKS_MS: [i64; 4] = [-1_000, 5_000, 1_800_000_000_000, 4_102_444_800_000];

/// A store whose one partition has `batches` batches of five events; each was stored at its last offset x 10 + 1000 ms.
fn filled(store: &Store, config: TopicConfig, batches: u64) -> PartitionId {
    let topic = store.create_topic("t", config).unwrap();
    let p = partition(store, &topic, 0);
    for n in 0..batches {
        let stored_ms = 1_000 + (n * BATCH_EVENTS + BATCH_EVENTS - 1) * 10;
        let first_ms = CLOCKS_MS[n as usize % CLOCKS_MS.len()];
        let times = Times { hlc: stored_ms << HLC_LOGICAL_BITS, first_ms };
        let values = [b"value".as_slice(); BATCH_EVENTS as usize];
        store.commit(&append(seal_at(p, n * BATCH_EVENTS, &values, times, Compression::Lz4))).unwrap();
    }
    store.sync().unwrap();
    p
}

#[test]
fn trimming_takes_whole_batches_up_to_the_offset_and_the_bound() {
    on_both(|open| {
        let store = open(Options::default());
        let p = filled(&store, TopicConfig::default(), 20);
        for (upto, batches_max, start, more) in
            [(4, 9, 0, false), (12, 9, 10, false), (100, 3, 25, true), (52, 9, 50, false)]
        {
            let trimmed = store.trim(p, upto, batches_max).unwrap();
            assert_eq!((store.start_offset(p), trimmed.more), (start, more), "upto {upto}");
            assert!(matches!(store.read(p, start.wrapping_sub(1), 1), Err(ReadError::Trimmed { .. })) || start == 0);
            assert_eq!(values(&store, p, start).len() as u64, 100 - start);
            assert_eq!(store.offset_at_time(p, i64::MIN).unwrap(), start);
        }
        assert_eq!(store.latest_by_key(p, b"key-0", 50).unwrap(), None);
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        store.trim(p, 100, 100).unwrap();
        assert_eq!((store.start_offset(p), store.end_offset(p), store.batch_bytes()), (100, 100, 0));
        store.commit(&append(seal(p, 100, &[b"x"]))).unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!(values(&store, p, 100), [(100, b"x".to_vec())]);
    });
}

#[test]
fn age_and_bytes_let_go_what_no_floor_holds() {
    for (retention_ms, retention_bytes, floor, start) in [
        (Some(100), None, u64::MAX, 50),
        (Some(100), None, 23, 20),
        (Some(u64::MAX), None, u64::MAX, 0),
        (None, Some(0), u64::MAX, 100),
        (None, Some(0), 99, 95),
        (None, Some(u64::MAX), u64::MAX, 0),
        (Some(u64::MAX), Some(0), u64::MAX, 100),
        (None, None, u64::MAX, 0),
    ] {
        on_both(|open| {
            let store = open(Options::default());
            let config = TopicConfig { retention_ms, retention_bytes, ..TopicConfig::default() };
            let p = filled(&store, config, 20);
            // Events before offset 50 were stored 100 ms before 1590, whatever their own clocks say.
            let trimmed = store.apply_retention(1_590, 100, &Wait::for_ever(&|_| floor)).unwrap();
            assert_eq!(store.start_offset(p), start, "{retention_ms:?} {retention_bytes:?} {floor}");
            assert_eq!(trimmed.batches, start / BATCH_EVENTS);
            assert!(!trimmed.more);
        });
    }
}

#[test]
fn a_floor_is_waited_for_up_to_the_bounds() {
    // What the topic keeps, how much longer and how much more the floor 23 is waited for, and where the partition begins then.
    for (retention_ms, retention_bytes, ms_max, batches_max, start) in [
        (Some(100), None, u64::MAX, 0, 20),
        (Some(100), None, 10_000, 0, 20),
        // Events before offset 45 are 50 ms older than the topic keeps them.
        (Some(100), None, 50, u64::MAX, 45),
        (Some(100), None, 0, u64::MAX, 50),
        (None, Some(0), 0, u64::MAX, 20),
        (None, Some(0), 0, 20, 20),
        (None, Some(0), 0, 4, 80),
        (None, Some(0), u64::MAX, 0, 100),
    ] {
        on_both(|open| {
            let store = open(Options::default());
            let config = TopicConfig { retention_ms, retention_bytes, ..TopicConfig::default() };
            let p = filled(&store, config, 20);
            let bytes_max = (store.batch_bytes() / 20).saturating_mul(batches_max);
            let wait = Wait { bytes_max, ms_max, ..Wait::for_ever(&|_| 23) };
            let trimmed = store.apply_retention(1_590, 100, &wait).unwrap();
            assert_eq!(store.start_offset(p), start, "{retention_ms:?} {retention_bytes:?} {ms_max} {batches_max}");
            assert_eq!(trimmed.ranges, [(p, 0, start)]);
        });
    }
}

#[test]
fn a_device_whose_clock_lies_loses_nothing_and_keeps_nothing() {
    let day_ms = 24 * 3_600 * 1_000;
    let now_ms = 1_800_000_000_000;
    for first_ms in CLOCKS_MS {
        on_both(|open| {
            let store = open(Options::default());
            let config = TopicConfig { retention_ms: Some(7 * day_ms as u64), ..TopicConfig::default() };
            let topic = store.create_topic("t", config).unwrap();
            let p = partition(&store, &topic, 0);
            let times = Times { hlc: (now_ms as u64) << HLC_LOGICAL_BITS, first_ms };
            store.commit(&append(seal_at(p, 0, &[b"reading"], times, Compression::Lz4))).unwrap();
            store.commit(&append(seal_at(p, 1, &[b"reading"], times, Compression::Lz4))).unwrap();
            for (days, start) in [(0, 0), (6, 0), (8, 2)] {
                store.apply_retention(now_ms + days * day_ms, 100, &Wait::for_ever(&|_| u64::MAX)).unwrap();
                assert_eq!(store.start_offset(p), start, "of {first_ms}, after {days} days");
            }
        });
    }
}

#[test]
fn one_pass_removes_no_more_than_its_bound() {
    on_both(|open| {
        let store = open(Options::default());
        let config = TopicConfig { retention_bytes: Some(0), ..TopicConfig::default() };
        let p = filled(&store, config, 10);
        let mut passes = 0;
        while store.apply_retention(0, 3, &Wait::for_ever(&|_| u64::MAX)).unwrap().more {
            passes += 1;
            assert!(store.start_offset(p) <= passes * 3 * BATCH_EVENTS);
        }
        assert_eq!((passes, store.start_offset(p)), (3, 50));
    });
}

#[test]
fn a_trim_that_a_power_cut_interrupts_is_ended_by_opening() {
    for keep in 0..30 {
        let memory = MemoryBackend::new();
        let store = Store::on(Arc::new(memory.clone()), Options::default()).unwrap().0;
        let p = filled(&store, TopicConfig::default(), 20);
        store.trim(p, 60, 100).unwrap();
        let all = memory.unsynced_writes();
        memory.power_cut(keep);
        drop(store);
        let (store, found) = Store::on(Arc::new(memory.clone()), Options::default()).unwrap();
        let start = if keep == 0 { 0 } else { 60 };
        assert_eq!(store.start_offset(p), start, "kept {keep} of {all}");
        assert_eq!(found.cut.is_empty(), keep == 0 || keep >= all, "kept {keep} of {all}");
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        assert_eq!(values(&store, p, start).len() as u64, 100 - start);
    }
}

#[test]
fn commit_records_are_kept_up_to_their_bounds() {
    for options in [
        Options { commit_records_max: 10, ..Options::default() },
        Options { commit_record_bytes_max: 1_000, ..Options::default() },
    ] {
        on_both(|open| {
            let store = open(options.clone());
            let p = filled(&store, TopicConfig::default(), 50);
            let check = |store: &Store| {
                let first = store.first_kept_commit();
                assert!(first.0 > 20, "{first}");
                assert!(
                    matches!(store.commits(CommitNumber(1), 9), Err(ReadError::CommitsTrimmed { first: f }) if f == first)
                );
                let kept = store.commits(first, 100).unwrap();
                assert_eq!(kept.iter().map(|c| c.number.0).collect::<Vec<_>>(), (first.0..=50).collect::<Vec<_>>());
                let last = kept.last().unwrap();
                assert_eq!((last.appended[0].base_offset, last.appended[0].digest), (245, store.digest(p)));
                assert_eq!(store.commits(first.next(), 2).unwrap().len(), 2);
            };
            check(&store);
            drop(store);
            check(&open(options.clone()));
        });
    }
}

#[test]
fn a_full_disk_can_be_trimmed_and_then_written_again() {
    let memory = MemoryBackend::new();
    let options = Options { batch_bytes_max: Some(3_000), ..Options::default() };
    let store = Store::on(Arc::new(memory.clone()), options).unwrap().0;
    let p = filled(&store, TopicConfig::default(), 5);
    while store.commit(&append(seal(p, store.end_offset(p), &[b"x"]))).is_ok() {}
    memory.set_faults(Faults { full_after_writes: Some(1), ..Faults::default() });
    store.trim(p, store.end_offset(p), 5).unwrap();
    memory.set_faults(Faults::default());
    store.commit(&append(seal(p, store.end_offset(p), &[b"x"]))).unwrap();
    assert!(memory.size_bytes() > 0 && store.failure().is_none());
}

/// sled writes on over what was removed when that is durable: what is removed without takes room instead of giving any.
#[test]
fn removing_much_takes_hardly_more_of_a_disk_that_has_no_more_than_its_reserve() {
    use std::os::unix::fs::MetadataExt;
    // Where many batches came at once their keys were written before them, and leaves lie otherwise.
    for (deletes, at_once) in [(false, 1), (true, 1), (false, 20), (true, 20)] {
        let folder = tempfile::tempdir().unwrap();
        let open = |reserve_bytes| {
            let options = Options { reserve_bytes, ..Options::default() };
            Store::open(folder.path(), options).unwrap().0
        };
        let store = open(0);
        let topic = store.create_topic("t", TopicConfig::default()).unwrap();
        let p = partition(&store, &topic, 0);
        let times = Times { hlc: 1, first_ms: 0 };
        let sealed = |offset| seal_at(p, offset, &[&[7; 60_000]], times, Compression::None);
        for from in (0..1_400).step_by(at_once) {
            let mut commit = append(sealed(from));
            commit.appends.extend((from + 1..from + at_once as u64).map(sealed));
            store.commit(&commit).unwrap();
            if from % 60 == 0 {
                store.sync().unwrap();
            }
        }
        store.close().unwrap();
        drop(store);
        let store = open(1 << 50);
        let mib = || (std::fs::metadata(folder.path().join("sled/db")).unwrap().blocks() * 512) >> 20;
        let before = mib();
        match deletes {
            true => store.delete_topic(topic.id).unwrap(),
            false => while store.trim(p, u64::MAX, u64::MAX).unwrap().more {},
        }
        store.sync().unwrap();
        assert!(store.batch_bytes() < 1_000_000);
        assert!(mib() <= before + 16, "{} MiB more, deleted: {deletes}, {at_once} at once", mib() - before);
    }
}

/// A store whose life before has left four batches in its one partition; that partition, and the present one.
fn after_a_life(open: &dyn Fn(Options) -> Store, config: TopicConfig) -> (Store, PartitionId, PartitionId) {
    let store = open(Options::default());
    let left = filled(&store, config, 4);
    store.end_life("as after a kill").unwrap();
    drop(store);
    let store = open(Options::default());
    let present = PartitionId { origin: store.origin(), ..left };
    (store, left, present)
}

fn moved(reader: &str, partition: PartitionId, next: u64) -> CursorMove {
    CursorMove { reader: reader.into(), partition, next }
}

#[test]
fn a_cursor_in_a_partition_that_retention_has_dropped_holds_up_no_commit() {
    on_both(|open| {
        let config = TopicConfig { retention_ms: Some(0), ..TopicConfig::default() };
        let (store, left, present) = after_a_life(open, config);
        store.commit(&Commit { cursors: vec![moved("r", left, 20)], ..Commit::default() }).unwrap();
        let trimmed = store.apply_retention(i64::MAX, 100, &Wait::for_ever(&|_| u64::MAX)).unwrap();
        assert_eq!((trimmed.batches, store.partitions().contains(&left)), (4, false));
        assert_eq!(store.cursor("r", left).unwrap(), None);
        let batch = seal(present, 0, &[b"x"]);
        let cursors = vec![moved("r", left, 20), moved("r", present, 1)];
        let number = store.commit(&Commit { hlc: 9, cursors, ..append(batch) }).unwrap();
        assert_eq!(values(&store, present, 0), [(0, b"x".to_vec())]);
        assert_eq!((store.cursor("r", left).unwrap(), store.cursor("r", present).unwrap()), (None, Some(1)));
        let record = store.commits(number, 1).unwrap().remove(0);
        assert_eq!(record.cursors, [moved("r", present, 1)]);
        // One of the present life may not pass what was never there.
        let ahead = Commit { cursors: vec![moved("r", PartitionId { index: 1, ..present }, 1)], ..Commit::default() };
        assert!(store.commit(&ahead).is_err());
    });
}

#[test]
fn an_emptied_partition_of_an_ended_life_stays_until_who_needs_it_knows() {
    on_both(|open| {
        let config = TopicConfig { retention_ms: Some(0), ..TopicConfig::default() };
        let (store, left, _) = after_a_life(open, config);
        for (floor, stays) in [(5, true), (19, true), (20, false)] {
            let floor_of = |_| floor;
            let wait = Wait { ms_max: 0, ..Wait::for_ever(&floor_of) };
            store.apply_retention(i64::MAX, 100, &wait).unwrap();
            assert_eq!(store.partitions().contains(&left), stays, "{floor}");
            let read = store.read(left, 0, 1);
            let is_told = matches!(read, Err(ReadError::Trimmed { start: 20, .. }));
            assert_eq!(is_told, stays, "who reads it is told what is gone: {read:?}");
        }
    });
}

#[test]
fn an_emptied_partition_of_an_ended_life_stays_until_its_readers_were_told() {
    on_both(|open| {
        let config = TopicConfig { retention_ms: Some(0), ..TopicConfig::default() };
        let (store, left, present) = after_a_life(open, config);
        let moves = |cursors| store.commit(&Commit { hlc: 9, cursors, ..Commit::default() }).unwrap();
        moves(vec![moved("fast", left, 20), moved("slow", left, 5), moved("fast", present, 0)]);
        for (slow, stays) in [(5, true), (19, true), (20, false)] {
            moves(vec![moved("slow", left, slow)]);
            store.apply_retention(i64::MAX, 100, &Wait::for_ever(&|_| u64::MAX)).unwrap();
            assert_eq!(store.partitions().contains(&left), stays, "{slow}");
            assert_eq!(store.cursor("slow", left).unwrap(), stays.then_some(slow));
            let is_told = matches!(store.read(left, slow.min(19), 1), Err(ReadError::Trimmed { start: 20, .. }));
            assert_eq!(is_told, stays, "{slow}");
        }
    });
}

#[test]
fn what_newer_lives_have_counts_in_what_is_kept_of_older_ones() {
    on_both(|open| {
        let mut store = open(Options::default());
        let topic = store.create_topic("t", TopicConfig::default()).unwrap();
        let mut partitions = Vec::new();
        for life in 1..=3_u64 {
            let id = PartitionId { origin: store.origin(), topic: topic.id, index: 0 };
            for n in 0..6 {
                let times = Times { hlc: (life * 100 + n) << HLC_LOGICAL_BITS, first_ms: 0 };
                store.commit(&append(seal_at(id, n, &[b"value"], times, Compression::Lz4))).unwrap();
            }
            store.sync().unwrap();
            partitions.push(id);
            if life < 3 {
                store.end_life("as after a kill").unwrap();
                drop(store);
                store = open(Options::default());
            }
        }
        let batch = store.batch_bytes() / 18;
        let kept = |store: &Store| partitions.iter().map(|id| 6 - store.start_offset(*id)).collect::<Vec<_>>();
        for (batches, expected) in [(18, [6, 6, 6]), (15, [3, 6, 6]), (8, [0, 2, 6]), (4, [0, 0, 4])] {
            store.set_topic_retention(topic.id, None, Some(batch * batches)).unwrap();
            store.apply_retention(0, 100, &Wait::for_ever(&|_| u64::MAX)).unwrap();
            let gone = |id: &PartitionId| !store.partitions().contains(id);
            let found: Vec<u64> =
                kept(&store).into_iter().zip(&partitions).map(|(kept, id)| if gone(id) { 0 } else { kept }).collect();
            assert_eq!(found, expected, "room for {batches} batches");
            assert!(store.batch_bytes() <= batch * (batches + 1));
        }
    });
}
