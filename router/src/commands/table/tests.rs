//! The table by examples.

#![allow(clippy::unwrap_used)]

use devices::command::{Answer, Queued, Refusal, Repeat, Status, WhyCode};

use super::*;
use crate::commands::config::Overflow;
use crate::security::Judgement;

mod away;
mod bounds;
mod guards;
mod restarts;
mod walks;

fn now(steady: u64) -> Now {
    Now { steady, wall: 1_000_000 + steady }
}

fn id(n: u64) -> CommandId {
    CommandId::v7(n, [0; 10])
}

fn queued(within_ms: u64, at: Now) -> Queued {
    Queued { execution_timeout_ms: Some(500), ..Queued::new("cool", b"12345".to_vec(), at.wall + within_ms, "cli") }
}

fn submit(table: &mut Table, device: &str, n: u64, at: Now) {
    submit_with(table, device, n, at, |_| {});
}

fn submit_with(table: &mut Table, device: &str, n: u64, at: Now, edit: impl FnOnce(&mut Queued)) {
    let mut queued = queued(1_000, at);
    edit(&mut queued);
    table.queued(device, id(n), at.wall, queued, at);
}

fn offer(table: &mut Table, session: u64, at: Now) {
    offer_with(table, session, false, at);
}

fn offer_with(table: &mut Table, session: u64, guarded: bool, at: Now) {
    let client: Arc<str> = format!("client-{session}").into();
    table.all_came();
    for (device, _) in table.take_wanting() {
        let mut receiver = Receiver { session, client: &client, room: [100, 100] };
        table.available(&device, &mut receiver, &|_, _| guarded, at);
    }
}

fn answer(n: u64, status: Status, session: u64) -> Answered<'static> {
    let (device, client, payload) = ("d", "client-1", &b"ok"[..]);
    Answered { device, id: id(n), status, percent: None, code: "", text: "", session, client, payload }
}

/// The effects as words, those of storing left out.
fn words(table: &mut Table) -> Vec<String> {
    let effects = table.take_effects().into_iter().filter_map(|effect| match effect {
        Effect::Append(device, event) => {
            let json: serde_json::Value = serde_json::from_slice(&event.encode()).unwrap();
            Some(format!("{device} {} {}", event.id.unix_ms(), json["step"].as_str().unwrap()))
        }
        Effect::Offer(id, session) => Some(format!("offer {} to {session}", id.unix_ms())),
        Effect::Forget(id, _) => Some(format!("forget {}", id.unix_ms())),
        Effect::Ask(id) => Some(format!("ask {}", id.unix_ms())),
        Effect::Withdraw(id, session) => Some(format!("withdraw {} from {session}", id.unix_ms())),
        Effect::Save(_) | Effect::Ended(_) => None,
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
    assert_eq!(table.get(id(1)).unwrap().result.as_ref().unwrap().payload.0, b"ok");
    assert_eq!((table.pending(), table.next_deadline()), (0, None));
    let again = table.answered(answer(1, Status::Failed, 1), now(5));
    assert_eq!(again, Err(AnswerError::Refused(Refusal::SecondAnswer)));
    assert_eq!(words(&mut table), ["d 1 answer-refused"]);
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
    table.all_came();
    assert!(table.take_wanting().is_empty());
    table.delivered(id(1), 1, now(2));
    assert_eq!(table.take_wanting().len(), 1, "the window has room again");
    table.dropped(id(2), 1, false, now(3));
    offer(&mut table, 2, now(4));
    assert_eq!(offers(&mut table), ["offer 2 to 2", "offer 3 to 2"], "what came back is first");
}

#[test]
fn who_let_a_command_fall_rests_and_others_do_not() {
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    offer(&mut table, 1, now(0));
    table.dropped(id(1), 1, false, now(10));
    words(&mut table);
    offer(&mut table, 1, now(11));
    assert!(words(&mut table).is_empty());
    assert_eq!(table.next_deadline(), Some(110));
    table.tick(now(110));
    assert_eq!(table.take_wanting().len(), 1);
    offer(&mut table, 1, now(110));
    assert_eq!(words(&mut table), ["d 1 sent", "offer 1 to 1"]);
    table.dropped(id(1), 1, false, now(200));
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
        let mut receiver = Receiver { session: 1, client: &"client-1".into(), room: [100, 100] };
        table.available(&format!("d{n}"), &mut receiver, &|_, _| false, now(900));
    }
    table.dropped(id(2), 1, false, now(901));
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
        (u64::MAX, 1_000_000, devices::command::DELIVER_WITHIN_MAX_MS),
    ] {
        let mut table = Table::new(Config::default());
        let queued = Queued { deliver_by_ms: deliver_by, ..queued(0, now(0)) };
        table.queued("d", id(1), at, queued, now(0));
        assert_eq!(table.next_deadline(), Some(left));
    }
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
    let mut table = Table::restore(Config::default(), stored);
    table.resume(|_| false, now(100));
    assert_eq!(words(&mut table), ["d 3 returned", "d 4 returned"]);
    assert_eq!((state(&table, 1), state(&table, 2)), (State::Delivered, State::Succeeded));
    offer(&mut table, 2, now(101));
    assert_eq!(words(&mut table), ["d 3 sent", "offer 3 to 2", "d 4 sent", "offer 4 to 2"]);
    submit(&mut table, "d", 5, now(102));
    assert_eq!(table.get(id(5)).unwrap().order, 4);
}

