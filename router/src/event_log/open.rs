//! The open commit: what doors and readers append until the committer takes it.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::MutexGuard;
use sled_data::{
    COMMIT_STATE_BYTES_MAX, CursorMove, Durability, EVENT_BYTES_MAX, EventTooLarge, HeaderBlock, NAME_BYTES_MAX,
    OpenBatch, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX,
};

use super::followed::FollowRequest;
use super::linked::LinkedRequest;
use super::outcome::Ticket;
use super::{CommitFailed, EventLog, Topic, Wake};

/// Bytes of state and cursors in one commit; the guard after the one that passes it begins the next commit. What one
/// guard adds must fit between this and the store's own bound.
const STATE_BYTES_MAX: usize = COMMIT_STATE_BYTES_MAX / 4;
/// Bytes in one commit; the guard after the one that passes it begins the next commit. With an event of the largest size behind it, a commit
/// still fits the frame in which it goes to the site's other nodes.
pub(super) const COMMIT_BYTES_MAX: usize = 6 << 20;
/// What a state write or a cursor costs besides its names and values.
const STATE_HEAD_BYTES: usize = 64;

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
    /// Its topic has been deleted since it was looked up.
    #[error("topic {topic} was deleted; look it up again")]
    Deleted {
        /// The topic's name.
        topic: String,
    },
    /// The node is stopping.
    #[error("the node is stopping; connect again later")]
    Closing,
    /// Its topic is acknowledged by a quorum, and too few of the site's nodes are heard.
    #[error(
        "topic {topic} needs a quorum, and too few of the site's nodes are heard; `edgeway node status` names them"
    )]
    NoQuorum {
        /// The topic's name.
        topic: String,
    },
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
    /// Tree and key -> value: the last write of a key is the one that counts.
    pub(super) state: BTreeMap<(String, Vec<u8>), Option<Vec<u8>>>,
    /// What state and cursors will take of the store's bound.
    state_bytes: usize,
    pub(super) waiters: Vec<Arc<Wake>>,
    /// Who waits for the commit that the committer has in hand.
    pub(super) late: Vec<Arc<Wake>>,
    pub(super) bytes: usize,
    pub(super) events: u64,
    pub(super) closing: bool,
    /// Set while commits are refused: why, for those who append meanwhile.
    pub(super) refusing: Option<CommitFailed>,
    /// How often commits have failed in this run.
    pub(super) failures: u64,
    /// Whether the committer sleeps and must be woken.
    pub(super) idle: bool,
    /// Commits of other origins on their way into the store.
    pub(super) followed: VecDeque<FollowRequest>,
    /// What links have brought, on its way into the store.
    pub(super) linked: VecDeque<LinkedRequest>,
    /// Earlier commits that were closed because they were at a bound, oldest first.
    ready: VecDeque<Open>,
}

/// No headers.
pub static NO_HEADERS: HeaderBlock = HeaderBlock::new();

const UNTOUCHED: u32 = u32::MAX;

impl Open {
    pub(super) fn new() -> Self {
        Self {
            ticket: Ticket::of(1),
            parts: Vec::new(),
            by_slot: Vec::new(),
            cursors: Vec::new(),
            state: BTreeMap::new(),
            state_bytes: 0,
            waiters: Vec::new(),
            late: Vec::new(),
            bytes: 0,
            events: 0,
            closing: false,
            refusing: None,
            failures: 0,
            idle: false,
            followed: VecDeque::new(),
            linked: VecDeque::new(),
            ready: VecDeque::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ready.is_empty() && self.has_nothing_new()
    }

    fn has_nothing_new(&self) -> bool {
        self.parts.is_empty() && self.cursors.is_empty() && self.state.is_empty()
    }

    /// Takes the commit that is next: the oldest that was closed, else all that is open.
    pub(super) fn take(&mut self) -> Open {
        self.ready.pop_front().unwrap_or_else(|| self.take_newest())
    }

    /// Takes all that waits for the committer, oldest first.
    pub(super) fn take_all(&mut self) -> Vec<Open> {
        let mut all = Vec::with_capacity(self.ready.len() + 1);
        while !self.is_empty() {
            all.push(self.take());
        }
        all
    }

    /// Closes the commit when it is at a bound, so that no guard passes what the store takes at once, nor what one frame holds.
    fn close_if_full(&mut self) {
        if self.is_full() {
            let full = self.take_newest();
            self.ready.push_back(full);
        }
    }

    fn is_full(&self) -> bool {
        self.state_bytes > STATE_BYTES_MAX || self.bytes > COMMIT_BYTES_MAX
    }

    /// All that waits for the committer, bytes.
    fn waiting_bytes(&self) -> usize {
        self.bytes + self.ready.iter().map(|open| open.bytes).sum::<usize>()
    }

    fn take_newest(&mut self) -> Open {
        for part in &self.parts {
            self.by_slot[part.slot as usize] = UNTOUCHED;
        }
        let mut next = Open::new();
        next.ticket = Ticket::of(self.ticket.number() + 1);
        next.by_slot = std::mem::take(&mut self.by_slot);
        next.closing = self.closing;
        next.refusing = self.refusing.clone();
        next.failures = self.failures;
        next.late = std::mem::take(&mut self.late);
        next.ready = std::mem::take(&mut self.ready);
        next.followed = std::mem::take(&mut self.followed);
        next.linked = std::mem::take(&mut self.linked);
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
        let add =
            |to: &mut OpenBatch| to.push_with(event.timestamp_ms, event.key, event.value, event.headers, event.extra);
        match part.batches.last_mut().filter(|last| last.has_room(size)) {
            Some(last) => add(last)?,
            None => {
                // Only with its event: the store takes no empty batch.
                let mut batch = OpenBatch::new();
                add(&mut batch)?;
                part.batches.push(batch);
            }
        }
        part.to_fan_out += u32::from(!event.fanned_out);
        self.bytes += size;
        self.events += 1;
        Ok(())
    }
}

/// Exclusive access to the open commit: all that is done under one guard is in one commit.
pub struct OpenCommit<'a> {
    pub(super) log: &'a EventLog,
    open: MutexGuard<'a, Open>,
    /// Whether an event of a `quorum` topic was appended under this guard.
    awaits_quorum: bool,
}

