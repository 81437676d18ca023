//! Lanes on a memory store: verdicts, failures, restarts, bounds.

use std::sync::Arc;
use std::time::{Duration, Instant};

use devices::sequence::{Lane, Number, Sequence};
use sled_data::{Faults, MemoryBackend, Options, Store, TopicConfig};

use super::*;
use crate::clock::Clock;
use crate::event_log::{self, NO_HEADERS, NewEvent, Topic};

struct Fixture {
    backend: Arc<MemoryBackend>,
    log: Arc<EventLog>,
    topic: Arc<Topic>,
    lanes: Lanes,
}

impl Fixture {
    fn new(config: Config) -> Self {
        Self::on(Arc::new(MemoryBackend::new()), config)
    }

    fn on(backend: Arc<MemoryBackend>, config: Config) -> Self {
        let dynamic: Arc<dyn sled_data::Backend> = Arc::clone(&backend) as _;
        let (store, recovered) = Store::on(dynamic, Options { seed: Some(7), ..Options::default() }).unwrap();
        let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
        let log = EventLog::open(Arc::new(store), clock, event_log::Config::default()).unwrap();
        let topic = log.ensure_topic("a", Some(TopicConfig { partitions: 1, ..TopicConfig::default() })).unwrap();
        let lanes = Lanes::open(Arc::clone(&log), config).unwrap();
        Self { backend, log, topic, lanes }
    }

    /// The node starts again on what a power cut left.
    fn again(self, config: Config) -> Self {
        self.log.close();
        self.backend.power_cut(0);
        Self::on(self.backend, config)
    }

    /// What a door does with an event; the ticket where it was appended.
    fn take(&self, device: &str, sequence: Sequence) -> Result<Ticket, Verdict> {
        let mut open = self.log.lock();
        match self.lanes.judge(&open, device, sequence) {
            Verdict::New => {}
            verdict => return Err(verdict),
        }
        let (headers, extra) = (&NO_HEADERS, &NO_HEADERS);
        let event = NewEvent { timestamp_ms: 1, key: None, value: Some(&[]), headers, extra, fanned_out: false };
        open.append(&self.topic, 0, &event).unwrap();
        self.lanes.advance(&mut open, device, sequence);
        Ok(open.ticket())
    }

    fn take_durably(&self, device: &str, sequence: Sequence) {
        self.log.durable_blocking(self.take(device, sequence).unwrap()).unwrap();
    }

    fn last(&self, device: &str) -> Vec<String> {
        let last = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(self.lanes.last(device));
        last.into_iter().map(|(lane, number)| Sequence { lane, number }.to_string()).collect()
    }

    fn wait_until_taken(&self) {
        let until = Instant::now() + Duration::from_secs(10);
        while self.log.lock().check(0).is_err() {
            assert!(Instant::now() < until, "the log must take events again");
            std::thread::yield_now();
        }
    }
}

fn number(text: &str) -> Sequence {
    text.parse().unwrap()
}

#[test]
fn a_number_is_new_a_duplicate_or_of_an_earlier_boot() {
    let ticket = Some(Ticket::of(3));
    let last = Number { boot: 5, seq: 10 };
    let cases = [
        (5, 11, Verdict::New),
        (5, u64::MAX, Verdict::New),
        (6, 0, Verdict::New),
        (5, 10, Verdict::Duplicate(ticket)),
        (5, 0, Verdict::Duplicate(ticket)),
        (4, 11, Verdict::StaleBoot { last }),
        (0, 0, Verdict::StaleBoot { last }),
    ];
    for (boot, seq, expected) in cases {
        assert_eq!(
            judge(Some(Last { number: last, last_ms: 0, ticket }), Number { boot, seq }),
            expected,
            "{boot}.{seq}"
        );
        assert_eq!(judge(None, Number { boot, seq }), Verdict::New);
    }
}

#[test]
fn what_comes_again_is_known_over_a_restart() {
    let fixture = Fixture::new(Config::default());
    for text in ["1.7.1", "1.7.5", "0.7.2", "1.8.0"] {
        fixture.take_durably("pump", number(text));
    }
    let fixture = fixture.again(Config::default());
    assert_eq!(fixture.last("pump"), ["0.7.2", "1.8.0"]);
    assert_eq!(fixture.last("other"), [""; 0]);
    assert_eq!(fixture.take("pump", number("1.8.0")), Err(Verdict::Duplicate(None)));
    assert_eq!(fixture.take("pump", number("1.7.9")), Err(Verdict::StaleBoot { last: number("1.8.0").number }));
    assert_eq!(fixture.take("pump", number("0.7.1")), Err(Verdict::Duplicate(None)), "lanes are apart");
    fixture.take_durably("pump", number("1.8.1"));
    fixture.take_durably("pum", number("1.1.1"));
    assert_eq!(fixture.lanes.known(), 2);
    let stats = fixture.lanes.stats();
    assert_eq!(stats.duplicates.load(Ordering::Relaxed), 2);
    assert_eq!(stats.stale_boot.load(Ordering::Relaxed), 1);
    fixture.log.close();
}

