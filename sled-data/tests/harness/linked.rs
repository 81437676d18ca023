//! What tests of links share: an edge's store, its batches as a link brings them, and what a crash leaves of those.

use std::sync::Arc;

use sled_data::{LinkedPart, MemoryBackend, Options, PartitionId, Store, StoredBatch, TopicConfig, TopicInfo};

use super::{append, next, partition, seal};

/// An edge's store with so many batches of two events in one partition, and all of them.
pub fn edge(batches: u64) -> (Store, PartitionId, Vec<StoredBatch>) {
    let options = Options { seed: Some(77), ..Options::default() };
    let (store, _) = Store::on(Arc::new(MemoryBackend::new()), options).unwrap();
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let id = partition(&store, &topic, 0);
    for n in 0..batches {
        store.commit(&append(seal(id, n * 2, &[b"one", format!("two of {n}").as_bytes()]))).unwrap();
    }
    let all = store.read(id, 0, usize::MAX).unwrap();
    assert_eq!(all.len() as u64, batches);
    (store, id, all)
}

/// The edge's topic as it is called upstream.
pub fn topic_of(edge: &Store, id: PartitionId) -> TopicInfo {
    let info = edge.topics().into_iter().find(|topic| topic.id == id.topic).unwrap();
    TopicInfo { name: format!("plant/{}", info.name), ..info }
}

/// Batches as they come.
pub fn parts(batches: &[StoredBatch]) -> Vec<LinkedPart> {
    batches.iter().cloned().map(LinkedPart::Batch).collect()
}

/// Closes a store, and opens it again.
pub fn reopened(store: Store, open: &dyn Fn(Options) -> Store) -> Store {
    store.close().unwrap();
    drop(store);
    open(Options::default())
}

/// Cuts the power of a memory that no store holds any more: a share of what was not synced is left.
pub fn cut_power(memory: &MemoryBackend, dice: &mut u64) {
    let share = next(dice) as usize % 256;
    memory.power_cut(memory.unsynced_writes() * share / 255);
}

/// Asserts that the store knows how many bytes it keeps of a partition that is all it has.
pub fn assert_bytes_are_those_of(store: &Store, id: PartitionId) {
    let kept: u64 = store.read_back(id, u64::MAX, usize::MAX).unwrap().iter().map(|b| b.bytes().len() as u64).sum();
    assert_eq!(store.batch_bytes(), kept);
}
