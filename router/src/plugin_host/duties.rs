//! What a node is to read, of what the site has decided: pure.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{CommitNumber, OriginId, PartitionId};

use super::charge::Charge;
use super::manifest::Scope;
use crate::transport::NodeId;

/// What this node's plugins read. The node gives it to the plugin host; each plugin takes it up between two rounds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Duties {
    /// This node; 0 where there is no site.
    pub me: NodeId,
    /// Whether there is no site: everything that is here is this node's.
    pub is_alone: bool,
    /// Whether nothing is read for now: the node is cut off, and the policy is to pause.
    pub is_paused: bool,
    /// Ended lives of this node's own store whose rest it reads itself, the oldest first.
    pub ended: Vec<TakenOver>,
    /// Origins whose partitions this node reads for one that is lost.
    pub taken_over: Vec<TakenOver>,
    /// Who reads this node's own origin, until they are seen to have ended.
    pub given_away: Option<GivenAway>,
    /// What this node reads for plugins of scope `site`.
    pub shares: Vec<Share>,
    /// Charges that others wait for this node to have ended, up to a term; of a share, those of its plugin.
    pub handed_on: Vec<HandedOn>,
    /// Lives that the site has given up: nobody waits for what they say, but for their commits up to this one.
    pub gone: BTreeMap<OriginId, CommitNumber>,
    /// Ended lives that nothing was decided of, each with the later one of the same node whose charge is over its partitions as well.
    pub earlier: BTreeMap<OriginId, Earlier>,
    /// The lives that other nodes write now which the site has not lost, where something is taken over: how far an ended life was read may be said there alone.
    pub present: BTreeMap<NodeId, OriginId>,
    /// The newest term under which each origin was taken over.
    pub origin_terms: BTreeMap<OriginId, u64>,
    /// The newest term of each share.
    pub share_terms: BTreeMap<(String, u32), u64>,
}

/// Which charge a life is read under that ended before anything was decided of it: its node was reading it on when that was taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Earlier {
    /// The later life of the same node whose charge it is.
    pub of: OriginId,
    /// Its place among the lives of that node: the oldest is read first.
    pub place: usize,
}

/// An origin whose partitions this node reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakenOver {
    /// The life that writes them.
    pub origin: OriginId,
    /// The term.
    pub term: u64,
    /// Who may have read them before: that life, and others up to a term.
    pub predecessors: Vec<Predecessor>,
}

impl TakenOver {
    /// Nothing was decided of it, so that nobody else has read it.
    fn from_nobody(origin: OriginId) -> TakenOver {
        TakenOver { origin, term: 0, predecessors: Vec::new() }
    }
}

/// A life that may have had a charge before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Predecessor {
    /// The life.
    pub life: OriginId,
    /// It was given the charge last under this term.
    pub term: u64,
}

/// Who has this node's own origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GivenAway {
    /// The newest term under which it was taken over.
    pub term: u64,
    /// Those who may have read it.
    pub to: Vec<Predecessor>,
}

/// A partition number that this node reads for a plugin of scope `site`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Share {
    /// The plugin.
    pub plugin: String,
    /// The partition number.
    pub index: u32,
    /// The term.
    pub term: u64,
    /// Who may have read it before.
    pub predecessors: Vec<Predecessor>,
}

/// A charge that has gone on to another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HandedOn {
    /// Of a share, its plugin; of an origin, `None`: all.
    pub plugin: Option<String>,
    /// The charge.
    pub charge: Charge,
    /// This node does nothing more under this term and those below.
    pub term: u64,
}

/// A charge that a plugin is to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The charge.
    pub charge: Charge,
    /// The term.
    pub term: u64,
    /// Who must have ended it, or be gone.
    pub predecessors: Vec<Predecessor>,
}

impl Duties {
    /// Those of a node without a site.
    #[must_use]
    pub fn alone() -> Duties {
        Duties { is_alone: true, ..Duties::default() }
    }

    /// The same where lives of its store have ended, the oldest first.
    #[must_use]
    pub fn alone_after(ended: Vec<OriginId>) -> Duties {
        Duties { ended: ended.into_iter().map(TakenOver::from_nobody).collect(), ..Duties::alone() }
    }

