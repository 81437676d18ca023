//! What windows over QUIC share, whoever decides how large they are: the way they are told of a path, and the shortest round trip
//! of late.

mod shortest;

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

pub use shortest::Shortest;

/// Decides how many bytes may be under way on one path (pure). Times are counted from the connection's beginning.
pub trait Window: Clone + Send + Sync + 'static {
    /// Bytes that may be under way.
    fn bytes(&self) -> u64;

    /// Packets have so many bytes from now on.
    fn set_packet_bytes(&mut self, packet_bytes: u64);

    /// A packet was acknowledged that was sent at `sent`. `idle`: nothing waited to be sent, so that a larger window would change
    /// nothing.
    fn acked(&mut self, now: Duration, sent: Duration, bytes: u64, idle: bool);

    /// All packets of one acknowledgement were told of.
    fn acked_all(&mut self, _now: Duration, _idle: bool) {}

    /// So many bytes were lost, the newest of them sent at `sent`. `long`: so many that the path was gone for a while.
    fn lost(&mut self, now: Duration, sent: Duration, bytes: u64, long: bool);
}

/// Makes a window for each path: of the function, which is told how many bytes a packet has.
pub struct Paths<F>(pub F);

/// A window as quinn's congestion controller.
#[derive(Clone)]
struct Path<W> {
    begun: Instant,
    window: W,
    first: u64,
}

impl<W: Window, F: Fn(u64) -> W + Send + Sync> ControllerFactory for Paths<F> {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let window = (self.0)(u64::from(current_mtu));
        Box::new(Path { begun: now, first: window.bytes(), window })
    }
}

impl<W> Path<W> {
    fn since(&self, when: Instant) -> Duration {
        when.saturating_duration_since(self.begun)
    }
}

impl<W: Window> Controller for Path<W> {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _: &RttEstimator) {
        self.window.acked(self.since(now), self.since(sent), bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, _: u64, app_limited: bool, _: Option<u64>) {
        self.window.acked_all(self.since(now), app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, lost_bytes: u64) {
        self.window.lost(self.since(now), self.since(sent), lost_bytes, persistent);
    }

    fn on_mtu_update(&mut self, new_mtu: u16) {
        self.window.set_packet_bytes(u64::from(new_mtu));
    }

    fn window(&self) -> u64 {
        self.window.bytes()
    }

    fn metrics(&self) -> ControllerMetrics {
        let mut metrics = ControllerMetrics::default();
        metrics.congestion_window = self.window.bytes();
        metrics
    }

    fn clone_box(&self) -> Box<dyn Controller> {
        Box::new(self.clone())
    }

    fn initial_window(&self) -> u64 {
        self.first
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any> {
        self
    }
}
