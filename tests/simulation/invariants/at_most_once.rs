//! A device that refuses repeats does a command once at most, and so does any device with one that must not be
//! repeated.

use std::collections::{BTreeMap, BTreeSet};

use devices::command::Repeat;

use super::Checked;
use crate::simulation::history::History;

pub fn check(history: &History) -> Checked {
    let submissions = history.submissions();
    let never = submissions.iter().filter(|(_, _, queued, _)| queued.repeat == Repeat::Never);
    let never: BTreeSet<_> = never.map(|(id, ..)| *id).collect();
    let mut times = BTreeMap::new();
    for (_, id, device) in history.executions() {
        let count: &mut u32 = times.entry(id).or_default();
        *count += 1;
        if *count > 1 && (history.devices[device].is_strict || never.contains(&id)) {
            return Err(format!("{id} was done twice\n{}", history.story(id)));
        }
    }
    Ok(())
}
