//! What is missing within a partition is a hole that says so, and nothing lies in one.

use super::Checked;
use crate::chain::history::History;

pub fn check(history: &History) -> Checked {
    for (site, ended) in history.sites.iter().enumerate() {
        for (partition, held) in &ended.partitions {
            let mut next = held.start;
            let is_told = |offset: u64| held.holes.iter().any(|hole| hole.from <= offset && offset < hole.to);
            for (offset, event) in &held.events {
                if let Some(missing) = (next..*offset).find(|missing| !is_told(*missing)) {
                    return Err(format!("site {site}: nothing tells that {missing} of {partition} is missing"));
                }
                if is_told(*offset) {
                    return Err(format!("site {site}: event {event} of {partition} lies in a hole"));
                }
                next = offset + 1;
            }
        }
    }
    Ok(())
}
