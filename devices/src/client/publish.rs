//! One publish as the caller sees it: what may be wished for it, why it is not taken, the receipt.

use std::future::Future;
use std::io::ErrorKind;
use std::pin::Pin;
use std::task::{Context, Poll};

use thiserror::Error;
use tokio::sync::oneshot;

use super::outbox::{Fate, Priority, Qos};
use crate::sequence::MQTT_PROPERTY;

/// Longest MQTT topic, in bytes [MQTT-1.5.4].
const TOPIC_BYTES_MAX: usize = 65_535;
/// Most bytes of all properties' names and values together.
const PROPERTIES_BYTES_MAX: usize = 16 << 10;

/// What may be wished for a publish. The default is a live reading that is kept until it is acknowledged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PublishOptions {
    /// How urgent it is.
    pub priority: Priority,
    /// How surely it is to arrive.
    pub qos: Qos,
    /// When it happened, in milliseconds since 1970; the time of the publish where absent. QUIC carries it, MQTT has
    /// no place for it.
    pub timestamp_ms: Option<i64>,
    /// Names and values that go with it, at most 16 KiB in all. MQTT 5 and QUIC carry them, MQTT 3.1.1 has no place
    /// for them; nor have QUIC's datagrams, which carry QoS 0.
    pub properties: Vec<(String, String)>,
}

impl PublishOptions {
    /// An alarm: it overtakes all that is not.
    pub fn urgent() -> Self {
        Self { priority: Priority::Urgent, ..Self::default() }
    }

    /// History: everything else overtakes it.
    pub fn bulk() -> Self {
        Self { priority: Priority::Bulk, ..Self::default() }
    }

    /// A reading that may be lost.
    pub fn may_be_lost() -> Self {
        Self { qos: Qos::AtMostOnce, ..Self::default() }
    }

    /// Sets when it happened, in milliseconds since 1970.
    #[must_use]
    pub fn at(mut self, timestamp_ms: i64) -> Self {
        self.timestamp_ms = Some(timestamp_ms);
        self
    }
}

/// Why a publish was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum PublishError {
    /// The buffer is full.
    #[error("the buffer of unacknowledged publishes is full")]
    Full,
    /// The buffer on disk could not be written; nothing of the publish is kept.
    #[error("the buffer on disk does not take the publish: {0}")]
    Disk(ErrorKind),
    /// The payload is over the bound.
    #[error("the payload is larger than the client's bound")]
    TooLarge,
    /// The topic is empty, too long, or holds a wildcard.
    #[error("not an MQTT topic to publish to")]
    Topic,
    /// Properties over their bound, or one of a name that is the client's own.
    #[error("properties have at most 16 KiB in all, and none is called {MQTT_PROPERTY}")]
    Properties,
    /// The client is being stopped.
    #[error("the client is being stopped")]
    Stopped,
}

/// Checks what the caller wants published.
pub(super) fn check(
    topic: &str,
    payload: &[u8],
    options: &PublishOptions,
    payload_bytes_max: usize,
) -> Result<(), PublishError> {
    if payload.len() > payload_bytes_max {
        return Err(PublishError::TooLarge);
    }
    let bad = |c| matches!(c, '+' | '#' | '\0');
    if topic.is_empty() || topic.len() > TOPIC_BYTES_MAX || topic.contains(bad) {
        return Err(PublishError::Topic);
    }
    let bytes: usize = options.properties.iter().map(|(name, value)| name.len() + value.len()).sum();
    let bad = |(name, value): &(String, String)| name == MQTT_PROPERTY || name.contains('\0') || value.contains('\0');
    if bytes > PROPERTIES_BYTES_MAX || options.properties.iter().any(bad) {
        return Err(PublishError::Properties);
    }
    Ok(())
}

/// Resolves to a publish's fate.
#[derive(Debug)]
pub struct Receipt(pub(super) oneshot::Receiver<Fate>);

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
