//! What guards are asked, and what follows from their answers.

use super::*;

#[test]
fn guards_are_asked_before_each_dispatch_in_order() {
    let config = Config { in_flight_per_device_max: 3, ..Config::default() };
    let mut table = Table::new(config);
    for n in 1..=4 {
        submit(&mut table, "d", n, now(0));
    }
    words(&mut table);
    offer_with(&mut table, 1, true, now(1));
    assert_eq!(words(&mut table), ["ask 1", "ask 2", "ask 3"], "as many as there is room for");
    table.judged(id(2), Judgement::Allow, now(2));
    offer_with(&mut table, 1, true, now(2));
    assert!(words(&mut table).is_empty(), "the first is still waited for");
    let payload = b"less".to_vec();
    table.judged(id(1), Judgement::Rewrite { guard: "g".into(), payload: payload.clone() }, now(3));
    let reason = "x".repeat(300);
    table.judged(id(3), Judgement::Deny { guard: "g".into(), reason }, now(3));
    assert_eq!(words(&mut table), ["d 1 rewritten", "d 3 refused"]);
    offer_with(&mut table, 1, true, now(3));
    assert_eq!(words(&mut table), ["d 1 sent", "offer 1 to 1", "d 2 sent", "offer 2 to 1", "ask 4"]);
    assert_eq!(table.get(id(1)).unwrap().queued.payload.0, payload);
    let denied = table.get(id(3)).unwrap().why.clone().unwrap();
    assert_eq!((denied.code, denied.by.as_str(), denied.text.len()), (WhyCode::Denied, "g", 256));
    table.dropped(id(1), 1, false, now(4));
    words(&mut table);
    offer_with(&mut table, 2, true, now(5));
    assert_eq!(words(&mut table), ["ask 1"], "what comes back is judged anew");
}

#[test]
fn what_was_allowed_long_ago_is_asked_again() {
    let mut table = Table::new(Config::default());
    submit_with(&mut table, "d", 1, now(0), |queued| queued.deliver_by_ms += 10_000);
    offer_with(&mut table, 1, true, now(1));
    table.judged(id(1), Judgement::Allow, now(2));
    words(&mut table);
    offer_with(&mut table, 1, true, now(1_002));
    assert_eq!(words(&mut table), ["ask 1"]);
    table.judged(id(1), Judgement::Failed { guard: "g".into(), reason: "time".into() }, now(1_003));
    assert_eq!((state(&table, 1), why(&table, 1)), (State::Refused, Some(WhyCode::GuardFailed)), "it fails closed");
    assert_eq!(table.asked, 0);
}

#[test]
fn an_emergency_is_shown_to_guards_and_not_held() {
    let mut table = Table::new(Config::default());
    submit_with(&mut table, "d", 1, now(0), |queued| queued.urgent = true);
    words(&mut table);
    offer_with(&mut table, 1, true, now(1));
    assert_eq!(words(&mut table), ["d 1 sent", "ask 1", "offer 1 to 1"]);
    table.judged(id(1), Judgement::Deny { guard: "g".into(), reason: "high".into() }, now(2));
    assert_eq!((state(&table, 1), words(&mut table)), (State::Sent, vec!["d 1 guard-overridden".to_owned()]));
    let overridden = table.get(id(1)).unwrap().overridden.clone().unwrap();
    assert_eq!((overridden.code, overridden.by.as_str(), overridden.text.as_str()), (WhyCode::Denied, "g", "high"));
    table.judged(id(1), Judgement::Allow, now(3));
    assert!(words(&mut table).is_empty());
    table.answered(answer(1, Status::Succeeded, 1), now(4)).unwrap();
    words(&mut table);
    table.judged(id(1), Judgement::Failed { guard: "g".into(), reason: "time".into() }, now(5));
    assert_eq!((state(&table, 1), words(&mut table)), (State::Succeeded, vec!["d 1 guard-overridden".to_owned()]));
}

#[test]
fn questions_are_bounded() {
    let mut table = Table::new(Config { asked_max: 2, ..Config::default() });
    for (n, device) in [(1, "d"), (2, "d"), (3, "e"), (4, "f")] {
        submit(&mut table, device, n, now(0));
    }
    words(&mut table);
    offer_with(&mut table, 1, true, now(1));
    assert_eq!(words(&mut table), ["ask 1", "ask 2"]);
    table.tick(now(1_000));
    assert_eq!(table.asked, 0, "expired ones are not waited for");
}

#[test]
fn commands_that_no_guard_wants_do_not_wait_for_those_that_one_wants() {
    let mut table = Table::new(Config { asked_max: 1, ..Config::default() });
    submit_with(&mut table, "d", 1, now(0), |queued| queued.name = "open".into());
    submit_with(&mut table, "e", 2, now(0), |queued| queued.name = "open".into());
    submit_with(&mut table, "f", 3, now(0), |queued| queued.name = "blink".into());
    words(&mut table);
    let client: Arc<str> = "c".into();
    let mut receiver = Receiver { session: 1, client: &client, room: [100, 100] };
    for device in ["d", "e", "f"] {
        table.available(device, &mut receiver, &|_, name| name == "open", now(1));
    }
    assert_eq!(words(&mut table), ["ask 1", "f 3 sent", "offer 3 to 1"]);
    table.take_wanting();
    table.judged(id(1), Judgement::Allow, now(2));
    let wanting: Vec<String> = table.take_wanting().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(wanting, ["d", "e"], "the one that could not ask may ask now");
}

#[test]
fn a_guard_sees_what_was_submitted_and_a_key_stands_for_that() {
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    for (at, payload) in [(now(1), b"less".to_vec()), (now(301), b"least".to_vec())] {
        offer_with(&mut table, 1, true, at);
        table.judged(id(1), Judgement::Rewrite { guard: "g".into(), payload }, at);
        offer_with(&mut table, 1, true, at);
        table.unsent(id(1), 1, at);
    }
    let entry = table.get(id(1)).unwrap();
    assert_eq!((entry.queued.payload.0.as_slice(), entry.submitted_payload()), (&b"least"[..], &b"12345"[..]));
}
