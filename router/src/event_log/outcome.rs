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
pub struct Ticket(pub u64);

/// A commit that did not become durable; nothing of it was stored.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CommitFailed {
    /// The disk's reserve or the store's byte bound would have been passed.
    #[error("the store is full: {0}")]
    Full(String),
    /// The store failed and takes nothing until the node is started again.
    #[error("the store failed: {0}")]
    Failed(String),
    /// The store does not take this one commit; it goes on with the next.
    #[error("the commit was refused: {0}")]
    Refused(String),
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
            failed.push_back((ticket, why));
            self.last_failed.store(ticket.0, Ordering::Release);
        }
        self.settled.store(ticket.0, Ordering::Release);
        drop(self.gate.lock());
        self.changed.notify_all();
        self.notify.notify_waiters();
    }

    /// `None` while the commit is under way.
    pub(super) fn of(&self, ticket: Ticket) -> Option<Result<(), CommitFailed>> {
        if ticket.0 > self.settled.load(Ordering::Acquire) {
            return None;
        }
        if self.last_failed.load(Ordering::Acquire) < ticket.0 {
            return Some(Ok(()));
        }
        let failed = self.failed.lock();
        // What is older than all that is remembered may have been refused as well: rather no than a wrong yes.
        let forgotten = failed.len() == FAILED_MAX && failed.front().is_some_and(|(oldest, _)| ticket < *oldest);
        let at = failed.binary_search_by_key(&ticket, |(failed, _)| *failed).ok();
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
        outcomes.settle(Ticket(1), Ok(()));
        assert_eq!(outcomes.of(Ticket(1)), Some(Ok(())));
        for number in 2..2 * failed_max {
            outcomes.settle(Ticket(number), Err(CommitFailed::Full(number.to_string())));
        }
        outcomes.settle(Ticket(2 * failed_max), Ok(()));
        for number in 2..2 * failed_max {
            assert!(matches!(outcomes.of(Ticket(number)), Some(Err(_))), "{number}");
        }
        assert_eq!(outcomes.of(Ticket(2 * failed_max)), Some(Ok(())));
        assert_eq!(outcomes.of(Ticket(2 * failed_max + 1)), None);
    }
}
