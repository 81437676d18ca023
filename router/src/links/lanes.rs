//! The partitions that a link carries, merged back into the order of their commits, a bounded window of each at a time.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use sled_data::{
    Durability, HoleWhy, LINKED_NEW_PARTITIONS_MAX, LINKED_PARTS_MAX, LinkedPart, Offset, OriginId, PartitionId,
    ReadError, Store,
};

use super::wire::part_bytes;
use crate::event_log::PartitionLog;

fn record_bytes(part: &LinkedPart) -> u64 {
    match part {
        LinkedPart::Batch(batch) => u64::from(batch.envelope().record_bytes),
        LinkedPart::Hole(..) => 0,
    }
}

mod fill;
mod late;
#[cfg(test)]
mod tests;

pub use fill::Fill;
use late::{Dated, Dropped};
pub use late::{Moment, Newest};

/// Bytes that all windows may hold, besides one batch each of those that are being read.
const WINDOWS_BYTES_MAX: usize = 8 << 20;
/// The same where many are at work at once, as a site feeds many.
const NARROW_BYTES_MAX: usize = 256 << 10;
/// Bytes that are read of a partition at once.
const READ_BYTES_MAX: usize = 256 << 10;
/// Bytes up to which what was one commit goes together.
const COMMIT_BYTES_MAX: usize = 4 << 20;
/// Bytes of records of one frame, uncompressed, unless it has one batch alone: upstream reads them all before it stores any.
const RECORD_BYTES_MAX: u64 = 64 << 20;
/// How often the visible ends are looked at again because a commit was shown meanwhile.
const LOOKS_MAX: u32 = 8;

/// What comes next of one origin.
#[derive(Debug)]
pub struct Round {
    /// The origin.
    pub origin: OriginId,
    /// Batches and holes, in the order of their commits.
    pub parts: Vec<LinkedPart>,
    /// Their bytes, about.
    pub bytes: usize,
    /// Where their partitions end with them.
    pub ends: BTreeMap<PartitionId, Offset>,
    /// How many events they have.
    pub events: u64,
    /// Bytes of their records, uncompressed.
    pub record_bytes: u64,
    /// Whether some may be acknowledged and not yet synced here.
    pub must_sync: bool,
    /// Events in holes that are made here, as they are older than their deadline, and stored bytes of their batches, about.
    pub dropped: (u64, u64),
}

/// The partitions that are carried.
#[derive(Default)]
pub struct Lanes {
    streams: BTreeMap<OriginId, Stream>,
    /// The origin whose turn was last.
    turn: Option<OriginId>,
    bytes: usize,
    moment: Moment,
    /// Origins that go before the others.
    preferred: BTreeSet<OriginId>,
    rounds: u32,
    is_narrow: bool,
    newest: Arc<Mutex<Newest>>,
}

#[derive(Default)]
struct Stream {
    lanes: BTreeMap<PartitionId, Lane>,
    /// Lanes that have something next, by the hybrid clock of it.
    ready: BTreeSet<(u64, PartitionId)>,
    is_narrow: bool,
}

struct Lane {
    log: Arc<PartitionLog>,
    /// What is read next.
    next: Offset,
    /// Up to where it may be read in this round.
    limit: Offset,
    window: VecDeque<LinkedPart>,
    /// What is older is not sent; 0: all is. Milliseconds.
    drop_after_ms: u64,
    /// Up to where its newest clock was seen.
    dated_to: Offset,
    /// Up to where nothing is read, as it comes behind this one: upstream is told.
    skip_to: Offset,
    /// Up to where it goes at most, as upstream has the rest.
    fill: Option<Fill>,
    /// What the hole in the window is for that takes the place of what is too old.
    dropped: Option<Dropped>,
}

impl Lanes {
    /// None yet; `newest` is what earlier ones of the link have seen.
    pub fn after(newest: Arc<Mutex<Newest>>) -> Self {
        Self { newest, ..Self::default() }
    }

    /// The same, with windows that hold less: many are at work at once.
    pub fn narrow(self) -> Self {
        Self { is_narrow: true, ..self }
    }

