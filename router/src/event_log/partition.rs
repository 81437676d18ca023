//! One partition in memory: how far readers may see, and its newest batches.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use sled_data::{Offset, OpenBatch, PartitionId, RecordRef, Records, TopicConfig, TopicInfo};

use super::topics::is_internal;

/// A batch as a reader gets it, from memory or from the store.
#[derive(Clone)]
pub struct Batch {
    partition: PartitionId,
    base: Offset,
    count: u32,
    is_late: bool,
    records: Source,
}

#[derive(Clone)]
enum Source {
    Recent(Arc<OpenBatch>),
    Stored(Arc<Records>),
}

impl Batch {
    pub(super) fn recent(partition: PartitionId, base: Offset, records: Arc<OpenBatch>) -> Self {
        Self { partition, base, count: records.count(), is_late: false, records: Source::Recent(records) }
    }

    pub(super) fn stored(partition: PartitionId, base: Offset, count: u32, records: Records) -> Self {
        Self { partition, base, count, is_late: false, records: Source::Stored(Arc::new(records)) }
    }

    /// The same, as come late by a link or not.
    pub(super) fn late(self, is_late: bool) -> Self {
        Self { is_late, ..self }
    }

    /// Whether it came late by a link, as after an outage: long after its origin had stored it.
    pub fn is_late(&self) -> bool {
        self.is_late
    }

    /// The hybrid clock of its commit, where it was read from the store; `None`: it was appended a moment ago.
    pub fn stored_clock(&self) -> Option<u64> {
        match &self.records {
            Source::Recent(_) => None,
            Source::Stored(records) => Some(records.envelope().hlc),
        }
    }

    /// Events that are handed on before they are stored: they have no partition or offset yet.
    pub fn unplaced(records: OpenBatch) -> Self {
        let nowhere = PartitionId { origin: sled_data::OriginId(0), topic: sled_data::TopicId(0), index: 0 };
        Self::recent(nowhere, 0, Arc::new(records))
    }

    /// The partition it belongs to.
    pub fn partition(&self) -> PartitionId {
        self.partition
    }

    /// The offset of its first event; it may lie before what was asked for.
    pub fn base_offset(&self) -> Offset {
        self.base
    }

    /// The offset after its last event.
    pub fn next_offset(&self) -> Offset {
        self.base + Offset::from(self.count)
    }

    /// How many events it has.
    pub fn count(&self) -> u32 {
        self.count
    }

    /// Bytes of its records, uncompressed.
    pub fn record_bytes(&self) -> usize {
        match &self.records {
            Source::Recent(open) => open.record_bytes(),
            Source::Stored(records) => records.envelope().record_bytes as usize,
        }
    }

    /// Its events from `from` on, each with its offset.
    pub fn events_from(&self, from: Offset) -> impl Iterator<Item = (Offset, RecordRef<'_>)> {
        let base = self.base;
        let records = match &self.records {
            Source::Recent(open) => open.records(),
            Source::Stored(records) => records.iter(),
        };
        records
            .map(move |record| (base + Offset::from(record.offset_delta), record))
            .filter(move |(offset, _)| *offset >= from)
    }
}

/// The slot of partitions that other lives write: nobody appends to them.
pub(super) const NO_SLOT: u32 = u32::MAX;

/// One partition as the event log keeps it: this life's own, or one that another life writes.
pub struct PartitionLog {
    id: PartitionId,
    slot: u32,
    topic: Arc<str>,
    is_internal: bool,
    config: TopicConfig,
    deleted: AtomicBool,
    /// The offset of the next event.
    end: AtomicU64,
    visible_end: AtomicU64,
    /// Up to where observers have been told; behind the visible end for a moment at most.
    handed_end: AtomicU64,
    recent: Mutex<VecDeque<(Offset, Arc<OpenBatch>)>>,
    /// What lies ahead of the end and may be seen by who asks for the newest, in order: from, to before.
    aheads: Mutex<Vec<(Offset, Offset)>>,
    /// Rises when the first event is shown; of all partitions.
    turns: Arc<AtomicU64>,
}

impl PartitionLog {
    /// `turns` rises when it shows its first event.
    pub(super) fn new(id: PartitionId, slot: u32, topic: &TopicInfo, end: Offset, turns: &Arc<AtomicU64>) -> Self {
        Self {
            id,
            slot,
            topic: Arc::from(topic.name.as_str()),
            is_internal: is_internal(&topic.name),
            config: topic.config.clone(),
            deleted: AtomicBool::new(false),
            end: AtomicU64::new(end),
            visible_end: AtomicU64::new(end),
            handed_end: AtomicU64::new(end),
            recent: Mutex::default(),
            aheads: Mutex::default(),
            turns: Arc::clone(turns),
        }
    }

    /// A partition that another life writes, of no log.
    pub fn foreign(id: PartitionId, topic: &TopicInfo, end: Offset) -> Self {
        Self::new(id, NO_SLOT, topic, end, &Arc::default())
    }

    /// Notes up to where readers see, and saw before.
    fn shown(&self, before: Offset, end: Offset) {
        if before == 0 && end > 0 {
            self.turns.fetch_add(1, Ordering::AcqRel);
        }
    }

