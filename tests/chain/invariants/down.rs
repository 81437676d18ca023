//! What comes down: each event of a topic that both lists name is below, once and at its place, but for gaps that are told; and nothing that is not listed.

use super::Checked;
use crate::chain::history::{Down, Held, History};

pub fn check(history: &History) -> Checked {
    history.downs.iter().try_for_each(|down| {
        nothing_else(history, down)?;
        all_that_is_listed(history, down)
    })
}

/// Whether both lists name a topic: name by name, a star stands for one of them.
fn is_listed(down: &Down, topic: &str) -> bool {
    let names = |pattern: &String| {
        let (patterns, names): (Vec<_>, Vec<_>) = (pattern.split('/').collect(), topic.split('/').collect());
        patterns.len() == names.len()
            && patterns.iter().zip(names).all(|(pattern, name)| *pattern == "*" || *pattern == name)
    };
    down.lists.iter().all(|list| list.iter().any(names))
}

fn nothing_else(history: &History, down: &Down) -> Checked {
    let came = |held: &&Held| held.link == Some(down.link);
    for held in history.sites[down.to].partitions.values().filter(came) {
        let (_, topic) = held.topic.split_once('/').unwrap_or_default();
        if !is_listed(down, topic) {
            return Err(format!("site {} has {topic} of site {}: {down:?}", down.to, down.from));
        }
    }
    Ok(())
}

fn all_that_is_listed(history: &History, down: &Down) -> Checked {
    let (above, below) = (&history.sites[down.from], &history.sites[down.to]);
    for (partition, held) in above.partitions.iter().filter(|(_, held)| is_listed(down, &held.topic)) {
        let has_been_there = below.origins.contains(&partition.origin)
            || held.path.as_ref().is_some_and(|path| path.contains(&below.id));
        if has_been_there || history.doubtful.contains(&partition.origin) {
            continue;
        }
        let there = below.partitions.get(partition).cloned().unwrap_or_default();
        let is_told = |at: u64| at < there.start || there.holes.iter().any(|hole| (hole.from..hole.to).contains(&at));
        // A gap that was told stays one, also where what it is of has come to upstream again since.
        let is_excused = |at: u64| is_told(at) && !history.set_back.is_empty();
        let missing = held.events.iter().find(|event| !there.events.contains(event) && !is_excused(event.0));
        if there.end != held.end || missing.is_some() {
            return Err(format!(
                "{partition}: site {} has {held:?}, and below, site {} has {there:?}",
                down.from, down.to
            ));
        }
    }
    Ok(())
}
