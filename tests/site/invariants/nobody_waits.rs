//! Invariant 5: a slow, absent or failing follower delays nobody. An event of a local topic is acknowledged with the
//! sync of its own commit, whatever others do.

use std::collections::BTreeMap;

use super::Checked;
use crate::site::history::{Fact, History, Refusal};

/// Syncs that an event may see: one that was under way, and its own.
const ROUNDS_MAX: u64 = 2;

pub fn check(history: &History) -> Checked {
    let mut quorum = BTreeMap::new();
    for (at, fact) in &history.facts {
        match fact {
            Fact::Appended { event, is_quorum, .. } => drop(quorum.insert(*event, *is_quorum)),
            Fact::Acknowledged { event, is_quorum: false, rounds, .. } if *rounds > ROUNDS_MAX => {
                return Err(format!("{at}: local event {event} waited for {rounds} syncs\n{}", history.story()));
            }
            Fact::Refused { event, why: Refusal::Late, .. } if quorum.get(event) == Some(&false) => {
                return Err(format!("{at}: local event {event} waited for other nodes\n{}", history.story()));
            }
            _ => {}
        }
    }
    Ok(())
}
