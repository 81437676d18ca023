//! Appends, syncs and reads 100-byte readings on one thread and prints one JSON object:
//! `throughput FOLDER SECONDS`. The folder must be empty and is left behind.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::time::{Duration, Instant};

use sled_data::{
    Commit, Compression, HeaderBlock, OpenBatch, Options, PartitionId, SealInfo, Sealer, Store, TopicConfig,
};

/// Distinct readings: more than a batch holds.
const READINGS: usize = 16_384;
/// What one call of `read` may return.
const READ_BYTES: usize = 1 << 20;

fn main() {
    let mut args = std::env::args().skip(1);
    let (Some(folder), Some(seconds)) = (args.next(), args.next().and_then(|s| s.parse().ok())) else {
        eprintln!("usage: throughput FOLDER SECONDS");
        std::process::exit(2);
    };
    let length = Duration::from_secs(seconds);
    let store = Store::open(Path::new(&folder), Options::default()).unwrap().0;
    let topic = store.create_topic("telemetry", TopicConfig::default()).unwrap();
    let partitions: Vec<PartitionId> = (0..topic.config.partitions)
        .map(|index| PartitionId { origin: store.origin(), topic: topic.id, index })
        .collect();
    append(&store, &partitions, Duration::from_secs(1));
    let (appended, took, syncs_us) = append(&store, &partitions, length);
    let (read, read_took) = read_all(&store, &partitions);
    println!(
        r#"{{"append_per_s":{:.0},"read_per_s":{:.0},"sync_p50_us":{},"sync_p99_us":{},"append_cpu_us":{:.4}}}"#,
        appended as f64 / took.elapsed.as_secs_f64(),
        read as f64 / read_took.as_secs_f64(),
        quantile(&syncs_us, 0.50),
        quantile(&syncs_us, 0.99),
        took.cpu.as_secs_f64() * 1e6 / appended as f64,
    );
    store.close().unwrap();
}

/// How long something took, on the wall and on all processors.
struct Took {
    elapsed: Duration,
    cpu: Duration,
}

/// Appends full batches, one to each partition in a commit, each commit synced.
fn append(store: &Store, partitions: &[PartitionId], length: Duration) -> (u64, Took, Vec<u64>) {
    let readings: Vec<String> = (0..READINGS as u64).map(reading).collect();
    let mut stream = readings.iter().cycle();
    let mut sealer = Sealer::new();
    let mut open = OpenBatch::new();
    let headers = HeaderBlock::new();
    let (mut count, mut syncs_us) = (0, Vec::new());
    let (started, cpu) = (Instant::now(), processor_time());
    while started.elapsed() < length {
        let mut commit = Commit { hlc: count + 1, ..Commit::default() };
        for &partition in partitions {
            open.clear();
            while open.has_room(128) {
                let value = stream.next().unwrap().as_bytes();
                open.push(1_700_000_000_000 + count as i64, Some(b"dev-17"), Some(value), &headers).unwrap();
                count += 1;
            }
            let base_offset = store.end_offset(partition);
            let info = SealInfo {
                partition,
                base_offset,
                hlc: commit.hlc,
                compression: Compression::Lz4,
                hops: 0,
                term: 0,
                flags: 0,
            };
            commit.appends.push(open.seal(info, &mut sealer));
        }
        store.commit(&commit).unwrap();
        let before = Instant::now();
        store.sync().unwrap();
        syncs_us.push(before.elapsed().as_micros() as u64);
        for batch in commit.appends {
            sealer.recycle(batch);
        }
    }
    syncs_us.sort_unstable();
    (count, Took { elapsed: started.elapsed(), cpu: processor_time() - cpu }, syncs_us)
}

/// Reads every record of every partition.
fn read_all(store: &Store, partitions: &[PartitionId]) -> (u64, Duration) {
    let started = Instant::now();
    let mut value_bytes = 0;
    let mut count = 0;
    for &partition in partitions {
        let mut from = store.start_offset(partition);
        while from < store.end_offset(partition) {
            for batch in store.read(partition, from, READ_BYTES).unwrap() {
                let records = batch.decompress().unwrap();
                for record in records.iter() {
                    value_bytes += record.value.map_or(0, <[u8]>::len) as u64;
                    count += 1;
                }
                from = batch.next_offset();
            }
        }
    }
    assert_eq!(value_bytes, count * 100, "every value is as long as it was");
    (count, started.elapsed())
}

/// A reading of 100 bytes; numbers vary as a multiplicative hash does.
fn reading(seq: u64) -> String {
    let noise = seq.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32;
    let mut text = format!(
        r#"{{"device":"dev-{:02}","seq":{seq},"temperature":{}.{:02},"humidity":{}.{},"battery_mv":{}"#,
        seq % 32,
        15 + noise % 60,
        noise / 60 % 100,
        30 + noise / 6_000 % 40,
        noise / 240_000 % 10,
        3_000 + noise / 2_400_000 % 1_200,
    );
    text.push_str(&" ".repeat(99 - text.len()));
    text.push('}');
    text
}

/// User and system time of this process so far; zero where `/proc` is absent.
fn processor_time() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Duration::from_millis(ticks * 10)
}

fn quantile(sorted: &[u64], share: f64) -> u64 {
    let rank = (sorted.len() as f64 * share).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}
