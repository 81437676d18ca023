//! Numbered events at every node of a site, and what each node must hold of them afterwards.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::Value;
use sled_data::{Options, Store};

use crate::harness::mqtt::publisher::{Publisher, Record};
use crate::harness::site::Site;
use crate::harness::{Event, wait};

/// The topics that are published to: acknowledged by quorum, and by the node's own disk.
pub const TOPICS: [&str; 2] = ["vital", "plain"];

/// Makes both topics.
pub fn make_topics(site: &Site) {
    TOPICS.iter().zip(["quorum", "sync"]).for_each(|(topic, durability)| site.create_topic(0, topic, durability));
}

/// Connections that publish to both topics as fast as they can.
pub struct Load {
    /// By the node's name.
    publishers: Vec<(String, Publisher)>,
    acked: Arc<AtomicU64>,
}

impl Load {
    /// Publishes at all that run; `run` tells these connections from earlier ones.
    pub fn start(site: &Site, run: &str) -> Load {
        Load::start_paced(site, run, Duration::ZERO)
    }

    /// The same with a pause after each acknowledgement.
    pub fn start_paced(site: &Site, run: &str, pause: Duration) -> Load {
        let acked = Arc::new(AtomicU64::new(0));
        let mut publishers = Vec::new();
        for place in site.running() {
            for topic in TOPICS {
                let mqtt_topic = format!("{topic}/{run}/{}", site.members[place].name);
                let started = Publisher::start_paced(site[place].mqtt, &mqtt_topic, Arc::clone(&acked), pause);
                publishers.push((site.members[place].name.clone(), started));
            }
        }
        Load { publishers, acked }
    }

    /// Waits until so many more events are acknowledged.
    pub fn wait(&self, count: u64) {
        let enough = self.acked.load(Ordering::Relaxed) + count;
        wait::until_true("acknowledgements", || self.acked.load(Ordering::Relaxed) >= enough);
    }

    /// Ends it; what each connection knows.
    pub fn stop(self) -> Vec<Record> {
        self.publishers.into_iter().map(|(_, publisher)| publisher.stop()).collect()
    }

    /// Ends it at one node; what the connections there know.
    pub fn stop_at(&mut self, name: &str) -> Vec<Record> {
        let at = |(at, _): &mut (String, Publisher)| at == name;
        self.publishers.extract_if(.., at).map(|(_, publisher)| publisher.stop()).collect()
    }
}

/// All events of a topic at a node, by their place in the log.
pub fn sorted(site: &Site, place: usize, topic: &str) -> Vec<Value> {
    let mut lines: Vec<Value> = site[place].events(topic).into_iter().map(|event| event.0).collect();
    lines.sort_by_key(|line| {
        let number = |name: &str| line[name].as_u64().unwrap();
        (line["origin"].as_str().unwrap().to_owned(), number("partition"), number("offset"))
    });
    lines
}

/// What is acknowledged must be at every node that runs, once and in order, and the nodes must hold the same. The site
/// must be level.
pub fn check(site: &Site, records: &[Record]) {
    let running: Vec<usize> = site.running().collect();
    let mut events = Vec::new();
    for topic in TOPICS {
        let first = sorted(site, running[0], topic);
        assert_dense(&first);
        for place in &running[1..] {
            let other = sorted(site, *place, topic);
            let name = &site.members[*place].name;
            let at = first.iter().zip(&other).position(|(one, other)| one != other);
            let differ = at.map(|at| (&first[at], &other[at]));
            assert!(
                differ.is_none() && first.len() == other.len(),
                "{topic} at {name}: {} events, {differ:?}",
                other.len()
            );
        }
        events.extend(first.into_iter().map(Event));
    }
    let mut by_key: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for event in &events {
        by_key.entry(event.key()).or_default().push(event.text());
    }
    for record in records {
        let found = by_key.remove(record.topic.as_str()).unwrap_or_default();
        let expected: Vec<String> = (0..found.len()).map(|number| number.to_string()).collect();
        assert_eq!(found, expected, "{}: once each, in order", record.topic);
        let stored = found.len() as u64;
        assert!((record.acked..=record.sent).contains(&stored), "{record:?}: {stored} stored");
    }
    assert!(by_key.is_empty(), "events that nobody sent: {:?}", by_key.keys());
}

/// Each partition of each origin has all numbers from 0 on.
fn assert_dense(lines: &[Value]) {
    let mut next: BTreeMap<(&str, u64), u64> = BTreeMap::new();
    for line in lines {
        let partition = (line["origin"].as_str().unwrap(), line["partition"].as_u64().unwrap());
        let expected = next.entry(partition).or_default();
        assert_eq!(line["offset"], *expected, "{partition:?}");
        *expected += 1;
    }
}

/// Stops all nodes and compares what their stores hold, by checksums and by digests.
pub fn check_stores(site: &mut Site) {
    let running: Vec<usize> = site.running().collect();
    let mut held = Vec::new();
    for place in running {
        let node = &mut site.members[place].node;
        let verified = node.cli(&["store", "verify", "--json"]).ok().json();
        assert_eq!(verified["clean"], true, "{verified}");
        assert!(node.stop().success());
        held.push((site.members[place].name.clone(), digests(&site[place].data().join("store"))));
    }
    let (first, digests) = &held[0];
    assert!(!digests.is_empty(), "{first} holds nothing");
    for (other, held) in &held[1..] {
        assert_eq!(digests, held, "{first} and {other} hold the same");
    }
}

/// The end and the digest of each partition of the topics that are published to.
fn digests(store: &std::path::Path) -> BTreeMap<String, (u64, u64)> {
    let (store, _) = Store::open(store, Options::default()).unwrap();
    let topics = store.topics();
    let mut found = BTreeMap::new();
    for partition in store.partitions() {
        let topic = topics.iter().find(|topic| topic.id == partition.topic);
        if let Some(topic) = topic.filter(|topic| TOPICS.contains(&topic.name.as_str())) {
            let name = format!("{} {} {}", topic.name, partition.origin, partition.index);
            found.insert(name, (store.end_offset(partition), store.digest(partition)));
        }
    }
    store.close().unwrap();
    found
}
