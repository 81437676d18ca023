//! Admits publishes: who may publish where, and the route that a connection remembers for a topic.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use devices::command::{ANSWER_PREFIX, ANSWERS_TOPIC, parse_answer_topic};
use devices::headers;
use devices::twin::{PREFIX as TWIN_PREFIX, REPORTS_TOPIC, parse_from_device};
use parking_lot::RwLock;
use sled_data::HeaderBlock;

use super::CATCH_ALL_TOPIC;
use super::lanes::{Config as LanesConfig, Lanes, OpenError as LanesError};
use super::routing::{Config, Rules, RulesError};
use crate::catalog::{AgreedRoute, Catalog};
use crate::event_log::{EventLog, Ticket, Topic, TopicError};

/// MQTT topics under this prefix are the node's own.
const OWN_PREFIX: &str = "edgeway/";

/// Where the publishes of one MQTT topic go.
pub struct Route {
    /// The topic in the log.
    pub topic: Arc<Topic>,
    /// The partition that the key chooses.
    pub partition: u32,
    /// The key.
    pub key: Box<[u8]>,
    /// Whether the MQTT topic must be kept as a header (the catch-all's key is the MQTT topic already).
    pub keeps_mqtt_topic: bool,
    /// Whether it is a device's answer to a command or a word of a twin: the session's number goes with it.
    pub is_answer: bool,
}

impl Route {
    /// What an event waits for that was stored at an unknown time: its topic's quorum, where it has one.
    pub fn barrier(&self, log: &EventLog) -> Option<Ticket> {
        let is_quorum = self.topic.config().durability == sled_data::Durability::Quorum;
        is_quorum.then(|| log.quorum_barrier()).flatten()
    }

    /// The headers that all events have which `client` publishes to `mqtt_topic` at one quality of service.
    pub fn headers(&self, mqtt_topic: &str, qos: u8, client: &str) -> HeaderBlock {
        let mut block = HeaderBlock::new();
        if self.keeps_mqtt_topic {
            block.push(headers::MQTT_TOPIC, mqtt_topic.as_bytes());
        }
        // Absent means 1.
        if qos != 1 {
            block.push(headers::MQTT_QOS, &[qos]);
        }
        block.push(headers::MQTT_CLIENT, client.as_bytes());
        block
    }
}

/// Why a publish was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Refused {
    /// No rule names its topic, and the rules are strict.
    #[error("no routing rule names MQTT topic {0:?} and [routing] strict is set")]
    NoRule(String),
    /// The topic is the node's own.
    #[error(
        "MQTT topic {0:?} is the node's own; devices publish only their answers below edgeway/answer/ and reports below edgeway/twin/"
    )]
    NotAllowed(String),
    /// A misspelt word of a device to the node itself.
    #[error("MQTT topic {topic:?} is none that a device says something on: {why}")]
    Misspelt {
        /// The topic.
        topic: String,
        /// What is wrong with it.
        why: String,
    },
    /// The topic in the log could not be made.
    #[error(transparent)]
    Topic(#[from] TopicError),
}

impl Refused {
    /// Whether the same publish may be taken when it comes again, as the store was what refused it.
    pub fn is_for_now(&self) -> bool {
        match self {
            Self::Topic(
                TopicError::Exists(_)
                | TopicError::Unknown(_)
                | TopicError::Store(_)
                | TopicError::Unreadable(_)
                | TopicError::NotDeleted(_),
            ) => true,
            Self::Topic(TopicError::Name(_) | TopicError::Partitions(_) | TopicError::TooMany(_))
            | Self::NoRule(_)
            | Self::NotAllowed(_)
            | Self::Misspelt { .. } => false,
        }
    }
}

/// Counters of what came in.
#[derive(Debug, Default)]
pub struct Stats {
    /// Events acknowledged, or taken at QoS 0.
    pub taken: AtomicU64,
    /// Bytes of their payloads.
    pub payload_bytes: AtomicU64,
    /// Refused: no rule names the topic.
    pub refused_no_rule: AtomicU64,
    /// Refused: not allowed.
    pub refused_not_allowed: AtomicU64,
    /// Refused: the store took nothing.
    pub refused_store: AtomicU64,
    /// Refused: a malformed packet or a broken rule of the protocol.
    pub refused_protocol: AtomicU64,
    /// Refused: larger than the bound.
    pub refused_too_large: AtomicU64,
}

/// The way in for every door.
pub struct Ingest {
    log: Arc<EventLog>,
    routing: Config,
    rules: RwLock<Rules>,
    /// The site's rules as they were taken over last. Held while they are.
    site_rules: parking_lot::Mutex<Vec<(Arc<str>, Arc<AgreedRoute>)>>,
    /// Rises with each change of the rules.
    generation: AtomicU64,
    lanes: Lanes,
    stats: Stats,
}

