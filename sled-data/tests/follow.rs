//! Following another life's commits: what is shipped, what is applied, what is refused.
#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::Arc;

use harness::{append, on_both, partition, seal, values};
use sled_data::{
    Commit, CommitError, CommitNumber, CopyState, CursorMove, Durability, Faults, FollowError, FollowedCommit, Gap,
    GapCause, MemoryBackend, Options, OriginId, PartitionId, ReadError, StateWrite, Store, TopicConfig, TopicError,
    TopicId, TopicInfo, Wait,
};

/// `commits` commits that append to three partitions in turn, move a cursor and write state; all synced.
fn filled(store: &Store, commits: u64) -> Vec<PartitionId> {
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let ids: Vec<_> = (0..3).map(|index| partition(store, &topic, index)).collect();
    for n in 1..=commits {
        let id = ids[n as usize % 3];
        let end = store.end_offset(id);
        let mut noise = n;
        let large: Vec<u8> = (0..100_000).map(|_| harness::next(&mut noise) as u8).collect();
        let last: &[u8] = if n % 7 == 0 { &large } else { b"two" };
        let appends = vec![seal(id, end, &[b"one", last]), seal(id, end + 2, &[b"three"])];
        let cursors = vec![CursorMove { reader: "r".into(), partition: id, next: end + 1 }];
        let value = (n % 3 > 0).then(|| n.to_be_bytes().to_vec());
        let state = vec![StateWrite { tree: "s".into(), key: vec![n as u8 % 4], value }];
        store.commit(&Commit { hlc: n, appends, cursors, state }).unwrap();
    }
    store.sync().unwrap();
    ids
}

/// Everything that can be shipped, in calls of `bytes_max`.
fn shipped(store: &Store, origin: OriginId, bytes_max: usize) -> Vec<FollowedCommit> {
    let mut all: Vec<FollowedCommit> = Vec::new();
    loop {
        let from = CommitNumber(all.len() as u64 + 1);
        let next = store.commits_to_ship(origin, from, bytes_max).unwrap();
        if next.is_empty() {
            return all;
        }
        let bytes: usize = next.iter().map(FollowedCommit::batch_bytes).sum();
        assert!(next.len() == 1 || bytes <= bytes_max, "{bytes} bytes are over {bytes_max}");
        all.extend(next);
    }
}

#[test]
fn events_of_a_topic_that_is_not_here_are_kept_as_long_as_is_said_and_not_at_all_once_it_is_deleted() {
    let source = memory().1;
    let ids = filled(&source, 20);
    let (origin, store) = (source.origin(), memory().1);
    let all = shipped(&source, origin, usize::MAX);
    store.follow(&all).unwrap();
    for (unknown, is_kept) in [((None, None), true), ((Some(1), None), false)] {
        store.apply_retention(1_000, 1_000, &Wait { unknown, ..Wait::for_ever(&|_| u64::MAX) }).unwrap();
        assert!(ids.iter().all(|id| (store.start_offset(*id) == 0) == is_kept), "{unknown:?}");
    }
    store.delete_topic(ids[0].topic).unwrap();
    let other = memory().1;
    other.note_deleted(ids[0].topic);
    other.follow(&all).unwrap();
    assert_eq!((other.partitions(), other.last_commit_of(origin)), (Vec::new(), CommitNumber(20)));
    other.create_topic_as(source.topics().remove(0)).unwrap();
    let end = source.end_offset(ids[0]);
    source.commit(&append(seal(ids[0], end, &[b"later"]))).unwrap();
    source.sync().unwrap();
    other.follow(&source.commits_to_ship(origin, CommitNumber(21), usize::MAX).unwrap()).unwrap();
    assert_eq!(values(&other, ids[0], end), [(end, b"later".to_vec())]);
}

