//! Lists of MQTT 5.0 properties: checked against the table when a packet is decoded, read when they are asked for.

pub(crate) use super::property_table::Place;
pub use super::property_table::PropertyId;
use super::property_table::{Kind, row};
use super::reader::{Parsed, Reader};
use super::rules;
use super::writer::{self, EncodeError};
use crate::mqtt::topic;

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

    /// A list that was kept in wire form. Should it be damaged, it ends where the damage begins.
    pub fn from_stored(wire: &'a [u8]) -> Self {
        Self { wire }
    }

    /// All properties in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = (PropertyId, Value<'a>)> + use<'a> {
        let mut reader = Reader::new(self.wire);
        std::iter::from_fn(move || {
            if reader.is_empty() { None } else { read_one(&mut reader).ok().map(|(id, value, _)| (id, value)) }
        })
    }

    /// The first value of a property.
    pub fn get(&self, id: PropertyId) -> Option<Value<'a>> {
        self.iter().find_map(|(found, value)| (found == id).then_some(value))
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
        let wire = reader.bytes(len as usize).map_err(|_| rules::PROPERTY_LENGTH)?;
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
            return Err(if from_client { rules::SUBSCRIPTION_ID_FROM_CLIENT } else { rules::PROPERTY_MISPLACED });
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
    id == PropertyId::UserProperty || (id == PropertyId::SubscriptionId && place == Place::PublishFromServer)
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
    if number == 0 { Err(rules::PROPERTY_ZERO) } else { Ok(number) }
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
            Value::Variable(number) => {
                writer::variable_from(number as usize).map(|number| writer::put_variable(&mut self.wire, number))
            }
            Value::Text(text) => writer::put_text(&mut self.wire, text),
            Value::Binary(bytes) => writer::put_binary(&mut self.wire, bytes),
            Value::Pair(name, value) => {
                writer::put_text(&mut self.wire, name).and_then(|()| writer::put_text(&mut self.wire, value))
            }
        };
        if put.is_err() {
            self.wire.truncate(before);
        }
        put
    }

    /// Appends every property of a list but those that are left out, byte for byte.
    pub fn put_all_but(&mut self, properties: &Properties<'_>, left_out: impl Fn(PropertyId, &Value<'_>) -> bool) {
        let mut reader = Reader::new(properties.wire);
        while !reader.is_empty() {
            let before = reader;
            let Ok((id, value, _)) = read_one(&mut reader) else {
                return;
            };
            if !left_out(id, &value) {
                self.wire.extend_from_slice(before.until(&reader));
            }
        }
    }

    /// The list in wire form.
    pub fn into_wire(self) -> Vec<u8> {
        self.wire
    }

    /// The list, for a packet to carry.
    pub fn view(&self) -> Properties<'_> {
        Properties { wire: &self.wire }
    }
}
