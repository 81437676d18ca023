//! Invariant 6: a gap is always told, and nothing else is told as one.

use std::collections::BTreeSet;

use super::Checked;
use crate::site::history::{Fact, History};

pub fn check(history: &History) -> Checked {
    let (mut begins, mut ends) = (BTreeSet::new(), BTreeSet::new());
    for (at, fact) in &history.facts {
        if let Fact::Gap { node, partition, from, to } = fact {
            begins.insert((*at, *node, *partition, *from));
            ends.insert((*at, *node, *partition, *to));
        }
    }
    for (at, fact) in &history.facts {
        match fact {
            Fact::Hole { node, partition, from, to }
                if !begins.contains(&(*at, *node, *partition, *from))
                    || !ends.contains(&(*at, *node, *partition, *to)) =>
            {
                let story = history.story();
                return Err(format!(
                    "{at}: {partition} has a gap at {node}, {from} to {to}, that was not told\n{story}"
                ));
            }
            Fact::Gap { node, partition, from, to } => {
                let upto = history.trimmed.get(partition).copied().unwrap_or(0);
                if from >= to || *to > upto && !history.deleted.contains(&partition.topic) {
                    let story = history.story();
                    return Err(format!("{at}: {node} was told a gap in {partition}, {from} to {to}, {upto}\n{story}"));
                }
            }
            _ => {}
        }
    }
    Ok(())
}
