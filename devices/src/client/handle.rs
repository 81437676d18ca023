//! What the caller holds: publish, look, stop.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{Notify, oneshot, watch};
use tokio::task::JoinHandle;

use super::answers::{Handlers, Memory};
use super::config::{Config, ConfigError};
use super::outbox::{Done, Fate, Outbox, Qos};
use super::task;
use crate::command::{CommandId, Status, answer_topic};

/// Longest MQTT topic, in bytes [MQTT-1.5.4].
const TOPIC_BYTES_MAX: usize = 65_535;

/// Why a publish was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The buffer is full.
    #[error("the buffer of unacknowledged publishes is full")]
    Full,
    /// The payload is over the bound.
    #[error("the payload is larger than the client's bound")]
    TooLarge,
    /// The topic is empty, too long, or holds a wildcard.
    #[error("not an MQTT topic to publish to")]
    Topic,
    /// The client is being stopped.
    #[error("the client is being stopped")]
    Stopped,
}

/// What a client has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Connections that stood.
    pub connects: u64,
    /// Attempts that failed and connections that broke.
    pub breaks: u64,
    /// Publishes that were acknowledged.
    pub acked: u64,
    /// Publishes that the node refused.
    pub refused: u64,
    /// Publishes dropped for newer ones.
    pub dropped: u64,
    /// Publishes sent again because a connection broke before their acknowledgement.
    pub resent: u64,
    /// Commands taken.
    pub commands: u64,
    /// Commands that came again and were not done again.
    pub repeats: u64,
    /// Answers that found no room.
    pub answers_lost: u64,
}

#[derive(Default)]
pub(super) struct Counts {
    pub(super) connects: AtomicU64,
    pub(super) breaks: AtomicU64,
    pub(super) acked: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) dropped: AtomicU64,
    pub(super) resent: AtomicU64,
    pub(super) commands: AtomicU64,
    pub(super) repeats: AtomicU64,
    pub(super) answers_lost: AtomicU64,
}

/// What the caller's side and the task share.
pub(super) struct Shared {
    pub(super) config: Config,
    pub(super) outbox: Mutex<Outbox>,
    pub(super) memory: Mutex<Memory>,
    pub(super) wake: Notify,
    pub(super) stopping: AtomicBool,
    pub(super) online: watch::Sender<bool>,
    pub(super) counts: Counts,
}

/// Locks; what a panicking holder left is still whole, as every change is one call.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    fn push(&self, topic: String, payload: Bytes, qos: Qos, answer: bool, done: Done) -> Result<(), PublishError> {
        let displaced = lock(&self.outbox).push(topic, payload, qos, answer, done).map_err(|_| PublishError::Full)?;
        self.counts.dropped.fetch_add(displaced.len() as u64, Relaxed);
        displaced.into_iter().for_each(|done| done(Fate::Dropped));
        self.wake.notify_one();
        Ok(())
    }

    /// Publishes an answer, and remembers it when it is final.
    pub(super) fn answer(&self, id: CommandId, status: Status, payload: Bytes) {
        if status.is_final() {
            lock(&self.memory).end(id, status, &payload);
        }
        let topic = answer_topic(&self.config.device, id, status);
        let pushed = self.push(topic, payload, Qos::AtLeastOnce, true, Box::new(|_| {}));
        if pushed.is_err() {
            self.counts.answers_lost.fetch_add(1, Relaxed);
        }
    }
}

/// A device's client. Dropping it ends the connection at once; [`Client::stop`] flushes first.
pub struct Client {
    shared: Arc<Shared>,
    task: Option<JoinHandle<()>>,
}

/// Resolves to a publish's fate.
#[derive(Debug)]
pub struct Receipt(oneshot::Receiver<Fate>);

impl Future for Receipt {
    type Output = Fate;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Fate> {
        Pin::new(&mut self.0).poll(context).map(|fate| fate.unwrap_or(Fate::Stopped))
    }
}

impl Receipt {
    /// Waits on a thread that runs no asynchronous code.
    pub fn wait(self) -> Fate {
        self.0.blocking_recv().unwrap_or(Fate::Stopped)
    }
}

impl Client {
    /// Starts a client on the current tokio runtime; it connects by itself, now and ever again.
    pub fn start(config: Config, handlers: Handlers) -> Result<Self, ConfigError> {
        config.check()?;
        let shared = Arc::new(Shared {
            outbox: Mutex::new(Outbox::new(config.buffer, config.in_flight_max)),
            config,
            memory: Mutex::default(),
            wake: Notify::new(),
            stopping: AtomicBool::new(false),
            online: watch::Sender::new(false),
            counts: Counts::default(),
        });
        let task = tokio::spawn(task::run(shared.clone(), handlers));
        Ok(Self { shared, task: Some(task) })
    }

    /// Buffers a publish, connected or not. The receipt resolves when it is acknowledged.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>, qos: Qos) -> Result<Receipt, PublishError> {
        let (sender, receiver) = oneshot::channel();
        self.publish_then(topic, payload, qos, move |fate| {
            // Whoever threw the receipt away does not want to know.
            let _ = sender.send(fate);
        })?;
        Ok(Receipt(receiver))
    }

    /// Buffers a publish and calls back once with its fate, from the connection's task.
    pub fn publish_then(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        qos: Qos,
        done: impl FnOnce(Fate) + Send + 'static,
    ) -> Result<(), PublishError> {
        let payload = payload.into();
        if self.shared.stopping.load(Relaxed) {
            return Err(PublishError::Stopped);
        }
        if payload.len() > self.shared.config.payload_bytes_max {
            return Err(PublishError::TooLarge);
        }
        let bad = |c| matches!(c, '+' | '#' | '\0');
        if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || topic.contains(bad) {
            return Err(PublishError::Topic);
        }
        self.shared.push(topic.into(), payload, qos, false, Box::new(done))
    }

    /// Whether the client is connected (and, with handlers, subscribed), as it changes.
    pub fn online(&self) -> watch::Receiver<bool> {
        self.shared.online.subscribe()
    }

    /// How many publishes are not yet acknowledged.
    pub fn unacked(&self) -> usize {
        lock(&self.shared.outbox).len()
    }

    /// What the client has done so far.
    pub fn counters(&self) -> Counters {
        let counts = &self.shared.counts;
        Counters {
            connects: counts.connects.load(Relaxed),
            breaks: counts.breaks.load(Relaxed),
            acked: counts.acked.load(Relaxed),
            refused: counts.refused.load(Relaxed),
            dropped: counts.dropped.load(Relaxed),
            resent: counts.resent.load(Relaxed),
            commands: counts.commands.load(Relaxed),
            repeats: counts.repeats.load(Relaxed),
            answers_lost: counts.answers_lost.load(Relaxed),
        }
    }

    /// Takes no more publishes, sends what is buffered, says DISCONNECT and ends. Gives the number
    /// of publishes that were not acknowledged within the time.
    pub async fn stop(mut self, within: Duration) -> usize {
        self.shared.stopping.store(true, Relaxed);
        self.shared.wake.notify_one();
        if let Some(task) = &mut self.task {
            // Either it ended, or the time is up and dropping it aborts it.
            let _ = tokio::time::timeout(within, task).await;
        }
        self.unacked()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
        if let Some(task) = self.task.take() {
            task.abort();
        }
        let left = lock(&self.shared.outbox).drain();
        left.into_iter().for_each(|done| done(Fate::Stopped));
    }
}
