//! What the caller's side and the task share.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use tokio::sync::{Notify, watch};

use super::answers::{Memory, Said};
use super::config::Config;
use super::counters::Counts;
use super::outbox::{Done, New, NotTaken, Outbox, Qos};
use super::publish::PublishError;
use crate::command::{CommandId, answer_topic};
use crate::sequence::Lane;

pub(super) struct Shared {
    pub(super) config: Config,
    outbox: Mutex<Outbox>,
    pub(super) memory: Mutex<Memory>,
    pub(super) wake: Notify,
    pub(super) stopping: AtomicBool,
    /// While it is set, no connection is made.
    held: AtomicBool,
    /// How often the connection was to be broken off.
    broken_off: AtomicU64,
    pub(super) online: watch::Sender<bool>,
    pub(super) counts: Counts,
}

/// Locks; what a panicking holder left is still whole, as every change is one call.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Milliseconds since 1970; 0 with a clock before.
pub(super) fn wall_ms() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| i64::try_from(now.as_millis()).unwrap_or(i64::MAX))
}

impl Shared {
    pub(super) fn new(config: Config, outbox: Outbox, memory: Memory) -> Self {
        Self {
            config,
            outbox: Mutex::new(outbox),
            memory: Mutex::new(memory),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            held: AtomicBool::new(false),
            broken_off: AtomicU64::new(0),
            online: watch::Sender::new(false),
            counts: Counts::default(),
        }
    }

    /// Acts on the buffer, then tells the fates that came of it, with the buffer unlocked.
    pub(super) fn outbox<R>(&self, act: impl FnOnce(&mut Outbox) -> R) -> R {
        let mut outbox = lock(&self.outbox);
        let result = act(&mut outbox);
        let ended = outbox.take_ended();
        drop(outbox);
        for ended in ended {
            self.counts.count(ended.fate);
            ended.done.tell(ended.fate);
        }
        result
    }

    /// Breaks the connection off; until `hold` is taken back, none is made.
    pub(super) fn break_off(&self, hold: bool) {
        self.held.store(hold, Relaxed);
        self.broken_off.fetch_add(1, Relaxed);
        self.wake.notify_one();
    }

    /// Takes a hold back.
    pub(super) fn let_go(&self) {
        self.held.store(false, Relaxed);
        self.wake.notify_one();
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Relaxed)
    }

    pub(super) fn broken_off(&self) -> u64 {
        self.broken_off.load(Relaxed)
    }

    /// Whether there is nothing left to do.
    pub(super) fn is_done(&self) -> bool {
        self.stopping.load(Relaxed) && self.outbox(|outbox| outbox.len()) == 0
    }

    pub(super) fn push(&self, new: New) -> Result<(), PublishError> {
        self.outbox(|outbox| outbox.push(new)).map_err(|error| match error {
            NotTaken::Full => PublishError::Full,
            NotTaken::Disk(kind) => PublishError::Disk(kind),
        })?;
        self.wake.notify_one();
        Ok(())
    }

    /// Publishes an answer in the urgent lane, and remembers it when it is final.
    pub(super) fn answer(&self, id: CommandId, said: Said) {
        if said.status.is_final() {
            lock(&self.memory).end(id, &said);
        }
        let Said { status, detail, text, payload } = said;
        let mut topic = answer_topic(&self.config.device, id, status);
        if !detail.is_empty() {
            topic.push('/');
            topic.push_str(&detail);
        }
        let properties = if text.is_empty() { Vec::new() } else { vec![("text".to_owned(), text)] };
        let pushed = self.push(New {
            lane: Lane::URGENT,
            qos: Qos::AtLeastOnce,
            topic,
            payload,
            timestamp_ms: wall_ms(),
            properties,
            answer: true,
            done: Done::Nobody,
        });
        if pushed.is_err() {
            self.counts.answers_lost.fetch_add(1, Relaxed);
        }
    }
}
