//! Work follows data: charges go from node to node, and each source event is counted once.

mod lab;
mod new_life;
mod removed;
mod told;
mod walk;

use lab::{Lab, id};

use crate::event_log::rubbish::{rubbish, sound};

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// A has derived from events that others know and from some that they do not; some of what it derived nobody knows.
fn cut_off(lab: &mut Lab) {
    lab.publish_new(A, 4);
    lab.work(A);
    lab.publish_new(A, 3);
    let life = lab.life(A);
    lab.carry(life, A, B, usize::MAX);
    lab.work(A);
    lab.publish_new(A, 2);
    lab.work(A);
}

#[test]
fn a_lost_nodes_partitions_are_read_on_and_each_event_counts_once() {
    let mut lab = Lab::new(3, "origin");
    cut_off(&mut lab);
    lab.lose(A, B);
    lab.settle();
    let known: Vec<String> = lab.published[..7].to_vec();
    assert!(
        known.iter().all(|value| lab.nodes[C].reader.counts.get(value) == Some(&1)),
        "{:?}",
        lab.nodes[C].reader.counts
    );
    // A's tail comes to C before anything that B did: who reads there waits.
    lab.comes_back(A);
    let life = lab.life(A);
    lab.carry(life, A, C, usize::MAX);
    lab.poll(C);
    lab.settle();
    lab.assert_exact();
    lab.publish_new(A, 2);
    lab.settle();
    lab.assert_exact();
}

#[test]
fn a_reader_that_knows_of_the_tail_first_waits_for_who_took_over() {
    let mut lab = Lab::new(3, "origin");
    cut_off(&mut lab);
    lab.lose(A, B);
    lab.work(B);
    lab.comes_back(A);
    let life = lab.life(A);
    lab.carry(life, A, C, usize::MAX);
    lab.poll(C);
    let before = lab.nodes[C].reader.counts.len();
    assert_eq!(before, 0, "C knows that B has the charge, and not where it began");
    lab.settle();
    lab.assert_exact();
}

#[test]
fn state_is_right_after_each_hand_over() {
    let mut lab = Lab::new(3, "origin");
    let get = |n: usize| format!("G{n}");
    lab.publish_new(A, 2);
    lab.publish(A, "pump", &[get(0)]);
    lab.settle();
    lab.lose(A, B);
    // What A set, B gets; and B's own state is another's.
    lab.publish(A, "pump", &[get(1)]);
    lab.publish_new(B, 2);
    lab.settle();
    lab.comes_back(A);
    lab.settle();
    lab.assert_exact();
    lab.lose(A, C);
    lab.settle();
    lab.comes_back(A);
    lab.publish(A, "pump", &["G01".to_owned()]);
    lab.settle();
    let dead = lab.nodes[A].log.topic(crate::plugin_host::DEAD_LETTERS_TOPIC);
    assert!(dead.is_some(), "`G01` asks for what nobody has set");
}

#[test]
fn what_a_crash_cut_short_is_done_again() {
    let mut lab = Lab::new(2, "origin");
    let wide = |n: usize| format!("S{n:0>850}");
    for chunk in (0..800).collect::<Vec<usize>>().chunks(200) {
        let values: Vec<String> = chunk.iter().map(|n| wide(*n)).collect();
        lab.publish(A, "pump", &values);
    }
    lab.settle();
    lab.lose(A, B);
    let commits = lab.crash_while_taking_up(B, 0);
    assert_eq!(commits, 1);
    let mut whole = 0;
    for crash_after in 1.. {
        let asked = lab.crash_while_taking_up(B, crash_after);
        if asked <= crash_after {
            whole = asked;
            break;
        }
    }
    assert!(whole >= 1);
    assert_eq!(lab.crash_while_taking_up(B, 9), 0, "it is done once");
    lab.comes_back(A);
    lab.settle();
    let gets: Vec<String> = (0..800).step_by(50).map(|n| wide(n).replacen('S', "G", 1)).collect();
    lab.lose(A, B);
    lab.comes_back(A);
    lab.publish(A, "pump", &gets);
    lab.settle();
    lab.assert_exact();
}

#[test]
fn who_took_over_may_be_lost_as_well() {
    let mut lab = Lab::new(3, "origin");
    cut_off(&mut lab);
    lab.publish_new(B, 2);
    lab.lose(A, B);
    lab.round(B);
    let life = lab.life(B);
    lab.carry(life, B, C, 2);
    lab.work(B);
    lab.lose(B, C);
    lab.settle();
    lab.comes_back(B);
    lab.settle();
    lab.comes_back(A);
    lab.publish_new(A, 2);
    lab.settle();
    lab.assert_exact();
}

#[test]
fn a_lost_node_that_never_comes_back_leaves_what_was_known() {
    let mut lab = Lab::new(3, "origin");
    cut_off(&mut lab);
    lab.lose(A, B);
    lab.publish_new(C, 2);
    lab.settle();
    lab.lose(B, C);
    lab.settle();
    assert_eq!(lab.miscounted(C), [("S7".to_owned(), 0), ("S8".to_owned(), 0)]);
}