    /// Charges of a plugin of scope `origin`, but for the node's own origin.
    pub fn origins(&self) -> impl Iterator<Item = Wanted> {
        self.taken_over.iter().map(|taken| Wanted {
            charge: Charge::Origin(taken.origin),
            term: taken.term,
            predecessors: taken.predecessors.clone(),
        })
    }

    /// Charges of a plugin of scope `site`.
    pub fn shares_of<'a>(&'a self, plugin: &'a str) -> impl Iterator<Item = Wanted> + 'a {
        self.shares.iter().filter(move |share| share.plugin == plugin).map(|share| Wanted {
            charge: Charge::Share(share.index),
            term: share.term,
            predecessors: share.predecessors.clone(),
        })
    }

    /// Whether a life is an ended one of this node's own store, whose rest it reads.
    #[must_use]
    pub fn is_ended(&self, life: OriginId) -> bool {
        self.ended.iter().any(|ended| ended.origin == life)
    }

    /// The life over whose charge a partition belongs, where that is not the life which has written it.
    pub(super) fn earlier_of(&self, id: PartitionId) -> Option<Earlier> {
        self.earlier.get(&id.origin).copied()
    }

    /// Whether a partition is read under a charge: that over an origin is also over what its node had left unread in lives before.
    #[must_use]
    pub fn is_under(&self, charge: Charge, id: PartitionId) -> bool {
        charge.covers(id) || self.earlier_of(id).is_some_and(|earlier| charge == Charge::Origin(earlier.of))
    }

    /// Whether a plugin reads a partition on the node that writes `own`.
    #[must_use]
    pub fn covers(&self, scope: Scope, plugin: &str, own: OriginId, id: PartitionId) -> bool {
        match scope {
            Scope::Origin => {
                let mut others = self.taken_over.iter().chain(&self.ended).map(|taken| Charge::Origin(taken.origin));
                id.origin == own || self.is_ended(id.origin) || others.any(|charge| self.is_under(charge, id))
            }
            Scope::Site => self.is_alone || self.shares_of(plugin).any(|share| share.charge.covers(id)),
        }
    }
}

/// Nodes that had a charge before, each with the newest term under which it was given to them; at most as many as the
/// site has nodes.
pub type Before = BTreeMap<NodeId, u64>;

/// The site's newest decision about an origin. It is made when the node is lost that writes the origin, and anew when
/// the one is lost that reads it: where the origin's node is here, by that node itself. Each has a term that is higher
/// by two or more than the one before: the term between is the origin's own, when it comes back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The newest commit of the origin that the survivors have.
    pub from_commit: CommitNumber,
    /// Who reads its partitions.
    pub by: NodeId,
    /// The term.
    pub term: u64,
    /// Who did by earlier decisions. It is carried from decision to decision: one of them may not have been told of its
    /// charge in time to begin it, so that what the one before did is to be waited for all the same.
    pub before: Before,
}

/// The site's newest decision about a partition number of a plugin of scope `site`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assignment {
    /// Who reads it.
    pub node: NodeId,
    /// The term.
    pub term: u64,
    /// Who did by earlier decisions.
    pub before: Before,
}

/// What is known of the site.
#[derive(Debug, Clone, Default)]
pub struct Site {
    /// This node.
    pub me: NodeId,
    /// The life that each node writes now.
    pub lives: BTreeMap<NodeId, OriginId>,
    /// Ended lives of this node's own store, the oldest first.
    pub ended: Vec<OriginId>,
    /// The lives of each node that are known here, the oldest first; none that others had more of.
    pub chains: Vec<Vec<OriginId>>,
    /// Whether the site knows the life that this node writes now: from then on nothing new is decided of those before.
    pub is_known: bool,
    /// The nodes that the site has not lost, this one included.
    pub here: BTreeSet<NodeId>,
    /// Lost origins, those that are back included.
    pub take_overs: BTreeMap<OriginId, TakeOver>,
    /// Who reads what for plugins of scope `site`.
    pub assignments: BTreeMap<(String, u32), Assignment>,
    /// Whether this node is cut off and is to pause then.
    pub is_paused: bool,
}

