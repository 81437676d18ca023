//! What the store promises, on sled and on memory alike.
#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::Arc;

use harness::{append, next, on_both, partition, seal, values};
use sled_data::{
    Backend, BackendError, Commit, CommitError, CommitNumber, Compression, CursorMove, Durability, Faults,
    MemoryBackend, OpenError, Options, PartitionId, ReadError, SledBackend, SledConfig, StateWrite, Store, TopicConfig,
    TopicError, Wait, WhyFull,
};

#[test]
fn what_is_committed_is_read_and_still_there_when_opened_again() {
    on_both(|open| {
        let store = open(Options::default());
        let topic = store.create_topic("telemetry", TopicConfig::default()).unwrap();
        let p = partition(&store, &topic, 1);
        assert_eq!(store.end_offset(p), 0);
        let mut commit = append(seal(p, 0, &[b"a", b"b"]));
        commit.appends.push(seal(p, 2, &[b"c"]));
        commit.cursors = vec![CursorMove { reader: "plugin".into(), partition: p, next: 2 }];
        commit.state = vec![StateWrite { tree: "plugin".into(), key: b"k".to_vec(), value: Some(b"v".to_vec()) }];
        assert_eq!(store.commit(&commit).unwrap(), CommitNumber(1));
        assert_eq!(store.sync().unwrap(), CommitNumber(1));
        let check = |store: &Store| {
            assert_eq!(values(store, p, 0), [(0, b"a".to_vec()), (1, b"b".to_vec()), (2, b"c".to_vec())]);
            assert_eq!(values(store, p, 2), [(2, b"c".to_vec())]);
            assert_eq!(store.end_offset(p), 3);
            assert_eq!(store.cursor("plugin", p).unwrap(), Some(2));
            assert_eq!(store.cursors("plugin").unwrap(), [(p, 2)]);
            assert_eq!(store.readers().unwrap(), ["plugin"]);
            assert_eq!(store.state_get("plugin", b"k").unwrap().as_deref(), Some(&b"v"[..]));
            let commits = store.commits(CommitNumber(1), 10).unwrap();
            assert_eq!(commits.len(), 1);
            assert_eq!((commits[0].appended[0].base_offset, commits[0].appended[0].count), (0, 3));
            assert_eq!((&commits[0].cursors, &commits[0].state), (&commit.cursors, &commit.state));
        };
        check(&store);
        store.close().unwrap();
        assert!(matches!(store.commit(&commit), Err(CommitError::Failed(_))));
        let origin = store.origin();
        drop(store);
        let store = open(Options::default());
        assert_eq!(store.origin(), origin);
        check(&store);
        assert_eq!(store.commit(&append(seal(p, 3, &[b"d"]))).unwrap(), CommitNumber(2));
        assert_eq!(store.alarm(), None);
    });
}

#[test]
fn commits_that_cannot_be_are_refused_and_leave_nothing() {
    on_both(|open| {
        let store = open(Options::default());
        let topic = store.create_topic("t", TopicConfig { partitions: 2, ..TopicConfig::default() }).unwrap();
        let p = partition(&store, &topic, 0);
        store.commit(&append(seal(p, 0, &[b"a"]))).unwrap();
        let refused = |commit: Commit| {
            let error = store.commit(&commit).unwrap_err();
            assert_eq!(store.end_offset(p), 1);
            assert_eq!(store.last_commit(), CommitNumber(1));
            error
        };
        assert!(matches!(refused(append(seal(p, 2, &[b"x"]))), CommitError::NotDense { end: 1, base_offset: 2, .. }));
        assert!(matches!(refused(append(seal(p, 0, &[b"x"]))), CommitError::NotDense { .. }));
        let mut twice = append(seal(p, 1, &[b"x"]));
        twice.appends.push(seal(p, 1, &[b"y"]));
        assert!(matches!(refused(twice), CommitError::NotDense { end: 2, .. }));
        let unknown = PartitionId { index: 2, ..p };
        assert_eq!(refused(append(seal(unknown, 0, &[b"x"]))), CommitError::UnknownPartition(unknown));
        let foreign = PartitionId { origin: sled_data::OriginId(1), ..p };
        assert_eq!(refused(append(seal(foreign, 0, &[b"x"]))), CommitError::UnknownPartition(foreign));
        let cursor = CursorMove { reader: "r".into(), partition: p, next: 2 };
        let past = Commit { cursors: vec![cursor.clone()], ..Commit::default() };
        assert!(matches!(refused(past), CommitError::CursorPastEnd { .. }));
        let bad = StateWrite { tree: "a\0b".into(), key: vec![], value: None };
        assert!(matches!(refused(Commit { state: vec![bad], ..Commit::default() }), CommitError::Bound(_)));
        let mut fine = append(seal(p, 1, &[b"b"]));
        fine.cursors.push(cursor);
        store.commit(&fine).unwrap();
    });
}

