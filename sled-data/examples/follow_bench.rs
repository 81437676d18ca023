//! How fast commits are shipped, applied and copied: 100-byte JSON events with 8-byte keys, lz4, on sled in folders of their own.
//!
//! `cargo run --release -p sled-data --example follow_bench [events] [events a commit] [bytes a call]`

use std::error::Error;
use std::hint::black_box;
use std::path::Path;
use std::time::Instant;

use sled_data::{
    Commit, CommitNumber, Compression, CursorMove, FollowedCommit, HeaderBlock, OpenBatch, Options, PartitionId,
    SealInfo, Sealer, StateWrite, Store, TopicConfig, partition_for_key,
};

const PARTITIONS: u32 = 4;
/// Commits between syncs while the source is being filled.
const COMMITS_A_SYNC: u64 = 64;

fn options() -> Options {
    Options { commit_records_max: usize::MAX, commit_record_bytes_max: u64::MAX, ..Options::default() }
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let total: u64 = args.next().map_or(Ok(2_000_000), |a| a.parse())?;
    let per_commit: u64 = args.next().map_or(Ok(200), |a| a.parse())?;
    let call_bytes: usize = args.next().map_or(Ok(1 << 20), |a| a.parse())?;
    let folder = tempfile::tempdir()?;
    let source = fill(&folder.path().join("source"), total, per_commit)?;
    let (stored, commits) = (source.batch_bytes(), source.last_commit());
    println!("{total} events, {commits} commits, {:.1} MB stored, {call_bytes} bytes a call", stored as f64 / 1e6);

    let told = |what: &str, start: Instant| {
        let seconds = start.elapsed().as_secs_f64();
        let rate = stored as f64 / 1e6 / seconds;
        let memory = resident().map_or_else(String::new, |bytes| format!("{:>7.0} MB resident", bytes / 1e6));
        println!("{what:<28} {rate:>8.1} MB/s {:>9.0} commits/s {memory}", commits.0 as f64 / seconds);
    };
    let start = Instant::now();
    each_call(&source, call_bytes, |commits| {
        black_box(commits);
        Ok(())
    })?;
    told("read", start);

    let start = Instant::now();
    each_call(&source, call_bytes, |commits| {
        black_box(way(commits)?);
        Ok(())
    })?;
    told("read, encode, decode", start);

    for (what, sync) in [("follow, a sync at the end", false), ("follow, a sync a call", true)] {
        let (store, _) = Store::open(&folder.path().join(what), options())?;
        let start = Instant::now();
        each_call(&source, call_bytes, |commits| {
            store.follow(&way(commits)?)?;
            if sync {
                store.sync()?;
            }
            Ok(())
        })?;
        store.sync()?;
        told(what, start);
        assert_eq!((store.batch_bytes(), store.last_commit_of(source.origin())), (stored, commits));
    }

    let (store, _) = Store::open(&folder.path().join("copy"), options())?;
    let start = Instant::now();
    copy(&source, &store, call_bytes)?;
    told("copy, a sync at the end", start);
    assert_eq!(store.batch_bytes(), stored);
    Ok(())
}

/// Bytes of this process that are in memory, where the system tells it.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let kib = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?.split_whitespace().next()?;
    kib.parse::<f64>().ok().map(|kib| kib * 1024.0)
}

fn each_call(
    source: &Store,
    call_bytes: usize,
    mut take: impl FnMut(Vec<FollowedCommit>) -> Result<(), Box<dyn Error>>,
) -> Result<(), Box<dyn Error>> {
    let mut next = CommitNumber(1);
    while next <= source.synced_commit() {
        let commits = source.commits_to_ship(source.origin(), next, call_bytes)?;
        source.let_go_if_due()?;
        next.0 += commits.len() as u64;
        take(commits)?;
    }
    Ok(())
}

/// The commits after they were encoded and decoded.
fn way(commits: Vec<FollowedCommit>) -> Result<Vec<FollowedCommit>, Box<dyn Error>> {
    let mut bytes = Vec::new();
    let decoded = commits.iter().map(|commit| {
        bytes.clear();
        commit.encode(&mut bytes);
        Ok(FollowedCommit::decode(&bytes)?)
    });
    decoded.collect()
}

fn copy(source: &Store, store: &Store, call_bytes: usize) -> Result<(), Box<dyn Error>> {
    let head = source.copy_head(source.origin())?;
    store.begin_copy(&head)?;
    let mut position = None;
    loop {
        let ends = |id| store.end_offset(id);
        let (parts, next) = source.copy_parts(&head, position.as_ref(), &ends, call_bytes)?;
        store.add_copy(head.origin, &parts)?;
        position = next;
        if position.is_none() {
            break;
        }
    }
    store.end_copy(head.origin, source.synced_commit())?;
    store.sync()?;
    Ok(())
}

/// A source with `total` events; each commit moves a cursor and writes a state value too.
fn fill(folder: &Path, total: u64, per_commit: u64) -> Result<Store, Box<dyn Error>> {
    let (store, _) = Store::open(folder, options())?;
    let topic = store.create_topic("bench", TopicConfig { partitions: PARTITIONS, ..TopicConfig::default() })?;
    let ids = [0, 1, 2, 3].map(|index| PartitionId { origin: store.origin(), topic: topic.id, index });
    let (headers, mut sealer) = (HeaderBlock::new(), Sealer::new());
    let mut open = ids.map(|_| OpenBatch::new());
    let mut ends = ids.map(|_| 0_u64);
    let (mut done, mut hlc) = (0, 0);
    while done < total {
        hlc += 1;
        let mut commit = Commit { hlc, ..Commit::default() };
        let mut seal = |batch: &mut OpenBatch, at: usize, appends: &mut Vec<_>| {
            let (partition, compression) = (ids[at], Compression::Lz4);
            let info = SealInfo { partition, base_offset: ends[at], hlc, compression, hops: 0, term: 0, flags: 0 };
            appends.push(batch.seal(info, &mut sealer));
            ends[at] += u64::from(batch.count());
            batch.clear();
        };
        for n in done..done + per_commit {
            let key = (n % 512).to_be_bytes();
            let value = format!(
                "{{\"device\":\"pump-{:04}\",\"temperature\":{}.{},\"pressure\":{},\"state\":\"running\",\"sequence\":{n:012}}}",
                n % 512,
                20 + n * 7 % 60,
                n * 13 % 10,
                1_000 + n * 31 % 500
            );
            let at = partition_for_key(&key, PARTITIONS) as usize;
            if !open[at].has_room(value.len() + 8) {
                seal(&mut open[at], at, &mut commit.appends);
            }
            open[at].push(1_700_000_000_000 + n as i64, Some(&key), Some(value.as_bytes()), &headers)?;
        }
        for (at, batch) in open.iter_mut().enumerate().filter(|(_, batch)| !batch.is_empty()) {
            seal(batch, at, &mut commit.appends);
        }
        done += per_commit;
        commit.cursors.push(CursorMove { reader: "bench".into(), partition: ids[0], next: ends[0] });
        let key = (hlc % 1_000).to_be_bytes().to_vec();
        commit.state.push(StateWrite { tree: "bench".into(), key, value: Some(hlc.to_be_bytes().to_vec()) });
        store.commit(&commit)?;
        if hlc % COMMITS_A_SYNC == 0 {
            store.sync()?;
        }
    }
    store.sync()?;
    Ok(store)
}
