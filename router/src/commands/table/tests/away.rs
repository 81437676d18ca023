//! Commands that go to another node, and those that come from one.

use devices::command::{OriginHex, Taken, Why};
use sled_data::OriginId;

use super::super::Room;
use super::*;

const HERE: OriginId = OriginId(0xaa);
const THERE: OriginId = OriginId(0xab);

fn hand_over(table: &mut Table, at: Now) -> Vec<CommandId> {
    table.hand_over("d", THERE, &mut Room { count: 10, bytes: 1 << 20 }, at)
}

fn taken(term: u64, may_have_arrived: bool) -> Taken {
    Taken {
        from: OriginHex(THERE.0),
        term,
        attempts: u32::from(may_have_arrived),
        may_have_arrived,
        clients: Vec::new(),
        with_device: None,
        is_over: false,
        gateway: None,
        called_off: None,
    }
}

/// A step as another node has written it.
fn heard(table: &mut Table, n: u64, step: Step, at: Now) {
    table.heard(HERE, THERE, "d", &StepEvent::new(id(n), at.wall, 9, step), at);
}

#[test]
fn what_is_handed_over_is_offered_to_nobody_and_called_off_by_nobody() {
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    submit_with(&mut table, "d", 2, now(0), |queued| queued.urgent = true);
    assert_eq!(hand_over(&mut table, now(1)), [id(2), id(1)], "urgent ones first");
    table.take_effects();
    offer(&mut table, 1, now(2));
    assert_eq!(words(&mut table), Vec::<String>::new());
    assert!(table.cancel(id(1), "cli", now(2)).is_err());
    // Time passes, and may not end what the other node may have.
    table.tick(now(5_000));
    assert_eq!((state(&table, 1), table.pending()), (State::Queued, 2));
    table.stays(id(1), THERE, now(5_000));
    table.tick(now(5_000));
    assert_eq!(state(&table, 1), State::Expired, "it was nowhere else");
    // Another one, which was asked before, is late.
    table.moved(id(2), HERE, now(5_000));
    assert!(!table.get(id(2)).unwrap().away.unwrap().is_sure);
    table.stays(id(2), HERE, now(5_000));
    assert!(table.get(id(2)).unwrap().away.is_some());
    table.moved(id(2), THERE, now(5_000));
    table.stays(id(2), THERE, now(5_000));
    assert!(table.get(id(2)).unwrap().away.unwrap().is_sure, "what the other has taken it has");
    // Nothing is ever heard of it.
    table.tick(now(70_000));
    assert_eq!(state(&table, 2), State::Unknown);
    assert_eq!((table.pending(), table.has_shared(), table.next_deadline()), (0, false, None));
}

#[test]
fn each_hand_over_has_a_higher_term_than_the_one_before_over_restarts_too() {
    const OTHER: OriginId = OriginId(0xac);
    // Every hand-over is to the node that the device is at then; whether the node is restarted before the answer, and before the next one.
    let rounds =
        [(THERE, false, false), (OTHER, false, true), (THERE, true, false), (THERE, true, true), (OTHER, false, false)];
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    let mut log = vec![("d".to_owned(), StepEvent::queued(id(1), now(0).wall, queued(1_000, now(0))))];
    let restart = |table: &mut Table, log: &mut Vec<(String, StepEvent)>| {
        log.extend(table.take_effects().into_iter().filter_map(|effect| match effect {
            Effect::Append(device, event) => Some((device.to_string(), event)),
            _ => None,
        }));
        *table = Table::new(Config::default());
        log.iter().for_each(|(device, event)| table.replay(device, event.clone(), now(3)));
        table.take_effects();
        table.resume(|_| false, now(3));
    };
    for ((to, before_answer, before_next), term) in rounds.into_iter().zip(1..) {
        let given = table.hand_over("d", to, &mut Room { count: 10, bytes: 1 << 20 }, now(2));
        assert_eq!(given, [id(1)]);
        if before_answer {
            restart(&mut table, &mut log);
        }
        assert_eq!(table.get(id(1)).unwrap().away, Some(crate::commands::Away { to, term, is_sure: false }));
        table.stays(id(1), to, now(2));
        assert!(table.get(id(1)).unwrap().waits_here());
        if before_next {
            restart(&mut table, &mut log);
        }
        assert_eq!(table.get(id(1)).unwrap().term, term);
    }
}