    /// Carries a partition from an offset on. What is older than so many milliseconds when its turn comes is not sent, but told as
    /// a hole; 0: all is sent.
    pub fn add(&mut self, log: Arc<PartitionLog>, from: Offset, drop_after_ms: u64) {
        self.put(Lane::new(log, from, drop_after_ms));
    }

    fn put(&mut self, lane: Lane) {
        let id = lane.log.id();
        self.remove(id);
        let is_narrow = self.is_narrow;
        let stream = self.streams.entry(id.origin).or_insert_with(|| Stream { is_narrow, ..Stream::default() });
        stream.lanes.insert(id, lane);
    }

    /// Says when the next round is made.
    pub fn at(&mut self, moment: Moment) {
        self.moment = moment;
    }

    /// Says which origins go before the others: three rounds of four, as the others may not wait for ever.
    pub fn prefer(&mut self, origins: BTreeSet<OriginId>) {
        self.preferred = origins;
    }

    /// The origins, in the order in which they are tried.
    fn order(&mut self) -> Vec<OriginId> {
        let all = self.streams.keys().copied();
        let (mut order, before): (Vec<OriginId>, Vec<OriginId>) = all.partition(|origin| Some(*origin) > self.turn);
        order.extend(before);
        self.rounds = self.rounds.wrapping_add(1);
        if !self.rounds.is_multiple_of(4) {
            order.sort_by_key(|origin| !self.preferred.contains(origin));
        }
        order
    }

    /// Whether nothing is carried.
    pub fn is_empty(&self) -> bool {
        self.streams.values().all(|stream| stream.lanes.is_empty())
    }

    /// Carries a partition no more.
    pub fn remove(&mut self, id: PartitionId) {
        let Some(stream) = self.streams.get_mut(&id.origin) else { return };
        if let Some(lane) = stream.lanes.remove(&id) {
            self.bytes -= lane.bytes();
            stream.ready.retain(|(_, ready)| *ready != id);
        }
    }

    /// Where a carried partition ends all of which was given; `None` for one that has more, or is not carried.
    pub fn given_all(&self, id: PartitionId) -> Option<Offset> {
        let lane = self.streams.get(&id.origin)?.lanes.get(&id)?;
        (lane.window.is_empty() && lane.next >= lane.log.visible_end()).then_some(lane.next)
    }

    /// Carries those no more that are not wanted.
    pub fn keep(&mut self, wanted: impl Fn(PartitionId) -> bool) {
        let all = self.streams.values().flat_map(|stream| stream.lanes.keys());
        let gone: Vec<PartitionId> = all.copied().filter(|id| !wanted(*id)).collect();
        gone.into_iter().for_each(|id| self.remove(id));
    }

    /// What comes next, about `bytes_max` bytes of one origin; `None` where all that is visible was given. `shown` is a number
    /// that rises when a commit is shown. Reads the store.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn next_round(
        &mut self,
        store: &Store,
        bytes_max: usize,
        shown: &dyn Fn() -> u64,
    ) -> Result<Option<Round>, ReadError> {
        for origin in self.order() {
            let Some(stream) = self.streams.get_mut(&origin) else { continue };
            stream.look(store, &mut self.bytes, shown)?;
            let dated = stream.date(store, origin, self.moment, &mut self.newest.lock());
            if let Some(round) = stream.round(store, origin, (bytes_max, self.moment, dated), &mut self.bytes)? {
                self.turn = Some(origin);
                return Ok(Some(round));
            }
        }
        Ok(None)
    }
}

impl Stream {
    fn windows_bytes_max(&self) -> usize {
        if self.is_narrow { NARROW_BYTES_MAX } else { WINDOWS_BYTES_MAX }
    }

