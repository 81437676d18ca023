//! A node begins a new life of its store: what its plugin had not read of the one before is read once.

use std::sync::Arc;

use sled_data::{PartitionId, Wait};

use super::lab::{Lab, PLUGIN, id};
use crate::plugin_host::duties::{Before, TakeOver};
use crate::plugin_host::rests::begin_in_ended;
use crate::plugin_host::round::reader_name;

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// A has events that its plugin has read, and such that it has not: of those the others have some commits. One asks for state that was set before.
fn killed(lab: &mut Lab, shipped: usize) {
    lab.publish_new(A, 4);
    lab.work(A);
    let life = lab.life(A);
    for to in [B, C] {
        lab.carry(life, A, to, usize::MAX);
    }
    lab.publish_new(A, 2);
    lab.publish_new(A, 2);
    lab.publish(A, "pump", &["G0".to_owned()]);
    lab.publish_new(A, 2);
    for to in [B, C] {
        lab.carry(life, A, to, shipped);
    }
}

#[test]
fn it_goes_on_where_the_life_before_was() {
    for shipped in [0, 2, usize::MAX] {
        let mut lab = Lab::new(3, "origin");
        killed(&mut lab, shipped);
        lab.begins_anew(A);
        lab.publish_new(A, 2);
        if shipped == usize::MAX {
            lab.follows_its_own(A);
        }
        // It may be decided that another reads on, as far as the node knows.
        lab.work(A);
        assert!(lab.nodes[A].duties.ended.is_empty());
        lab.says_where(A);
        assert_eq!(lab.nodes[A].duties.ended.len(), 1);
        lab.publish(A, "pump", &["G1".to_owned(), "G5".to_owned()]);
        lab.settle();
        lab.assert_exact();
        // Again, with two lives behind it, of which the older one is read to its end.
        lab.publish_new(A, 3);
        lab.begins_anew(A);
        lab.says_where(A);
        lab.publish(A, "pump", &["G2".to_owned(), "G6".to_owned()]);
        lab.work(A);
        lab.restart(A);
        lab.settle();
        lab.assert_exact();
    }
}

#[test]
fn it_leaves_the_rest_to_who_has_taken_over() {
    for shipped in [0, 1, 3, usize::MAX] {
        let mut lab = Lab::new(3, "origin");
        killed(&mut lab, shipped);
        lab.lose(A, B);
        lab.work(B);
        // It was away for long: the rest of its life before comes to B.
        lab.begins_anew(A);
        lab.comes_back(A);
        lab.says_where(A);
        assert!(lab.nodes[A].duties.ended.is_empty());
        lab.publish(A, "pump", &["G1".to_owned()]);
        lab.publish_new(A, 2);
        lab.settle();
        lab.assert_exact();
    }
}

#[test]
fn of_a_life_that_was_taken_over_before_it_reads_on_when_that_is_decided_anew() {
    for shipped in [0, 3, usize::MAX] {
        let mut lab = Lab::new(3, "origin");
        lab.publish_new(A, 2);
        lab.settle();
        lab.lose(A, B);
        lab.publish_new(B, 2);
        lab.settle();
        lab.comes_back(A);
        lab.settle();
        killed(&mut lab, shipped);
        let life = lab.life(A);
        lab.begins_anew(A);
        lab.says_where(A);
        lab.publish_new(A, 2);
        lab.settle();
        assert!(lab.nodes[A].duties.ended.is_empty(), "it waits for what is decided");
        if shipped == usize::MAX {
            lab.follows_its_own(A);
        }
        // It has most of that life.
        let from_commit = lab.nodes[A].log.store().last_commit_of(life);
        let record = TakeOver { from_commit, by: id(A), term: 3, before: [(id(B), 1)].into() };
        lab.site.take_overs.insert(life, record);
        lab.decide();
        assert_eq!(lab.nodes[A].duties.ended.len(), 1);
        lab.settle();
        lab.assert_exact();
        lab.restart(A);
        lab.publish(A, "pump", &["G1".to_owned()]);
        lab.settle();
        lab.assert_exact();
    }
}

/// Events of one key that are more than one round reads of a partition.
fn many(lab: &mut Lab, node: usize, from: usize) {
    for chunk in (from..from + 1_000).collect::<Vec<usize>>().chunks(250) {
        let values: Vec<String> = chunk.iter().map(|n| format!("S{n:0>850}")).collect();
        lab.publish(node, "pump", &values);
    }
}

#[test]
fn the_rest_of_a_life_goes_to_who_takes_over_the_next_one_and_comes_back_with_it() {
    // How often A reads in its next life before it is lost, and how many commits the others have of each time.
    for (rounds, shipped) in [(0, 0), (1, 0), (1, usize::MAX), (2, 1), (usize::MAX, 1), (usize::MAX, usize::MAX)] {
        let case = format!("{rounds} rounds, {shipped} commits");
        let mut lab = Lab::new(3, "origin");
        killed(&mut lab, usize::MAX);
        many(&mut lab, A, 1_000);
        for to in [B, C] {
            lab.carry(lab.life(A), A, to, usize::MAX);
        }
        lab.begins_anew(A);
        lab.says_where(A);
        lab.publish(A, "pump", &["G1".to_owned(), "G5".to_owned()]);
        for to in [B, C] {
            lab.carry(lab.life(A), A, to, usize::MAX);
        }
        for _ in 0..rounds {
            if !lab.round(A) {
                break;
            }
            for to in [B, C] {
                lab.carry(lab.life(A), A, to, shipped);
            }
        }
        lab.poll(C);
        lab.lose(A, B);
        lab.settle();
        // All of it was read, and once.
        assert_eq!(lab.miscounted(C), [], "{case}");
        // It has read on while it was cut off.
        lab.work(A);
        lab.comes_back(A);
        let life = lab.life(A);
        lab.carry(life, A, C, usize::MAX);
        lab.poll(C);
        lab.settle();
        lab.publish(A, "pump", &["G4".to_owned()]);
        lab.settle();
        lab.assert_exact();
        lab.restart(A);
        lab.publish_new(A, 2);
        lab.settle();
        lab.assert_exact();
    }
}

