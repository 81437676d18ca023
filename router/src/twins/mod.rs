//! Device twins: a reader of `_reports` and `_wishes` with stored cursors, whose accepted changes are `_twins`.
//!
//! `table` decides about changes and `courier` about what devices are told; both are pure. `task` reads what was
//! appended, asks the table, and puts changes, the changed twins and the moved cursors into one commit; what has
//! become durable is told. `others` takes what other nodes of the site have changed. `set` is the way in for people: a
//! change of theirs is a commit of its own. `view` is what is shown.

mod config;
mod courier;
mod others;
mod read;
mod record;
mod set;
mod table;
mod task;
mod view;

#[cfg(test)]
mod site_tests;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use devices::twin::{REPORTS_TOPIC, TWINS_TOPIC, WISHES_TOPIC};
use parking_lot::Mutex;
use sled_data::{ReadError as StoreError, TopicConfig};
use tokio::sync::{Notify, watch};

use crate::event_log::{EventLog, Ticket, Topic, TopicError};
use crate::sessions::{Delivery, Sessions};
use courier::{Courier, Kind};
use others::{Onlooker, Others};
use read::Reading;
use table::{Moment, Table};

pub use config::Config;
pub use set::{Set, TwinError};
pub use view::{SideView, TwinRow, TwinView};

/// The reader's name: whose cursors are stored.
pub const READER: &str = "twins";

/// How often a twin is looked at again because the commit that it was in failed.
const READ_ATTEMPTS_MAX: usize = 3;

/// Counters of the room.
#[derive(Debug, Default)]
pub struct Stats {
    /// Accepted changes of what is desired.
    pub desired: AtomicU64,
    /// Accepted changes of what is reported.
    pub reported: AtomicU64,
    /// Changes that other nodes made.
    pub merged: AtomicU64,
    /// Deletions.
    pub deleted: AtomicU64,
    /// Requests that changed nothing.
    pub unchanged: AtomicU64,
    /// Requests that were refused.
    pub refused: AtomicU64,
    /// Deltas handed to a session.
    pub deltas: AtomicU64,
    /// Twins handed to a session, as its device asked.
    pub states: AtomicU64,
    /// Events on the topics that could not be read.
    pub unreadable: AtomicU64,
    /// Times that the table was rebuilt because a commit failed.
    pub rebuilt: AtomicU64,
}

