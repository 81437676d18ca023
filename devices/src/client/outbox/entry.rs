//! One buffered publish, what was wished for it, and what becomes of it.

use bytes::Bytes;
use tokio::sync::oneshot;

use crate::sequence::{Lane, Number, Sequence};

/// How surely a publish is to arrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Qos {
    /// QoS 0: it may be lost. It has no number, never goes to disk, and is gone once it is written.
    AtMostOnce,
    /// QoS 1: it is numbered and kept until it is acknowledged.
    #[default]
    AtLeastOnce,
}

/// How urgent a publish is: its lane. Within a lane the order of publishing is kept; what is more urgent overtakes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Priority {
    /// Alarms. Answers to commands go here too.
    Urgent,
    /// Live readings.
    #[default]
    Normal,
    /// History, files, logs.
    Bulk,
}

impl Priority {
    /// Its lane.
    pub fn lane(self) -> Lane {
        match self {
            Self::Urgent => Lane::URGENT,
            Self::Normal => Lane::NORMAL,
            Self::Bulk => Lane::BULK,
        }
    }
}

/// What became of a publish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The node acknowledged it: it is durable there.
    Acked {
        /// It had been sent before over a connection that broke. With its number, which MQTT 5 and QUIC carry, it
        /// is stored once all the same; over MQTT 3.1.1 it may be stored twice.
        repeated: bool,
    },
    /// QoS 0: it was written to the connection.
    Written,
    /// The node refused it for good, with this MQTT 5 reason code. What QUIC says in words of its own is told by
    /// the code that means the same.
    Refused(u8),
    /// It was dropped for another one.
    Dropped,
    /// The buffer on disk was damaged where it was.
    Damaged,
    /// It is in the buffer on disk and will be sent, but more fates are awaited than are kept account of.
    OnDisk,
    /// The client was stopped before it was acknowledged; it may have arrived. With a buffer on disk it is still
    /// there, and the next start sends it.
    Stopped,
}

/// Who is told a publish's fate, once.
pub(crate) enum Done {
    /// A receipt.
    Receipt(oneshot::Sender<Fate>),
    /// A closure.
    Call(Box<dyn FnOnce(Fate) + Send>),
    /// Nobody.
    Nobody,
}

impl Done {
    /// Tells it.
    pub(crate) fn tell(self, fate: Fate) {
        match self {
            // Whoever threw the receipt away does not want to know.
            Self::Receipt(sender) => drop(sender.send(fate)),
            Self::Call(call) => call(fate),
            Self::Nobody => {}
        }
    }

    /// Whether nobody would hear it.
    pub(crate) fn is_deaf(&self) -> bool {
        match self {
            Self::Receipt(sender) => sender.is_closed(),
            Self::Call(_) => false,
            Self::Nobody => true,
        }
    }
}

/// A fate that is to be told when the buffer is no longer locked.
pub(crate) struct Ended {
    pub(crate) done: Done,
    pub(crate) fate: Fate,
}

/// A publish on its way into the buffer.
pub(crate) struct New {
    pub(crate) lane: Lane,
    pub(crate) qos: Qos,
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    pub(crate) timestamp_ms: i64,
    pub(crate) properties: Vec<(String, String)>,
    /// An answer to a command: it may use the reserved room.
    pub(crate) answer: bool,
    pub(crate) done: Done,
}

/// One buffered publish. Its number is its place in the order of publishing over all lanes.
pub(crate) struct Entry {
    pub(crate) lane: Lane,
    pub(crate) number: Number,
    pub(crate) qos: Qos,
    pub(crate) topic: String,
    pub(crate) payload: Bytes,
    /// When it happened, in milliseconds since 1970. MQTT has no place for it.
    #[cfg_attr(not(any(feature = "quic", feature = "disk")), allow(dead_code))]
    pub(crate) timestamp_ms: i64,
    pub(crate) properties: Vec<(String, String)>,
    /// It may have arrived over an earlier connection.
    pub(crate) repeated: bool,
    /// Handed to a connection that tells when it is written, and has not.
    pub(crate) unwritten: bool,
    /// Its place in the buffer on disk, where it is there.
    pub(crate) ticket: Option<u64>,
    pub(crate) done: Done,
}

impl Entry {
    pub(super) fn new(new: New, number: Number) -> Self {
        Self {
            lane: new.lane,
            number,
            qos: new.qos,
            topic: new.topic,
            payload: new.payload,
            timestamp_ms: new.timestamp_ms,
            properties: new.properties,
            repeated: false,
            unwritten: false,
            ticket: None,
            done: new.done,
        }
    }

    /// The number that is sent with it; QoS 0 has none.
    pub(crate) fn sequence(&self) -> Option<Sequence> {
        (self.qos == Qos::AtLeastOnce).then_some(Sequence { lane: self.lane, number: self.number })
    }

    /// Bytes that it counts for in memory.
    pub(crate) fn bytes(&self) -> usize {
        bytes_of(&self.topic, &self.payload, &self.properties)
    }
}

/// Bytes of what a publish carries.
pub(super) fn bytes_of(topic: &str, payload: &[u8], properties: &[(String, String)]) -> usize {
    let properties: usize = properties.iter().map(|(name, value)| name.len() + value.len()).sum();
    topic.len() + payload.len() + properties
}
