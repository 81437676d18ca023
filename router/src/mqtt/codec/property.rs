//! The properties of MQTT 5.0: one table says which there are, of what kind, in which packet and how often.

use super::reader::{Parsed, Reader};
use super::rules;
use super::writer::{self, EncodeError};
use crate::mqtt::topic;

/// Where a list of properties stands.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    Connect,
    Will,
    ConnAck,
    PublishFromClient,
    PublishFromServer,
    Ack,
    Subscribe,
    SubAck,
    Unsubscribe,
    UnsubAck,
    DisconnectFromClient,
    DisconnectFromServer,
    Auth,
}

const CONNECT: u16 = 1 << Place::Connect as u16;
const WILL: u16 = 1 << Place::Will as u16;
const CONNACK: u16 = 1 << Place::ConnAck as u16;
const PUBLISH_OUT: u16 = 1 << Place::PublishFromServer as u16;
const PUBLISH: u16 = 1 << Place::PublishFromClient as u16 | PUBLISH_OUT;
const SUBSCRIBE: u16 = 1 << Place::Subscribe as u16;
const DISCONNECT_IN: u16 = 1 << Place::DisconnectFromClient as u16;
const DISCONNECT_OUT: u16 = 1 << Place::DisconnectFromServer as u16;
const AUTH: u16 = 1 << Place::Auth as u16;
const ANSWERS: u16 = CONNACK
    | 1 << Place::Ack as u16
    | 1 << Place::SubAck as u16
    | 1 << Place::UnsubAck as u16
    | DISCONNECT_IN
    | DISCONNECT_OUT
    | AUTH;
const EVERYWHERE: u16 = u16::MAX;

/// The form of a property's value on the wire.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum Kind {
    /// A byte that is 0 or 1.
    Flag,
    U16,
    /// Two bytes that are not 0.
    U16NotZero,
    U32,
    U32NotZero,
    VariableNotZero,
    Text,
    TopicName,
    Binary,
    Pair,
}

macro_rules! properties {
    ($($name:ident = $id:literal, $kind:ident, $places:expr, $text:literal;)*) => {
        /// A property of MQTT 5.0 (section 2.2.2.2); the number is its identifier on the wire.
        #[derive(Copy, Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum PropertyId { $(#[doc = $text] $name = $id,)* }

        impl PropertyId {
            #[cfg(test)]
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name,)*];
        }

        /// The row of an identifier: which property, of which kind, allowed where.
        const fn row(id: u8) -> Option<(PropertyId, Kind, u16)> {
            match id { $($id => Some((PropertyId::$name, Kind::$kind, $places)),)* _ => None }
        }
    };
}

properties! {
    PayloadFormat = 0x01, Flag, PUBLISH | WILL, "Payload format indicator: 1 says that the payload is UTF-8.";
    MessageExpiry = 0x02, U32, PUBLISH | WILL, "Message expiry interval, seconds.";
    ContentType = 0x03, Text, PUBLISH | WILL, "Content type.";
    ResponseTopic = 0x08, TopicName, PUBLISH | WILL, "Response topic.";
    CorrelationData = 0x09, Binary, PUBLISH | WILL, "Correlation data.";
    SubscriptionId = 0x0B, VariableNotZero, PUBLISH_OUT | SUBSCRIBE, "Subscription identifier.";
    SessionExpiry = 0x11, U32, CONNECT | CONNACK | DISCONNECT_IN, "Session expiry interval, seconds.";
    AssignedClientId = 0x12, Text, CONNACK, "Assigned client identifier.";
    ServerKeepAlive = 0x13, U16, CONNACK, "Server keep alive, seconds.";
    AuthMethod = 0x15, Text, CONNECT | CONNACK | AUTH, "Authentication method.";
    AuthData = 0x16, Binary, CONNECT | CONNACK | AUTH, "Authentication data.";
    RequestProblemInfo = 0x17, Flag, CONNECT, "Request problem information.";
    WillDelay = 0x18, U32, WILL, "Will delay interval, seconds.";
    RequestResponseInfo = 0x19, Flag, CONNECT, "Request response information.";
    ResponseInfo = 0x1A, Text, CONNACK, "Response information.";
    ServerReference = 0x1C, Text, CONNACK | DISCONNECT_OUT, "Server reference.";
    ReasonString = 0x1F, Text, ANSWERS, "Reason string.";
    ReceiveMaximum = 0x21, U16NotZero, CONNECT | CONNACK, "Receive maximum, packets.";
    TopicAliasMaximum = 0x22, U16, CONNECT | CONNACK, "Topic alias maximum.";
    TopicAlias = 0x23, U16NotZero, PUBLISH, "Topic alias.";
    MaximumQos = 0x24, Flag, CONNACK, "Maximum QoS.";
    RetainAvailable = 0x25, Flag, CONNACK, "Retain available.";
    UserProperty = 0x26, Pair, EVERYWHERE, "User property.";
    MaximumPacketSize = 0x27, U32NotZero, CONNECT | CONNACK, "Maximum packet size, bytes.";
    WildcardAvailable = 0x28, Flag, CONNACK, "Wildcard subscription available.";
    SubscriptionIdAvailable = 0x29, Flag, CONNACK, "Subscription identifiers available.";
    SharedAvailable = 0x2A, Flag, CONNACK, "Shared subscription available.";
}

