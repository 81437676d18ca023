//! Rule 1: nothing above the synced number is sent, and nobody says that it has synced what is not on its disk, unless
//! the disk said so and lied.

use super::Checked;
use crate::site::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    for (at, fact) in &history.facts {
        match fact {
            Fact::Shipped { node, origin, commit, durable, lied } if commit > durable.max(lied) => {
                return Err(format!("{at}: {node} sent {origin} {commit}, synced are {durable}\n{}", history.story()));
            }
            Fact::Claimed { node, origin, commit, durable, lied } if commit > durable.max(lied) => {
                return Err(format!(
                    "{at}: {node} claims {origin} {commit}, synced are {durable}\n{}",
                    history.story()
                ));
            }
            _ => {}
        }
    }
    Ok(())
}
