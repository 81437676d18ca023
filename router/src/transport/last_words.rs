//! What a connection is closed with reaches the other side though its window is full.
//!
//! quinn-proto 0.11.19 holds CONNECTION_CLOSE back while the congestion window is full and other frames wait, and once a
//! connection is closed nothing empties the window: the other side would learn by its idle time that the connection is
//! gone, and never why. RFC 9002 section 7 bounds packets that are in flight; one that closes never is. So the window is
//! told before, and opens.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn::{Connection, VarInt};
use quinn_proto::RttEstimator;

/// Any window, which opens once the connection is to be closed.
struct Parting {
    inner: Box<dyn Controller>,
    closing: Arc<AtomicBool>,
}

/// Makes such windows of what another one makes.
struct Partings(Arc<dyn ControllerFactory + Send + Sync>);

/// Windows that [`close`] opens.
pub(super) fn parting(
    inner: impl ControllerFactory + Send + Sync + 'static,
) -> Arc<dyn ControllerFactory + Send + Sync> {
    Arc::new(Partings(Arc::new(inner)))
}

/// Closes a connection with a code and a text, which are sent at once.
pub fn close(connection: &Connection, code: u32, text: &[u8]) {
    if let Ok(window) = connection.congestion_state().into_any().downcast::<Parting>() {
        window.closing.store(true, Ordering::Relaxed);
    }
    connection.close(VarInt::from_u32(code), text);
}

impl ControllerFactory for Partings {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        Box::new(Parting { inner: Arc::clone(&self.0).build(now, current_mtu), closing: Arc::default() })
    }
}

impl Controller for Parting {
    fn on_sent(&mut self, now: Instant, bytes: u64, last_packet_number: u64) {
        self.inner.on_sent(now, bytes, last_packet_number);
    }

    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, rtt: &RttEstimator) {
        self.inner.on_ack(now, sent, bytes, app_limited, rtt);
    }

    fn on_end_acks(&mut self, now: Instant, in_flight: u64, app_limited: bool, largest: Option<u64>) {
        self.inner.on_end_acks(now, in_flight, app_limited, largest);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.inner.on_congestion_event(now, sent, persistent, lost_bytes);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.inner.on_mtu_update(new_mtu);
    }

    fn window(&self) -> u64 {
        // More than is ever in flight; pacing ends there as well.
        if self.closing.load(Ordering::Relaxed) { u64::MAX >> 1 } else { self.inner.window() }
    }

    fn metrics(&self) -> ControllerMetrics {
        self.inner.metrics()
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(Self { inner: self.inner.clone_box(), closing: Arc::clone(&self.closing) })
    }

    fn initial_window(&self) -> u64 {
        self.inner.initial_window()
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
