//! What a site has of a partition is what one life wrote there, each event at its offset: in order, and never of two lives.
//!
//! Where the writer's store was set back, another site on the way lost its store as well, and a gap is told, nothing may be left by which both sides
//! could tell one from the other: there each event is of a life that wrote it there, and no more is asked.
//!
//! Where it was set back while something lay ahead upstream, what its ended life has of the fill goes, and a gap is told (damage) before what lies ahead, which another life wrote:
//! what is on either side of such a gap is of one life.

use sled_data::HoleWhy;

use super::Checked;
use crate::chain::history::{Held, History};

pub fn check(history: &History) -> Checked {
    for (site, ended) in history.sites.iter().enumerate() {
        for (partition, held) in &ended.partitions {
            let is_open = history.doubtful.contains(&partition.origin) && was_lost_twice(history, held);
            let is_parted = history.parted.contains(partition);
            let is_between = |before: u64, after: u64| {
                held.holes.iter().any(|hole| hole.why == HoleWhy::Damage && (before..after).contains(&hole.from))
            };
            let is_run =
                |before: &(u64, u64), after: &(u64, u64)| !(is_open || is_parted && is_between(before.0, after.0));
            for run in held.events.chunk_by(is_run) {
                let lives = history.lives.iter().filter(|life| life.origin == partition.origin);
                let mut wrote = lives.filter_map(|life| life.events.get(partition));
                let is_it = |events: &Vec<u64>| run.iter().all(|(at, event)| events.get(*at as usize) == Some(event));
                if !run.is_empty() && !wrote.any(is_it) {
                    return Err(format!("site {site}: no life wrote what is in {partition}: {held:?}"));
                }
            }
        }
    }
    Ok(())
}

/// Whether a gap is told, and a site that it has passed behind its writer's lost its store.
fn was_lost_twice(history: &History, held: &Held) -> bool {
    let passed = held.path.as_deref().unwrap_or_default();
    let mut behind =
        history.set_back.iter().map(|site| history.sites[*site].id).filter(|id| Some(id) != passed.first());
    !held.holes.is_empty() && behind.any(|id| passed.contains(&id))
}