#[test]
fn a_duplicate_of_what_is_on_its_way_has_its_commit() {
    let fixture = Fixture::new(Config::default());
    let mut open = fixture.log.lock();
    assert_eq!(fixture.lanes.judge(&open, "pump", number("1.1.1")), Verdict::New);
    fixture.lanes.advance(&mut open, "pump", number("1.1.1"));
    let ticket = open.ticket();
    assert_eq!(fixture.lanes.judge(&open, "pump", number("1.1.1")), Verdict::Duplicate(Some(ticket)));
    // What is below the last changes nothing.
    fixture.lanes.advance(&mut open, "pump", number("1.1.0"));
    drop(open);
    assert_eq!(fixture.last("pump"), ["1.1.1"]);
    assert_eq!(fixture.take("pump", number("1.1.1")), Err(Verdict::Duplicate(None)));
    fixture.log.close();
}

#[test]
fn what_was_lost_with_its_commit_is_new_again() {
    let fixture = Fixture::new(Config { devices_max: 2, ..Config::default() });
    fixture.take_durably("pump", number("1.1.4"));
    fixture.backend.set_faults(Faults { full_after_writes: Some(1), ..Faults::default() });
    let mut seq = 4;
    let lost = loop {
        seq += 1;
        let ticket = fixture.take("pump", number(&format!("1.1.{seq}"))).unwrap();
        if fixture.log.durable_blocking(ticket).is_err() {
            break number(&format!("1.1.{seq}"));
        }
    };
    fixture.backend.set_faults(Faults::default());
    fixture.wait_until_taken();
    assert_eq!(fixture.last("pump"), [format!("1.1.{}", seq - 1)]);
    fixture.take_durably("pump", lost);
    assert_eq!(fixture.take("pump", lost), Err(Verdict::Duplicate(None)));
    assert_eq!(fixture.lanes.known(), 1);
    fixture.log.close();
}

#[test]
fn there_is_room_for_so_many_devices() {
    let config = Config { devices_max: 3, ..Config::default() };
    let fixture = Fixture::new(config.clone());
    for device in ["a", "b", "c"] {
        fixture.take_durably(device, number("0.1.1"));
        fixture.take_durably(device, number("1.1.1"));
    }
    let fixture = fixture.again(config);
    assert_eq!(fixture.take("d", number("1.1.1")), Err(Verdict::TooManyDevices));
    fixture.take_durably("a", number("2.1.1"));
    assert_eq!(fixture.lanes.known(), 3);
    assert_eq!(fixture.lanes.stats().refused_too_many.load(Ordering::Relaxed), 1);
    fixture.log.close();
}

#[test]
fn devices_that_are_not_in_memory_are_known_as_well() {
    let fixture = Fixture::new(Config { cached_max: 10, ..Config::default() });
    for seq in 1..=3 {
        for device in 0..200 {
            let sequence = number(&format!("1.1.{seq}"));
            let ticket = fixture.take(&format!("device-{device}"), sequence).unwrap();
            if device % 7 == 0 {
                fixture.log.durable_blocking(ticket).unwrap();
            }
            let again = fixture.take(&format!("device-{device}"), sequence);
            assert!(matches!(again, Err(Verdict::Duplicate(_))), "{device} {seq}: {again:?}");
        }
    }
    assert_eq!(fixture.lanes.known(), 200);
    fixture.log.close();
}

#[test]
fn devices_that_are_silent_for_long_are_forgotten() {
    let fixture = Fixture::new(Config { keep_days: 1, ..Config::default() });
    let now_ms = u64::try_from(fixture.log.clock().wall_ms()).unwrap();
    let old_ms = now_ms - 25 * 3_600 * 1_000;
    let ticket = {
        let mut open = fixture.log.lock();
        for (device, text, last_ms) in [
            ("old", "0.1.1", old_ms),
            ("old", "1.1.1", old_ms),
            ("half", "0.1.1", old_ms),
            ("half", "1.1.1", now_ms),
            ("unset", "1.1.1", 5_000),
        ] {
            stored::put(&mut open, device, number(text), last_ms);
        }
        open.ticket()
    };
    fixture.log.durable_blocking(ticket).unwrap();
    let fixture = fixture.again(Config { keep_days: 1, ..Config::default() });
    assert_eq!(fixture.lanes.known(), 3);
    assert_eq!(fixture.lanes.forget(), 1);
    assert_eq!(fixture.lanes.known(), 2);
    assert_eq!(fixture.take("old", number("1.1.1")).map(drop), Ok(()), "what it sends again is new");
    assert_eq!(fixture.lanes.known(), 3);
    assert_eq!(fixture.take("half", number("0.1.1")), Err(Verdict::Duplicate(None)));
    assert_eq!(fixture.take("unset", number("1.1.1")), Err(Verdict::Duplicate(None)));
    // Round after round nothing more goes: the one in doubt has a sound time now.
    for _ in 0..3 {
        assert_eq!(fixture.lanes.forget(), 0);
    }
    let again = fixture.again(Config { keep_days: 1, ..Config::default() });
    assert_eq!(again.lanes.known(), 3);
    let unset = stored::lanes_of(&again.log, "unset").unwrap()[Lane::NORMAL.index()].unwrap();
    assert!(unset.last_ms >= now_ms);
    again.log.close();
}

#[test]
fn names_that_the_store_cannot_take_are_none() {
    for (name, expected) in [("pump-7", true), ("ü b/c", true), ("", false), ("a\0b", false), ("a\tb", false)] {
        assert_eq!(Lanes::can_name(name), expected, "{name:?}");
    }
    assert!(!Lanes::can_name(&"n".repeat(sled_data::STATE_KEY_BYTES_MAX)));
}
