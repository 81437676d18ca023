//! A device with one connection does commands of one urgency for the first time in the order of their submission; where
//! the node's wall clock is set back, one that was too late may have time again.

use std::collections::{BTreeMap, BTreeSet};

use super::Checked;
use crate::simulation::history::History;

pub fn check(history: &History) -> Checked {
    let submissions = history.submissions();
    let places: BTreeMap<_, _> =
        (0..).zip(&submissions).map(|(place, (id, _, queued, _))| (*id, (place, queued.urgent))).collect();
    let mut seen = BTreeSet::new();
    let mut newest: BTreeMap<(usize, bool), usize> = BTreeMap::new();
    for (at, id, device) in history.executions() {
        if !history.devices[device].is_single || !seen.insert(id) {
            continue;
        }
        let Some((place, urgent)) = places.get(&id) else { continue };
        let before = newest.entry((device, *urgent)).or_insert(*place);
        if *before > *place && !history.clock_was_set(id, at) {
            let other = submissions[*before].0;
            return Err(format!("{id} was done after {other}\n{}\n{}", history.story(id), history.story(other)));
        }
        *before = (*before).max(*place);
    }
    Ok(())
}
