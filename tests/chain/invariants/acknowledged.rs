//! Nothing acknowledged is missing upstream once it has drained, but what retention took without waiting, what was too old, and what was lost with a store.

use sled_data::HoleWhy;

use super::Checked;
use crate::chain::history::{Acknowledged, Held, History};

pub fn check(history: &History) -> Checked {
    for acknowledged in &history.acknowledged {
        for site in history.reached(acknowledged.site) {
            if !is_there(history, acknowledged, site) && !is_excused(history, acknowledged, site) {
                let held = |site: usize| history.sites[site].partitions.get(&acknowledged.partition);
                let (there, here) = (held(site), held(acknowledged.site));
                return Err(format!("site {site} has not {acknowledged:?}: {there:?}; its own has {here:?}"));
            }
        }
    }
    Ok(())
}

fn is_there(history: &History, Acknowledged { event, partition, offset, .. }: &Acknowledged, site: usize) -> bool {
    let held = history.sites[site].partitions.get(partition);
    held.is_some_and(|held| held.events.contains(&(*offset, *event)))
        || history.done_with.get(&(site, *partition)).is_some_and(|to| offset < to)
}

/// Losing a store on the way is an excuse only where the gap is told.
fn is_excused(history: &History, acknowledged: &Acknowledged, site: usize) -> bool {
    let Acknowledged { partition, offset, .. } = acknowledged;
    if history.doubtful.contains(&partition.origin) {
        return true;
    }
    // Whether it was: `deadline` sees to that.
    let is_late = |held: &Held| {
        held.holes.iter().any(|hole| hole.why == HoleWhy::Deadline && (hole.from..hole.to).contains(offset))
    };
    if history.sites[site].partitions.get(partition).is_some_and(is_late) {
        return true;
    }
    let was_let_go = history.let_go.get(partition).is_some_and(|to| offset < to);
    let is_told = history.sites[site].partitions.get(partition).is_some_and(|held| {
        offset < &held.start || held.holes.iter().any(|hole| (hole.from..hole.to).contains(offset))
    });
    // Where one node is enough, the other one may have been away when the edge let go of what the first one had, or was told to be too old.
    let is_done = |other: usize| {
        let held = history.sites[other].partitions.get(partition);
        is_there(history, acknowledged, other) || held.is_some_and(is_late)
    };
    let has_other = || !history.has_quorum && history.others(site).any(is_done);
    is_told && (was_let_go || !history.set_back.is_empty() || has_other())
}