fn why(table: &Table, n: u64) -> Option<WhyCode> {
    table.get(id(n)).unwrap().why.as_ref().map(|why| why.code)
}

#[test]
fn an_urgent_command_overtakes_and_has_a_window_of_its_own() {
    let config = Config { in_flight_per_device_max: 1, ..Config::default() };
    let mut table = Table::new(config);
    submit(&mut table, "d", 1, now(0));
    submit(&mut table, "d", 2, now(0));
    submit_with(&mut table, "d", 3, now(0), |queued| queued.urgent = true);
    words(&mut table);
    offer(&mut table, 1, now(1));
    assert_eq!(words(&mut table), ["d 3 sent", "offer 3 to 1", "d 1 sent", "offer 1 to 1"]);
    submit_with(&mut table, "d", 4, now(2), |queued| queued.urgent = true);
    table.delivered(id(3), 1, now(2));
    words(&mut table);
    offer(&mut table, 1, now(3));
    assert_eq!(words(&mut table), ["d 4 sent", "offer 4 to 1"], "though another waits for its confirmation");
}

#[test]
fn a_full_queue_still_takes_an_emergency() {
    let config = Config { pending_per_device_max: 2, ..Config::default() };
    let mut table = Table::new(config);
    for n in 1..=3 {
        submit(&mut table, "d", n, now(0));
    }
    submit_with(&mut table, "d", 4, now(0), |queued| queued.urgent = true);
    let states = [1, 2, 3, 4].map(|n| state(&table, n));
    assert_eq!(states, [State::Queued, State::Queued, State::Refused, State::Queued]);
    assert_eq!(why(&table, 3), Some(WhyCode::NoRoom));
}

#[test]
fn where_the_oldest_goes_the_newest_stays() {
    let config = Config { pending_per_device_max: 2, overflow: Overflow::DropOldest, ..Config::default() };
    let mut table = Table::new(config);
    for n in 1..=4 {
        submit(&mut table, "d", n, now(0));
    }
    let states = [1, 2, 3, 4].map(|n| state(&table, n));
    assert_eq!(states, [State::Refused, State::Refused, State::Queued, State::Queued]);
    assert_eq!(why(&table, 1), Some(WhyCode::Overflow));
    offer(&mut table, 1, now(1));
    submit(&mut table, "d", 5, now(1));
    assert_eq!(state(&table, 5), State::Refused, "what is under way is not given up");
}

#[test]
fn the_newest_set_point_replaces_what_waits_and_is_never_overtaken_by_an_older() {
    let mut table = Table::new(Config::default());
    let keyed = |table: &mut Table, n| {
        submit_with(table, "d", n, now(0), |queued| queued.supersede = Some("set-point".into()));
    };
    keyed(&mut table, 1);
    submit(&mut table, "d", 2, now(0));
    keyed(&mut table, 3);
    assert_eq!((state(&table, 1), why(&table, 1)), (State::Superseded, Some(WhyCode::Superseded)));
    offer(&mut table, 1, now(1));
    keyed(&mut table, 4);
    assert_eq!(state(&table, 3), State::Sent, "it is with the device");
    offer(&mut table, 1, now(1));
    table.delivered(id(4), 1, now(2));
    table.answered(answer(4, Status::Succeeded, 1), now(2)).unwrap();
    table.dropped(id(3), 1, false, now(3));
    assert_eq!((state(&table, 3), why(&table, 3)), (State::Unknown, Some(WhyCode::Superseded)), "not sent again");
}

