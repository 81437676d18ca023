//! Salvage: whatever the damage, each batch whose bytes are still whole comes back, nothing else does, and what is missing is told.
#![allow(clippy::unwrap_used)]

mod harness;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::path::Path;

use harness::{Times, next, partition, seal_at};
use sled_data::{
    Commit, Compression, Durability, HLC_LOGICAL_BITS, OpenError, Options, PartitionId, SalvageError, SalvageReport,
    Store, TopicConfig, TopicId, salvage,
};

const ROUNDS: usize = 60;
const COMMITS: u64 = 60;
const COMPRESSIONS: [Compression; 3] = [Compression::None, Compression::Lz4, Compression::Zstd];

/// An event as it must come back: time, key, value.
type Event = (i64, Vec<u8>, Vec<u8>);

/// A batch that was stored.
struct Batch {
    partition: PartitionId,
    base: u64,
    events: Vec<Event>,
    /// What it is stored as, and where each copy of that lies in `db`.
    first: Vec<u8>,
    places: Vec<usize>,
    /// Whether it is longer than one value.
    large: bool,
}

/// A closed store in a folder, and all that was put into it.
struct Filled {
    folder: tempfile::TempDir,
    db: Vec<u8>,
    batches: Vec<Batch>,
    names: BTreeMap<TopicId, (String, TopicConfig)>,
    starts: BTreeMap<PartitionId, u64>,
}

/// Fills a store: three topics of each compression and an internal one, small batches and some in parts, with a trim in the middle.
fn fill(seed: u64) -> Filled {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("store"), Options::default()).unwrap().0;
    let mut noise = seed;
    let mut topics = Vec::new();
    for (compression, name) in
        COMPRESSIONS.into_iter().chain([Compression::Lz4]).zip(["none", "lz4", "plant/zstd", "_internal"])
    {
        let config = TopicConfig { partitions: 3, compression, retention_ms: Some(1 << 40), ..TopicConfig::default() };
        topics.push(store.create_topic(name, config).unwrap());
    }
    let mut batches: Vec<Batch> = Vec::new();
    for n in 0..COMMITS {
        let hlc = (1_700_000_000_000 + n) << HLC_LOGICAL_BITS;
        let mut commit = Commit { hlc, ..Commit::default() };
        for topic in &topics {
            for index in 0..2 {
                let id = partition(&store, topic, index);
                let base = store.end_offset(id);
                let values = values(&mut noise, n == COMMITS / 3 && index == 1);
                let refs: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
                let times = Times { hlc, first_ms: n as i64 * 1_000 };
                let sealed = seal_at(id, base, &refs, times, topic.config.compression);
                let events = values.iter().enumerate().map(|(i, value)| {
                    let key = format!("key-{}", (base + i as u64) % 3).into_bytes();
                    (times.first_ms + i as i64 * 10, key, value.clone())
                });
                let first = sealed.bytes()[..sealed.bytes().len().min(64 << 10)].to_vec();
                let large = first.len() < sealed.bytes().len();
                batches.push(Batch { partition: id, base, events: events.collect(), first, places: Vec::new(), large });
                commit.appends.push(sealed);
            }
        }
        store.commit(&commit).unwrap();
        store.sync().unwrap();
        if n == COMMITS / 2 {
            store.trim(partition(&store, &topics[0], 0), 20, 100).unwrap();
        }
    }
    let starts = store.partitions().into_iter().map(|id| (id, store.start_offset(id))).collect();
    let names = store.topics().into_iter().map(|topic| (topic.id, (topic.name, topic.config))).collect();
    store.close().unwrap();
    drop(store);
    let db = fs::read(folder.path().join("store/sled/db")).unwrap();
    find_places(&db, &mut batches);
    Filled { folder, db, batches, names, starts }
}

/// One to four values, some of which compress; a large one where that is asked for.
fn values(noise: &mut u64, large: bool) -> Vec<Vec<u8>> {
    if large {
        return vec![(0..150_000).map(|_| next(noise) as u8).collect()];
    }
    (0..1 + next(noise) % 4)
        .map(|_| {
            let (len, masked) = (next(noise) % 900, if next(noise).is_multiple_of(2) { 0xff } else { 3 });
            (0..len).map(|_| next(noise) as u8 & masked).collect()
        })
        .collect()
}

/// Finds all copies of each batch's first value; their envelopes are all different.
fn find_places(db: &[u8], batches: &mut [Batch]) {
    let by_head: BTreeMap<Vec<u8>, usize> =
        batches.iter().enumerate().map(|(n, b)| (b.first[..72].to_vec(), n)).collect();
    for at in 0..db.len() - 72 {
        if db[at] != 1 {
            continue;
        }
        if let Some(batch) = by_head.get(&db[at..at + 72]) {
            let batch = &mut batches[*batch];
            if db[at..].starts_with(&batch.first) {
                batch.places.push(at);
            }
        }
    }
}

