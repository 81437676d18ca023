//! What of the consensus is stored and sent, in forms of our own: frozen, whatever openraft's own look like. Pure.

use std::collections::{BTreeMap, BTreeSet};

use openraft::{
    CommittedLeaderId, Entry, EntryPayload, LogId as RaftLogId, Membership as RaftMembership, StoredMembership,
    Vote as RaftVote,
};
use serde::{Deserialize, Serialize};

use super::Types;
use crate::catalog::encoding;
use crate::transport::NodeId;

/// The version byte before each stored value.
const VERSION: u8 = 1;

/// A change's place: its number, and in which term which leader gave it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LogIdV1 {
    pub(super) term: u64,
    pub(super) leader: NodeId,
    pub(super) index: u64,
}

/// Whom a node has given its vote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct VoteV1 {
    pub(super) term: u64,
    pub(super) leader: NodeId,
    /// A majority has given it theirs.
    pub(super) is_won: bool,
}

/// Who votes and who follows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct RolesV1 {
    /// One set of voters; two while one follows the other.
    pub(super) voters: Vec<Vec<NodeId>>,
    /// All who follow, voters among them.
    pub(super) nodes: Vec<NodeId>,
}

/// What an entry of the log carries.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum PayloadV1 {
    /// Nothing: a leader's first.
    Blank,
    /// A proposal, encoded.
    Proposal(Vec<u8>),
    /// New roles.
    Roles(RolesV1),
}

/// An entry of the log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct EntryV1 {
    pub(super) id: LogIdV1,
    pub(super) payload: PayloadV1,
}

/// Up to where the state has come, in one commit with the state.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub(super) struct AppliedV1 {
    /// The last change that is in the state.
    pub(super) last: Option<LogIdV1>,
    /// The last change of roles.
    pub(super) roles_id: Option<LogIdV1>,
    /// The roles since then.
    pub(super) roles: RolesV1,
    /// The newest proposal of each node, so that none counts twice.
    pub(super) proposed: BTreeMap<NodeId, u64>,
}

/// Writes a value as it is stored.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encoding::encode(VERSION, value)
}

/// Reads a stored value; `None` where it is damaged or of another version.
pub(super) fn decode<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Option<T> {
    encoding::decode(VERSION, bytes)
}

impl From<RaftLogId<NodeId>> for LogIdV1 {
    fn from(id: RaftLogId<NodeId>) -> Self {
        Self { term: id.leader_id.term, leader: id.leader_id.node_id, index: id.index }
    }
}

impl From<LogIdV1> for RaftLogId<NodeId> {
    fn from(id: LogIdV1) -> Self {
        Self::new(CommittedLeaderId::new(id.term, id.leader), id.index)
    }
}

impl From<RaftVote<NodeId>> for VoteV1 {
    fn from(vote: RaftVote<NodeId>) -> Self {
        Self { term: vote.leader_id.term, leader: vote.leader_id.node_id, is_won: vote.committed }
    }
}

impl From<VoteV1> for RaftVote<NodeId> {
    fn from(vote: VoteV1) -> Self {
        match vote.is_won {
            true => Self::new_committed(vote.term, vote.leader),
            false => Self::new(vote.term, vote.leader),
        }
    }
}

impl From<&RaftMembership<NodeId, ()>> for RolesV1 {
    fn from(membership: &RaftMembership<NodeId, ()>) -> Self {
        let sets = membership.get_joint_config().iter();
        let voters = sets.map(|set| set.iter().copied().collect()).collect();
        Self { voters, nodes: membership.nodes().map(|(node, ())| *node).collect() }
    }
}

impl RolesV1 {
    /// One node alone.
    pub(super) fn alone(node: NodeId) -> Self {
        Self { voters: vec![vec![node]], nodes: vec![node] }
    }

    /// Whether a node votes.
    pub(super) fn is_voter(&self, node: NodeId) -> bool {
        self.voters.iter().any(|set| set.contains(&node))
    }

    /// Whether a node alone votes.
    pub(super) fn is_alone(&self, node: NodeId) -> bool {
        !self.voters.is_empty() && self.voters.iter().flatten().all(|voter| *voter == node)
    }

