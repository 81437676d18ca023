//! Invariant 2: offsets rise by one and never change meaning. Every node that holds an offset of a life's partition
//! holds the same bytes there, dense, whole and readable.

use super::Checked;
use crate::site::history::{Extent, Held, History};
use crate::site::life::Life;

pub fn check(history: &History) -> Checked {
    // A copy that was taken over a fork, found at its end to differ, and stopped: it is known to be neither.
    let is_given_up = |held: &Held| {
        !held.is_whole && history.doubtful.contains(&held.origin) && history.was_stopped(held.node, held.origin)
    };
    for (at, held) in history.held().filter(|(_, held)| !is_given_up(held)) {
        for extent in &held.partitions {
            let fits = history.lives_of(held.origin).any(|life| is_of(life, extent));
            if !fits && extent.start < extent.end {
                let (node, story) = (held.node, history.story());
                return Err(format!("{at}: {node} holds what nobody wrote: {extent:?}\n{story}"));
            }
        }
    }
    same_digests(history)
}

/// Whether a life wrote this.
fn is_of(life: &Life, extent: &Extent) -> bool {
    let Some(batches) = &extent.batches else { return false };
    let all = life.commits.iter().flat_map(|commit| &commit.pieces);
    let all = all.filter(|piece| piece.partition == extent.partition);
    let mut written = all.skip_while(|piece| piece.base < extent.start);
    let mut next = extent.start;
    for (base, bytes) in batches {
        let Some(piece) = written.next() else { return false };
        if *base != next || piece.base != next || piece.bytes != *bytes {
            return false;
        }
        next += piece.events.len() as u64;
    }
    next == extent.end
}

/// Where two nodes end at one offset, they have one digest.
fn same_digests(history: &History) -> Checked {
    let mut digests = std::collections::BTreeMap::new();
    for (at, held) in history.held().filter(|(_, held)| !history.doubtful.contains(&held.origin)) {
        for extent in held.partitions.iter().filter(|extent| !history.deleted.contains(&extent.partition.topic)) {
            let known = digests.entry((extent.partition, extent.end)).or_insert(extent.digest);
            if *known != extent.digest {
                return Err(format!("{at}: {} has another digest: {extent:?}\n{}", held.node, history.story()));
            }
        }
    }
    Ok(())
}
