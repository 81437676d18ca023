//! When commits have their quorum, and when others are behind.

#![allow(clippy::unwrap_used)]
use super::*;

/// Remembers where batches began that were handed out.
#[derive(Default)]
struct Order(Mutex<Vec<u64>>);

impl crate::event_log::Observer for Order {
    fn committed(&self, committed: &Arc<crate::event_log::Committed>) {
        self.0.lock().extend(committed.batches.iter().map(|found| found.batch.base_offset()));
    }

    fn is_listening(&self) -> bool {
        true
    }
}

#[test]
fn what_waits_is_shown_before_what_comes_when_the_node_is_alone() {
    let backend = Arc::new(sled_data::MemoryBackend::new());
    let options = sled_data::Options { seed: Some(5), ..Default::default() };
    let (store, recovered) = sled_data::Store::on(backend, options).unwrap();
    let clock = Arc::new(crate::clock::Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, crate::event_log::Config::default()).unwrap();
    let durability = sled_data::Durability::Quorum;
    let config = sled_data::TopicConfig { partitions: 1, durability, ..Default::default() };
    let topic = log.create_topic("quorum", config).unwrap();
    let order = Arc::new(Order::default());
    log.observe(Arc::clone(&order) as _);
    log.set_replicas(&[7], 1);
    let append = || {
        let headers = &crate::event_log::NO_HEADERS;
        let event = crate::event_log::NewEvent {
            timestamp_ms: 1,
            key: None,
            value: Some(b"v"),
            headers,
            extra: headers,
            fanned_out: false,
        };
        let ticket = {
            let mut open = log.lock();
            open.append(&topic, 0, &event).unwrap();
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
    };
    append();
    append();
    assert!(order.0.lock().is_empty() && log.quorum.has_waiting());
    // It is alone from here on, and who says so has not come to showing what waits.
    assert!(log.quorum.change(|state| state.needed = 0));
    append();
    log.show_what_is_reached();
    assert_eq!(*order.0.lock(), [0, 1, 2]);
    log.close();
}

#[test]
fn who_was_behind_is_until_what_waits_is_young_again() {
    let waiting = |age_ms: u64, is_late| Waiting {
        number: 1,
        commit: CommitNumber(1),
        since: Instant::now().checked_sub(Duration::from_millis(age_ms)).unwrap(),
        placed: Vec::new(),
        bytes: 0,
        waiters: Vec::new(),
        is_late,
    };
    let mut state = State { wait_max: Duration::from_secs(20), ..State::default() };
    assert!(!state.is_behind(true), "nothing waits");
    for (age_s, is_late, was_behind, is_behind) in [
        (1, false, false, false),
        (18, false, false, false),
        (21, true, false, true),
        (18, false, true, true),
        (11, false, true, true),
        (8, false, true, false),
    ] {
        state.waiting = VecDeque::from([waiting(age_s * 1_000, is_late)]);
        assert_eq!(state.is_behind(was_behind), is_behind, "{age_s} {is_late} {was_behind}");
    }
}

#[test]
fn that_others_are_behind_is_said_once_a_minute() {
    let (mut state, begin) = (State::default(), Instant::now());
    let mut said = Vec::new();
    // It changes each second.
    for second in 0..=130 {
        let (is_behind, now) = (second % 2 == 1, begin + Duration::from_secs(second));
        if state.is_to_say(is_behind, now) {
            state.said = Some((is_behind, now));
            said.push(second);
        }
    }
    assert_eq!(said, [1, 62, 123]);
    // How it is in the end is said as well.
    assert!(state.is_to_say(false, begin + Duration::from_secs(190)));
}

#[test]
fn a_quorum_is_where_enough_others_are() {
    let synced = |numbers: &[u64]| (1..).zip(numbers.iter().map(|n| CommitNumber(*n))).collect();
    for (needed, numbers, expected) in [
        (0, &[][..], None),
        (1, &[], Some(0)),
        (1, &[3, 9], Some(9)),
        (2, &[3, 9], Some(3)),
        (2, &[9], Some(0)),
        (2, &[5, 7, 6, 0], Some(6)),
    ] {
        assert_eq!(reached(needed, &synced(numbers)), expected.map(CommitNumber), "{needed} of {numbers:?}");
    }
}

#[test]
fn as_many_are_waited_for_as_are_needed_and_no_more() {
    let synced = |numbers: &[u64]| (1..).zip(numbers.iter().map(|n| CommitNumber(*n))).collect();
    for (needed, numbers, spare) in [
        (0, &[3, 9][..], &[][..]),
        (1, &[3, 9], &[1]),
        (1, &[9, 9], &[2]),
        (2, &[9, 9], &[]),
        (2, &[5, 7, 6, 0], &[1, 4]),
        (2, &[7, 7, 7, 7], &[3, 4]),
        (9, &[7, 7], &[]),
        (usize::MAX, &[7], &[]),
    ] {
        let synced: BTreeMap<u64, CommitNumber> = synced(numbers);
        let found: Vec<u64> = synced.keys().copied().filter(|node| is_spare(*node, needed, &synced)).collect();
        assert_eq!(found, spare, "{needed} of {numbers:?}");
        // Those who are not spare make the quorum, as it stands and as soon as they have more.
        assert!(needed == 0 || synced.len() - found.len() >= needed.min(synced.len()), "{needed} of {numbers:?}");
        assert!(is_spare(99, needed, &synced), "one that does not count is not waited for");
    }
}