#[test]
fn a_large_event_is_stored_in_parts_that_nobody_sees() {
    on_both(|open| {
        let store = open(Options::default());
        let topic = store.create_topic("t", TopicConfig::default()).unwrap();
        let p = partition(&store, &topic, 0);
        let mut noise = 1_u64;
        let large: Vec<u8> = (0..3_000_000).map(|_| next(&mut noise) as u8).collect();
        store.commit(&append(seal(p, 0, &[b"before"]))).unwrap();
        store.commit(&append(seal(p, 1, &[&large]))).unwrap();
        store.commit(&append(seal(p, 2, &[b"after"]))).unwrap();
        store.sync().unwrap();
        assert_eq!(store.alarm(), None);
        for from in 0..3 {
            assert_eq!(values(&store, p, from).len(), 3 - from as usize);
        }
        assert_eq!(values(&store, p, 1)[0].1, large);
        assert_eq!(store.read(p, 1, 1).unwrap().len(), 1);
        let back: Vec<_> = store.read_back(p, 3, usize::MAX).unwrap().iter().map(|b| b.base_offset()).collect();
        assert_eq!(back, [2, 1, 0]);
        assert_eq!(store.read_back(p, 2, 1).unwrap()[0].base_offset(), 1);
    });
}

#[test]
fn events_are_found_by_time_and_by_key() {
    on_both(|open| {
        let store = open(Options::default());
        let topic = store.create_topic("t", TopicConfig::default()).unwrap();
        let p = partition(&store, &topic, 0);
        for base in (0..100).step_by(5) {
            store.commit(&append(seal(p, base, &[b"v".as_slice(); 5]))).unwrap();
        }
        for offset in 0..100_u64 {
            let ms = 1_000 + offset as i64 * 10;
            assert_eq!(store.offset_at_time(p, ms).unwrap(), offset);
            assert_eq!(store.offset_at_time(p, ms - 9).unwrap(), offset);
            let newest = |before| store.latest_by_key(p, format!("key-{}", offset % 3).as_bytes(), before).unwrap();
            assert_eq!(newest(offset + 1).unwrap().0, offset);
            assert_eq!(newest(offset).map(|found| found.0), offset.checked_sub(3));
        }
        assert_eq!(store.offset_at_time(p, i64::MAX).unwrap(), 100);
        assert_eq!(store.offset_at_time(p, i64::MIN).unwrap(), 0);
        assert!(store.latest_by_key(p, b"other", u64::MAX).unwrap().is_none());
    });
}

#[test]
fn a_full_store_refuses_and_recovers() {
    let memory = MemoryBackend::new();
    let options = Options { reserve_bytes: 1_000, batch_bytes_max: Some(20_000), ..Options::default() };
    let store = Store::on(Arc::new(memory.clone()), options).unwrap().0;
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let p = partition(&store, &topic, 0);
    store.commit(&append(seal(p, 0, &[b"a"]))).unwrap();
    for faults in [
        Faults { free_bytes: Some(100), ..Faults::default() },
        Faults { full_after_writes: Some(0), ..Faults::default() },
        Faults { full_after_writes: Some(1), ..Faults::default() },
    ] {
        memory.set_faults(faults.clone());
        let mut refused = 0;
        for _ in 0..20 {
            match store.commit(&append(seal(p, store.end_offset(p), &[b"b"]))) {
                Err(CommitError::Full) => refused += 1,
                Err(e) => panic!("{e} under {faults:?}"),
                Ok(_) => assert_eq!(refused, 0, "once full, always full: {faults:?}"),
            }
        }
        assert!(refused > 0);
        memory.set_faults(Faults::default());
        let end = store.end_offset(p);
        store.commit(&append(seal(p, end, &[b"c"]))).unwrap();
        assert_eq!(values(&store, p, end), [(end, b"c".to_vec())]);
    }
    while store.commit(&append(seal(p, store.end_offset(p), &[b"d"]))).is_ok() {}
    assert!(store.batch_bytes() <= 20_000);
    assert!(matches!(store.why_full(), Some(WhyFull::Bound { stored, max: 20_000 }) if stored == store.batch_bytes()));
    assert!(store.failure().is_none());
}

