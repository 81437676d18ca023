//! Power cuts: a real run under load is recorded call by call; then images of its disk are built as a cut at some point could have left
//! them - all that was synced, and of the rest a random, torn, reordered part - and each must open with every acknowledged commit.
//!
//! `POWER_CUT_SEED` repeats the cuts, `POWER_CUT_CALLS=1` lists what was recorded. Needs a C compiler as `cc`; says so and does nothing where there is none.
#![allow(clippy::unwrap_used)]

mod disk;
mod load;

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{SystemTime, UNIX_EPOCH};

use disk::{Call, Disk, Kind};
use sled_data::{CommitNumber, Options, PartitionId, Store};

const IMAGES: usize = 120;
/// Images cut while the store is being made.
const EARLY_IMAGES: usize = 30;
/// Tells the recorded process what it is.
const CHILD: &str = "POWER_CUT_CHILD";

fn main() {
    if let Some(folder) = std::env::var_os(CHILD) {
        return load::run(Path::new(&folder));
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    if args.iter().any(|arg| arg == "--list") {
        return println!("power_cut: test");
    }
    let filters: Vec<_> = args.iter().filter(|arg| !arg.starts_with('-')).collect();
    if filters.is_empty() || filters.iter().any(|filter| "power_cut".contains(filter.as_str())) {
        power_cut();
    }
}

fn power_cut() {
    let work = tempfile::tempdir().unwrap();
    let Some(recorder) = build_recorder(work.path()) else {
        return println!("power_cut skipped: no C compiler answers to `cc`");
    };
    let seed = match std::env::var("POWER_CUT_SEED") {
        Ok(seed) => seed.parse().expect("POWER_CUT_SEED is a number"),
        Err(_) => SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64,
    };
    let root = work.path().join("disk");
    let log = work.path().join("log");
    std::fs::create_dir(&root).unwrap();
    let child = Command::new(std::env::current_exe().unwrap())
        .env(CHILD, &root)
        .env("LD_PRELOAD", recorder)
        .env("RECORDER_ROOT", &root)
        .env("RECORDER_LOG", &log)
        .output()
        .unwrap();
    assert!(child.status.success(), "{}", String::from_utf8_lossy(&child.stderr));
    let calls = disk::parse(&std::fs::read(&log).unwrap());
    let written: usize = calls.iter().map(|call| call.data.len()).sum();
    if std::env::var_os("POWER_CUT_CALLS").is_some() {
        for (n, call) in calls.iter().enumerate() {
            println!("{n} {:?} {} +{} of {}", call.kind, call.path.display(), call.data.len(), call.at);
        }
    }
    println!("power_cut: seed {seed}, {} calls, {} MiB written", calls.len(), written >> 20);
    check_images(&calls, &root, &work.path().join("image"), seed);
}

fn build_recorder(work: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/power_cut/recorder.c");
    let library = work.join("recorder.so");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .args([&library, &source])
        .args(["-ldl", "-lpthread"])
        .output();
    match compiled {
        Ok(output) => {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            Some(library)
        }
        Err(_) => None,
    }
}

/// Call numbers after which the power is cut, in order.
fn cuts(calls: &[Call], draw: &mut dyn FnMut() -> u64) -> Vec<usize> {
    let first_ack = calls.iter().position(is_ack).expect("something was acknowledged");
    let mut cuts: Vec<usize> = (0..IMAGES)
        .map(|n| {
            let among = if n < EARLY_IMAGES { first_ack } else { calls.len() };
            draw() as usize % among
        })
        .collect();
    cuts.sort_unstable();
    cuts
}

fn is_ack(call: &Call) -> bool {
    call.kind == Kind::Write && call.path.ends_with(load::ACKS)
}

fn check_images(calls: &[Call], root: &Path, image: &Path, seed: u64) {
    let mut count = 0;
    let mut draw = || {
        count += 1;
        load::mix(seed, count)
    };
    let mut disk = Disk::default();
    let mut next = 0;
    let (mut acked, mut most) = (0, 0);
    for (n, cut) in cuts(calls, &mut draw).into_iter().enumerate() {
        while next <= cut {
            disk.apply(calls, next);
            if is_ack(&calls[next]) {
                acked = u64::from_be_bytes(calls[next].data.as_slice().try_into().unwrap());
            }
            next += 1;
        }
        let _ = std::fs::remove_dir_all(image);
        std::fs::create_dir(image).unwrap();
        // From all that was not synced gone to all of it there.
        let share = n as u64 % 5;
        disk.image(calls, root, image, share, &mut draw);
        let name = format!("seed {seed}, image {n}, cut after call {cut}, share {share}, acknowledged {acked}");
        most = most.max(check_image(image, acked, &name));
    }
    println!("power_cut: {IMAGES} images held every acknowledged commit; the last one {most}");
}

/// Opens an image and checks it whole; its newest commit.
fn check_image(image: &Path, acked: u64, name: &str) -> u64 {
    let store_folder = image.join("store");
    let (store, found) = Store::open(&store_folder, Options::default()).unwrap_or_else(|e| panic!("{name}: {e}"));
    let last = store.last_commit().0;
    assert!(last >= acked, "{name}: ends at commit {last}");
    assert_eq!(store.alarm(), None, "{name}");
    let topics = store.topics();
    if last > 0 {
        assert_eq!(topics.len(), 1, "{name}");
        check_commit(&store, last, name);
    }
    let report = store.verify(&mut |_| {}).unwrap();
    assert!(report.is_clean(), "{name}: {report:?}, {found:?}");
    // And it goes on.
    let origin = store.origin();
    store.create_topic("after", sled_data::TopicConfig::default()).unwrap();
    store.close().unwrap();
    drop(store);
    let store = Store::open(&store_folder, Options::default()).unwrap_or_else(|e| panic!("{name}, again: {e}")).0;
    assert_eq!((store.origin(), store.last_commit()), (origin, CommitNumber(last)), "{name}");
    last
}

/// Exactly what commit `last` leaves: events, cursors, state.
fn check_commit(store: &Store, last: u64, name: &str) {
    let topic = store.topics()[0].id;
    for (index, end) in load::ends_after(last).into_iter().enumerate() {
        let index = index as u32;
        let p = PartitionId { origin: store.origin(), topic, index };
        assert_eq!(store.end_offset(p), end, "{name}: end of {index} at commit {last}");
        assert_eq!(store.cursor("reader", p).unwrap(), Some(end), "{name}");
        let mut at = store.start_offset(p);
        assert!(at <= load::trimmed_by(last)[index as usize], "{name}: {index} begins at {at}");
        while at < end {
            for batch in store.read(p, at, 1 << 20).unwrap_or_else(|e| panic!("{name}: {e}")) {
                let records = batch.decompress().unwrap();
                for record in records.iter() {
                    assert_eq!(records.offset_of(&record), at, "{name}");
                    assert!(record.value == Some(&load::event(index, at)), "{name}: {index} at {at}");
                    at += 1;
                }
            }
        }
    }
    let number = Some(last.to_be_bytes().to_vec());
    assert_eq!(store.state_get("tree", b"last").unwrap(), number, "{name}");
    assert_eq!(store.state_get("tree", &[b'k', last as u8 % 50]).unwrap(), number, "{name}");
    let commits = store.commits(store.first_kept_commit(), usize::MAX).unwrap();
    assert_eq!(commits.last().map(|c| c.number.0), Some(last), "{name}");
}
