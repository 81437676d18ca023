//! Subscribers that keep up, fall behind, go away and come back: everything once, in order.

use std::sync::Arc;

use sled_data::{MemoryBackend, OpenBatch, Options, Store, TopicConfig};

use super::*;
use crate::clock::Clock;
use crate::event_log::{self, EventLog, NO_HEADERS, NewEvent, Wake};
use crate::ingest::CATCH_ALL_TOPIC;

struct Fixture {
    log: Arc<EventLog>,
    fan_out: Arc<FanOut>,
}

fn fixture(queue_bytes_max: usize) -> Fixture {
    let backend: Arc<dyn sled_data::Backend> = Arc::new(MemoryBackend::new());
    let (store, _) = Store::on(backend, Options { seed: Some(1), ..Options::default() }).unwrap();
    let config = event_log::Config { recent_bytes_max: 2_000, ..event_log::Config::default() };
    let log = EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), config).unwrap();
    let two = TopicConfig { partitions: 2, ..TopicConfig::default() };
    log.ensure_topic(CATCH_ALL_TOPIC, Some(two)).unwrap();
    let fan_out = Arc::new(FanOut::new(Config { queue_bytes_max, ..Config::default() }));
    log.observe(Arc::clone(&fan_out) as _);
    Fixture { log, fan_out }
}

fn append(log: &EventLog, mqtt_topic: &str, value: u64) {
    let topic = log.topic(CATCH_ALL_TOPIC).unwrap();
    let value = value.to_string();
    let event = NewEvent {
        timestamp_ms: 1,
        key: Some(mqtt_topic.as_bytes()),
        value: Some(value.as_bytes()),
        headers: &NO_HEADERS,
        extra: &NO_HEADERS,
        fanned_out: false,
    };
    let ticket = {
        let mut open = log.lock();
        open.append_keyed(&topic, &event).unwrap();
        open.ticket()
    };
    log.durable_blocking(ticket).unwrap();
}

/// What a subscriber gets now, by MQTT topic.
fn drain(log: &EventLog, subscriber: &Subscriber) -> Vec<(String, u64)> {
    let mut got = Vec::new();
    while let Some(segment) = subscriber.next_segment(log) {
        for event in segment.events() {
            let value = std::str::from_utf8(event.record.value.unwrap()).unwrap().parse().unwrap();
            got.push((event.topic.to_owned(), value));
        }
    }
    got
}

fn of_topic(got: &[(String, u64)], topic: &str) -> Vec<u64> {
    got.iter().filter(|(name, _)| name == topic).map(|(_, value)| *value).collect()
}

#[test]
fn one_that_keeps_up_gets_each_event_of_its_topics_once() {
    let Fixture { log, fan_out } = fixture(1 << 20);
    let wake = Arc::new(Wake::default());
    let subscriber = fan_out.join(1, Arc::clone(&wake));
    fan_out.subscribe(1, "a/+");
    for n in 0..20 {
        append(&log, "a/b", n);
        append(&log, "c", n);
    }
    assert_eq!(wake.take(), Wake::DELIVER);
    let got = drain(&log, &subscriber);
    assert_eq!(of_topic(&got, "a/b"), (0..20).collect::<Vec<_>>());
    log.close();
}

#[test]
fn one_that_falls_behind_reads_the_log_and_misses_nothing() {
    let Fixture { log, fan_out } = fixture(100);
    let subscriber = fan_out.join(1, Arc::new(Wake::default()));
    fan_out.subscribe(1, "#");
    let mut got = Vec::new();
    for n in 0..300 {
        append(&log, "a/b", n);
        append(&log, "c", n);
        if n % 70 == 69 {
            got.extend(drain(&log, &subscriber));
        }
    }
    got.extend(drain(&log, &subscriber));
    let all: Vec<u64> = (0..300).collect();
    assert_eq!(of_topic(&got, "a/b"), all);
    assert_eq!(of_topic(&got, "c"), all);
    assert!(subscriber.outstanding().is_empty());
    log.close();
}

