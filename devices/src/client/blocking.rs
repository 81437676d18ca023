//! The client for programs without asynchronous code: the same, on a thread of its own.

use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use super::{Config, Counters, Fate, Handlers, PublishError, PublishOptions, Receipt, StartError};

/// A client that runs on one thread of its own. Handlers run on that thread.
pub struct Client {
    // Declared first, so that it ends before its runtime.
    client: super::Client,
    runtime: Runtime,
}

impl Client {
    /// Starts the thread and the client.
    ///
    /// # Errors
    /// When the configuration is bad, the buffer on disk cannot be opened, or there is no thread.
    pub fn start(config: Config, handlers: Handlers) -> Result<Self, StartError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("device").enable_all().build()?;
        let entered = runtime.enter();
        let client = super::Client::start(config, handlers)?;
        drop(entered);
        Ok(Self { client, runtime })
    }

    /// Buffers a live reading; [`Receipt::wait`] waits for its acknowledgement.
    ///
    /// # Errors
    /// When it cannot be published, or there is no room.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>) -> Result<Receipt, PublishError> {
        self.client.publish(topic, payload)
    }

    /// The same, with wishes.
    ///
    /// # Errors
    /// When it cannot be published, or there is no room.
    pub fn publish_with(
        &self,
        topic: &str,
        payload: impl Into<Bytes>,
        options: PublishOptions,
    ) -> Result<Receipt, PublishError> {
        self.client.publish_with(topic, payload, options)
    }

    /// The same, calling back once with the publish's fate; see [`super::Client::publish_then`].
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
        self.client.publish_then(topic, payload, options, done)
    }

    /// Reports what the device is; see [`super::Client::report`].
    ///
    /// # Errors
    /// When there is no room.
    pub fn report(&self, patch: impl Into<Bytes>, if_version: Option<u64>) -> Result<Receipt, PublishError> {
        self.client.report(patch, if_version)
    }

    /// Asks for the whole twin; the configuration's handler is told it.
    ///
    /// # Errors
    /// When there is no room.
    pub fn ask_for_twin(&self) -> Result<Receipt, PublishError> {
        self.client.ask_for_twin()
    }

    /// Whether the client is connected (and, with handlers, subscribed).
    pub fn is_online(&self) -> bool {
        *self.client.online().borrow()
    }

    /// How many publishes are not yet acknowledged, those on disk among them.
    pub fn unacked(&self) -> usize {
        self.client.unacked()
    }

    /// What the client has done so far.
    pub fn counters(&self) -> Counters {
        self.client.counters()
    }

    /// Flushes and ends; gives the number of publishes that were not acknowledged in time.
    pub fn stop(self, within: Duration) -> usize {
        let Self { client, runtime } = self;
        runtime.block_on(client.stop(within))
    }
}
