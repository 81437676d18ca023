//! Counters of the connections between nodes, from the start of the process on.

use std::sync::atomic::{AtomicU64, Ordering};

/// Counters.
#[derive(Debug, Default)]
pub struct Stats {
    /// Attempts to connect to a node.
    pub dialled: AtomicU64,
    /// Attempts that came to nothing.
    pub dials_failed: AtomicU64,
    /// Nodes that connected here and were taken.
    pub taken: AtomicU64,
    /// Connections that were sent away, of handshakes that failed too.
    pub refused: AtomicU64,
    /// Connections that were lost because nothing was heard.
    pub lost: AtomicU64,
    /// Heartbeats sent.
    pub beats_sent: AtomicU64,
    /// Heartbeats heard.
    pub beats_heard: AtomicU64,
    /// Datagrams that cannot be read, or are of another process than the one that greeted.
    pub beats_refused: AtomicU64,
    /// Asks made.
    pub asked: AtomicU64,
    /// Asks that got no answer.
    pub asks_failed: AtomicU64,
    /// Asks of others that were answered.
    pub answered: AtomicU64,
    /// Streams of others that were refused.
    pub streams_refused: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