#[test]
fn a_disk_that_others_fill_is_seen_by_the_next_commit() {
    let memory = MemoryBackend::new();
    let store = Store::on(Arc::new(memory.clone()), Options { reserve_bytes: 1_000, ..Options::default() }).unwrap().0;
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let p = partition(&store, &topic, 0);
    let free = |bytes| memory.set_faults(Faults { free_bytes: Some(bytes), ..Faults::default() });
    free(1_000_000);
    store.commit(&append(seal(p, 0, &[b"a"]))).unwrap();
    free(1_100);
    let state = vec![StateWrite { tree: "s".into(), key: vec![1], value: Some(vec![7; 200]) }];
    assert_eq!(store.commit(&Commit { state, ..Commit::default() }), Err(CommitError::Full), "state takes room too");
    assert_eq!(store.commit(&append(seal(p, 1, &[&[7; 200]]))), Err(CommitError::Full));
    assert_eq!(store.why_full(), Some(WhyFull::Disk { free: 1_100, reserve: 1_000 }));
    free(1_000_000);
    store.commit(&append(seal(p, 1, &[b"b"]))).unwrap();
    assert_eq!(store.why_full(), None);
}

#[test]
fn on_a_full_disk_no_topic_is_made_and_trims_go_on() {
    let memory = MemoryBackend::new();
    let options = Options { reserve_bytes: 64 << 20, ..Options::default() };
    let store = Store::on(Arc::new(memory.clone()), options).unwrap().0;
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let p = partition(&store, &topic, 0);
    for offset in 0..4 {
        store.commit(&append(seal(p, offset, &[b"a"]))).unwrap();
    }
    let free = |bytes| memory.set_faults(Faults { free_bytes: Some(bytes), ..Faults::default() });
    let make = |name: &str| store.create_topic(name, TopicConfig::default()).map(drop);
    // how much is free, whether a topic is made, whether an internal one is
    for (mib, name, is_made, is_internal_made) in
        [(60, "a", false, true), (17, "b", false, true), (15, "c", false, false), (65, "d", true, true)]
    {
        free(mib << 20);
        let of = |is_made| if is_made { Ok(()) } else { Err(TopicError::Full) };
        assert_eq!((make(name), make(&format!("_{name}"))), (of(is_made), of(is_internal_made)), "{mib} MiB");
    }
    let is_full = |trimmed| matches!(trimmed, Err(ReadError::Backend(BackendError::Full)));
    free(3 << 20);
    store.trim(p, 1, 1).unwrap();
    store.set_topic_retention(topic.id, Some(1), None).unwrap();
    // To the last byte, by others.
    free(1 << 20);
    assert!(is_full(store.trim(p, 2, 1)));
    assert!(is_full(store.apply_retention(i64::MAX, 1, &Wait::for_ever(&|_| 2))));
    // A disk that says so only when it is written to.
    memory.set_faults(Faults { full_after_writes: Some(0), ..Faults::default() });
    assert!(is_full(store.trim(p, 2, 1)));
    assert_eq!((store.failure(), store.start_offset(p)), (None, 1));
    memory.set_faults(Faults::default());
    store.trim(p, 2, 1).unwrap();
    assert_eq!(store.start_offset(p), 2);
}