/// Why the way in did not open.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A routing rule is wrong.
    #[error(transparent)]
    Rule(#[from] RulesError),
    /// The last numbers of devices cannot be read.
    #[error(transparent)]
    Lanes(#[from] LanesError),
}

impl Ingest {
    /// Compiles the rules, and counts the devices that number their events.
    ///
    /// # Errors
    /// A rule's mistake, or a store that cannot be read.
    pub fn new(log: Arc<EventLog>, routing: &Config, lanes: LanesConfig) -> Result<Self, OpenError> {
        let rules = RwLock::new(Rules::compile(routing)?);
        let lanes = Lanes::open(Arc::clone(&log), lanes)?;
        let (site_rules, generation) = (parking_lot::Mutex::default(), AtomicU64::new(0));
        let routing = routing.clone();
        Ok(Self { log, routing, rules, site_rules, generation, lanes, stats: Stats::default() })
    }

    /// Takes over the routing rules of the site, where they have changed; what is published from now on goes by them.
    pub fn follow_routes(&self, catalog: &Catalog) {
        // Under the lock, so that who comes late does not bring back what is outdated.
        let mut known = self.site_rules.lock();
        let routes = catalog.routes();
        if *known == routes {
            return;
        }
        let mut compiled = Vec::with_capacity(routes.len());
        for (name, route) in &routes {
            match route.rule().compile() {
                Ok(rule) => compiled.push(rule),
                // It was judged before it was set: by a program that took more.
                Err(error) => tracing::error!(rule = &**name, %error, "a routing rule of the site is passed over"),
            }
        }
        self.rules.write().set_site(compiled);
        self.generation.fetch_add(1, Ordering::Release);
        tracing::info!(rules = routes.len(), "the routing rules of the site changed");
        *known = routes;
    }

    /// Goes on taking over the routing rules of the site as they change.
    pub async fn keep_routes(self: Arc<Self>, catalog: Arc<Catalog>) {
        let mut changed = catalog.watch();
        loop {
            changed.borrow_and_update();
            self.follow_routes(&catalog);
            if changed.changed().await.is_err() {
                return;
            }
        }
    }

    /// The node's own rules, as they were configured.
    pub fn routing(&self) -> &Config {
        &self.routing
    }

    /// Rises when the rules change: routes that a connection remembers from before are outdated.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The topic and the key that the rules give an MQTT topic, where devices may publish to it; nothing is made.
    pub fn destination(&self, mqtt_topic: &str) -> Option<(String, String)> {
        let found = self.rules.read().route(mqtt_topic)?;
        Some((found.topic, found.key))
    }

    /// What the devices numbered last.
    pub fn lanes(&self) -> &Lanes {
        &self.lanes
    }

    /// The log that it appends to.
    pub fn log(&self) -> &Arc<EventLog> {
        &self.log
    }

    /// Its counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Where the publishes of an MQTT topic go; the topic is made where it does not exist yet.
    ///
    /// # Errors
    /// When the topic is not for clients, no rule names it, or it cannot be made.
    pub fn route(&self, mqtt_topic: &str) -> Result<Route, Refused> {
        if mqtt_topic.starts_with(OWN_PREFIX) {
            return self.own_route(mqtt_topic);
        }
        if mqtt_topic.starts_with('$') {
            return Err(self.not_allowed(mqtt_topic));
        }
        let destination = self.rules.read().route(mqtt_topic);
        let Some(destination) = destination else {
            self.stats.refused_no_rule.fetch_add(1, Ordering::Relaxed);
            return Err(Refused::NoRule(mqtt_topic.to_owned()));
        };
        if destination.topic.starts_with('_') {
            return Err(self.not_allowed(mqtt_topic));
        }
        let topic = self.log.ensure_topic(&destination.topic, None)?;
        // Where the key says it already, it is not said twice.
        let keeps_mqtt_topic = destination.topic != CATCH_ALL_TOPIC || destination.key != mqtt_topic;
        Ok(placed(topic, destination.key.as_bytes(), keeps_mqtt_topic, false))
    }

    /// What devices say to the node itself: answers to commands, words of twins.
    fn own_route(&self, mqtt_topic: &str) -> Result<Route, Refused> {
        let (topic, device) = if mqtt_topic.starts_with(ANSWER_PREFIX) {
            let answer = parse_answer_topic(mqtt_topic).map_err(|why| self.misspelt(mqtt_topic, &why))?;
            (ANSWERS_TOPIC, answer.device)
        } else if mqtt_topic.starts_with(TWIN_PREFIX) {
            let said = parse_from_device(mqtt_topic).map_err(|why| self.misspelt(mqtt_topic, &why))?;
            (REPORTS_TOPIC, said.device())
        } else {
            return Err(self.not_allowed(mqtt_topic));
        };
        let topic = self.log.ensure_topic(topic, None)?;
        Ok(placed(topic, device.as_bytes(), true, true))
    }

    fn misspelt(&self, mqtt_topic: &str, why: &dyn std::fmt::Display) -> Refused {
        self.stats.refused_not_allowed.fetch_add(1, Ordering::Relaxed);
        Refused::Misspelt { topic: mqtt_topic.to_owned(), why: why.to_string() }
    }

    fn not_allowed(&self, mqtt_topic: &str) -> Refused {
        self.stats.refused_not_allowed.fetch_add(1, Ordering::Relaxed);
        Refused::NotAllowed(mqtt_topic.to_owned())
    }
}

fn placed(topic: Arc<Topic>, key: &[u8], keeps_mqtt_topic: bool, is_answer: bool) -> Route {
    let partition = sled_data::partition_for_key(key, topic.partitions());
    Route { topic, partition, key: key.into(), keeps_mqtt_topic, is_answer }
}
