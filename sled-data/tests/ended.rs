//! Own lives that have ended: what others can have of them, however many there were.
#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::Arc;

use harness::{append, on_both, partition, seal, values};
use sled_data::{Commit, CommitNumber, MemoryBackend, Options, PartitionId, Store, TopicConfig};

/// `commits` commits that append to two partitions in turn, with clocks from `hlc` on; all synced.
fn filled(store: &Store, commits: u64, hlc: u64) -> Vec<PartitionId> {
    let known = store.topics().into_iter().find(|topic| topic.name == "t");
    let topic = known.unwrap_or_else(|| store.create_topic("t", TopicConfig::default()).unwrap());
    let ids: Vec<_> = (0..2).map(|index| partition(store, &topic, index)).collect();
    for n in 0..commits {
        let id = ids[n as usize % 2];
        let batch = seal(id, store.end_offset(id), &[b"one", b"two", b"three"]);
        store.commit(&Commit { hlc: hlc + n, ..append(batch) }).unwrap();
    }
    store.sync().unwrap();
    ids
}

#[test]
fn of_lives_that_nobody_was_known_to_have_others_can_still_have_all() {
    on_both(|open| {
        let mut store = open(Options::default());
        let mut lives = Vec::new();
        for life in 1..=3 {
            let ids = filled(&store, 10, 100 * life);
            lives.push((store.origin(), ids));
            store.end_life("once more").unwrap();
            drop(store);
            // Room for the records of the life before the last one, and none for those of the first.
            store = open(Options { commit_records_max: 10, ..Options::default() });
        }
        let last = CommitNumber(10);
        let mut expected: Vec<_> = lives.iter().map(|(origin, _)| (*origin, last)).collect();
        expected.sort_unstable();
        assert_eq!(store.ended_lives(), expected);
        let first_kept: Vec<u64> = lives.iter().map(|(origin, _)| store.first_kept_commit_of(*origin).0).collect();
        assert_eq!(first_kept, [10, 1, 1]);
        assert!(store.lives_not_followed().into_iter().eq(expected.iter().map(|(origin, _)| (*origin, 30))));
        let other = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap().0;
        for (origin, ids) in &lives {
            let head = store.copy_head(*origin).unwrap();
            assert_eq!((head.commit, head.ended), (last, true));
            other.begin_copy(&head).unwrap();
            let (parts, more) = store.copy_parts(&head, None, &|_| 0, usize::MAX).unwrap();
            assert_eq!(more, None);
            other.add_copy(*origin, &parts).unwrap();
            other.end_copy(*origin, last).unwrap();
            for id in ids {
                assert_eq!(values(&other, *id, 0), values(&store, *id, 0));
            }
        }
        // What has come back from another is followed like any other; what holds no events any more goes with the next life.
        let back = other.copy_head(lives[1].0).unwrap();
        store.begin_copy(&back).unwrap();
        store.end_copy(lives[1].0, last).unwrap();
        assert!(!store.ended_lives().contains(&(lives[1].0, last)));
        lives[0].1.iter().for_each(|id| drop(store.trim(*id, u64::MAX, 100).unwrap()));
        assert_eq!(store.lives_not_followed(), [(lives[2].0, 30)].into());
        store.end_life("once more").unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!(store.ended_lives(), [(lives[2].0, last)]);
        assert_eq!((store.last_commit_of(lives[0].0), store.last_commit_of(lives[1].0)), (CommitNumber(0), last));
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    });
}

#[test]
fn a_life_without_events_is_not_among_those_that_others_can_have() {
    on_both(|open| {
        let store = open(Options::default());
        let state = sled_data::StateWrite { tree: "t".into(), key: vec![1], value: Some(vec![2]) };
        store.commit(&Commit { state: vec![state], ..Commit::default() }).unwrap();
        store.sync().unwrap();
        let (life, last) = (store.origin(), store.last_commit());
        store.end_life("as after a kill").unwrap();
        drop(store);
        let store = open(Options::default());
        assert_eq!(store.last_commit_of(life), last);
        assert!(store.copy_head(life).is_err(), "nobody can take it");
        assert_eq!(store.ended_lives(), []);
    });
}

#[test]
fn what_retention_has_emptied_is_there_in_the_next_life_for_who_is_to_be_told() {
    on_both(|open| {
        let store = open(Options::default());
        let ids = filled(&store, 4, 100);
        let cursors = vec![sled_data::CursorMove { reader: "r".into(), partition: ids[0], next: 2 }];
        store.commit(&Commit { cursors, ..Commit::default() }).unwrap();
        store.trim(ids[0], u64::MAX, 100).unwrap();
        store.sync().unwrap();
        store.end_life("as after a kill").unwrap();
        drop(store);
        let store = open(Options::default());
        assert!(matches!(store.read(ids[0], 2, 1), Err(sled_data::ReadError::Trimmed { start: 6, .. })));
        assert_eq!(store.cursor("r", ids[0]).unwrap(), Some(2));
        let look = || {
            store.apply_retention(0, 100, &sled_data::Wait::for_ever(&|_| u64::MAX)).unwrap();
            (store.partitions().contains(&ids[0]), store.cursor("r", ids[0]).unwrap())
        };
        assert_eq!(look(), (true, Some(2)), "the reader has not been told");
        let cursors = vec![sled_data::CursorMove { reader: "r".into(), partition: ids[0], next: 6 }];
        store.commit(&Commit { cursors, ..Commit::default() }).unwrap();
        assert_eq!(look(), (false, None));
        assert!(store.partitions().contains(&ids[1]));
        assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    });
}
