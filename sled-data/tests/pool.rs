//! How many threads of sled's pool wake for a write: those of this process alone, so this is a program of its own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::time::{Duration, Instant};

use sled_data::{Backend, SledBackend, SledConfig};

/// sled wakes all seven of its threads for each write, of which two are left awake; now and then one more, and one write makes another.
const WAKES_MAX: f64 = 4.0;
/// Where writes are slow: each of five threads is kept for a second, then wakes, is asked, and sleeps again.
const WAKES_A_SECOND: f64 = 20.0;
const WRITES: u32 = 300;
/// More than seven segments of 8 MiB: who opens the store then has sled start more threads.
const LARGE_BYTES: usize = 100 << 20;
const OPENINGS_MAX: usize = 200;
const VALUE_BYTES: usize = 64 << 10;
const TIMEOUT: Duration = Duration::from_secs(90);

/// How often each thread of the pool has gone to sleep, by its number for the system.
fn pool() -> BTreeMap<OsString, u64> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    let sleeps = tasks.filter_map(|task| {
        let name = std::fs::read_to_string(task.path().join("comm")).ok()?;
        let status = std::fs::read_to_string(task.path().join("status")).ok()?;
        let sleeps = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?;
        name.starts_with("sled-io-").then(|| (task.file_name(), sleeps.trim().parse().unwrap()))
    });
    sleeps.collect()
}

/// Writes until few threads wake for a write.
fn until_few_wake(store: &SledBackend) {
    let tree = store.tree(b"small").unwrap();
    let began = Instant::now();
    for round in 0_u64.. {
        let (started, before) = (Instant::now(), pool());
        for n in 0..WRITES {
            // sled writes no value that is there.
            tree.insert(&n.to_be_bytes(), &began.elapsed().as_nanos().to_be_bytes()).unwrap();
            store.sync().unwrap();
        }
        let after = pool();
        let wakes: u64 =
            after.iter().map(|(thread, sleeps)| sleeps.saturating_sub(*before.get(thread).unwrap_or(&0))).sum();
        let by_time = WAKES_A_SECOND * started.elapsed().as_secs_f64();
        let wakes = (wakes as f64 - by_time) / f64::from(WRITES);
        // A thread that has ended took its count along.
        if before.keys().all(|thread| after.contains_key(thread)) && wakes < WAKES_MAX {
            println!("{wakes:.1} wake for a write, of {}, after {round} rounds, {:?}", after.len(), began.elapsed());
            return;
        }
        assert!(began.elapsed() < TIMEOUT, "{wakes:.1} of {} threads wake for a write", after.len());
    }
}

#[test]
fn few_threads_of_the_pool_wake_for_a_write() {
    let folder = tempfile::tempdir().unwrap();
    let open = || SledBackend::open(folder.path(), SledConfig { cache_bytes: 1 << 20 }).unwrap();
    let store = open();
    until_few_wake(&store);
    let large = store.tree(b"large").unwrap();
    for n in 0..LARGE_BYTES / VALUE_BYTES {
        large.insert(&n.to_be_bytes(), &vec![n as u8; VALUE_BYTES]).unwrap();
    }
    store.sync().unwrap();
    drop((large, store));
    // Whether sled takes more threads depends on how soon its own come.
    let store = (0..OPENINGS_MAX).map(|_| open()).find(|_| pool().len() > 7);
    let Some(store) = store else {
        println!("sled took no more than its seven threads in {OPENINGS_MAX} openings: not checked what comes of them");
        return;
    };
    until_few_wake(&store);
}
