//! Sees to it that those vote who shall: the leader takes one step after another.

use std::collections::BTreeSet;

use openraft::ChangeMembers;

use super::{Consensus, Raft};
use crate::catalog::roles::{self, Step, View};
use crate::transport::NodeId;

impl Consensus {
    /// Follows members and roles until openraft ends; why it has.
    pub(super) async fn reconcile(&self, raft: &Raft) -> String {
        let (mut server, mut members) = (raft.server_metrics(), self.book.members());
        loop {
            self.rest(raft);
            let pending = self.take_step(raft).await;
            // A node that catches up tells nobody: while one is waited for, it is looked at again.
            let wait = async {
                match pending {
                    true => tokio::time::sleep(self.book.timing.beat).await,
                    false => std::future::pending().await,
                }
            };
            let ended = tokio::select! {
                changed = server.changed() => changed.is_err(),
                changed = members.changed() => changed.is_err(),
                () = wait => false,
            };
            if ended {
                let running = raft.metrics().borrow().running_state.clone();
                return running.err().map_or_else(|| "it ended".to_owned(), |fatal| fatal.to_string());
            }
        }
    }

    /// A node alone that leads needs no clock: nobody hears it, and nobody could lead in its place.
    fn rest(&self, raft: &Raft) {
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        let is_alone = metrics.membership_config.nodes().count() == 1;
        raft.runtime_config().tick(!is_alone || metrics.current_leader != Some(self.book.me));
    }

    /// Takes the next step, where this node leads. Whether more is to be done.
    async fn take_step(&self, raft: &Raft) -> bool {
        let Some((step, is_more)) = self.next_step(raft) else { return false };
        let Some(step) = step else { return is_more };
        tracing::info!(?step, "the roles in the site change");
        let taken = tokio::time::timeout(self.book.timing.role_wait(), change(raft, step.clone())).await;
        if let Err(why) = taken.unwrap_or_else(|_| Err("it takes too long".to_owned())) {
            tracing::warn!(?step, why, "the roles in the site could not be changed; it is tried again");
        }
        true
    }

    /// The next step, and whether one is waited for that cannot be taken yet. `None`: this node does not lead.
    fn next_step(&self, raft: &Raft) -> Option<(Option<Step>, bool)> {
        let metrics = raft.metrics();
        let metrics = metrics.borrow();
        let replication = metrics.replication.as_ref().filter(|_| metrics.current_leader == Some(self.book.me))?;
        let membership = metrics.membership_config.membership();
        let (voters, nodes) = (membership.get_joint_config(), membership.nodes().map(|(node, ())| *node));
        let nodes: BTreeSet<NodeId> = nodes.collect();
        let newest = metrics.membership_config.log_id();
        let has_newest = |node: &&NodeId| replication.get(*node).is_some_and(|matched| matched >= newest);
        let caught_up: BTreeSet<NodeId> = nodes.iter().filter(has_newest).copied().collect();
        let members = self.book.members();
        let members = members.borrow();
        let leader = self.book.me;
        let view = View { members: &members, leader, voters, nodes: &nodes, caught_up: &caught_up };
        Some((roles::next_step(&view), roles::is_waited_for(&view)))
    }
}

async fn change(raft: &Raft, step: Step) -> Result<(), String> {
    let changed = match step {
        Step::Learn(node) => raft.add_learner(node, (), false).await,
        Step::Vote(voters) => raft.change_membership(ChangeMembers::ReplaceAllVoters(voters), true).await,
        Step::Forget(node) => raft.change_membership(ChangeMembers::RemoveNodes([node].into()), true).await,
    };
    changed.map(drop).map_err(|error| error.to_string())
}
