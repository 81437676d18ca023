//! What becomes of appends around a commit that fails: never a later one stored where an earlier one was lost.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use sled_data::{Faults, MemoryBackend, Options, Store, TopicConfig};

use super::*;

/// An observer that holds the committer back while a gate is shut.
#[derive(Default)]
struct Held {
    gate: Mutex<()>,
}

impl Observer for Held {
    fn committed(&self, _: &Arc<Committed>) {
        drop(self.gate.lock());
    }

    fn is_listening(&self) -> bool {
        true
    }
}

fn open() -> (Arc<MemoryBackend>, Arc<EventLog>, Arc<Topic>) {
    let backend = Arc::new(MemoryBackend::new());
    let dynamic: Arc<dyn sled_data::Backend> = Arc::clone(&backend) as _;
    let (store, recovered) = Store::on(dynamic, Options { seed: Some(7), ..Options::default() }).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
    let topic = log.ensure_topic("a", Some(TopicConfig { partitions: 1, ..TopicConfig::default() })).unwrap();
    (backend, log, topic)
}

fn append(open: &mut OpenCommit<'_>, topic: &Topic, value: &[u8]) -> Result<Ticket, AppendError> {
    let (headers, extra) = (&NO_HEADERS, &NO_HEADERS);
    let event = NewEvent { timestamp_ms: 1, key: None, value: Some(value), headers, extra, fanned_out: false };
    open.append(topic, 0, &event)?;
    Ok(open.ticket())
}

fn stored(log: &EventLog, topic: &Topic) -> Vec<u64> {
    let number = |value: Option<&[u8]>| u64::from_be_bytes(value.unwrap().try_into().unwrap());
    let (id, mut from, mut found) = (topic.partition(0).unwrap().id(), 0, Vec::new());
    loop {
        let batches = log.read(id, from, 1 << 20).unwrap();
        let before = found.len();
        for batch in &batches {
            found.extend(batch.events_from(from).map(|(_, record)| number(record.value)));
        }
        if found.len() == before {
            return found;
        }
        from = found.len() as u64;
    }
}

#[test]
fn a_failed_commit_takes_along_what_was_appended_meanwhile() {
    let faults: [(Faults, bool); 2] = [
        (Faults { free_bytes: Some(0), ..Faults::default() }, false),
        (Faults { full_after_writes: Some(0), ..Faults::default() }, false),
    ];
    let refusals = faults.into_iter().chain([(Faults::default(), true)]);
    for (case, (faults, wrong_cursor)) in refusals.enumerate() {
        let (backend, log, topic) = open();
        let held = Arc::new(Held::default());
        log.observe(Arc::clone(&held) as _);
        let wake = Arc::new(Wake::default());
        let gate = held.gate.lock();
        let first = append(&mut log.lock(), &topic, &[1]).unwrap();
        // The committer has the first commit in hand from here on, and is held back at its end.
        while log.lock().ticket() == first {
            std::thread::yield_now();
        }
        backend.set_faults(faults.clone());
        let big = vec![7; sled_data::STATE_VALUE_BYTES_MAX];
        let mut tickets = Vec::new();
        for n in 0..60_u32 {
            let mut open = log.lock();
            tickets.push(append(&mut open, &topic, &[2]).unwrap());
            assert!(open.put_state("tree", &n.to_be_bytes(), Some(&big)));
            if wrong_cursor && n == 0 {
                open.move_cursor("reader", topic.partition(0).unwrap().id(), 1_000);
            }
        }
        assert!(tickets.last().unwrap() > tickets.first().unwrap(), "several commits wait");
        log.lock().ring_when(tickets[0], &wake);
        log.lock().ring_when_settled(&wake);
        let failures = log.lock().failures();
        drop(gate);
        for ticket in &tickets {
            assert!(log.durable_blocking(*ticket).is_err(), "case {case}: {ticket:?}");
        }
        assert_eq!(log.lock().failures(), failures + 1, "case {case}: one failure for all of them");
        backend.set_faults(Faults::default());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(10);
        let after = loop {
            if let Ok(ticket) = append(&mut log.lock(), &topic, &[3]) {
                break ticket;
            }
            assert!(std::time::Instant::now() < until, "case {case}: the log must take events again");
            std::thread::yield_now();
        };
        log.durable_blocking(after).unwrap();
        assert_eq!(topic.partition(0).unwrap().visible_end(), 2, "case {case}: the first and the last");
        assert_eq!(wake.take(), Wake::SETTLED, "case {case}");
        log.close();
    }
}

