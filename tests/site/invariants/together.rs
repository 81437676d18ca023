//! Invariant 4, over nodes: batches, cursors and state that are held of an origin are those of one of its commits.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::PartitionId;

use super::Checked;
use crate::site::history::{Held, History};
use crate::site::life::{Life, Small};

pub fn check(history: &History) -> Checked {
    for (at, held) in history.held().filter(|(_, held)| held.is_whole) {
        let fits = match held.own {
            Some(life) => differs(history, held, &history.lives[life]).is_none(),
            None => history.lives_of(held.origin).any(|life| differs(history, held, life).is_none()),
        };
        if !fits {
            let what: Vec<_> = history.lives_of(held.origin).map(|life| differs(history, held, life)).collect();
            let (node, origin, commit, story) = (held.node, held.origin, held.commit, history.story());
            return Err(format!("{at}: what {node} has of {origin} is not of commit {commit}: {what:?}\n{story}"));
        }
    }
    Ok(())
}

/// What is not as the life had it.
fn differs(history: &History, held: &Held, life: &Life) -> Option<String> {
    if (life.commits.len() as u64) < held.commit.0 {
        return Some("there is no such commit".to_owned());
    }
    // Where a topic is deleted, a copy given up or a partition of an ended life dropped, cursors go without a commit.
    let is_gone = |id: &PartitionId| history.given_up.contains(&id.origin) || history.dropped.contains(id);
    let kept = |id: &PartitionId| !history.deleted.contains(&id.topic) && !is_gone(id);
    let Small { mut cursors, mut state } = life.small_at(held.commit);
    // A life that ended left cursors and state to the next one: a copy that is taken of it then has the events alone.
    if history.ended.contains(&held.origin) && held.state.is_empty() && held.cursors.is_empty() {
        (cursors, state) = Default::default();
    }
    // Where another node writes on what ended there, a copy begins without them and has those of later commits alone.
    let is_in_part = history.ended.contains(&held.origin) && history.doubtful.contains(&held.origin);
    if state != held.state && !is_in_part {
        return Some(format!("state: {:?}", others(&held.state, &state)));
    }
    let left = |all: &BTreeMap<(String, PartitionId), u64>| -> BTreeMap<(String, PartitionId), u64> {
        all.iter().filter(|((_, id), _)| kept(id)).map(|(key, next)| (key.clone(), *next)).collect()
    };
    let (here, there) = (left(&held.cursors), left(&cursors));
    if here != there && !is_in_part {
        return Some(format!("cursors: {:?}", others(&here, &there)));
    }
    let pieces = life.pieces_at(held.commit);
    for (id, pieces) in pieces.iter().filter(|(id, _)| !history.deleted.contains(&id.topic)) {
        let end = pieces.last().map_or(0, |piece| piece.base + piece.events.len() as u64);
        let here = held.partitions.iter().find(|extent| extent.partition == *id).map_or(0, |extent| extent.end);
        // Of an ended life, partitions without events are dropped; who had the beginning of one, and takes a copy then, keeps that.
        let is_spent = history.ended.contains(&id.origin) && history.trimmed.get(id).is_some_and(|upto| *upto >= end);
        let is_left = here == 0 || here < end && history.dropped.contains(id);
        if end != here && !(is_spent && is_left) {
            return Some(format!("{id} ends at {here}, not at {end}"));
        }
    }
    None
}

/// What is in one of two alone, or is another there: here, there.
fn others<K: Ord + Clone, V: PartialEq + Clone>(
    here: &BTreeMap<K, V>,
    there: &BTreeMap<K, V>,
) -> Vec<(K, Option<V>, Option<V>)> {
    let keys: BTreeSet<&K> = here.keys().chain(there.keys()).collect();
    let all = keys.into_iter().map(|key| (key.clone(), here.get(key).cloned(), there.get(key).cloned()));
    all.filter(|(_, here, there)| here != there).collect()
}
