//! In good weather all nodes of a site have the same of what links have brought, but for gaps that are told.

use super::Checked;
use crate::chain::history::{Held, History};

pub fn check(history: &History) -> Checked {
    for (site, ended) in history.sites.iter().enumerate() {
        for other in history.others(site) {
            for (partition, held) in ended.partitions.iter().filter(|(_, held)| held.path.is_some()) {
                if history.doubtful.contains(&partition.origin) {
                    continue;
                }
                let there = history.sites[other].partitions.get(partition).cloned().unwrap_or_default();
                let missing =
                    held.events.iter().find(|(at, _)| !has(&there, *at)).filter(|(at, _)| !is_told(&there, *at));
                if there.end != held.end || missing.is_some() {
                    return Err(format!("{partition}: site {site} has {held:?}, and site {other} has {there:?}"));
                }
            }
        }
    }
    Ok(())
}

fn has(held: &Held, offset: u64) -> bool {
    held.events.iter().any(|(at, _)| *at == offset)
}

fn is_told(held: &Held, offset: u64) -> bool {
    offset < held.start || held.holes.iter().any(|hole| (hole.from..hole.to).contains(&offset))
}
