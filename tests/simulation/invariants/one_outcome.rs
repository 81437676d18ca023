//! Every command that was durably submitted has exactly one outcome.

use super::Checked;
use crate::simulation::history::History;

pub fn check(history: &History) -> Checked {
    let outcomes = history.outcomes();
    for (id, ..) in history.submissions() {
        let count = outcomes.get(&id).map_or(0, Vec::len);
        if count != 1 {
            return Err(format!("{id} has {count} outcomes\n{}", history.story(id)));
        }
    }
    Ok(())
}
