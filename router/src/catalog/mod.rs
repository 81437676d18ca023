//! What people set: devices with their tags and attributes, the nodes of the site, join tokens, topics, routing rules,
//! plugins, who works on what, the sites that feed this one, and the site itself. The same on every node: a change is made when a majority of the
//! nodes that vote has it.
//!
//! A `change` is judged against the `state` in memory and comes to entries (`write`; pure, the same on every node).
//! `propose` hands it to the leader; `consensus` has it agreed on and takes it over, one commit for the entries, the
//! event on topic `_catalog` and the act on the audit topic. `device`, `member`, `token`, `topic`, `route`, `plugin`,
//! `work`, `link` and `site` are what is set, how it is stored and how its changes are judged; `filter` is the language in
//! which devices are chosen, `rule` the one of routing; `level` says which changes all nodes know. `reading` asks nobody.
//!
//! Tree `catalog`: `device/NAME`, `member/NODE`, `removed/NODE`, `token/HASH`, `topic/NAME`, `plugin/NAME`,
//! `route/NAME`, `assignment/PLUGIN/NUMBER`, `takeover/ORIGIN`, `link/NAME`, `link-token/HASH`, `site`, `level`; each value is a version byte 1, then
//! postcard.

mod change;
mod config;
mod consensus;
mod device;
mod device_change;
mod encoding;
mod filter;
mod level;
mod link;
mod member;
mod plugin;
mod propose;
mod reading;
mod refusal;
mod roles;
mod route;
mod rule;
mod site;
mod state;
mod survive;
mod tell;
mod token;
mod topic;
mod topics;
mod work;
mod write;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use sled_data::TopicConfig;

use crate::event_log::{EventLog, TopicError};
use crate::transport::NodeId;
use consensus::{Book, Consensus};
use state::State;

pub use change::{Applied, Change};
pub use config::{Config, KnownBy};
pub use consensus::{Alone, Ask, Asked, BODY_BYTES_MAX, ConsensusStatus, Follower, Founder, NoAnswer, Timing};
pub use device::{ATTRIBUTES_MAX, Device, NAME_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX, Value};
pub use filter::{Facts, Filter, FilterError, Pattern};
pub use level::{LEVEL_MAX, LEVEL_MIN, LevelRefusal};
pub use link::{AgreedLink, LINK_NODES_MAX, LINK_TOKEN_LIFE_MS, LINKS_MAX, LinkRefusal, LinkToken, is_link_name};
pub use member::{MEMBERS_MAX, Member, MemberRefusal, MemberState, MemberUpdate, NewMember, REMOVED_MAX};
pub use plugin::{
    AGREED_PLUGINS_MAX, AgreedPlugin, NewPlugin, PLUGIN_BYTES_MAX, PLUGIN_MANIFEST_BYTES_MAX, PluginRefusal,
};
pub use refusal::{Class, Refusal};
pub use route::{AgreedRoute, NewRoute, ROUTE_ORDER, ROUTES_MAX, RouteRefusal};
pub use rule::{CompiledRule, Destination, RULE_TEXT_BYTES_MAX, Rule, RuleError};
pub use site::{Lease, Site, SiteRefusal, SiteUpdate};
pub use survive::SurviveError;
pub use token::{TOKEN_LIFE_MS_MAX, TOKENS_MAX, Token, TokenHash, TokenRefusal};
pub use topic::{Ack, AgreedTopic, Packing, TOPIC_NAMES_MAX, TopicRecord, TopicRefusal, TopicSettings, TopicUpdate};
pub use topics::AgreeError;
pub use work::{ASSIGNMENTS_MAX, Assignment, Before, TAKE_OVERS_MAX, TakeOver, WorkRefusal};
pub use write::Write;

/// The internal topic of changes; its key is what was changed.
pub const CATALOG_TOPIC: &str = "_catalog";
/// The small named tree of what is set.
pub const CATALOG_TREE: &str = "catalog";

/// Why the catalog could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its topic could not be made.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Its topic's retention could not be set.
    #[error(transparent)]
    Retention(#[from] sled_data::TopicError),
    /// The stored entries could not be read or written.
    #[error("the stored catalog cannot be used: {0}; run `edgeway store verify`")]
    Store(String),
    /// Newer programs have worked on it.
    #[error(
        "the site works at level {level} and this program knows {known}: its nodes were upgraded, and none goes back; \
         start the newer edgeway"
    )]
    Newer {
        /// The level of the site.
        level: u16,
        /// The highest one that is known here.
        known: u16,
    },
    /// The store belongs to another node.
    #[error("the store belongs to node {stored}, not to {me}; a node's store cannot be given to another one")]
    OtherNode {
        /// The node that the store belongs to.
        stored: NodeId,
        /// The node that is to be started.
        me: NodeId,
    },
}

/// A plugin and a partition number.
pub type Work = (Arc<str>, u32);

/// How a node begins where its store knows of no group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// It founds a group of one, on what is set in its store.
    Alone(Founder),
    /// It waits to be let in. Of another site that it belonged to under another id it keeps nothing.
    Joining,
}

