//! Rounds over a real event log on a memory store: order, ends, gaps, bounds.

use sled_data::{MemoryBackend, Options, Store, TopicConfig};

use super::round::Round;
use super::*;
use crate::clock::Clock;
use crate::event_log::{Config, NO_HEADERS, NewEvent, Topic};

fn log() -> Arc<EventLog> {
    let backend: Arc<dyn sled_data::Backend> = Arc::new(MemoryBackend::new());
    let (store, _) = Store::on(backend, Options { seed: Some(3), ..Options::default() }).unwrap();
    let config = Config { recent_bytes_max: 0, ..Config::default() };
    EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), config).unwrap()
}

fn topic(log: &EventLog, partitions: u32) -> Arc<Topic> {
    log.create_topic("t", TopicConfig { partitions, ..TopicConfig::default() }).unwrap()
}

/// One commit of events: (partition, timestamp, value).
fn append(log: &EventLog, topic: &Topic, events: &[(u32, i64, &str)]) {
    let mut open = log.lock();
    for (partition, timestamp_ms, value) in events {
        let event = NewEvent {
            timestamp_ms: *timestamp_ms,
            key: None,
            value: Some(value.as_bytes()),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: false,
        };
        open.append(topic, *partition, &event).unwrap();
    }
    let ticket = open.ticket();
    drop(open);
    log.durable_blocking(ticket).unwrap();
}

/// `partition:offset=value` of each event, `partition:gap from-to` of each gap.
fn told(round: &Round) -> String {
    let text = String::from_utf8(round.bytes.clone()).unwrap();
    let told = text.lines().map(|line| {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let partition = &line["partition"];
        match line.get("gap") {
            Some(gap) => format!("{partition}:gap {}-{}", gap["from"], gap["to"]),
            None => format!("{partition}:{}={}", line["offset"], line["value"].as_str().unwrap()),
        }
    });
    told.collect::<Vec<_>>().join(" ")
}

fn all(reading: &mut Reading) -> String {
    let mut parts = Vec::new();
    for _ in 0..100 {
        let round = reading.round(u64::MAX);
        parts.push(told(&round));
        if round.ended {
            return parts.join(" ").trim().to_owned();
        }
    }
    panic!("it does not end: {parts:?}");
}

#[test]
fn partitions_are_merged_by_time_and_never_reordered() {
    let log = log();
    let topic = topic(&log, 3);
    append(&log, &topic, &[(0, 10, "a"), (1, 5, "b"), (0, 3, "c"), (2, 20, "d"), (1, 30, "e")]);
    let begin = |from| Reading::begin(Arc::clone(&log), Arc::clone(&topic), from, None, false).unwrap();
    assert_eq!(all(&mut begin(From::Start)), "1:0=b 0:0=a 0:1=c 2:0=d 1:1=e");
    assert_eq!(all(&mut begin(From::Offset(1))), "0:1=c 1:1=e");
    assert_eq!(all(&mut begin(From::TimeMs(20))), "2:0=d 1:1=e");
    assert_eq!(all(&mut begin(From::End)), "");
    assert_eq!(all(&mut begin(From::Newest(1))), "0:1=c 2:0=d 1:1=e");
    assert_eq!(all(&mut begin(From::Newest(9))), all(&mut begin(From::Start)));
    assert_eq!(all(&mut begin(From::Newest(0))), "");
    // (from, to, what is between)
    let ranges =
        [(5, 20, "1:0=b 0:0=a 0:1=c"), (5, 21, "1:0=b 0:0=a 0:1=c 2:0=d"), (20, 20, ""), (30, 5, ""), (40, 50, "")];
    for (from, to, between) in ranges {
        let mut range = begin(From::TimeMs(from)).until(Some(to)).ok().unwrap();
        assert_eq!(all(&mut range), between, "{from} to {to}");
    }
    let mut only = Reading::begin(Arc::clone(&log), Arc::clone(&topic), From::Start, Some(1), false).unwrap();
    assert_eq!(all(&mut only), "1:0=b 1:1=e");
    assert_eq!(told(&begin(From::Start).round(2)), "1:0=b 0:0=a", "the oldest of all partitions");
    log.close();
}

#[test]
fn what_comes_after_the_beginning_is_seen_by_a_follower_alone() {
    let log = log();
    let topic = topic(&log, 1);
    append(&log, &topic, &[(0, 1, "a")]);
    let mut once = Reading::begin(Arc::clone(&log), Arc::clone(&topic), From::Start, None, false).unwrap();
    let mut follow = Reading::begin(Arc::clone(&log), Arc::clone(&topic), From::End, None, true).unwrap();
    append(&log, &topic, &[(0, 2, "b"), (0, 3, "c")]);
    assert_eq!(all(&mut once), "0:0=a");
    let round = follow.round(u64::MAX);
    assert_eq!((told(&round).as_str(), round.events, round.ended), ("0:1=b 0:2=c", 2, false));
    let idle = follow.round(u64::MAX);
    assert!(idle.bytes.is_empty() && !idle.ended);
    log.close();
}

#[test]
fn a_gap_is_told() {
    let log = log();
    let topic = topic(&log, 1);
    for number in 0..5 {
        append(&log, &topic, &[(0, number, "x")]);
    }
    let id = topic.partition(0).unwrap().id();
    let mut reading = Reading::begin(Arc::clone(&log), Arc::clone(&topic), From::Start, None, false).unwrap();
    log.store().trim(id, 3, 100).unwrap();
    assert_eq!(all(&mut reading), "0:gap 0-3 0:3=x 0:4=x");
    log.close();
}

