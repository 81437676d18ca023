//! What salvage found, where it went, and what is missing.

use crate::ids::{Offset, PartitionId, TopicId};
use crate::topic::TopicConfig;

/// Most ranges of each kind that are listed of one partition.
pub const SALVAGE_RANGES_MAX: usize = 10_000;

/// What was salvaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SalvageReport {
    /// Bytes of the damaged store's files.
    pub bytes: u64,
    /// Those that the disk did not give.
    pub unreadable_bytes: u64,
    /// The topics, by their names in the new store.
    pub topics: Vec<SalvagedTopic>,
}

/// A topic of the new store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvagedTopic {
    /// Its number, in both stores.
    pub id: TopicId,
    /// Its name in the new store.
    pub name: String,
    /// Its name in the damaged store, where its record was found.
    pub recorded_name: Option<String>,
    /// Its settings in the new store.
    pub config: TopicConfig,
    /// Its partitions in the damaged store, those of several lives too.
    pub partitions: Vec<SalvagedPartition>,
}

/// A partition of the damaged store. Its events are in the new store's partition of the same topic and number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SalvagedPartition {
    /// Its identity in the damaged store.
    pub partition: PartitionId,
    /// The first offset that it kept, as last recorded; older events come back where they had not been overwritten.
    pub start: Option<Offset>,
    /// Where it ended, as last recorded. Without a record nobody knows what is missing at its end.
    pub end: Option<Offset>,
    /// Batches that were salvaged.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Where the events went, at most [`SALVAGE_RANGES_MAX`].
    pub runs: Vec<SalvagedRun>,
    /// What is missing, at most [`SALVAGE_RANGES_MAX`].
    pub missing: Vec<MissingRange>,
    /// Ranges beyond those listed.
    pub unlisted: u64,
}

/// Events with the offsets `from` up to before `to` in the damaged store, which have those from `new_from` on in the new one.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SalvagedRun {
    /// First old offset.
    pub from: Offset,
    /// First old offset after them.
    pub to: Offset,
    /// First new offset.
    pub new_from: Offset,
}

/// Events that were not salvaged: offsets `from` up to before `to` of the damaged store.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct MissingRange {
    /// First offset.
    pub from: Offset,
    /// First offset after them.
    pub to: Offset,
    /// Whether their batch was found, with bytes that are damaged; else nothing was found of it.
    pub damaged: bool,
}

impl SalvageReport {
    pub(super) fn about(topics: Vec<SalvagedTopic>) -> SalvageReport {
        SalvageReport { topics, ..SalvageReport::default() }
    }

    pub(super) fn add(&mut self, account: SalvagedPartition) {
        let topic = account.partition.topic;
        // A partition without a batch is told of where something is missing.
        let worth_telling = account.batches > 0 || !account.missing.is_empty();
        if let Some(topic) = self.topics.iter_mut().find(|t| t.id == topic).filter(|_| worth_telling) {
            topic.partitions.push(account);
        }
    }

    /// All partitions of the damaged store.
    pub fn partitions(&self) -> impl Iterator<Item = &SalvagedPartition> {
        self.topics.iter().flat_map(|topic| &topic.partitions)
    }

    /// Events that were salvaged.
    pub fn events(&self) -> u64 {
        self.partitions().map(|partition| partition.events).sum()
    }

    /// Whether nothing is known to be missing: each partition's recorded end was found, and every event up to it.
    pub fn is_complete(&self) -> bool {
        self.unreadable_bytes == 0
            && self.partitions().all(|partition| partition.missing.is_empty() && partition.end.is_some())
    }
}
