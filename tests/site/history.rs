//! What happened in a run, as somebody who sees everything would write it down.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{CommitNumber, OriginId, PartitionId, TopicId};

use super::life::Life;

/// Who has a commit, at one moment.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Support {
    /// How many nodes must have it, as the node that wrote it knows the site; itself included.
    pub asked: usize,
    /// Nodes that count and on whose disks it is.
    pub durable: BTreeSet<u64>,
    /// Nodes that count and whose disks said so and lied.
    pub lied: BTreeSet<u64>,
}

/// An event in the log.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Place {
    pub partition: PartitionId,
    pub offset: u64,
    pub commit: CommitNumber,
    /// The life, by its place in the history.
    pub life: usize,
}

/// Why an event was not acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Before it was appended.
    NoQuorum,
    /// The store did not take it.
    NotStored,
    /// It is stored, and too few have it in time.
    Late,
}

/// What a node holds of an origin.
#[derive(Debug, Clone, PartialEq)]
pub struct Held {
    pub node: u64,
    pub origin: OriginId,
    /// The life that the node writes, where it is that.
    pub own: Option<usize>,
    pub commit: CommitNumber,
    pub is_whole: bool,
    pub cursors: BTreeMap<(String, PartitionId), u64>,
    pub state: BTreeMap<(String, Vec<u8>), Vec<u8>>,
    pub partitions: Vec<Extent>,
}

/// What a node holds of a partition.
#[derive(Debug, Clone, PartialEq)]
pub struct Extent {
    pub partition: PartitionId,
    pub start: u64,
    pub end: u64,
    pub digest: u64,
    /// Base offset and what stands for the bytes of each batch; none where they cannot be read.
    pub batches: Option<Vec<(u64, u64)>>,
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    Up {
        node: u64,
        life: usize,
        commit: CommitNumber,
    },
    Down {
        node: u64,
        why: &'static str,
    },
    /// A store that does not open.
    Closed {
        node: u64,
        why: String,
    },
    /// What a node's disk is known to have before it went down, and what its store had when it opened.
    Kept {
        node: u64,
        origin: OriginId,
        durable: CommitNumber,
        found: CommitNumber,
    },
    /// What a node had of an origin after this commit is lost, by a lie of its disk, an older image, or all of it.
    Lost {
        node: u64,
        origin: Option<OriginId>,
        after: CommitNumber,
    },
    Appended {
        node: u64,
        event: u64,
        in_reach: bool,
        is_quorum: bool,
    },
    Acknowledged {
        node: u64,
        event: u64,
        place: Place,
        is_quorum: bool,
        rounds: u64,
        support: Support,
    },
    Refused {
        node: u64,
        event: u64,
        why: Refusal,
    },
    /// A commit was sent.
    Shipped {
        node: u64,
        origin: OriginId,
        commit: CommitNumber,
        durable: CommitNumber,
        lied: CommitNumber,
    },
    /// A follower said that it has synced up to a commit.
    Claimed {
        node: u64,
        origin: OriginId,
        commit: CommitNumber,
        durable: CommitNumber,
        lied: CommitNumber,
    },
    /// A partition goes on where its follower's did not end.
    Hole {
        node: u64,
        partition: PartitionId,
        from: u64,
        to: u64,
    },
    /// A gap was told.
    Gap {
        node: u64,
        partition: PartitionId,
        from: u64,
        to: u64,
    },
    /// Retention let a batch go that ended at `next`; somebody of the site lacks the partition from `needed` on. `kept` bytes were in it, and
    /// above `bound` nobody is waited for.
    LetGo {
        node: u64,
        partition: PartitionId,
        next: u64,
        needed: u64,
        kept: u64,
        bound: u64,
    },
    /// A node shows an event of its own to readers.
    Shown {
        node: u64,
        place: Place,
        support: Support,
    },
    /// A reader saw events.
    Seen {
        node: u64,
        partition: PartitionId,
        from: u64,
        events: Vec<u64>,
    },
    /// What a node holds differs from what is sent to it.
    Differs {
        node: u64,
        origin: OriginId,
        text: String,
    },
    /// A life was ended.
    Ended {
        node: u64,
        origin: OriginId,
        why: &'static str,
    },
    Held(Box<Held>),
    /// What a node has in memory: bytes that came in, and bytes that go out, the most of one stream; commits that wait.
    Load {
        node: u64,
        buffered: usize,
        sent: usize,
        waiting: usize,
        streams: usize,
    },
    /// Who is in the site.
    Members(Vec<(u64, OriginId)>),
    /// The topics that a node has, at the end.
    Topics {
        node: u64,
        topics: BTreeMap<String, TopicId>,
    },
    /// What happened around a node.
    Weather {
        node: u64,
        what: &'static str,
    },
}