/// How the catalog is opened.
pub struct Opening {
    /// This node; `None`: as the store says, or drawn.
    pub me: Option<NodeId>,
    /// What it does where its store knows of no group.
    pub start: Start,
    /// The way to the other nodes.
    pub way: Arc<dyn Ask>,
    /// How often nodes speak to each other.
    pub timing: Timing,
    /// The highest level that this node knows; below [`LEVEL_MAX`] it keeps to what earlier programs knew.
    pub level_max: u16,
    /// Whether its store is older than it was: what it says of votes and changes is not to be gone by, and the node
    /// waits to be let in again. What is set stays until then.
    pub is_restored: bool,
}

impl Default for Opening {
    /// A node alone, without a way to others.
    fn default() -> Self {
        let start = Start::Alone(Founder::default());
        Self {
            me: None,
            start,
            way: Arc::new(Alone),
            timing: Timing::default(),
            level_max: LEVEL_MAX,
            is_restored: false,
        }
    }
}

/// The catalog of this node.
pub struct Catalog {
    book: Arc<Book>,
    consensus: Arc<Consensus>,
    /// One change after another: the number of each next one is higher.
    changing: tokio::sync::Mutex<()>,
}

impl Catalog {
    /// Opens the catalog of a node alone. See [`Self::open_as`].
    ///
    /// # Errors
    /// As [`Self::open_as`].
    pub fn open(log: Arc<EventLog>, config: Config) -> Result<Arc<Self>, OpenError> {
        Self::open_as(log, config, Opening::default())
    }

    /// Opens the catalog: makes its topic, loads what is stored, and begins to take part in changes, in tasks of its
    /// own. It must be called within a runtime.
    ///
    /// # Errors
    /// When the store cannot be read, takes no topic, or belongs to another node.
    pub fn open_as(log: Arc<EventLog>, config: Config, opening: Opening) -> Result<Arc<Self>, OpenError> {
        // One partition: changes have one order.
        let retention_bytes = Some(config.retention_bytes);
        let kept = TopicConfig { partitions: 1, retention_ms: None, retention_bytes, ..log.topic_defaults() };
        let topic = log.ensure_topic(CATALOG_TOPIC, Some(kept))?;
        // One of an earlier store may have no bound; one that was set is kept.
        if topic.config().retention_ms.is_none() && topic.config().retention_bytes.is_none() {
            log.store().set_topic_retention(topic.id(), None, retention_bytes)?;
        }
        let founder = match &opening.start {
            Start::Alone(founder) => Some(founder),
            Start::Joining => None,
        };
        let founder = founder.filter(|_| !opening.is_restored);
        let plan = consensus::plan(&log, opening.me, founder, opening.is_restored)?;
        let book = Arc::new(Book::new(plan.me, log, topic, config, (opening.timing, opening.level_max)));
        let is_ready = plan.make(&book).map_err(OpenError::Store)?;
        let (level, known) = (book.ask(State::level), book.level_max);
        if level > known {
            return Err(OpenError::Newer { level, known });
        }
        let consensus = Consensus::new(Arc::clone(&book), opening.way);
        consensus.start((!is_ready).then_some(plan));
        Ok(Arc::new(Self { book, consensus, changing: tokio::sync::Mutex::default() }))
    }

    /// Ends this node's part in changes; what is set stays readable. To be called before the log is closed.
    pub async fn close(&self) {
        self.consensus.close().await;
    }

    /// Answers what another node asked by its [`Ask`]. `from` must be who asks for certain.
    pub async fn answer(&self, from: NodeId, body: &[u8]) -> Vec<u8> {
        self.consensus.answer(from, body).await
    }

    /// This node.
    pub fn me(&self) -> NodeId {
        self.book.me
    }

    /// Whether this node leads, as far as it knows.
    pub fn is_leader(&self) -> bool {
        self.leader() == Some(self.book.me)
    }

    /// Who leads, as far as this node knows.
    pub fn leader(&self) -> Option<NodeId> {
        self.consensus.leader()
    }

    /// Whether this node knows what is agreed on now. One that does not may have been taken over: it is cut off, or was and does not have yet
    /// what was agreed on meanwhile. A node that alone votes always does.
    pub fn is_in_touch(&self) -> bool {
        self.consensus.is_in_touch()
    }

    /// Says for how long each other node was silent, by its heartbeats; to be said several times a second, or not at all. A node stands for
    /// election only while it hears a majority by them, and that majority says that it hears no leader.
    pub fn hear(&self, silences: &std::collections::BTreeMap<NodeId, std::time::Duration>) {
        self.consensus.hear(silences);
    }

    /// How the agreement stands, for people.
    pub fn consensus_status(&self) -> ConsensusStatus {
        self.consensus.status()
    }
}

impl Drop for Catalog {
    /// Tasks that nobody closed end with it, where there is a runtime still.
    fn drop(&mut self) {
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let consensus = Arc::clone(&self.consensus);
            runtime.spawn(async move { consensus.close().await });
        }
    }
}

impl From<consensus::OpenError> for OpenError {
    fn from(error: consensus::OpenError) -> Self {
        match error {
            consensus::OpenError::OtherNode { stored, me } => Self::OtherNode { stored, me },
            consensus::OpenError::Store(why) => Self::Store(why),
        }
    }
}