#[test]
fn the_other_nodes_word_ends_it_here_without_a_step() {
    for (step, expected) in [
        (Step::Succeeded(Answer::default()), State::Succeeded),
        (Step::Expired, State::Expired),
        (Step::Unknown(Why::code(WhyCode::Unconfirmed)), State::Unknown),
    ] {
        let mut table = Table::new(Config::default());
        submit(&mut table, "d", 1, now(0));
        hand_over(&mut table, now(1));
        table.take_effects();
        heard(&mut table, 1, step.clone(), now(2));
        heard(&mut table, 1, step, now(3));
        let effects = table.take_effects();
        let ends: Vec<_> = effects.iter().filter(|effect| matches!(effect, Effect::Ended(_))).collect();
        assert!(matches!(&ends[..], [Effect::Ended(ended)] if ended.is_elsewhere && ended.outcome == expected));
        assert!(!effects.iter().any(|effect| matches!(effect, Effect::Append(..))), "{expected:?}");
        assert_eq!((table.pending(), table.has_shared()), (0, false));
    }
}

#[test]
fn of_two_that_were_derived_from_one_cause_one_gives_way() {
    let cause =
        devices::command::Cause { plugin: "p".into(), topic: "t".into(), origin: 1, partition: 0, offset: 3, index: 0 };
    for (own, from, gives_way) in [(HERE, THERE, true), (THERE, HERE, false)] {
        let mut table = Table::new(Config::default());
        let derived = Queued { cause: Some(Box::new(cause.clone())), ..queued(1_000, now(0)) };
        table.queued("d", id(1), now(0).wall, derived.clone(), now(0));
        table.heard(own, from, "d", &StepEvent::queued(id(1), now(0).wall, derived), now(1));
        assert_eq!(table.get(id(1)).unwrap().away.is_some(), gives_way);
    }
}

#[test]
fn one_that_comes_back_is_the_same_under_a_higher_term_alone() {
    // The term that it had there, the term that it comes with, whether it counts
    for (term, comes) in [(1, false), (2, true)] {
        let mut table = Table::new(Config::default());
        submit(&mut table, "d", 1, now(0));
        hand_over(&mut table, now(1));
        table.moved(id(1), THERE, now(1));
        let again = Queued { taken: Some(Box::new(taken(term, false))), ..queued(1_000, now(2)) };
        table.submitted("d", StepEvent::new(id(1), now(0).wall, 7, Step::Queued(Box::new(again))), now(2));
        table.take_effects();
        offer(&mut table, 1, now(3));
        let sent = table.take_effects().into_iter().find_map(|effect| match effect {
            Effect::Append(_, event) => Some(event),
            _ => None,
        });
        assert_eq!(sent.map(|event| event.n), comes.then_some(8), "its steps are numbered on");
        assert_eq!(table.pending(), 1);
    }
}

