//! The first pass: which partitions there are, and in which order they are taken.

use std::collections::{BTreeMap, HashMap};

use crate::batch::Envelope;
use crate::ids::{OriginId, PartitionId, TopicId};

/// Most partitions that are told apart; what is found of others is left out.
const PARTITIONS_FOUND_MAX: usize = 1 << 20;

/// What was seen of one partition.
#[derive(Copy, Clone, Debug)]
struct Seen {
    first_hlc: u64,
    last_hlc: u64,
}

/// The partitions found.
#[derive(Debug, Default)]
pub(super) struct Census {
    seen: HashMap<PartitionId, Seen>,
    values: u64,
    ranked: Vec<PartitionId>,
    ranks: HashMap<PartitionId, u32>,
}

/// What was seen of one topic.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) struct TopicSeen {
    /// The largest partition number.
    pub index_max: u32,
    /// The newest hybrid clock.
    pub last_hlc: u64,
}

impl Census {
    /// Counts a batch.
    pub(super) fn add(&mut self, envelope: &Envelope) {
        // Later parts are counted with the first.
        self.values += 1 + u64::from(envelope.kafka_bytes) / crate::batch::BATCH_BYTES_MAX as u64;
        let full = self.seen.len() >= PARTITIONS_FOUND_MAX;
        match self.seen.get_mut(&envelope.partition) {
            Some(seen) => {
                seen.first_hlc = seen.first_hlc.min(envelope.hlc);
                seen.last_hlc = seen.last_hlc.max(envelope.hlc);
            }
            None if full => {}
            None => {
                let seen = Seen { first_hlc: envelope.hlc, last_hlc: envelope.hlc };
                self.seen.insert(envelope.partition, seen);
            }
        }
    }

    /// Puts the partitions in order: by topic and number, those of several lives by when the life's first batch was stored.
    pub(super) fn rank(&mut self) {
        self.ranked = self.seen.keys().copied().collect();
        let order = |id: &PartitionId| (id.topic, id.index, self.seen.get(id).map(|seen| seen.first_hlc), id.origin);
        self.ranked.sort_by_key(order);
        self.ranks = self.ranked.iter().copied().zip(0..).collect();
    }

    /// Whether nothing was found.
    pub(super) fn is_empty(&self) -> bool {
        self.seen.is_empty()
    }

    /// Values that batches and their parts take, copies counted as often as they were found.
    pub(super) fn values(&self) -> u64 {
        self.values
    }

    /// A partition's place in the order.
    pub(super) fn rank_of(&self, id: PartitionId) -> Option<u32> {
        self.ranks.get(&id).copied()
    }

    /// The partition at a place in the order that [`Census::rank_of`] gave.
    pub(super) fn partition(&self, rank: u32) -> PartitionId {
        self.ranked[rank as usize]
    }

    /// Whether any batch of the partition was seen.
    pub(super) fn holds(&self, id: PartitionId) -> bool {
        self.seen.contains_key(&id)
    }

    /// All partitions, in order.
    pub(super) fn partitions(&self) -> &[PartitionId] {
        &self.ranked
    }

    /// All topics.
    pub(super) fn topics(&self) -> BTreeMap<TopicId, TopicSeen> {
        let mut topics = BTreeMap::new();
        for (id, seen) in &self.seen {
            let topic = topics.entry(id.topic).or_insert(TopicSeen { index_max: 0, last_hlc: 0 });
            topic.index_max = topic.index_max.max(id.index);
            topic.last_hlc = topic.last_hlc.max(seen.last_hlc);
        }
        topics
    }

    /// All lives.
    pub(super) fn origins(&self) -> Vec<OriginId> {
        let mut origins: Vec<OriginId> = self.seen.keys().map(|id| id.origin).collect();
        origins.sort_unstable();
        origins.dedup();
        origins
    }
}
