//! Starts every part in order, and stops them in reverse.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use sled_data::{OpenError as StoreError, Store};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::admin::metrics::Metrics;
use crate::admin::{self, Readiness, Server, State};
use crate::clock::Clock;
use crate::config::Config;
use crate::event_log::{self, EventLog};
use crate::ingest::{self, Ingest};
use crate::mqtt;
use crate::sessions::Sessions;
use crate::subscriptions::FanOut;

/// The folder of the store within the data folder.
const STORE_FOLDER: &str = "store";
/// The file that names the MQTT door's address while the node runs.
const MQTT_ADDRESS_FILE: &str = "mqtt.addr";
/// How often retention looks at the topics.
const RETENTION_EVERY: Duration = Duration::from_secs(10);
/// How long connections have to end when the node stops.
const STOP_WAIT: Duration = Duration::from_secs(5);

/// Why a node did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The data folder cannot be used.
    #[error("the data folder {path}: {error}; check its path, owner and free space")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// The store did not open.
    #[error("the store in {path} does not open: {error}")]
    Store {
        /// The store's folder.
        path: PathBuf,
        /// Why.
        error: StoreError,
    },
    /// The event log did not start.
    #[error(transparent)]
    Log(#[from] event_log::OpenError),
    /// A topic that always exists could not be made.
    #[error(transparent)]
    Topic(#[from] event_log::TopicError),
    /// A routing rule is wrong.
    #[error(transparent)]
    Rule(#[from] ingest::RuleError),
    /// A door's address cannot be listened at.
    #[error("MQTT cannot listen at {address}: {error}; choose another with --mqtt or [listen] mqtt")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The HTTP API did not start.
    #[error(transparent)]
    Admin(#[from] admin::StartError),
}

/// A node that runs.
pub struct Node {
    data: PathBuf,
    log: Arc<EventLog>,
    sessions: Arc<Sessions>,
    readiness: Arc<Readiness>,
    mqtt_addr: SocketAddr,
    server: Server,
    tasks: Vec<JoinHandle<()>>,
}

impl Node {
    /// Starts a node: store, log, sessions, doors. Ready when it returns.
    ///
    /// # Errors
    /// What could not be started, and why.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let data = config.node.data.clone();
        make_folder(&data)?;
        let log = open_log(&data, &config)?;
        let fan_out = Arc::new(FanOut::new(config.subscriptions.clone()));
        log.observe(Arc::clone(&fan_out) as _);
        let sessions = Arc::new(Sessions::open(Arc::clone(&log), fan_out, config.sessions.clone()));
        let ingest = Arc::new(Ingest::new(Arc::clone(&log), &config.routing)?);
        let door = mqtt::task::Door::new(ingest, Arc::clone(&sessions), config.mqtt.clone());
        let (listener, mqtt_addr) = bind(config.listen.mqtt).await?;
        let readiness = Arc::new(Readiness::default());
        let open = admin::health_routes(Arc::clone(&readiness)).merge(admin::metrics::routes(Metrics::default()));
        let guarded = Router::new();
        let server = Server::start(config.listen.http, &config.http, &data, open, guarded).await?;
        let tasks =
            vec![tokio::spawn(mqtt::task::listen(door, listener)), tokio::spawn(keep_retention(Arc::clone(&log)))];
        write_address(&data, MQTT_ADDRESS_FILE, mqtt_addr)?;
        tracing::info!(%mqtt_addr, data = %data.display(), origin = format!("{:016x}", log.store().origin().0), "the node is ready");
        readiness.set(State::Ready);
        Ok(Self { data, log, sessions, readiness, mqtt_addr, server, tasks })
    }

    /// Where the MQTT door listens.
    pub fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt_addr
    }

    /// Where the HTTP API listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// The node's log.
    pub fn log(&self) -> &Arc<EventLog> {
        &self.log
    }

    /// Stops it: doors first, then what is open is made durable and the store is closed in order.
    pub async fn stop(self) {
        self.readiness.set(State::Stopping);
        self.tasks.iter().for_each(JoinHandle::abort);
        self.sessions.stop(STOP_WAIT).await;
        if let Err(error) = std::fs::remove_file(self.data.join(MQTT_ADDRESS_FILE)) {
            tracing::debug!(%error, "the address file was gone already");
        }
        self.server.stop().await;
        let log = Arc::clone(&self.log);
        let closed = tokio::task::spawn_blocking(move || {
            log.close();
            log.store().close()
        });
        match closed.await {
            Ok(Ok(())) => tracing::info!("the node has stopped; everything acknowledged is stored"),
            Ok(Err(error)) => {
                tracing::error!(%error, "the store was not closed in order; it is checked at the next start")
            }
            Err(error) => tracing::error!(%error, "the store's closing did not end"),
        }
    }
}

fn make_folder(path: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(path).map_err(|error| StartError::Folder { path: path.to_owned(), error })
}

fn open_log(data: &Path, config: &Config) -> Result<Arc<EventLog>, StartError> {
    let path = data.join(STORE_FOLDER);
    let opened = Store::open(&path, config.store.to_options());
    let (store, recovered) = opened.map_err(|error| StartError::Store { path: path.clone(), error })?;
    if !recovered.new_store && !recovered.clean {
        tracing::warn!(cut = recovered.cut.len(), "the store was not closed in order; unfinished commits were cut off");
    }
    if let Some(ended) = recovered.ended_life {
        tracing::warn!(ended = %ended, "a new life begins: acknowledged events of `memory` topics may be lost");
    }
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, config.log.clone())?;
    let always = [
        ingest::CATCH_ALL_TOPIC,
        devices::command::ANSWERS_TOPIC,
        devices::command::COMMANDS_TOPIC,
        crate::sessions::SESSIONS_TOPIC,
    ];
    for topic in always {
        log.ensure_topic(topic, None)?;
    }
    Ok(log)
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |error| StartError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// Names a door's address in a file, whole or not at all.
fn write_address(data: &Path, name: &str, address: SocketAddr) -> Result<(), StartError> {
    let (path, half) = (data.join(name), data.join(format!("{name}.new")));
    let written = std::fs::write(&half, address.to_string()).and_then(|()| std::fs::rename(&half, &path));
    written.map_err(|error| StartError::Folder { path, error })
}

async fn keep_retention(log: Arc<EventLog>) {
    let mut every = tokio::time::interval(RETENTION_EVERY);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let mut more = true;
        while more {
            let log = Arc::clone(&log);
            // Readers do not hold retention back: one that is left behind is told of the gap.
            let pass = tokio::task::spawn_blocking(move || log.apply_retention(&|_| u64::MAX));
            more = pass.await.unwrap_or(false);
        }
    }
}
