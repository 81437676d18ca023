//! What succeeded was done.

use std::collections::BTreeSet;

use devices::command::Step;

use super::Checked;
use crate::simulation::history::History;

pub fn check(history: &History) -> Checked {
    let done: BTreeSet<_> = history.executions().into_iter().map(|(_, id, _)| id).collect();
    for (id, steps) in history.outcomes() {
        let succeeded = steps.iter().any(|step| matches!(step, Step::Succeeded(_)));
        if succeeded && !done.contains(&id) {
            return Err(format!("{id} succeeded and was never done\n{}", history.story(id)));
        }
    }
    Ok(())
}
