//! A strict codec for MQTT 3.1.1 and 5.0, both directions: bytes to packets that borrow from them, and back.
//!
//! What the specifications call malformed is refused with its reason code and the number of the statement that it
//! breaks. Nothing here keeps state: what depends on earlier packets is the session's.

mod acks;
mod connect;
mod encode;
mod error;
mod header;
mod packet;
mod property;
mod property_table;
mod publish;
mod reader;
mod reason;
pub mod rules;
mod subscribe;
#[cfg(test)]
mod tests;
mod writer;

pub use acks::{PINGRESP, Reply};
pub use encode::{encode, encode_disconnect, encode_disconnect_in_words};
pub use error::DecodeError;
pub use header::{decode, decode_first};
pub use packet::{Ack, ConnAck, Connect, Notice, Packet, Publish, Qos, SubAck, Subscribe, UnsubAck, Unsubscribe, Will};
pub use property::{Properties, PropertyBuffer, PropertyId, Value};
pub(crate) use reader::Parsed;
pub use reader::VARIABLE_INTEGER_MAX;
pub use reason::{Reason, Sender};
pub use subscribe::{FilterBuffer, Filters, RetainHandling, SubscribeFilter, SubscribeOptions, TopicBuffer, Topics};
pub use writer::EncodeError;
pub(crate) use writer::{put_variable, variable_from, variable_len};

/// The largest packet that is taken unless the settings say otherwise, bytes.
pub const PACKET_BYTES_MAX_DEFAULT: u32 = 1 << 20;

/// A version of the protocol.
#[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub enum Version {
    /// MQTT 3.1.1, protocol level 4.
    V311,
    /// MQTT 5.0, protocol level 5.
    V5,
}

/// What a decoder has to know about the connection.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The version that CONNECT agreed on; of no meaning for CONNECT itself.
    pub version: Version,
    /// The side whose packets are read.
    pub sender: Sender,
    /// The largest packet that is taken, bytes, fixed header included; a larger one is refused by its header alone.
    pub packet_bytes_max: u32,
}

impl Settings {
    /// A server's, with the default packet size.
    pub fn server(version: Version) -> Self {
        Self { version, sender: Sender::Client, packet_bytes_max: PACKET_BYTES_MAX_DEFAULT }
    }

    /// A client's, with the default packet size.
    pub fn client(version: Version) -> Self {
        Self { version, sender: Sender::Server, packet_bytes_max: PACKET_BYTES_MAX_DEFAULT }
    }
}

/// What the start of a read buffer holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decoded<'a> {
    /// No whole packet yet: at least `bytes` more are needed.
    More {
        /// A lower bound, never 0.
        bytes: usize,
    },
    /// A packet and how many bytes it took.
    Packet {
        /// The packet; borrows from the buffer.
        packet: Packet<'a>,
        /// Its length on the wire, bytes.
        len: usize,
    },
}
