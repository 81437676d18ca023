//! A site in one thread: nodes that keep each other's logs, their disks, clocks and network, decided by one seed.
//!
//! What stores, decides and is said is the product's own: `sled_data::Store` on memory that loses, tears, fills up,
//! fails and lies; shipped commits and copies as bytes; `replication::{begin, wanted}` and its frames; the decision of
//! the quorum. Around it the model does what the committer, the streams' tasks and the beats do, in rougher weather.
//! A run is a list of facts; `invariants` says what must hold of it. `bug` plants mistakes, to prove that they see.
//!
//! `EDGEWAY_SITE_SEEDS` is how many seeds are run, `EDGEWAY_SITE_SEED` the one to run alone.

mod bug;
mod catalog;
mod history;
mod invariants;
mod life;
mod network;
mod node;
mod world;

/// Seeds of a quick run.
const SEEDS: u64 = 250;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap())
}

fn seeds() -> std::ops::Range<u64> {
    match number("EDGEWAY_SITE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EDGEWAY_SITE_SEEDS").unwrap_or(SEEDS),
    }
}

#[test]
fn every_promise_holds_in_a_site_in_all_weathers() {
    for seed in seeds() {
        let history = world::run(seed, None);
        if let Some((name, story)) = invariants::broken(&history).first() {
            panic!("seed {seed} breaks {name} (EDGEWAY_SITE_SEED={seed} runs it alone): {story}");
        }
    }
}