#[test]
fn commits_are_shipped_whole_whatever_fits_one_call() {
    on_both(|open| {
        let store = open(Options::default());
        let ids = filled(&store, 50);
        store.commit(&append(seal(ids[0], store.end_offset(ids[0]), &[b"not synced"]))).unwrap();
        let records = store.commits(CommitNumber(1), 50).unwrap();
        let mut lens = Vec::new();
        for bytes_max in [0, 2_000, 200_000, 500_000, usize::MAX] {
            let all = shipped(&store, store.origin(), bytes_max);
            assert_eq!(all.iter().map(|commit| commit.record.clone()).collect::<Vec<_>>(), records);
            assert!(all.iter().all(|commit| commit.batches.len() == 2));
            for commit in &all {
                let mut bytes = Vec::new();
                commit.encode(&mut bytes);
                assert_eq!(FollowedCommit::decode(&bytes).as_ref(), Ok(commit));
            }
            lens.push(store.commits_to_ship(store.origin(), CommitNumber(1), bytes_max).unwrap().len());
        }
        assert_eq!((lens[0], lens[4]), (1, 50));
        assert!(lens.is_sorted() && lens[1] < lens[2] && lens[2] < lens[3] && lens[3] < 50, "{lens:?}");
        assert_eq!(store.commits_to_ship(OriginId(5), CommitNumber(1), 1).unwrap(), []);
    });
}

#[test]
fn what_was_trimmed_is_absent_and_records_that_are_gone_are_told() {
    on_both(|open| {
        let store = open(Options { commit_records_max: 30, ..Options::default() });
        let ids = filled(&store, 40);
        let first = CommitNumber(11);
        let gone = store.commits_to_ship(store.origin(), CommitNumber(10), 1);
        assert!(matches!(gone, Err(ReadError::CommitsTrimmed { first: f }) if f == first), "{gone:?}");
        // Partition 0 has 3 events in each of 13 commits, in batches of two and one.
        store.trim(ids[0], 17, 100).unwrap();
        assert_eq!(store.start_offset(ids[0]), 17);
        let all = store.commits_to_ship(store.origin(), first, usize::MAX).unwrap();
        let lens = |id: PartitionId| {
            let of = all.iter().filter(|commit| commit.record.appended[0].partition == id);
            of.map(|commit| commit.batches.len()).collect::<Vec<_>>()
        };
        assert_eq!(lens(ids[0]), [0, 0, 1, 2, 2, 2, 2, 2, 2, 2]);
        assert!(lens(ids[1]).iter().all(|len| *len == 2));
        store.delete_topic(ids[0].topic).unwrap();
        let all = store.commits_to_ship(store.origin(), first, usize::MAX).unwrap();
        assert_eq!(all.iter().map(|commit| commit.batches.len()).sum::<usize>(), 0);
    });
}

fn memory() -> (MemoryBackend, Store) {
    let backend = MemoryBackend::new();
    let store = on(&backend);
    (backend, store)
}

fn on(backend: &MemoryBackend) -> Store {
    Store::on(Arc::new(backend.clone()), Options::default()).unwrap().0
}

/// Whether a store holds all that another wrote, or holds, of an origin.
fn assert_equal(source: &Store, copy: &Store, origin: OriginId, ids: &[PartitionId]) {
    for id in ids {
        assert_eq!(copy.start_offset(*id), source.start_offset(*id));
        assert_eq!(copy.end_offset(*id), source.end_offset(*id));
        assert_eq!(copy.digest(*id), source.digest(*id));
        let from = source.start_offset(*id);
        assert_eq!(copy.read(*id, from, usize::MAX).unwrap(), source.read(*id, from, usize::MAX).unwrap());
        assert_eq!(copy.cursor_of(origin, "r", *id).unwrap(), source.cursor_of(origin, "r", *id).unwrap());
    }
    assert_eq!(copy.cursors_of(origin, "r").unwrap(), source.cursors_of(origin, "r").unwrap());
    assert_eq!(copy.readers_of(origin).unwrap(), source.readers_of(origin).unwrap());
    let state = |store: &Store| store.state_scan_of(origin, "s", b"", None, 100).unwrap();
    assert_eq!(state(copy), state(source));
    assert_eq!(copy.state_get_of(origin, "s", &[1]).unwrap(), source.state_get_of(origin, "s", &[1]).unwrap());
    assert_eq!(copy.last_commit_of(origin), source.last_commit_of(origin));
}

