//! The table by examples, and by random walks over many devices.

#![allow(clippy::unwrap_used)]

use proptest::prelude::*;

use super::*;

fn now(steady: u64) -> Now {
    Now { steady, wall: 1_000_000 + steady }
}

fn id(n: u64) -> CommandId {
    CommandId::v7(n, [0; 10])
}

fn queued(within_ms: u64, at: Now) -> Queued {
    Queued {
        name: "cool".into(),
        payload: b"12345".to_vec().into(),
        deliver_by_ms: at.wall + within_ms,
        answer_within_ms: Some(500),
        issued_by: "cli".into(),
        cause: None,
    }
}

fn submit(table: &mut Table, device: &str, n: u64, at: Now) {
    table.queued(device, id(n), at.wall, queued(1_000, at), at);
}

fn offer(table: &mut Table, session: u64, at: Now) {
    let client: Arc<str> = format!("client-{session}").into();
    for (device, _) in table.take_wanting(true) {
        table.available(&device, session, &client, at);
    }
}

fn answer(n: u64, status: Status, session: u64) -> Answered<'static> {
    Answered { device: "d", id: id(n), status, session, client: "client-1", payload: b"ok" }
}

/// The effects as words, those of storing left out.
fn words(table: &mut Table) -> Vec<String> {
    let effects = table.take_effects().into_iter().filter_map(|effect| match effect {
        Effect::Append(device, event) => {
            let json: serde_json::Value = serde_json::from_slice(&event.encode()).unwrap();
            Some(format!("{device} {} {}", event.id.unix_ms(), json["step"].as_str().unwrap()))
        }
        Effect::Offer(id, session) => Some(format!("offer {} to {session}", id.unix_ms())),
        Effect::Forget(id) => Some(format!("forget {}", id.unix_ms())),
        Effect::Save(_) => None,
    });
    effects.collect()
}

fn state(table: &Table, n: u64) -> State {
    table.get(id(n)).unwrap().progress.state()
}

#[test]
fn a_command_goes_all_the_way() {
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    assert_eq!(table.take_effects(), [Effect::Save(id(1))], "its queued step is in the log already");
    assert_eq!(table.next_deadline(), Some(1_000));
    offer(&mut table, 1, now(1));
    assert_eq!(words(&mut table), ["d 1 sent", "offer 1 to 1"]);
    table.delivered(id(1), 1, now(2));
    table.answered(answer(1, Status::Accepted, 1), now(3)).unwrap();
    table.answered(answer(1, Status::Succeeded, 1), now(4)).unwrap();
    assert_eq!(words(&mut table), ["d 1 delivered", "d 1 accepted", "d 1 succeeded"]);
    assert_eq!(table.get(id(1)).unwrap().result.as_deref(), Some(&b"ok"[..]));
    assert_eq!((table.pending(), table.next_deadline()), (0, None));
    let again = table.answered(answer(1, Status::Failed, 1), now(5));
    assert_eq!(again, Err(AnswerError::Refused(Refusal::SecondAnswer)));
    submit(&mut table, "d", 1, now(6));
    assert!(table.take_effects().is_empty(), "an id that is known is no new command");
}

#[test]
fn answers_count_from_who_got_the_command() {
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    let refused = |table: &mut Table, answer| table.answered(answer, now(2)).unwrap_err();
    assert_eq!(refused(&mut table, answer(1, Status::Failed, 1)), AnswerError::Refused(Refusal::NotSent));
    offer(&mut table, 1, now(1));
    let stranger = Answered { client: "client-2", ..answer(1, Status::Failed, 2) };
    assert_eq!(refused(&mut table, stranger), AnswerError::Refused(Refusal::OtherSession));
    let wrong_device = Answered { device: "e", ..answer(1, Status::Failed, 1) };
    assert_eq!(refused(&mut table, wrong_device), AnswerError::NoCommand);
    assert_eq!(refused(&mut table, answer(9, Status::Failed, 1)), AnswerError::NoCommand);
    table.answered(answer(1, Status::Succeeded, 77), now(3)).unwrap();
    assert_eq!(state(&table, 1), State::Succeeded, "the same client, connected anew");
}

#[test]
fn a_devices_commands_keep_their_order_and_its_window() {
    let config = Config { in_flight_per_device_max: 2, ..Config::default() };
    let mut table = Table::new(config);
    for n in 1..=4 {
        submit(&mut table, "d", n, now(0));
    }
    submit(&mut table, "e", 5, now(0));
    table.take_effects();
    offer(&mut table, 1, now(1));
    let offers = |table: &mut Table| words(table).into_iter().filter(|w| w.starts_with("offer")).collect::<Vec<_>>();
    assert_eq!(offers(&mut table), ["offer 1 to 1", "offer 2 to 1", "offer 5 to 1"]);
    assert!(table.take_wanting(true).is_empty());
    table.delivered(id(1), 1, now(2));
    assert_eq!(table.take_wanting(false).len(), 1, "the window has room again");
    table.dropped(id(2), 1, now(3));
    offer(&mut table, 2, now(4));
    assert_eq!(offers(&mut table), ["offer 2 to 2", "offer 3 to 2"], "what came back is first");
}

