//! What a leader does with a proposal.

use tokio::time::Instant;

use super::Consensus;
use super::machine::judge;
use super::proposal::Proposal;
use crate::catalog::change::{Change, Terms};
use crate::catalog::refusal::Refusal;
use crate::event_log::AppendError;
use crate::transport::NodeId;

/// What became of a proposal that was handed to this node.
#[derive(Debug)]
pub(super) enum Accepted {
    /// It was judged in the order of all changes.
    Done,
    /// As of change `index` it would be refused; nothing was begun.
    Refused { refusal: Refusal, terms: Terms, index: u64 },
    /// This node does not lead; perhaps that one does.
    NotLeader(Option<NodeId>),
    /// These voters are not heard; nothing was begun.
    NoMajority(Vec<NodeId>),
    /// A proposal of this number was judged already, or of a higher one.
    Stale(u64),
    /// This node's log takes nothing now; nothing was begun.
    Log(AppendError),
    /// It is not known what becomes of it.
    Lost,
    /// This node takes no part.
    Down,
}

impl Consensus {
    /// Takes a proposal, where this node leads and hears a majority.
    pub(super) async fn accept(
        &self,
        from: NodeId,
        number: u64,
        who: &str,
        change: Change,
        until: Instant,
    ) -> Accepted {
        let Some(raft) = self.raft() else { return Accepted::Down };
        let (leader, voters) = {
            let metrics = raft.metrics();
            let metrics = metrics.borrow();
            let voters = metrics.membership_config.membership().get_joint_config().clone();
            (metrics.current_leader, voters)
        };
        if leader != Some(self.book.me) {
            return Accepted::NotLeader(leader);
        }
        if let Some(missing) = self.book.missing(&voters) {
            return Accepted::NoMajority(missing);
        }
        let held = self.book.held();
        let newest = held.applied.proposed.get(&from).copied().unwrap_or(0);
        if number <= newest {
            return Accepted::Stale(newest);
        }
        let index = held.applied.index();
        let terms = Terms::new(&self.book.config, self.book.log.clock().wall_ms(), index + 1);
        // What would be refused is not written: it costs the disk of every node.
        let proposal = Proposal { from, number, who: who.to_owned(), terms, change: change.settled(&terms) };
        if let Err(refusal) = judge(&held.state, &proposal, &terms) {
            return Accepted::Refused { refusal, terms, index };
        }
        drop(held);
        let checked = self.book.log.lock().check(0);
        if let Some(error) = checked.err().or_else(|| self.book.stalled().map(AppendError::Refused)) {
            return Accepted::Log(error);
        }
        let written = raft.client_write(proposal.encode());
        match tokio::time::timeout_at(until, written).await {
            Ok(Ok(_)) => Accepted::Done,
            // Also where the consensus ended meanwhile: it may be in a log by then, and on its way to others.
            Ok(Err(_)) | Err(_) => Accepted::Lost,
        }
    }
}