#[test]
fn a_follower_holds_what_the_origin_wrote_and_a_third_node_follows_it() {
    on_both(|open| {
        let (_, source) = memory();
        let ids = filled(&source, 60);
        let origin = source.origin();
        let store = open(Options::default());
        let own = filled(&store, 5);
        for commits in shipped(&source, origin, 3_000).chunks(7) {
            assert_eq!(store.follow(commits).unwrap(), []);
        }
        assert_eq!(store.commits_to_ship(origin, CommitNumber(1), 1).unwrap(), [], "nothing above the synced number");
        assert_eq!(store.synced_commit_of(origin), CommitNumber(0));
        store.set_follow_node(origin, 77).unwrap();
        store.sync().unwrap();
        assert_eq!(store.synced_commit_of(origin), CommitNumber(60));
        assert_equal(&source, &store, origin, &ids);
        drop(store);
        let store = open(Options::default());
        let (found, followed) = store.followed()[0];
        assert_eq!((found, followed.commit, followed.synced), (origin, CommitNumber(60), CommitNumber(60)));
        assert_eq!((followed.hlc, followed.node, followed.copy), (60, 77, CopyState::Whole));
        assert_equal(&source, &store, origin, &ids);
        let third = memory().1;
        assert_eq!(third.follow(&shipped(&store, origin, 10_000)).unwrap(), []);
        assert_equal(&source, &third, origin, &ids);
        // Own things are as they were.
        assert_eq!((store.last_commit(), store.commits(CommitNumber(1), 9).unwrap().len()), (CommitNumber(5), 5));
        assert_eq!(store.state_scan("s", b"", None, 100).unwrap().len(), 3);
        assert_eq!(store.cursors("r").unwrap().len(), 3);
        assert_eq!(store.end_offset(own[0]), 3);
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    });
}

#[test]
fn what_is_not_next_or_not_the_same_is_refused_whole() {
    let (_, source) = memory();
    let ids = filled(&source, 12);
    let origin = source.origin();
    let all = shipped(&source, origin, usize::MAX);
    let store = memory().1;
    store.follow(&all[..4]).unwrap();
    let next = |commits: &[FollowedCommit]| match store.follow(commits) {
        Err(FollowError::NotNext { expected, found, .. }) => (expected.0, found.0),
        other => panic!("{other:?}"),
    };
    assert_eq!(next(&all[3..]), (5, 4));
    assert_eq!(next(&all[5..]), (5, 6));
    assert_eq!(next(&[all[4].clone(), all[4].clone()]), (6, 5));
    assert_eq!(source.follow(&all), Err(FollowError::Own(origin)));
    let mut other = all[5].clone();
    other.origin = OriginId(9);
    assert!(matches!(store.follow(&[all[4].clone(), other]), Err(FollowError::Malformed(_))));

    // Another history with the same shape: the first commit that differs is found, and nothing of the call is stored.
    let mut other = all[4..].to_vec();
    let id = other[3].record.appended[0].partition;
    let base = other[3].record.appended[0].base_offset;
    other[3].batches[1] = seal(id, base + 2, &[b"other"]).into();
    let different = store.follow(&other);
    assert!(matches!(&different, Err(FollowError::Different { partition, .. }) if *partition == id), "{different:?}");
    assert_eq!(store.followed_commit(origin), CommitNumber(4));
    store.follow(&all[4..]).unwrap();
    assert_equal(&source, &store, origin, &ids);
    assert_eq!(store.follow(&[]), Ok(Vec::new()));
    // It ends elsewhere.
    let mut ahead = all[11].clone();
    ahead.record.number = CommitNumber(13);
    let different = store.follow(&[ahead]);
    assert!(matches!(different, Err(FollowError::Different { .. })), "{different:?}");
    // Nobody writes another's partitions.
    let refused = store.commit(&append(seal(ids[0], store.end_offset(ids[0]), &[b"x"])));
    assert_eq!(refused, Err(CommitError::UnknownPartition(ids[0])));
}

