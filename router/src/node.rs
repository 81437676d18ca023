//! Starts every part in order, and stops them in reverse.

mod addresses;
mod admission;
mod arrived;
mod clock_apart;
mod closing;
mod doors;
mod down;
mod error;
mod hearing;
mod keeper;
mod leaving;
mod left_lives;
mod level;
mod link_json;
mod links;
mod listing;
mod outlived;
mod outside;
mod place;
mod plugins;
mod proposer;
mod retention;
mod site;
mod site_lags;
mod site_troubles;
mod site_view;
mod summaries;
mod wires;
mod work;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{Store, StoreFailed, TopicConfig};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::admin::{Identity, Readiness, Rooms, SecureDoors, Server, State};
use crate::catalog::{self, Catalog};
use crate::clock::Clock;
use crate::commands::Commands;
use crate::config::Config;
use crate::directory::Directory;
use crate::event_log::{self, EventLog};
use crate::ingest::{self, Ingest};
use crate::mqtt;
use crate::plugin_host::{self, PluginHost, Wants};
use crate::quic;
use crate::replication::join::{first_members, read_facts, take_facts};
use crate::replication::peers::Spoken;
use crate::sessions::Sessions;
use crate::subscriptions::FanOut;
use crate::transport::SiteIdentity;
use crate::twins::Twins;

use doors::{await_others, bind, forget_address, start_mqtts, start_quic, write_address};
use site::SITE_ADDRESS_FILE;

pub use arrived::{Arrived, arrived};
pub use error::StartError;
pub use place::{Place, PlaceError};
pub use site::{NAME_FILE, SITE_FOLDER};

/// The folder of the store within the data folder.
pub const STORE_FOLDER: &str = "store";
/// The folder of the plugins within the data folder.
const PLUGINS_FOLDER: &str = "plugins";
/// The folder of the components that sites which feed this one are to have.
const WANTS_FOLDER: &str = "plugins-below";
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
/// How long connections have to end when the node stops.
const STOP_WAIT: Duration = Duration::from_secs(5);
/// How often it is looked whether the store has failed.
const STORE_LOOK: Duration = Duration::from_millis(500);
/// How often it is looked whether nothing reads the store any more.
const LET_GO_EVERY: Duration = Duration::from_millis(2);

/// Why a node stops by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OwnEnd {
    /// It has left its site, as people wanted.
    #[error("the node has left its site")]
    Left,
    /// Others have more of its log than it has.
    #[error(
        "others of the site have more of this node's log than its store: it was restored or copied; start the node again: \
         it begins a new life"
    )]
    Outlived,
    /// The store met an error after which only opening it again tells what it has.
    #[error("the store failed; start the node again: it finds out what is stored")]
    StoreFailed,
}

