//! In the end, without faults, every node holds every live origin whole and equal, survivors have what any of them has
//! of a lost one, topics are the same everywhere, and readers have read all.

use std::collections::BTreeMap;

use sled_data::OriginId;

use super::Checked;
use crate::site::history::{Extent, Fact, Held, History};
use crate::site::world::READER;

type AllHeld<'a> = BTreeMap<(u64, OriginId), &'a Held>;

pub fn check(history: &History) -> Checked {
    let held = history.last_held();
    let told = |what: String| format!("{what}\n{}", history.story());
    let members = history.members();
    if members.is_empty() {
        return Err(told("no node runs".to_owned()));
    }
    for (owner, origin) in &members {
        let Some(source) = held.get(&(*owner, *origin)) else { return Err(told(format!("{owner} does not run"))) };
        for (node, _) in members.iter().filter(|(node, _)| node != owner) {
            let copy = held.get(&(*node, *origin));
            if let Some(what) = unequal(history, source, copy.copied()) {
                return Err(told(format!("{node} has {origin} of {owner}: {what}")));
            }
        }
    }
    levelled(history, &held).map_err(told)?;
    topics(history, &held).map_err(told)?;
    read(history, &held).map_err(told)
}

fn unequal(history: &History, source: &Held, copy: Option<&Held>) -> Option<String> {
    let Some(copy) = copy else { return Some("nothing".to_owned()) };
    if copy.commit != source.commit || !copy.is_whole {
        return Some(format!("up to {} of {}, whole: {}", copy.commit, source.commit, copy.is_whole));
    }
    let kept = |extents: &[Extent]| -> Vec<Extent> {
        let kept = extents.iter().filter(|extent| extent.end > 0 && !history.deleted.contains(&extent.partition.topic));
        kept.cloned().collect()
    };
    let (mut here, there) = (kept(&copy.partitions), kept(&source.partitions));
    // A partition that a fork alone has is taken for one whose topic was deleted at the source.
    if history.doubtful.contains(&source.origin) {
        here.retain(|extent| there.iter().any(|other| other.partition == extent.partition));
    }
    let same = here.len() == there.len() && here.iter().zip(&there).all(|(here, there)| is_same(here, there));
    (!same).then(|| format!("{here:?} and not {there:?}"))
}

/// Equal where both hold events.
fn is_same(here: &Extent, there: &Extent) -> bool {
    let start = here.start.max(there.start);
    let from = |extent: &Extent| -> Vec<(u64, u64)> {
        extent.batches.iter().flatten().filter(|(base, _)| *base >= start).copied().collect()
    };
    (here.partition, here.end, here.digest) == (there.partition, there.end, there.digest) && from(here) == from(there)
}

/// Of lives that nobody writes any more all have what one has, unless the life was doubtful.
fn levelled(history: &History, held: &AllHeld<'_>) -> Result<(), String> {
    let members = history.members();
    let is_live = |origin: OriginId| members.iter().any(|(_, own)| *own == origin);
    for held_there in held.values().filter(|held| held.is_whole && !is_live(held.origin)) {
        let (origin, commit) = (held_there.origin, held_there.commit);
        let doubtful = history.doubtful.contains(&origin);
        for (node, _) in members.iter().filter(|_| !doubtful) {
            let here = held.get(&(*node, origin)).map_or(Default::default(), |held| held.commit);
            if here < commit {
                return Err(format!("{node} has {origin} up to {here}, {} has {commit}", held_there.node));
            }
        }
    }
    Ok(())
}

/// A name is one topic on all nodes, and there are no events of topics that a node does not know.
fn topics(history: &History, held: &AllHeld<'_>) -> Result<(), String> {
    let mut ids = BTreeMap::new();
    for (_, fact) in &history.facts {
        let Fact::Topics { node, topics } = fact else { continue };
        for (name, id) in topics {
            if *ids.entry(name).or_insert(id) != id {
                return Err(format!("{node} has another topic {name}: {id}"));
            }
        }
        let partitions = held.iter().filter(|((of, _), _)| of == node).flat_map(|(_, held)| &held.partitions);
        for extent in partitions.filter(|extent| extent.end > extent.start) {
            if !topics.values().any(|id| *id == extent.partition.topic) {
                return Err(format!("{node} holds {}, whose topic it does not know", extent.partition));
            }
        }
    }
    Ok(())
}

/// The reader of each node has read all that it holds.
fn read(history: &History, held: &AllHeld<'_>) -> Result<(), String> {
    for own in held.values().filter(|held| held.own.is_some()) {
        // A copy that was cut off for good, or differs, is not shown on.
        let all = held.iter().filter(|((node, _), held)| *node == own.node && held.is_whole);
        let all = all.flat_map(|(_, held)| &held.partitions);
        for extent in all.filter(|extent| extent.end > 0 && !history.deleted.contains(&extent.partition.topic)) {
            let cursor = own.cursors.get(&(READER.to_owned(), extent.partition)).copied().unwrap_or(0);
            if cursor < extent.end {
                return Err(format!("the reader of {} is at {cursor} of {extent:?}", own.node));
            }
        }
    }
    Ok(())
}
