//! How the agreement stands, for people.

use std::collections::BTreeSet;
use std::time::Instant;

use super::log_store::newest_roles;
use super::{Consensus, Slot};
use crate::catalog::roles;
use crate::transport::NodeId;

/// How the agreement stands, as this node sees it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ConsensusStatus {
    /// This node.
    pub node: NodeId,
    /// The term: rises with each election.
    pub term: u64,
    /// Who leads, as far as this node knows.
    pub leader: Option<NodeId>,
    /// The number of the last change that is true here.
    pub last_applied: u64,
    /// The number of the last change in this node's log.
    pub last_log: u64,
    /// Who votes.
    pub voters: Vec<NodeId>,
    /// Who follows without a vote.
    pub learners: Vec<NodeId>,
    /// How far the others are; known by the leader alone.
    pub followers: Vec<Follower>,
    /// The voters that were not heard lately, where the others are no majority.
    pub missing: Vec<NodeId>,
    /// Why this node takes no part any more.
    pub stopped: Option<String>,
}

/// How far another node is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follower {
    /// The node.
    pub node: NodeId,
    /// The number of changes that it does not have yet; `None` where nothing is known.
    pub lag: Option<u64>,
    /// Whether it was heard lately.
    pub is_heard: bool,
}

impl Consensus {
    /// How the agreement stands.
    pub(in crate::catalog) fn status(&self) -> ConsensusStatus {
        let node = self.book.me;
        let last_applied = self.book.applied_index();
        let raft = match &*self.slot.borrow() {
            Slot::Starting => return ConsensusStatus { node, last_applied, ..ConsensusStatus::default() },
            Slot::Down(why) => {
                let stopped = Some(why.clone());
                return ConsensusStatus { node, last_applied, stopped, ..ConsensusStatus::default() };
            }
            Slot::Running(raft) => raft.clone(),
        };
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        let membership = metrics.membership_config.membership();
        let voters: BTreeSet<NodeId> = membership.voter_ids().collect();
        let heard = self.book.heard.lately(self.book.timing.fresh());
        let last_log = metrics.last_log_index.unwrap_or(0);
        let others = metrics.replication.iter().flatten().filter(|(other, _)| **other != node);
        let follower = |(node, matched): (&NodeId, &Option<openraft::LogId<NodeId>>)| Follower {
            node: *node,
            lag: matched.map(|matched| last_log.saturating_sub(matched.index)),
            is_heard: heard.contains(node),
        };
        ConsensusStatus {
            node,
            term: metrics.current_term,
            leader: metrics.current_leader,
            last_applied,
            last_log,
            voters: voters.iter().copied().collect(),
            learners: membership.learner_ids().collect(),
            followers: others.map(follower).collect(),
            missing: self.book.missing(membership.get_joint_config()).unwrap_or_default(),
            stopped: None,
        }
    }

    /// Whether this node knows what is agreed on now: as one that leads and is followed by a majority, or that has heard a leader lately and
    /// has all that was agreed on while it had not.
    pub(in crate::catalog) fn is_in_touch(&self) -> bool {
        let (book, fresh) = (&self.book, self.book.timing.fresh());
        let applied = book.applied();
        let voters = applied.roles.sets();
        if roles::is_majority(&voters, |node| node == book.me) {
            return true;
        }
        let Some(raft) = self.raft() else { return false };
        let (leader, term) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            (metrics.current_leader, metrics.current_term)
        };
        if leader != Some(book.me) {
            return book.touch.lock().follows(applied.index(), fresh, Instant::now());
        }
        let followed = book.followed.lately(fresh);
        let is_followed = roles::is_majority(&voters, |node| node == book.me || followed.contains(&node));
        // What is of its own term stands behind all that was agreed on before.
        is_followed && applied.last.is_some_and(|last| last.term == term)
    }

    /// Whether this node alone votes: as its log says, which after a start may say more than the state does yet.
    pub(in crate::catalog) fn is_only_voter(&self) -> bool {
        newest_roles(&self.book.log).is_ok_and(|roles| roles.is_alone(self.book.me))
    }

    /// The number of the last change in this node's log.
    pub(in crate::catalog) fn last_log(&self) -> u64 {
        self.book.ends.lock().last.map_or(0, |last| last.index)
    }

    /// Whether this node hears a leader, or is one that a majority follows.
    pub(super) fn is_led(&self) -> bool {
        let (book, within) = (&self.book, self.book.timing.led());
        if self.leader() != Some(book.me) {
            return book.touch.lock().is_led(within, Instant::now());
        }
        let followed = book.followed.lately(within);
        roles::is_majority(&book.applied().roles.sets(), |node| node == book.me || followed.contains(&node))
    }

    /// Who leads, as far as this node knows.
    pub(in crate::catalog) fn leader(&self) -> Option<NodeId> {
        self.raft().and_then(|raft| raft.metrics().borrow().current_leader)
    }
}