/// What the sound envelopes of these batches say that they cover: from where to where. What lies inside is not searched,
/// even where the rest of the batch is gone.
fn covered(db: &[u8], batches: &[Batch]) -> Vec<(usize, usize)> {
    let by_head: BTreeMap<&[u8], usize> = batches.iter().map(|b| (&b.first[..72], b.first.len())).collect();
    let heads = (0..db.len().saturating_sub(72)).filter(|at| db[*at] == 1);
    heads.filter_map(|at| by_head.get(&db[at..at + 72]).map(|len| (at, at + len))).collect()
}

/// One way to hurt the file; what it did to which bytes.
fn hurt(db: &mut Vec<u8>, used: usize, round: usize, noise: &mut u64) -> String {
    let mut at = || next(noise) as usize % used;
    match round % 6 {
        0 => {
            let at = at();
            db[at] ^= 1 << (round % 8);
            format!("a bit at {at}")
        }
        1 => {
            let places: Vec<usize> = (0..2_000).map(|_| at()).collect();
            places.iter().for_each(|at| db[*at] ^= 0x55);
            "2,000 bytes".into()
        }
        2 => {
            let (from, len) = (at(), at() % 1_000_000);
            let to = (from + len).min(db.len());
            db[from..to].fill(0);
            format!("zeros from {from} to {to}")
        }
        3 => {
            let to = at();
            db.truncate(to);
            format!("the end from {to} on")
        }
        // What sled reads first: it does not open then.
        4 => {
            let to = 1 + at() % 20_000;
            db[..to].fill(0xee);
            format!("the first {to} bytes")
        }
        _ => {
            let (from, to, len) = (at(), at(), at() % 50_000);
            let len = len.min(db.len() - from.max(to));
            db.copy_within(from..from + len, to);
            format!("{len} bytes from {from} over those at {to}")
        }
    }
}

/// Writes `db` over the store's and salvages into a folder of its own; the new store is sound.
fn salvaged(filled: &Filled, db: &[u8]) -> Result<(Store, SalvageReport, tempfile::TempDir), SalvageError> {
    let from = filled.folder.path().join("store");
    fs::write(from.join("sled/db"), db).unwrap();
    let before = listing(&from);
    let to = tempfile::tempdir().unwrap();
    let mut progress = 0;
    let made = salvage(&from, &to.path().join("new"), &mut |now| {
        assert!(now.bytes >= progress && now.bytes <= now.bytes_total);
        progress = now.bytes;
    });
    assert_eq!(listing(&from), before, "the damaged folder was written to");
    assert_eq!(fs::read(from.join("sled/db")).unwrap(), db);
    if made.is_err() {
        assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0, "something was left behind");
    }
    let report = made?;
    let store = Store::open(&to.path().join("new"), Options::default()).unwrap().0;
    let verified = store.verify(&mut |_| {}).unwrap();
    assert!(verified.is_clean(), "{verified:?}");
    assert_eq!(verified.events, report.events());
    Ok((store, report, to))
}

fn listing(folder: &Path) -> Vec<(String, u64)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let meta = entry.metadata().unwrap();
        let name = entry.path().to_string_lossy().into_owned();
        if meta.is_dir() {
            found.extend(listing(&entry.path()));
        }
        found.push((name, meta.len()));
    }
    found.sort();
    found
}

/// All events of a partition of the new store.
fn events(store: &Store, id: PartitionId) -> Vec<Event> {
    let mut found = Vec::new();
    while (found.len() as u64) < store.end_offset(id) {
        for batch in store.read(id, found.len() as u64, 1 << 20).unwrap() {
            let records = batch.decompress().unwrap();
            let owned = records.iter().map(|r| (r.timestamp_ms, r.key.unwrap().to_vec(), r.value.unwrap().to_vec()));
            found.extend(owned);
        }
    }
    found
}