#[test]
fn the_rest_of_a_life_goes_on_from_who_is_lost_as_well() {
    for works in [false, true] {
        let mut lab = Lab::new(3, "origin");
        killed(&mut lab, usize::MAX);
        lab.publish(B, "valve", &["one at B".to_owned()]);
        lab.carry(lab.life(B), B, C, usize::MAX);
        many(&mut lab, A, 1_000);
        for to in [B, C] {
            lab.carry(lab.life(A), A, to, usize::MAX);
        }
        lab.begins_anew(A);
        lab.says_where(A);
        lab.publish_new(A, 2);
        lab.round(A);
        for to in [B, C] {
            lab.carry(lab.life(A), A, to, usize::MAX);
        }
        lab.lose(A, B);
        lab.round(B);
        let life = lab.life(B);
        lab.carry(life, B, C, if works { usize::MAX } else { 0 });
        lab.work(B);
        lab.lose(B, C);
        lab.settle();
        assert_eq!(lab.miscounted(C), [], "works: {works}");
        lab.comes_back(B);
        lab.settle();
        lab.comes_back(A);
        lab.publish(A, "pump", &["G1".to_owned()]);
        lab.settle();
        lab.assert_exact();
    }
}

#[test]
fn a_life_that_comes_as_events_alone_is_read_on_where_the_next_one_of_its_node_stands() {
    // Whether that comes before; whether an earlier life is read with it.
    for (is_first, has_earlier) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = format!("the next one first: {is_first}, earlier: {has_earlier}");
        let mut lab = Lab::new(3, "origin");
        killed(&mut lab, usize::MAX);
        let first = lab.life(A);
        lab.begins_anew(A);
        lab.says_where(A);
        lab.publish_new(A, 4);
        while !has_earlier && lab.round(A) {}
        let life = lab.life(A);
        lab.publish(A, "pump", &["G1".to_owned()]);
        lab.publish_new(A, 2);
        for of in [first, life] {
            lab.carry(of, A, B, usize::MAX);
        }
        lab.poll(B);
        // It is decided that C reads it on, which has nothing of it yet.
        lab.begins_anew(A);
        let from_commit = lab.nodes[B].log.store().last_commit_of(life);
        lab.site.take_overs.insert(life, TakeOver { from_commit, by: id(C), term: 1, before: Before::new() });
        lab.says_where(A);
        if is_first {
            lab.carry(lab.life(A), A, C, usize::MAX);
        }
        for of in [first, life] {
            lab.carry(of, A, C, usize::MAX);
        }
        let reader = reader_name(PLUGIN);
        assert!(lab.nodes[C].log.store().cursors_of(life, &reader).unwrap().is_empty(), "it has ended: {case}");
        lab.work(C);
        lab.settle();
        assert_eq!((lab.miscounted(B), lab.miscounted_anew(B)), (vec![], vec![]), "{case}");
        lab.assert_exact();
    }
}

#[test]
fn what_retention_took_of_the_life_before_is_told_and_goes_then() {
    // Whether the plugin had read anything there.
    for has_read in [true, false] {
        taken_before_it_was_read(has_read);
    }
}

fn taken_before_it_was_read(has_read: bool) {
    let mut lab = Lab::new(1, "origin");
    lab.publish_new(A, 4);
    if has_read {
        lab.work(A);
    }
    lab.publish_new(A, 6);
    lab.begins_anew(A);
    let (log, reader) = (Arc::clone(&lab.nodes[A].log), reader_name(PLUGIN));
    let topic = log.topic("in").unwrap();
    // As at each start.
    begin_in_ended(&log, &lab.manifest(), false).unwrap();
    // In a commit of its own, as that of the cursors may have ended by now.
    let ticket = {
        let mut open = log.lock();
        open.put_state("after", b"", Some(b""));
        open.ticket()
    };
    log.durable_blocking(ticket).unwrap();
    let left: Vec<PartitionId> = log.ended_partitions(&topic).iter().map(|partition| partition.id()).collect();
    let is_unread =
        |id: &&PartitionId| log.cursor(&reader, **id).unwrap().is_some_and(|next| next < log.visible_end(**id));
    let unread: Vec<PartitionId> = left.iter().filter(is_unread).copied().collect();
    assert!(!unread.is_empty());
    let ends: Vec<u64> = unread.iter().map(|id| log.visible_end(*id)).collect();
    log.set_retention(topic.id(), Some(0), None).unwrap();
    // It reads nothing before the site knows that life.
    log.apply_retention(&Wait::for_ever(&|_| u64::MAX));
    let here = || log.store().partitions();
    assert!(unread.iter().all(|id| here().contains(id) && log.start_offset(*id) == log.visible_end(*id)));
    lab.says_where(A);
    lab.work(A);
    for (id, end) in unread.iter().zip(ends) {
        assert_eq!(log.cursor(&reader, *id).unwrap(), Some(end), "it was told, and that is stored");
    }
    log.apply_retention(&Wait::for_ever(&|_| u64::MAX));
    assert!(left.iter().all(|id| !here().contains(id)));
}