/// A node that runs.
pub struct Node {
    data: PathBuf,
    rooms: Rooms,
    mqtt_addr: SocketAddr,
    server: Server,
    quic: Option<quic::Listener>,
    doors: Vec<JoinHandle<()>>,
    /// Makes topics and routes what was agreed on, and has the site agree on more.
    keeping: Vec<JoinHandle<()>>,
    site: Arc<site::SiteNode>,
    site_running: Option<site::Running>,
    links: Arc<links::LinkNode>,
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
        let (rooms, site, links) = open_rooms(identity, &data, &config)?;
        site.keep_out_if_removed().await;
        let (open, guarded) = (rooms.open_routes(), rooms.guarded_routes(&config.http));
        let server = Server::start(config.listen.http, &config.http, &data, open, guarded).await?;
        let (stop_readers, stopped) = watch::channel(false);
        let commands = tokio::spawn(Arc::clone(&rooms.commands).run(stopped.clone()));
        let twins = tokio::spawn(Arc::clone(&rooms.twins).run(stopped));
        let catalog = rooms.directory.catalog();
        let keeping = vec![
            tokio::spawn(Arc::clone(catalog).keep_topics()),
            tokio::spawn(Arc::clone(&rooms.ingest).keep_routes(Arc::clone(catalog))),
            tokio::spawn(Arc::clone(&site).keep_level()),
            tokio::spawn(Arc::clone(&links).import()),
            tokio::spawn(Arc::clone(&links).watch_summaries()),
            tokio::spawn(Arc::clone(&links).watch_removed()),
            tokio::spawn(Arc::clone(&links).tell_commands(Arc::clone(&rooms.commands))),
            tokio::spawn(Arc::clone(&links).spread_wants()),
        ];
        let plugin_keeper = tokio::spawn(site.plugin_keeper(Arc::clone(&rooms.plugins)).run());
        let site_running = site.start(&config.site, &config.node.name, &rooms.plugins, &rooms.commands, &links)?;
        links.edge().start().map_err(|error| StartError::Links(error.to_string()))?;
        await_others(&rooms).await;
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
        let doors = vec![tokio::spawn(mqtt::task::listen(door, listener)), plugin_keeper];
        let mut doors: Vec<_> = doors.into_iter().chain(mqtts_door).collect();
        // Not before links hold what they have not sent.
        let retention = retention::Keeper::new(&site, &links, &config);
        doors.push(tokio::spawn(retention::keep(Arc::clone(&rooms.ingest), retention)));
        if let Some(address) = site_running.as_ref().and_then(site::Running::address) {
            write_address(&data, SITE_ADDRESS_FILE, address)?;
        }
        write_address(&data, MQTT_ADDRESS_FILE, mqtt_addr)?;
        if rooms.readiness.started() {
            tracing::info!(%mqtt_addr, data = %data.display(), origin = %rooms.log.store().origin(), "the node is ready");
        }
        Ok(Self {
            data,
            rooms,
            mqtt_addr,
            server,
            quic,
            doors,
            keeping,
            site,
            site_running,
            links,
            commands,
            twins,
            stop_readers,
        })
    }

    /// Where the MQTT door listens.
    pub fn mqtt_addr(&self) -> SocketAddr {
        self.mqtt_addr
    }

    /// Where the QUIC door listens, if it does.
    pub fn quic_addr(&self) -> Option<SocketAddr> {
        self.quic.as_ref().map(quic::Listener::addr)
    }

    /// The node's log.
    pub fn log(&self) -> &Arc<EventLog> {
        &self.rooms.log
    }

    /// Waits until the node has to stop by itself. A store that others have more of begins a new life at the next start; one that failed finds
    /// out what it has.
    pub async fn must_stop(&self) -> OwnEnd {
        let mut left = self.site.left();
        let mut by_link = self.links.edge().outlived();
        let is_outlived = async {
            let by_site = self.outlived_in_site();
            tokio::select! {
                () = by_site => {}
                _ = by_link.wait_for(|outlived| *outlived) => {}
            }
        };
        tokio::select! {
            _ = left.wait_for(|left| *left) => OwnEnd::Left,
            failure = store_failed(self.rooms.log.store()) => {
                tracing::error!(%failure, "nothing is stored any more");
                OwnEnd::StoreFailed
            }
            () = is_outlived => {
                // Where there are others, what they have agreed on since is heard first.
                let has_others = self.rooms.directory.catalog().members().len() > 1;
                if let Err(error) = outlived::end_life(self.rooms.log.store(), &self.data, has_others) {
                    tracing::error!(%error, "this node's life is not known to be ended");
                }
                OwnEnd::Outlived
            }
        }
    }

    /// Waits until others of the site have more of this node's log than it has.
    async fn outlived_in_site(&self) {
        match &self.site_running {
            Some(running) => {
                let mut outlived = running.replication.outlived();
                let _ = outlived.wait_for(|outlived| *outlived).await;
            }
            None => std::future::pending().await,
        }
    }

    /// Stops it: doors first, then readers, then what is open is made durable and the store is closed in order. Its files may be
    /// opened again when this returns.
    pub async fn stop(self) {
        let log = Arc::downgrade(&self.rooms.log);
        self.close().await;
        // What was broken off while it read ends by itself.
        let mut left = STOP_WAIT;
        while log.strong_count() > 0 && !left.is_zero() {
            tokio::time::sleep(LET_GO_EVERY).await;
            left = left.saturating_sub(LET_GO_EVERY);
        }
        if left.is_zero() {
            tracing::warn!("something still reads the store; its files are free when that ends");
        }
    }

    async fn close(self) {
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
        // What is broken off holds the store no more.
        for task in self.keeping.into_iter().chain(self.doors) {
            task.abort();
            let _ = task.await;
        }
        self.links.edge().stop().await;
        if let Some(running) = self.site_running {
            running.stop().await;
            forget_address(&self.data, SITE_ADDRESS_FILE);
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

/// Waits until the store fails.
async fn store_failed(store: &Store) -> StoreFailed {
    loop {
        if let Some(failure) = store.failure() {
            return failure;
        }
        tokio::time::sleep(STORE_LOOK).await;
    }
}

fn make_folder(path: &Path) -> Result<(), StartError> {
    std::fs::create_dir_all(path).map_err(|error| StartError::Folder { path: path.to_owned(), error })
}

/// Opens the rooms in the order in which they stand on each other.
fn open_rooms(
    identity: Identity,
    data: &Path,
    config: &Config,
) -> Result<(Rooms, Arc<site::SiteNode>, Arc<links::LinkNode>), StartError> {
    let certificate = site::read_identity(data)?;
    let is_in_site = certificate.is_some();
    let (log, place) = open_log(data, config, certificate.as_deref())?;
    let first = first_members(&data.join(SITE_FOLDER))?;
    let joins = !first.is_empty();
    let way = Arc::new(wires::Way::default());
    let fan_out = Arc::new(FanOut::new(config.subscriptions.clone()));
    log.observe(Arc::clone(&fan_out) as _);
    let catalog = open_catalog(&log, config, place, joins, Arc::clone(&way))?;
    let nodes = (certificate.clone(), Arc::clone(&way) as _);
    let linked = links::LinkNode::open(&log, &catalog, nodes, place, config);
    let linked = linked.map_err(|error| StartError::Links(error.to_string()))?;
    let told = site::Told { first, name: site::given_name(data), data: data.to_owned() };
    let means = (Arc::clone(&way), Spoken::up_to(config.site.highest_protocol()));
    let site = site::SiteNode::new(place, Arc::clone(&log), Arc::clone(&catalog), certificate, means, told);
    let sessions = Sessions::open(Arc::clone(&log), fan_out, config.sessions.clone());
    let sessions = Arc::new(sessions.with_catalog(Arc::clone(&catalog)));
    sessions.follow_others().map_err(StartError::Sessions)?;
    let directory = Directory::new(catalog, Arc::clone(&sessions), Arc::clone(&log));
    let ingest = Arc::new(Ingest::new(Arc::clone(&log), &config.routing, config.lanes.clone())?);
    // What is published before anything changes goes by what was set before.
    ingest.follow_routes(directory.catalog());
    let commands = Commands::open(Arc::clone(&log), Arc::clone(&sessions), config.commands.clone())?;
    let twins = Twins::open(Arc::clone(&log), Arc::clone(&sessions), config.twins.clone())?;
    let duties = Arc::new(site.first_duties());
    let plugins = Arc::new(PluginHost::start_with(Arc::clone(&log), &data.join(PLUGINS_FOLDER), duties)?);
    commands.set_directory(Arc::clone(&directory));
    commands.set_guard(plugins.guard());
    linked.set_plugins(Arc::clone(&plugins));
    linked.bring_down(&commands);
    let wants = Wants::open(Arc::clone(&log), &data.join(WANTS_FOLDER));
    let wants = Arc::new(wants.map_err(plugin_host::StartError::from)?);
    linked.bring_plugins(&plugins, &wants, Arc::clone(&way) as _);
    if is_in_site {
        log.await_replicas();
        commands.set_forward(Arc::clone(&way) as _);
        sessions.set_heard(Arc::clone(&way) as _);
        if config.site.listen.is_some() && !log.others().is_empty() {
            sessions.await_others();
        }
    }
    let readiness = Arc::new(Readiness::default());
    site.set_doors(Arc::clone(&sessions), Arc::clone(&readiness), Arc::clone(&linked));
    let quic = Arc::default();
    let control = Arc::clone(&site) as _;
    let links = Arc::clone(&linked) as _;
    let rooms = Rooms {
        identity,
        readiness,
        log,
        ingest,
        sessions,
        directory,
        quic,
        plugins,
        wants,
        commands,
        twins,
        site: control,
        links,
    };
    Ok((rooms, site, linked))
}

/// Opens the catalog: a node that was let into a site waits for its catalog, another one founds a group of its own.
fn open_catalog(
    log: &Arc<EventLog>,
    config: &Config,
    place: Place,
    joins: bool,
    way: Arc<wires::Way>,
) -> Result<Arc<Catalog>, StartError> {
    let founder = catalog::Founder {
        name: config.node.name.clone(),
        address: config.site.address.clone().unwrap_or_default(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let start = if joins { catalog::Start::Joining } else { catalog::Start::Alone(founder) };
    let is_restored = outlived::was_outlived(&config.node.data);
    let timing = catalog::Timing::default();
    let level_max = config.site.highest_protocol().min(catalog::LEVEL_MAX);
    let opening = catalog::Opening { me: Some(place.node), start, way, timing, level_max, is_restored };
    let catalog = Catalog::open_as(Arc::clone(log), config.catalog.clone(), opening)?;
    outlived::forget(&config.node.data);
    Ok(catalog)
}

fn open_log(
    data: &Path,
    config: &Config,
    certificate: Option<&SiteIdentity>,
) -> Result<(Arc<EventLog>, Place), StartError> {
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
    let facts = read_facts(&data.join(SITE_FOLDER))?;
    // A start that was cut off before the store said which node it is has written nothing.
    let joins = facts.is_some() && recovered.last_commit == sled_data::CommitNumber(0);
    let place = Place::settle(&store, clock.next_hybrid(), certificate, joins)?;
    let log = EventLog::open(Arc::new(store), clock, config.log.clone())?;
    log.set_site(place.site);
    for topic in facts.iter().flat_map(|facts| &facts.topics).filter_map(admission::topic_of) {
        log.adopt_topic(topic)?;
    }
    take_facts(&data.join(SITE_FOLDER))?;
    // The topics of commands and twins are made by their rooms, which know how long they are kept.
    log.ensure_topic(ingest::CATCH_ALL_TOPIC, None)?;
    let presence = TopicConfig { retention_ms: Some(PRESENCE_RETENTION_MS), ..log.topic_defaults() };
    log.ensure_topic(crate::sessions::SESSIONS_TOPIC, Some(presence))?;
    let audit = TopicConfig { retention_ms: Some(AUDIT_RETENTION_MS), ..log.topic_defaults() };
    log.ensure_topic(event_log::AUDIT_TOPIC, Some(audit))?;
    Ok((log, place))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sled_data::{Faults, MemoryBackend, Options};

    use super::*;

    #[tokio::test]
    async fn a_failed_store_ends_the_node() {
        let backend = MemoryBackend::new();
        let store = Store::on(Arc::new(backend.clone()), Options::default()).unwrap().0;
        assert!(tokio::time::timeout(STORE_LOOK * 2, store_failed(&store)).await.is_err(), "it is well");
        backend.set_faults(Faults { fail_after_syncs: Some(0), ..Faults::default() });
        store.sync().unwrap_err();
        let failure = tokio::time::timeout(STOP_WAIT, store_failed(&store)).await.unwrap();
        assert_eq!(Some(failure), store.failure());
    }
}