#[test]
fn one_that_was_away_gets_what_it_is_owed_and_then_what_comes() {
    let Fixture { log, fan_out } = fixture(1 << 20);
    let subscriber = fan_out.join(1, Arc::new(Wake::default()));
    fan_out.subscribe(1, "a/b");
    append(&log, "a/b", 0);
    subscriber.go_away([]);
    for n in 1..50 {
        append(&log, "a/b", n);
    }
    subscriber.come_back();
    append(&log, "a/b", 50);
    assert_eq!(of_topic(&drain(&log, &subscriber), "a/b"), (0..=50).collect::<Vec<_>>());
    append(&log, "a/b", 51);
    assert_eq!(of_topic(&drain(&log, &subscriber), "a/b"), [51]);
    log.close();
}

#[test]
fn live_events_reach_those_who_keep_up_and_are_counted_for_those_who_do_not() {
    let Fixture { log, fan_out } = fixture(200);
    let subscriber = fan_out.join(1, Arc::new(Wake::default()));
    fan_out.subscribe(1, "a");
    let live = |count: u32| {
        let mut batch = OpenBatch::new();
        for _ in 0..count {
            batch.push(1, Some(b"a"), Some(b"7"), &NO_HEADERS).unwrap();
        }
        fan_out.publish_live(CATCH_ALL_TOPIC, batch);
    };
    live(3);
    assert_eq!(drain(&log, &subscriber).len(), 3);
    live(10);
    live(100);
    assert_eq!(drain(&log, &subscriber).len(), 10);
    assert_eq!(subscriber.dropped_live(), 100);
    log.close();
}

#[test]
fn nobody_gets_anything_after_leaving() {
    let Fixture { log, fan_out } = fixture(1 << 20);
    let subscriber = fan_out.join(1, Arc::new(Wake::default()));
    fan_out.subscribe(1, "#");
    fan_out.leave(1, ["#"]);
    append(&log, "a", 1);
    assert!(drain(&log, &subscriber).is_empty());
    assert!(fan_out.wanted_by("a").is_empty());
    log.close();
}

#[test]
fn what_is_owed_is_read_to_its_end_and_no_further() {
    let Fixture { log, fan_out } = fixture(1 << 20);
    let subscriber = fan_out.join(1, Arc::new(Wake::default()));
    let topic = log.topic(CATCH_ALL_TOPIC).unwrap();
    let index = sled_data::partition_for_key(b"a", topic.partitions());
    let partition = topic.partition(index).unwrap().id();
    for n in 0..5 {
        append(&log, "a", n);
    }
    // The events from 3 on are visible, and about to be handed to it.
    subscriber.owe(partition, Position { next: 1, end: 3 });
    assert_eq!(of_topic(&drain(&log, &subscriber), "a"), [1, 2]);
    assert!(subscriber.outstanding().is_empty());
    assert_eq!(subscriber.event(&log, partition, 2).unwrap().events().count(), 1);
    log.close();
}

#[test]
fn a_topic_that_is_gone_does_not_hold_back_the_others() {
    let Fixture { log, fan_out } = fixture(1 << 20);
    let subscriber = fan_out.join(1, Arc::new(Wake::default()));
    let gone = log.ensure_topic("gone", None).unwrap();
    append(&log, "a", 7);
    log.delete_topic("gone").unwrap();
    for topic in [gone, log.topic(CATCH_ALL_TOPIC).unwrap()] {
        for partition in topic.all_partitions() {
            subscriber.owe(partition.id(), Position { next: 0, end: 1 });
        }
    }
    assert_eq!(of_topic(&drain(&log, &subscriber), "a"), [7]);
    log.close();
}

#[test]
fn what_is_queued_is_outstanding() {
    let Fixture { log, fan_out } = fixture(1 << 20);
    let subscriber = fan_out.join(1, Arc::new(Wake::default()));
    fan_out.subscribe(1, "#");
    append(&log, "a", 0);
    append(&log, "a", 1);
    let outstanding: Vec<Position> = subscriber.outstanding().into_values().collect();
    assert_eq!(outstanding, [Position { next: 0, end: 2 }]);
    log.close();
}
