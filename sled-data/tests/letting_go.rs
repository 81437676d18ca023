//! Readers of much let go of the memory that it takes on their way.
#![allow(clippy::unwrap_used)]

mod harness;

use std::sync::Arc;

use harness::watched::Watched;
use harness::{append, partition, seal};
use sled_data::{CopyPart, Options, PartitionId, Store, TopicConfig, Wait};

/// What goes through memory before it is let go of, and what a step reads again.
const HELD_MAX: u64 = (32 + 32) << 20;
const EVENT_BYTES: usize = 4 << 20;
const EVENTS: u64 = 40;

/// A store with 160 MiB in one partition.
fn filled() -> (Watched, Store, PartitionId) {
    let watched = Watched::default();
    let store = Store::on(Arc::new(watched.clone()), Options::default()).unwrap().0;
    let topic = store.create_topic("t", TopicConfig::default()).unwrap();
    let id = partition(&store, &topic, 0);
    // Numbers, so that nothing of it shrinks.
    let mut state = 1;
    let value: Vec<u8> = (0..EVENT_BYTES / 4).flat_map(|_| (harness::next(&mut state) as u32).to_le_bytes()).collect();
    for offset in 0..EVENTS {
        store.commit(&append(seal(id, offset, &[&value]))).unwrap();
    }
    store.sync().unwrap();
    assert!(store.batch_bytes() > 2 * HELD_MAX);
    watched.most();
    (watched, store, id)
}

#[test]
fn a_copy_that_looks_for_a_digest_holds_little() {
    let (watched, store, id) = filled();
    let head = store.copy_head(store.origin()).unwrap();
    let digest = |from: u64, parts: &[CopyPart]| {
        let jump = parts.first().unwrap();
        assert!(matches!(jump, CopyPart::Jump { partition, to, .. } if (*partition, *to) == (id, from)), "{jump:?}");
    };
    // The follower has the first event; then, it has none, and the first one is gone here.
    let (parts, _) = store.copy_parts(&head, None, &|_| 1, 1).unwrap();
    digest(1, &parts);
    assert!(watched.most() < HELD_MAX);
    store.trim(id, 1, 1).unwrap();
    watched.most();
    let (parts, _) = store.copy_parts(&head, None, &|_| 0, 1).unwrap();
    digest(1, &parts);
    assert!(watched.most() < HELD_MAX);
}

#[test]
fn the_search_for_a_key_holds_little() {
    let (watched, store, id) = filled();
    assert!(store.latest_by_key(id, b"none", u64::MAX).unwrap().is_none());
    assert!(watched.most() < HELD_MAX);
    assert_eq!(store.latest_by_key(id, b"key-2", 3).unwrap().unwrap().0, 2);
}

#[test]
fn verification_holds_little() {
    let (watched, store, _) = filled();
    assert!(store.verify(&mut |_| {}).unwrap().is_clean());
    assert!(watched.most() < HELD_MAX);
}

#[test]
fn a_pass_of_retention_is_bounded_in_bytes() {
    let (watched, store, _) = filled();
    let topic = store.topics().remove(0);
    store.set_topic_retention(topic.id, Some(0), None).unwrap();
    let (mut trimmed, mut passes) = (0, 0);
    while trimmed < EVENTS {
        let pass = store.apply_retention(i64::MAX, 10_000, &Wait::for_ever(&|_| u64::MAX)).unwrap();
        assert!(pass.batches > 0 && pass.more == (trimmed + pass.batches < EVENTS), "{pass:?}");
        assert!(pass.bytes < (64 + 8) << 20, "{} bytes at once", pass.bytes);
        (trimmed, passes) = (trimmed + pass.batches, passes + 1);
    }
    // What is removed is read twice.
    assert!(passes == 3 && watched.most() < 3 * HELD_MAX, "{passes} passes");
}
