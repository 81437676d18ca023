//! Rule 3: where the quorum is out of reach an event is refused before it is appended, and what was refused, or takes
//! too long, is never acknowledged; nor is anything twice.

use std::collections::BTreeSet;

use super::Checked;
use crate::site::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    let (mut refused, mut acknowledged) = (BTreeSet::new(), BTreeSet::new());
    for (at, fact) in &history.facts {
        match fact {
            Fact::Appended { event, is_quorum: true, in_reach: false, node } => {
                return Err(format!("{at}: event {event} was appended at {node} out of reach\n{}", history.story()));
            }
            Fact::Refused { event, .. } => drop(refused.insert(*event)),
            Fact::Acknowledged { event, .. } if refused.contains(event) || !acknowledged.insert(*event) => {
                return Err(format!("{at}: event {event} has two outcomes\n{}", history.story()));
            }
            _ => {}
        }
    }
    Ok(())
}