#[test]
fn what_must_not_be_repeated_is_not_sent_again() {
    for (refuses_repeats, expected) in [(false, State::Unknown), (true, State::Queued)] {
        let mut table = Table::new(Config::default());
        submit_with(&mut table, "d", 1, now(0), |queued| queued.repeat = Repeat::Never);
        offer(&mut table, 1, now(1));
        table.unsent(id(1), 1, now(2));
        assert_eq!(state(&table, 1), State::Queued, "it was never written");
        table.tick(now(200));
        offer(&mut table, 1, now(200));
        table.dropped(id(1), 1, refuses_repeats, now(201));
        assert_eq!(state(&table, 1), expected);
    }
}

#[test]
fn deliveries_are_bounded() {
    let mut table = Table::new(Config { deliveries_max: 3, ..Config::default() });
    submit(&mut table, "d", 1, now(0));
    submit_with(&mut table, "d", 2, now(0), |queued| queued.deliveries_max = Some(1));
    for session in 1..=3 {
        offer(&mut table, session, now(session));
        table.dropped(id(1), session, false, now(session));
        table.dropped(id(2), session, false, now(session));
    }
    assert_eq!((state(&table, 1), table.get(id(1)).unwrap().progress.attempts()), (State::Unknown, 3));
    assert_eq!((state(&table, 2), table.get(id(2)).unwrap().progress.attempts()), (State::Unknown, 1));
    assert_eq!(why(&table, 1), Some(WhyCode::DeliveriesExhausted));
    assert!(table.get(id(1)).unwrap().is_dead_letter());
}

#[test]
fn a_command_is_called_off_as_long_as_nobody_has_it() {
    let mut table = Table::new(Config::default());
    for n in 1..=3 {
        submit(&mut table, "d", n, now(0));
    }
    assert_eq!(table.cancel(id(1), "cli", now(1)), Ok(State::Cancelled));
    assert_eq!(table.cancel(id(1), "cli", now(1)), Err(CancelError::Refused(Refusal::AlreadyEnded)));
    offer(&mut table, 1, now(2));
    assert_eq!(table.cancel(id(2), "cli", now(3)), Err(CancelError::Refused(Refusal::AlreadySent)));
    table.dropped(id(2), 1, false, now(4));
    assert_eq!(table.cancel(id(2), "cli", now(5)), Ok(State::Unknown), "it may have arrived");
    assert_eq!(table.cancel(id(9), "cli", now(5)), Err(CancelError::NoCommand));
}

#[test]
fn a_key_is_one_command() {
    let mut table = Table::new(Config { ended_max: 1, ..Config::default() });
    let keyed = |table: &mut Table, n| {
        submit_with(table, "d", n, now(0), |queued| queued.idempotency_key = Some("k".into()));
    };
    keyed(&mut table, 1);
    keyed(&mut table, 2);
    assert_eq!(table.by_key("k").unwrap().id, id(1));
    assert_eq!((state(&table, 2), why(&table, 2)), (State::Refused, Some(WhyCode::DuplicateKey)));
    table.cancel(id(1), "cli", now(1)).unwrap();
    submit(&mut table, "d", 3, now(1));
    table.cancel(id(3), "cli", now(1)).unwrap();
    assert!(table.by_key("k").is_none(), "a forgotten command has no key");
}

#[test]
fn a_redriven_command_knows_its_successor() {
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    table.tick(now(1_000));
    assert!(table.get(id(1)).unwrap().is_dead_letter());
    submit_with(&mut table, "d", 2, now(1_001), |queued| queued.redrives = Some(id(1)));
    assert_eq!(table.get(id(1)).unwrap().redriven_as, Some(id(2)));
}

#[test]
fn a_predecessor_that_its_session_has_not_written_is_taken_back() {
    let mut table = Table::new(Config::default());
    let set = |table: &mut Table, n, urgent| {
        submit_with(table, "d", n, now(0), |queued| {
            (queued.supersede, queued.urgent) = (Some("set".into()), urgent);
        });
    };
    set(&mut table, 1, false);
    offer(&mut table, 1, now(1));
    words(&mut table);
    set(&mut table, 2, true);
    offer(&mut table, 1, now(2));
    assert_eq!(words(&mut table), ["d 2 sent", "withdraw 1 from 1", "offer 2 to 1"]);
    table.unsent(id(1), 1, now(3));
    assert_eq!(words(&mut table), ["d 1 returned", "d 1 superseded"]);
}
