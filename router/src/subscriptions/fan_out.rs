//! From a commit (or a QoS 0 publish on arrival) to the queues of those who want it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sled_data::{Offset, OpenBatch, OriginId};

use super::index::Index;
use super::queue::Subscriber;
use super::segment::{Judge, LateWills, Segment, SegmentBuilder};
use crate::event_log::{Batch, Committed, Observer, Wake};

/// Topics whose subscribers are remembered; beyond that the memory is begun anew.
const REMEMBERED_TOPICS_MAX: usize = 65_536;
/// Longer topic names are looked up each time, so that what is remembered is bounded in bytes too.
const REMEMBERED_NAME_BYTES_MAX: usize = 256;

/// How much may wait for a subscriber.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Bytes queued in memory for one subscriber; beyond that it reads the log, and misses QoS 0.
    pub queue_bytes_max: usize,
    /// Subscriptions that one session may have.
    pub filters_per_session_max: usize,
    /// Bytes of all filters of one session together.
    pub filter_bytes_per_session_max: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { queue_bytes_max: 8 << 20, filters_per_session_max: 1_000, filter_bytes_per_session_max: 256 << 10 }
    }
}

/// Counters of the fan-out.
#[derive(Debug, Default)]
pub struct Stats {
    /// Segments handed to subscribers.
    pub segments: AtomicU64,
}

/// Who wants what, and the way there.
pub struct FanOut {
    config: Config,
    index: RwLock<Index<u64>>,
    subscribers: RwLock<HashMap<u64, Arc<Subscriber>>>,
    filters: AtomicUsize,
    /// Rises when a subscription comes or goes.
    generation: AtomicU64,
    remembered: Mutex<Remembered>,
    judge: OnceLock<Judge>,
    stats: Stats,
}

#[derive(Default)]
struct Remembered {
    generation: u64,
    by_topic: HashMap<Box<str>, Arc<[u64]>>,
}

impl FanOut {
    /// An empty one.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            index: RwLock::new(Index::new()),
            subscribers: RwLock::default(),
            filters: AtomicUsize::new(0),
            generation: AtomicU64::new(1),
            remembered: Mutex::default(),
            judge: OnceLock::new(),
            stats: Stats::default(),
        }
    }

    /// Says who knows which wills of other nodes are late: they are not handed on. Who reads the log gets them. `own` is this node's life.
    pub fn set_late_wills(&self, own: OriginId, wills: Arc<dyn LateWills>) {
        let _ = self.judge.set(Judge { own, wills });
    }

    /// Its settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Its counters.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Makes a subscriber for session `number`; it gets nothing until it subscribes.
    pub fn join(&self, number: u64, wake: Arc<Wake>) -> Arc<Subscriber> {
        let subscriber = Arc::new(Subscriber::new(number, wake, self.config.queue_bytes_max));
        self.subscribers.write().insert(number, Arc::clone(&subscriber));
        subscriber
    }

    /// Adds a filter (valid, without `$share`) of a subscriber.
    pub fn subscribe(&self, number: u64, filter: &str) {
        self.index.write().insert(filter, number);
        self.filters.fetch_add(1, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Removes a filter of a subscriber.
    pub fn unsubscribe(&self, number: u64, filter: &str) {
        self.index.write().remove(filter, number);
        self.filters.fetch_sub(1, Ordering::Release);
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// Removes a subscriber with all its filters.
    pub fn leave<'a>(&self, number: u64, filters: impl IntoIterator<Item = &'a str>) {
        for filter in filters {
            self.unsubscribe(number, filter);
        }
        self.subscribers.write().remove(&number);
    }

    /// Rises whenever [`Self::wanted_by`] may answer otherwise.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// The session numbers of those who want a topic.
    pub fn wanted_by(&self, topic: &str) -> Arc<[u64]> {
        let generation = self.generation();
        let mut remembered = self.remembered.lock();
        if remembered.generation != generation || remembered.by_topic.len() >= REMEMBERED_TOPICS_MAX {
            remembered.by_topic.clear();
            remembered.generation = generation;
        }
        if let Some(found) = remembered.by_topic.get(topic) {
            return Arc::clone(found);
        }
        let found: Arc<[u64]> = self.index.read().matching(topic).into();
        if topic.len() <= REMEMBERED_NAME_BYTES_MAX {
            remembered.by_topic.insert(topic.into(), Arc::clone(&found));
        }
        found
    }

    /// The same of a topic that is asked for once: the answer is not remembered.
    pub fn wanted_once(&self, topic: &str) -> Vec<u64> {
        self.index.read().matching(topic)
    }

    /// Hands QoS 0 events on at once; `log_topic` is where they will be stored.
    pub fn publish_live(&self, log_topic: &str, records: OpenBatch) {
        let mut builder = SegmentBuilder::new(true);
        builder.add(log_topic, Batch::unplaced(records), 0..Offset::MAX);
        self.hand_out(Arc::new(builder.build()));
    }

    fn hand_out(&self, segment: Arc<Segment>) {
        let mut wanted: Vec<u64> = Vec::new();
        for topic in segment.topics() {
            let found = self.wanted_by(topic);
            wanted.extend(found.iter());
        }
        wanted.sort_unstable();
        wanted.dedup();
        if wanted.is_empty() {
            return;
        }
        self.stats.segments.fetch_add(1, Ordering::Relaxed);
        let subscribers = self.subscribers.read();
        for number in wanted {
            if let Some(subscriber) = subscribers.get(&number) {
                subscriber.push(&segment);
            }
        }
    }
}

impl Observer for FanOut {
    fn committed(&self, committed: &Arc<Committed>) {
        let mut builder = SegmentBuilder::new(false).judged_by(self.judge.get().cloned());
        for committed in &committed.batches {
            let topic = committed.partition.topic();
            if !topic.starts_with('_') {
                let batch = committed.batch.clone();
                let span = batch.base_offset()..batch.next_offset();
                builder.add(topic, batch, span);
            }
        }
        let segment = builder.build();
        if !segment.topics().is_empty() {
            self.hand_out(Arc::new(segment));
        }
    }

    fn is_listening(&self) -> bool {
        self.filters.load(Ordering::Acquire) > 0
    }
}