#[test]
fn a_round_is_bounded_and_no_partition_waits_for_ever() {
    let log = log();
    let topic = topic(&log, 2);
    let large = "x".repeat(40_000);
    for number in 0..40 {
        append(&log, &topic, &[(0, number, &large), (1, number, "y")]);
    }
    let mut reading = Reading::begin(Arc::clone(&log), Arc::clone(&topic), From::Start, None, false).unwrap();
    let mut events = 0;
    loop {
        let round = reading.round(u64::MAX);
        assert!(round.bytes.len() < 2 * round::ROUND_BYTES_MAX, "{}", round.bytes.len());
        events += round.events;
        if round.ended {
            break;
        }
    }
    assert_eq!(events, 80);
    log.close();
}

#[test]
fn beginnings_are_read() {
    let cases = [
        ("start", Some(From::Start)),
        ("end", Some(From::End)),
        ("7", Some(From::Offset(7))),
        ("@-5", Some(From::TimeMs(-5))),
        ("newest:3", Some(From::Newest(3))),
        ("newest:", None),
        ("newest:-1", None),
        ("@", None),
        ("-1", None),
        ("", None),
        ("x", None),
    ];
    for (text, expected) in cases {
        assert_eq!(From::parse(text).ok(), expected, "{text:?}");
    }
}

#[tokio::test]
async fn who_tails_is_told_of_what_comes_later_and_sees_what_is_live() {
    use sled_data::{Hole, HoleWhy, Linked, LinkedPart, OriginId, PartitionId, TopicId, TopicInfo};

    use crate::event_log::rubbish::sound;
    let log = log();
    let id = PartitionId { origin: OriginId(50), topic: TopicId(9), index: 0 };
    let info = TopicInfo { id: id.topic, name: "plant/t".to_owned(), config: TopicConfig::default() };
    let topic = log.adopt_linked_topic(info).unwrap();
    let batch = |base, values: &[&str]| LinkedPart::Batch(sound(id, base, 7 + base, values).into());
    let take = |parts: Vec<LinkedPart>| log.take_linked(id.origin, Linked { link: 5, hlc: 0, path: vec![1] }, parts);
    take(vec![batch(0, &["a", "b"])]).await.unwrap();
    let begin = |from, follow| Reading::begin(Arc::clone(&log), Arc::clone(&topic), from, None, follow).unwrap();
    let mut follower = begin(From::Start, true);
    assert_eq!(told(&follower.round(u64::MAX)), "0:0=a 0:1=b");
    let later = Hole { from: 2, to: 6, why: HoleWhy::Later, at_ms: 0 };
    take(vec![LinkedPart::Hole(id, later)]).await.unwrap();
    assert_eq!(told(&follower.round(u64::MAX)), "", "nothing is live yet");
    assert_eq!(all(&mut begin(From::Start, false)), "0:0=a 0:1=b");
    take(vec![batch(6, &["live"])]).await.unwrap();
    let mut from_end = begin(From::End, true);
    let round = follower.round(u64::MAX);
    assert_eq!(told(&round), "0:gap 2-6 0:6=live");
    assert!(String::from_utf8_lossy(&round.bytes).contains("\"later\""));
    assert_eq!(all(&mut begin(From::Start, false)), "0:0=a 0:1=b 0:gap 2-6 0:6=live");
    assert_eq!(all(&mut begin(From::Offset(3), false)), "0:gap 3-6 0:6=live");
    // What fills it is seen by who comes to it in order, and not by who has passed it.
    take(vec![batch(2, &["c", "d"]), batch(7, &["more"])]).await.unwrap();
    assert_eq!(told(&follower.round(u64::MAX)), "0:7=more");
    assert_eq!(told(&from_end.round(u64::MAX)), "0:7=more");
    assert_eq!((log.visible_end(id), log.newest_end(id)), (4, 8));
    // Another outage, while that hole is open.
    take(vec![LinkedPart::Hole(id, Hole { from: 8, to: 12, ..later }), batch(12, &["again"])]).await.unwrap();
    assert_eq!(told(&follower.round(u64::MAX)), "0:gap 8-12 0:12=again");
    assert_eq!(all(&mut begin(From::Offset(4), false)), "0:gap 4-6 0:6=live 0:7=more 0:gap 8-12 0:12=again");
    assert_eq!((log.visible_end(id), log.newest_end(id)), (4, 13));
    take(vec![batch(4, &["e", "f"])]).await.unwrap();
    assert_eq!((log.visible_end(id), log.newest_end(id)), (8, 13));
    assert_eq!(all(&mut begin(From::Offset(7), false)), "0:7=more 0:gap 8-12 0:12=again");
    take(vec![batch(8, &["g", "h", "i", "j"])]).await.unwrap();
    assert_eq!((log.visible_end(id), log.newest_end(id)), (13, 13));
    assert_eq!(told(&follower.round(u64::MAX)), "");
    assert_eq!(
        all(&mut begin(From::Start, false)),
        "0:0=a 0:1=b 0:2=c 0:3=d 0:4=e 0:5=f 0:6=live 0:7=more 0:8=g 0:9=h 0:10=i 0:11=j 0:12=again"
    );
    log.close();
}