#[test]
fn one_who_waits_for_a_commit_under_way_is_rung() {
    let (_, log, topic) = open();
    let held = Arc::new(Held::default());
    log.observe(Arc::clone(&held) as _);
    let (early, late, over) = (Arc::new(Wake::default()), Arc::new(Wake::default()), Arc::new(Wake::default()));
    let gate = held.gate.lock();
    let ticket = append(&mut log.lock(), &topic, &[1]).unwrap();
    while log.lock().ticket() == ticket {
        std::thread::yield_now();
    }
    log.lock().ring_when(ticket, &late);
    let next = {
        let mut open = log.lock();
        let next = append(&mut open, &topic, &[2]).unwrap();
        open.ring_when(next, &early);
        next
    };
    assert_eq!((late.take(), early.take()), (0, 0));
    drop(gate);
    log.durable_blocking(next).unwrap();
    log.lock().ring_when(ticket, &over);
    assert_eq!(over.take(), Wake::SETTLED, "it is settled already");
    log.close();
    assert_eq!((late.take(), early.take()), (Wake::SETTLED, Wake::SETTLED));
}

/// Appenders that number what they append, each from 0 on; a number is appended again until it is durable, and the next
/// ones are sent on meanwhile, unless the count of failures has risen since.
#[test]
fn what_is_stored_of_each_appender_is_in_order_and_whole_under_failures() {
    const APPENDERS: u64 = 4;
    const EACH: u64 = 300;
    let seed = 20_260_901_u64;
    let (backend, log, topic) = open();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let appenders: Vec<_> = (0..APPENDERS)
            .map(|appender| {
                let (log, topic) = (&log, &topic);
                scope.spawn(move || {
                    let (mut next, mut sent, mut failures) = (0, Vec::new(), log.lock().failures());
                    while next < EACH || !sent.is_empty() {
                        let mut open = log.lock();
                        if open.failures() != failures || next == EACH || sent.len() > 20 {
                            failures = open.failures();
                            drop(open);
                            let lost = sent.drain(..).find(|(_, ticket)| log.durable_blocking(*ticket).is_err());
                            next = lost.map_or(next, |(number, _)| number);
                        } else if let Ok(ticket) = append(&mut open, topic, &(appender << 32 | next).to_be_bytes()) {
                            sent.push((next, ticket));
                            next += 1;
                        }
                    }
                })
            })
            .collect();
        let (backend, done) = (&backend, &done);
        scope.spawn(move || {
            let mut random = seed;
            while !done.load(Ordering::Relaxed) {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                let free_bytes = (random >> 62 == 0).then_some(0);
                backend.set_faults(Faults { free_bytes, ..Faults::default() });
                (0..random >> 52).for_each(|_| std::thread::yield_now());
            }
            backend.set_faults(Faults::default());
        });
        let ends: Vec<_> = appenders.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        done.store(true, Ordering::Relaxed);
        assert!(ends.iter().all(Result::is_ok), "seed {seed}");
    });
    let stored = stored(&log, &topic);
    for appender in 0..APPENDERS {
        let of_one: Vec<u64> = stored.iter().filter(|number| *number >> 32 == appender).copied().collect();
        let expected: Vec<u64> = (0..EACH).map(|number| appender << 32 | number).collect();
        assert_eq!(of_one, expected, "seed {seed}, appender {appender}");
    }
    log.close();
}
