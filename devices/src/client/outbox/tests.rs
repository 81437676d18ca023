//! The buffer in memory, case by case.

use super::bench::{ACKED, AGAIN, Bench};
use super::*;
use crate::client::config::Overflow;

#[test]
fn a_broken_connection_brings_all_back_in_order() {
    let mut bench = Bench::new(10, 1_000, Overflow::Refuse);
    (0..5).for_each(|n| bench.push(n).unwrap());
    assert_eq!(bench.handed(), [0, 1, 2], "the window is three");
    bench.outbox.written(9);
    bench.outbox.written(1);
    assert_eq!(bench.outbox.acked(9), Some(Lane::NORMAL));
    assert_eq!(bench.outbox.acked(9), None, "a second ack finds nothing");
    assert_eq!(bench.handed(), [3]);
    assert_eq!(bench.outbox.disconnected(), 1, "one was written");
    assert_eq!(bench.handed(), [1, 2, 3]);
    for packet_id in [5, 6] {
        bench.outbox.written(packet_id);
        bench.outbox.acked(packet_id).unwrap();
    }
    assert_eq!(bench.fates(), [(0, ACKED), (1, AGAIN), (2, ACKED)]);
    assert_eq!(bench.outbox.len(), 2);
}

#[test]
fn qos_0_keeps_its_place_has_no_number_and_ends_when_written() {
    let mut bench = Bench::new(10, 1_000, Overflow::Refuse);
    bench.push(0).unwrap();
    bench.push_as(1, Qos::AtMostOnce, Priority::Normal, false).unwrap();
    bench.push(2).unwrap();
    assert_eq!(bench.handed(), [0, 1, 2]);
    assert!(bench.outbox.loose_handed[0].sequence().is_none());
    bench.outbox.written(4);
    bench.outbox.written(0);
    assert_eq!(bench.fates(), [(1, Fate::Written)]);
    bench.outbox.written(5);
    bench.outbox.acked(5).unwrap();
    bench.outbox.acked(4).unwrap();
    assert_eq!((bench.outbox.len(), bench.outbox.bytes), (0, 0));
}

#[test]
fn urgent_lanes_go_first_and_numbers_rise_over_all() {
    let mut bench = Bench::new(10, 1_000, Overflow::Refuse);
    for (n, priority) in [(0, Priority::Bulk), (1, Priority::Normal), (2, Priority::Urgent), (3, Priority::Urgent)] {
        bench.push_as(n, Qos::AtLeastOnce, priority, false).unwrap();
    }
    bench.window.most = 9;
    assert_eq!(bench.handed(), [2, 3, 1, 0]);
    let numbers: Vec<Number> = bench.window.taken.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, [2, 3, 1, 0].map(|seq| Number { boot: 7, seq }));
    bench.outbox.disconnected();
    bench.window.paused = vec![Lane::URGENT];
    assert_eq!(bench.handed(), [1, 0], "a lane that pauses holds up no other");
}

#[test]
fn a_full_buffer_refuses_or_drops_the_oldest_waiting() {
    for bytes in [false, true] {
        let (count, size) = if bytes { (100, 8) } else { (4, 1_000) };
        let mut refusing = Bench::new(count, size, Overflow::Refuse);
        let mut dropping = Bench::new(count, size, Overflow::DropOldest);
        for n in 0..4 {
            refusing.push(n).unwrap();
            dropping.push(n).unwrap();
        }
        dropping.handed();
        assert_eq!(refusing.push(4), Err(NotTaken::Full));
        dropping.push(4).unwrap();
        assert_eq!(dropping.fates(), [(3, Fate::Dropped)]);
        dropping.push(5).unwrap();
        assert_eq!(dropping.fates(), [(4, Fate::Dropped)]);
        assert!(refusing.fates().is_empty());
    }
}

#[test]
fn what_is_on_its_way_is_never_dropped() {
    let mut bench = Bench::new(3, 1_000, Overflow::DropOldest);
    (0..3).for_each(|n| bench.push(n).unwrap());
    bench.handed();
    assert_eq!(bench.push(3), Err(NotTaken::Full));
}

#[test]
fn an_alarm_displaces_history_and_history_displaces_nothing() {
    let mut bench = Bench::new(3, 1_000, Overflow::KeepByPriority);
    for (n, priority) in [(0, Priority::Bulk), (1, Priority::Bulk), (2, Priority::Normal)] {
        bench.push_as(n, Qos::AtLeastOnce, priority, false).unwrap();
    }
    let push = |bench: &mut Bench, n, priority| bench.push_as(n, Qos::AtLeastOnce, priority, false);
    assert_eq!(push(&mut bench, 3, Priority::Bulk), Err(NotTaken::Full));
    push(&mut bench, 4, Priority::Normal).unwrap();
    push(&mut bench, 5, Priority::Urgent).unwrap();
    assert_eq!(push(&mut bench, 6, Priority::Normal), Err(NotTaken::Full));
    push(&mut bench, 7, Priority::Urgent).unwrap();
    let dropped: Vec<u32> = bench.fates().into_iter().map(|(n, _)| n).collect();
    assert_eq!(dropped, [0, 1, 2]);
    assert_eq!(bench.handed(), [5, 7, 4]);
}

#[test]
fn answers_have_room_of_their_own_with_a_bound() {
    let mut bench = Bench::new(1, 2, Overflow::Refuse);
    bench.push(0).unwrap();
    for n in 0..ANSWERS_RESERVED_MAX as u32 {
        bench.push_as(n, Qos::AtLeastOnce, Priority::Urgent, true).unwrap();
    }
    assert_eq!(bench.push_as(99, Qos::AtLeastOnce, Priority::Urgent, true), Err(NotTaken::Full));
}