/// A property's value.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Value<'a> {
    /// One byte.
    Byte(u8),
    /// Two bytes.
    U16(u16),
    /// Four bytes.
    U32(u32),
    /// A variable byte integer.
    Variable(u32),
    /// A string.
    Text(&'a str),
    /// Bytes.
    Binary(&'a [u8]),
    /// A name and a value.
    Pair(&'a str, &'a str),
}

/// A list of properties as it stands in a packet, checked when the packet was decoded.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties<'a> {
    wire: &'a [u8],
}

impl<'a> Properties<'a> {
    /// No properties; what MQTT 3.1.1 has.
    pub const NONE: Properties<'static> = Properties { wire: &[] };

    /// Whether there are none.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.wire.is_empty()
    }

    /// The list in wire form, without its length in front.
    pub fn wire(&self) -> &'a [u8] {
        self.wire
    }

    /// All properties in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = (PropertyId, Value<'a>)> + use<'a> {
        let mut reader = Reader::new(self.wire);
        std::iter::from_fn(move || {
            if reader.is_empty() {
                None
            } else {
                read_one(&mut reader).ok().map(|(id, value, _)| (id, value))
            }
        })
    }

    /// The first value of a property.
    pub fn get(&self, id: PropertyId) -> Option<Value<'a>> {
        self.iter()
            .find_map(|(found, value)| (found == id).then_some(value))
    }

    /// A number of any width.
    pub fn number(&self, id: PropertyId) -> Option<u32> {
        match self.get(id)? {
            Value::Byte(byte) => Some(u32::from(byte)),
            Value::U16(number) => Some(u32::from(number)),
            Value::U32(number) | Value::Variable(number) => Some(number),
            _ => None,
        }
    }

    /// A number of two bytes.
    pub fn short(&self, id: PropertyId) -> Option<u16> {
        match self.get(id)? {
            Value::U16(number) => Some(number),
            _ => None,
        }
    }

    /// A string.
    pub fn text(&self, id: PropertyId) -> Option<&'a str> {
        match self.get(id)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Bytes.
    pub fn binary(&self, id: PropertyId) -> Option<&'a [u8]> {
        match self.get(id)? {
            Value::Binary(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The user properties in order.
    pub fn user(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Reads the length and the list, checking every property against the table.
    pub(crate) fn read(reader: &mut Reader<'a>, place: Place) -> Parsed<Self> {
        let len = reader.variable()?;
        if len == 0 {
            return Ok(Self::NONE);
        }
        let wire = reader
            .bytes(len as usize)
            .map_err(|_| rules::PROPERTY_LENGTH)?;
        check(wire, place)?;
        Ok(Self { wire })
    }

    /// Writes the length and the list.
    pub(crate) fn put(&self, out: &mut Vec<u8>) -> Result<(), EncodeError> {
        writer::put_variable(out, writer::variable_from(self.wire.len())?);
        out.extend_from_slice(self.wire);
        Ok(())
    }
}

fn check(wire: &[u8], place: Place) -> Parsed<()> {
    let mut reader = Reader::new(wire);
    let mut seen = 0u64;
    while !reader.is_empty() {
        let (id, _, places) = read_one(&mut reader)?;
        if places & (1 << place as u16) == 0 {
            let from_client = place == Place::PublishFromClient && id == PropertyId::SubscriptionId;
            return Err(if from_client {
                rules::SUBSCRIPTION_ID_FROM_CLIENT
            } else {
                rules::PROPERTY_MISPLACED
            });
        }
        let bit = 1u64 << id as u8;
        if seen & bit != 0 && !repeats(id, place) {
            return Err(rules::PROPERTY_TWICE);
        }
        seen |= bit;
    }
    Ok(())
}

/// User properties may repeat everywhere, subscription identifiers in a PUBLISH to a client.
fn repeats(id: PropertyId, place: Place) -> bool {
    id == PropertyId::UserProperty
        || (id == PropertyId::SubscriptionId && place == Place::PublishFromServer)
}

fn read_one<'a>(reader: &mut Reader<'a>) -> Parsed<(PropertyId, Value<'a>, u16)> {
    let id = u8::try_from(reader.variable()?).map_err(|_| rules::PROPERTY_UNKNOWN)?;
    let (id, kind, places) = row(id).ok_or(rules::PROPERTY_UNKNOWN)?;
    let value = match kind {
        Kind::Flag => match reader.u8()? {
            byte @ 0..=1 => Value::Byte(byte),
            _ => return Err(rules::PROPERTY_FLAG),
        },
        Kind::U16 => Value::U16(reader.u16()?),
        Kind::U16NotZero => match reader.u16()? {
            0 if id == PropertyId::TopicAlias => return Err(rules::TOPIC_ALIAS_ZERO),
            0 => return Err(rules::PROPERTY_ZERO),
            number => Value::U16(number),
        },
        Kind::U32 => Value::U32(reader.u32()?),
        Kind::U32NotZero => Value::U32(not_zero(reader.u32()?)?),
        Kind::VariableNotZero => Value::Variable(not_zero(reader.variable()?)?),
        Kind::Text => Value::Text(reader.text()?),
        Kind::TopicName => {
            let name = reader.text()?;
            topic::check_name(name).map_err(|_| rules::RESPONSE_TOPIC)?;
            Value::Text(name)
        }
        Kind::Binary => Value::Binary(reader.binary()?),
        Kind::Pair => Value::Pair(reader.text()?, reader.text()?),
    };
    Ok((id, value, places))
}

fn not_zero(number: u32) -> Parsed<u32> {
    if number == 0 {
        Err(rules::PROPERTY_ZERO)
    } else {
        Ok(number)
    }
}

/// A list of properties being written. The caller puts only what its packet may carry; a decoder would refuse the rest.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PropertyBuffer {
    wire: Vec<u8>,
}

