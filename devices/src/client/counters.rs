//! What a client has done so far.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::outbox::Fate;

/// What a client has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that stood.
    pub connects: u64,
    /// Attempts that failed and connections that broke.
    pub breaks: u64,
    /// Publishes that were acknowledged.
    pub acked: u64,
    /// Publishes that the node refused for good.
    pub refused: u64,
    /// Times that the node took a publish not for now; each was sent again.
    pub postponed: u64,
    /// Publishes dropped for others.
    pub dropped: u64,
    /// Publishes sent again because a connection broke before their acknowledgement.
    pub resent: u64,
    /// Commands taken.
    pub commands: u64,
    /// Commands that came again and were not done again.
    pub repeats: u64,
    /// Answers that found no room.
    pub answers_lost: u64,
    /// Records of the buffer on disk that were damaged and could not be read.
    pub damaged_records: u64,
    /// Bytes of the buffer on disk in which no record could be found, the torn end of a crash not among them.
    pub damaged_bytes: u64,
    /// Times that the buffer on disk could not be synced, or its place not written.
    pub sync_failures: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) connects: AtomicU64,
    pub(super) breaks: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) postponed: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) resent: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) repeats: AtomicU64,
    pub(super) answers_lost: AtomicU64,
    #[cfg(feature = "disk")]
    pub(super) sync_failures: AtomicU64,
}

impl Counts {
    pub(super) fn count(&self, fate: Fate) {
        let count = match fate {
            Fate::Acked { .. } => &self.acked,
            Fate::Refused(_) => &self.refused,
            Fate::Dropped => &self.dropped,
            Fate::Written | Fate::Damaged | Fate::OnDisk | Fate::Stopped => return,
        };
        count.fetch_add(1, Relaxed);
    }

    /// The figures; those of the buffer on disk are `damaged`, records and bytes.
    pub(super) fn read(&self, damaged: (u64, u64)) -> Counters {
        #[cfg(feature = "disk")]
        let sync_failures = self.sync_failures.load(Relaxed);
        #[cfg(not(feature = "disk"))]
        let sync_failures = 0;
        Counters {
            connects: self.connects.load(Relaxed),
            breaks: self.breaks.load(Relaxed),
            acked: self.acked.load(Relaxed),
            refused: self.refused.load(Relaxed),
            postponed: self.postponed.load(Relaxed),
            dropped: self.dropped.load(Relaxed),
            resent: self.resent.load(Relaxed),
            commands: self.commands.load(Relaxed),
            repeats: self.repeats.load(Relaxed),
            answers_lost: self.answers_lost.load(Relaxed),
            damaged_records: damaged.0,
            damaged_bytes: damaged.1,
            sync_failures,
        }
    }
}
