//! The fixed header: cuts one packet out of a buffer and hands its body to the packet's own decoder.

use super::packet::Packet;
use super::reader::{self, Parsed};
use super::reason::Sender;
use super::rules;
use super::{DecodeError, Decoded, Settings, Version, acks, connect, publish, subscribe};

/// Reads one packet from the start of `buffer`. Allocates for CONNECT alone.
#[inline]
pub fn decode<'a>(buffer: &'a [u8], settings: &Settings) -> Result<Decoded<'a>, DecodeError> {
    match cut(buffer, settings) {
        Ok(Cut::Whole { first, body, len }) => match body_of(first, body, settings) {
            Ok(packet) => Ok(Decoded::Packet { packet, len }),
            Err(Refused { rule, connack }) => {
                let version = connack.unwrap_or(settings.version);
                Err(DecodeError { rule, version, connack })
            }
        },
        Ok(Cut::Short(bytes)) => Ok(Decoded::More { bytes }),
        Err(rule) => Err(DecodeError { rule, version: settings.version, connack: None }),
    }
}

/// Reads the first packet of a connection, which is CONNECT or an error ([MQTT-3.1.0-1]).
pub fn decode_first<'a>(buffer: &'a [u8], settings: &Settings) -> Result<Decoded<'a>, DecodeError> {
    match buffer.first() {
        Some(first) if first >> 4 != CONNECT => {
            Err(DecodeError { rule: rules::NOT_CONNECT_FIRST, version: settings.version, connack: None })
        }
        _ => decode(buffer, settings),
    }
}

pub(super) const CONNECT: u8 = 1;
pub(super) const CONNACK: u8 = 2;
pub(super) const PUBLISH: u8 = 3;
pub(super) const PUBACK: u8 = 4;
pub(super) const PUBREC: u8 = 5;
pub(super) const PUBREL: u8 = 6;
pub(super) const PUBCOMP: u8 = 7;
pub(super) const SUBSCRIBE: u8 = 8;
pub(super) const SUBACK: u8 = 9;
pub(super) const UNSUBSCRIBE: u8 = 10;
pub(super) const UNSUBACK: u8 = 11;
pub(super) const PINGREQ: u8 = 12;
pub(super) const PINGRESP: u8 = 13;
pub(super) const DISCONNECT: u8 = 14;
pub(super) const AUTH: u8 = 15;

/// What a packet type demands of its first byte and its sender.
struct Kind {
    flags: Option<u8>,
    from_client: bool,
    from_server: bool,
}

const fn kind(flags: Option<u8>, from_client: bool, from_server: bool) -> Kind {
    Kind { flags, from_client, from_server }
}

/// One row for each packet type (tables 2.1 and 2.2 of both specifications).
const KINDS: [Kind; 16] = [
    kind(Some(0), false, false),
    kind(Some(0), true, false),
    kind(Some(0), false, true),
    kind(None, true, true),
    kind(Some(0), true, true),
    kind(Some(0), true, true),
    kind(Some(2), true, true),
    kind(Some(0), true, true),
    kind(Some(2), true, false),
    kind(Some(0), false, true),
    kind(Some(2), true, false),
    kind(Some(0), false, true),
    kind(Some(0), true, false),
    kind(Some(0), false, true),
    kind(Some(0), true, true),
    kind(Some(0), true, true),
];

enum Cut<'a> {
    Whole { first: u8, body: &'a [u8], len: usize },
    Short(usize),
}

#[inline]
fn cut<'a>(buffer: &'a [u8], settings: &Settings) -> Parsed<Cut<'a>> {
    let Some((&first, rest)) = buffer.split_first() else {
        return Ok(Cut::Short(2));
    };
    check_first(first, settings)?;
    let Some((remaining, length_len)) = reader::variable_prefix(rest)? else {
        return Ok(Cut::Short(1));
    };
    let len = 1 + length_len + remaining as usize;
    if len > settings.packet_bytes_max as usize {
        return Err(rules::TOO_LARGE);
    }
    match buffer.get(1 + length_len..len) {
        Some(body) => Ok(Cut::Whole { first, body, len }),
        None => Ok(Cut::Short(len - buffer.len())),
    }
}

/// What the first byte alone can get wrong, before any length arrives.
#[inline]
fn check_first(first: u8, settings: &Settings) -> Parsed<()> {
    let packet_type = first >> 4;
    let row = &KINDS[usize::from(packet_type)];
    let exists = row.from_client || row.from_server;
    if !exists || (packet_type == AUTH && settings.version == Version::V311) {
        return Err(rules::PACKET_TYPE);
    }
    let sent = match settings.sender {
        Sender::Client => row.from_client,
        Sender::Server => row.from_server && !(packet_type == DISCONNECT && settings.version == Version::V311),
    };
    if !sent {
        return Err(rules::WRONG_SIDE);
    }
    if row.flags.is_some_and(|flags| flags != first & 0x0f) {
        return Err(rules::FIXED_FLAGS);
    }
    Ok(())
}

struct Refused {
    rule: &'static rules::Rule,
    connack: Option<Version>,
}

impl From<&'static rules::Rule> for Refused {
    fn from(rule: &'static rules::Rule) -> Self {
        Self { rule, connack: None }
    }
}

#[inline]
fn body_of<'a>(first: u8, body: &'a [u8], settings: &Settings) -> Result<Packet<'a>, Refused> {
    if first >> 4 == PUBLISH {
        return Ok(Packet::Publish(publish::decode(first, body, settings)?));
    }
    let version = settings.version;
    Ok(match first >> 4 {
        CONNECT => {
            let mut connack = None;
            let decoded = connect::decode_connect(body, &mut connack);
            Packet::Connect(Box::new(decoded.map_err(|rule| Refused { rule, connack })?))
        }
        CONNACK => Packet::ConnAck(connect::decode_connack(body, version)?),
        PUBACK => Packet::PubAck(acks::decode_ack(PUBACK, body, version)?),
        PUBREC => Packet::PubRec(acks::decode_ack(PUBREC, body, version)?),
        PUBREL => Packet::PubRel(acks::decode_ack(PUBREL, body, version)?),
        PUBCOMP => Packet::PubComp(acks::decode_ack(PUBCOMP, body, version)?),
        SUBSCRIBE => Packet::Subscribe(subscribe::decode_subscribe(body, version)?),
        SUBACK => Packet::SubAck(subscribe::decode_suback(body, version)?),
        UNSUBSCRIBE => Packet::Unsubscribe(subscribe::decode_unsubscribe(body, version)?),
        UNSUBACK => Packet::UnsubAck(subscribe::decode_unsuback(body, version)?),
        PINGREQ => acks::empty(body, Packet::PingReq)?,
        PINGRESP => acks::empty(body, Packet::PingResp)?,
        DISCONNECT => Packet::Disconnect(acks::decode_disconnect(body, settings)?),
        AUTH => Packet::Auth(acks::decode_auth(body, settings)?),
        _ => return Err(rules::PACKET_TYPE.into()),
    })
}