impl PropertyBuffer {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Forgets what was put and keeps the memory.
    pub fn clear(&mut self) {
        self.wire.clear();
    }

    /// Appends a property. Errors: [`EncodeError::FieldTooLong`], with the list as it was before.
    pub fn put(&mut self, id: PropertyId, value: Value<'_>) -> Result<(), EncodeError> {
        let before = self.wire.len();
        self.wire.push(id as u8);
        let put = match value {
            Value::Byte(byte) => {
                self.wire.push(byte);
                Ok(())
            }
            Value::U16(number) => {
                self.wire.extend_from_slice(&number.to_be_bytes());
                Ok(())
            }
            Value::U32(number) => {
                self.wire.extend_from_slice(&number.to_be_bytes());
                Ok(())
            }
            Value::Variable(number) => writer::variable_from(number as usize)
                .map(|number| writer::put_variable(&mut self.wire, number)),
            Value::Text(text) => writer::put_text(&mut self.wire, text),
            Value::Binary(bytes) => writer::put_binary(&mut self.wire, bytes),
            Value::Pair(name, value) => writer::put_text(&mut self.wire, name)
                .and_then(|()| writer::put_text(&mut self.wire, value)),
        };
        if put.is_err() {
            self.wire.truncate(before);
        }
        put
    }

    /// The list, for a packet to carry.
    pub fn view(&self) -> Properties<'_> {
        Properties { wire: &self.wire }
    }
}
