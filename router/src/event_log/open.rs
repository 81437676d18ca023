//! The open commit: what doors and readers append until the committer takes it.

use std::sync::Arc;

use parking_lot::MutexGuard;
use sled_data::{CursorMove, EVENT_BYTES_MAX, EventTooLarge, HeaderBlock, OpenBatch, StateWrite};

use super::outcome::Ticket;
use super::{CommitFailed, EventLog, Topic, Wake};

/// One event as it is appended. Its headers are in wire form already, so that a door makes them once.
#[derive(Debug, Clone, Copy)]
pub struct NewEvent<'a> {
    /// When it happened, in milliseconds since 1970, as its source says.
    pub timestamp_ms: i64,
    /// What the partition is chosen by, and what `get` finds.
    pub key: Option<&'a [u8]>,
    /// The payload; `None` deletes the key where a topic is compacted.
    pub value: Option<&'a [u8]>,
    /// Headers in wire form, which a door may keep for the next event.
    pub headers: &'a HeaderBlock,
    /// More headers, of this event alone.
    pub extra: &'a HeaderBlock,
    /// Whether subscribers have had it already (a QoS 0 publish is fanned out on arrival).
    pub fanned_out: bool,
}

/// Why an event was not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// The event is larger than any that the store takes.
    #[error("the event has {bytes} bytes, the bound is {EVENT_BYTES_MAX}; send less at once")]
    TooLarge {
        /// Its size as it would be stored.
        bytes: usize,
    },
    /// The last commits were refused; the log tries again by itself.
    #[error(transparent)]
    Refused(CommitFailed),
    /// The node is stopping.
    #[error("the node is stopping; connect again later")]
    Closing,
    /// A partition number that the topic does not have.
    #[error("topic {topic} has {partitions} partitions, there is no number {index}")]
    NoPartition {
        /// The topic's name.
        topic: String,
        /// How many it has.
        partitions: u32,
        /// What was asked for.
        index: u32,
    },
}

impl From<EventTooLarge> for AppendError {
    fn from(error: EventTooLarge) -> Self {
        Self::TooLarge { bytes: error.bytes }
    }
}

/// One partition's share of the open commit.
pub(super) struct OpenPart {
    pub(super) slot: u32,
    pub(super) batches: Vec<OpenBatch>,
    /// Events that subscribers have not had yet.
    pub(super) to_fan_out: u32,
}

/// Everything that will be one commit.
pub(super) struct Open {
    pub(super) ticket: Ticket,
    pub(super) parts: Vec<OpenPart>,
    /// Slot -> index in `parts`, `u32::MAX` where untouched.
    pub(super) by_slot: Vec<u32>,
    pub(super) cursors: Vec<CursorMove>,
    pub(super) state: Vec<StateWrite>,
    pub(super) waiters: Vec<Arc<Wake>>,
    pub(super) bytes: usize,
    pub(super) events: u64,
    pub(super) closing: bool,
    /// Set while commits are refused: why, for those who append meanwhile.
    pub(super) refusing: Option<CommitFailed>,
    /// Whether the committer sleeps and must be woken.
    pub(super) idle: bool,
}

/// No headers.
pub static NO_HEADERS: HeaderBlock = HeaderBlock::new();

const UNTOUCHED: u32 = u32::MAX;

impl Open {
    pub(super) fn new() -> Self {
        Self {
            ticket: Ticket(1),
            parts: Vec::new(),
            by_slot: Vec::new(),
            cursors: Vec::new(),
            state: Vec::new(),
            waiters: Vec::new(),
            bytes: 0,
            events: 0,
            closing: false,
            refusing: None,
            idle: false,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.parts.is_empty() && self.cursors.is_empty() && self.state.is_empty()
    }

    /// Takes all that is open and opens the next commit.
    pub(super) fn take(&mut self) -> Open {
        for part in &self.parts {
            self.by_slot[part.slot as usize] = UNTOUCHED;
        }
        let mut next = Open::new();
        next.ticket = Ticket(self.ticket.0 + 1);
        next.by_slot = std::mem::take(&mut self.by_slot);
        next.closing = self.closing;
        next.refusing = self.refusing.clone();
        std::mem::replace(self, next)
    }

    fn part(&mut self, slot: u32) -> &mut OpenPart {
        let at = slot as usize;
        if self.by_slot.len() <= at {
            self.by_slot.resize(at + 1, UNTOUCHED);
        }
        if self.by_slot[at] == UNTOUCHED {
            self.by_slot[at] = u32::try_from(self.parts.len()).unwrap_or(UNTOUCHED);
            self.parts.push(OpenPart { slot, batches: Vec::new(), to_fan_out: 0 });
        }
        let index = self.by_slot[at] as usize;
        &mut self.parts[index]
    }

    fn push(&mut self, slot: u32, event: &NewEvent<'_>, size: usize) -> Result<(), EventTooLarge> {
        let part = self.part(slot);
        part.to_fan_out += u32::from(!event.fanned_out);
        if part.batches.last().is_none_or(|last| !last.has_room(size)) {
            part.batches.push(OpenBatch::new());
        }
        if let Some(last) = part.batches.last_mut() {
            last.push_with(event.timestamp_ms, event.key, event.value, event.headers, event.extra)?;
        }
        self.bytes += size;
        self.events += 1;
        Ok(())
    }
}

/// Exclusive access to the open commit: all that is done under one guard is in one commit.
pub struct OpenCommit<'a> {
    log: &'a EventLog,
    open: MutexGuard<'a, Open>,
}

