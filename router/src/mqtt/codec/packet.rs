//! The packets of MQTT as values that borrow from the bytes they were read from.

use super::Version;
use super::property::Properties;
use super::reason::Reason;
use super::subscribe::{Filters, Topics};

/// Quality of service.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize)]
#[repr(u8)]
pub enum Qos {
    /// 0: fire and forget.
    AtMostOnce = 0,
    /// 1: acknowledged, may arrive twice.
    AtLeastOnce = 1,
    /// 2: arrives once.
    ExactlyOnce = 2,
}

impl Qos {
    /// The QoS with this number, where there is one.
    #[inline]
    pub fn from_bits(bits: u8) -> Option<Self> {
        match bits {
            0 => Some(Self::AtMostOnce),
            1 => Some(Self::AtLeastOnce),
            2 => Some(Self::ExactlyOnce),
            _ => None,
        }
    }

    /// The number on the wire.
    #[inline]
    pub fn bits(self) -> u8 {
        self as u8
    }
}

/// The message a server publishes when a client is lost.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    /// Where it is published.
    pub topic: &'a str,
    /// What is published.
    pub payload: &'a [u8],
    /// At which QoS.
    pub qos: Qos,
    /// Whether it is retained.
    pub retain: bool,
    /// The will's own properties.
    pub properties: Properties<'a>,
}

/// CONNECT (section 3.1).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    /// The protocol that the connection speaks from here on.
    pub version: Version,
    /// Clean start; clean session in MQTT 3.1.1.
    pub clean_start: bool,
    /// Seconds; 0 turns keep alive off.
    pub keep_alive_s: u16,
    /// Empty where the server shall assign one.
    pub client_id: &'a str,
    /// The will.
    pub will: Option<Will<'a>>,
    /// The user's name.
    pub user_name: Option<&'a str>,
    /// The password.
    pub password: Option<&'a [u8]>,
    /// The connection's properties.
    pub properties: Properties<'a>,
}

/// CONNACK (section 3.2).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    /// Whether the server goes on with a session that it kept.
    pub session_present: bool,
    /// The return code as it stands on the wire: a reason code in 5.0, 0 to 5 in 3.1.1.
    pub code: u8,
    /// The properties.
    pub properties: Properties<'a>,
}

/// PUBLISH (section 3.3).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    /// Empty where a topic alias stands for it.
    pub topic: &'a str,
    /// The message.
    pub payload: &'a [u8],
    /// The properties.
    pub properties: Properties<'a>,
    /// 0 at QoS 0 and never otherwise.
    pub packet_id: u16,
    /// The quality of service.
    pub qos: Qos,
    /// Whether it was sent before.
    pub dup: bool,
    /// Whether it is (to be) retained.
    pub retain: bool,
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP (sections 3.4 to 3.7).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    /// The packet that it answers.
    pub packet_id: u16,
    /// How it went; always success in 3.1.1.
    pub reason: Reason,
    /// The properties.
    pub properties: Properties<'a>,
}

/// SUBSCRIBE (section 3.8).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// To be answered with.
    pub packet_id: u16,
    /// The properties.
    pub properties: Properties<'a>,
    /// At least one.
    pub filters: Filters<'a>,
}

/// SUBACK (section 3.9).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    /// The SUBSCRIBE that it answers.
    pub packet_id: u16,
    /// The properties.
    pub properties: Properties<'a>,
    /// One code for each topic filter, in their order.
    pub codes: &'a [u8],
}

/// UNSUBSCRIBE (section 3.10).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// To be answered with.
    pub packet_id: u16,
    /// The properties.
    pub properties: Properties<'a>,
    /// At least one.
    pub filters: Topics<'a>,
}

/// UNSUBACK (section 3.11).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    /// The UNSUBSCRIBE that it answers.
    pub packet_id: u16,
    /// The properties.
    pub properties: Properties<'a>,
    /// One code for each topic filter, in their order; none in 3.1.1.
    pub codes: &'a [u8],
}

/// DISCONNECT (section 3.14) or AUTH (section 3.15).
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Notice<'a> {
    /// Why; always success in 3.1.1.
    pub reason: Reason,
    /// The properties.
    pub properties: Properties<'a>,
}

/// A packet.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named by the structs that they hold
pub enum Packet<'a> {
    Connect(Box<Connect<'a>>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Notice<'a>),
    Auth(Notice<'a>),
}
