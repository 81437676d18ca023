//! Reads a range of a topic at the edge: of all origins that are meant, merged by the order of their commits, a bounded window of
//! each partition at a time. Reads the store: not for a task.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{
    Durability, Hole, HoleWhy, LINKED_PARTS_MAX, LinkedPart, Offset, OriginId, PartitionId, ReadError, Store, hlc_ms,
};

use super::super::config::LinkConfig;
use super::super::lanes::gone;
use super::super::waiting::meant;
use super::super::wire::{PARTITIONS_MAX, Parts, part_bytes};
use super::wire::{Ask, End, From, Span};
use crate::event_log::{EventLog, PartitionLog};

/// Bytes that all windows of a request may hold, besides one batch of each partition.
const WINDOWS_BYTES_MAX: usize = 1 << 20;
/// Bytes that are read of a partition at once.
const READ_BYTES_MAX: usize = 64 << 10;
/// Bytes of records of one frame, uncompressed, unless it has one batch alone: upstream makes lines of them all.
const RECORD_BYTES_MAX: u64 = 1 << 20;

/// Why a range is not read.
pub type Refusal = (End, String);

/// A range that is being read.
pub struct Range {
    lanes: BTreeMap<PartitionId, Lane>,
    /// Lanes that have something next, by the hybrid clock of it.
    ready: BTreeSet<(u64, PartitionId)>,
    events_left: u64,
}

struct Lane {
    log: Arc<PartitionLog>,
    /// What is given next.
    at: Offset,
    /// What is read next.
    next: Offset,
    to: Offset,
    window: std::collections::VecDeque<LinkedPart>,
}

/// Finds the range that is asked for, and says what it is.
///
/// # Errors
/// Why there is none.
pub fn find(log: &EventLog, config: &LinkConfig, ask: &Ask) -> Result<(Range, Vec<Span>), Refusal> {
    let name = &ask.topic;
    if !config.gives(name) {
        let text = format!("topic {name} is not given on demand: at the site, [[link]] detail says which are");
        return Err((End::NotGiven, text));
    }
    let topic = log.topic(name).ok_or_else(|| (End::NoTopic, format!("the site has no topic {name}")))?;
    if let Some(index) = ask.partition.filter(|index| *index >= topic.partitions()) {
        let count = topic.partitions();
        return Err((End::NoTopic, format!("topic {name} has {count} partitions there, there is no number {index}")));
    }
    let mut partitions = log.partitions_of(&topic);
    let is_meant = meant(log, config);
    partitions.retain(|partition| {
        is_meant(partition.id().origin) && ask.partition.is_none_or(|index| index == partition.id().index)
    });
    if partitions.len() > PARTITIONS_MAX {
        let text =
            format!("topic {name} has {} partitions of all gateways there: ask for one at a time", partitions.len());
        return Err((End::Wrong, text));
    }
    let failed = |error: ReadError| (End::Failed, format!("the site cannot look up the range: {error}"));
    let mut spans = Vec::new();
    let mut range = Range { lanes: BTreeMap::new(), ready: BTreeSet::new(), events_left: ask.events_max };
    for log_of in partitions {
        let span = span(log, &log_of, ask).map_err(failed)?;
        if span.from < span.to {
            let lane = Lane { log: log_of, at: span.from, next: span.from, to: span.to, window: Default::default() };
            range.lanes.insert(span.id, lane);
        }
        spans.push(span);
    }
    for id in range.lanes.keys().copied().collect::<Vec<_>>() {
        range.fill(log.store(), id).map_err(failed)?;
    }
    Ok((range, spans))
}

/// The range of one partition.
fn span(log: &EventLog, partition: &PartitionLog, ask: &Ask) -> Result<Span, ReadError> {
    let (store, id, end) = (log.store(), partition.id(), partition.visible_end());
    let start = store.start_offset(id);
    let gone_on = ask.after.next(id.origin, id.index);
    let from = match (gone_on, ask.from) {
        (Some(next), _) => next,
        (None, From::Start) => start,
        (None, From::Offset(offset)) => offset,
        (None, From::TimeMs(ms)) => store.offset_at_time(id, ms)?,
    };
    let to = match ask.to_ms {
        Some(ms) => store.offset_at_time(id, ms)?.min(end),
        None => end,
    };
    let is_cut = gone_on.is_none() && matches!(ask.from, From::TimeMs(_)) && start > 0 && from == start;
    let oldest_ms = if is_cut { oldest_ms(store, id, start, end) } else { None };
    Ok(Span { id, from, to, oldest_ms })
}

/// When the oldest that is kept came; where nothing is, when the newest that was came is not known: the end of time.
fn oldest_ms(store: &Store, id: PartitionId, start: Offset, end: Offset) -> Option<i64> {
    if start >= end {
        return Some(i64::MAX);
    }
    let batches = store.read(id, start, 1).ok()?;
    batches.first().map(|batch| hlc_ms(batch.envelope().hlc))
}

