//! Up to where the site's other nodes have this node's own log: retention waits for them (pure).

use std::collections::{BTreeSet, HashMap};

use sled_data::{CommitNumber, Offset, OriginId, PartitionId};

use super::book::Follower;
use crate::event_log::LeftLife;
use crate::transport::NodeId;

/// How far all others have synced this node's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behind {
    /// There are no others.
    Nobody,
    /// One has not said it since this node was started.
    Unknown,
    /// All have all commits up to this one.
    UpTo(CommitNumber),
}

impl Behind {
    /// Of these others, by what they have said.
    pub fn of(others: &[NodeId], said: &[(NodeId, Follower)]) -> Self {
        let has = |node: &NodeId| said.iter().find(|(known, _)| known == node).map(|(_, follower)| follower.synced);
        let all: Option<Vec<CommitNumber>> = others.iter().map(has).collect();
        match all {
            None => Self::Unknown,
            Some(all) => all.into_iter().min().map_or(Self::Nobody, Self::UpTo),
        }
    }
}

/// Those of this node's lives that have ended that are still needed here (pure): where not all others have its last commit, and where this node
/// is yet to follow it back, as what came of it then would come without the cursors that are in it now. `has` says how far one of them has a life.
pub fn lacked_lives(
    left: &[LeftLife],
    others: &[NodeId],
    has: impl Fn(OriginId, NodeId) -> CommitNumber,
) -> BTreeSet<OriginId> {
    let is_lacked =
        |life: &&LeftLife| others.iter().any(|node| !life.is_followed || has(life.origin, *node) < life.last);
    left.iter().filter(is_lacked).map(|life| life.origin).collect()
}

/// A whole copy of another node's life that nobody is heard to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftCopy {
    /// Which life.
    pub origin: OriginId,
    /// The last commit of it that is here.
    pub synced: CommitNumber,
    /// Who wrote it, and needs nothing of it from here; `None` where that is not known, or where he does.
    pub writer: Option<NodeId>,
}

/// Those copies that one of the others has less of (pure): he may yet have it from here alone. `has` says how far one of them has a life.
pub fn lacked_copies(
    copies: &[LeftCopy],
    others: &[NodeId],
    has: impl Fn(OriginId, NodeId) -> CommitNumber,
) -> BTreeSet<OriginId> {
    let lacks = |copy: &LeftCopy, node: &NodeId| copy.writer != Some(*node) && has(copy.origin, *node) < copy.synced;
    let is_lacked = |copy: &&LeftCopy| others.iter().any(|node| lacks(copy, node));
    copies.iter().filter(is_lacked).map(|copy| copy.origin).collect()
}

/// What those lack who are behind, as it was known when the records of what they lack were there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lacks {
    /// All had all commits up to this one.
    pub upto: CommitNumber,
    /// Where the first commit begins that one lacks, of each partition that one lacks something of.
    pub first: HashMap<PartitionId, Offset>,
    /// Where each partition of this node ended, before that was looked at.
    pub ends: HashMap<PartitionId, Offset>,
}

/// What is needed of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Needed {
    Nothing,
    All,
    Of(Lacks),
}

/// Up to where nobody of the site needs a partition of this node any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    own: OriginId,
    needed: Needed,
    /// Lives that nobody writes and that are needed: of this node's those that not all others have or that are yet to be followed back, and of others' those
    /// that not all have as far as this node.
    ended: BTreeSet<OriginId>,
}

impl Floor {
    fn with(own: OriginId, needed: Needed) -> Self {
        Self { own, needed, ended: BTreeSet::new() }
    }

    /// The same, with these lives that nobody writes: all of them is needed, as others may yet have it from here.
    #[must_use]
    pub fn and_ended(self, ended: BTreeSet<OriginId>) -> Self {
        Self { ended, ..self }
    }

    /// Of the log `own`, where the records of what others lack are there.
    pub fn known(own: OriginId, lacks: Lacks) -> Self {
        Self::with(own, Needed::Of(lacks))
    }

    /// Where those records are gone: what was known `before` still holds while nobody has less than all had then. Of one who takes a
    /// copy, or has said nothing, nothing is known: all is needed.
    pub fn beyond_records(own: OriginId, behind: Behind, before: Option<&Floor>) -> Self {
        let needed = match (before.map(|before| &before.needed), behind) {
            (Some(Needed::Of(lacks)), Behind::UpTo(commit)) if commit >= lacks.upto => Needed::Of(lacks.clone()),
            _ => Needed::All,
        };
        Self::with(own, needed)
    }

    /// Of a node that has no others.
    pub fn none(own: OriginId) -> Self {
        Self::with(own, Needed::Nothing)
    }

