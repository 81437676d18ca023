//! A byte flipped at a thousand places: no panic, no wrong data, the damage named and the rest readable.
#![allow(clippy::unwrap_used)]

mod harness;

use std::io::{Read, Seek, SeekFrom, Write};
use std::path::Path;
use std::sync::Arc;

use harness::{next, partition, seal};
use sled_data::{
    Commit, CommitNumber, CursorMove, MemoryBackend, OpenError, Options, PartitionId, ReadError, StateWrite, Store,
    TopicConfig,
};

const PLACES: usize = 1_000;
const COMMITS: u64 = 40;

/// What was stored: events by partition, and the number of values of the state tree.
struct Stored {
    partitions: Vec<(PartitionId, Vec<Vec<u8>>)>,
}

fn fill(store: &Store, large: usize) -> Stored {
    let topic = store.create_topic("t", TopicConfig { partitions: 2, ..TopicConfig::default() }).unwrap();
    let mut partitions: Vec<_> = (0..2).map(|i| (partition(store, &topic, i), Vec::new())).collect();
    let mut noise = 5;
    for n in 0..COMMITS {
        let mut commit = Commit { hlc: n, ..Commit::default() };
        for (id, events) in &mut partitions {
            let len = if n == COMMITS / 2 { large } else { 20 + n as usize };
            let new: Vec<Vec<u8>> = (0..3).map(|_| (0..len).map(|_| next(&mut noise) as u8).collect()).collect();
            let values: Vec<&[u8]> = new.iter().map(Vec::as_slice).collect();
            commit.appends.push(seal(*id, events.len() as u64, &values));
            events.extend(new);
        }
        let (id, events) = &partitions[0];
        commit.cursors.push(CursorMove { reader: "r".into(), partition: *id, next: events.len() as u64 });
        commit.state.push(StateWrite { tree: "s".into(), key: vec![n as u8], value: Some(vec![n as u8; 9]) });
        store.commit(&commit).unwrap();
        store.sync().unwrap();
    }
    Stored { partitions }
}

/// Reads all that can be read, and compares. Events must be there outside of the ranges told to be damaged. Whether damage was told.
fn check(store: &Store, stored: &Stored) -> bool {
    let events = check_events(store, stored);
    check_meta(store, stored) || events
}

fn check_events(store: &Store, stored: &Stored) -> bool {
    let mut told = false;
    for (id, events) in &stored.partitions {
        let end = store.end_offset(*id);
        assert!(end <= events.len() as u64);
        let mut at = 0;
        while at < end {
            match store.read(*id, at, 10_000) {
                Ok(batches) => {
                    for batch in batches {
                        let records = batch.decompress().unwrap();
                        for record in records.iter() {
                            assert_eq!(records.offset_of(&record), at);
                            assert_eq!(record.value, Some(events[at as usize].as_slice()));
                            at += 1;
                        }
                    }
                }
                Err(ReadError::Damaged { from, to, .. }) => {
                    assert!(from <= at && to > at && to <= end, "{from}..{to} at {at}");
                    told = true;
                    at = to;
                }
                Err(e) => panic!("{e}"),
            }
        }
    }
    told
}

fn check_meta(store: &Store, stored: &Stored) -> bool {
    let mut told = false;
    for n in 0..COMMITS {
        match store.state_get("s", &[n as u8]) {
            Ok(value) => assert_eq!(value, Some(vec![n as u8; 9])),
            Err(ReadError::DamagedMeta { .. } | ReadError::Backend(_)) => told = true,
            Err(e) => panic!("{e}"),
        }
        match store.commits(CommitNumber(n + 1), 1) {
            Ok(records) => assert_eq!((records[0].number.0, records[0].hlc), (n + 1, n)),
            Err(ReadError::DamagedMeta { .. } | ReadError::Backend(_)) => told = true,
            Err(e) => panic!("{e}"),
        }
    }
    match store.cursor("r", stored.partitions[0].0) {
        Ok(cursor) => assert_eq!(cursor, Some(COMMITS * 3)),
        Err(ReadError::DamagedMeta { .. } | ReadError::Backend(_)) => told = true,
        Err(e) => panic!("{e}"),
    }
    told
}

