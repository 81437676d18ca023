//! Which origins a node follows from which other node (pure).
//!
//! An origin is followed from the node that writes it while that is connected. What another node has of a lost
//! origin, or of an earlier life, beyond what is here, is followed from there: survivors level up.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{CommitNumber, OriginId};

use crate::transport::NodeId;

/// What a connected node has.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Holder {
    /// The origin that it writes.
    pub own: Option<OriginId>,
    /// How far it has synced what it follows.
    pub holds: BTreeMap<OriginId, CommitNumber>,
}

/// What a node knows when it decides.
#[derive(Debug, Default)]
pub struct Known {
    /// The origin that this node writes.
    pub own: Option<OriginId>,
    /// The nodes that are connected.
    pub holders: BTreeMap<NodeId, Holder>,
    /// How far this node has synced what it follows.
    pub here: BTreeMap<OriginId, CommitNumber>,
    /// Who writes which life, or wrote it, as far as is known here.
    pub writers: BTreeMap<OriginId, NodeId>,
    /// Origins of which a copy differs: they are left alone until people have looked.
    pub stopped: BTreeSet<OriginId>,
}

/// Who writes the life that a node says is its own, where that is known to be another node (pure).
pub fn writer_instead(node: NodeId, claimed: OriginId, writers: &BTreeMap<OriginId, NodeId>) -> Option<NodeId> {
    writers.get(&claimed).copied().filter(|writer| *writer != node)
}

/// From which node each origin is to be followed now. Of two that say they write one, where neither is known to, the one of the greater id
/// is followed: from then on it is known.
pub fn wanted(known: &Known) -> BTreeMap<OriginId, NodeId> {
    let mut wanted = BTreeMap::new();
    for (node, holder) in &known.holders {
        if let Some(origin) = holder.own {
            wanted.insert(origin, *node);
        }
    }
    for (node, holder) in &known.holders {
        for (origin, commit) in &holder.holds {
            let here = known.here.get(origin).copied().unwrap_or_default();
            // Of two that have as much of it the one that wrote it is followed: it keeps what others lack.
            let has_written = known.writers.get(origin) == Some(node);
            let best = |other: &NodeId| {
                let there = known.holders.get(other).and_then(|other| other.holds.get(origin));
                there.is_some_and(|there| there > commit || there == commit && !has_written)
            };
            let writer_is_here = known.holders.values().any(|other| other.own == Some(*origin));
            if !writer_is_here && *commit > here && !wanted.get(origin).is_some_and(best) {
                wanted.insert(*origin, *node);
            }
        }
    }
    wanted.retain(|origin, _| Some(*origin) != known.own && !known.stopped.contains(origin));
    wanted
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: OriginId = OriginId(1);
    const B: OriginId = OriginId(2);
    const LOST: OriginId = OriginId(9);

    fn holder(own: Option<OriginId>, holds: &[(OriginId, u64)]) -> Holder {
        Holder { own, holds: holds.iter().map(|(origin, commit)| (*origin, CommitNumber(*commit))).collect() }
    }

    fn known(holders: Vec<(u64, Holder)>, here: &[(OriginId, u64)]) -> Known {
        Known {
            own: Some(A),
            holders: holders.into_iter().map(|(node, holder)| (NodeId(node), holder)).collect(),
            here: here.iter().map(|(origin, commit)| (*origin, CommitNumber(*commit))).collect(),
            writers: BTreeMap::from([(LOST, NodeId(3))]),
            stopped: BTreeSet::new(),
        }
    }

    #[test]
    fn writers_are_followed_and_survivors_level_up() {
        // case, nodes, what is here, what is wanted
        let cases = [
            ("nobody", vec![], vec![(B, 4)], vec![]),
            ("a writer", vec![(2, holder(Some(B), &[]))], vec![], vec![(B, 2)]),
            ("own", vec![(2, holder(Some(B), &[(A, 7)]))], vec![], vec![(B, 2)]),
            ("more of a lost one", vec![(2, holder(Some(B), &[(LOST, 7)]))], vec![(LOST, 6)], vec![(B, 2), (LOST, 2)]),
            ("no more of it", vec![(2, holder(Some(B), &[(LOST, 7)]))], vec![(LOST, 7)], vec![(B, 2)]),
            (
                "the one that has most",
                vec![(2, holder(None, &[(LOST, 7)])), (3, holder(None, &[(LOST, 9)])), (4, holder(None, &[(LOST, 8)]))],
                vec![],
                vec![(LOST, 3)],
            ),
            (
                "who wrote it has as much of it as others",
                vec![(2, holder(None, &[(LOST, 7)])), (3, holder(None, &[(LOST, 7)])), (4, holder(None, &[(LOST, 7)]))],
                vec![],
                vec![(LOST, 3)],
            ),
            ("its writer is back", vec![(2, holder(None, &[(B, 9)])), (3, holder(Some(B), &[]))], vec![], vec![(B, 3)]),
            (
                "two that claim one life",
                vec![(2, holder(Some(B), &[])), (3, holder(Some(B), &[]))],
                vec![],
                vec![(B, 3)],
            ),
            ("a life that has not been read yet", vec![(2, holder(None, &[]))], vec![], vec![]),
        ];
        for (case, holders, here, expected) in cases {
            let expected = expected.into_iter().map(|(origin, node)| (origin, NodeId(node))).collect();
            assert_eq!(wanted(&known(holders, &here)), expected, "{case}");
        }
    }

    #[test]
    fn a_life_is_its_writers_whoever_claims_it() {
        let writers = BTreeMap::from([(A, NodeId(1)), (B, NodeId(2))]);
        for (node, claimed, writer) in [(1, A, None), (2, B, None), (3, B, Some(2)), (2, A, Some(1)), (3, LOST, None)] {
            assert_eq!(writer_instead(NodeId(node), claimed, &writers), writer.map(NodeId), "{node} {claimed}");
        }
    }

    #[test]
    fn a_copy_that_differs_is_left_alone() {
        let mut known = known(vec![(2, holder(Some(B), &[]))], &[]);
        known.stopped.insert(B);
        assert!(wanted(&known).is_empty());
    }
}