#[test]
fn an_io_error_stops_the_store_until_it_is_opened_again() {
    for faults in [
        Faults { fail_after_writes: Some(0), ..Faults::default() },
        Faults { fail_after_writes: Some(1), ..Faults::default() },
        Faults { fail_after_syncs: Some(0), ..Faults::default() },
    ] {
        let memory = MemoryBackend::new();
        let store = Store::on(Arc::new(memory.clone()), Options::default()).unwrap().0;
        let topic = store.create_topic("t", TopicConfig::default()).unwrap();
        let p = partition(&store, &topic, 0);
        store.commit(&append(seal(p, 0, &[b"a"]))).unwrap();
        store.sync().unwrap();
        memory.set_faults(faults);
        let committed = store.commit(&append(seal(p, 1, &[b"b"])));
        assert!(committed.is_err() || store.sync().is_err());
        memory.set_faults(Faults::default());
        assert!(matches!(store.commit(&append(seal(p, 1, &[b"b"]))), Err(CommitError::Failed(_))));
        assert!(matches!(store.read(p, 0, 1), Err(ReadError::Failed(_))));
        drop(store);
        memory.power_cut(0);
        let store = Store::on(Arc::new(memory), Options::default()).unwrap().0;
        assert_eq!(values(&store, p, 0), [(0, b"a".to_vec())]);
    }
}

#[test]
fn topics_are_made_changed_and_deleted() {
    on_both(|open| {
        let store = open(Options::default());
        let config = TopicConfig { partitions: 3, compression: Compression::Zstd, ..TopicConfig::default() };
        let topic = store.create_topic("t", config.clone()).unwrap();
        assert_eq!(store.create_topic("t", config.clone()), Err(TopicError::Exists("t".into())));
        assert_eq!(store.create_topic("", config.clone()), Err(TopicError::Name));
        let none = TopicConfig { partitions: 0, ..config };
        assert_eq!(store.create_topic("u", none), Err(TopicError::Partitions));
        let p = partition(&store, &topic, 0);
        let mut commit = append(seal(p, 0, &[b"a"]));
        commit.cursors.push(CursorMove { reader: "r".into(), partition: p, next: 1 });
        store.commit(&commit).unwrap();
        let changed = store.set_topic_retention(topic.id, Some(5), Some(6)).unwrap();
        assert_eq!((changed.config.retention_ms, changed.config.retention_bytes), (Some(5), Some(6)));
        drop(store);
        let store = open(Options::default());
        assert_eq!(store.topics(), [changed]);
        store.delete_topic(topic.id).unwrap();
        assert_eq!(store.delete_topic(topic.id), Err(TopicError::Unknown(topic.id)));
        assert!(store.topics().is_empty() && store.partitions().is_empty());
        assert!(store.readers().unwrap().is_empty());
        assert!(store.read(p, 0, 1).unwrap().is_empty());
        drop(store);
        let store = open(Options::default());
        assert!(store.topics().is_empty() && store.partitions().is_empty());
        let again = store.create_topic("t", TopicConfig::default()).unwrap();
        assert_ne!(again.id, topic.id);
    });
}

#[test]
fn a_new_life_begins_after_an_unclean_end_with_memory_topics() {
    for (durability, clean, new_life) in
        [(Durability::Sync, false, false), (Durability::Memory, true, false), (Durability::Memory, false, true)]
    {
        on_both(|open| {
            let store = open(Options::default());
            let topic = store.create_topic("t", TopicConfig { durability, ..TopicConfig::default() }).unwrap();
            let old = partition(&store, &topic, 0);
            store.commit(&append(seal(old, 0, &[b"a"]))).unwrap();
            store.sync().unwrap();
            if clean {
                store.close().unwrap();
            }
            drop(store);
            let store = open(Options::default());
            assert_eq!(store.origin() != old.origin, new_life, "{durability:?}, clean {clean}");
            assert_eq!(values(&store, old, 0), [(0, b"a".to_vec())]);
            let new = partition(&store, &topic, 0);
            let expected = if new_life { (0, CommitNumber(1)) } else { (1, CommitNumber(2)) };
            let end = store.end_offset(new);
            assert_eq!((end, store.commit(&append(seal(new, end, &[b"b"]))).unwrap()), expected);
            if new_life {
                let refused = store.commit(&append(seal(old, 1, &[b"b"])));
                assert_eq!(refused, Err(CommitError::UnknownPartition(old)));
            }
        });
    }
}