/// What comes next.
pub struct Round {
    /// It, under a number.
    pub parts: Parts,
    /// Whether some may be acknowledged and not yet synced here.
    pub must_sync: bool,
}

impl Range {
    /// What comes next, about `bytes_max` bytes of one origin, as a frame of that number; `None` at the end.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next_round(&mut self, store: &Store, number: u64, bytes_max: usize) -> Result<Option<Round>, ReadError> {
        let Some(origin) = self.ready.first().map(|(_, id)| id.origin).filter(|_| self.events_left > 0) else {
            return Ok(None);
        };
        let (mut parts, mut bytes, mut record_bytes, mut must_sync) = (Vec::new(), 0, 0, false);
        while let Some((hlc, id)) = self.next_of(origin) {
            let Some(lane) = self.lanes.get_mut(&id) else { break };
            let Some(part) = lane.window.front() else { break };
            let (more, more_records) = (part_bytes(part), records_of(part));
            let is_full = bytes + more > bytes_max || record_bytes + more_records > RECORD_BYTES_MAX;
            if !parts.is_empty() && (is_full || parts.len() == LINKED_PARTS_MAX) {
                break;
            }
            let Some(part) = lane.window.pop_front() else { break };
            must_sync |= lane.log.config().durability == Durability::Memory && origin == store.origin();
            (bytes, record_bytes) = (bytes + more, record_bytes + more_records);
            self.events_left = self.events_left.saturating_sub(lane.give(&part));
            parts.push(part);
            self.ready.remove(&(hlc, id));
            self.fill(store, id)?;
            if self.events_left == 0 {
                break;
            }
        }
        Ok((!parts.is_empty()).then_some(Round { parts: Parts { number, origin, parts }, must_sync }))
    }

    fn next_of(&self, origin: OriginId) -> Option<(u64, PartitionId)> {
        // The first is of that origin, unless another one has become older meanwhile.
        self.ready.iter().find(|(_, id)| id.origin == origin).copied()
    }

    /// Reads on in a lane whose window is empty, and notes what is next in it.
    fn fill(&mut self, store: &Store, id: PartitionId) -> Result<(), ReadError> {
        let each = (WINDOWS_BYTES_MAX / self.lanes.len().max(1)).min(READ_BYTES_MAX);
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(()) };
        if lane.window.is_empty() {
            lane.read(store, each)?;
        }
        if let Some(hlc) = lane.first_hlc() {
            self.ready.insert((hlc, id));
        }
        Ok(())
    }
}

impl Lane {
    /// The hybrid clock of what is next; what is not there any more goes with what follows it.
    fn first_hlc(&self) -> Option<u64> {
        let hlc = |part: &LinkedPart| match part {
            LinkedPart::Batch(batch) => Some(batch.envelope().hlc),
            LinkedPart::Hole(..) => None,
        };
        let first = self.window.iter().find_map(hlc);
        first.or((!self.window.is_empty()).then_some(u64::MAX))
    }

    /// Fills the window; what is not there any more, or cannot be read, is a hole in it.
    fn read(&mut self, store: &Store, bytes_max: usize) -> Result<(), ReadError> {
        while self.next < self.to {
            let (to, why) = match store.read(self.log.id(), self.next, bytes_max) {
                Ok(batches) => {
                    for batch in batches.into_iter().filter(|batch| batch.base_offset() < self.to) {
                        self.next = batch.next_offset();
                        self.window.push_back(LinkedPart::Batch(batch));
                    }
                    if !self.window.is_empty() {
                        return Ok(());
                    }
                    // The topic was deleted meanwhile.
                    (self.to, HoleWhy::Retention)
                }
                Err(ReadError::Trimmed { start, .. }) => gone(store, self.log.id(), self.next, start),
                Err(ReadError::Damaged { to, .. }) => (to, HoleWhy::Damage),
                Err(error) => return Err(error),
            };
            // Something of it goes in each round.
            let to = to.max(self.next + 1);
            self.window.push_back(LinkedPart::Hole(self.log.id(), Hole { from: self.next, to, why, at_ms: 0 }));
            self.next = to;
        }
        Ok(())
    }

    /// How many events of the range a part has that is given now.
    fn give(&mut self, part: &LinkedPart) -> u64 {
        let (from, end) = match part {
            LinkedPart::Batch(batch) => (self.at, batch.next_offset()),
            LinkedPart::Hole(_, hole) => (hole.to, hole.to),
        };
        self.at = end.min(self.to).max(self.at);
        self.at.saturating_sub(from)
    }
}

fn records_of(part: &LinkedPart) -> u64 {
    match part {
        LinkedPart::Batch(batch) => u64::from(batch.envelope().record_bytes),
        LinkedPart::Hole(..) => 0,
    }
}
