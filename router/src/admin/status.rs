//! `/v1/status`: the node at a glance.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::blocking::blocking;
use super::body::Answer;
use super::metrics::resident_bytes;
use super::{ApiError, Readiness};
use crate::event_log::EventLog;
use crate::sessions::Sessions;

/// What is fixed for a node's run.
#[derive(Debug, Clone)]
pub struct Identity {
    /// What people call it.
    pub name: String,
    /// Where MQTT listens.
    pub mqtt: std::net::SocketAddr,
    /// The doors with a certificate; set when they are open.
    pub secure: Arc<OnceLock<SecureDoors>>,
}

/// The doors with a certificate, as far as there are any.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecureDoors {
    /// Where MQTT over TLS listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mqtts: Option<std::net::SocketAddr>,
    /// Where QUIC listens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quic: Option<std::net::SocketAddr>,
    /// The certificate's SHA-256, for clients to pin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
}

/// The node at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// What people call it.
    pub name: String,
    /// The program's version.
    pub version: String,
    /// `starting`, `ready` or `stopping`.
    pub state: String,
    /// What keeps it from being ready, one line each.
    pub problems: Vec<String>,
    /// Seconds since it started.
    pub uptime_s: u64,
    /// Where MQTT listens.
    pub mqtt: String,
    /// The doors with a certificate.
    #[serde(flatten)]
    pub secure: SecureDoors,
    /// Clients that are connected.
    pub sessions: u64,
    /// Topics, the node's own among them.
    pub topics: u64,
    /// Bytes of memory that it holds.
    pub memory_bytes: u64,
    /// The store.
    pub store: StoreStatus,
}

/// The store at a glance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoreStatus {
    /// Its life.
    pub origin: String,
    /// The newest durable commit.
    pub commit: u64,
    /// Bytes that it takes on disk.
    pub bytes: u64,
    /// Bytes of the batches in it.
    pub batch_bytes: u64,
    /// Free bytes of its disk; null where that has no bound.
    pub free_bytes: Option<u64>,
    /// What people should look at; null where there is nothing.
    pub alarm: Option<String>,
}

/// The call.
pub fn routes(identity: Identity, log: Arc<EventLog>, sessions: Arc<Sessions>, readiness: Arc<Readiness>) -> Router {
    let status = move || {
        let (identity, log) = (identity.clone(), Arc::clone(&log));
        let (sessions, readiness) = (Arc::clone(&sessions), Arc::clone(&readiness));
        async move {
            let status = blocking(move || Ok(status(&identity, &log, &sessions, &readiness)));
            Ok::<_, ApiError>(Answer(status.await?))
        }
    };
    Router::new().route("/status", get(status))
}

fn status(identity: &Identity, log: &EventLog, sessions: &Sessions, readiness: &Readiness) -> Status {
    let store = log.store();
    let now = readiness.now();
    Status {
        name: identity.name.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: now.state.word().to_owned(),
        problems: now.problems.iter().map(|problem| format!("{}: {}", problem.part, problem.reason)).collect(),
        uptime_s: log.clock().monotonic().as_secs(),
        mqtt: identity.mqtt.to_string(),
        secure: identity.secure.get().cloned().unwrap_or_default(),
        sessions: sessions.live() as u64,
        topics: log.topics().len() as u64,
        memory_bytes: resident_bytes().unwrap_or(0),
        store: StoreStatus {
            origin: store.origin().to_string(),
            commit: store.synced_commit().0,
            bytes: store.size_bytes(),
            batch_bytes: store.batch_bytes(),
            free_bytes: store.free_bytes(),
            alarm: store.alarm().or_else(|| store.failure().map(|failure| failure.to_string())),
        },
    }
}
