//! Nobody says that a node which had a command is lost when that node is back, or has been taken over: what can be known of a command is known.

use devices::command::{Step, WhyCode};

use super::Checked;
use crate::hand_over::history::History;

pub fn check(history: &History) -> Checked {
    for (at, node, _, event) in history.steps() {
        if let Step::Unknown(why) = &event.step
            && why.code == WhyCode::NodeLost
        {
            let story = history.story(event.id);
            return Err(format!("{at}: {node} says that who had {} is lost\n{story}", event.id));
        }
    }
    Ok(())
}