    /// The name of its topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Whether its topic is internal, here or at the site that it is of.
    pub(super) fn is_internal(&self) -> bool {
        self.is_internal
    }

    /// The configuration of its topic.
    pub fn config(&self) -> &TopicConfig {
        &self.config
    }

    pub(super) fn mark_deleted(&self) {
        self.deleted.store(true, Ordering::Release);
        self.recent.lock().clear();
    }

    pub(super) fn is_deleted(&self) -> bool {
        self.deleted.load(Ordering::Acquire)
    }

    /// Its identity: origin, topic and number.
    pub fn id(&self) -> PartitionId {
        self.id
    }

    pub(super) fn slot(&self) -> u32 {
        self.slot
    }

    /// The offset of the next event; behind the visible end where events wait for their quorum.
    pub(super) fn end(&self) -> Offset {
        self.end.load(Ordering::Acquire)
    }

    /// Notes that events were stored up to `end`; nobody sees them yet.
    pub(super) fn stored_up_to(&self, end: Offset) {
        self.end.store(end, Ordering::Release);
    }

    /// Up to where readers may see: the first offset that they may not.
    pub fn visible_end(&self) -> Offset {
        self.visible_end.load(Ordering::Acquire)
    }

    /// Up to where subscribers have been handed the events: never before the visible end has passed it.
    pub fn handed_end(&self) -> Offset {
        self.handed_end.load(Ordering::Acquire)
    }

    pub(super) fn handed_out(&self) {
        self.handed_end.store(self.visible_end(), Ordering::Release);
    }

    /// Shows events of another life up to `end`, which are read from the store.
    pub fn show_up_to(&self, end: Offset) {
        self.stored_up_to(end);
        let before = self.visible_end.fetch_max(end, Ordering::AcqRel);
        self.shown(before, end);
    }

    /// Shows what lies ahead of the end, behind open holes, in order; nothing where nothing does any more.
    pub fn show_ahead(&self, aheads: Vec<(Offset, Offset)>) {
        *self.aheads.lock() = aheads;
        self.hide_reached();
    }

    /// What is shown ahead of the end, in order: from, to before.
    pub(super) fn aheads(&self) -> Vec<(Offset, Offset)> {
        self.aheads.lock().clone()
    }

    /// What the visible end has come to lies ahead no more.
    pub fn hide_reached(&self) {
        let end = self.visible_end();
        self.aheads.lock().retain(|(from, _)| *from > end);
    }

    /// The part ahead of the visible end that an offset lies in, or before, behind an open hole: from, to before. Who keeps a cursor does not read it before
    /// the hole is full.
    pub fn ahead_at(&self, offset: Offset) -> Option<(Offset, Offset)> {
        self.aheads.lock().iter().find(|(_, end)| offset < *end).copied()
    }

    /// Up to where who asks for the newest may see: behind what lies ahead.
    pub fn newest_end(&self) -> Offset {
        let last = self.aheads.lock().iter().rfind(|(from, end)| from < end).copied();
        last.map_or(0, |(_, end)| end).max(self.visible_end())
    }

    /// Shows a batch of this life to readers.
    pub(super) fn show(&self, base: Offset, batch: Arc<OpenBatch>) {
        let next = base + Offset::from(batch.count());
        self.recent.lock().push_back((base, batch));
        let before = self.visible_end.swap(next, Ordering::AcqRel);
        self.shown(before, next);
    }

    /// The newest batches from `from` on, or `None` where memory does not reach back so far.
    pub(super) fn recent_from(&self, from: Offset, bytes_max: usize) -> Option<Vec<Batch>> {
        let recent = self.recent.lock();
        let first = recent.front()?.0;
        if from < first {
            return None;
        }
        let start = recent.partition_point(|(base, _)| *base <= from).saturating_sub(1);
        let mut bytes = 0;
        let mut found = Vec::new();
        for (base, batch) in recent.iter().skip(start) {
            if bytes > 0 && bytes + batch.record_bytes() > bytes_max {
                break;
            }
            bytes += batch.record_bytes();
            found.push(Batch::recent(self.id, *base, Arc::clone(batch)));
        }
        Some(found)
    }

    fn forget_oldest(&self) {
        self.recent.lock().pop_front();
    }
}

/// Keeps the recent batches of all partitions together within one bound; the oldest go first.
pub(super) struct RecentBudget {
    bytes_max: usize,
    kept: Mutex<Kept>,
}

struct Kept {
    bytes: usize,
    /// The batches in the order in which they came, with their bytes.
    order: VecDeque<(Arc<PartitionLog>, usize)>,
}

impl RecentBudget {
    pub(super) fn new(bytes_max: usize) -> Self {
        Self { bytes_max, kept: Mutex::new(Kept { bytes: 0, order: VecDeque::new() }) }
    }

    /// Counts a batch that was shown, and forgets the oldest while the bound is passed.
    pub(super) fn add(&self, partition: &Arc<PartitionLog>, bytes: usize) {
        let mut kept = self.kept.lock();
        kept.bytes += bytes;
        kept.order.push_back((Arc::clone(partition), bytes));
        while kept.bytes > self.bytes_max {
            let Some((oldest, bytes)) = kept.order.pop_front() else { break };
            oldest.forget_oldest();
            kept.bytes = kept.bytes.saturating_sub(bytes);
        }
    }
}
