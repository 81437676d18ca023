//! Counters of the room.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use devices::command::Step;

/// Counters of the room.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commands read from the log.
    pub queued: AtomicU64,
    /// Commands handed to a session.
    pub offered: AtomicU64,
    /// Commands that came back unconfirmed.
    pub returned: AtomicU64,
    /// Commands whose receipt was confirmed.
    pub delivered: AtomicU64,
    /// Commands that succeeded.
    pub succeeded: AtomicU64,
    /// Commands that failed or were rejected by the device.
    pub failed: AtomicU64,
    /// Commands that expired, timed out, or whose end is unknown.
    pub expired: AtomicU64,
    /// Commands that the node would not send: no room, or a guard forbade it.
    pub refused: AtomicU64,
    /// Commands that were called off, or whose place a newer one took.
    pub cancelled: AtomicU64,
    /// Commands whose payload a guard has changed.
    pub rewritten: AtomicU64,
    /// Commands that jobs submitted.
    pub job_commands: AtomicU64,
    /// Answers that did not count.
    pub answers_refused: AtomicU64,
    /// Events on the two topics that could not be read.
    pub unreadable: AtomicU64,
    /// Times that the table was rebuilt because a commit failed.
    pub rebuilt: AtomicU64,
}

impl Stats {
    pub(super) fn count(&self, step: &Step) {
        let counter = match step {
            Step::Returned { .. } => &self.returned,
            Step::Delivered { .. } => &self.delivered,
            Step::Succeeded(answer) if !answer.late => &self.succeeded,
            Step::Failed(answer) | Step::Rejected(answer) if !answer.late => &self.failed,
            Step::Expired | Step::Unknown(_) | Step::TimedOut => &self.expired,
            Step::Refused(_) => &self.refused,
            Step::Cancelled(_) | Step::Superseded(_) => &self.cancelled,
            Step::Rewritten(_) => &self.rewritten,
            _ => return,
        };
        counter.fetch_add(1, Relaxed);
    }
}