/// Checks what came back against what was stored. `whole` says which batches must be there.
fn check(filled: &Filled, store: &Store, report: &SalvageReport, whole: &dyn Fn(&Batch) -> bool, what: &str) {
    let mut came = HashSet::new();
    for account in report.partitions() {
        let id = PartitionId { origin: store.origin(), ..account.partition };
        let found = events(store, id);
        assert_eq!(found.len() as u64, account.events, "{what}");
        for run in &account.runs {
            for old in run.from..run.to {
                let new = run.new_from + (old - run.from);
                let batch = filled.batches.iter().find(|b| {
                    b.partition == account.partition && (b.base..b.base + b.events.len() as u64).contains(&old)
                });
                let batch = batch.unwrap_or_else(|| panic!("{what}: offset {old} was invented"));
                assert_eq!(found[new as usize], batch.events[(old - batch.base) as usize], "{what}: offset {old}");
                came.insert((account.partition, old));
            }
        }
    }
    assert_eq!(came.len() as u64, report.events(), "{what}: each event comes once");
    for batch in &filled.batches {
        let is_there = came.contains(&(batch.partition, batch.base));
        assert!(is_there || !whole(batch), "{what}: {} at {} is whole and was lost", batch.partition, batch.base);
        let account = report.partitions().find(|account| account.partition == batch.partition);
        let Some(account) = account.filter(|account| !is_there && account.start.is_some()) else { continue };
        // Not there, not trimmed, and before the end that is known: told.
        let told = account.missing.iter().any(|range| (range.from..range.to).contains(&batch.base));
        let told_of = || format!("{what}: {} at {}: {:?}", batch.partition, batch.base, account.missing);
        let kept = batch.base >= account.start.unwrap();
        assert!(told || !kept || batch.base >= account.end.unwrap(), "is missing, {}", told_of());
        assert!(kept || !told, "was trimmed, {}", told_of());
    }
}

#[test]
fn a_sound_store_comes_back_whole() {
    let filled = fill(21);
    let (store, report, _folder) = salvaged(&filled, &filled.db.clone()).unwrap();
    check(&filled, &store, &report, &|b| b.base >= filled.starts[&b.partition], "nothing");
    assert!(report.is_complete(), "{report:?}");
    for (id, (name, config)) in &filled.names {
        let topic = store.topics().into_iter().find(|topic| topic.id == *id).unwrap();
        let expected = match name.as_str() {
            "_internal" => "salvaged_internal",
            "plant/zstd" => "salvaged_plant.zstd",
            other => other,
        };
        assert_eq!((topic.name.as_str(), &topic.config), (expected, config));
    }
    for account in report.partitions() {
        assert_eq!(account.start, Some(filled.starts[&account.partition]));
    }
    // The clock goes on above what is stored, and the age of events is kept.
    let newest = (1_700_000_000_000 + COMMITS - 1) << HLC_LOGICAL_BITS;
    let id = report.topics[0].partitions[0].partition;
    let id = PartitionId { origin: store.origin(), ..id };
    let last = store.read_back(id, u64::MAX, 1).unwrap().remove(0);
    assert_eq!(last.envelope().hlc, newest);
    store.close().unwrap();
    drop(store);
    let (_store, found) = Store::open(&_folder.path().join("new"), Options::default()).unwrap();
    // It goes on a random step above, of less than a second, so that a copied store's stamps differ.
    let step_max = 1_000 << HLC_LOGICAL_BITS;
    assert!(found.clean && (newest..newest + step_max).contains(&found.last_hlc), "{found:?}, {newest}");
}

#[test]
fn what_damage_leaves_whole_comes_back() {
    let seed = 31;
    let filled = fill(seed);
    let used = filled.db.len() - filled.db.iter().rev().take_while(|byte| **byte == 0).count();
    assert!(!does_not_open(&filled, &filled.db));
    let mut noise = seed;
    let (mut refused, mut incomplete, mut lost_names, mut saved) = (0, 0, 0, 0);
    for round in 0..ROUNDS {
        let mut db = filled.db.clone();
        let what = hurt(&mut db, used, round, &mut noise);
        let what = format!("seed {seed} round {round}: {what}");
        let covered = covered(&db, &filled.batches);
        let whole = |batch: &Batch| {
            let is_hidden = |at: usize| covered.iter().any(|(from, to)| *from < at && at < *to);
            let is_there = |at: usize| db.get(at..at + batch.first.len()).is_some_and(|bytes| bytes == batch.first);
            let kept = |at: &usize| is_there(*at) && !is_hidden(*at);
            !batch.large && batch.base >= filled.starts[&batch.partition] && batch.places.iter().any(kept)
        };
        match salvaged(&filled, &db) {
            Ok((store, report, _folder)) => {
                check(&filled, &store, &report, &whole, &what);
                saved += report.events();
                incomplete += usize::from(!report.is_complete());
                lost_names += report.topics.iter().filter(|topic| topic.recorded_name.is_none()).count();
            }
            Err(SalvageError::Nothing(_)) => assert!(!filled.batches.iter().any(whole), "{what}"),
            Err(e) => panic!("{what}: {e}"),
        }
        refused += usize::from(does_not_open(&filled, &db));
    }
    let stored: usize = filled.batches.iter().map(|batch| batch.events.len()).sum();
    let kept = saved * 100 / (stored * ROUNDS) as u64;
    println!(
        "of {ROUNDS}: {refused} did not open, {incomplete} not complete, {lost_names} names lost, {kept} % of events saved"
    );
    assert!(refused > ROUNDS / 2 && incomplete > ROUNDS / 5);
}

