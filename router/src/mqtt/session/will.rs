//! Wills: kept at CONNECT, published on anything but a clean DISCONNECT (section 3.1.2.5).

use serde::{Deserialize, Serialize};

use crate::mqtt::codec::{Properties, PropertyBuffer, PropertyId, Qos, Will};

/// A will that outlives the bytes of its CONNECT.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeptWill {
    /// Where it is published.
    pub topic: String,
    /// What is published.
    pub payload: Vec<u8>,
    /// At which QoS.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// How long after the connection's end it is published, seconds.
    pub delay_s: u32,
    /// What goes with the message, in wire form: the will's properties without its delay.
    properties: Vec<u8>,
}

impl KeptWill {
    pub(super) fn of(will: &Will<'_>) -> Self {
        let mut kept = PropertyBuffer::new();
        kept.put_all_but(&will.properties, |id, _| id == PropertyId::WillDelay);
        Self {
            topic: will.topic.to_owned(),
            payload: will.payload.to_owned(),
            qos: will.qos,
            retain: will.retain,
            delay_s: will.properties.number(PropertyId::WillDelay).unwrap_or(0),
            properties: kept.into_wire(),
        }
    }

    /// The properties of the message.
    pub fn properties(&self) -> Properties<'_> {
        Properties::from_stored(&self.properties)
    }

    /// Bytes of what it holds.
    pub fn bytes(&self) -> usize {
        self.topic.len() + self.payload.len() + self.properties.len()
    }

    /// One to `t` with so many bytes.
    #[cfg(test)]
    pub fn sample(payload_bytes: usize) -> Self {
        let (topic, payload) = ("t".to_owned(), vec![7; payload_bytes]);
        Self { topic, payload, qos: Qos::AtMostOnce, retain: false, delay_s: 0, properties: Vec::new() }
    }
}

/// A will and when it is published, by the caller's clock; at or before now means at once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueWill {
    /// What.
    pub will: KeptWill,
    /// When.
    pub at_ms: u64,
}

/// When a will is due: after its delay or when the session ends, whichever comes first (5.0 section 3.1.3.2.2).
pub(super) fn due_at_ms(will: &KeptWill, expiry_s: u32, now_ms: u64) -> u64 {
    now_ms.saturating_add(u64::from(will.delay_s.min(expiry_s)) * 1000)
}
