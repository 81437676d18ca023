//! What ended as expired, cancelled, superseded or refused was never done.

use devices::command::Step;

use super::Checked;
use crate::simulation::history::History;

pub fn check(history: &History) -> Checked {
    let outcomes = history.outcomes();
    for (_, id, _) in history.executions() {
        let steps = outcomes.get(&id).map(Vec::as_slice).unwrap_or_default();
        let says_never =
            |step: &&&Step| matches!(step, Step::Expired | Step::Cancelled(_) | Step::Superseded(_) | Step::Refused(_));
        if let Some(step) = steps.iter().find(says_never) {
            return Err(format!("{id} was done and is {step:?}\n{}", history.story(id)));
        }
    }
    Ok(())
}