    /// Of one partition. What came since what is lacked was looked at is lacked too: a partition that had an end then is needed from there
    /// on, and one that was not there from its beginning. Those of other origins are kept by who writes them, while he is heard.
    pub fn of(&self, id: PartitionId) -> Offset {
        match &self.needed {
            _ if self.ended.contains(&id.origin) => 0,
            _ if id.origin != self.own => Offset::MAX,
            Needed::Nothing => Offset::MAX,
            Needed::All => 0,
            Needed::Of(lacks) => lacks.first.get(&id).or_else(|| lacks.ends.get(&id)).copied().unwrap_or(0),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use sled_data::TopicId;

    #[test]
    fn the_one_that_is_behind_most_counts() {
        let said = |nodes: &[(u64, u64)]| -> Vec<(NodeId, Follower)> {
            let follower = |synced| Follower { synced: CommitNumber(synced), is_here: false };
            nodes.iter().map(|(node, synced)| (NodeId(*node), follower(*synced))).collect()
        };
        for (others, has, expected) in [
            (&[][..], &[][..], Behind::Nobody),
            (&[], &[(2, 9)], Behind::Nobody),
            (&[2], &[], Behind::Unknown),
            (&[2, 3], &[(2, 9)], Behind::Unknown),
            (&[2, 3], &[(2, 9), (3, 4)], Behind::UpTo(CommitNumber(4))),
            (&[2, 3], &[(2, 9), (3, 12), (4, 1)], Behind::UpTo(CommitNumber(9))),
        ] {
            let others: Vec<NodeId> = others.iter().map(|node| NodeId(*node)).collect();
            assert_eq!(Behind::of(&others, &said(has)), expected, "{others:?} {has:?}");
        }
    }

    #[test]
    fn a_life_that_has_ended_is_needed_until_all_have_its_last_commit_and_it_is_followed_back() {
        let left = |is_followed| {
            [(5, 9), (6, 4)].map(|(origin, last)| LeftLife {
                origin: OriginId(origin),
                last: CommitNumber(last),
                is_followed,
            })
        };
        for (others, has, lacked) in [
            (&[][..], &[][..], &[][..]),
            (&[2], &[], &[5, 6]),
            (&[2], &[(5, 2, 9)], &[6]),
            (&[2, 3], &[(5, 2, 9), (5, 3, 8), (6, 2, 4), (6, 3, 7)], &[5]),
            (&[2, 3], &[(5, 2, 9), (5, 3, 9), (6, 2, 4), (6, 3, 4)], &[]),
        ] {
            let others: Vec<NodeId> = others.iter().map(|node| NodeId(*node)).collect();
            let has = |life: OriginId, node: NodeId| {
                let found = has.iter().find(|(of, at, _)| (*of, *at) == (life.0, node.0));
                CommitNumber(found.map_or(0, |(_, _, commit)| *commit))
            };
            let expected: BTreeSet<OriginId> = lacked.iter().copied().map(OriginId).collect();
            assert_eq!(lacked_lives(&left(true), &others, has), expected, "{others:?}");
            // Before it is followed back all of it is needed, where there are others.
            let expected = [5, 6].into_iter().filter(|_| !others.is_empty()).map(OriginId).collect();
            assert_eq!(lacked_lives(&left(false), &others, has), expected, "{others:?}");
        }
    }

    #[test]
    fn a_copy_is_needed_until_all_but_its_writer_have_as_much() {
        let copy = |origin, synced, writer: u64| LeftCopy {
            origin: OriginId(origin),
            synced: CommitNumber(synced),
            writer: Some(NodeId(writer)).filter(|writer| writer.0 > 0),
        };
        let copies = [copy(5, 9, 2), copy(6, 4, 0)];
        for (others, has, lacked) in [
            (&[][..], &[][..], &[][..]),
            (&[2], &[], &[6]),
            (&[2, 3], &[(5, 3, 9), (6, 2, 4), (6, 3, 3)], &[6]),
            (&[2, 3], &[(5, 3, 8), (6, 2, 4), (6, 3, 9)], &[5]),
            (&[2, 3], &[(5, 3, 9), (6, 2, 4), (6, 3, 4)], &[]),
        ] {
            let others: Vec<NodeId> = others.iter().map(|node| NodeId(*node)).collect();
            let has = |life: OriginId, node: NodeId| {
                let found = has.iter().find(|(of, at, _)| (*of, *at) == (life.0, node.0));
                CommitNumber(found.map_or(0, |(_, _, commit)| *commit))
            };
            let expected: BTreeSet<OriginId> = lacked.iter().copied().map(OriginId).collect();
            assert_eq!(lacked_copies(&copies, &others, has), expected, "{others:?}");
        }
    }

    #[test]
    fn a_partition_is_needed_from_where_the_first_lacking_commit_begins() {
        let id = |index| PartitionId { origin: OriginId(1), topic: TopicId(1), index };
        let lacks = Lacks {
            upto: CommitNumber(7),
            first: HashMap::from([(id(0), 40)]),
            ends: HashMap::from([(id(0), 50), (id(1), 9)]),
        };
        let known = Floor::known(OriginId(1), lacks);
        let upto = |commit| Behind::UpTo(CommitNumber(commit));
        let gone = |behind, before| Floor::beyond_records(OriginId(1), behind, before);
        let once = gone(upto(7), Some(&known));
        let twice = gone(upto(8), Some(&once));
        // One that lacks something, one that all have, and one that was not there yet.
        let all = [id(0), id(1), id(2)];
        for (case, floor, expected) in [
            ("the records are there", &known, [40, 9, 0]),
            ("they are gone", &once, [40, 9, 0]),
            ("and gone", &twice, [40, 9, 0]),
            ("one has less than all had", &gone(upto(6), Some(&twice)), [0; 3]),
            ("one joins", &gone(Behind::Unknown, Some(&twice)), [0; 3]),
            ("a start", &gone(upto(6), None), [0; 3]),
            ("nobody else", &Floor::none(OriginId(1)), [Offset::MAX; 3]),
            ("there was nobody else", &gone(upto(6), Some(&Floor::none(OriginId(1)))), [0; 3]),
        ] {
            assert_eq!(all.map(|id| floor.of(id)), expected, "{case}");
            let [ended, others] = [2, 3].map(|origin| PartitionId { origin: OriginId(origin), ..id(0) });
            assert_eq!([ended, others].map(|id| floor.of(id)), [Offset::MAX; 2], "{case}");
            // Not all have a life that has ended.
            let floor = floor.clone().and_ended([OriginId(2)].into());
            assert_eq!([ended, others, id(1)].map(|id| floor.of(id)), [0, Offset::MAX, expected[1]], "{case}");
        }
    }
}
