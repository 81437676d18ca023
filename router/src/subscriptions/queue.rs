//! One subscriber's queue: bounded in bytes; what does not fit is read from the log later.

use std::collections::{BTreeMap, VecDeque};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;
use sled_data::{Offset, PartitionId};

use super::segment::Segment;
use crate::event_log::Wake;

/// A span of a partition that a subscriber has still to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Position {
    /// The first offset that it has not had.
    pub next: Offset,
    /// The offset after the last that it is owed.
    pub end: Offset,
}

/// A subscriber as the fan-out knows it.
pub struct Subscriber {
    number: u64,
    wake: Arc<Wake>,
    bytes_max: usize,
    queue: Mutex<Queue>,
    dropped_live: AtomicU64,
}

struct Queue {
    segments: VecDeque<Arc<Segment>>,
    bytes: usize,
    /// What overflowed: to be read from the log. While anything is owed, nothing is queued, so that order holds.
    owed: BTreeMap<PartitionId, Position>,
    /// The partition that was read last: the next one's turn comes after it.
    turn: Option<PartitionId>,
    /// Nobody is connected: everything is owed, nothing queued.
    is_away: bool,
}

impl Subscriber {
    /// `number` is its session's; `bytes_max` bounds what is queued for it.
    pub fn new(number: u64, wake: Arc<Wake>, bytes_max: usize) -> Self {
        let queue = Queue { segments: VecDeque::new(), bytes: 0, owed: BTreeMap::new(), turn: None, is_away: false };
        Self { number, wake, bytes_max, queue: Mutex::new(queue), dropped_live: AtomicU64::new(0) }
    }

    /// Its session's number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// QoS 0 events that it was too slow for.
    pub fn dropped_live(&self) -> u64 {
        self.dropped_live.load(Ordering::Relaxed)
    }

    /// Queues a segment, or notes what it is owed when the queue is full or it is away.
    pub(super) fn push(&self, segment: &Arc<Segment>) {
        let mut queue = self.queue.lock();
        let fits = queue.bytes == 0 || queue.bytes + segment.bytes() <= self.bytes_max;
        if segment.is_live() {
            if queue.is_away || !fits {
                self.dropped_live.fetch_add(segment.events().count() as u64, Ordering::Relaxed);
                return;
            }
        } else if queue.is_away || !queue.owed.is_empty() || !fits {
            for (partition, first, next) in segment.spans() {
                queue.owe(partition, first, next);
            }
            if queue.is_away {
                return;
            }
            drop(queue);
            self.wake.ring(Wake::DELIVER);
            return;
        }
        queue.bytes += segment.bytes();
        queue.segments.push_back(Arc::clone(segment));
        drop(queue);
        self.wake.ring(Wake::DELIVER);
    }

    /// The next queued segment.
    pub fn pop(&self) -> Option<Arc<Segment>> {
        let mut queue = self.queue.lock();
        let segment = queue.segments.pop_front()?;
        queue.bytes -= segment.bytes();
        Some(segment)
    }

    /// A span that it is owed, a partition after the other; asked for when nothing is queued.
    pub(super) fn next_owed(&self) -> Option<(PartitionId, Position)> {
        let mut queue = self.queue.lock();
        queue.owed.retain(|_, position| position.next < position.end);
        let after = queue.turn.map_or(Bound::Unbounded, Bound::Excluded);
        let found = queue.owed.range((after, Bound::Unbounded)).next().or_else(|| queue.owed.first_key_value());
        let (partition, position) = found.map(|(partition, position)| (*partition, *position))?;
        queue.turn = Some(partition);
        Some((partition, position))
    }

    /// Notes that it has had a partition up to `next`.
    pub(super) fn has_had(&self, partition: PartitionId, next: Offset) {
        let mut queue = self.queue.lock();
        if let Some(position) = queue.owed.get_mut(&partition) {
            position.next = position.next.max(next);
            if position.next >= position.end {
                queue.owed.remove(&partition);
            }
        }
    }

    /// Its connection is gone: from now on everything is owed. `unacknowledged` are the oldest offsets that it
    /// may not have; what was queued is owed too.
    pub fn go_away(&self, unacknowledged: impl IntoIterator<Item = (PartitionId, Offset)>) {
        let mut queue = self.queue.lock();
        queue.is_away = true;
        let queued = std::mem::take(&mut queue.segments);
        queue.bytes = 0;
        for segment in queued.iter().filter(|segment| !segment.is_live()) {
            for (partition, first, next) in segment.spans() {
                queue.owe(partition, first, next);
            }
        }
        for (partition, offset) in unacknowledged {
            queue.owe(partition, offset, offset + 1);
        }
    }

    /// A new connection takes its place: what it is owed is read, then what comes is queued.
    pub fn come_back(&self) {
        self.queue.lock().is_away = false;
        self.wake.ring(Wake::DELIVER);
    }

    /// It begins anew: what is queued and what it is owed are forgotten.
    pub fn forget(&self) {
        let mut queue = self.queue.lock();
        queue.segments.clear();
        queue.bytes = 0;
        queue.owed.clear();
    }

    /// Owes it what a store kept from an earlier run.
    pub fn owe(&self, partition: PartitionId, position: Position) {
        self.queue.lock().owe(partition, position.next, position.end);
    }

    /// What it has not had, for keeping: what is queued, and what it is owed.
    pub fn outstanding(&self) -> BTreeMap<PartitionId, Position> {
        let queue = self.queue.lock();
        let mut outstanding = queue.owed.clone();
        for segment in queue.segments.iter().filter(|segment| !segment.is_live()) {
            for (partition, first, next) in segment.spans() {
                owe(&mut outstanding, partition, first, next);
            }
        }
        outstanding
    }
}

impl Queue {
    fn owe(&mut self, partition: PartitionId, first: Offset, next: Offset) {
        owe(&mut self.owed, partition, first, next);
    }
}

fn owe(owed: &mut BTreeMap<PartitionId, Position>, partition: PartitionId, first: Offset, next: Offset) {
    let position = owed.entry(partition).or_insert(Position { next: first, end: next });
    position.next = position.next.min(first);
    position.end = position.end.max(next);
}
