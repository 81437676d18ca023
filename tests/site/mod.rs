//! A site in one thread: nodes that keep each other's logs, their disks, clocks and network, decided by one seed.
//!
//! What stores, decides and is said is the product's own: `sled_data::Store` on memory that loses, tears, fills up,
//! fails and lies; shipped commits and copies as bytes; `replication::{begin, wanted}` and its frames; the decision of
//! the quorum. Around it the model does what the committer, the streams' tasks and the beats do, in rougher weather.
//! A run is a list of facts; `invariants` says what must hold of it. `bug` plants mistakes, to prove that they see.
//!
//! `EDGEWAY_SITE_SEEDS` is how many seeds are run, or which, as in `1000..2000`; `EDGEWAY_SITE_SEED` the one to run alone.

mod bug;
mod catalog;
mod history;
mod invariants;
mod life;
mod network;
mod node;
mod world;

use std::collections::BTreeSet;

use crate::seeded::seeds::{Seeds, assert_met};
use bug::Bug;
use history::{Fact, Refusal};

const SEEDS: Seeds = Seeds { count: "EDGEWAY_SITE_SEEDS", alone: "EDGEWAY_SITE_SEED", quick: 150, to_see: 100 };

#[test]
fn every_promise_holds_in_a_site_in_all_weathers() {
    SEEDS.assert_all_hold(|seed| invariants::broken(&world::run(seed, None)));
}

#[test]
fn each_bug_that_is_planted_in_a_site_is_seen() {
    SEEDS.assert_each_is_seen(&Bug::ALL, |seed, bug| invariants::broken(&world::run(seed, bug)));
}

#[test]
fn a_seed_is_always_the_same_site() {
    SEEDS.assert_always_the_same(3, |seed| world::run(seed, None).facts);
}

#[test]
fn a_site_meets_all_weathers() {
    let mut met = BTreeSet::new();
    for seed in 0..40 {
        for (_, fact) in &world::run(seed, None).facts {
            met.insert(match fact {
                Fact::Weather { what, .. } | Fact::Ended { why: what, .. } | Fact::Down { why: what, .. } => *what,
                Fact::Acknowledged { is_quorum: true, support, .. } if support.asked > 1 => "by a quorum",
                Fact::Acknowledged { is_quorum: false, .. } => "by a node",
                Fact::Refused { why: Refusal::NoQuorum, .. } => "out of reach",
                Fact::Refused { why: Refusal::Late, .. } => "late",
                Fact::Hole { .. } => "gap",
                Fact::LetGo { kept, bound, .. } if kept > bound => "nobody is waited for",
                Fact::LetGo { .. } => "what nobody needs goes",
                Fact::Differs { .. } => "differs",
                Fact::Claimed { .. } => "a lie was passed on",
                Fact::Held(held) if held.own.is_none() && held.is_whole => "a whole copy",
                Fact::Held(held) if held.own.is_none() => "a copy that is not whole",
                _ => continue,
            });
        }
    }
    let wanted = [
        "power cut",
        "killed",
        "its disk lies",
        "its disk fails or is full",
        "its disk is slow",
        "it is wiped",
        "it joins",
        "it leaves",
        "its store is set back to an older image",
        "it has the image of another node",
        "its life ended",
        "a follower has more, or something else",
        "another node writes it",
        "it sends a damaged batch",
        "it sends a commit of another origin",
        "a topic is deleted",
        "its store failed",
        "by a quorum",
        "by a node",
        "out of reach",
        "late",
        "gap",
        "retention waits",
        "nobody is waited for",
        "what nobody needs goes",
        "differs",
        "a lie was passed on",
        "a whole copy",
        "a copy that is not whole",
    ];
    assert_met(&met, &wanted);
}
