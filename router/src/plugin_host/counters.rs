//! What a plugin did so far, for the metrics and `plugin list`.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use super::fault::Fault;

/// Counters of one plugin since the node started. Relaxed: each stands alone.
#[derive(Debug, Default)]
pub struct PluginCounters {
    /// Calls of the guest.
    pub calls: AtomicU64,
    /// Events given in calls; those of repeated calls count again.
    pub events: AtomicU64,
    /// Time in calls, in nanoseconds.
    pub busy_ns: AtomicU64,
    /// Calls ended by a trap, the deadline or the memory limit.
    pub traps: AtomicU64,
    /// Calls answered with an error, or with what was not granted.
    pub refusals: AtomicU64,
    /// Events set aside.
    pub dead_letters: AtomicU64,
    /// Events appended (emitted or forwarded).
    pub appended: AtomicU64,
    /// Commands queued.
    pub commands: AtomicU64,
    /// Changes wished of device twins.
    pub wishes: AtomicU64,
    /// Commits of effects.
    pub commits: AtomicU64,
    /// Starts that failed, and commits that could not be stored.
    pub setbacks: AtomicU64,
}

impl PluginCounters {
    /// Counts a call of the guest about some events.
    pub fn timed_call<T>(&self, events: usize, call: impl FnOnce() -> T) -> T {
        let begin = Instant::now();
        let answer = call();
        let ns = u64::try_from(begin.elapsed().as_nanos()).unwrap_or(u64::MAX);
        add(&self.busy_ns, ns);
        add(&self.calls, 1);
        add(&self.events, events as u64);
        answer
    }

    /// Counts a call that did not succeed.
    pub fn count_fault(&self, fault: &Fault) {
        match fault {
            fault if fault.is_trap() => add(&self.traps, 1),
            Fault::Failed(_) | Fault::Denied(_) => add(&self.refusals, 1),
            _ => add(&self.setbacks, 1),
        }
    }
}

/// Adds to a counter.
pub fn add(counter: &AtomicU64, n: u64) {
    counter.fetch_add(n, Ordering::Relaxed);
}

/// Reads a counter.
#[must_use]
pub fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}
