//! What the store's tests share: a store on each backend, batches, reading back.
#![allow(dead_code, clippy::unwrap_used)]

pub mod linked;
pub mod watched;

use std::sync::Arc;

use sled_data::{
    Commit, Compression, HeaderBlock, MemoryBackend, OpenBatch, Options, PartitionId, SealInfo, SealedBatch, Sealer,
    Store,
};

/// Calls `test` with an opener of one and the same store, on each backend.
pub fn on_both(test: impl Fn(&dyn Fn(Options) -> Store)) {
    let memory = MemoryBackend::new();
    test(&|options| Store::on(Arc::new(memory.clone()), options).unwrap().0);
    let folder = tempfile::tempdir().unwrap();
    test(&|options| Store::open(folder.path(), options).unwrap().0);
}

/// One of the topic's partitions.
pub fn partition(store: &Store, topic: &sled_data::TopicInfo, index: u32) -> PartitionId {
    PartitionId { origin: store.origin(), topic: topic.id, index }
}

/// A sealed batch of these values: keys `key-0` to `key-2` in turn, timestamps 1000 + 10 x offset.
pub fn seal(partition: PartitionId, base_offset: u64, values: &[&[u8]]) -> SealedBatch {
    let times = Times { hlc: 7, first_ms: 1_000 + base_offset as i64 * 10 };
    seal_at(partition, base_offset, values, times, Compression::Lz4)
}

/// When a batch is stored, and when its first event happened.
#[derive(Clone, Copy)]
pub struct Times {
    pub hlc: u64,
    pub first_ms: i64,
}

/// A sealed batch of these values, keys as with [`seal`], 10 ms between timestamps.
pub fn seal_at(
    partition: PartitionId,
    base_offset: u64,
    values: &[&[u8]],
    times: Times,
    compression: Compression,
) -> SealedBatch {
    let mut open = OpenBatch::new();
    for (i, value) in values.iter().enumerate() {
        let key = format!("key-{}", (base_offset + i as u64) % 3);
        let ms = times.first_ms + i as i64 * 10;
        open.push(ms, Some(key.as_bytes()), Some(value), &HeaderBlock::new()).unwrap();
    }
    let info = SealInfo { partition, base_offset, hlc: times.hlc, compression, hops: 0, term: 0, flags: 0 };
    open.seal(info, &mut Sealer::new())
}

/// A commit of one batch.
pub fn append(batch: SealedBatch) -> Commit {
    Commit { hlc: 7, appends: vec![batch], ..Commit::default() }
}

/// Offsets and values of all events from `from` on.
pub fn values(store: &Store, partition: PartitionId, from: u64) -> Vec<(u64, Vec<u8>)> {
    values_within(store, partition, from, usize::MAX)
}

/// The same, of what one read of at most `max_bytes` gives.
pub fn values_within(store: &Store, partition: PartitionId, from: u64, max_bytes: usize) -> Vec<(u64, Vec<u8>)> {
    let mut out = Vec::new();
    for batch in store.read(partition, from, max_bytes).unwrap() {
        let records = batch.decompress().unwrap();
        assert!(records.digest_fits());
        let kept = records.iter().filter(|r| records.offset_of(r) >= from);
        out.extend(kept.map(|r| (records.offset_of(&r), r.value.unwrap().to_vec())));
    }
    out
}

/// A small generator of numbers: the seed is in the test.
pub fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
    *state >> 33
}