#[test]
fn one_that_is_here_and_is_taken_once_more_has_the_higher_term() {
    // The term that it has, the one that it is taken under, the one that it has then; whether it is so over a restart
    for (term, more, then) in [(1, 9, 9), (9, 1, 9), (1, 1, 1)] {
        let taken_under = |term| Queued { taken: Some(Box::new(taken(term, false))), ..queued(1_000, now(0)) };
        let step = |term, n| StepEvent::new(id(1), now(0).wall, n, Step::Queued(Box::new(taken_under(term))));
        let mut table = Table::new(Config::default());
        table.submitted("d", step(term, 2), now(1));
        table.submitted("d", step(more, 2), now(2));
        let mut again = Table::new(Config::default());
        again.replay("d", step(term, 2), now(3));
        again.replay("d", step(more, 2), now(3));
        // What was on its way into the log by then.
        if more > term {
            let late = Step::Moving { to: OriginHex(THERE.0), term: term + 1 };
            again.replay("d", StepEvent::new(id(1), now(0).wall, 3, late), now(3));
        }
        for table in [&mut table, &mut again] {
            assert_eq!((table.get(id(1)).unwrap().term, table.pending()), (then, 1), "{term} {more}");
            // So that each later term is higher than all that others have read of it.
            let mut room = Room { count: 1, bytes: 1 << 20 };
            assert!(table.get(id(1)).unwrap().waits_here());
            assert_eq!(table.hand_over("d", THERE, &mut room, now(4)), [id(1)]);
            assert_eq!(table.get(id(1)).unwrap().away.unwrap().term, then + 1);
        }
    }
}

#[test]
fn what_may_have_arrived_elsewhere_never_ends_as_never_sent() {
    // Whether it may have arrived, whether it must not be sent again, how it ends when its time is over
    for (arrived, is_over, ends) in
        [(false, false, State::Expired), (true, false, State::Unknown), (true, true, State::Unknown)]
    {
        let mut table = Table::new(Config::default());
        let taken = Taken { is_over, ..taken(1, arrived) };
        submit_with(&mut table, "d", 1, now(0), |queued| queued.taken = Some(Box::new(taken)));
        if is_over {
            assert_eq!(state(&table, 1), ends, "at once");
        }
        table.tick(now(1_000));
        assert_eq!(state(&table, 1), ends);
    }
}

#[test]
fn an_old_set_point_that_comes_late_does_not_follow_a_new_one() {
    let key = |queued: &mut Queued| queued.supersede = Some("set".into());
    for ended in [false, true] {
        let mut table = Table::new(Config::default());
        submit_with(&mut table, "d", 2, now(50), key);
        if ended {
            offer(&mut table, 1, now(60));
            table.answered(answer(2, Status::Succeeded, 1), now(61)).unwrap();
        }
        let old =
            Queued { taken: Some(Box::new(taken(1, false))), supersede: Some("set".into()), ..queued(900, now(0)) };
        table.queued("d", id(1), now(0).wall, old, now(100));
        assert_eq!(state(&table, 1), State::Superseded, "ended {ended}");
    }
}

#[test]
fn a_restart_keeps_where_commands_are() {
    let mut table = Table::new(Config::default());
    let mut log = Vec::new();
    let mut note = |table: &mut Table| {
        log.extend(table.take_effects().into_iter().filter_map(|effect| match effect {
            Effect::Append(device, event) => Some((device.to_string(), event)),
            _ => None,
        }));
    };
    (1..=3).for_each(|n| submit(&mut table, "d", n, now(0)));
    hand_over(&mut table, now(1));
    table.moved(id(1), THERE, now(2));
    table.stays(id(2), THERE, now(2));
    note(&mut table);
    let mut again = Table::new(Config::default());
    (1..=3).for_each(|n| again.replay("d", StepEvent::queued(id(n), now(0).wall, queued(1_000, now(0))), now(3)));
    log.into_iter().for_each(|(device, event)| again.replay(&device, event, now(3)));
    again.take_effects();
    again.resume(|_| false, now(3));
    let away = |table: &Table, n: u64| table.get(id(n)).unwrap().away.map(|away| away.is_sure);
    assert_eq!([1, 2, 3].map(|n| away(&again, n)), [Some(true), None, Some(false)]);
    assert_eq!(again.unsure(9), [id(3)]);
    again.take_effects();
    offer(&mut again, 1, now(200));
    assert_eq!(words(&mut again).len(), 2, "one is sent: a step and an offer");
}
