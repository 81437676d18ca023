//! `/metrics`: each room's plain counters, read when somebody asks.

mod lag;
mod links;
mod links_down;
mod log;
mod partitions;
mod process;
mod quic;
mod readers;
mod sheet;
mod site;
mod twins;

use std::fmt;
use std::sync::Arc;

use axum::Router;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;

use super::ApiError;
use super::blocking::blocking;
use crate::commands::Commands;
use crate::directory::Directory;
use crate::event_log::EventLog;
use crate::ingest::Ingest;
use crate::plugin_host::PluginHost;
use crate::sessions::Sessions;
use crate::twins::Twins;

pub use process::resident_bytes;
pub use sheet::Sheet;

/// The text format's media type.
const TEXT: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// What `/metrics` shows; every name begins with `edgeway_`.
pub struct Metrics {
    registry: Registry,
}

/// One room's figures, written down when somebody asks.
struct Room<F> {
    name: &'static str,
    write: F,
}

impl<F> fmt::Debug for Room<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the figures of {}", self.name)
    }
}

impl<F> Collector for Room<F>
where
    F: Fn(&mut Sheet<'_>) -> fmt::Result + Send + Sync + 'static,
{
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        (self.write)(&mut Sheet::new(encoder))
    }
}

impl Default for Metrics {
    fn default() -> Self {
        let mut metrics = Self { registry: Registry::with_prefix("edgeway") };
        metrics.add("process", process::write);
        metrics
    }
}

impl Metrics {
    /// Adds a room's figures. `write` runs on a thread that may read the disk.
    pub fn add(&mut self, name: &'static str, write: impl Fn(&mut Sheet<'_>) -> fmt::Result + Send + Sync + 'static) {
        self.registry.register_collector(Box::new(Room { name, write }));
    }

    /// Adds the event log's figures: durable events, syncs, batches, the store, and how far readers lag.
    pub fn add_log(&mut self, log: Arc<EventLog>) {
        let lagging = Arc::clone(&log);
        self.add("event_log", move |sheet| log::write(&log, sheet));
        self.add("readers", move |sheet| lag::write(&lagging, sheet));
    }

    /// Adds what came in, and what was refused for which reason.
    pub fn add_ingest(&mut self, ingest: Arc<Ingest>) {
        self.add("ingest", move |sheet| log::write_ingest(&ingest, sheet));
    }

    /// Adds who is connected.
    pub fn add_sessions(&mut self, sessions: Arc<Sessions>) {
        self.add("sessions", move |sheet| log::write_sessions(&sessions, sheet));
    }

    /// Adds how many devices there are.
    pub fn add_devices(&mut self, directory: Arc<Directory>) {
        self.add("devices", move |sheet| log::write_devices(&directory, sheet));
    }

    /// Adds the QUIC door's connections.
    pub fn add_quic(&mut self, stats: Arc<crate::quic::Stats>) {
        self.add("quic", move |sheet| quic::write(&stats, sheet));
    }

    /// Adds what plugins did.
    pub fn add_plugins(&mut self, host: Arc<PluginHost>) {
        self.add("plugin_host", move |sheet| readers::write_plugins(&host, sheet));
    }

    /// Adds what became of commands.
    pub fn add_commands(&mut self, commands: Arc<Commands>) {
        self.add("commands", move |sheet| readers::write_commands(&commands, sheet));
    }

    /// Adds device twins.
    pub fn add_twins(&mut self, twins: Arc<Twins>) {
        self.add("twins", move |sheet| twins::write(&twins, sheet));
    }

    /// Adds the site: who is heard, where partitions end, and how far followers are behind.
    pub fn add_site(&mut self, site: crate::admin::site::Site) {
        self.add("site", move |sheet| {
            let view = site.view();
            site::write(&view, sheet)?;
            partitions::write(&view, sheet)
        });
    }

    /// Links between sites.
    pub fn add_links(&mut self, links: crate::admin::links::Links) {
        self.add("links", move |sheet| {
            let links = links.views();
            links::write(&links, sheet)?;
            links_down::write(&links, sheet)
        });
    }

    fn text(&self) -> Result<Response, ApiError> {
        let mut text = String::new();
        encode(&mut text, &self.registry)
            .map_err(|error| ApiError::internal(format!("the metrics cannot be written: {error}")))?;
        Ok(([(CONTENT_TYPE, TEXT)], text).into_response())
    }
}

/// `/metrics`.
pub fn routes(metrics: Metrics) -> Router {
    let metrics = Arc::new(metrics);
    let answer = move || {
        let metrics = Arc::clone(&metrics);
        blocking(move || metrics.text())
    };
    Router::new().route("/metrics", get(answer))
}

#[cfg(test)]
mod tests;
