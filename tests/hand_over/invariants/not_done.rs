//! What ended as expired, cancelled, superseded or refused was never done, at any node.

use devices::command::State;

use super::Checked;
use crate::hand_over::history::History;

pub fn check(history: &History) -> Checked {
    let outcomes = history.outcomes();
    for (id, _) in history.executions() {
        let last = outcomes.get(&id).and_then(|all| all.last());
        let says_never = [State::Expired, State::Cancelled, State::Superseded, State::Refused];
        if let Some(last) = last.filter(|last| says_never.contains(&last.state)) {
            return Err(format!("{id} was done and is {last:?}\n{}", history.story(id)));
        }
    }
    Ok(())
}
