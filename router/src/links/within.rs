//! What links bring, within the site: each node offers the linked origins that it keeps to the others, by the link's own protocol.
//!
//! `task` keeps a `sender` for each node that is connected, `receiver` takes what one sends. `level` has a node catch up with the others, those too that are
//! `away` for a moment, before an edge is told where its partitions end; `quit` says whether others keep what one that leaves keeps; `ends` is what is asked
//! for that, of `gaps` too, before one goes to another node; `tell` holds answers to an edge back until a quorum has what they are of.

mod away;
mod ends;
mod gaps;
mod level;
mod mute;
mod quit;
mod receiver;
mod sender;
mod task;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{Offset, OriginId, PartitionId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::budget::{Budget, Budgets};
use super::records::Records;
use crate::event_log::EventLog;
use crate::transport::{FrameReceiver, FrameSender, NodeId};

pub use tell::{Out, Told, give, tell_all};

/// An answer that is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// For how long a node sends an origin on at once after an edge has brought some of it, or another node has wanted it.
const SENDS_FOR: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(60) };
/// Origins that are remembered to be wanted, by all nodes together; beyond, they are sent when they have stood still.
const WANTED_MAX: usize = 16_384;

/// The site's other nodes.
pub trait Nodes: Send + Sync {
    /// Those that are connected.
    fn connected(&self) -> Vec<NodeId>;

    /// Those that are of the site and stay in it, connected or not.
    fn staying(&self) -> Vec<NodeId>;

    /// Asks one of them how far it is with partitions.
    fn ask(&self, node: NodeId, body: Vec<u8>) -> Pending<'_, Result<Vec<u8>, NoAnswer>>;

    /// Opens a stream to one of them, for what links have brought; why it cannot be.
    fn open(&self, node: NodeId) -> Pending<'_, Result<(FrameSender, FrameReceiver), String>>;
}

/// Why a node does not say how far it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoAnswer {
    /// Its program knows no such question: it never answers.
    #[error("its program is older")]
    Older,
    /// It may answer when it is asked again.
    #[error("{0}")]
    Failed(String),
}

/// What this node and the site's others do for each other with linked origins.
pub struct Within {
    log: Arc<EventLog>,
    records: Arc<Records>,
    site: u64,
    nodes: OnceLock<Arc<dyn Nodes>>,
    /// Patterns of topics that an edge is told to be stored when a quorum of the site has them.
    quorum: OnceLock<Vec<String>>,
    /// When an edge brought some of each origin last.
    brought: Mutex<BTreeMap<OriginId, Instant>>,
    /// Which origins a node is to have at once, and when it said so.
    wanted: Mutex<BTreeMap<(NodeId, OriginId), Instant>>,
    /// When some of each origin came from a node last.
    came: Mutex<BTreeMap<(NodeId, OriginId), Instant>>,
    /// Partitions that others had more of and that did not come, and since when: they are not waited for.
    pub(super) stuck: Mutex<BTreeMap<PartitionId, Instant>>,
    /// One look at the others at a time for each link.
    turns: Mutex<BTreeMap<u64, Arc<tokio::sync::Mutex<()>>>>,
    /// Who is not connected, and since when.
    away: Mutex<away::Away>,
    /// Who is connected and gives no answer, and since when.
    mute: Mutex<mute::Mute>,
    /// Origins that were forgotten here, and of which another node has newer events than were here.
    comes_again: Mutex<BTreeSet<OriginId>>,
    /// All is to be with the others: this node leaves.
    hands_over: AtomicBool,
    /// Up to where each node whose stream stands is known to have synced partitions.
    known: Mutex<BTreeMap<NodeId, BTreeMap<PartitionId, Offset>>>,
    /// Something of `known` has changed.
    moved: Notify,
    budget: Budget,
}

impl Within {
    /// Alone, until it is told of other nodes.
    pub fn new(log: Arc<EventLog>, records: Arc<Records>, site: u64) -> Arc<Self> {
        Arc::new(Self {
            log,
            records,
            site,
            nodes: OnceLock::new(),
            quorum: OnceLock::new(),
            brought: Mutex::default(),
            wanted: Mutex::default(),
            came: Mutex::default(),
            stuck: Mutex::default(),
            turns: Mutex::default(),
            away: Mutex::default(),
            mute: Mutex::default(),
            comes_again: Mutex::default(),
            hands_over: AtomicBool::new(false),
            known: Mutex::default(),
            moved: Notify::new(),
            // Apart from that of edges: these wait for what comes within the site.
            budget: Budgets::default().of(0),
        })
    }

    /// Says how the others are reached, and of which topics an edge is told that they are stored when a quorum has them.
    pub fn set_nodes(&self, nodes: Arc<dyn Nodes>, quorum: Vec<String>) {
        self.nodes.get_or_init(|| nodes);
        self.quorum.get_or_init(|| quorum);
    }

    /// An edge has brought some of an origin here: others have it from here.
    pub fn note_brought(&self, origin: OriginId) {
        let now = Instant::now();
        let mut brought = self.brought.lock();
        if brought.insert(origin, now).is_none() {
            brought.retain(|_, at| now.duration_since(*at) < SENDS_FOR);
        }
    }

    /// A node wants an origin from here.
    fn note_wanted(&self, node: NodeId, origin: OriginId) {
        let now = Instant::now();
        let mut wanted = self.wanted.lock();
        if wanted.len() >= WANTED_MAX {
            wanted.retain(|_, at| now.duration_since(*at) < SENDS_FOR);
        }
        if wanted.len() < WANTED_MAX {
            wanted.insert((node, origin), now);
        }
    }

    /// Whether a node is sent an origin at once, and not only where it has stood still behind.
    pub(super) fn sends_at_once(&self, node: NodeId, origin: OriginId) -> bool {
        let is_late = |at: Option<&Instant>| at.is_some_and(|at| at.elapsed() < SENDS_FOR);
        self.hands_over.load(Ordering::Relaxed)
            || is_late(self.brought.lock().get(&origin))
            || is_late(self.wanted.lock().get(&(node, origin)))
    }

    /// Origins that a node wants from here at once.
    fn wanted_by(&self, node: NodeId) -> BTreeSet<OriginId> {
        let wanted = self.wanted.lock();
        let of_node = wanted.range((node, OriginId(0))..=(node, OriginId(u64::MAX)));
        of_node.filter(|(_, at)| at.elapsed() < SENDS_FOR).map(|((_, origin), _)| *origin).collect()
    }

    /// Some of an origin has come from a node.
    fn note_came(&self, node: NodeId, origin: OriginId) {
        let now = Instant::now();
        let mut came = self.came.lock();
        if came.insert((node, origin), now).is_none() {
            came.retain(|_, at| now.duration_since(*at) < SENDS_FOR);
        }
    }

    /// A node has synced partitions up to these ends.
    fn note_known(&self, node: NodeId, ends: impl IntoIterator<Item = (PartitionId, Offset)>) {
        self.known.lock().entry(node).or_default().extend(ends);
        self.moved.notify_waiters();
    }

    /// Of partitions that are not here any more nothing is known.
    fn keep_known(&self, node: NodeId, here: &BTreeSet<PartitionId>) {
        if let Some(ends) = self.known.lock().get_mut(&node) {
            ends.retain(|id, _| here.contains(id));
        }
    }

    /// Nothing is known of a node any more: its stream has ended.
    fn forget_known(&self, node: NodeId) {
        self.known.lock().remove(&node);
    }
}
