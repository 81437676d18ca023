//! `/metrics`: each room's plain counters, read when somebody asks.

mod process;

use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::ApiError;

pub use process::Process;

/// The text format's media type.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What `/metrics` shows: one collector for each room.
pub struct Metrics {
    registry: Registry,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self { registry: Registry::with_prefix("edgeway") };
        metrics.add(Process);
        metrics
    }
}

impl Metrics {
    /// Adds a room's collector. It reads counters and must not block.
    pub fn add(&mut self, collector: impl Collector) {
        self.registry.register_collector(Box::new(collector));
    }

    fn text(&self) -> Response {
        let mut text = String::new();
        match encode(&mut text, &self.registry) {
            Ok(()) => ([(CONTENT_TYPE, TEXT)], text).into_response(),
            Err(error) => ApiError::internal(format!("the metrics cannot be written: {error}")).into_response(),
        }
    }
}

/// `/metrics`.
pub fn routes(metrics: Metrics) -> Router {
    let metrics = Arc::new(metrics);
    Router::new().route("/metrics", get(move || std::future::ready(metrics.text())))
}
