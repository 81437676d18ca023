//! MQTT 5 properties: written and read by a table of their types.

use super::bytes::{Reader, put_text, put_varint};

/// Property identifiers [MQTT-2.2.2-2].
pub mod id {
    pub const PAYLOAD_FORMAT: u8 = 1;
    pub const MESSAGE_EXPIRY: u8 = 2;
    pub const CONTENT_TYPE: u8 = 3;
    pub const RESPONSE_TOPIC: u8 = 8;
    pub const CORRELATION: u8 = 9;
    pub const SUBSCRIPTION_ID: u8 = 11;
    pub const SESSION_EXPIRY: u8 = 17;
    pub const ASSIGNED_CLIENT_ID: u8 = 18;
    pub const SERVER_KEEP_ALIVE: u8 = 19;
    pub const WILL_DELAY: u8 = 24;
    pub const RECEIVE_MAX: u8 = 33;
    pub const TOPIC_ALIAS_MAX: u8 = 34;
    pub const TOPIC_ALIAS: u8 = 35;
    pub const USER: u8 = 38;
    pub const PACKET_MAX: u8 = 39;
    pub const SHARED_AVAILABLE: u8 = 42;
}

/// A property's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Byte(u8),
    Two(u16),
    Four(u32),
    Varint(u32),
    Text(String),
    Bytes(Vec<u8>),
    Pair(String, String),
}

/// Properties in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Value)>);

impl Properties {
    /// The first value of a property.
    pub fn get(&self, id: u8) -> Option<&Value> {
        self.0.iter().find(|(i, _)| *i == id).map(|(_, v)| v)
    }

    /// All values of a property.
    pub fn all(&self, id: u8) -> Vec<&Value> {
        let matching = self.0.iter().filter(|(i, _)| *i == id);
        matching.map(|(_, v)| v).collect()
    }

    /// A property's value where it is a number.
    pub fn number(&self, id: u8) -> Option<u32> {
        match self.get(id)? {
            Value::Byte(n) => Some(u32::from(*n)),
            Value::Two(n) => Some(u32::from(*n)),
            Value::Four(n) | Value::Varint(n) => Some(*n),
            _ => None,
        }
    }

    /// A property's value where it is text.
    pub fn text(&self, id: u8) -> Option<&str> {
        match self.get(id)? {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// Adds a property.
    pub fn push(&mut self, id: u8, value: Value) {
        self.0.push((id, value));
    }

    pub(super) fn write(&self, out: &mut Vec<u8>) {
        let mut bytes = Vec::new();
        for (id, value) in &self.0 {
            bytes.push(*id);
            match value {
                Value::Byte(n) => bytes.push(*n),
                Value::Two(n) => bytes.extend(n.to_be_bytes()),
                Value::Four(n) => bytes.extend(n.to_be_bytes()),
                Value::Varint(n) => put_varint(&mut bytes, *n),
                Value::Text(text) => put_text(&mut bytes, text.as_bytes()),
                Value::Bytes(data) => put_text(&mut bytes, data),
                Value::Pair(name, value) => {
                    put_text(&mut bytes, name.as_bytes());
                    put_text(&mut bytes, value.as_bytes());
                }
            }
        }
        put_varint(out, u32::try_from(bytes.len()).unwrap());
        out.extend(bytes);
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Properties {
        let length = reader.varint() as usize;
        let mut inner = Reader(reader.take(length));
        let mut properties = Properties::default();
        while !inner.0.is_empty() {
            let id = inner.byte();
            let value = match id {
                1 | 23 | 25 | 36 | 37 | 40 | 41 | 42 => Value::Byte(inner.byte()),
                19 | 33 | 34 | 35 => Value::Two(inner.two()),
                2 | 17 | 24 | 39 => Value::Four(inner.four()),
                11 => Value::Varint(inner.varint()),
                9 | 22 => Value::Bytes(inner.prefixed().to_vec()),
                3 | 8 | 18 | 21 | 26 | 28 | 31 => Value::Text(inner.text()),
                38 => Value::Pair(inner.text(), inner.text()),
                other => panic!("the node sent an unknown property {other}"),
            };
            properties.push(id, value);
        }
        properties
    }
}
