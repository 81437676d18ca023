//! No event is twice at a site.

use std::collections::BTreeMap;

use super::Checked;
use crate::chain::history::History;

pub fn check(history: &History) -> Checked {
    for (site, ended) in history.sites.iter().enumerate() {
        let mut seen = BTreeMap::new();
        for (partition, held) in &ended.partitions {
            for (offset, event) in &held.events {
                if let Some(before) = seen.insert(*event, (*partition, *offset)) {
                    // Twins of one origin have what they had in common.
                    if before.0.origin == partition.origin || !history.doubtful.contains(&partition.origin) {
                        return Err(format!("site {site}: event {event} at {before:?} and {partition} {offset}"));
                    }
                }
            }
        }
    }
    Ok(())
}