/// A run.
#[derive(Debug, Default)]
pub struct History {
    pub facts: Vec<(u64, Fact)>,
    pub lives: Vec<Life>,
    /// Up to where a source let events of a partition go.
    pub trimmed: BTreeMap<PartitionId, u64>,
    /// Partitions of ended lives of which retention had left nothing at their source, with the cursors there.
    pub dropped: BTreeSet<PartitionId>,
    /// Topics that were deleted.
    pub deleted: BTreeSet<TopicId>,
    /// Lives whose store was copied or set back, or whose disk lied.
    pub doubtful: BTreeSet<OriginId>,
    /// Lives of which a copy was given up somewhere, with all cursors in it.
    pub given_up: BTreeSet<OriginId>,
    /// Lives whose node goes on with another.
    pub ended: BTreeSet<OriginId>,
    /// The true time in milliseconds since 1970.
    pub time: u64,
}

impl History {
    pub fn note(&mut self, fact: Fact) {
        self.facts.push((self.time, fact));
    }

    /// What was held, in order.
    pub fn held(&self) -> impl Iterator<Item = (u64, &Held)> {
        self.facts.iter().filter_map(|(at, fact)| match fact {
            Fact::Held(held) => Some((*at, &**held)),
            _ => None,
        })
    }

    /// The nodes of the site at the end, each with its life.
    pub fn members(&self) -> Vec<(u64, OriginId)> {
        let found = self.facts.iter().rev().find_map(|(_, fact)| match fact {
            Fact::Members(members) => Some(members.clone()),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// What the nodes of the site hold at the end.
    pub fn last_held(&self) -> BTreeMap<(u64, OriginId), &Held> {
        let end = self.facts.iter().rposition(|(_, fact)| matches!(fact, Fact::Members(_)));
        let all = self.facts.iter().skip(end.unwrap_or(self.facts.len())).filter_map(|(_, fact)| match fact {
            Fact::Held(held) => Some(((held.node, held.origin), &**held)),
            _ => None,
        });
        let members: BTreeSet<u64> = self.members().into_iter().map(|(node, _)| node).collect();
        all.filter(|((node, _), _)| members.contains(node)).collect()
    }

    /// Whether a node had found that its copy of an origin differs.
    pub fn was_stopped(&self, node: u64, origin: OriginId) -> bool {
        let is_it =
            |fact: &Fact| matches!(fact, Fact::Differs { node: n, origin: o, .. } if (*n, *o) == (node, origin));
        self.facts.iter().any(|(_, fact)| is_it(fact))
    }

    /// Whether somebody had sent a damaged batch by then.
    pub fn was_spoilt(&self, by: u64) -> bool {
        let is_it = |fact: &Fact| matches!(fact, Fact::Weather { what, .. } if *what == DAMAGED);
        self.facts.iter().any(|(at, fact)| *at <= by && is_it(fact))
    }

    /// The lives that have this origin.
    pub fn lives_of(&self, origin: OriginId) -> impl Iterator<Item = &Life> {
        self.lives.iter().filter(move |life| life.origin == origin)
    }

    /// The last things that happened, for whoever looks for a bug.
    pub fn story(&self) -> String {
        let told = self.facts.iter().filter(|(_, fact)| {
            !matches!(
                fact,
                Fact::Held(_) | Fact::Load { .. } | Fact::Seen { .. } | Fact::Shown { .. } | Fact::Kept { .. }
            )
        });
        let all: Vec<String> = told.map(|(at, fact)| format!("  {at} {fact:?}\n")).collect();
        all[all.len().saturating_sub(STORY_FACTS_MAX)..].concat()
    }
}

/// A source's memory was damaged.
pub const DAMAGED: &str = "it sends a damaged batch";
/// Facts of a story.
const STORY_FACTS_MAX: usize = 2_000;
