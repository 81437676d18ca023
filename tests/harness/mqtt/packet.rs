//! MQTT packets as the tests write and read them; shares no code with the node.

use super::bytes::{Reader, packet, put_text, put_varint};
use super::properties::{Properties, Value};

/// A protocol version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    V3 = 4,
    V5 = 5,
}

/// Both versions, for tables.
pub const BOTH: [Version; 2] = [Version::V3, Version::V5];

/// A message, in either direction, or a will.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0 where QoS is 0.
    pub id: u16,
    pub properties: Properties,
}

impl Message {
    pub fn new(topic: &str, payload: impl AsRef<[u8]>) -> Message {
        Message { topic: topic.to_owned(), payload: payload.as_ref().to_vec(), ..Message::default() }
    }

    pub fn qos(mut self, qos: u8) -> Message {
        self.qos = qos;
        self
    }

    pub fn retain(mut self) -> Message {
        self.retain = true;
        self
    }

    pub fn with(mut self, id: u8, value: Value) -> Message {
        self.properties.push(id, value);
        self
    }

    /// The payload as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.payload).into_owned()
    }

    /// The PUBLISH packet.
    pub fn encode(&self, version: Version) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, self.topic.as_bytes());
        if self.qos > 0 {
            body.extend(self.id.to_be_bytes());
        }
        if version == Version::V5 {
            self.properties.write(&mut body);
        }
        body.extend(&self.payload);
        let flags = u8::from(self.dup) << 3 | self.qos << 1 | u8::from(self.retain);
        packet(0x30 | flags, &body)
    }
}

/// A CONNECT packet.
#[derive(Debug, Clone)]
pub struct Connect {
    pub version: Version,
    pub client_id: String,
    pub clean: bool,
    pub keep_alive_s: u16,
    pub will: Option<Message>,
    pub properties: Properties,
}

impl Connect {
    pub fn new(version: Version, client_id: &str) -> Connect {
        Connect {
            version,
            client_id: client_id.to_owned(),
            clean: true,
            keep_alive_s: 0,
            will: None,
            properties: Properties::default(),
        }
    }

    /// Keeps the session: for v5 with a session expiry of an hour.
    pub fn kept(mut self) -> Connect {
        self.clean = false;
        if self.version == Version::V5 {
            let expiry = super::properties::id::SESSION_EXPIRY;
            self.properties.push(expiry, Value::Four(3600));
        }
        self
    }

    pub fn will(mut self, will: Message) -> Connect {
        self.will = Some(will);
        self
    }

    pub fn with(mut self, id: u8, value: Value) -> Connect {
        self.properties.push(id, value);
        self
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut body = Vec::new();
        put_text(&mut body, b"MQTT");
        body.push(self.version as u8);
        let mut flags = u8::from(self.clean) << 1;
        if let Some(will) = &self.will {
            flags |= 0x04 | will.qos << 3 | u8::from(will.retain) << 5;
        }
        body.push(flags);
        body.extend(self.keep_alive_s.to_be_bytes());
        if self.version == Version::V5 {
            self.properties.write(&mut body);
        }
        put_text(&mut body, self.client_id.as_bytes());
        if let Some(will) = &self.will {
            if self.version == Version::V5 {
                will.properties.write(&mut body);
            }
            put_text(&mut body, will.topic.as_bytes());
            put_text(&mut body, &will.payload);
        }
        packet(0x10, &body)
    }
}

/// A SUBSCRIBE packet; each filter with its options byte.
pub fn subscribe(version: Version, id: u16, properties: &Properties, filters: &[(&str, u8)]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        properties.write(&mut body);
    }
    for (filter, options) in filters {
        put_text(&mut body, filter.as_bytes());
        body.push(*options);
    }
    packet(0x82, &body)
}

/// An UNSUBSCRIBE packet.
pub fn unsubscribe(version: Version, id: u16, filters: &[&str]) -> Vec<u8> {
    let mut body = id.to_be_bytes().to_vec();
    if version == Version::V5 {
        put_varint(&mut body, 0);
    }
    for filter in filters {
        put_text(&mut body, filter.as_bytes());
    }
    packet(0xa2, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP, by its first byte; success.
pub fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

/// What the node sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Packet {
    Connack {
        session_present: bool,
        code: u8,
        properties: Properties,
    },
    Publish(Message),
    /// PUBACK, PUBREC, PUBREL, PUBCOMP, by the packet's type (4 to 7).
    Ack {
        kind: u8,
        id: u16,
        code: u8,
    },
    Suback {
        id: u16,
        codes: Vec<u8>,
    },
    Unsuback {
        id: u16,
        codes: Vec<u8>,
    },
    Pingresp,
    Disconnect {
        code: u8,
    },
}

impl Packet {
    /// Reads one packet from the front; `None` where it is not complete.
    /// Gives the packet and its length.
    pub fn decode(version: Version, bytes: &[u8]) -> Option<(Packet, usize)> {
        let first = *bytes.first()?;
        let mut length = 0usize;
        let mut at = 1;
        loop {
            let byte = *bytes.get(at)?;
            length |= usize::from(byte & 0x7f) << (7 * (at - 1));
            at += 1;
            if byte & 0x80 == 0 {
                break;
            }
            assert!(at <= 4, "the node sent a bad remaining length");
        }
        let body = bytes.get(at..at + length)?;
        Some((decode_body(version, first, body), at + length))
    }
}

fn decode_body(version: Version, first: u8, body: &[u8]) -> Packet {
    let v5 = version == Version::V5;
    let mut reader = Reader(body);
    match first >> 4 {
        2 => Packet::Connack {
            session_present: reader.byte() == 1,
            code: reader.byte(),
            properties: properties(v5, &mut reader),
        },
        3 => Packet::Publish(decode_publish(v5, first, reader)),
        kind @ 4..=7 => Packet::Ack { kind, id: reader.two(), code: reader.0.first().copied().unwrap_or(0) },
        kind @ (9 | 11) => {
            let id = reader.two();
            properties(v5, &mut reader);
            let codes = reader.0.to_vec();
            match kind {
                9 => Packet::Suback { id, codes },
                _ => Packet::Unsuback { id, codes },
            }
        }
        13 => Packet::Pingresp,
        14 => Packet::Disconnect { code: reader.0.first().copied().unwrap_or(0) },
        other => panic!("the node sent a packet of type {other}"),
    }
}

fn properties(v5: bool, reader: &mut Reader<'_>) -> Properties {
    if v5 && !reader.0.is_empty() { Properties::read(reader) } else { Properties::default() }
}

fn decode_publish(v5: bool, first: u8, mut reader: Reader<'_>) -> Message {
    let qos = first >> 1 & 3;
    Message {
        topic: reader.text(),
        id: if qos > 0 { reader.two() } else { 0 },
        properties: properties(v5, &mut reader),
        payload: reader.0.to_vec(),
        qos,
        retain: first & 1 == 1,
        dup: first & 8 == 8,
    }
}