    /// Sees how far each lane may be read, all of one moment, and what is next in those that stood at their end.
    fn look(&mut self, store: &Store, bytes: &mut usize, shown: &dyn Fn() -> u64) -> Result<(), ReadError> {
        for _ in 0..LOOKS_MAX {
            let before = shown();
            self.lanes.values_mut().for_each(|lane| lane.limit = lane.readable_to());
            if before == shown() {
                break;
            }
        }
        let behind = |lane: &Lane| lane.window.is_empty() && lane.next < lane.limit;
        let ids: Vec<PartitionId> = self.lanes.iter().filter(|(_, lane)| behind(lane)).map(|(id, _)| *id).collect();
        let each = (self.windows_bytes_max() / (self.lanes.len().max(1))).min(READ_BYTES_MAX);
        let known: BTreeSet<PartitionId> = self.ready.iter().map(|(_, id)| *id).collect();
        for id in ids.into_iter().filter(|id| !known.contains(id)) {
            self.fill(store, id, each, bytes)?;
            self.shed(bytes);
        }
        Ok(())
    }

    fn round(
        &mut self,
        store: &Store,
        origin: OriginId,
        (bytes_max, moment, dated): (usize, Moment, Dated),
        bytes: &mut usize,
    ) -> Result<Option<Round>, ReadError> {
        let mut round = Round::new(origin);
        let each = (self.windows_bytes_max() / (self.lanes.len().max(1))).min(READ_BYTES_MAX);
        let mut last = None;
        while let Some((hlc, id)) = self.ready.first().copied() {
            let is_empty = self.lanes.get(&id).is_none_or(|lane| lane.window.is_empty());
            if is_empty {
                // Its window had to go, or what was in it was trimmed meanwhile.
                self.ready.remove(&(hlc, id));
                self.fill(store, id, each, bytes)?;
                continue;
            }
            let Some(lane) = self.lanes.get_mut(&id) else { continue };
            if lane.is_late(moment, dated) {
                *bytes -= lane.bytes();
                lane.drop_late(store, moment, dated);
                *bytes += lane.bytes();
                self.ready.remove(&(hlc, id));
                self.ready.insert((lane.first_hlc(), id));
                continue;
            }
            let size = lane.window.front().map_or(0, part_bytes);
            let is_same = last == Some(hlc) && round.bytes + size <= COMMIT_BYTES_MAX;
            let is_large = round.record_bytes + lane.window.front().map_or(0, record_bytes) > RECORD_BYTES_MAX;
            // All of them may be new to the other side.
            let is_wide = round.ends.len() == LINKED_NEW_PARTITIONS_MAX && !round.ends.contains_key(&id);
            let is_long = round.parts.len() == LINKED_PARTS_MAX;
            let is_full = round.bytes + size > bytes_max && !is_same || is_long || is_wide || is_large;
            if is_full && !round.parts.is_empty() {
                break;
            }
            let Some(part) = lane.window.pop_front() else { continue };
            *bytes -= size;
            round.must_sync |= lane.log.config().durability == Durability::Memory && origin == store.origin();
            round.drop_of(lane, &part);
            round.add(id, part, size);
            last = Some(hlc);
            self.ready.remove(&(hlc, id));
            self.fill(store, id, each, bytes)?;
            self.shed(bytes);
        }
        Ok((!round.parts.is_empty()).then_some(round))
    }

    /// Reads on in a lane whose window is empty, and notes what is next in it.
    fn fill(&mut self, store: &Store, id: PartitionId, bytes_max: usize, bytes: &mut usize) -> Result<(), ReadError> {
        let Some(lane) = self.lanes.get_mut(&id) else { return Ok(()) };
        if lane.window.is_empty() && lane.next < lane.limit {
            lane.read(store, bytes_max)?;
            *bytes += lane.bytes();
        }
        if !lane.window.is_empty() {
            self.ready.insert((lane.first_hlc(), id));
        }
        Ok(())
    }

    /// Lets windows go while they hold too much: those that are needed last, which are read again then.
    fn shed(&mut self, bytes: &mut usize) {
        let most = self.windows_bytes_max();
        let mut latest = self.ready.iter().rev().take(self.ready.len().saturating_sub(1));
        while *bytes > most {
            let Some((_, id)) = latest.next() else { return };
            if let Some(lane) = self.lanes.get_mut(id)
                && let Some(first) = lane.window.front()
            {
                lane.next = begins_at(first);
                *bytes -= lane.bytes();
                lane.window.clear();
                lane.dropped = None;
            }
        }
    }
}

