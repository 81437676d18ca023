//! Only what was too old when its turn came is dropped, and what is told to have been is that.

use sled_data::HoleWhy;

use super::Checked;
use crate::chain::history::{Dropped, History};
use crate::chain::world::DROP_AFTER_MS;

pub fn check(history: &History) -> Checked {
    for dropped in history.dropped.iter().filter(|dropped| !history.doubtful.contains(&dropped.partition.origin)) {
        let lives = history.lives.iter().filter(|life| life.origin == dropped.partition.origin);
        let events = lives.filter_map(|life| life.events.get(&dropped.partition)).next();
        for offset in dropped.from..dropped.to {
            let event = events.and_then(|events| events.get(offset as usize));
            let written = event.and_then(|event| history.written.get(event)).copied().unwrap_or(u64::MAX);
            // What is within an eighth of the deadline goes with what has passed it.
            if written.saturating_add(DROP_AFTER_MS - DROP_AFTER_MS / 8) >= dropped.at {
                return Err(format!("{dropped:?}: what was written at {written} was not too old"));
            }
        }
    }
    for (site, ended) in history.sites.iter().enumerate() {
        for (partition, held) in &ended.partitions {
            let is_of = |dropped: &&Dropped| dropped.partition == *partition;
            let of: Vec<&Dropped> = history.dropped.iter().filter(is_of).collect();
            let is_dropped = |offset: u64| of.iter().any(|dropped| (dropped.from..dropped.to).contains(&offset));
            let mut late = held.holes.iter().filter(|hole| hole.why == HoleWhy::Deadline);
            let wrong = late.find_map(|hole| (hole.from..hole.to).find(|offset| !is_dropped(*offset)));
            if let Some(offset) = wrong {
                return Err(format!(
                    "site {site} is told that {offset} of {partition} was too old, and nobody dropped it"
                ));
            }
        }
    }
    Ok(())
}