#[test]
fn who_let_a_command_fall_rests_and_others_do_not() {
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    offer(&mut table, 1, now(0));
    table.dropped(id(1), 1, now(10));
    words(&mut table);
    offer(&mut table, 1, now(11));
    assert!(words(&mut table).is_empty());
    assert_eq!(table.next_deadline(), Some(10 + RETRY_AFTER_MS));
    table.tick(now(10 + RETRY_AFTER_MS));
    assert_eq!(table.take_wanting(false).len(), 1);
    offer(&mut table, 1, now(10 + RETRY_AFTER_MS));
    assert_eq!(words(&mut table), ["d 1 sent", "offer 1 to 1"]);
    table.dropped(id(1), 1, now(200));
    offer(&mut table, 2, now(200));
    assert_eq!(words(&mut table), ["d 1 returned", "d 1 sent", "offer 1 to 2"]);
}

#[test]
fn the_clocks_end_commands_by_how_far_they_came() {
    let mut table = Table::new(Config::default());
    for n in 1..=4 {
        submit(&mut table, &format!("d{n}"), n, now(0));
    }
    for n in 2..=4 {
        table.available(&format!("d{n}"), 1, &"client-1".into(), now(900));
    }
    table.dropped(id(2), 1, now(901));
    table.delivered(id(4), 1, now(901));
    words(&mut table);
    table.tick(now(999));
    assert!(words(&mut table).is_empty());
    table.tick(now(1_000));
    assert_eq!(words(&mut table), ["d1 1 expired", "d2 2 unknown"]);
    table.tick(now(1_401));
    assert_eq!(words(&mut table), ["d3 3 unknown", "d4 4 timed-out"]);
    let late = Answered { device: "d4", ..answer(4, Status::Succeeded, 1) };
    table.answered(late, now(1_500)).unwrap();
    let effects = table.take_effects();
    let Effect::Append(_, event) = &effects[0] else { panic!("{effects:?}") };
    assert!(matches!(&event.step, Step::Succeeded(Answer { late: true, .. })), "{event:?}");
    assert_eq!(state(&table, 4), State::TimedOut);
}

#[test]
fn a_lying_clock_cannot_stretch_a_deadline() {
    for (deliver_by, at, left) in [
        (1_000_500, 1_000_000, 500),
        (1_000_500, 1_000_400, 100),
        (999_000, 990_000, 0),
        (u64::MAX, 1_000_000, DELIVER_WITHIN_MAX_MS),
    ] {
        let mut table = Table::new(Config::default());
        let queued = Queued { deliver_by_ms: deliver_by, ..queued(0, now(0)) };
        table.queued("d", id(1), at, queued, now(0));
        assert_eq!(table.next_deadline(), Some(left));
    }
}

#[test]
fn bounds_refuse_the_newest_and_forget_the_oldest() {
    let config = Config { pending_per_device_max: 2, pending_max: 3, ended_max: 2, ..Config::default() };
    let mut table = Table::new(config);
    for (n, device) in [(1, "d"), (2, "d"), (3, "d"), (4, "e"), (5, "f")] {
        submit(&mut table, device, n, now(0));
    }
    assert_eq!(words(&mut table), ["d 3 refused", "f 5 refused"]);
    assert_eq!(table.pending(), 3);
    assert!(!table.has_room("g", 0));
    table.tick(now(1_000));
    assert_eq!(table.entries().count(), 2, "two ended commands stay listed");
    assert_eq!(words(&mut table).into_iter().filter(|word| word.starts_with("forget")).count(), 3);
    assert!(table.devices.is_empty() && table.pending_bytes == 0);
    let small = Config { pending_bytes_max: 10, ..Config::default() };
    assert!(Table::new(small.clone()).has_room("d", 10));
    assert!(!Table::new(small).has_room("d", 11));
}

