//! The event log on a memory store: commits, outcomes, reading, refusals.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::time::Duration;

use sled_data::{Faults, MemoryBackend, Options, Store, TopicConfig};

use super::*;

struct Fixture {
    backend: Arc<MemoryBackend>,
    log: Arc<EventLog>,
}

pub(super) fn open_on(backend: &Arc<MemoryBackend>, config: Config) -> Arc<EventLog> {
    let backend: Arc<dyn sled_data::Backend> = Arc::clone(backend) as _;
    let (store, recovered) = Store::on(backend, Options { seed: Some(7), ..Options::default() }).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    EventLog::open(Arc::new(store), clock, config).unwrap()
}

fn fixture() -> Fixture {
    let backend = Arc::new(MemoryBackend::new());
    let log = open_on(&backend, Config::default());
    Fixture { backend, log }
}

fn event<'a>(key: &'a [u8], value: &'a [u8]) -> NewEvent<'a> {
    NewEvent {
        timestamp_ms: 1_000,
        key: Some(key),
        value: Some(value),
        headers: &NO_HEADERS,
        extra: &NO_HEADERS,
        fanned_out: false,
    }
}

fn values(log: &EventLog, topic: &Topic, from: u64) -> Vec<String> {
    let id = topic.partition(0).unwrap().id();
    let batches = log.read(id, from, 1 << 20).unwrap();
    let text = |value: Option<&[u8]>| String::from_utf8(value.unwrap().to_vec()).unwrap();
    batches.iter().flat_map(|batch| batch.events_from(from).map(|(_, r)| text(r.value)).collect::<Vec<_>>()).collect()
}

fn one_partition() -> Option<TopicConfig> {
    Some(TopicConfig { partitions: 1, ..TopicConfig::default() })
}