#[test]
fn a_flipped_byte_of_a_stored_value_is_named() {
    let memory = MemoryBackend::new();
    let store = Store::on(Arc::new(memory.clone()), Options::default()).unwrap().0;
    let stored = fill(&store, 30_000);
    assert!(!check(&store, &stored));
    assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    store.close().unwrap();
    let seed = 11;
    let mut noise = seed;
    let (mut refused, mut opened) = (0, 0);
    for round in 0..PLACES {
        let image = memory.image();
        // Half of the places in the small values, which take few of the bytes.
        let places = if round % 2 == 0 { image.value_bytes() } else { 5_000 };
        let place = next(&mut noise) as usize % places;
        let (tree, key) = image.flip(place, 1 << (round % 8)).unwrap();
        match Store::on(Arc::new(image), Options::default()) {
            Ok((store, _)) => {
                opened += 1;
                let told = check(&store, &stored);
                let report = store.verify(&mut |_| {}).unwrap();
                assert!(told && !report.is_clean(), "seed {seed} round {round}: {tree:?} {key:?}");
                assert!(report.damaged.len() + report.meta_damaged.len() == 1, "{report:?}");
                for damage in &report.damaged {
                    assert_eq!(damage.to - damage.from, 3, "{damage}");
                    assert!(damage.to_string().starts_with("t/"), "{damage}");
                }
            }
            Err(OpenError::Damaged(_) | OpenError::Newer { .. }) => refused += 1,
            Err(e) => panic!("seed {seed} round {round}: {e}"),
        }
    }
    println!("{opened} opened with the damage named, {refused} refused");
    assert!(opened > PLACES / 2 && refused > 0);
}

#[test]
fn a_flipped_byte_of_a_small_db_file_gives_no_wrong_data() {
    flip_db(30_000, 400, 12);
}

#[test]
fn a_flipped_byte_of_a_large_db_file_gives_no_wrong_data() {
    flip_db(4_000_000, 100, 13);
}

/// Flips a byte at `places` places of sled's file, whose largest events have `large` bytes.
fn flip_db(large: usize, places: usize, seed: u64) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), Options::default()).unwrap().0;
    let stored = fill(&store, large);
    store.close().unwrap();
    drop(store);
    let db = folder.path().join("sled/db");
    let mut whole = Vec::new();
    std::fs::File::open(&db).unwrap().read_to_end(&mut whole).unwrap();
    let used: Vec<usize> = (0..whole.len()).filter(|at| whole[*at] != 0).collect();
    let copy = tempfile::tempdir().unwrap();
    copy_store(folder.path(), copy.path());
    let untouched = Store::open(copy.path(), Options::default()).unwrap().0;
    assert!(!check(&untouched, &stored));
    drop(untouched);
    let mut noise = seed;
    let (mut refused, mut shorter, mut told) = (0, 0, 0);
    for round in 0..places {
        copy_store(folder.path(), copy.path());
        let place = used[next(&mut noise) as usize % used.len()];
        flip(&copy.path().join("sled/db"), place, whole[place] ^ 1 << (round % 8));
        match Store::open(copy.path(), Options::default()) {
            Ok((store, _)) => {
                assert_eq!(store.last_commit().0, COMMITS, "seed {seed} round {round}");
                let damaged = check(&store, &stored);
                told += u32::from(damaged);
                let report = store.verify(&mut |_| {}).unwrap();
                assert!(!damaged || !report.is_clean(), "seed {seed} round {round}: {report:?}");
            }
            Err(OpenError::Shorter { found, synced }) => {
                assert!(found < synced && synced == COMMITS);
                shorter += 1;
                if shorter % 10 == 0 {
                    check_accepted_loss(copy.path(), &stored);
                }
            }
            Err(OpenError::Damaged(_) | OpenError::Newer { .. } | OpenError::Io(_)) => refused += 1,
            Err(e) => panic!("seed {seed} round {round}: {e}"),
        }
    }
    println!("of {places} in {} bytes: {shorter} shorter, {refused} refused, {told} named", whole.len());
}

/// What is left can be read, and a new life keeps offsets from being used twice.
fn check_accepted_loss(folder: &Path, stored: &Stored) {
    let options = Options { accept_loss: true, ..Options::default() };
    let Ok((store, found)) = Store::open(folder, options) else { return };
    let lives: Vec<_> = stored.partitions.iter().map(|(id, _)| id.origin).collect();
    assert!(!lives.contains(&store.origin()));
    assert!(found.ended_life.is_none_or(|life| lives.contains(&life)));
    assert!(!check_events(&store, stored));
    drop(store);
    assert!(Store::open(folder, Options::default()).is_ok(), "accepted once");
}

fn copy_store(from: &Path, to: &Path) {
    std::fs::copy(from.join("mark"), to.join("mark")).unwrap();
    let _ = std::fs::remove_dir_all(to.join("sled"));
    std::fs::create_dir_all(to.join("sled")).unwrap();
    for entry in std::fs::read_dir(from.join("sled")).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            std::fs::copy(entry.path(), to.join("sled").join(entry.file_name())).unwrap();
        }
    }
}

fn flip(file: &Path, place: usize, byte: u8) {
    let mut file = std::fs::File::options().write(true).open(file).unwrap();
    file.seek(SeekFrom::Start(place as u64)).unwrap();
    file.write_all(&[byte]).unwrap();
}