/// Whether the store itself refuses the damaged file, in a folder of its own: opening writes.
fn does_not_open(filled: &Filled, db: &[u8]) -> bool {
    Store::open(copy_of(&filled.folder.path().join("store"), db).path(), Options::default()).is_err()
}

/// A copy of the store's folder with another `db`.
fn copy_of(from: &Path, db: &[u8]) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("sled")).unwrap();
    fs::copy(from.join("mark"), copy.path().join("mark")).unwrap();
    for entry in fs::read_dir(from.join("sled")).unwrap().flatten().filter(|entry| entry.path().is_file()) {
        fs::copy(entry.path(), copy.path().join("sled").join(entry.file_name())).unwrap();
    }
    fs::write(copy.path().join("sled/db"), db).unwrap();
    copy
}

/// The events that came back of each partition.
fn saved(report: &SalvageReport) -> BTreeMap<PartitionId, u64> {
    report.partitions().map(|account| (account.partition, account.events)).collect()
}

/// Starts a damaged store twice, and salvages it where that is refused: as much comes back as would have without. Whether it was refused.
fn after_two_starts(from: &Path, db: &[u8], what: &str) -> bool {
    let (untouched, started) = (copy_of(from, db), copy_of(from, db));
    let refusal = Store::open(started.path(), Options::default()).err();
    let Some(refusal) = refusal else {
        assert!(!started.path().join("sled.tail").exists(), "{what}: what was kept is still there");
        return false;
    };
    assert!(!matches!(refusal, OpenError::Full | OpenError::InUse), "{what}: {refusal}");
    assert!(Store::open(started.path(), Options::default()).is_err(), "{what}: refused, and then not");
    let to = tempfile::tempdir().unwrap();
    let expected = salvage(untouched.path(), &to.path().join("untouched"), &mut |_| {});
    if let Ok(expected) = expected {
        let found = saved(&until_let_go(|| salvage(started.path(), &to.path().join("started"), &mut |_| {})));
        for (partition, events) in saved(&expected) {
            assert!(found.get(&partition) >= Some(&events), "{what}: {partition} {events} {:?}", found.get(&partition));
        }
    }
    true
}

#[test]
fn starts_that_were_refused_take_nothing_from_salvage() {
    let seed = 37;
    let filled = fill(seed);
    let used = filled.db.len() - filled.db.iter().rev().take_while(|byte| **byte == 0).count();
    let (mut noise, mut refused) = (seed, 0);
    for round in 0..ROUNDS / 2 {
        let mut db = filled.db.clone();
        let what = format!("seed {seed} round {round}: {}", hurt(&mut db, used, round, &mut noise));
        refused += usize::from(after_two_starts(&filled.folder.path().join("store"), &db, &what));
    }
    assert!(refused > ROUNDS / 6, "{refused} were refused");
}

#[test]
fn starts_of_a_store_of_several_segments_take_nothing_from_salvage() {
    let (seed, folder) = (38, tempfile::tempdir().unwrap());
    let store = Store::open(folder.path(), Options::default()).unwrap().0;
    let config = TopicConfig { partitions: 1, compression: Compression::None, ..TopicConfig::default() };
    let id = partition(&store, &store.create_topic("t", config).unwrap(), 0);
    let mut noise = seed;
    for offset in 0..400 {
        let value: Vec<u8> = (0..50_000).map(|_| next(&mut noise) as u8).collect();
        let sealed = seal_at(id, offset, &[&value], Times { hlc: offset, first_ms: 0 }, Compression::None);
        store.commit(&Commit { hlc: offset, appends: vec![sealed], ..Commit::default() }).unwrap();
        store.sync().unwrap();
        // The first segments are written anew: what is behind the log's end is not all zeros.
        if offset % 100 == 99 {
            store.trim(id, offset - 20, 100).unwrap();
        }
    }
    store.close().unwrap();
    drop(store);
    let db = fs::read(folder.path().join("sled/db")).unwrap();
    let segments = db.len() / (8 << 20);
    assert!(segments > 3, "{segments}");
    let mut refused = 0;
    for round in 0..16 {
        let mut db = db.clone();
        // A segment's head, or a byte of it.
        let at =
            (next(&mut noise) as usize % segments) * (8 << 20) + (round % 2) * (next(&mut noise) as usize % (7 << 20));
        db[at] ^= 0x40;
        let what = format!("seed {seed} round {round}: a bit at {at} of {segments} segments");
        refused += usize::from(after_two_starts(folder.path(), &db, &what));
    }
    assert!(refused > 2, "{refused} were refused");
}

