//! A device with a right clock that looks at the time that it is told does nothing late.

use std::collections::BTreeMap;

use super::Checked;
use crate::simulation::history::History;

pub fn check(history: &History) -> Checked {
    let until: BTreeMap<_, _> =
        history.submissions().into_iter().map(|(id, _, queued, _)| (id, queued.deliver_by_ms)).collect();
    for (at, id, device) in history.executions() {
        if history.devices[device].is_punctual && until.get(&id).is_some_and(|until| at > *until) {
            return Err(format!("{id} was done at {at}, after {}\n{}", until[&id], history.story(id)));
        }
    }
    Ok(())
}
