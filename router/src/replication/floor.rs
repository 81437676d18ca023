//! Up to where the site's other nodes have this node's own log: retention waits for them (pure).

use std::collections::HashMap;

use sled_data::{CommitNumber, Offset, OriginId, PartitionId};

use super::book::Follower;
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

/// Up to where nobody of the site needs a partition of this node any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Floor {
    own: OriginId,
    /// Where the first commit begins that one of them lacks; `None`: it is not known, all is needed.
    first: Option<HashMap<PartitionId, Offset>>,
}

impl Floor {
    /// The floor of the log `own`. Where records of the commits that one lacks are gone, what was known before still holds, as nobody
    /// has less than he had: `before` is that floor.
    pub fn new(own: OriginId, first: Option<HashMap<PartitionId, Offset>>, before: Option<&Floor>) -> Self {
        let known = first.or_else(|| before.and_then(|before| before.first.clone()));
        Self { own, first: known }
    }

    /// Of a node that has no others.
    pub fn none(own: OriginId) -> Self {
        Self { own, first: Some(HashMap::new()) }
    }

    /// Of one partition. Those of other origins are kept by who writes them.
    pub fn of(&self, id: PartitionId) -> Offset {
        match &self.first {
            _ if id.origin != self.own => Offset::MAX,
            None => 0,
            Some(first) => first.get(&id).copied().unwrap_or(Offset::MAX),
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
    fn a_partition_is_needed_from_where_the_first_lacking_commit_begins() {
        let id = |origin, index| PartitionId { origin: OriginId(origin), topic: TopicId(1), index };
        let floor = Floor::new(OriginId(1), Some(HashMap::from([(id(1, 0), 40)])), None);
        assert_eq!([id(1, 0), id(1, 1), id(2, 0)].map(|id| floor.of(id)), [40, Offset::MAX, Offset::MAX]);
        let later = Floor::new(OriginId(1), None, Some(&floor));
        assert_eq!(later.of(id(1, 0)), 40, "it still has what it had");
        let unknown = Floor::new(OriginId(1), None, None);
        assert_eq!([id(1, 0), id(2, 0)].map(|id| unknown.of(id)), [0, Offset::MAX]);
        assert_eq!(Floor::none(OriginId(1)).of(id(1, 0)), Offset::MAX);
    }
}