/// Why the room could not be opened, or its table not be rebuilt.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// A topic could not be made.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// A topic's retention could not be set.
    #[error(transparent)]
    Retention(#[from] sled_data::TopicError),
    /// The stored twins or cursors could not be read.
    #[error("the stored twins cannot be read: {0}; run `edgeway store verify`")]
    Store(#[from] StoreError),
}

/// How a session fared with a message.
struct Report {
    device: Arc<str>,
    kind: Kind,
    delivery: Delivery,
}

/// What sessions have reported since the last round: at most three reports for each message under way.
#[derive(Default)]
struct Reports {
    list: Mutex<Vec<Report>>,
    arrived: Notify,
}

/// What changes together.
#[derive(Default)]
struct Inner {
    table: Table,
    courier: Courier,
    reading: Vec<Reading>,
    /// The commit that the table's newest change is in.
    newest: Option<Ticket>,
    /// How often commits had failed when the table was as the store has it.
    failures: u64,
    /// The table is ahead of the store: it must be rebuilt before anything is decided.
    is_stale: bool,
}

/// The room of twins. [`Twins::run`] is its one task.
pub struct Twins {
    log: Arc<EventLog>,
    sessions: Arc<Sessions>,
    config: Config,
    /// `_twins`.
    changes: Arc<Topic>,
    /// `_reports` and `_wishes`.
    sources: [Arc<Topic>; 2],
    inner: Mutex<Inner>,
    reports: Arc<Reports>,
    others: Mutex<Others>,
    changed: watch::Sender<u64>,
    stats: Stats,
}

impl Twins {
    /// Opens the room: makes its topics and reads its table.
    ///
    /// # Errors
    /// When the store cannot be read or takes no topic.
    pub fn open(log: Arc<EventLog>, sessions: Arc<Sessions>, config: Config) -> Result<Arc<Self>, OpenError> {
        let settings = TopicConfig { retention_ms: Some(config.retention_ms), ..TopicConfig::default() };
        let topic = |name| -> Result<Arc<Topic>, OpenError> {
            let topic = log.ensure_topic(name, Some(settings.clone()))?;
            // Whoever made it first may have set no bound; one that was set is kept.
            if topic.config().retention_ms.is_none() && topic.config().retention_bytes.is_none() {
                log.store().set_topic_retention(topic.id(), settings.retention_ms, None)?;
            }
            Ok(topic)
        };
        let changes = topic(TWINS_TOPIC)?;
        let sources = [topic(REPORTS_TOPIC)?, topic(WISHES_TOPIC)?];
        let room = Self {
            inner: Mutex::default(),
            reports: Arc::default(),
            others: Mutex::default(),
            changed: watch::Sender::new(0),
            stats: Stats::default(),
            log,
            sessions,
            config,
            changes,
            sources,
        };
        let room = Arc::new(room);
        room.log.observe(Arc::new(Onlooker(Arc::downgrade(&room))));
        room.rebuild(&mut room.inner.lock())?;
        // Before retention looks.
        let left = room.sources.iter().flat_map(|topic| room.log.ended_partitions(topic));
        room.log.begin_in_ended(READER, left.map(|partition| (partition.id(), 0)));
        Ok(room)
    }

    /// A device's twin as it is decided, which may be a moment before it is durable.
    pub fn get(&self, device: &str) -> Option<TwinView> {
        self.inner.lock().table.get(device).map(|twin| TwinView::new(device, twin))
    }

    /// A device's twin as it is durable.
    pub async fn read(&self, device: &str) -> Option<TwinView> {
        for _ in 0..READ_ATTEMPTS_MAX {
            let (twin, newest) = self.look_at(device);
            let Some(ticket) = newest else { return twin };
            if self.log.durable(ticket).await.is_ok() {
                return twin;
            }
            if let Err(error) = self.refresh().await {
                tracing::error!(%error, "the twins could not be rebuilt");
            }
        }
        None
    }

    /// A twin, and the commit that must be durable for it to be so.
    fn look_at(&self, device: &str) -> (Option<TwinView>, Option<Ticket>) {
        let inner = self.inner.lock();
        (inner.table.get(device).map(|twin| TwinView::new(device, twin)), inner.newest)
    }

    /// Twins of devices whose names come after one, in order, at most `max`.
    pub fn list(&self, after: Option<&str>, max: usize) -> Vec<TwinRow> {
        let inner = self.inner.lock();
        let differs = |device: &Arc<str>| inner.table.differing().contains(device);
        let twins = inner.table.after(after).take(max);
        twins.map(|(device, twin)| TwinRow::new(device, twin, differs(device))).collect()
    }

    /// How many there are, how many bytes they take, and how many have a delta.
    pub fn figures(&self) -> (usize, usize, usize) {
        let inner = self.inner.lock();
        (inner.table.count(), inner.table.bytes(), inner.table.differing().len())
    }

    /// Waits until a device's twin has another version than `version` (0: none), durably; the twin as it is then, or
    /// when the time is over.
    pub async fn wait(&self, device: &str, version: u64, timeout: Duration) -> Option<TwinView> {
        match tokio::time::timeout(timeout, self.other_than(device, version)).await {
            Ok(other) => other,
            Err(_) => self.read(device).await,
        }
    }

    async fn other_than(&self, device: &str, version: u64) -> Option<TwinView> {
        let mut changed = self.changed.subscribe();
        loop {
            changed.mark_unchanged();
            let (twin, newest) = self.look_at(device);
            let is_other = twin.as_ref().map_or(0, |twin| twin.version) != version;
            let is_durable = match newest {
                Some(ticket) if is_other => self.log.durable(ticket).await.is_ok(),
                _ => true,
            };
            if is_other && is_durable {
                return twin;
            }
            if changed.changed().await.is_err() {
                // The room is gone; the caller's timeout ends the wait.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Counters for the metrics' face.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    fn wall_ms(&self) -> u64 {
        u64::try_from(self.log.clock().wall_ms()).unwrap_or(0)
    }

    fn moment(&self) -> Moment {
        Moment { at_ms: self.wall_ms(), stamp: self.log.stamp_after(None) }
    }
}