#[test]
fn what_the_source_let_go_is_a_gap_in_the_copy() {
    on_both(|open| {
        let (_, source) = memory();
        let ids = filled(&source, 42);
        let origin = source.origin();
        let all = shipped(&source, origin, usize::MAX);
        let store = open(Options::default());
        store.follow(&all[..12]).unwrap();
        let to = source.end_offset(ids[1]) - 7;
        source.trim(ids[1], to, 100).unwrap();
        let start = source.start_offset(ids[1]);
        assert_eq!(start, to);
        let rest = source.commits_to_ship(origin, CommitNumber(13), usize::MAX).unwrap();
        let gaps = rest.chunks(8).flat_map(|commits| store.follow(commits).unwrap()).collect::<Vec<_>>();
        assert_eq!(gaps.first().unwrap().from, 12);
        assert!(gaps.windows(2).all(|pair| pair[0].to == pair[1].from));
        assert_eq!(gaps.last().map(|gap| (gap.partition, gap.to)), Some((ids[1], start)));
        // They are kept as the one gap that they are.
        let kept: Vec<_> = store.gaps(ids[1]).unwrap().iter().map(|gap| (gap.from, gap.to, gap.cause)).collect();
        assert_eq!(kept, [(12, start, GapCause::Retention)]);
        assert_equal(&source, &store, origin, &ids);
        store.sync().unwrap();
        drop(store);
        let store = open(Options::default());
        assert_equal(&source, &store, origin, &ids);
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        // All of a partition's events, and then more.
        source.trim(ids[2], u64::MAX, 100).unwrap();
        source.commit(&append(seal(ids[2], source.end_offset(ids[2]), &[b"x"]))).unwrap();
        source.sync().unwrap();
        let fresh = memory().1;
        let gaps = fresh.follow(&shipped(&source, origin, usize::MAX)).unwrap();
        let gap = Gap { partition: ids[2], from: 0, to: 42 };
        assert_eq!(gaps.iter().find(|gap| gap.partition == ids[2]), Some(&gap));
        let kept: Vec<_> = fresh.gaps(ids[2]).unwrap().iter().map(|gap| (gap.from, gap.to, gap.cause)).collect();
        assert_eq!(kept, [(0, 42, GapCause::Beginning)]);
        assert_equal(&source, &fresh, origin, &ids);
    });
}

#[test]
fn a_full_disk_leaves_nothing_of_a_call_and_an_error_stops_the_store() {
    let (_, source) = memory();
    let ids = filled(&source, 20);
    let origin = source.origin();
    let all = shipped(&source, origin, usize::MAX);
    let (backend, store) = memory();
    store.follow(&all[..3]).unwrap();
    for writes in 0..u64::MAX {
        backend.set_faults(Faults { full_after_writes: Some(writes), ..Faults::default() });
        match store.follow(&all[3..]) {
            Err(FollowError::Full) => {
                assert_eq!(store.followed_commit(origin), CommitNumber(3));
                backend.set_faults(Faults::default());
                assert!(store.verify(&mut |_| {}).unwrap().is_clean());
            }
            other => {
                assert_eq!(other, Ok(Vec::new()));
                assert!(writes > 30);
                break;
            }
        }
    }
    assert_equal(&source, &store, origin, &ids);
    backend.set_faults(Faults { free_bytes: Some(1), ..Faults::default() });
    let (_, other) = memory();
    filled(&other, 20);
    let refused = shipped(&other, other.origin(), usize::MAX).chunks(1).find_map(|one| store.follow(one).err());
    assert_eq!(refused, Some(FollowError::Full));

    let (backend, store) = memory();
    backend.set_faults(Faults { fail_after_writes: Some(20), ..Faults::default() });
    assert!(matches!(store.follow(&all), Err(FollowError::Failed(_))));
    assert!(matches!(store.follow(&all), Err(FollowError::Failed(_))));
    drop(store);
    backend.set_faults(Faults::default());
    let store = on(&backend);
    assert_eq!((store.followed_commit(origin), store.partitions().len()), (CommitNumber(0), 0));
    store.follow(&all).unwrap();
    assert_equal(&source, &store, origin, &ids);
}

