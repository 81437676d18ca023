//! Brings a proposal of this node to the leader.

use tokio::sync::oneshot;
use tokio::time::Instant;

use super::accept::Accepted;
use super::book::Verdict;
use super::machine::judge;
use super::network::AskError;
use super::proposal::{Proposal, encode_change, terms};
use super::wire::{About, Answer, No, Proposed};
use super::{Consensus, Slot};
use crate::catalog::change::{Change, Terms};
use crate::catalog::member::MemberRefusal;
use crate::catalog::refusal::Refusal;
use crate::event_log::AppendError;
use crate::transport::NodeId;

/// What became of a proposal that was handed over once.
#[derive(Debug)]
pub(in crate::catalog) enum Handed {
    /// It was judged, and the verdict is on its way to this node.
    Done,
    /// It was refused, and is in no log.
    Refused(Refusal),
    /// Nothing was begun: no leader is known, or it has changed.
    Again,
    /// Nothing was begun: these voters are not heard.
    NoMajority(Vec<NodeId>),
    /// Nothing was begun: a higher number was judged already, unless it was this very proposal.
    Stale(u64),
    /// It is not known what becomes of it; it may be handed over again.
    Lost,
}

impl Consensus {
    /// Hands this node's proposal to whoever leads now, once.
    pub(in crate::catalog) async fn hand_over(
        &self,
        number: u64,
        who: &str,
        change: &Change,
        until: Instant,
    ) -> Handed {
        let leader = match &*self.slot.borrow() {
            Slot::Starting => match self.book.stalled() {
                Some(full) => return Handed::Refused(full.into()),
                None => None,
            },
            Slot::Running(raft) => raft.metrics().borrow().current_leader,
            Slot::Down(why) => return Handed::Refused(Refusal::Stopped(why.clone())),
        };
        match leader {
            None => Handed::Again,
            Some(leader) if leader == self.book.me => {
                let accepted = self.accept(leader, number, who, change.clone(), until).await;
                match accepted {
                    Accepted::Done => Handed::Done,
                    Accepted::Refused { refusal, .. } => Handed::Refused(refusal),
                    Accepted::Log(error) => Handed::Refused(error.into()),
                    Accepted::NotLeader(_) | Accepted::Down => Handed::Again,
                    Accepted::NoMajority(missing) => Handed::NoMajority(missing),
                    Accepted::Stale(newest) => Handed::Stale(newest),
                    Accepted::Lost => Handed::Lost,
                }
            }
            // What is said to one who is silent may be heard or not; better it is not said.
            Some(leader) if !self.book.heard.lately(self.book.timing.fresh()).contains(&leader) => Handed::Again,
            Some(leader) => self.send(leader, number, who, change, until).await,
        }
    }

    async fn send(&self, leader: NodeId, number: u64, who: &str, change: &Change, until: Instant) -> Handed {
        // What cannot be stored here could not become true here.
        let checked = self.book.log.lock().check(0);
        if let Some(error) = checked.err().or_else(|| self.book.stalled().map(AppendError::Refused)) {
            return Handed::Refused(error.into());
        }
        let patience = until.saturating_duration_since(Instant::now());
        let patience_ms = u32::try_from(patience.as_millis()).unwrap_or(u32::MAX);
        let about = About::Propose { number, who: who.to_owned(), change: encode_change(change), patience_ms };
        match self.network.ask(leader, about, patience).await {
            Ok(Answer::Proposed(proposed)) => self.proposed(proposed, number, who, change, until).await,
            Err(AskError::No(No::Removed)) => Handed::Refused(MemberRefusal::Removed(self.book.me).into()),
            Err(AskError::No(_)) => Handed::Again,
            Err(AskError::Way(no_answer)) if !no_answer.may_be_asked => Handed::Again,
            Ok(_) | Err(_) => Handed::Lost,
        }
    }

    async fn proposed(&self, proposed: Proposed, number: u64, who: &str, change: &Change, until: Instant) -> Handed {
        match proposed {
            Proposed::Done => Handed::Done,
            Proposed::NotLeader(_) => Handed::Again,
            Proposed::NoMajority(missing) => Handed::NoMajority(missing),
            Proposed::Stale(newest) => Handed::Stale(newest),
            Proposed::Lost => Handed::Lost,
            Proposed::Refused { index, at_ms, devices_max, bytes_max } => {
                if !self.wait_applied(index, until).await {
                    return Handed::Again;
                }
                // The same state and the same terms give the same refusal here.
                let terms: Terms = terms(at_ms, index.saturating_add(1), devices_max, bytes_max);
                let (from, change) = (self.book.me, change.clone().settled(&terms));
                let proposal = Proposal { from, number, who: who.to_owned(), terms, change };
                match self.book.ask(|state| judge(state, &proposal, &terms)) {
                    Err(refusal) => Handed::Refused(refusal),
                    Ok(_) => Handed::Again,
                }
            }
        }
    }

    /// Waits until the state has come to a change; `false`: not in time.
    async fn wait_applied(&self, index: u64, until: Instant) -> bool {
        let mut changed = self.book.changed();
        let come = changed.wait_for(|applied| *applied >= index);
        tokio::time::timeout_at(until, come).await.is_ok_and(|come| come.is_ok())
    }

    /// Waits until another one leads, or a little while.
    pub(in crate::catalog) async fn pause(&self) {
        let wait = self.book.timing.retry_wait();
        let Some(raft) = self.raft() else {
            let mut slot = self.slot.subscribe();
            let _ = tokio::time::timeout(wait, slot.wait_for(|slot| !matches!(slot, Slot::Starting))).await;
            return;
        };
        let mut leader = raft.server_metrics();
        // What was seen up to now counts as seen: only what comes is worth waking for.
        leader.borrow_and_update();
        let _ = tokio::time::timeout(wait, leader.changed()).await;
    }

    /// Waits for this node's proposal of that number to be judged.
    pub(in crate::catalog) fn expect(&self, number: u64) -> oneshot::Receiver<Verdict> {
        self.book.expect(number)
    }

    /// The number for a new proposal of this node.
    pub(in crate::catalog) fn draw_number(&self) -> u64 {
        self.book.log.clock().next_hybrid().max(self.book.proposed(self.book.me) + 1)
    }

    /// Who votes and was not heard lately, by name; empty where a majority was heard.
    pub(in crate::catalog) fn missing(&self) -> Vec<NodeId> {
        self.book.missing(&self.book.applied().roles.sets()).unwrap_or_default()
    }

    /// What people call these nodes.
    pub(in crate::catalog) fn names(&self, nodes: &[NodeId]) -> Vec<String> {
        nodes.iter().map(|node| self.book.name(*node)).collect()
    }
}
