//! The window as quinn's congestion controller.

use std::any::Any;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::congestion::{Controller, ControllerFactory, ControllerMetrics};
use quinn_proto::RttEstimator;

use super::window::Window;

/// Makes a controller for each path.
pub(super) struct ShortQueue;

#[derive(Clone)]
struct Path {
    begun: Instant,
    window: Window,
    first: u64,
}

impl ControllerFactory for ShortQueue {
    fn build(self: Arc<Self>, now: Instant, current_mtu: u16) -> Box<dyn Controller> {
        let window = Window::new(Duration::ZERO, u64::from(current_mtu));
        Box::new(Path { begun: now, first: window.bytes(), window })
    }
}

impl Path {
    fn since(&self, when: Instant) -> Duration {
        when.saturating_duration_since(self.begun)
    }
}

impl Controller for Path {
    fn on_ack(&mut self, _: Instant, sent: Instant, bytes: u64, app_limited: bool, _: &RttEstimator) {
        self.window.acked(self.since(sent), bytes, app_limited);
    }

    fn on_end_acks(&mut self, now: Instant, _: u64, app_limited: bool, _: Option<u64>) {
        self.window.acked_all(self.since(now), app_limited);
    }

    fn on_congestion_event(&mut self, now: Instant, sent: Instant, persistent: bool, _: u64) {
        self.window.lost(self.since(now), self.since(sent), persistent);
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
