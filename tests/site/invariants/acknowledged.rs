//! Invariant 1: an acknowledged event is durable, on as many nodes as its topic asks; and whoever had it then and has
//! lost nothing since has it at the end.

use std::collections::BTreeMap;

use sled_data::{CommitNumber, OriginId};

use super::Checked;
use crate::site::history::{Fact, Held, History, Place};

pub fn check(history: &History) -> Checked {
    kept(history)?;
    let held = history.last_held();
    let lost = losses(history);
    for (at, (time, fact)) in history.facts.iter().enumerate() {
        let Fact::Acknowledged { node, event, place, support, .. } = fact else { continue };
        let here = support.durable.contains(node) || support.lied.contains(node);
        if !here || support.durable.len() + support.lied.len() < support.asked {
            let story = history.story();
            return Err(format!("{time}: event {event} was acknowledged by {node} with {support:?}\n{story}"));
        }
        if history.deleted.contains(&place.partition.topic) {
            continue;
        }
        // Of a life that forked, others may have as many commits of the other branch.
        let is_doubtful = history.doubtful.contains(&place.partition.origin);
        for holder in support.durable.iter().filter(|holder| !is_doubtful || *holder == node) {
            if !is_lost(&lost, *holder, place, at) && !has(history, &held, *holder, place) {
                let story = history.story();
                return Err(format!("event {event} at {place:?}, acknowledged at {time}, is not at {holder}\n{story}"));
            }
        }
    }
    Ok(())
}

/// What is on a disk is in the store when it is opened again.
fn kept(history: &History) -> Checked {
    for (at, fact) in &history.facts {
        if let Fact::Kept { node, origin, durable, found } = fact
            && found < durable
        {
            return Err(format!("{at}: {node} had {origin} {durable} and has {found}\n{}", history.story()));
        }
    }
    Ok(())
}

/// What a node lost, and when: by its place among the facts.
type Losses = BTreeMap<u64, Vec<(usize, Option<OriginId>, CommitNumber)>>;

fn losses(history: &History) -> Losses {
    let mut losses = Losses::new();
    for (at, (_, fact)) in history.facts.iter().enumerate() {
        if let Fact::Lost { node, origin, after } = fact {
            losses.entry(*node).or_default().push((at, *origin, *after));
        }
    }
    losses
}

fn is_lost(losses: &Losses, node: u64, place: &Place, since: usize) -> bool {
    losses.get(&node).into_iter().flatten().any(|(at, origin, after)| {
        *at > since && origin.is_none_or(|origin| origin == place.partition.origin) && *after < place.commit
    })
}

fn has(history: &History, held: &BTreeMap<(u64, OriginId), &Held>, node: u64, place: &Place) -> bool {
    let was_trimmed = history.trimmed.get(&place.partition).is_some_and(|upto| *upto > place.offset);
    let Some(held) = held.get(&(node, place.partition.origin)) else {
        // It is kept by no one who is not in the site. Of an ended life, retention may have left nothing.
        return was_trimmed || !history.members().iter().any(|(member, _)| *member == node);
    };
    let extent = held.partitions.iter().find(|extent| extent.partition == place.partition);
    let is_there = extent.is_some_and(|extent| {
        let batches = extent.batches.as_deref().unwrap_or_default();
        let found = batches.iter().rev().find(|(base, _)| *base <= place.offset);
        let piece = history.lives[place.life].commits.get(usize::try_from(place.commit.0).unwrap() - 1).and_then(|c| {
            let mut pieces = c.pieces.iter().filter(|piece| piece.partition == place.partition);
            pieces.find(|piece| (piece.base..piece.base + piece.events.len() as u64).contains(&place.offset))
        });
        (extent.start..extent.end).contains(&place.offset)
            && found.zip(piece).is_some_and(|((_, bytes), piece)| *bytes == piece.bytes)
    });
    is_there || was_trimmed
}
