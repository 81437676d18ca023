//! Of the commands that were submitted under one key, one alone is done.

use std::collections::BTreeMap;

use super::Checked;
use crate::simulation::history::History;

pub fn check(history: &History) -> Checked {
    // The key of a command that is forgotten is free again.
    if history.forgets {
        return Ok(());
    }
    let submissions = history.submissions();
    let keys = submissions.iter().filter_map(|(id, _, queued, _)| Some((*id, queued.idempotency_key.as_ref()?)));
    let keys: BTreeMap<_, _> = keys.collect();
    let mut done = BTreeMap::new();
    for (_, id, _) in history.executions() {
        let Some(key) = keys.get(&id) else { continue };
        let first = *done.entry(*key).or_insert(id);
        if first != id {
            return Err(format!("{first} and {id} of key {key} were done\n{}", history.story(id)));
        }
    }
    Ok(())
}
