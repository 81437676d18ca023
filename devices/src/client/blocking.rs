//! The client for programs without asynchronous code: the same, on a thread of its own.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use thiserror::Error;
use tokio::runtime::{Builder, Runtime};

use super::{Config, ConfigError, Counters, Handlers, PublishError, Qos, Receipt};

/// Why a blocking client cannot be started.
#[derive(Debug, Error)]
pub enum StartError {
    /// The configuration is bad.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The operating system gives no thread.
    #[error("no thread for the client: {0}")]
    Thread(#[from] io::Error),
}

/// A client that runs on one thread of its own. Handlers run on that thread.
pub struct Client {
    // Declared first, so that it ends before its runtime.
    client: super::Client,
    runtime: Runtime,
}

impl Client {
    /// Starts the thread and the client.
    pub fn start(config: Config, handlers: Handlers) -> Result<Self, StartError> {
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("device").enable_all().build()?;
        let entered = runtime.enter();
        let client = super::Client::start(config, handlers)?;
        drop(entered);
        Ok(Self { client, runtime })
    }

    /// Buffers a publish; [`Receipt::wait`] waits for its acknowledgement.
    pub fn publish(&self, topic: &str, payload: impl Into<Bytes>, qos: Qos) -> Result<Receipt, PublishError> {
        self.client.publish(topic, payload, qos)
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