    /// The sets of voters.
    pub(super) fn sets(&self) -> Vec<BTreeSet<NodeId>> {
        self.voters.iter().map(|set| set.iter().copied().collect()).collect()
    }

    /// As openraft has it.
    pub(super) fn to_raft(&self) -> RaftMembership<NodeId, ()> {
        RaftMembership::new(self.sets(), self.nodes.iter().copied().collect::<BTreeSet<_>>())
    }
}

impl AppliedV1 {
    /// The last change of roles as openraft has it.
    pub(super) fn membership(&self) -> StoredMembership<NodeId, ()> {
        StoredMembership::new(self.roles_id.map(RaftLogId::from), self.roles.to_raft())
    }

    /// How many changes are in the state, more or less: rises with each.
    pub(super) fn index(&self) -> u64 {
        self.last.map_or(0, |last| last.index)
    }
}

impl From<Entry<Types>> for EntryV1 {
    fn from(entry: Entry<Types>) -> Self {
        let payload = match entry.payload {
            EntryPayload::Blank => PayloadV1::Blank,
            EntryPayload::Normal(proposal) => PayloadV1::Proposal(proposal),
            EntryPayload::Membership(membership) => PayloadV1::Roles((&membership).into()),
        };
        Self { id: entry.log_id.into(), payload }
    }
}

impl From<EntryV1> for Entry<Types> {
    fn from(entry: EntryV1) -> Self {
        let payload = match entry.payload {
            PayloadV1::Blank => EntryPayload::Blank,
            PayloadV1::Proposal(proposal) => EntryPayload::Normal(proposal),
            PayloadV1::Roles(roles) => EntryPayload::Membership(roles.to_raft()),
        };
        Self { log_id: entry.id.into(), payload }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: LogIdV1 = LogIdV1 { term: 2, leader: NodeId(3), index: 200 };

    #[test]
    fn what_is_stored_has_these_bytes() {
        let roles = RolesV1 { voters: vec![vec![NodeId(1)], vec![NodeId(1), NodeId(2)]], nodes: vec![NodeId(1)] };
        let entry = |payload| encode(&EntryV1 { id: ID, payload });
        let cases = [
            (entry(PayloadV1::Blank), vec![1, 2, 3, 0xc8, 1, 0]),
            (entry(PayloadV1::Proposal(vec![7, 8])), vec![1, 2, 3, 0xc8, 1, 1, 2, 7, 8]),
            (entry(PayloadV1::Roles(roles.clone())), vec![1, 2, 3, 0xc8, 1, 2, 2, 1, 1, 2, 1, 2, 1, 1]),
            (encode(&VoteV1 { term: 1, leader: NodeId(2), is_won: true }), vec![1, 1, 2, 1]),
            (
                encode(&AppliedV1 { last: Some(ID), roles_id: None, roles, proposed: [(NodeId(1), 5)].into() }),
                vec![1, 1, 2, 3, 0xc8, 1, 0, 2, 1, 1, 2, 1, 2, 1, 1, 1, 1, 5],
            ),
        ];
        for (encoded, golden) in cases {
            assert_eq!(encoded, golden);
        }
        assert_eq!(decode::<VoteV1>(&[2, 1, 2, 1]), None);
        assert_eq!(decode::<VoteV1>(&[1, 1, 2]), None);
    }

    #[test]
    fn openraft_has_the_same() {
        let roles =
            RolesV1 { voters: vec![vec![NodeId(1)], vec![NodeId(1), NodeId(2)]], nodes: [1, 2, 3].map(NodeId).into() };
        for payload in [PayloadV1::Blank, PayloadV1::Proposal(vec![1]), PayloadV1::Roles(roles)] {
            let entry = EntryV1 { id: ID, payload };
            assert_eq!(EntryV1::from(Entry::<Types>::from(entry.clone())), entry);
        }
        for is_won in [false, true] {
            let vote = VoteV1 { term: 4, leader: NodeId(5), is_won };
            assert_eq!(VoteV1::from(RaftVote::from(vote)), vote);
        }
    }
}
