//! What a guard did so far, for the metrics and `plugin list`.

use std::sync::atomic::AtomicU64;

use serde::Serialize;

use crate::plugin_host::counters::read;

/// Counters of one guard since the node started. Relaxed: each stands alone.
#[derive(Debug, Default)]
pub struct GuardCounters {
    /// Commands it was asked about.
    pub asked: AtomicU64,
    /// Commands it let go as they were.
    pub allowed: AtomicU64,
    /// Commands it forbade.
    pub denied: AtomicU64,
    /// Commands it let go with another payload.
    pub rewritten: AtomicU64,
    /// Commands it did not answer in its bounds.
    pub failed: AtomicU64,
    /// Of those that it forbade or did not answer: the urgent ones, which went all the same.
    pub overridden: AtomicU64,
    /// Time from question to answer, waiting included, in nanoseconds.
    pub busy_ns: AtomicU64,
}

/// The same as plain numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct GuardFigures {
    /// Commands it was asked about since the node started.
    pub asked: u64,
    /// Commands it let go as they were.
    pub allowed: u64,
    /// Commands it forbade.
    pub denied: u64,
    /// Commands it let go with another payload.
    pub rewritten: u64,
    /// Commands it did not answer in its bounds.
    pub failed: u64,
    /// Of those that it forbade or did not answer: the urgent ones, which went all the same.
    pub overridden: u64,
}

impl GuardCounters {
    /// What stands on the counters.
    #[must_use]
    pub fn figures(&self) -> GuardFigures {
        GuardFigures {
            asked: read(&self.asked),
            allowed: read(&self.allowed),
            denied: read(&self.denied),
            rewritten: read(&self.rewritten),
            failed: read(&self.failed),
            overridden: read(&self.overridden),
        }
    }
}
