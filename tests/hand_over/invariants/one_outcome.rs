//! A command ends in one outcome: each node says one under a term, one node alone says the one of the highest term, and that one is shown at
//! every node that knows of the command.

use super::Checked;
use crate::hand_over::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    let outcomes = history.outcomes();
    for id in history.submissions().keys() {
        let all = outcomes.get(id).map(Vec::as_slice).unwrap_or_default();
        if let [before, after] = all.windows(2).find(|two| two[0].term == two[1].term).unwrap_or_default() {
            return Err(format!("{id} ended twice under one term: {before:?}, {after:?}\n{}", history.story(*id)));
        }
    }
    for (_, fact) in &history.facts {
        let Fact::Shown { node, id, state: Some(state) } = fact else { continue };
        let counts = outcomes.get(id).and_then(|all| all.last()).map(|last| last.state);
        if counts != Some(*state) {
            return Err(format!("{node} shows {id} as {state:?}, it is {counts:?}\n{}", history.story(*id)));
        }
    }
    Ok(())
}
