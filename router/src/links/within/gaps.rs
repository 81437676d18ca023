//! A gap is for good at the node that it goes to: before one goes, the others are asked whether one of them has what is missing here.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{Hole, HoleWhy, LinkedPart, Offset, PartitionId};
use tokio::time::Instant;

use super::ends::{Asks, Held, WHOLE_MAX};
use super::level::ask_each;
use super::sender::{Hold, Sender};
use crate::links::lanes::Round;
use crate::links::receiver::stand;
use crate::transport::NodeId;

/// How long a partition is held back for a third node to send it: longer than until that one sees the other stand still behind, and less than a
/// quorum is waited for.
const FILLED_WITHIN: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(25) };
/// How long a node that gave no answer is not asked.
const MUTE_FOR: Duration = Duration::from_secs(60);

/// What was asked about gaps.
#[derive(Debug, Default)]
pub(super) struct Gaps {
    /// Up to where gaps of each partition were asked for: each is held back once, lest two nodes wait for each other.
    asked: BTreeMap<PartitionId, Offset>,
    mute: BTreeMap<NodeId, Instant>,
}

impl Gaps {
    /// Gaps that were not asked for yet, one of a partition. What was too old at its edge is with nobody.
    fn new_of(&self, parts: &[LinkedPart]) -> BTreeMap<PartitionId, Hole> {
        let gap = |part: &LinkedPart| match part {
            LinkedPart::Hole(id, hole) if hole.why != HoleWhy::Deadline => Some((*id, *hole)),
            _ => None,
        };
        let is_new = |(id, hole): &(PartitionId, Hole)| self.asked.get(id).is_none_or(|to| *to < hole.to);
        parts.iter().filter_map(gap).filter(is_new).take(WHOLE_MAX).collect()
    }

    /// Forgets partitions that are not here any more.
    pub(super) fn keep(&mut self, here: &BTreeSet<PartitionId>) {
        self.asked.retain(|id, _| here.contains(id));
        self.mute.retain(|_, since| since.elapsed() < MUTE_FOR);
    }
}

/// Whether a node keeps some of a range, of the same partition as it is here (pure).
fn has_some(held: &Held, from: Offset, to: Offset) -> bool {
    let (mut next, to) = (from.max(held.start), to.min(held.end));
    for (hole_from, hole_to) in &held.holes {
        if *hole_from <= next && next < *hole_to {
            next = *hole_to;
        }
    }
    !held.is_other && next < to
}

impl Sender {
    /// Holds a round back that has gaps which a third node can fill; whether it does. That one sends what it has when it sees the other node stand
    /// still behind, and then the partition goes on from where it ends there.
    pub(super) async fn holds_back(&self, round: &Round) -> bool {
        let gaps = self.gaps.lock().new_of(&round.parts);
        if gaps.is_empty() {
            return false;
        }
        let filled = self.filled_elsewhere(&gaps).await;
        self.gaps.lock().asked.extend(gaps.iter().map(|(id, hole)| (*id, hole.to)));
        if filled.is_empty() {
            return false;
        }
        tracing::info!(to = %self.to, partitions = filled.len(), "another node has what is missing here: it is to send it");
        let again = Hold::Until(Instant::now() + FILLED_WITHIN);
        let (mut open, mut lanes) = (self.open.lock(), self.lanes.lock());
        // The rest of the round is read again, from where it ends there.
        for id in round.ends.keys() {
            lanes.remove(*id);
            match filled.contains(id) {
                true => open.hold(*id, again),
                false => drop(open.asked.remove(id)),
            }
        }
        true
    }

    /// Of gaps those of which a third node has something.
    async fn filled_elsewhere(&self, gaps: &BTreeMap<PartitionId, Hole>) -> BTreeSet<PartitionId> {
        let Some(nodes) = self.within.nodes.get() else { return BTreeSet::new() };
        let (staying, mut others) = (nodes.staying(), nodes.connected());
        others.retain(|node| *node != self.to && staying.contains(node) && !self.gaps.lock().mute.contains_key(node));
        if others.is_empty() {
            return BTreeSet::new();
        }
        let (log, ids) = (Arc::clone(&self.within.log), gaps.keys().copied().collect::<Vec<_>>());
        let of = ids.clone();
        let stands = move || of.into_iter().map(|id| stand(log.store(), id)).collect();
        let Ok(stands) = tokio::task::spawn_blocking(stands).await else { return BTreeSet::new() };
        let mut filled = BTreeSet::new();
        for (node, answer) in ask_each(nodes, others, &Asks::Whole(stands), &ids).await {
            match answer {
                Ok(all) => {
                    let fills = |(id, held): &(&PartitionId, Held)| {
                        gaps.get(id).is_some_and(|hole| has_some(held, hole.from, hole.to))
                    };
                    filled.extend(ids.iter().zip(all).filter(fills).map(|(id, _)| *id));
                }
                Err(_) => drop(self.gaps.lock().mute.insert(node, Instant::now())),
            }
        }
        filled
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_third_node_fills_a_gap_of_which_it_keeps_something() {
        let held = |start, end, holes: &[(Offset, Offset)]| Held { start, end, holes: holes.to_vec(), is_other: false };
        let cases = [
            ("all of it", held(0, 9, &[]), true),
            ("nothing", Held::default(), false),
            ("the same gap", held(0, 9, &[(2, 6)]), false),
            ("a larger one", held(0, 9, &[(1, 7)]), false),
            ("one event of it", held(0, 9, &[(1, 5)]), true),
            ("the first event of it", held(0, 3, &[]), true),
            ("it ends before", held(0, 2, &[]), false),
            ("it begins behind", held(6, 9, &[]), false),
            ("it begins within", held(5, 9, &[]), true),
            ("something else", Held { is_other: true, ..held(0, 9, &[]) }, false),
        ];
        for (case, held, expected) in cases {
            assert_eq!(has_some(&held, 2, 6), expected, "{case}");
        }
    }
}