#[test]
fn a_restart_returns_what_was_under_way() {
    let mut table = Table::new(Config::default());
    for n in 1..=4 {
        submit(&mut table, "d", n, now(0));
    }
    offer(&mut table, 1, now(1));
    table.delivered(id(1), 1, now(2));
    table.answered(answer(2, Status::Succeeded, 1), now(2)).unwrap();
    let stored: Vec<Entry> = table.entries().cloned().collect();
    let mut table = Table::restore(Config::default(), stored, now(100));
    assert_eq!(words(&mut table), ["d 3 returned", "d 4 returned"]);
    assert_eq!((state(&table, 1), state(&table, 2)), (State::Delivered, State::Succeeded));
    offer(&mut table, 2, now(101));
    assert_eq!(words(&mut table), ["d 3 sent", "offer 3 to 2", "d 4 sent", "offer 4 to 2"]);
    submit(&mut table, "d", 5, now(102));
    assert_eq!(table.get(id(5)).unwrap().order, 4);
}

#[derive(Debug, Clone)]
enum Act {
    Submit(usize),
    Offer(u64),
    Drop(u64),
    Deliver(u64),
    Answer(u64, usize),
    Pass(u64),
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        4 => (0..3usize).prop_map(Act::Submit),
        4 => (0..3u64).prop_map(Act::Offer),
        2 => (0..40u64).prop_map(Act::Drop),
        2 => (0..40u64).prop_map(Act::Deliver),
        3 => ((0..40u64), 0..5usize).prop_map(|(n, status)| Act::Answer(n, status)),
        2 => (0..400u64).prop_map(Act::Pass),
        1 => Just(Act::Restart),
    ]
}

/// What the indexes must say, counted anew from the entries.
fn check_indexes(table: &Table) -> Result<(), TestCaseError> {
    let pending: Vec<&Entry> = table.entries().filter(|entry| !entry.progress.state().is_outcome()).collect();
    prop_assert_eq!(table.pending(), pending.len());
    prop_assert_eq!(table.pending_bytes, pending.iter().map(|entry| entry.bytes()).sum::<usize>());
    prop_assert_eq!(table.deadlines.len(), pending.len());
    for entry in &pending {
        prop_assert!(table.deadlines.contains(&(entry.deadline().unwrap(), entry.id)));
    }
    for (name, device) in &table.devices {
        let own = pending.iter().filter(|entry| entry.device == *name);
        let count = |state| own.clone().filter(|entry| entry.progress.state() == state).count();
        prop_assert_eq!(device.queue.len(), count(State::Queued));
        prop_assert_eq!(device.in_flight, count(State::Sent));
        prop_assert_eq!(device.pending, own.clone().count());
        prop_assert!(device.pending > 0);
    }
    Ok(())
}

proptest! {
    #[test]
    fn indexes_and_outcomes_hold_over_random_walks(acts in proptest::collection::vec(act(), 0..120)) {
        let config = Config { pending_per_device_max: 6, in_flight_per_device_max: 2, ended_max: 5, ..Config::default() };
        let mut table = Table::new(config.clone());
        let (mut time, mut next) = (0, 0);
        let mut outcomes: HashMap<CommandId, usize> = HashMap::new();
        let mut expired = std::collections::HashSet::new();
        for act in acts {
            time += 1;
            let at = now(time);
            match act {
                Act::Submit(device) => {
                    submit(&mut table, ["d", "e", "f"][device], next, at);
                    next += 1;
                }
                Act::Offer(session) => offer(&mut table, session, at),
                Act::Drop(n) => for session in 0..3 { table.dropped(id(n), session, at) },
                Act::Deliver(n) => for session in 0..3 { table.delivered(id(n), session, at) },
                Act::Answer(n, status) => {
                    let _ = table.answered(answer(n, Status::ALL[status], n % 3), at);
                }
                Act::Pass(ms) => {
                    time += ms;
                    table.tick(now(time));
                }
                Act::Restart => {
                    let stored = table.entries().cloned().collect();
                    table.take_effects();
                    table = Table::restore(config.clone(), stored, at);
                }
            }
            check_indexes(&table)?;
            for effect in table.take_effects() {
                match effect {
                    Effect::Append(_, event) => match event.step {
                        Step::Succeeded(Answer { late: false, .. }) | Step::Failed(Answer { late: false, .. })
                        | Step::Rejected(Answer { late: false, .. }) | Step::Unknown | Step::TimedOut | Step::Refused => {
                            *outcomes.entry(event.id).or_default() += 1;
                        }
                        Step::Expired => {
                            *outcomes.entry(event.id).or_default() += 1;
                            expired.insert(event.id);
                        }
                        _ => {}
                    },
                    Effect::Offer(id, _) => {
                        prop_assert!(!expired.contains(&id));
                        prop_assert!(!outcomes.contains_key(&id));
                    }
                    Effect::Save(_) | Effect::Forget(_) => {}
                }
            }
        }
        prop_assert!(outcomes.values().all(|count| *count == 1), "{:?}", outcomes);
        prop_assert!(table.entries().filter(|e| e.progress.state().is_outcome()).count() <= 5);
    }
}
