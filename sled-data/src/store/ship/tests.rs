//! A shipped commit against bytes that are fixed, and against every way of being wrong.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::*;
use crate::backend::MemoryBackend;
use crate::batch::{HeaderBlock, OpenBatch, SealInfo, Sealer};
use crate::ids::TopicId;
use crate::store::{Commit, CursorMove, Options, StateWrite, Store};
use crate::topic::{Compression, TopicConfig};

fn id(origin: u64, index: u32) -> PartitionId {
    PartitionId { origin: OriginId(origin), topic: TopicId(2), index }
}

pub(super) fn batch(partition: PartitionId, base_offset: u64, values: &[&[u8]]) -> StoredBatch {
    let mut open = OpenBatch::new();
    for value in values {
        open.push(9, Some(b"k"), Some(value), &HeaderBlock::new()).unwrap();
    }
    let compression = Compression::None;
    let info = SealInfo { partition, base_offset, hlc: 7, compression, hops: 0, term: 0, flags: 0 };
    open.seal(info, &mut Sealer::new()).into()
}

fn commit() -> FollowedCommit {
    let appended = |index, base_offset, count| Appended { partition: id(1, index), base_offset, count, digest: 0x80 };
    FollowedCommit {
        origin: OriginId(1),
        record: CommitRecord {
            number: CommitNumber(3),
            hlc: 7,
            appended: vec![appended(4, 10, 3), appended(0, 0, 1)],
            cursors: vec![CursorMove { reader: "r".into(), partition: id(5, 0), next: 11 }],
            state: vec![StateWrite { tree: "s".into(), key: b"k".to_vec(), value: Some(b"v".to_vec()) }],
        },
        batches: vec![batch(id(1, 4), 10, &[b"a", b"b"]), batch(id(1, 4), 12, &[b"c"]), batch(id(1, 0), 0, &[b"d"])],
    }
}

fn encoded(commit: &FollowedCommit) -> Vec<u8> {
    let mut out = b"before".to_vec();
    commit.encode(&mut out);
    assert_eq!(&out[..6], b"before");
    out.split_off(6)
}

#[test]
fn a_shipped_commit_keeps_its_bytes_and_comes_back() {
    let commit = commit();
    let bytes = encoded(&commit);
    let hex: String = bytes.iter().map(|b| format!("{b:02x}")).collect();
    let head = "01882a347f0000000000000001000000000000000300".to_owned() + "00001f00000003";
    let record = "0702010204 0a03 8001 0102000 001 8001 010172050200 0b 0101730 16b010176".replace(' ', "");
    let batches: Vec<String> = commit
        .batches
        .iter()
        .map(|batch| {
            let bytes: String = batch.bytes().iter().map(|b| format!("{b:02x}")).collect();
            format!("{:08x}{bytes}", batch.bytes().len())
        })
        .collect();
    assert_eq!(hex, format!("{head}{record}{}", batches.concat()));
    assert_eq!(FollowedCommit::decode(&bytes), Ok(commit));
}

#[test]
fn each_flipped_bit_each_cut_and_each_byte_too_many_is_found() {
    let bytes = encoded(&commit());
    for at in 0..bytes.len() * 8 {
        let mut flipped = bytes.clone();
        flipped[at / 8] ^= 1 << (at % 8);
        assert!(FollowedCommit::decode(&flipped).is_err(), "bit {at}");
    }
    for cut in 0..bytes.len() {
        assert!(FollowedCommit::decode(&bytes[..cut]).is_err(), "cut at {cut}");
    }
    let longer = [&bytes[..], &[0]].concat();
    assert_eq!(FollowedCommit::decode(&longer), Err(FollowedCommitError::Trailing));
    assert_eq!(
        FollowedCommit::decode(&vec![0; COMMIT_BYTES_MAX + 1]),
        Err(FollowedCommitError::TooLarge(COMMIT_BYTES_MAX + 1))
    );
}

/// Decodes what a commit is encoded to after `change`.
fn changed(change: impl FnOnce(&mut FollowedCommit)) -> Result<FollowedCommit, FollowedCommitError> {
    let mut commit = commit();
    change(&mut commit);
    FollowedCommit::decode(&encoded(&commit))
}

#[test]
fn batches_may_be_absent_at_the_front_of_a_run_alone() {
    for absent in [0..1, 0..2, 2..3, 0..3] {
        let decoded = changed(|commit| drop(commit.batches.drain(absent.clone())));
        assert_eq!(decoded.map(|commit| commit.batches.len()), Ok(3 - absent.len()), "{absent:?}");
    }
    let other = |index| Err(FollowedCommitError::OtherBatches(id(1, index)));
    assert_eq!(changed(|commit| drop(commit.batches.remove(1))), other(4));
    assert_eq!(changed(|commit| commit.batches.swap(0, 1)), other(4));
    assert_eq!(changed(|commit| commit.batches.rotate_left(2)), other(4));
    assert_eq!(changed(|commit| commit.batches.push(batch(id(1, 7), 0, &[b"x"]))), other(7));
    assert_eq!(changed(|commit| commit.batches.insert(0, batch(id(1, 4), 9, &[b"x"]))), other(4));
    assert_eq!(changed(|commit| commit.batches[2] = batch(id(1, 0), 0, &[b"d", b"e"])), other(0));
    assert_eq!(changed(|commit| commit.batches[2] = batch(id(1, 9), 0, &[b"d"])), other(9));
    assert_eq!(changed(|commit| commit.record.appended[0].count = 4), other(4));
    assert_eq!(changed(|commit| commit.record.appended[1].base_offset = 1), other(0));
    assert_eq!(changed(|commit| commit.record.appended[0].count = u64::MAX), other(4));
    assert_eq!(changed(|commit| commit.origin = OriginId(2)), other(4));
}

