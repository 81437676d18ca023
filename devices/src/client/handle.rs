//! What the caller holds: publish, look, stop.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{oneshot, watch};
use tokio::task::JoinHandle;

use super::answers::{Handlers, Memory};
use super::config::{Config, ConfigError};
use super::counters::Counters;
use super::outbox::{Done, Fate, New, Outbox};
use super::publish::{PublishError, PublishOptions, Receipt, check};
use super::shared::{Shared, wall_ms};
use super::task;
use super::twin::topic_of;
use crate::twin::get_topic;

/// Why a client cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration is bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The buffer on disk cannot be opened.
    #[cfg(feature = "disk")]
    #[error(transparent)]
    Disk(#[from] super::disk::DiskError),
    /// The operating system gives no thread.
    #[error("no thread for the client: {0}")]
    Thread(#[from] io::Error),
}

/// A device's client. Dropping it ends the connection at once; [`Client::stop`] flushes first.
pub struct Client {
    shared: Arc<Shared>,
    /// The connection's, and the buffer's on disk.
    tasks: [Option<JoinHandle<()>>; 2],
}

impl Client {
    /// Starts a client on the current tokio runtime; it connects by itself, now and ever again.
    ///
    /// # Errors
    /// When the configuration is bad, or the buffer on disk cannot be opened.
    pub fn start(config: Config, handlers: Handlers) -> Result<Self, StartError> {
        config.check()?;
        let outbox = open_outbox(&config)?;
        let shared = Arc::new(Shared::new(config.clone(), outbox, open_memory(&config)?));
        let tasks = [Some(tokio::spawn(task::run(shared.clone(), handlers))), keeper(&shared)];
        Ok(Self { shared, tasks })
    }

    /// Buffers a live reading, connected or not. The receipt resolves when it is acknowledged.
    ///
    /// # Errors
    /// When it cannot be published, or there is no room.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Result<Receipt, PublishError> {
        self.publish_with(topic, payload, PublishOptions::default())
    }

    /// The same, with wishes. With a buffer on disk, what is numbered is written there when this returns, and waits
    /// for the disk to take it.
    ///
    /// # Errors
    /// When it cannot be published, or there is no room.
    pub fn publish_with(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: PublishOptions,
    ) -> Result<Receipt, PublishError> {
        let (sender, receiver) = oneshot::channel();
        self.push(topic, payload.into(), options, Done::Receipt(sender))?;
        Ok(Receipt(receiver))
    }

    /// The same, calling back once with the publish's fate: from the connection's task, or from this call or another
    /// publish's where one drops the other.
    ///
    /// # Errors
    /// When it cannot be published, or there is no room. The closure is not called then.
    pub fn publish_then(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: PublishOptions,
        done: impl FnOnce(Fate) + Send + 'static,
    ) -> Result<(), PublishError> {
        self.push(topic, payload.into(), options, Done::Call(Box::new(done)))
    }

    /// Reports what the device is: a merge patch (a JSON object, null removes a member) of its twin's reported
    /// document, buffered as a publish is. With `if_version` it counts only where the reported version is this one.
    ///
    /// # Errors
    /// When there is no room.
    pub fn report(&self, patch: impl Into<Bytes>, if_version: Option<u64>) -> Result<Receipt, PublishError> {
        self.publish(&topic_of(&self.shared.config.device, if_version), patch)
    }

    /// Asks for the whole twin; the configuration's handler is told it.
    ///
    /// # Errors
    /// When there is no room.
    pub fn ask_for_twin(&self) -> Result<Receipt, PublishError> {
        self.publish(&get_topic(&self.shared.config.device), Bytes::new())
    }

    fn push(&self, topic: &str, payload: Bytes, options: PublishOptions, done: Done) -> Result<(), PublishError> {
        if self.shared.stopping.load(Relaxed) {
            return Err(PublishError::Stopped);
        }
        check(topic, &payload, &options, self.shared.config.payload_bytes_max)?;
        self.shared.push(New {
            lane: options.priority.lane(),
            qos: options.qos,
            topic: topic.into(),
            payload,
            timestamp_ms: options.timestamp_ms.unwrap_or_else(wall_ms),
            properties: options.properties,
            answer: false,
            done,
        })
    }

    /// Whether the client is connected (and, with handlers, subscribed), as it changes.
    pub fn online(&self) -> watch::Receiver<bool> {
        self.shared.online.subscribe()
    }

    /// How many publishes are not yet acknowledged, those on disk among them.
    pub fn unacked(&self) -> usize {
        self.shared.outbox(|outbox| outbox.len())
    }

    /// Breaks the connection off without a farewell, as a lost link would; the client connects again by itself.
    pub fn break_off(&self) {
        self.shared.break_off(false);
    }

    /// Breaks the connection off, or makes it again: while the client is held offline it buffers.
    pub fn hold_offline(&self, hold: bool) {
        if hold { self.shared.break_off(true) } else { self.shared.let_go() }
    }

    /// What the client has done so far.
    pub fn counters(&self) -> Counters {
        #[cfg(feature = "disk")]
        let damaged = self.shared.outbox(|outbox| outbox.store().map_or((0, 0), |store| store.damaged()));
        #[cfg(not(feature = "disk"))]
        let damaged = (0, 0);
        self.shared.counts.read(damaged)
    }

    /// Takes no more publishes, sends what is buffered, says DISCONNECT and ends. Gives the number
    /// of publishes that were not acknowledged within the time; a buffer on disk keeps them.
    pub async fn stop(mut self, within: Duration) -> usize {
        self.shared.stopping.store(true, Relaxed);
        self.shared.wake.notify_one();
        if let Some(task) = &mut self.tasks[0] {
            // Either it ended, or the time is up and dropping it aborts it.
            let _ = tokio::time::timeout(within, task).await;
        }
        self.unacked()
    }
}

/// The buffer, with what an earlier start left on disk.
#[cfg(feature = "disk")]
fn open_outbox(config: &Config) -> Result<Outbox, StartError> {
    let Some(disk) = &config.disk else { return Ok(in_memory(config)) };
    let store = super::disk::Store::open(disk, config.boot, wall_ms())?;
    Ok(Outbox::new(config.buffer, store.boot(), Some(store)))
}

/// The commands that an earlier start has done, where they are on disk; the outbox has taken the folder.
#[cfg(feature = "disk")]
fn open_memory(config: &Config) -> Result<Memory, StartError> {
    Ok(match &config.disk {
        Some(disk) => Memory::open(&disk.folder)?,
        None => Memory::default(),
    })
}

#[cfg(not(feature = "disk"))]
fn open_memory(_config: &Config) -> Result<Memory, StartError> {
    Ok(Memory::default())
}

/// The task of the buffer on disk, where there is one.
#[cfg(feature = "disk")]
fn keeper(shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    shared.config.disk.is_some().then(|| tokio::spawn(super::disk::keep(shared.clone())))
}

#[cfg(not(feature = "disk"))]
fn keeper(_shared: &Arc<Shared>) -> Option<JoinHandle<()>> {
    None
}

#[cfg(not(feature = "disk"))]
fn open_outbox(config: &Config) -> Result<Outbox, StartError> {
    Ok(in_memory(config))
}

fn in_memory(config: &Config) -> Outbox {
    let boot = config.boot.unwrap_or_else(|| wall_ms().unsigned_abs());
    Outbox::new(config.buffer, boot, None)
}

impl Drop for Client {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Relaxed);
        self.tasks.iter().flatten().for_each(JoinHandle::abort);
        self.shared.outbox(Outbox::drain);
    }
}
