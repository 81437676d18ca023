//! Starts every part in order, and stops them in reverse.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{OpenError as StoreError, Store, TopicConfig};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::{self, Identity, Readiness, Rooms, SecureDoors, Server, State};
use crate::catalog::{self, Catalog, Founder, Opening, Start};
use crate::clock::Clock;
use crate::commands::{self, Commands};
use crate::config::Config;
use crate::directory::Directory;
use crate::event_log::{self, EventLog};
use crate::ingest::{self, Ingest};
use crate::mqtt;
use crate::plugin_host::{self, PluginHost};
use crate::quic;
use crate::sessions::Sessions;
use crate::subscriptions::FanOut;
use crate::transport::{self, Fingerprint};
use crate::twins::{self, Twins};

/// The folder of the store within the data folder.
pub const STORE_FOLDER: &str = "store";
/// The version of this program.
const VERSION: &str = env!("CARGO_PKG_VERSION");
/// The folder of the plugins within the data folder.
const PLUGINS_FOLDER: &str = "plugins";
/// The file that names the MQTT door's address while the node runs.
const MQTT_ADDRESS_FILE: &str = "mqtt.addr";
/// The file that names the address of MQTT over TLS while the node runs.
const MQTTS_ADDRESS_FILE: &str = "mqtts.addr";
/// The file that names the QUIC door's address while the node runs.
const QUIC_ADDRESS_FILE: &str = "quic.addr";
/// The file that holds the fingerprint of the node's certificate.
const QUIC_FINGERPRINT_FILE: &str = "quic.fingerprint";
/// How long the comings and goings of clients stay in the log: seven days.
const PRESENCE_RETENTION_MS: u64 = 7 * 24 * 3_600 * 1_000;
/// How long acts stay in the audit topic: ninety days.
const AUDIT_RETENTION_MS: u64 = 90 * 24 * 3_600 * 1_000;
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
    /// The catalog could not be read.
    #[error(transparent)]
    Catalog(#[from] catalog::OpenError),
    /// The way in did not open.
    #[error(transparent)]
    Ingest(#[from] ingest::OpenError),
    /// The stored commands could not be read.
    #[error(transparent)]
    Commands(#[from] commands::OpenError),
    /// The stored twins could not be read.
    #[error(transparent)]
    Twins(#[from] twins::OpenError),
    /// The plugins could not be started.
    #[error(transparent)]
    Plugins(#[from] plugin_host::StartError),
    /// A door's address cannot be listened at.
    #[error("MQTT cannot listen at {address}: {error}; choose another with --mqtt or [listen] mqtt")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// MQTT over TLS cannot listen.
    #[error("MQTT over TLS cannot listen at {address}: {error}; choose another with --mqtts or [listen] mqtts")]
    ListenTls {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        error: io::Error,
    },
    /// The certificate for TLS cannot be had.
    #[error(transparent)]
    Identity(#[from] transport::IdentityError),
    /// The certificate for TLS cannot be used.
    #[error("the certificate cannot be used: {0}; look at [quic] certificate_file and key_file")]
    Tls(#[from] rustls::Error),
    /// The QUIC door did not start.
    #[error(transparent)]
    Quic(#[from] quic::StartError),
    /// The HTTP API did not start.
    #[error(transparent)]
    Admin(#[from] admin::StartError),
}

/// A node that runs.
pub struct Node {
    data: PathBuf,
    rooms: Rooms,
    mqtt_addr: SocketAddr,
    server: Server,
    quic: Option<quic::Listener>,
    doors: Vec<JoinHandle<()>>,
    commands: JoinHandle<()>,
    twins: JoinHandle<()>,
    /// Stops both of them.
    stop_readers: watch::Sender<bool>,
}

impl Node {
    /// Starts a node: store, log, sessions, readers, doors. Ready when it returns.
    ///
    /// # Errors
    /// What could not be started, and why.
    pub async fn start(config: Config) -> Result<Self, StartError> {
        let data = config.node.data.clone();
        make_folder(&data)?;
        let (listener, mqtt_addr) = bind(config.listen.mqtt).await?;
        let identity = Identity { name: config.node.name.clone(), mqtt: mqtt_addr, secure: Arc::default() };
        let rooms = open_rooms(identity, &data, &config)?;
        let (open, guarded) = (rooms.open_routes(), rooms.guarded_routes(&config.http));
        let server = Server::start(config.listen.http, &config.http, &data, open, guarded).await?;
        let (stop_readers, stopped) = watch::channel(false);
        let commands = tokio::spawn(Arc::clone(&rooms.commands).run(stopped.clone()));
        let twins = tokio::spawn(Arc::clone(&rooms.twins).run(stopped));
        let door = mqtt::task::Door::new(Arc::clone(&rooms.ingest), Arc::clone(&rooms.sessions), config.mqtt.clone());
        let quic = start_quic(&config, &door, &rooms)?;
        let mqtts = start_mqtts(&config, &door).await?;
        let (mqtts, mqtts_door) = mqtts.unzip();
        // Both doors show the same certificate.
        let fingerprint = quic.as_ref().map(quic::Listener::fingerprint).or(mqtts.map(|(_, fingerprint)| fingerprint));
        rooms.identity.secure.get_or_init(|| SecureDoors {
            mqtts: mqtts.map(|(address, _)| address),
            quic: quic.as_ref().map(quic::Listener::addr),
            fingerprint: fingerprint.map(|fingerprint| fingerprint.to_string()),
        });
        let doors = vec![
            tokio::spawn(mqtt::task::listen(door, listener)),
            tokio::spawn(keep_retention(Arc::clone(&rooms.log), Arc::clone(&rooms.ingest))),
        ];
        let doors = doors.into_iter().chain(mqtts_door).collect();
        write_address(&data, MQTT_ADDRESS_FILE, mqtt_addr)?;
        tracing::info!(%mqtt_addr, data = %data.display(), origin = %rooms.log.store().origin(), "the node is ready");
        rooms.readiness.set(State::Ready);
        Ok(Self { data, rooms, mqtt_addr, server, quic, doors, commands, twins, stop_readers })
    }

    /// Where the MQTT door listens.
    pub fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt_addr
    }

    /// Where the HTTP API listens.
    pub fn http_addr(&self) -> SocketAddr {
        self.server.addr()
    }

    /// Where the QUIC door listens, if it does.
    pub fn quic_addr(&self) -> Option<SocketAddr> {
        self.quic.as_ref().map(quic::Listener::addr)
    }

    /// The node's log.
    pub fn log(&self) -> &Arc<EventLog> {
        &self.rooms.log
    }

    /// Stops it: doors first, then readers, then what is open is made durable and the store is closed in order.
    pub async fn stop(self) {
        self.rooms.readiness.set(State::Stopping);
        self.doors.iter().for_each(JoinHandle::abort);
        self.quic.iter().for_each(quic::Listener::refuse);
        self.rooms.sessions.stop(STOP_WAIT).await;
        forget_address(&self.data, MQTT_ADDRESS_FILE);
        forget_address(&self.data, MQTTS_ADDRESS_FILE);
        if let Some(quic) = self.quic {
            quic.stop().await;
            forget_address(&self.data, QUIC_ADDRESS_FILE);
        }
        self.server.stop().await;
        self.stop_readers.send_replace(true);
        for (name, reader) in [("commands", self.commands), ("twins", self.twins)] {
            if reader.await.is_err() {
                tracing::error!(name, "a reader's task had panicked before it was stopped");
            }
        }
        self.rooms.directory.catalog().close().await;
        let (plugins, log) = (self.rooms.plugins, self.rooms.log);
        let closed = tokio::task::spawn_blocking(move || {
            plugins.stop();
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

/// Opens the rooms in the order in which they stand on each other.
fn open_rooms(identity: Identity, data: &Path, config: &Config) -> Result<Rooms, StartError> {
    let log = open_log(data, config)?;
    let fan_out = Arc::new(FanOut::new(config.subscriptions.clone()));
    log.observe(Arc::clone(&fan_out) as _);
    let founder = Founder { name: config.node.name.clone(), version: VERSION.to_owned(), ..Founder::default() };
    let opening = Opening { start: Start::Alone(founder), ..Opening::default() };
    let catalog = Catalog::open_as(Arc::clone(&log), config.catalog.clone(), opening)?;
    let sessions = Sessions::open(Arc::clone(&log), fan_out, config.sessions.clone());
    let sessions = Arc::new(sessions.with_catalog(Arc::clone(&catalog)));
    let directory = Directory::new(catalog, Arc::clone(&sessions), Arc::clone(&log));
    let ingest = Arc::new(Ingest::new(Arc::clone(&log), &config.routing, config.lanes.clone())?);
    let commands = Commands::open(Arc::clone(&log), Arc::clone(&sessions), config.commands.clone())?;
    let twins = Twins::open(Arc::clone(&log), Arc::clone(&sessions), config.twins.clone())?;
    let plugins = Arc::new(PluginHost::start(Arc::clone(&log), &data.join(PLUGINS_FOLDER))?);
    commands.set_directory(Arc::clone(&directory));
    commands.set_guard(plugins.guard());
    let readiness = Arc::new(Readiness::default());
    Ok(Rooms { identity, readiness, log, ingest, sessions, directory, quic: Arc::default(), plugins, commands, twins })
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
    // The topics of commands and twins are made by their rooms, which know how long they are kept.
    log.ensure_topic(ingest::CATCH_ALL_TOPIC, None)?;
    let presence = TopicConfig { retention_ms: Some(PRESENCE_RETENTION_MS), ..log.topic_defaults() };
    log.ensure_topic(crate::sessions::SESSIONS_TOPIC, Some(presence))?;
    let audit = TopicConfig { retention_ms: Some(AUDIT_RETENTION_MS), ..log.topic_defaults() };
    log.ensure_topic(event_log::AUDIT_TOPIC, Some(audit))?;
    Ok(log)
}

async fn bind(address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let refused = |error| StartError::Listen { address, error };
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let bound = listener.local_addr().map_err(refused)?;
    Ok((listener, bound))
}

/// Starts MQTT over TLS where it shall listen.
async fn start_mqtts(
    config: &Config,
    door: &Arc<mqtt::task::Door>,
) -> Result<Option<((SocketAddr, Fingerprint), JoinHandle<()>)>, StartError> {
    let Some(address) = config.listen.mqtts else { return Ok(None) };
    let refused = |error| StartError::ListenTls { address, error };
    let data = &config.node.data;
    let identity = config.quic.identity(data, &config.node.name)?;
    let tls = transport::tls_server(&identity)?;
    let listener = TcpListener::bind(address).await.map_err(refused)?;
    let (mqtts_addr, fingerprint) = (listener.local_addr().map_err(refused)?, identity.fingerprint());
    write_address(data, QUIC_FINGERPRINT_FILE, fingerprint)?;
    write_address(data, MQTTS_ADDRESS_FILE, mqtts_addr)?;
    tracing::info!(%mqtts_addr, %fingerprint, "MQTT over TLS listens; clients may pin this fingerprint");
    let taking = tokio::spawn(mqtt::task::listen_tls(Arc::clone(door), listener, tls));
    Ok(Some(((mqtts_addr, fingerprint), taking)))
}

/// Starts the QUIC door where it shall listen.
fn start_quic(
    config: &Config,
    door: &Arc<mqtt::task::Door>,
    rooms: &Rooms,
) -> Result<Option<quic::Listener>, StartError> {
    let Some(address) = config.listen.quic else { return Ok(None) };
    let data = &config.node.data;
    let native = quic::Native::new(
        &config.node.name,
        config.quic.clone(),
        Arc::clone(&rooms.ingest),
        Arc::clone(&rooms.sessions),
        Arc::clone(&rooms.quic),
    );
    let listener = quic::Listener::start(address, data, Arc::clone(door), native)?;
    let (quic_addr, fingerprint) = (listener.addr(), listener.fingerprint());
    write_address(data, QUIC_FINGERPRINT_FILE, fingerprint)?;
    write_address(data, QUIC_ADDRESS_FILE, quic_addr)?;
    tracing::info!(%quic_addr, %fingerprint, "QUIC listens; clients may pin this fingerprint");
    Ok(Some(listener))
}

/// Names a door's address, or by what it is known, in a file, whole or not at all.
fn write_address(data: &Path, name: &str, what: impl std::fmt::Display) -> Result<(), StartError> {
    let (path, half) = (data.join(name), data.join(format!("{name}.new")));
    let written = std::fs::write(&half, what.to_string()).and_then(|()| std::fs::rename(&half, &path));
    written.map_err(|error| StartError::Folder { path, error })
}

fn forget_address(data: &Path, name: &str) {
    if let Err(error) = std::fs::remove_file(data.join(name)) {
        tracing::debug!(%error, name, "the address file was gone already");
    }
}

async fn keep_retention(log: Arc<EventLog>, ingest: Arc<Ingest>) {
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
        let ingest = Arc::clone(&ingest);
        // One pass a tick: what it does is bounded.
        let forgotten = tokio::task::spawn_blocking(move || ingest.lanes().forget()).await.unwrap_or(0);
        if forgotten > 0 {
            tracing::info!(devices = forgotten, "devices that have sent nothing for long are forgotten");
        }
    }
}
