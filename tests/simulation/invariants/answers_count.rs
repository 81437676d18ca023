//! What others than the device say never counts, and of what the device says the first word about the end.

use devices::command::Step;

use super::Checked;
use crate::simulation::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    for (_, fact) in &history.facts {
        let Fact::Step { event, .. } = fact else { continue };
        let answer = match &event.step {
            Step::Accepted(answer) | Step::InProgress(answer) => answer,
            Step::Succeeded(answer) | Step::Failed(answer) | Step::Rejected(answer) => answer,
            _ => continue,
        };
        if answer.payload.0 == b"forged" {
            return Err(format!("{} has an answer of a stranger\n{}", event.id, history.story(event.id)));
        }
    }
    Ok(())
}