#[test]
fn what_others_did_is_taken_back_and_what_they_did_not_stands() {
    let mut lab = Lab::new(2, "origin");
    lab.publish_new(A, 4);
    let life = lab.life(A);
    lab.carry(life, A, B, usize::MAX);
    lab.lose(A, B);
    // B is further than A, which has done nothing yet.
    lab.work(B);
    lab.comes_back(A);
    assert!(!lab.round(A), "it waits for B to have ended");
    lab.settle();
    lab.assert_exact();
    let term = || lab.nodes[A].plugin_term();
    assert_eq!(term(), Some(2));
    let own = lab.nodes[A].log.topic("out").unwrap().all_partitions()[0].visible_end();
    assert_eq!(own, 0, "A has derived nothing: B did it all");
}

#[test]
fn a_share_goes_to_another_node_with_its_state() {
    let mut lab = Lab::new(3, "site");
    for index in 0..2 {
        lab.assign(index, B);
    }
    for node in [A, B, C] {
        lab.publish_new(node, 3);
    }
    lab.settle();
    lab.assert_exact();
    for index in 0..2 {
        lab.assign(index, C);
    }
    lab.publish_new(A, 2);
    lab.settle();
    // State is of the number, over all origins: what A's event set, C's event gets.
    let key = ["pump", "valve"];
    lab.publish(C, key[0], &["G0".to_owned()]);
    lab.settle();
    lab.assert_exact();
    // C is lost with work that nobody knows.
    lab.publish_new(A, 2);
    let life = lab.life(A);
    lab.carry(life, A, C, usize::MAX);
    lab.work(C);
    lab.lose(C, B);
    for index in 0..2 {
        lab.assign(index, A);
    }
    lab.settle();
    lab.comes_back(C);
    lab.settle();
    lab.assert_exact();
}

#[test]
fn commands_of_events_that_a_lost_node_may_have_read_are_known_to_be_so() {
    // Who reads B's and A's events once A is gone; which of them A may have read.
    for scope in ["origin", "site"] {
        let mut lab = Lab::new(3, scope);
        (0..2).for_each(|index| lab.assign(index, A));
        lab.publish(A, "pump", &["C0".to_owned()]);
        lab.publish(B, "pump", &["C1".to_owned()]);
        lab.settle();
        assert_eq!(lab.doubted(C), [("C0", false), ("C1", false)].map(told), "{scope}");
        lab.publish(A, "pump", &["C2".to_owned()]);
        lab.publish(B, "pump", &["C3".to_owned()]);
        for (of, to) in [(A, B), (A, C), (B, C)] {
            let life = lab.life(of);
            lab.carry(life, of, to, usize::MAX);
        }
        lab.lose(A, B);
        (0..2).for_each(|index| lab.assign(index, B));
        lab.settle();
        lab.publish(B, "pump", &["C4".to_owned()]);
        lab.restart(B);
        lab.settle();
        // B has read its own events itself where they are read where they are written.
        let expected = [("C0", false), ("C1", false), ("C2", true), ("C3", scope == "site"), ("C4", false)];
        assert_eq!(lab.doubted(C), expected.map(told), "{scope}");
    }
}

fn told((value, is_doubted): (&str, bool)) -> (String, bool) {
    (value.to_owned(), is_doubted)
}

#[test]
fn a_node_that_is_to_pause_reads_nothing() {
    let mut lab = Lab::new(2, "origin");
    lab.publish_new(A, 2);
    lab.site.is_paused = true;
    lab.decide();
    assert!(!lab.round(A));
    lab.site.is_paused = false;
    lab.decide();
    lab.settle();
    lab.assert_exact();
}

#[test]
fn without_charges_nothing_is_looked_at() {
    let mut lab = Lab::new(2, "origin");
    lab.publish_new(A, 2);
    lab.settle();
    assert!(lab.nodes[A].index.view().unwrap().is_none());
    lab.lose(A, B);
    lab.settle();
    assert!(lab.nodes[B].index.view().unwrap().is_some());
    assert!(lab.site.here.contains(&id(B)));
}

#[test]
fn stored_events_that_cannot_be_read_stop_no_plugin() {
    let mut lab = Lab::new(2, "origin");
    lab.publish_new(A, 2);
    let store = std::sync::Arc::clone(lab.nodes[A].log.store());
    let topic = lab.nodes[A].log.topic("in").unwrap();
    let partition = topic.partition(0).unwrap().id();
    let end = store.end_offset(partition);
    let hlc = || lab.nodes[A].log.clock().next_hybrid();
    for (from, is_sound) in [(0, true), (2, false), (4, true)] {
        let hlc = hlc();
        let batch = sound(partition, end + from, hlc, &["S900", "S901"]);
        let batch = if is_sound { batch } else { rubbish(batch).into() };
        store.commit(&sled_data::Commit { hlc, appends: vec![batch], ..Default::default() }).unwrap();
    }
    store.sync().unwrap();
    let life = lab.life(A);
    lab.carry(life, A, B, usize::MAX);
    lab.lose(A, B);
    lab.work(B);
    lab.poll(B);
    let counts = &lab.nodes[B].reader.counts;
    assert_eq!((counts.get("S900"), counts.get("S901")), (Some(&2), Some(&2)), "before and after it: {counts:?}");
}