#[test]
fn what_is_appended_is_durable_visible_and_survives_a_crash() {
    let Fixture { backend, log } = fixture();
    let topic = log.ensure_topic("readings", one_partition()).unwrap();
    let mut watch = log.watch();
    for n in 0..100 {
        let ticket = {
            let mut open = log.lock();
            open.append_keyed(&topic, &event(b"k", n.to_string().as_bytes())).unwrap();
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
    }
    assert!(watch.has_changed().unwrap());
    assert!(*watch.borrow_and_update() > 0);
    let expected: Vec<String> = (0..100).map(|n| n.to_string()).collect();
    assert_eq!(values(&log, &topic, 0), expected);
    assert_eq!(values(&log, &topic, 40), expected[40..]);
    log.close();
    drop(log);

    backend.power_cut(0);
    let log = open_on(&backend, Config::default());
    let topic = log.topic("readings").unwrap();
    assert_eq!(topic.partition(0).unwrap().visible_end(), 100);
    assert_eq!(values(&log, &topic, 0), expected);
    log.close();
}

#[test]
fn who_looks_through_all_partitions_is_told_when_some_come_or_go() {
    let Fixture { log, .. } = fixture();
    let append = |topic: &Topic| {
        let ticket = {
            let mut open = log.lock();
            open.append_keyed(topic, &event(b"k", b"v")).unwrap();
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
    };
    let mut before = log.partition_turns();
    let mut rises = || {
        let now = log.partition_turns();
        now > std::mem::replace(&mut before, now)
    };
    let topic = log.ensure_topic("readings", one_partition()).unwrap();
    assert!(rises(), "a partition has come");
    append(&topic);
    assert!(rises(), "its first event");
    append(&topic);
    topic.partition(0).unwrap().show_up_to(2);
    assert!(!rises(), "it has events");
    log.delete_topic("readings").unwrap();
    assert!(rises(), "it has gone");
    log.close();
}

#[test]
fn who_reads_internal_topics_alone_is_not_woken_by_readings() {
    let Fixture { log, .. } = fixture();
    let mut watch = log.watch_internal();
    let mut rises = |log: &EventLog, write: &dyn Fn(&mut OpenCommit<'_>)| {
        watch.mark_unchanged();
        let mut all = log.watch();
        let ticket = {
            let mut open = log.lock();
            write(&mut open);
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
        assert!(all.has_changed().unwrap() && *all.borrow_and_update() > 0);
        watch.has_changed().unwrap()
    };
    let [readings, internal] = ["readings", "_commands"].map(|name| log.ensure_topic(name, one_partition()).unwrap());
    let append = |open: &mut OpenCommit<'_>, topic: &Topic| {
        open.append_keyed(topic, &event(b"k", b"v")).unwrap();
    };
    for round in 0..3 {
        assert!(!rises(&log, &|open| append(open, &readings)), "{round}");
        assert!(rises(&log, &|open| append(open, &internal)), "{round}");
        assert!(rises(&log, &|open| [&readings, &internal].into_iter().for_each(|topic| append(open, topic))));
        let put = |open: &mut OpenCommit<'_>| assert!(open.put_state("tree", b"key", Some(b"value")));
        assert!(rises(&log, &put), "nothing tells whose it is");
    }
    for (name, expected) in [("_twins", true), ("plant/_twins", true), ("a_b", false), ("plant_/a", false)] {
        assert_eq!(is_internal(name), expected, "{name}");
    }
    log.close();
}

#[test]
fn one_guard_is_one_commit_with_state_and_cursor() {
    let Fixture { log, .. } = fixture();
    let topic = log.ensure_topic("a", one_partition()).unwrap();
    let id = topic.partition(0).unwrap().id();
    let ticket = {
        let mut open = log.lock();
        open.append_keyed(&topic, &event(b"k", b"1")).unwrap();
        open.append_keyed(&topic, &event(b"k", b"2")).unwrap();
        open.put_state("tree", b"key", Some(b"value"));
        open.move_cursor("reader", id, 1);
        open.ticket()
    };
    log.durable_blocking(ticket).unwrap();
    assert_eq!(log.state_get("tree", b"key").unwrap().as_deref(), Some(&b"value"[..]));
    assert_eq!(log.cursor("reader", id).unwrap(), Some(1));
    let records = log.store().commits(sled_data::CommitNumber(0), 100).unwrap();
    assert!(records.iter().any(|record| record.appended.iter().map(|a| a.count).sum::<u64>() == 2));
    log.close();
}

#[test]
fn small_memory_reads_older_events_from_the_store() {
    let backend = Arc::new(MemoryBackend::new());
    let log = open_on(&backend, Config { recent_bytes_max: 200, ..Config::default() });
    let topic = log.ensure_topic("a", one_partition()).unwrap();
    let mut expected = Vec::new();
    for n in 0..50 {
        expected.push(format!("value number {n}"));
        let ticket = {
            let mut open = log.lock();
            open.append_keyed(&topic, &event(b"k", expected[n].as_bytes())).unwrap();
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
    }
    assert_eq!(values(&log, &topic, 0), expected);
    log.close();
}

#[test]
fn a_full_store_refuses_and_takes_again_when_there_is_room() {
    let Fixture { backend, log } = fixture();
    let topic = log.ensure_topic("a", one_partition()).unwrap();
    let append = || {
        let mut open = log.lock();
        open.append_keyed(&topic, &event(b"k", b"v")).map(|()| open.ticket())
    };
    backend.set_faults(Faults { free_bytes: Some(0), ..Faults::default() });
    let refused = (0..1_000).any(|_| match append() {
        Ok(ticket) => matches!(log.durable_blocking(ticket), Err(CommitFailed::Full(_))),
        Err(error) => matches!(error, AppendError::Refused(CommitFailed::Full(_))),
    });
    assert!(refused, "a disk without room must be noticed");
    assert_eq!(log.why_full().unwrap(), "0.0 MiB of its disk are free, and [store] reserve_bytes keeps 64.0 MiB free");
    backend.set_faults(Faults::default());
    let until = std::time::Instant::now() + Duration::from_secs(10);
    loop {
        if append().is_ok_and(|ticket| log.durable_blocking(ticket).is_ok()) {
            break;
        }
        assert!(std::time::Instant::now() < until, "the log must take events again");
        std::thread::yield_now();
    }
    assert_eq!(log.why_full(), None);
    log.close();
}

#[test]
fn a_closed_log_refuses_appends() {
    let Fixture { log, .. } = fixture();
    let topic = log.ensure_topic("a", None).unwrap();
    log.close();
    let refused = log.lock().append_keyed(&topic, &event(b"k", b"v"));
    assert_eq!(refused, Err(AppendError::Closing));
}

#[test]
fn topics_have_names_and_bounds() {
    let Fixture { log, .. } = fixture();
    for name in ["", ".", "..", "a b", "a/b", "ü"] {
        assert!(matches!(log.create_topic(name, TopicConfig::default()), Err(TopicError::Name(_))), "{name:?}");
    }
    let none = TopicConfig { partitions: 0, ..TopicConfig::default() };
    assert!(matches!(log.create_topic("a", none), Err(TopicError::Partitions(0))));
    log.create_topic("a", TopicConfig::default()).unwrap();
    assert!(matches!(log.create_topic("a", TopicConfig::default()), Err(TopicError::Exists(_))));
    log.delete_topic("a").unwrap();
    assert!(matches!(log.delete_topic("a"), Err(TopicError::Unknown(_))));
    log.close();
}

#[test]
fn what_the_store_does_not_take_stops_nothing() {
    let Fixture { log, .. } = fixture();
    let topic = log.ensure_topic("a", one_partition()).unwrap();
    let append = |value: &[u8]| {
        let mut open = log.lock();
        open.append_keyed(&topic, &event(b"k", value)).unwrap();
        open.ticket()
    };
    assert!(!log.lock().put_state("tree", b"key", Some(&vec![0; sled_data::STATE_VALUE_BYTES_MAX + 1])));
    assert!(!log.lock().put_state("tree", &vec![0; sled_data::STATE_KEY_BYTES_MAX + 1], None));
    let refused = {
        let mut open = log.lock();
        open.append_keyed(&topic, &event(b"k", b"with a cursor that is wrong")).unwrap();
        open.move_cursor("reader", topic.partition(0).unwrap().id(), 1_000);
        open.ticket()
    };
    assert!(matches!(log.durable_blocking(refused), Err(CommitFailed::Refused(_))));
    log.durable_blocking(append(b"next")).unwrap();
    assert_eq!(values(&log, &topic, 0), ["next"]);
    log.close();
}

#[test]
fn more_state_than_one_commit_takes_becomes_several() {
    let Fixture { log, .. } = fixture();
    let value = vec![7; sled_data::STATE_VALUE_BYTES_MAX];
    let mut tickets = Vec::new();
    for n in 0..200_u32 {
        let mut open = log.lock();
        assert!(open.put_state("tree", &n.to_be_bytes(), Some(&value)));
        tickets.push(open.ticket());
    }
    for ticket in tickets {
        log.durable_blocking(ticket).unwrap();
    }
    for n in 0..200_u32 {
        assert_eq!(log.state_get("tree", &n.to_be_bytes()).unwrap().as_deref(), Some(&value[..]));
    }
    // One entry written over and over in one guard counts once.
    let ticket = {
        let mut open = log.lock();
        for _ in 0..200 {
            open.put_state("tree", b"one", Some(&value));
        }
        open.put_state("tree", b"one", Some(b"last"));
        open.ticket()
    };
    log.durable_blocking(ticket).unwrap();
    assert_eq!(log.state_get("tree", b"one").unwrap().as_deref(), Some(&b"last"[..]));
    log.close();
}

#[test]
fn a_topic_that_is_deleted_under_load_takes_no_more_and_stops_nothing() {
    let Fixture { log, .. } = fixture();
    let other = log.ensure_topic("other", one_partition()).unwrap();
    for round in 0..100 {
        let topic = log.ensure_topic("goes", one_partition()).unwrap();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| {
                loop {
                    let mut open = log.lock();
                    open.move_cursor("reader", topic.partition(0).unwrap().id(), 0);
                    match open.append_keyed(&topic, &event(b"k", b"v")) {
                        Ok(()) => drop(open),
                        Err(error) => return error,
                    }
                }
            });
            log.delete_topic("goes").unwrap();
            assert_eq!(writer.join().unwrap(), AppendError::Deleted { topic: "goes".to_owned() }, "round {round}");
        });
        let ticket = {
            let mut open = log.lock();
            open.append_keyed(&other, &event(b"k", b"v")).unwrap();
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
    }
    assert_eq!(other.partition(0).unwrap().visible_end(), 100);
    log.close();
}

#[tokio::test]
async fn an_act_is_an_event_of_the_audit_topic_by_what_was_acted_on() {
    let Fixture { log, .. } = fixture();
    let act = Act { who: "cli", act: "device.tag", what: "pump-7", outcome: "done", detail: serde_json::Value::Null };
    assert!(matches!(log.audit(act.clone()), Err(AppendError::Deleted { .. })), "no topic yet");
    let topic = log.ensure_topic(AUDIT_TOPIC, one_partition()).unwrap();
    log.durable(log.audit(act).unwrap()).await.unwrap();
    let [value] = &values(&log, &topic, 0)[..] else { panic!("one event") };
    let line: serde_json::Value = serde_json::from_str(value).unwrap();
    assert_eq!((&line["who"], &line["act"], &line["what"]), (&"cli".into(), &"device.tag".into(), &"pump-7".into()));
}
