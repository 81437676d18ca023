//! What a restart must not change: times, order, keys, and who takes whose place.

use super::*;

fn resumed(mut table: Table, at: Now) -> Table {
    table.take_effects();
    table.resume(|_| false, at);
    table
}

fn stored(table: &Table, n: u64) -> crate::commands::entry::Entry {
    table.get(id(n)).unwrap().clone()
}

#[test]
fn a_clock_that_was_set_back_while_the_node_was_down_gives_no_more_time() {
    let mut before = Table::new(Config::default());
    submit(&mut before, "d", 1, now(100_000));
    submit(&mut before, "d", 2, now(100_000));
    offer(&mut before, 1, now(100_000));
    before.delivered(id(2), 1, now(100_000));
    let entries = vec![stored(&before, 1), stored(&before, 2)];
    let mut table = resumed(Table::restore(Config::default(), entries), now(0));
    table.tick(now(500));
    assert_eq!(state(&table, 2), State::TimedOut, "its device had 500 ms");
    table.tick(now(999));
    assert_eq!(state(&table, 1), State::Queued);
    table.tick(now(1_000));
    assert_eq!(state(&table, 1), State::Unknown);
    assert_eq!(table.next_deadline(), None);
}

#[test]
fn a_clock_that_was_set_between_two_lives_is_believed_where_it_says_less() {
    let mut before = Table::new(Config::default());
    submit(&mut before, "d", 1, now(0));
    let later = Now { steady: 300, wall: now(0).wall + 900 };
    let mut table = resumed(Table::restore(Config::default(), vec![stored(&before, 1)]), later);
    table.tick(Now { steady: 400, wall: now(0).wall + 1_000 });
    assert_eq!(state(&table, 1), State::Expired);
}

#[test]
fn a_table_that_is_built_anew_keeps_the_times_of_the_one_before() {
    let mut before = Table::new(Config::default());
    submit(&mut before, "d", 1, now(0));
    // The wall clock was set back since.
    let at = Now { steady: 900, wall: 1_000 };
    let mut table = Table::new(Config::default());
    table.replay("d", StepEvent::queued(id(1), now(0).wall, queued(1_000, now(0))), at);
    assert_eq!(table.next_deadline(), Some(1_900));
    table.keep_times(&before);
    assert_eq!(resumed(table, at).next_deadline(), Some(1_000));
}

#[test]
fn what_is_stored_and_what_is_only_in_the_log_keep_their_order() {
    let mut before = Table::new(Config::default());
    submit(&mut before, "d", 1, now(0));
    submit(&mut before, "d", 2, now(0));
    // The second was stored, the first was not; both are behind the cursor.
    let mut table = Table::restore(Config::default(), vec![stored(&before, 2)]);
    for n in [1, 2] {
        table.replay("d", StepEvent::queued(id(n), now(0).wall, queued(1_000, now(0))), now(1));
    }
    assert_eq!(table.take_effects(), [Effect::Save(id(1)), Effect::Save(id(2))], "its place is stored as well");
    let mut table = resumed(table, now(1));
    offer(&mut table, 2, now(2));
    assert_eq!(words(&mut table), ["d 1 sent", "offer 1 to 2", "d 2 sent", "offer 2 to 2"]);
}

#[test]
fn a_crash_before_the_second_of_a_key_was_refused_lets_it_not_pass() {
    let mut table = Table::new(Config::default());
    for n in [1, 2] {
        let keyed = Queued { idempotency_key: Some("k".into()), ..queued(1_000, now(0)) };
        table.replay("d", StepEvent::queued(id(n), now(0).wall, keyed), now(1));
    }
    let table = resumed(table, now(1));
    assert_eq!((state(&table, 1), state(&table, 2)), (State::Queued, State::Refused));
    assert_eq!(why(&table, 2), Some(WhyCode::DuplicateKey));
}

#[test]
fn a_crash_before_a_command_was_superseded_lets_it_not_pass() {
    let mut table = Table::new(Config::default());
    for n in [1, 2] {
        let set = Queued { supersede: Some("set".into()), ..queued(1_000, now(0)) };
        table.replay("d", StepEvent::queued(id(n), now(0).wall, set), now(1));
    }
    let table = resumed(table, now(1));
    assert_eq!((state(&table, 1), state(&table, 2)), (State::Superseded, State::Queued));
}