impl Lane {
    fn new(log: Arc<PartitionLog>, from: Offset, drop_after_ms: u64) -> Self {
        let (window, dropped) = (VecDeque::new(), None);
        Self { log, next: from, limit: from, window, drop_after_ms, dated_to: 0, skip_to: 0, fill: None, dropped }
    }

    fn bytes(&self) -> usize {
        self.window.iter().map(part_bytes).sum()
    }

    fn first_hlc(&self) -> u64 {
        let hlc = |part: &LinkedPart| match part {
            LinkedPart::Batch(batch) => Some(batch.envelope().hlc),
            LinkedPart::Hole(..) => None,
        };
        self.window.iter().find_map(hlc).unwrap_or(0)
    }

    /// Fills the window; what is not there any more, or cannot be read, is a hole in it.
    fn read(&mut self, store: &Store, bytes_max: usize) -> Result<(), ReadError> {
        self.skip();
        while self.next < self.limit {
            let (to, why) = match store.read(self.log.id(), self.next, bytes_max) {
                Ok(batches) => {
                    let (before, found_batches) = (self.next, !batches.is_empty());
                    let limit = self.batches_to();
                    for batch in batches.into_iter().filter(|batch| batch.next_offset() <= limit) {
                        self.next = batch.next_offset();
                        self.window.push_back(LinkedPart::Batch(batch));
                    }
                    if self.next == before {
                        self.end_fill(found_batches);
                    }
                    return Ok(());
                }
                Err(ReadError::Trimmed { start, .. }) => gone(store, self.log.id(), self.next, start),
                Err(ReadError::Damaged { to, .. }) => (to, HoleWhy::Damage),
                Err(error) => return Err(error),
            };
            // Upstream has what lies behind a fill, or it is of another log.
            let to = self.same_to().map_or(to, |same_to| same_to.min(to));
            if to <= self.next {
                return Ok(());
            }
            self.hole(to, why);
            self.skip();
        }
        Ok(())
    }
}

/// Up to where events from `next` on, before a partition's next batch at `start`, are not there for one reason, and which: several holes
/// may lie between.
pub(in crate::links) fn gone(store: &Store, id: PartitionId, next: Offset, start: Offset) -> (Offset, HoleWhy) {
    let holes = store.holes(id);
    let Some(hole) = holes.iter().find(|hole| hole.to > next) else { return (start, HoleWhy::Retention) };
    match hole.from <= next {
        true => (hole.to.min(start), hole.why),
        false => (hole.from.min(start), HoleWhy::Retention),
    }
}

impl Round {
    fn new(origin: OriginId) -> Self {
        let (parts, ends) = (Vec::new(), BTreeMap::new());
        Self { origin, parts, bytes: 0, ends, events: 0, record_bytes: 0, must_sync: false, dropped: (0, 0) }
    }

    /// Counts what a part drops, where it is the hole of what was too old in its lane.
    fn drop_of(&mut self, lane: &mut Lane, part: &LinkedPart) {
        let LinkedPart::Hole(_, hole) = part else { return };
        if let Some(dropped) = lane.dropped.take_if(|dropped| dropped.to == hole.to) {
            self.dropped = (self.dropped.0 + dropped.events, self.dropped.1 + dropped.bytes);
        }
    }

    fn add(&mut self, id: PartitionId, part: LinkedPart, bytes: usize) {
        let end = match &part {
            LinkedPart::Batch(batch) => {
                self.events += u64::from(batch.envelope().count);
                self.record_bytes += u64::from(batch.envelope().record_bytes);
                batch.next_offset()
            }
            LinkedPart::Hole(_, hole) => hole.to,
        };
        self.ends.insert(id, end);
        self.bytes += bytes;
        self.parts.push(part);
    }
}

fn begins_at(part: &LinkedPart) -> Offset {
    match part {
        LinkedPart::Batch(batch) => batch.base_offset(),
        LinkedPart::Hole(_, hole) => hole.from,
    }
}