/// What a node of a site is to read.
#[must_use]
pub fn duties(site: &Site) -> Duties {
    let mut duties = Duties { me: site.me, is_paused: site.is_paused, ..Duties::default() };
    duties.earlier = site.earlier();
    let own = site.lives.get(&site.me).copied();
    let is_own = |life: &OriginId| duties.earlier.get(life).is_none_or(|earlier| Some(earlier.of) == own);
    // While the site may yet decide that another reads the rest of a life, nobody does.
    let is_undecided = |life: &&OriginId| site.is_known && !site.take_overs.contains_key(*life) && is_own(life);
    let undecided: Vec<&OriginId> = site.ended.iter().filter(is_undecided).collect();
    duties.ended.extend(undecided.into_iter().copied().map(TakenOver::from_nobody));
    for (origin, record) in &site.take_overs {
        duties.origin_terms.insert(*origin, record.term);
        duties.of_origin(site, *origin, record);
    }
    if !duties.taken_over.is_empty() {
        let others = site.lives.iter().filter(|(node, _)| **node != site.me && site.here.contains(node));
        duties.present = others.map(|(node, life)| (*node, *life)).collect();
    }
    for ((plugin, index), record) in &site.assignments {
        duties.share_terms.insert((plugin.clone(), *index), record.term);
        if record.node == site.me {
            let (plugin, index, term) = (plugin.clone(), *index, record.term);
            duties.shares.push(Share { plugin, index, term, predecessors: site.predecessors(&record.before) });
        } else if let Some(term) = record.before.get(&site.me) {
            let (plugin, charge, term) = (Some(plugin.clone()), Charge::Share(*index), *term);
            duties.handed_on.push(HandedOn { plugin, charge, term });
        }
    }
    duties
}

impl Site {
    /// The lives that nothing was decided of and that ended before one which was taken over: of several such ones the first.
    fn earlier(&self) -> BTreeMap<OriginId, Earlier> {
        let mut earlier = BTreeMap::new();
        for chain in &self.chains {
            let mut of = None;
            for (place, life) in chain.iter().enumerate().rev() {
                if self.take_overs.contains_key(life) {
                    of = Some(*life);
                } else if let Some(of) = of {
                    earlier.insert(*life, Earlier { of, place });
                }
            }
        }
        earlier
    }

    /// The lives of nodes that had a charge.
    fn predecessors(&self, before: &Before) -> Vec<Predecessor> {
        let life = |node: &NodeId| self.lives.get(node).copied();
        before.iter().filter_map(|(node, term)| Some(Predecessor { life: life(node)?, term: *term })).collect()
    }
}

impl Duties {
    fn of_origin(&mut self, site: &Site, origin: OriginId, record: &TakeOver) {
        let writer = site.lives.iter().find(|(_, life)| **life == origin).map(|(node, _)| *node);
        let is_back = writer.is_some_and(|node| site.here.contains(&node));
        let (charge, term) = (Charge::Origin(origin), record.term);
        let mut predecessors = site.predecessors(&record.before);
        if !is_back {
            self.gone.insert(origin, record.from_commit);
        }
        if writer == Some(site.me) && record.by == site.me {
            // The one before was lost: it is this node's again under the decision's own term.
            self.given_away = Some(GivenAway { term: term.saturating_sub(1), to: predecessors });
        } else if writer == Some(site.me) {
            let now = Before::from([(record.by, term)]);
            predecessors.retain(|before| site.lives.get(&record.by) != Some(&before.life));
            predecessors.extend(site.predecessors(&now));
            self.given_away = Some(GivenAway { term, to: predecessors });
        } else if record.by == site.me && site.ended.contains(&origin) {
            self.ended.push(TakenOver { origin, term, predecessors });
        } else if record.by == site.me && !is_back {
            predecessors.push(Predecessor { life: origin, term: 0 });
            self.taken_over.push(TakenOver { origin, term, predecessors });
        } else {
            let mine = if record.by == site.me { Some(term) } else { record.before.get(&site.me).copied() };
            self.handed_on.extend(mine.map(|term| HandedOn { plugin: None, charge, term }));
        }
    }
}

#[cfg(test)]
mod tests;