impl EventLog {
    /// Locks the open commit. Hold it briefly and never across an await.
    pub fn lock(&self) -> OpenCommit<'_> {
        OpenCommit { log: self, open: self.open.lock() }
    }
}

impl OpenCommit<'_> {
    /// Appends an event to a partition of this node's own.
    ///
    /// # Errors
    /// When the event is too large, the partition does not exist, or the store takes nothing now.
    pub fn append(&mut self, topic: &Topic, index: u32, event: &NewEvent<'_>) -> Result<(), AppendError> {
        let Some(partition) = topic.partition(index) else {
            return Err(AppendError::NoPartition {
                topic: topic.name().to_owned(),
                partitions: topic.partitions(),
                index,
            });
        };
        let size = event.key.map_or(0, <[u8]>::len)
            + event.value.map_or(0, <[u8]>::len)
            + event.headers.bytes().len()
            + event.extra.bytes().len();
        self.check(size)?;
        Ok(self.open.push(partition.slot(), event, size)?)
    }

    /// Appends an event to the partition that its key chooses; without a key, to the first.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_keyed(&mut self, topic: &Topic, event: &NewEvent<'_>) -> Result<(), AppendError> {
        let index = event.key.map_or(0, |key| sled_data::partition_for_key(key, topic.partitions()));
        self.append(topic, index, event)
    }

    /// Whether an append would be taken now: what must be in one commit is asked for together first.
    ///
    /// # Errors
    /// When the node is stopping, the store takes nothing, or `event_bytes` is over the bound.
    pub fn check(&self, event_bytes: usize) -> Result<(), AppendError> {
        if event_bytes > EVENT_BYTES_MAX {
            return Err(AppendError::TooLarge { bytes: event_bytes });
        }
        if self.open.closing {
            return Err(AppendError::Closing);
        }
        match &self.open.refusing {
            Some(why) => Err(AppendError::Refused(why.clone())),
            None => Ok(()),
        }
    }

    /// Writes or deletes one entry of a small named tree with this commit.
    pub fn put_state(&mut self, tree: &str, key: &[u8], value: Option<&[u8]>) {
        self.open.bytes += tree.len() + key.len() + value.map_or(0, <[u8]>::len);
        self.open.state.push(StateWrite { tree: tree.to_owned(), key: key.to_vec(), value: value.map(<[u8]>::to_vec) });
    }

    /// Moves a reader's cursor with this commit: `next` is the first offset not yet done.
    pub fn move_cursor(&mut self, reader: &str, partition: sled_data::PartitionId, next: sled_data::Offset) {
        self.open.cursors.push(CursorMove { reader: reader.to_owned(), partition, next });
    }

    /// Has `wake` rung with [`Wake::SETTLED`] when this commit is settled.
    pub fn ring_when_settled(&mut self, wake: &Arc<Wake>) {
        self.open.waiters.push(Arc::clone(wake));
    }

    /// The commit that all of this guard's appends are in.
    pub fn ticket(&self) -> Ticket {
        self.open.ticket
    }

    /// Whether so much is open that doors should stop reading until it is settled.
    pub fn over_bound(&self) -> bool {
        self.open.bytes > self.log.config.open_bytes_max
    }
}

impl Drop for OpenCommit<'_> {
    fn drop(&mut self) {
        if self.open.idle && !self.open.is_empty() {
            self.open.idle = false;
            self.log.work.notify_one();
        }
    }
}
