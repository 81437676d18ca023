//! What the QUIC door counts.

use std::sync::atomic::{AtomicU64, Ordering};

use devices::native::Close;

/// Plain counters, read when somebody asks.
#[derive(Debug, Default)]
pub struct Stats {
    /// Connections whose handshake ended well.
    pub connected: AtomicU64,
    /// Connections that have ended since.
    pub ended: AtomicU64,
    /// Clients that were asked to prove their address first.
    pub retried: AtomicU64,
    /// Clients refused: no place among the connections, or the node stops.
    pub refused_too_many: AtomicU64,
    /// Handshakes that failed: no application protocol in common.
    pub refused_protocol: AtomicU64,
    /// Handshakes that failed for another reason, or took too long.
    pub refused_handshake: AtomicU64,
    /// Connections closed: no stream was opened in time.
    pub refused_no_stream: AtomicU64,
    /// Connections that the node closed, by why: in the order of [`Close::ALL`].
    pub closed: [AtomicU64; Close::ALL.len()],
    /// Lanes that were reset because the store took nothing.
    pub lanes_reset: AtomicU64,
    /// Datagrams that were taken.
    pub datagrams: AtomicU64,
    /// Datagrams that were dropped: malformed, refused, or too much was open.
    pub datagrams_dropped: AtomicU64,
    /// Events not sent to those who want them by `edgeway/1`: longer than a frame may be.
    pub events_left_out: AtomicU64,
}

impl Stats {
    /// Connections that are open.
    pub fn live(&self) -> u64 {
        // In this order the difference is never below zero.
        let ended = self.ended.load(Ordering::Relaxed);
        self.connected.load(Ordering::Relaxed).saturating_sub(ended)
    }
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
