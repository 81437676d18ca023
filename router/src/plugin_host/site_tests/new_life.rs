//! A node begins a new life of its store: what its plugin had not read of the one before is read once.

use super::lab::{Lab, id};
use crate::plugin_host::duties::TakeOver;

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
