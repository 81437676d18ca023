//! How fast one thread appends and reads: 100-byte JSON events with 8-byte keys, lz4, a sync for each commit.
//!
//! `cargo run --release -p sled-data --example append_bench [events] [events a commit] [none|lz4|zstd]`

use std::error::Error;
use std::hint::black_box;
use std::time::{Duration, Instant};

use sled_data::{
    Commit, Compression, HeaderBlock, OpenBatch, Options, PartitionId, SealInfo, Sealer, Store, TopicConfig,
    partition_for_key,
};

const PARTITIONS: u32 = 4;
const READ_BYTES: usize = 1 << 20;

/// Events made beforehand, so that making them is not measured.
struct Event {
    key: [u8; 8],
    value: Vec<u8>,
    partition: usize,
}

fn events() -> Vec<Event> {
    (0..10_000_u64)
        .map(|n| {
            let key = (n % 512).to_be_bytes();
            let mut value = format!(
                "{{\"device\":\"pump-{:04}\",\"temperature\":{}.{},\"pressure\":{},\"state\":\"running\",\"sequence\":{n:06}",
                n % 512,
                20 + n * 7 % 60,
                n * 13 % 10,
                1000 + n * 31 % 500
            );
            while value.len() < 99 {
                value.push(' ');
            }
            value.push('}');
            Event { key, value: value.into_bytes(), partition: partition_for_key(&key, PARTITIONS) as usize }
        })
        .collect()
}

#[derive(Default)]
struct Spent {
    push: Duration,
    seal: Duration,
    commit: Duration,
    sync: Duration,
}

fn timed<T>(spent: &mut Duration, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let done = work();
    *spent += start.elapsed();
    done
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut args = std::env::args().skip(1);
    let total: usize = args.next().map_or(Ok(4_000_000), |a| a.parse())?;
    let per_commit: usize = args.next().map_or(Ok(2_000), |a| a.parse())?;
    let compression = match args.next().as_deref() {
        None | Some("lz4") => Compression::Lz4,
        Some("none") => Compression::None,
        Some("zstd") => Compression::Zstd,
        Some(other) => return Err(format!("no compression {other}").into()),
    };
    let folder = tempfile::tempdir()?;
    let (store, _) = Store::open(folder.path(), Options::default())?;
    let config = TopicConfig { partitions: PARTITIONS, compression, ..TopicConfig::default() };
    let topic = store.create_topic("bench", config)?;
    let ids: Vec<_> =
        (0..PARTITIONS).map(|index| PartitionId { origin: store.origin(), topic: topic.id, index }).collect();
    let events = events();
    let payload: usize = events.iter().map(|e| e.value.len() + 8).sum::<usize>() / events.len();
    println!("{total} events of {payload} bytes, {per_commit} a commit, {compression:?}");

    encode_only(&events)?;
    append(&store, &ids, &events, total, per_commit, compression)?;
    read(&store, &ids)?;
    println!("stored {:.1} MB, file {:.1} MB", store.batch_bytes() as f64 / 1e6, store.size_bytes() as f64 / 1e6);
    if let Some(alarm) = store.alarm() {
        return Err(alarm.into());
    }
    Ok(())
}

fn encode_only(events: &[Event]) -> Result<(), Box<dyn Error>> {
    let headers = HeaderBlock::new();
    let mut batch = OpenBatch::new();
    let start = Instant::now();
    let mut count = 0_u64;
    for round in 0..500 {
        for event in events {
            if !batch.has_room(event.value.len() + 8) {
                black_box(batch.count());
                batch.clear();
            }
            batch.push(round, Some(&event.key), Some(&event.value), &headers)?;
            count += 1;
        }
    }
    println!("encode   {:>12.0} events/s", count as f64 / start.elapsed().as_secs_f64());
    Ok(())
}

fn append(
    store: &Store,
    ids: &[PartitionId],
    events: &[Event],
    total: usize,
    per_commit: usize,
    compression: Compression,
) -> Result<(), Box<dyn Error>> {
    let headers = HeaderBlock::new();
    let mut sealer = Sealer::new();
    let mut open: Vec<OpenBatch> = ids.iter().map(|_| OpenBatch::new()).collect();
    let mut ends = vec![0_u64; ids.len()];
    let mut spent = Spent::default();
    let mut commit = Commit::default();
    let mut source = events.iter().cycle();
    let start = Instant::now();
    let mut done = 0;
    while done < total {
        commit.hlc += 1;
        let hlc = commit.hlc;
        let mut seal = |open: &mut OpenBatch, at: usize, appends: &mut Vec<_>| {
            let partition = ids[at];
            let info = SealInfo { partition, base_offset: ends[at], hlc, compression, hops: 0, term: 0, flags: 0 };
            appends.push(open.seal(info, &mut sealer));
            ends[at] += u64::from(open.count());
            open.clear();
        };
        timed(&mut spent.push, || {
            for event in source.by_ref().take(per_commit) {
                let batch = &mut open[event.partition];
                if !batch.has_room(event.value.len() + 8) {
                    seal(batch, event.partition, &mut commit.appends);
                }
                batch.push(1_700_000_000_000 + done as i64, Some(&event.key), Some(&event.value), &headers)?;
            }
            Ok::<(), sled_data::EventTooLarge>(())
        })?;
        timed(&mut spent.seal, || {
            for (at, batch) in open.iter_mut().enumerate().filter(|(_, batch)| !batch.is_empty()) {
                seal(batch, at, &mut commit.appends);
            }
        });
        timed(&mut spent.commit, || store.commit(&commit))?;
        timed(&mut spent.sync, || store.sync())?;
        for batch in commit.appends.drain(..) {
            sealer.recycle(batch);
        }
        done += per_commit;
    }
    let commits = commit.hlc as f64;
    println!("append   {:>12.0} events/s", done as f64 / start.elapsed().as_secs_f64());
    for (name, time) in [("push", spent.push), ("seal", spent.seal), ("commit", spent.commit), ("sync", spent.sync)] {
        println!("  {name:<6} {:>8.1} us a commit", time.as_secs_f64() * 1e6 / commits);
    }
    Ok(())
}

fn read(store: &Store, ids: &[PartitionId]) -> Result<(), Box<dyn Error>> {
    let start = Instant::now();
    let (mut count, mut bytes) = (0_u64, 0);
    for id in ids {
        let mut at = 0;
        while at < store.end_offset(*id) {
            for batch in store.read(*id, at, READ_BYTES)? {
                at = batch.next_offset();
                for record in batch.decompress()?.iter() {
                    count += 1;
                    bytes += record.value.map_or(0, <[u8]>::len);
                }
            }
        }
    }
    black_box(bytes);
    println!("read     {:>12.0} events/s", count as f64 / start.elapsed().as_secs_f64());
    Ok(())
}
