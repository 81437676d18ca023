//! What became of each commit: pending, durable, or refused with its reason.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};
use tokio::sync::Notify;

/// Refused commits that are remembered; one that asks later than this is told the newest reason.
const FAILED_MAX: usize = 1_024;

/// Names the commit that an append went into, in this run of the process. Rises by one a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ticket {
    number: u64,
    /// Whether what it stands for is acknowledged only when enough nodes have it.
    awaits_quorum: bool,
    /// Whether it may have been stored by an earlier life, which enough nodes must have as well.
    awaits_lives: bool,
}

impl Ticket {
    /// The ticket of the commit `number` of this run, which waits for this node alone.
    pub(crate) const fn of(number: u64) -> Self {
        Self { number, awaits_quorum: false, awaits_lives: false }
    }

    pub(super) const fn with_quorum(self, awaits_quorum: bool) -> Self {
        Self { awaits_quorum, ..self }
    }

    pub(super) const fn with_lives(self, awaits_lives: bool) -> Self {
        Self { awaits_lives, ..self }
    }

    /// Whether it waits for earlier lives of this node as well, which may take longer than any commit that is newer.
    pub const fn awaits_lives(self) -> bool {
        self.awaits_lives
    }

    pub(super) const fn number(self) -> u64 {
        self.number
    }

    /// Whether what it stands for is acknowledged only when enough nodes have it.
    pub const fn awaits_quorum(self) -> bool {
        self.awaits_quorum
    }

    /// Whether both name the same commit.
    pub fn is_same_commit(self, other: Self) -> bool {
        self.number == other.number
    }
}

/// A commit that is not known to be durable; of one that was refused, nothing was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitFailed {
    /// The disk's reserve or the store's byte bound would have been passed.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store failed and takes nothing until the node is started again, which it then is found to have or not.
    #[error("the store failed, and it is not known whether this was stored until the node was started again: {0}")]
    Failed(String),
    /// The store does not take this one commit; it goes on with the next.
    #[error("the commit was refused: {0}")]
    Refused(String),
    /// It is stored here, and enough other nodes do not have it in time; they may yet.
    #[error("stored here alone for now: {0}; look at `edgeway node status`")]
    Unreplicated(String),
}

/// The book of outcomes. Written by the committer alone.
#[derive(Debug)]
pub(super) struct Outcomes {
    settled: AtomicU64,
    last_failed: AtomicU64,
    failed: Mutex<VecDeque<(Ticket, CommitFailed)>>,
    changed: Condvar,
    gate: Mutex<()>,
    notify: Notify,
}

impl Outcomes {
    pub(super) fn new() -> Self {
        Self {
            settled: AtomicU64::new(0),
            last_failed: AtomicU64::new(0),
            failed: Mutex::default(),
            changed: Condvar::new(),
            gate: Mutex::new(()),
            notify: Notify::new(),
        }
    }

    pub(super) fn settle(&self, ticket: Ticket, outcome: Result<(), CommitFailed>) {
        if let Err(why) = outcome {
            let mut failed = self.failed.lock();
            if failed.len() == FAILED_MAX {
                failed.pop_front();
            }
            failed.push_back((Ticket::of(ticket.number), why));
            self.last_failed.store(ticket.number, Ordering::Release);
        }
        self.settled.store(ticket.number, Ordering::Release);
        drop(self.gate.lock());
        self.changed.notify_all();
        self.notify.notify_waiters();
    }

    /// `None` while the commit is under way.
    pub(super) fn of(&self, ticket: Ticket) -> Option<Result<(), CommitFailed>> {
        if ticket.number > self.settled.load(Ordering::Acquire) {
            return None;
        }
        if self.last_failed.load(Ordering::Acquire) < ticket.number {
            return Some(Ok(()));
        }
        let failed = self.failed.lock();
        // What is older than all that is remembered may have been refused as well: rather no than a wrong yes.
        let number = ticket.number;
        let forgotten = failed.len() == FAILED_MAX && failed.front().is_some_and(|(oldest, _)| number < oldest.number);
        let at = failed.binary_search_by_key(&number, |(failed, _)| failed.number).ok();
        let found = if forgotten { failed.back() } else { at.and_then(|at| failed.get(at)) };
        Some(found.map_or(Ok(()), |(_, why)| Err(why.clone())))
    }

    pub(super) async fn wait(&self, ticket: Ticket) -> Result<(), CommitFailed> {
        loop {
            let changed = self.notify.notified();
            if let Some(outcome) = self.of(ticket) {
                return outcome;
            }
            changed.await;
        }
    }

    pub(super) fn wait_blocking(&self, ticket: Ticket) -> Result<(), CommitFailed> {
        let mut gate = self.gate.lock();
        loop {
            if let Some(outcome) = self.of(ticket) {
                return outcome;
            }
            self.changed.wait(&mut gate);
        }
    }

    /// Blocks until a commit is settled or `timeout` has passed.
    pub(super) fn wait_change(&self, timeout: Duration, ready: impl Fn() -> bool) {
        let until = Instant::now() + timeout;
        let mut gate = self.gate.lock();
        while !ready() && !self.changed.wait_until(&mut gate, until).timed_out() {}
    }
}

impl super::EventLog {
    /// What became of a commit; `None` while it is under way.
    pub fn outcome(&self, ticket: Ticket) -> Option<Result<(), CommitFailed>> {
        self.outcomes.of(ticket)
    }

    /// Waits until the commit is durable.
    ///
    /// # Errors
    /// When it was refused; nothing of it was stored.
    pub async fn durable(&self, ticket: Ticket) -> Result<(), CommitFailed> {
        self.outcomes.wait(ticket).await
    }

    /// As [`Self::durable`], for a thread that is not a task.
    ///
    /// # Errors
    /// When it was refused; nothing of it was stored.
    pub fn durable_blocking(&self, ticket: Ticket) -> Result<(), CommitFailed> {
        self.outcomes.wait_blocking(ticket)
    }

    /// Blocks a thread until a commit after number `last` is visible, or `timeout` has passed;
    /// returns the newest number.
    pub fn wait_visible_blocking(&self, last: u64, timeout: Duration) -> u64 {
        self.outcomes.wait_change(timeout, || *self.visible.borrow() > last);
        *self.visible.borrow()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_never_forgotten_into_a_success() {
        let outcomes = Outcomes::new();
        let failed_max = FAILED_MAX as u64;
        outcomes.settle(Ticket::of(1), Ok(()));
        assert_eq!(outcomes.of(Ticket::of(1)), Some(Ok(())));
        for number in 2..2 * failed_max {
            outcomes.settle(Ticket::of(number), Err(CommitFailed::Full(number.to_string())));
        }
        outcomes.settle(Ticket::of(2 * failed_max), Ok(()));
        for number in 2..2 * failed_max {
            assert!(matches!(outcomes.of(Ticket::of(number)), Some(Err(_))), "{number}");
        }
        assert_eq!(outcomes.of(Ticket::of(2 * failed_max)), Some(Ok(())));
        assert_eq!(outcomes.of(Ticket::of(2 * failed_max + 1)), None);
    }
}