#[test]
fn whoever_reads_much_has_memory_let_go_of() {
    let store = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap().0;
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let (p, mut noise) = (partition(&store, &topic, 0), 9);
    for offset in 0..36 {
        let value: Vec<u8> = (0..1 << 20).map(|_| next(&mut noise) as u8).collect();
        store.commit(&append(seal(p, offset, &[&value]))).unwrap();
    }
    type Way<'a> = (&'a str, &'a dyn Fn(&Store) -> usize);
    let ways: [Way; 3] = [
        ("on", &|store| store.read(p, 0, usize::MAX).unwrap().len()),
        ("back", &|store| store.read_back(p, 36, usize::MAX).unwrap().len()),
        ("on, what is ahead too", &|store| store.read_newest(p, 0, usize::MAX).unwrap().len()),
    ];
    for (name, way) in ways {
        store.let_go_if_due().unwrap();
        assert!(!store.is_letting_go_due());
        assert_eq!(way(&store), 36);
        assert!(store.is_letting_go_due(), "read {name}");
    }
}

#[test]
fn one_store_is_open_once_and_a_newer_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (store, found) = Store::open(folder.path(), Options::default()).unwrap();
    assert!(found.new_store);
    assert!(matches!(Store::open(folder.path(), Options::default()), Err(OpenError::InUse)));
    drop(store);
    let newer = |backend: &dyn Backend| {
        let key = [0];
        let mut value = vec![2, 0, 0, 0, 0];
        let crc = crc32c::crc32c_append(crc32c::crc32c(&key), &[2]);
        value[1..].copy_from_slice(&crc.to_le_bytes());
        backend.tree(b"meta").unwrap().insert(&key, &value).unwrap();
    };
    newer(&SledBackend::open(folder.path(), SledConfig { cache_bytes: 1 << 20 }).unwrap());
    let error = Store::open(folder.path(), Options::default()).err().unwrap();
    assert!(matches!(error, OpenError::Newer { found: 2, known: 1 }), "{error}");
    assert!(error.to_string().contains("newer"));
}

#[test]
fn power_cuts_in_a_row_lose_marks_and_leave_a_store_that_opens() {
    let memory = MemoryBackend::new();
    let open = || Store::on(Arc::new(memory.clone()), Options::default());
    let store = open().unwrap().0;
    let config = TopicConfig { durability: Durability::Memory, ..TopicConfig::default() };
    let topic = store.create_topic("t", config).unwrap();
    store.commit(&append(seal(partition(&store, &topic, 0), 0, &[b"kept"]))).unwrap();
    store.sync().unwrap();
    // The system has written the mark in its own time.
    memory.sync_mark().unwrap();
    let (first, mut life) = (store.origin(), store.origin());
    drop(store);
    for cut in 0..4 {
        memory.set_faults(Faults { loses_mark: true, ..Faults::default() });
        memory.power_cut(0);
        let (store, found) = open().unwrap_or_else(|e| panic!("cut {cut}: {e}"));
        assert_eq!(found.ended_life, Some(life), "cut {cut}");
        assert_eq!(values(&store, PartitionId { origin: first, ..partition(&store, &topic, 0) }, 0).len(), 1);
        life = store.origin();
    }
}

#[test]
fn a_disk_that_lies_about_syncs_is_found_out_and_its_loss_can_be_accepted() {
    let memory = MemoryBackend::new();
    let open = |accept_loss| Store::on(Arc::new(memory.clone()), Options { accept_loss, ..Options::default() });
    let store = open(false).unwrap().0;
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let old = partition(&store, &topic, 0);
    store.commit(&append(seal(old, 0, &[b"kept"]))).unwrap();
    store.sync().unwrap();
    memory.set_faults(Faults { lying_sync: true, ..Faults::default() });
    store.commit(&append(seal(old, 1, &[b"lost"]))).unwrap();
    store.sync().unwrap();
    drop(store);
    memory.power_cut(0);
    let error = open(false).err().unwrap();
    assert!(matches!(error, OpenError::Shorter { found: 1, synced: 2 }), "{error}");
    let (store, found) = open(true).unwrap();
    assert_eq!(found.ended_life, Some(old.origin));
    assert_ne!(store.origin(), old.origin);
    assert_eq!(values(&store, old, 0), [(0, b"kept".to_vec())]);
    store.commit(&append(seal(partition(&store, &topic, 0), 0, &[b"new"]))).unwrap();
    drop(store);
    assert_eq!(open(false).unwrap().1.ended_life, None);
}