#[test]
fn a_record_over_a_bound_is_refused() {
    let decoded = changed(|commit| commit.record.state[0].tree = "a\0b".into());
    assert_eq!(decoded, Err(FollowedCommitError::Bound("state has a tree name that cannot be stored")));
    let decoded = changed(|commit| commit.record.cursors[0].reader = String::new());
    assert_eq!(decoded, Err(FollowedCommitError::Bound("cursor has a name that cannot be stored")));
}

#[test]
fn what_is_lacked_includes_a_commit_that_is_written_and_not_told_yet() {
    let (store, _) = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap();
    let topic = store.create_topic("line", TopicConfig::default()).unwrap();
    let id = PartitionId { origin: store.origin(), topic: topic.id, index: 0 };
    let append = |base_offset| {
        let mut open = OpenBatch::new();
        open.push(9, None, Some(b"v"), &HeaderBlock::new()).unwrap();
        let compression = Compression::None;
        let info = SealInfo { partition: id, base_offset, hlc: 7, compression, hops: 0, term: 0, flags: 0 };
        let batch = open.seal(info, &mut Sealer::new());
        store.commit(&Commit { hlc: 7, appends: vec![batch], ..Commit::default() }).unwrap()
    };
    let first = append(0);
    store.sync().unwrap();
    append(1);
    // As it is between the moment when the partition's end has moved and the one when the commit is told.
    store.committed.store(first.0, Ordering::Release);
    assert_eq!(store.end_offset(id), 2);
    assert_eq!(store.first_offsets_after(first).unwrap(), Some(HashMap::from([(id, 1)])));
}

#[test]
fn records_are_shown_from_one_on_up_to_the_first_that_is_gone() {
    let (store, _) = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap();
    let own = store.origin();
    for hlc in 1..=4 {
        store.commit(&Commit { hlc, ..Commit::default() }).unwrap();
    }
    let shown = |from: u64| {
        let mut shown = Vec::new();
        let next = store.each_commit_of(own, CommitNumber(from), &mut |record| shown.push(record.hlc)).unwrap();
        (shown, next.0)
    };
    assert_eq!(shown(0), (vec![1, 2, 3, 4], 5));
    assert_eq!(shown(3), (vec![3, 4], 5));
    assert_eq!(shown(5), (vec![], 5));
    let mut other = Vec::new();
    let next = store.each_commit_of(OriginId(!own.0), CommitNumber(2), &mut |record| other.push(record.hlc)).unwrap();
    assert_eq!((other, next), (vec![], CommitNumber(2)));
}

#[test]
fn what_is_shipped_as_it_is_written_is_what_is_read_later() {
    let (store, _) = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap();
    let topic = store.create_topic("line", TopicConfig { partitions: 3, ..TopicConfig::default() }).unwrap();
    let id = |index| PartitionId { origin: store.origin(), topic: topic.id, index };
    let sealed = |index, base_offset| {
        let mut open = OpenBatch::new();
        open.push(9, None, Some(b"v"), &HeaderBlock::new()).unwrap();
        let (partition, compression) = (id(index), Compression::None);
        let info = SealInfo { partition, base_offset, hlc: 7, compression, hops: 0, term: 0, flags: 0 };
        open.seal(info, &mut Sealer::new())
    };
    let state = vec![StateWrite { tree: "s".into(), key: b"k".to_vec(), value: None }];
    for (appends, stand_together) in [
        (vec![(2, 0), (2, 1), (0, 0)], true),
        (vec![], true),
        (vec![(1, 0), (0, 1), (1, 1)], false),
        (vec![(0, 2)], true),
    ] {
        let appends: Vec<SealedBatch> = appends.into_iter().map(|(index, base)| sealed(index, base)).collect();
        let commit = Commit { hlc: 7, appends, state: state.clone(), ..Commit::default() };
        let mut shipped = b"before".to_vec();
        let number = store.commit_and_ship(&commit, Some(&mut shipped)).unwrap();
        store.sync().unwrap();
        let mut read = b"before".to_vec();
        if stand_together {
            store.commits_to_ship(store.origin(), number, 1).unwrap()[0].encode(&mut read);
        }
        assert_eq!(shipped, read, "commit {number}");
    }
}
