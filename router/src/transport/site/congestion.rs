//! The window of a link as quinn's congestion controller.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::steady::Steady;

/// Makes a controller for each path of a link, with the rate that was set for it.
pub(super) struct AtRate(pub(super) Option<u64>);

#[derive(Clone)]
struct Path {
    begun: Instant,
    window: Steady,
    first: u64,
}

impl ControllerFactory for AtRate {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let window = Steady::new(u64::from(current_mtu), self.0);
        Box::new(Path { begun: now, first: window.bytes(), window })
    }
}

impl Path {
    fn since(&self, when: Instant) -> Duration {
        when.saturating_duration_since(self.begun)
    }
}

impl Controller for Path {
    fn on_ack(&mut self, now: Instant, sent: Instant, bytes: u64, app_limited: bool, _: &RttEstimator) {
        self.window.acked(self.since(now), self.since(sent), bytes, app_limited);
    }

    fn on_congestion_event(&mut self, _: Instant, _: Instant, persistent: bool, lost_bytes: u64) {
        self.window.lost(lost_bytes, persistent);
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