impl EventLog {
    /// Locks the open commit. Hold it briefly and never across an await.
    pub fn lock(&self) -> OpenCommit<'_> {
        let mut open = self.open.lock();
        open.close_if_full();
        OpenCommit { log: self, open, awaits_quorum: false }
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
        self.check_topic(topic)?;
        let size = event.key.map_or(0, <[u8]>::len)
            + event.value.map_or(0, <[u8]>::len)
            + event.headers.bytes().len()
            + event.extra.bytes().len();
        self.check(size)?;
        let is_quorum = topic.config().durability == Durability::Quorum;
        if is_quorum && !self.log.quorum.is_in_reach() {
            return Err(AppendError::NoQuorum { topic: topic.name().to_owned() });
        }
        self.open.push(partition.slot(), event, size)?;
        self.awaits_quorum |= is_quorum;
        Ok(())
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

    /// Whether a topic still exists and is appended to here; the answer holds while the guard does.
    ///
    /// # Errors
    /// When it was deleted, or is another site's.
    pub fn check_topic(&self, topic: &Topic) -> Result<(), AppendError> {
        match topic.all_partitions().first() {
            Some(partition) if partition.is_deleted() => Err(AppendError::Deleted { topic: topic.name().to_owned() }),
            Some(_) => Ok(()),
            None => Err(AppendError::NoPartition { topic: topic.name().to_owned(), partitions: 0, index: 0 }),
        }
    }

    /// Writes or deletes one entry of a small named tree with this commit. `false` where the store takes no name, key
    /// or value of this size (see [`fits_state`]): nothing is written then.
    pub fn put_state(&mut self, tree: &str, key: &[u8], value: Option<&[u8]>) -> bool {
        if tree.is_empty() || tree.len() > NAME_BYTES_MAX || !fits_state(key, value.unwrap_or_default()) {
            tracing::error!(
                tree,
                key_bytes = key.len(),
                value_bytes = value.map(<[u8]>::len),
                "an entry is not stored"
            );
            return false;
        }
        let bytes = value.map_or(0, <[u8]>::len);
        let open = &mut *self.open;
        let replaced = open.state.insert((tree.to_owned(), key.to_vec()), value.map(<[u8]>::to_vec));
        let (added, taken) = match replaced {
            Some(before) => (bytes, before.map_or(0, |before| before.len())),
            None => (tree.len() + key.len() + bytes + STATE_HEAD_BYTES, 0),
        };
        open.bytes = open.bytes + added - taken;
        open.state_bytes = open.state_bytes + added - taken;
        true
    }

    /// Moves a reader's cursor with this commit: `next` is the first offset not yet done.
    pub fn move_cursor(&mut self, reader: &str, partition: sled_data::PartitionId, next: sled_data::Offset) {
        self.open.state_bytes += reader.len() + STATE_HEAD_BYTES;
        self.open.cursors.push(CursorMove { reader: reader.to_owned(), partition, next });
    }

    /// Has `wake` rung with [`Wake::SETTLED`] when this commit is settled.
    pub fn ring_when_settled(&mut self, wake: &Arc<Wake>) {
        self.open.waiters.push(Arc::clone(wake));
    }

    /// As [`Self::ring_when_settled`], for the commit of `ticket`, which may be an earlier one; at once where it is
    /// settled already.
    pub fn ring_when(&mut self, ticket: Ticket, wake: &Arc<Wake>) {
        if ticket.is_same_commit(self.open.ticket) {
            self.ring_when_settled(wake);
        } else if self.log.outcome(ticket).is_some() {
            if !ticket.awaits_quorum() || !self.log.quorum.ring_when(ticket, wake) {
                wake.ring(Wake::SETTLED);
            }
        } else {
            let open = &mut *self.open;
            let ready = open.ready.iter_mut().find(|ready| ready.ticket.is_same_commit(ticket));
            ready.map_or(&mut open.late, |ready| &mut ready.waiters).push(Arc::clone(wake));
        }
    }

    /// How often commits have failed in this run. While it stays what it was, all that was appended since is durable or
    /// on its way; when it has risen, nothing that was on its way was stored.
    pub fn failures(&self) -> u64 {
        self.open.failures
    }

    /// The life that it is a commit of.
    pub fn origin(&self) -> sled_data::OriginId {
        self.log.origin()
    }

    /// The commit that all of this guard's appends so far are in.
    pub fn ticket(&self) -> Ticket {
        self.open.ticket.with_quorum(self.awaits_quorum)
    }

    /// Whether so much is open that doors should stop reading until it is settled.
    pub fn over_bound(&self) -> bool {
        self.open.is_full() || self.open.waiting_bytes() > self.log.config.open_bytes_max
    }
}

/// Whether the store takes an entry of this size in a small named tree.
pub fn fits_state(key: &[u8], value: &[u8]) -> bool {
    key.len() <= STATE_KEY_BYTES_MAX && value.len() <= STATE_VALUE_BYTES_MAX
}

impl Drop for OpenCommit<'_> {
    fn drop(&mut self) {
        if self.open.idle && !self.open.is_empty() {
            self.open.idle = false;
            self.log.work.notify_one();
        }
    }
}
