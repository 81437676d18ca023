//! What outlives a connection: a plain value that the task keeps in memory and in the store.

use serde::{Deserialize, Serialize};

use super::will::{self, KeptWill};
use crate::mqtt::codec::{Qos, SubscribeOptions};

/// A session expiry that never comes.
pub const EXPIRY_NEVER: u32 = u32::MAX;

/// Where an event is in the log; how a session remembers what it has in flight without holding payloads.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EventRef {
    /// The life that wrote it.
    pub origin: u64,
    /// The topic's id.
    pub topic: u64,
    /// The partition's number.
    pub partition: u32,
    /// Its offset.
    pub offset: u64,
}

/// A subscription as it was granted.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// What was asked, with the QoS that was granted.
    pub options: SubscribeOptions,
    /// The client's identifier for it.
    pub id: Option<u32>,
}

/// A message that was sent at QoS 1 and not acknowledged.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptInflight {
    /// It is sent again under the same identifier ([MQTT-4.4.0-1]).
    pub packet_id: u16,
    /// What was sent.
    pub event: EventRef,
}

/// The session state of section 4.1, version 1 of its stored form.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptSession {
    /// The client's identifier.
    pub client_id: String,
    /// How long it is kept after the connection, seconds; [`EXPIRY_NEVER`] never expires.
    pub expiry_s: u32,
    /// When the connection ended, by the caller's clock; `None` while there is one, or if the node was killed.
    pub disconnected_at_ms: Option<u64>,
    /// Topic filters and what they were granted.
    pub subscriptions: Vec<(String, Subscription)>,
    /// Packet identifiers of inbound QoS 2 messages that were appended and not yet released.
    pub qos2_held: Vec<u16>,
    /// In the order in which they were sent.
    pub inflight: Vec<KeptInflight>,
    /// The identifier that the next outgoing message takes.
    pub next_packet_id: u16,
    /// The will, and when it is due by the caller's clock; of no meaning while there is a connection.
    pub will: Option<(KeptWill, u64)>,
}

const KEPT_VERSION: u8 = 1;

/// A stored session that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeptError {
    /// Written by a newer node.
    #[error("a stored session of version {0} is newer than this node")]
    Newer(u8),
    /// Not a session.
    #[error("a stored session is damaged")]
    Damaged,
}

impl KeptSession {
    /// When it is to be forgotten, by the clock of `disconnected_at_ms`; `None` is not yet known, or never.
    pub fn expires_at_ms(&self) -> Option<u64> {
        let since = self.disconnected_at_ms?;
        (self.expiry_s != EXPIRY_NEVER).then(|| since.saturating_add(u64::from(self.expiry_s) * 1000))
    }

    /// Whether it is to be forgotten.
    pub fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms().is_some_and(|at| at <= now_ms)
    }

    /// By how much its end is ahead of a start at `now_ms` at which it was found, in milliseconds: the clock was set back between the two. It has ended by then.
    pub fn ended_ahead_ms(&self, now_ms: u64) -> u64 {
        self.disconnected_at_ms.map_or(0, |ended_ms| ended_ms.saturating_sub(now_ms))
    }

    /// As another node has written it, whose clock is `ahead_ms` ahead of the caller's: its times by the caller's.
    #[must_use]
    pub fn by_clock_behind(mut self, ahead_ms: i64) -> Self {
        let here = |at_ms: u64| at_ms.saturating_add_signed(ahead_ms.saturating_neg());
        self.disconnected_at_ms = self.disconnected_at_ms.map(here);
        self.will = self.will.map(|(will, at_ms)| (will, here(at_ms)));
        self
    }

    /// For a session that is found without an end, because the node was killed: it ends now, and so begins the delay of
    /// its will. A will without a delay was due when its client was heard last, at `heard_ms`. It stays until it is
    /// published: the node may be killed again before that.
    pub fn found_without_end(&mut self, now_ms: u64, heard_ms: u64) {
        if self.disconnected_at_ms.is_some() {
            return;
        }
        self.disconnected_at_ms = Some(now_ms);
        if let Some((will, at_ms)) = &mut self.will {
            let due_ms = will::due_at_ms(will, self.expiry_s, now_ms);
            *at_ms = if due_ms > now_ms { due_ms } else { heard_ms.min(now_ms) };
        }
    }

    /// The stored form: a version byte, then postcard.
    pub fn to_bytes(&self) -> Vec<u8> {
        // Serialising plain owned data into a growing vector has no way to fail.
        postcard::to_extend(self, vec![KEPT_VERSION]).unwrap_or_default()
    }

    /// Reads the stored form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, KeptError> {
        match bytes.split_first() {
            Some((&KEPT_VERSION, body)) => postcard::from_bytes(body).map_err(|_| KeptError::Damaged),
            Some((&version, _)) if version > KEPT_VERSION => Err(KeptError::Newer(version)),
            _ => Err(KeptError::Damaged),
        }
    }
}

/// The QoS at which subscriptions are granted at most: outbound QoS 2 is not offered.
pub const GRANTED_QOS_MAX: Qos = Qos::AtLeastOnce;