#[test]
fn followed_origins_outlive_the_own_life_and_the_ended_life_can_be_followed() {
    on_both(|open| {
        let (_, source) = memory();
        let ids = filled(&source, 20);
        let origin = source.origin();
        let store = open(Options::default());
        let own = filled(&store, 10);
        store.follow(&shipped(&source, origin, usize::MAX)).unwrap();
        // An emptied partition of a followed origin stays, as its end is needed.
        let info = TopicInfo { name: "followed".into(), ..source.topics()[0].clone() };
        store.create_topic_as(info).unwrap();
        source.trim(ids[0], u64::MAX, 100).unwrap();
        store.trim(ids[0], u64::MAX, 100).unwrap();
        store.apply_retention(0, 1, &Wait::for_ever(&|_| 0)).unwrap();
        for life in 0..2 {
            store_life(&store, life);
        }
        let ended = store.origin();
        store.end_life("it was restored").unwrap();
        assert_eq!(store.failure().unwrap().to_string(), "the store stopped: it was restored");
        drop(store);
        let store = open(Options::default());
        assert_ne!(store.origin(), ended);
        assert_equal(&source, &store, origin, &ids);
        assert_eq!(store.commits_to_ship(origin, CommitNumber(1), usize::MAX).unwrap().len(), 20);
        // The life that ended: its events are read-only, and its commits can still be followed.
        assert_eq!(store.last_commit_of(ended), CommitNumber(12));
        assert_eq!(store.first_kept_commit_of(ended), CommitNumber(1));
        assert_eq!(store.ended_life(), Some((ended, CommitNumber(12))));
        let third = memory().1;
        third.follow(&shipped(&store, ended, usize::MAX)).unwrap();
        for id in &own {
            assert_eq!(values(&third, *id, 0), values(&store, *id, 0));
        }
        assert_eq!(
            store.state_scan("s", b"", None, 9).unwrap(),
            third.state_scan_of(ended, "s", b"", None, 9).unwrap()
        );
        store.end_life("once more").unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!(store.ended_life(), None, "the one before had no commit");
        assert_eq!(store.ended_lives(), [(ended, CommitNumber(12))], "nobody was known to have this one");
        assert_equal(&source, &store, origin, &ids);
        store.delete_topic(ids[0].topic).unwrap();
        assert!(store.partitions().iter().all(|id| id.topic != ids[0].topic));
        assert_eq!(store.cursors_of(origin, "r").unwrap(), []);
        assert_eq!(store.delete_topic(ids[0].topic), Err(TopicError::Unknown(ids[0].topic)));
    });
}

#[test]
fn an_opening_that_fails_ends_one_life_and_not_the_next_one_too() {
    let writes_of = |fail_after_writes| Faults { fail_after_writes, ..Faults::default() };
    let mut failed = 0;
    for writes in 0.. {
        let (backend, store) = memory();
        filled(&store, 10);
        let (origin, newest) = (store.origin(), 10);
        // One that is empty is dropped when its life ends.
        let empty = store.partitions()[0];
        store.trim(empty, u64::MAX, 100).unwrap();
        store.end_life("it was restored").unwrap();
        drop(store);
        backend.set_faults(writes_of(Some(writes)));
        let opened = Store::on(Arc::new(backend.clone()), Options::default());
        let is_open = opened.is_ok();
        drop(opened);
        backend.set_faults(writes_of(None));
        let (store, found) = Store::on(Arc::new(backend), Options::default()).unwrap();
        assert_ne!(store.origin(), origin, "{writes} writes");
        assert_eq!(store.last_commit_of(origin), CommitNumber(newest), "{writes} writes: its commits can be followed");
        assert_eq!(shipped(&store, origin, usize::MAX).len() as u64, newest);
        assert!(found.last_hlc > newest, "{writes} writes: the clock goes on");
        if is_open {
            break;
        }
        failed += 1;
    }
    assert!(failed > 1, "it is cut short in its midst: {failed}");
}

#[test]
fn of_a_followed_origin_without_events_the_newest_record_is_kept() {
    on_both(|open| {
        let (_, source) = memory();
        let ids = filled(&source, 40);
        let origin = source.origin();
        let store = open(Options::default());
        store.create_topic_as(TopicInfo { name: "followed".into(), ..source.topics()[0].clone() }).unwrap();
        store.follow(&shipped(&source, origin, usize::MAX)).unwrap();
        store.sync().unwrap();
        let retain = || store.apply_retention(0, 100, &Wait::for_ever(&|_| 0)).unwrap();
        let kept = || (store.first_kept_commit_of(origin).0, store.last_commit_of(origin).0);
        store.trim(ids[0], u64::MAX, 100).unwrap();
        store.trim(ids[1], u64::MAX, 100).unwrap();
        retain();
        assert_eq!(kept(), (1, 40), "there are events still");
        store.trim(ids[2], u64::MAX, 100).unwrap();
        let hold = store.hold_commits(origin, CommitNumber(9));
        retain();
        assert_eq!(kept(), (1, 40), "somebody takes a copy");
        store.release_commits(origin, hold);
        retain();
        assert_eq!(kept(), (40, 40));
        // What is still needed of it stays, and it goes on.
        let ends: Vec<u64> = ids.iter().map(|id| store.end_offset(*id)).collect();
        assert_eq!(ends, ids.iter().map(|id| source.end_offset(*id)).collect::<Vec<_>>());
        assert_eq!(store.cursors_of(origin, "r").unwrap().len(), 3);
        assert!(!store.state_scan_of(origin, "s", b"", None, 9).unwrap().is_empty());
        source.commit(&Commit { hlc: 100, ..append(seal(ids[0], ends[0], &[b"more"])) }).unwrap();
        source.sync().unwrap();
        store.follow(&source.commits_to_ship(origin, CommitNumber(41), usize::MAX).unwrap()).unwrap();
        assert_eq!(values(&store, ids[0], ends[0]), [(ends[0], b"more".to_vec())]);
        retain();
        assert_eq!(kept(), (40, 41));
        drop(store);
        let store = open(Options::default());
        assert_eq!((store.first_kept_commit_of(origin).0, store.last_commit_of(origin).0), (40, 41));
    });
}

