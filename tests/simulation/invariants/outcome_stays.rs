//! An outcome never changes: not in the node's eyes, not over restarts, not between the log and the table.

use std::collections::BTreeMap;

use super::Checked;
use crate::simulation::history::{Fact, History, outcome_of};

pub fn check(history: &History) -> Checked {
    let mut first = BTreeMap::new();
    for (_, fact) in &history.facts {
        let (id, state) = match fact {
            Fact::Outcome { id, state } => (*id, Some(*state)),
            Fact::Step { event, .. } => (event.id, outcome_of(&event.step)),
            _ => continue,
        };
        let Some(state) = state else { continue };
        let known = *first.entry(id).or_insert(state);
        if known != state {
            return Err(format!("{id} ended as {known:?} and as {state:?}\n{}", history.story(id)));
        }
    }
    Ok(())
}
