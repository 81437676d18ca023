//! `/v1/status`: the node at a glance.

use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::blocking::blocking;
use super::body::Answer;
use super::metrics::resident_bytes;
use super::{ApiError, Readiness};
use crate::catalog::Catalog;
use crate::commands::Commands;
use crate::event_log::EventLog;
use crate::plugin_host::PluginHost;
use crate::sessions::Sessions;
use crate::twins::Twins;

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
    /// Commands that have not ended.
    #[serde(default)]
    pub commands_pending: u64,
    /// Jobs that run or are paused.
    #[serde(default)]
    pub jobs_open: u64,
    /// Guards that judge commands.
    #[serde(default)]
    pub guards: u64,
    /// Devices that are not yet as their twins say they shall be.
    #[serde(default)]
    pub twins_differing: u64,
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

/// What is looked at.
pub struct Looked {
    /// Name and addresses.
    pub identity: Identity,
    /// The spine.
    pub log: Arc<EventLog>,
    /// Who is connected.
    pub sessions: Arc<Sessions>,
    /// Where the node is in its life.
    pub readiness: Arc<Readiness>,
    /// Commands and jobs.
    pub commands: Arc<Commands>,
    /// Guards.
    pub plugins: Arc<PluginHost>,
    /// Twins.
    pub twins: Arc<Twins>,
    /// How people call the site's nodes.
    pub catalog: Arc<Catalog>,
}

impl Looked {
    /// As the site calls this node; as its configuration does where it has no name there.
    fn name(&self) -> String {
        let origin = self.log.store().origin().0;
        let members = self.catalog.members();
        let own = members.iter().find(|member| member.origin == Some(origin));
        let named = own.filter(|own| own.name != own.node.to_string());
        named.map_or_else(|| self.identity.name.clone(), |own| own.name.clone())
    }
}

/// The call.
pub fn routes(looked: Looked) -> Router {
    let looked = Arc::new(looked);
    let status = move || {
        let looked = Arc::clone(&looked);
        async move { Ok::<_, ApiError>(Answer(blocking(move || Ok(status(&looked))).await?)) }
    };
    Router::new().route("/status", get(status))
}

fn status(looked: &Looked) -> Status {
    let Looked { identity, log, sessions, readiness, commands, plugins, twins, .. } = looked;
    let store = log.store();
    let now = readiness.now();
    let (_, _, differing) = twins.figures();
    Status {
        name: looked.name(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        state: now.state.word().to_owned(),
        problems: now.problems.iter().map(|problem| format!("{}: {}", problem.part, problem.reason)).collect(),
        uptime_s: log.clock().monotonic().as_secs(),
        mqtt: identity.mqtt.to_string(),
        secure: identity.secure.get().cloned().unwrap_or_default(),
        sessions: sessions.live() as u64,
        commands_pending: commands.pending() as u64,
        jobs_open: commands.jobs_open() as u64,
        guards: plugins.guard_counters().len() as u64,
        twins_differing: differing as u64,
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
