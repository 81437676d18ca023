//! The spine: appends from doors and readers become numbered commits, durable together, then visible.
//!
//! `open` gathers what is appended; `committer` (one thread) closes it when the last sync has ended, stores it, syncs
//! once for all who wait; `outcome` tells the waiters; `partition` keeps the visible end and the newest batches. `topics`
//! finds partitions by name; `read` serves readers and `wake` rings them; `retention` lets go of what is old. `audit` is
//! the topic of what people and programs did; by a `stamp` readers know the newer of two writings.
//!
//! In a site `quorum` says which commits enough nodes have synced, and `newest` keeps what followers get next. What
//! others wrote goes through the committer too (`brought`): commits of the site's other nodes (`followed`), and what
//! links bring (`linked`). `lives` bounds how often others end this node's life; `full` says why the store takes nothing; `ended` knows the lives before it, `inherited` what they leave to be
//! acknowledged, and `later` which lives of other nodes have ended.

mod audit;
mod brought;
mod committer;
mod config;
mod ended;
mod followed;
mod full;
mod inherited;
mod later;
mod linked;
mod lives;
mod newest;
mod open;
mod outcome;
mod partition;
mod quorum;
mod read;
mod retention;
#[cfg(test)]
pub mod rubbish;
mod stamp;
mod stats;
mod topics;
mod wake;
mod writers;

#[cfg(test)]
mod failure_tests;
#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};
use sled_data::{PartitionId, Store};
use tokio::sync::watch;

use crate::clock::Clock;

pub use audit::{AUDIT_TEXT_BYTES_MAX, AUDIT_TOPIC, Act};
pub use committer::{Committed, CommittedBatch, Observer};
pub use config::Config;
pub use followed::{FollowFailed, Gaps};
pub use full::FULL_ADVICE;
pub use later::FollowedLives;
pub use linked::{Comes, Held, LinkFailed, SITE_SEPARATOR};
pub use lives::{LeftLife, Outliver};
pub use newest::NewestCommit;
pub use open::{AppendError, NO_HEADERS, NewEvent, OpenCommit, fits_state};
pub use outcome::{CommitFailed, Ticket};
pub use partition::{Batch, PartitionLog};
pub use quorum::{is_spare, reached as quorum_reached};
pub use read::{ReadError, StateEntries};
pub use retention::RetentionPass;
pub use stamp::Stamp;
pub use stats::{SYNC_BUCKETS_US, Stats};
pub use topics::{PARTITIONS_MAX, TOPIC_NAME_BYTES_MAX, Topic, TopicError, is_internal, topic_id};
pub use wake::Wake;

use open::Open;
use outcome::Outcomes;

/// The node's event log: shared by every door and reader.
pub struct EventLog {
    store: Arc<Store>,
    clock: Arc<Clock>,
    config: Config,
    open: Mutex<Open>,
    /// Wakes the committer; it sleeps only while nothing is open.
    work: parking_lot::Condvar,
    outcomes: Outcomes,
    quorum: quorum::Quorum,
    newest: newest::NewestCommits,
    /// Held while commits are shown to readers: one after the other.
    showing: Mutex<()>,
    topics: RwLock<topics::Topics>,
    /// The site that the node belongs to; topics have their ids from it.
    site: std::sync::OnceLock<u64>,
    partitions: RwLock<HashMap<PartitionId, Arc<PartitionLog>>>,
    /// How often a partition came, went, or had its first event.
    turns: Arc<AtomicU64>,
    slots: RwLock<Vec<Arc<PartitionLog>>>,
    /// Lives of the store that had ended when it was opened, the oldest first.
    ended: Vec<sled_data::OriginId>,
    /// Linked origins that another node of the site has brought here, and no link lately.
    linked_within: Mutex<std::collections::BTreeSet<sled_data::OriginId>>,
    /// Held while a commit is placed and written, and while a topic is deleted: never both at once.
    placing: Mutex<()>,
    recent: partition::RecentBudget,
    observers: RwLock<Vec<Arc<dyn Observer>>>,
    visible: watch::Sender<u64>,
    /// Rises with it, where internal topics may show more.
    internal: watch::Sender<u64>,
    synced: watch::Sender<u64>,
    stats: Stats,
    committer: Mutex<Option<std::thread::JoinHandle<()>>>,
}

/// Why the event log did not start.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The committer's thread could not be made.
    #[error("the committer's thread could not be started: {0}; check the process limits")]
    Thread(#[from] std::io::Error),
}

impl EventLog {
    /// Puts the log on a store and starts its committer.
    ///
    /// # Errors
    /// When the system refuses a thread.
    pub fn open(store: Arc<Store>, clock: Arc<Clock>, config: Config) -> Result<Arc<Self>, OpenError> {
        let log = Arc::new(Self {
            recent: partition::RecentBudget::new(config.recent_bytes_max),
            open: Mutex::new(Open::new()),
            work: parking_lot::Condvar::new(),
            outcomes: Outcomes::new(),
            quorum: quorum::Quorum::default(),
            newest: newest::NewestCommits::default(),
            showing: Mutex::default(),
            linked_within: Mutex::default(),
            topics: RwLock::default(),
            site: std::sync::OnceLock::new(),
            partitions: RwLock::default(),
            turns: Arc::default(),
            slots: RwLock::default(),
            placing: Mutex::default(),
            observers: RwLock::default(),
            ended: ended::ended_lives(&store),
            visible: watch::Sender::new(0),
            internal: watch::Sender::new(0),
            synced: watch::Sender::new(0),
            stats: Stats::default(),
            committer: Mutex::new(None),
            store,
            clock,
            config,
        });
        log.load_topics();
        let thread = committer::start(&log)?;
        *log.committer.lock() = Some(thread);
        log.note_ended_lives();
        log.note_writers();
        Ok(log)
    }

    /// The store beneath, for what only reads: verify, sizes, the commit stream.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }

    /// Says which site the node belongs to, once, before topics are made.
    pub fn set_site(&self, site: u64) {
        self.site.get_or_init(|| site);
    }

    /// The site that the node belongs to.
    pub fn site(&self) -> Option<u64> {
        self.site.get().copied()
    }

    /// The node's clock.
    pub fn clock(&self) -> &Arc<Clock> {
        &self.clock
    }

    /// Counters for the metrics' face.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Adds one who is told of every visible commit, on the committer's thread: it must be quick.
    pub fn observe(&self, observer: Arc<dyn Observer>) {
        self.observers.write().push(observer);
    }

    /// Rises with every commit that becomes visible; what a tailing reader awaits.
    pub fn watch(&self) -> watch::Receiver<u64> {
        self.visible.subscribe()
    }

    /// Rises where internal topics may show more (`_commands`, `_twins`), and where partitions come and go: what the rooms that read nothing else await,
    /// so that not every commit of readings wakes them.
    pub fn watch_internal(&self) -> watch::Receiver<u64> {
        self.internal.subscribe()
    }

    /// Rises whenever commits of this node became durable; what those who follow it await.
    pub fn watch_synced(&self) -> watch::Receiver<u64> {
        self.synced.subscribe()
    }

    /// Rises whenever a partition comes, goes, or shows its first event: who looks through all of them need not again until then.
    pub fn partition_turns(&self) -> u64 {
        self.turns.load(Ordering::Acquire)
    }

    /// Ends the committer after it has made everything open durable. Appends are refused from now on.
    pub fn close(&self) {
        self.open.lock().closing = true;
        self.work.notify_all();
        let thread = self.committer.lock().take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the committer's thread had panicked before the log was closed");
        }
    }
}
