//! A follower that catches up, and live commits that want the same pipe, in one thread: decided by one seed.
//!
//! What decides is the product's own: `replication::CatchUp`, by which both ends of a commit stream go. Around it is a pipe of some bandwidth, as a disk
//! or a line is: what comes first goes first. Live commits go through it, and what is caught up with, a chunk at a time; who writes the log
//! goes on writing. `invariants` says what must hold. `bug` plants mistakes, to prove that they see.
//!
//! `EDGEWAY_PACE_SEEDS` is how many seeds are run, or which, as in `1000..2000`; `EDGEWAY_PACE_SEED` the one to run alone.

mod bug;
mod history;
mod invariants;
mod world;

use std::collections::BTreeSet;

use crate::seeded::seeds::Seeds;
use bug::Bug;

const SEEDS: Seeds = Seeds { count: "EDGEWAY_PACE_SEEDS", alone: "EDGEWAY_PACE_SEED", quick: 150, to_see: 50 };

#[test]
fn live_commits_go_before_what_is_caught_up_with() {
    SEEDS.assert_all_hold(|seed| invariants::broken(&world::run(seed, None)));
}

#[test]
fn each_bug_that_is_planted_in_the_pace_is_seen() {
    SEEDS.assert_each_is_seen(&Bug::ALL, |seed, bug| invariants::broken(&world::run(seed, bug)));
}

#[test]
fn a_seed_is_always_the_same_pace() {
    SEEDS.assert_always_the_same(4, |seed| world::run(seed, None));
}

/// A simulation in which nothing happens proves nothing.
#[test]
fn a_pipe_meets_all_loads() {
    let mut met = BTreeSet::new();
    for seed in 0..80 {
        let history = world::run(seed, None);
        met.insert(if history.live_a_second == 0 { "nobody commits" } else { "live commits" });
        met.insert(if history.ahead_bytes == 0 { "it is stored before more comes" } else { "it is sent ahead" });
        met.extend((history.written_a_second > 16e6).then_some("who writes is faster than the least pace"));
        met.extend((history.chunks.len() > 1).then_some("the pace changes"));
    }
    assert_eq!(met.len(), 6, "{met:?}");
}
