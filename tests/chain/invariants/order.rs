//! What a site has of a partition is what one life wrote there, each event at its offset: in order, and never of two lives.
//!
//! Where its writer's store was set back, two lives may be on either side of
//!
//! - an offset at which the partition went on over a link when nothing was left at either end that shows what is there, nor had any other partition of the
//!   origin shown that it is another one there. Where the clock of what is there was told, what follows is not older than that: clocks never fall
//!   within a partition;
//! - a gap (damage) that was told right before what lay ahead upstream, and was of another log than the ended life that filled what lies before.
//!
//! What is between two such places is of one life.

use std::collections::BTreeMap;

use sled_data::{Hole, HoleWhy};

use super::Checked;
use crate::chain::history::History;

pub fn check(history: &History) -> Checked {
    for (site, ended) in history.sites.iter().enumerate() {
        for (partition, held) in &ended.partitions {
            let is_doubtful = history.doubtful.contains(&partition.origin);
            // Right before where the other log begins, and nowhere else.
            let is_told = |begins: &u64| {
                let is_it = |hole: &Hole| hole.why == HoleWhy::Damage && hole.from < *begins && *begins <= hole.to;
                held.holes.iter().any(is_it)
            };
            let parted = history.parted.get(partition).into_iter().flatten().copied().filter(is_told);
            let unseen = history.unseen.get(partition).into_iter().flatten();
            // With whether the clock of what is before it was told.
            let mut places: BTreeMap<u64, bool> = unseen.map(|(at, is_known)| (*at, *is_known)).collect();
            places.extend(parted.map(|at| (at, false)));
            let is_run = |before: &(u64, u64), after: &(u64, u64)| {
                let falls = history.written[&after.1] < history.written[&before.1];
                let mut between = places.range(before.0 + 1..=after.0);
                !is_doubtful || between.all(|(_, is_known)| *is_known && falls)
            };
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
