//! What a source was told to be safe is in the log, and has an end.

use std::collections::BTreeSet;

use super::Checked;
use crate::simulation::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    let submitted: BTreeSet<_> = history.submissions().into_iter().map(|(id, ..)| id).collect();
    let outcomes = history.outcomes();
    for (_, fact) in &history.facts {
        if let Fact::Promised(id) = fact
            && !(submitted.contains(id) && outcomes.contains_key(id))
        {
            return Err(format!("{id} was promised and is gone\n{}", history.story(*id)));
        }
    }
    Ok(())
}
