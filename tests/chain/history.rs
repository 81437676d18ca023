//! What happened in a run, as somebody who sees everything would write it down.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{Hole, OriginId, PartitionId};

/// A life of a site's store, or one of several of the same origin, because the store was set back.
#[derive(Debug, Clone)]
pub struct Life {
    pub origin: OriginId,
    /// The events' numbers, in order.
    pub events: BTreeMap<PartitionId, Vec<u64>>,
}

/// An event that was acknowledged.
#[derive(Debug, Clone, Copy)]
pub struct Acknowledged {
    pub event: u64,
    pub partition: PartitionId,
    pub offset: u64,
    /// The site that took it.
    pub site: usize,
}

/// Events that an edge did not send, as they were too old: offsets `from` to before `to`.
#[derive(Debug, Clone, Copy)]
pub struct Dropped {
    pub partition: PartitionId,
    pub from: u64,
    pub to: u64,
    /// When.
    pub at: u64,
}

/// What a reader that keeps a cursor has seen of a partition, as far as its cursor is durable.
#[derive(Debug, Clone, Default)]
pub struct Read {
    /// Where it began.
    pub from: u64,
    /// Its cursor.
    pub next: u64,
    /// Offsets and numbers of the events.
    pub seen: Vec<(u64, u64)>,
}

/// What a site holds of a partition at the end.
#[derive(Debug, Clone, Default)]
pub struct Held {
    pub start: u64,
    pub end: u64,
    pub digest: u64,
    pub holes: Vec<Hole>,
    /// Offsets and numbers of its events.
    pub events: Vec<(u64, u64)>,
    /// The sites that its origin has passed; none: it is of this site.
    pub path: Option<Vec<u64>>,
    /// The link that brought it.
    pub link: Option<u64>,
    /// What its topic is called there.
    pub topic: String,
}

/// Topics that go down, from a site to one that feeds it.
#[derive(Debug, Clone)]
pub struct Down {
    pub from: usize,
    pub to: usize,
    /// The link's id at the edge.
    pub link: u64,
    /// What the edge lists, and what upstream allows.
    pub lists: [Vec<String>; 2],
}

/// A site at the end.
#[derive(Debug, Clone)]
pub struct Ended {
    /// Its id.
    pub id: u64,
    /// The lives that its store has had.
    pub origins: BTreeSet<OriginId>,
    pub partitions: BTreeMap<PartitionId, Held>,
}

/// A run.
#[derive(Debug, Default)]
pub struct History {
    pub lives: Vec<Life>,
    pub acknowledged: Vec<Acknowledged>,
    /// The milliseconds of the hybrid clock with which each event was written.
    pub written: BTreeMap<u64, u64>,
    pub dropped: Vec<Dropped>,
    /// From which site to which.
    pub links: Vec<(usize, usize)>,
    pub downs: Vec<Down>,
    /// Whether edges are told that something is stored when both nodes of a site have it.
    pub has_quorum: bool,
    /// Sites whose store was wiped or set back.
    pub set_back: BTreeSet<usize>,
    /// Origins that lost events, or went on apart, as their store was wiped or set back.
    pub doubtful: BTreeSet<OriginId>,
    /// Where parts began that lay ahead upstream of what an ended life has of a partition, and are of another log: a gap is told right before.
    pub parted: BTreeMap<PartitionId, BTreeSet<u64>>,
    /// Where partitions went on over a link, and nothing was left at either end by which what is there could be told to be the same; whether each time
    /// the clock of what is there was.
    pub unseen: BTreeMap<PartitionId, BTreeMap<u64, bool>>,
    /// Origins that were seen to be others upstream of a link, by its number.
    pub seen_apart: BTreeSet<(usize, OriginId)>,
    /// Up to where retention took events without waiting for links.
    pub let_go: BTreeMap<PartitionId, u64>,
    /// Up to where a site let go of what its links had brought over, by its place.
    pub done_with: BTreeMap<(usize, PartitionId), u64>,
    /// Lives that were ended, with whether their store had been set back.
    pub ended: Vec<(OriginId, bool)>,
    /// What readers have seen, by site.
    pub read: BTreeMap<(usize, PartitionId), Read>,
    pub sites: Vec<Ended>,
    /// What was met.
    pub met: BTreeSet<&'static str>,
    pub story: Vec<String>,
}

impl History {
    pub fn tell(&mut self, at: u64, text: String) {
        self.story.push(format!("  {at} {text}"));
    }

    /// The last things that happened.
    pub fn tail(&self) -> String {
        self.story[self.story.len().saturating_sub(STORY_MAX)..].join("\n")
    }

    /// The other nodes of a node's site.
    pub fn others(&self, site: usize) -> impl Iterator<Item = usize> {
        let is_other = move |at: &usize| *at != site && self.sites[*at].id == self.sites[site].id;
        (0..self.sites.len()).filter(is_other)
    }

    /// The sites that a site's events reach, itself left out.
    pub fn reached(&self, from: usize) -> BTreeSet<usize> {
        let mut found = BTreeSet::new();
        let mut next = vec![from];
        while let Some(at) = next.pop() {
            for (_, to) in self.links.iter().filter(|(of, _)| *of == at) {
                if *to != from && found.insert(*to) {
                    next.push(*to);
                }
            }
        }
        found
    }
}

/// Lines of a story.
const STORY_MAX: usize = 400;
