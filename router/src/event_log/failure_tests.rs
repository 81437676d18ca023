//! What becomes of appends around a commit that fails: never a later one stored where an earlier one was lost.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

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
    // Full at once, full in the middle of a commit, and a commit that the store does not take.
    let full = |writes| (Faults { full_after_writes: Some(writes), ..Faults::default() }, false);
    let refusals = [full(0), full(1), (Faults::default(), true)].into_iter();
    for (case, (faults, wrong_cursor)) in refusals.enumerate() {
        let (backend, log, topic) = open();
        let held = Arc::new(Held::default());
        log.observe(Arc::clone(&held) as _);
        let wake = Arc::new(Wake::default());
        let gate = held.gate.lock();
        append(&mut log.lock(), &topic, &[1]).unwrap();
        // The first commit is stored then, and the committer is held back before it settles it.
        while topic.partition(0).unwrap().visible_end() == 0 {
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

#[test]
fn what_many_append_at_once_is_closed_into_commits_that_a_frame_holds() {
    const EVENT_BYTES: usize = 1_000_000;
    const APPENDERS: usize = 40;
    let (_, log, _) = open();
    let config = TopicConfig { partitions: 1, compression: sled_data::Compression::None, ..TopicConfig::default() };
    let topic = log.ensure_topic("b", Some(config)).unwrap();
    let held = Arc::new(Held::default());
    log.observe(Arc::clone(&held) as _);
    let gate = held.gate.lock();
    append(&mut log.lock(), &topic, &[1]).unwrap();
    // The first commit is stored then, and the committer is held back before it settles it.
    while topic.partition(0).unwrap().visible_end() == 0 {
        std::thread::yield_now();
    }
    let value = vec![7; EVENT_BYTES];
    let tickets: Vec<Ticket> = (0..APPENDERS).map(|_| append(&mut log.lock(), &topic, &value).unwrap()).collect();
    assert!(log.lock().over_bound(), "who appends is told to wait");
    drop(gate);
    tickets.iter().for_each(|ticket| log.durable_blocking(*ticket).unwrap());
    let mut next = sled_data::CommitNumber(1);
    let mut stored = 0;
    while let Some(commit) = log.store().commits_to_ship(log.origin(), next, 1).unwrap().first() {
        let bytes = commit.batch_bytes();
        assert!(bytes <= open::COMMIT_BYTES_MAX + EVENT_BYTES * 2, "commit {next} has {bytes} bytes");
        (next, stored) = (next.next(), stored + bytes);
    }
    assert!(stored >= APPENDERS * EVENT_BYTES);
    log.close();
}

/// Appends numbers from 0 on; on a failure begins again at the oldest that is not durable. Spoils commits
/// and fills the store now and then.
fn append_all(backend: &MemoryBackend, log: &EventLog, topic: &Topic, appender: u64, count: u64, seed: u64) {
    let (mut next, mut sent, mut failures, mut random) = (0, Vec::new(), log.lock().failures(), seed + appender);
    while next < count || !sent.is_empty() {
        let mut open = log.lock();
        if open.failures() != failures || next == count || sent.len() > 20 {
            failures = open.failures();
            drop(open);
            let lost = sent.drain(..).find(|(_, ticket)| log.durable_blocking(*ticket).is_err());
            next = lost.map_or(next, |(number, _)| number);
            continue;
        }
        let appended = append(&mut open, topic, &(appender << 32 | next).to_be_bytes());
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        if random >> 32 & 0x3f == 0 {
            // The store refuses this commit, which takes its time, and would take the next.
            append(&mut open, topic, &vec![7; 1 << 20]).ok();
            open.move_cursor("reader", topic.partition(0).unwrap().id(), u64::MAX);
        }
        drop(open);
        let Ok(ticket) = appended else {
            backend.set_faults(Faults::default());
            std::thread::yield_now();
            continue;
        };
        sent.push((next, ticket));
        next += 1;
        if random >> 32 & 0x1ff == 0 {
            backend.set_faults(Faults { full_after_writes: Some(random >> 63), ..Faults::default() });
        }
    }
}

#[test]
fn what_is_stored_of_each_appender_is_in_order_and_whole_under_failures() {
    const APPENDERS: u64 = 4;
    const EACH: u64 = 1_000;
    let seed = 20_260_901_u64;
    let (backend, log, topic) = open();
    std::thread::scope(|scope| {
        for appender in 0..APPENDERS {
            let (backend, log, topic) = (&backend, &log, &topic);
            scope.spawn(move || append_all(backend, log, topic, appender, EACH, seed));
        }
    });
    assert!(log.lock().failures() > 0, "seed {seed}: the store was full now and then");
    let stored = stored(&log, &topic);
    for appender in 0..APPENDERS {
        let of_one: Vec<u64> = stored.iter().filter(|number| *number >> 32 == appender).copied().collect();
        let expected: Vec<u64> = (0..EACH).map(|number| appender << 32 | number).collect();
        assert_eq!(of_one, expected, "seed {seed}, appender {appender}");
    }
    log.close();
}