#[test]
fn what_is_refused_for_now_waits_again_in_its_old_place() {
    let mut bench = Bench::new(10, 1_000, Overflow::Refuse);
    (0..5).for_each(|n| bench.push(n).unwrap());
    assert_eq!(bench.handed(), [0, 1, 2]);
    (1..=3).for_each(|packet_id| bench.outbox.written(packet_id));
    assert_eq!(bench.outbox.refused_for_now(1), Some(Lane::NORMAL));
    assert_eq!(bench.handed(), [0], "there is room for one again");
    bench.outbox.written(4);
    assert_eq!(bench.outbox.refused_for_now(2), Some(Lane::NORMAL));
    bench.outbox.refused(3, 0x87);
    assert_eq!(bench.fates(), [(2, Fate::Refused(0x87))]);
    assert_eq!(bench.handed(), [1, 3]);
    let numbers: Vec<u64> = bench.window.taken.iter().map(|(_, number)| number.seq).collect();
    assert_eq!(numbers, [1, 3], "under the old numbers");
    bench.outbox.disconnected();
    assert_eq!(bench.handed(), [0, 1, 3]);
    assert_eq!((bench.outbox.len(), bench.outbox.publishes), (4, 4));
}

#[test]
fn acknowledgements_by_lane_and_refused_ranges() {
    let mut bench = Bench::new(10, 1_000, Overflow::Refuse);
    (0..6).for_each(|n| bench.push(n).unwrap());
    bench.push_as(9, Qos::AtLeastOnce, Priority::Bulk, false).unwrap();
    (bench.window.most, bench.window.packet_ids) = (5, false);
    assert_eq!(bench.handed(), [0, 1, 2, 3, 4]);
    let number = |seq| Number { boot: 7, seq };
    bench.outbox.refused_range(Lane::NORMAL, 7, (1, 2), 0x90);
    bench.outbox.acked_up_to(Lane::BULK, number(9));
    bench.outbox.acked_up_to(Lane::NORMAL, number(3));
    let refused = Fate::Refused(0x90);
    assert_eq!(bench.fates(), [(1, refused), (2, refused), (0, ACKED), (3, ACKED)]);
    bench.outbox.acked_up_to(Lane::NORMAL, number(99));
    assert_eq!(bench.fates(), [(4, ACKED)], "what was not sent is not acknowledged");
    assert_eq!(bench.handed(), [5, 9]);
    bench.outbox.lane_reset(Lane::NORMAL);
    assert_eq!(bench.handed(), [5], "one lane alone begins anew");
    bench.outbox.disconnected();
    bench.outbox.known(&[(Lane::NORMAL, number(5))]);
    assert_eq!(bench.fates(), [(5, AGAIN)]);
    assert_eq!(bench.outbox.len(), 1);
}

#[test]
fn a_boot_behind_the_nodes_is_raised_and_nothing_is_taken_for_stored() {
    let mut bench = Bench::new(10, 1_000, Overflow::Refuse);
    (0..3).for_each(|n| bench.push(n).unwrap());
    bench.outbox.known(&[(Lane::BULK, Number { boot: 20, seq: 5 }), (Lane::NORMAL, Number { boot: 19, seq: 900 })]);
    assert!(bench.fates().is_empty());
    bench.push(3).unwrap();
    bench.window.most = 9;
    assert_eq!(bench.handed(), [0, 1, 2, 3]);
    let numbers: Vec<Number> = bench.window.taken.iter().map(|(_, number)| *number).collect();
    assert_eq!(numbers, [0, 1, 2, 3].map(|seq| Number { boot: 21, seq }));
    bench.outbox.disconnected();
    bench.outbox.known(&[(Lane::BULK, Number { boot: u64::MAX, seq: 5 })]);
    assert_eq!(bench.outbox.boot(), 21, "there is no later one");
}

#[test]
fn a_boot_that_was_used_before_is_raised_where_nothing_of_this_life_was_sent() {
    let mut bench = Bench::new(10, 1_000, Overflow::Refuse);
    bench.window.packet_ids = false;
    (0..3).for_each(|n| bench.push(n).unwrap());
    let known = |boot, seq| [(Lane::NORMAL, Number { boot, seq })];
    bench.outbox.known(&known(7, 900));
    assert_eq!((bench.fates(), bench.outbox.boot()), (Vec::new(), 8), "they are another life's numbers");
    bench.outbox.known(&known(7, 900));
    assert_eq!(bench.handed(), [0, 1, 2]);
    bench.outbox.disconnected();
    bench.outbox.known(&known(8, 1));
    assert_eq!((bench.fates(), bench.outbox.boot()), (vec![(0, AGAIN), (1, AGAIN)], 8), "they are this life's");
}

#[test]
fn draining_gives_everything_back() {
    let mut bench = Bench::new(10, 1_000, Overflow::Refuse);
    (0..5).for_each(|n| bench.push(n).unwrap());
    bench.handed();
    bench.outbox.written(1);
    bench.outbox.drain();
    let order: Vec<u32> = bench.fates().into_iter().map(|(n, _)| n).collect();
    assert_eq!(order, [0, 1, 2, 3, 4]);
    assert_eq!((bench.outbox.len(), bench.outbox.bytes), (0, 0));
}
