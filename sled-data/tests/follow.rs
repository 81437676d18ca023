//! Following another life's commits: what is shipped, what is applied, what is refused.
#![allow(clippy::unwrap_used)]

mod harness;

use harness::{append, on_both, partition, seal};
use sled_data::{
    Commit, CommitNumber, CursorMove, FollowedCommit, Options, OriginId, PartitionId, ReadError, StateWrite, Store,
    TopicConfig,
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
