//! Sites that feed one another, in one thread: their stores, clocks and links, decided by one seed.
//!
//! What stores, decides and is said is the product's own: `sled_data::Store` on memory that loses what was not synced, the merge of
//! partitions into rounds (`links::Lanes`), how a partition goes on (`links::begin`), which origin may come (`links::may_come`), what goes down and
//! may come (`links::Given`, `links::MayBring`), and the frames. Around it the model does what a link's two tasks and the committers do, through outages of days, crashes at both ends, restored
//! and wiped stores, and frames that are lost, doubled or damaged. `invariants` says what must hold. `bug` plants mistakes, to prove that they
//! see.
//!
//! `EDGEWAY_CHAIN_SEEDS` is how many seeds are run, or which, as in `1000..2000`; `EDGEWAY_CHAIN_SEED` the one to run alone.

mod bug;
mod history;
mod invariants;
mod world;

use std::collections::BTreeSet;

use crate::seeded::seeds::{Seeds, assert_met};
use bug::Bug;

const SEEDS: Seeds = Seeds { count: "EDGEWAY_CHAIN_SEEDS", alone: "EDGEWAY_CHAIN_SEED", quick: 200, to_see: 600 };
/// Seeds that broke a promise, beyond those of the quick run, and what they showed.
const BROKE_ONCE: [(u64, &str); 1] = [(
    2_673,
    "a gap that one node of a site brings another one goes over events of another life, and on behind its end",
)];

#[test]
fn every_promise_holds_over_links_in_all_weathers() {
    SEEDS.assert_all_hold(|seed| invariants::broken(&world::run(seed, None)));
}

#[test]
fn seeds_that_broke_a_promise_once_hold() {
    for (seed, what) in BROKE_ONCE {
        let broken = invariants::broken(&world::run(seed, None));
        assert!(broken.is_empty(), "seed {seed}, {what}: {broken:?}");
    }
}

#[test]
fn each_bug_that_is_planted_in_a_link_is_seen() {
    SEEDS.assert_each_is_seen(&Bug::ALL, |seed, bug| invariants::broken(&world::run(seed, bug)));
}

#[test]
fn a_seed_is_always_the_same_chain() {
    SEEDS.assert_always_the_same(4, |seed| world::run(seed, None).story);
}

#[test]
fn links_meet_all_weathers() {
    let mut met = BTreeSet::new();
    let (mut acknowledged, mut holes) = (0, 0);
    for seed in 0..40 {
        let history = world::run(seed, None);
        acknowledged += history.acknowledged.len();
        holes +=
            history.sites.iter().flat_map(|site| site.partitions.values()).map(|held| held.holes.len()).sum::<usize>();
        met.extend(history.met);
    }
    let wanted = [
        "power cut",
        "killed",
        "an outage of days",
        "its store is set back",
        "it is wiped",
        "retention waits for nobody",
        "a frame is lost",
        "a frame comes twice",
        "a frame is damaged",
        "its life ended",
        "loop",
        "it is not next",
        "an edge waits",
        "forked",
        "too old",
        "goes on ahead",
        "goes on ahead again",
        "a second outage",
        "a reader starts again",
        "topics come down",
        "a storm",
    ];
    assert_met(&met, &wanted);
    assert!(acknowledged > 1_000 && holes > 10, "{acknowledged} events, {holes} holes");
}