#[test]
fn a_batch_inside_an_event_is_no_batch() {
    let filled = fill(41);
    let outer = tempfile::tempdir().unwrap();
    let path = outer.path().join("store");
    let store = Store::open(&path, Options::default()).unwrap().0;
    let config = TopicConfig { partitions: 1, compression: Compression::None, ..TopicConfig::default() };
    let topic = store.create_topic("holds", config).unwrap();
    let id = partition(&store, &topic, 0);
    // Events that are stored batches, and one that is a part of a store's file and takes several values.
    let mut payloads: Vec<&[u8]> = filled.batches.iter().take(40).map(|batch| batch.first.as_slice()).collect();
    payloads.push(&filled.db[..200_000]);
    for (offset, payload) in (0..).zip(&payloads) {
        let sealed = seal_at(id, offset, &[payload], Times { hlc: offset, first_ms: 0 }, Compression::None);
        store.commit(&Commit { hlc: offset, appends: vec![sealed], ..Commit::default() }).unwrap();
    }
    store.sync().unwrap();
    // The store in use is refused, and so is a folder that is there.
    let to = outer.path().join("new");
    assert!(matches!(salvage(&path, &to, &mut |_| {}), Err(SalvageError::InUse)));
    store.close().unwrap();
    drop(store);
    assert!(matches!(salvage(&path, outer.path(), &mut |_| {}), Err(SalvageError::Exists(_))));
    assert!(matches!(salvage(outer.path(), &to, &mut |_| {}), Err(SalvageError::NoStore(_))));
    let report = until_let_go(|| salvage(&path, &to, &mut |_| {}));
    assert_eq!((report.topics.len(), report.events()), (1, payloads.len() as u64), "{report:?}");
    let store = Store::open(&to, Options::default()).unwrap().0;
    let id = PartitionId { origin: store.origin(), ..id };
    let found: Vec<Vec<u8>> = events(&store, id).into_iter().map(|event| event.2).collect();
    assert_eq!(found, payloads);
}

#[test]
fn events_of_several_lives_come_back_in_their_order() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    let mut stored = Vec::new();
    let mut topic = None;
    for life in 0..3_u64 {
        let store = Store::open(&path, Options::default()).unwrap().0;
        let config = TopicConfig { partitions: 1, durability: Durability::Memory, ..TopicConfig::default() };
        let info = topic.get_or_insert_with(|| store.create_topic("t", config).unwrap());
        let id = partition(&store, info, 0);
        for n in 0..5 {
            let value = format!("{life}-{n}").into_bytes();
            // Their clocks lie between one another's: those of lives of several nodes do.
            let times = Times { hlc: life * 3 + n * 10, first_ms: 0 };
            let sealed = seal_at(id, n, &[&value], times, Compression::Lz4);
            store.commit(&Commit { hlc: times.hlc, appends: vec![sealed], ..Commit::default() }).unwrap();
            stored.push(value);
        }
        // Not closed: a topic of this durability begins a new life then.
        store.sync().unwrap();
    }
    let to = folder.path().join("new");
    let report = until_let_go(|| salvage(&path, &to, &mut |_| {}));
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.partitions().map(|account| account.partition.origin).collect::<HashSet<_>>().len(), 3);
    let store = Store::open(&to, Options::default()).unwrap().0;
    let id = partition(&store, &topic.unwrap(), 0);
    let found: Vec<Vec<u8>> = events(&store, id).into_iter().map(|e| e.2).collect();
    assert_eq!(found, stored);
    let clocks: Vec<u64> = store.read(id, 0, usize::MAX).unwrap().iter().map(|batch| batch.envelope().hlc).collect();
    assert_eq!(clocks, [0, 10, 20, 30, 40, 40, 40, 40, 40, 43, 43, 43, 43, 43, 46]);
}

/// A store that was dropped is let go of by its own threads a moment after.
fn until_let_go(salvage: impl Fn() -> Result<SalvageReport, SalvageError>) -> SalvageReport {
    let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
    loop {
        match salvage() {
            Err(SalvageError::InUse) if std::time::Instant::now() < deadline => std::thread::yield_now(),
            done => return done.unwrap(),
        }
    }
}
