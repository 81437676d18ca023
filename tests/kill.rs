//! SIGKILL under load: what was acknowledged is there exactly once, in order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::harness::log::assert_dense;
use crate::harness::mqtt::publisher::{Publisher, Record};
use crate::harness::{Event, Node, wait};

const ROUNDS: u64 = 20;
const CONNECTIONS: u64 = 4;

#[test]
fn kill_under_load() {
    let mut node = Node::start();
    let mut records = Vec::new();
    for round in 0..ROUNDS {
        records.extend(round_of_load(&mut node, round));
        node.run();
    }
    let total: u64 = records.iter().map(|r| r.acked).sum();
    assert!(total > ROUNDS * CONNECTIONS, "hardly anything was acknowledged: {total}");
    check(&node, &records);
    // A clean stop keeps it as well.
    assert!(node.stop().success());
    node.run();
    check(&node, &records);
}

/// Publishes on fresh connections until enough was acknowledged, then kills.
fn round_of_load(node: &mut Node, round: u64) -> Vec<Record> {
    let acked = Arc::new(AtomicU64::new(0));
    let start = |connection| {
        let topic = format!("load/{round}/{connection}");
        Publisher::start(node.mqtt, &topic, Arc::clone(&acked))
    };
    let publishers: Vec<Publisher> = (0..CONNECTIONS).map(start).collect();
    let enough = 300 + round * 97 % 700; // another moment in each round
    wait::until_true("acknowledgements", || acked.load(Ordering::Relaxed) >= enough);
    node.kill();
    publishers.into_iter().map(Publisher::record).collect()
}

fn check(node: &Node, records: &[Record]) {
    let events = node.events("mqtt");
    assert_dense(&events);
    let mut by_topic: BTreeMap<&str, Vec<&Event>> = BTreeMap::new();
    for event in &events {
        by_topic.entry(event.key()).or_default().push(event);
    }
    for record in records {
        let found = by_topic.remove(record.topic.as_str()).unwrap_or_default();
        let numbers: Vec<String> = found.iter().map(|e| e.text()).collect();
        let expected: Vec<String> = (0..numbers.len()).map(|n| n.to_string()).collect();
        assert_eq!(numbers, expected, "{}: once each, in order", record.topic);
        let stored = numbers.len() as u64;
        assert!(stored >= record.acked, "{record:?}: only {stored} stored");
        assert!(stored <= record.sent, "{record:?}: {stored} stored");
    }
    assert!(by_topic.is_empty(), "events that nobody sent: {:?}", by_topic.keys());
}
