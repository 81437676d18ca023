//! The frames of a lane's stream, and the datagram.

use serde::{Deserialize, Serialize};

use super::code::Refusal;
use crate::sequence::Number;

/// Most events in one [`Publish`].
pub const EVENTS_PER_FRAME_MAX: usize = 4_096;

/// Events of one MQTT topic, from the client. Their numbers rise from `first` on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish<'a> {
    /// The MQTT topic that they are published to.
    pub topic: &'a str,
    /// The boot that their numbers belong to.
    pub boot: u64,
    /// The first event's sequence number.
    pub first: u64,
    /// When the first happened, in milliseconds since 1970; 0 where the device does not know the time.
    pub timestamp_ms: i64,
    /// The events: 1 to [`EVENTS_PER_FRAME_MAX`].
    #[serde(borrow)]
    pub events: Vec<Event<'a>>,
}

/// One event of a [`Publish`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event<'a> {
    /// Numbers left out before it; 0 where it follows the one before at once, and for the first.
    pub skipped: u64,
    /// Milliseconds later than `timestamp_ms`.
    pub later_ms: i64,
    /// The payload.
    #[serde(with = "bytes")]
    pub payload: &'a [u8],
    /// Names and values that go with it, as MQTT's user properties do.
    #[serde(borrow)]
    pub properties: Vec<(&'a str, &'a str)>,
}

/// From the node, on a lane's stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LaneReply {
    /// The lane is open, first: the last number that is durable, if any is.
    Opened {
        /// What is up to it need not be sent.
        last: Option<Number>,
    },
    /// Everything up to this number is durable, or was named in [`LaneReply::Refused`] before.
    Acked {
        /// The number.
        up_to: Number,
    },
    /// Events that are not stored, and will not be. The acknowledgement that covers them follows.
    Refused(Refused),
}

/// Events of one boot that were refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// The boot.
    pub boot: u64,
    /// The first sequence number.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// Why.
    pub why: Refusal,
}

/// A reading that may be lost: the whole content of one QUIC datagram (RFC 9221), without a length before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Datagram<'a> {
    /// The MQTT topic that it is published to.
    pub topic: &'a str,
    /// When it happened, in milliseconds since 1970; 0 where the device does not know the time.
    pub timestamp_ms: i64,
    /// The payload.
    #[serde(with = "bytes")]
    pub payload: &'a [u8],
}

/// Bytes as one run: a length and the bytes, borrowed when they are read.
pub mod bytes {
    use serde::de::{Deserialize, Deserializer};
    use serde::ser::Serializer;

    /// Writes them.
    ///
    /// # Errors
    /// The serializer's.
    pub fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(bytes)
    }

    /// Borrows them.
    ///
    /// # Errors
    /// The deserializer's.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<&'de [u8], D::Error> {
        <&[u8]>::deserialize(deserializer)
    }
}

impl Publish<'_> {
    /// The events' numbers with the events. Ends early where numbers would pass 64 bits.
    pub fn numbered(&self) -> impl Iterator<Item = (Number, &Event<'_>)> {
        let mut next = Some(self.first);
        self.events.iter().map_while(move |event| {
            let seq = next?.checked_add(event.skipped)?;
            next = seq.checked_add(1);
            Some((Number { boot: self.boot, seq }, event))
        })
    }
}