/// Two more own commits.
fn store_life(store: &Store, n: u8) {
    let state = vec![StateWrite { tree: "s".into(), key: vec![n], value: None }];
    store.commit(&Commit { hlc: 100, state, ..Commit::default() }).unwrap();
}

#[test]
fn a_topic_is_made_under_a_given_number_once() {
    on_both(|open| {
        let store = open(Options::default());
        let info = |id, name: &str| TopicInfo { id: TopicId(id), name: name.into(), config: TopicConfig::default() };
        assert_eq!(store.create_topic_as(info(5, "five")), Ok(info(5, "five")));
        assert_eq!(store.create_topic_as(info(5, "other")), Err(TopicError::Id(TopicId(5))));
        assert_eq!(store.create_topic_as(info(0, "other")), Err(TopicError::Id(TopicId(0))));
        assert_eq!(store.create_topic_as(info(6, "five")), Err(TopicError::Exists("five".into())));
        assert_eq!(store.create_topic_as(info(6, "")), Err(TopicError::Name));
        let config = TopicConfig { partitions: 0, durability: Durability::Memory, ..TopicConfig::default() };
        assert_eq!(store.create_topic_as(TopicInfo { config, ..info(6, "six") }), Err(TopicError::Partitions));
        drop(store);
        assert_eq!(open(Options::default()).topics(), [info(5, "five")]);
    });
}

#[test]
fn records_of_a_followed_origin_are_kept_up_to_the_bounds() {
    on_both(|open| {
        let (_, source) = memory();
        let ids = filled(&source, 100);
        let origin = source.origin();
        let all = shipped(&source, origin, usize::MAX);
        let options = Options { commit_records_max: 10, ..Options::default() };
        let store = open(options.clone());
        for commits in all.chunks(7) {
            store.follow(commits).unwrap();
        }
        store.sync().unwrap();
        let check = |store: &Store| {
            assert_eq!(store.first_kept_commit_of(origin), CommitNumber(91));
            let gone = store.commits_to_ship(origin, CommitNumber(90), 1);
            assert!(matches!(gone, Err(ReadError::CommitsTrimmed { first: CommitNumber(91) })), "{gone:?}");
            assert_eq!(store.commits_to_ship(origin, CommitNumber(91), usize::MAX).unwrap(), all[90..]);
            assert_equal(&source, store, origin, &ids);
        };
        check(&store);
        drop(store);
        check(&open(options));
    });
}

#[test]
fn what_was_followed_is_salvaged_with_the_rest() {
    let (_, source) = memory();
    let ids = filled(&source, 20);
    let folder = tempfile::tempdir().unwrap();
    let (from, to) = (folder.path().join("store"), folder.path().join("new"));
    let (store, _) = Store::open(&from, Options::default()).unwrap();
    store.create_topic_as(source.topics()[0].clone()).unwrap();
    store.follow(&shipped(&source, source.origin(), usize::MAX)).unwrap();
    let own = ids.iter().map(|id| PartitionId { origin: store.origin(), ..*id }).collect::<Vec<_>>();
    store.commit(&append(seal(own[0], 0, &[b"own"]))).unwrap();
    store.close().unwrap();
    drop(store);
    let report = sled_data::salvage(&from, &to, &mut |_| {}).unwrap();
    assert_eq!(report.events(), 61);
    let (store, _) = Store::open(&to, Options::default()).unwrap();
    let ends = own.iter().map(|id| store.end_offset(PartitionId { origin: store.origin(), ..*id }));
    assert_eq!(ends.collect::<Vec<_>>(), [19, 21, 21]);
}
