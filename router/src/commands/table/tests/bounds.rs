//! Bounds: room in sessions, in queues and in what is written down.

use super::*;

fn offer_into(table: &mut Table, devices: &[&str], session: u64, room: [usize; 2], at: Now) {
    let client: Arc<str> = "gateway".into();
    let mut receiver = Receiver { session, client: &client, room };
    devices.iter().for_each(|device| table.available(device, &mut receiver, &|_, _| false, at));
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
    assert!(!table.has_room("g", 0, false));
    table.tick(now(1_000));
    assert_eq!(table.entries().count(), 2, "two ended commands stay listed");
    assert_eq!(words(&mut table).into_iter().filter(|word| word.starts_with("forget")).count(), 3);
    assert!(table.devices.is_empty() && table.pending_bytes == 0);
    let small = Config { pending_bytes_max: 10, ..Config::default() };
    assert!(Table::new(small.clone()).has_room("d", 10, false));
    assert!(!Table::new(small).has_room("d", 11, false));
}

#[test]
fn a_session_without_room_gets_no_step_and_is_asked_again_when_it_has_done_something() {
    let mut table = Table::new(Config::default());
    for (n, device) in [(1, "d"), (2, "e"), (3, "f")] {
        submit(&mut table, device, n, now(0));
    }
    table.take_wanting();
    words(&mut table);
    offer_into(&mut table, &["d", "e", "f"], 1, [1, 0], now(1));
    assert_eq!(words(&mut table), ["d 1 sent", "offer 1 to 1"], "nothing is said of those without room");
    assert!(table.take_wanting().is_empty());
    table.delivered(id(1), 1, now(2));
    let wanting: Vec<String> = table.take_wanting().iter().map(|(name, _)| name.to_string()).collect();
    assert_eq!(wanting, ["e"], "one place is free, one device is looked at");
    table.tick(now(999));
    assert!(table.take_wanting().is_empty());
    submit_with(&mut table, "f", 4, now(999), |queued| queued.deliver_by_ms += 10_000);
    table.take_wanting();
    table.tick(now(1_001));
    assert_eq!(table.take_wanting().len(), 1, "whatever the session does, the clock looks again");
}

#[test]
fn what_the_client_does_not_take_is_refused_and_not_tried_again() {
    let mut table = Table::new(Config::default());
    submit(&mut table, "d", 1, now(0));
    offer(&mut table, 1, now(1));
    table.too_large(id(1), 1, now(2));
    assert_eq!((state(&table, 1), why(&table, 1)), (State::Refused, Some(WhyCode::TooLarge)));
}

#[test]
fn keys_of_ended_commands_are_forgotten() {
    let mut table = Table::new(Config::default());
    submit_with(&mut table, "d", 0, now(0), |queued| queued.deliver_by_ms += 1_000_000);
    for n in 1..1_000 {
        submit_with(&mut table, "d", n, now(n), |queued| queued.supersede = Some(n.to_string()));
        table.cancel(id(n), "cli", now(n)).unwrap();
    }
    assert!(table.devices.values().all(|device| !device.has_many_keys()));
}

#[test]
fn progress_is_written_down_within_bounds() {
    let mut table = Table::new(Config::default());
    submit_with(&mut table, "d", 1, now(0), |queued| queued.execution_timeout_ms = Some(100_000));
    offer(&mut table, 1, now(1));
    words(&mut table);
    for n in 0..2_000 {
        table.answered(answer(1, Status::InProgress, 1), now(2 + n)).unwrap();
    }
    let told = words(&mut table).len();
    assert!((256..=260).contains(&told), "{told}");
    table.tick(now(200_000));
    words(&mut table);
    for n in 0..2_000 {
        table.answered(answer(1, Status::InProgress, 1), now(200_000 + 2_000 * n)).unwrap();
    }
    assert!(words(&mut table).len() <= 16, "and after the end");
}
