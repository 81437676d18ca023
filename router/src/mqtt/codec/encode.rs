//! Packets to bytes. PUBLISH for many subscribers has its own encoder, `mqtt::outgoing`.

use super::acks::{encode_ack, encode_notice};
use super::connect::{encode_connack, encode_connect, put_properties};
use super::header::*;
use super::packet::{Notice, Packet, Publish, Qos};
use super::property::{Properties, PropertyBuffer, PropertyId, Value};
use super::reason::Reason;
use super::subscribe::put_listed;
use super::writer::{EncodeError, put_packet, put_text};
use super::{PINGRESP as PINGRESP_BYTES, Version};

/// Appends `packet` in the form of `version` (CONNECT in that of its own).
///
/// The fields' lengths are checked; their contents are the caller's. Errors leave `out` as it was.
pub fn encode(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) -> Result<(), EncodeError> {
    let plain = |packet_type: u8| packet_type << 4;
    let flagged = |packet_type: u8| packet_type << 4 | 2;
    match packet {
        Packet::Connect(connect) => put_packet(out, plain(CONNECT), |out| encode_connect(out, connect)),
        Packet::ConnAck(connack) => put_packet(out, plain(CONNACK), |out| encode_connack(out, connack, version)),
        Packet::Publish(publish) => put_packet(out, first_byte(publish), |out| encode_publish(out, publish, version)),
        Packet::PubAck(ack) => put_packet(out, plain(PUBACK), |out| encode_ack(out, ack, version)),
        Packet::PubRec(ack) => put_packet(out, plain(PUBREC), |out| encode_ack(out, ack, version)),
        Packet::PubRel(ack) => put_packet(out, flagged(PUBREL), |out| encode_ack(out, ack, version)),
        Packet::PubComp(ack) => put_packet(out, plain(PUBCOMP), |out| encode_ack(out, ack, version)),
        Packet::Subscribe(p) => put_packet(out, flagged(SUBSCRIBE), |out| {
            put_listed(out, p.packet_id, &p.properties, version, p.filters.wire())
        }),
        Packet::SubAck(p) => {
            put_packet(out, plain(SUBACK), |out| put_listed(out, p.packet_id, &p.properties, version, p.codes))
        }
        Packet::Unsubscribe(p) => put_packet(out, flagged(UNSUBSCRIBE), |out| {
            put_listed(out, p.packet_id, &p.properties, version, p.filters.wire())
        }),
        Packet::UnsubAck(p) => {
            let codes = if version == Version::V311 { &[][..] } else { p.codes };
            put_packet(out, plain(UNSUBACK), |out| put_listed(out, p.packet_id, &p.properties, version, codes))
        }
        Packet::PingReq => {
            out.extend_from_slice(&[plain(PINGREQ), 0]);
            Ok(())
        }
        Packet::PingResp => {
            out.extend_from_slice(&PINGRESP_BYTES);
            Ok(())
        }
        Packet::Disconnect(notice) => put_packet(out, plain(DISCONNECT), |out| encode_notice(out, notice, version)),
        Packet::Auth(_) if version == Version::V311 => Err(EncodeError::NotInVersion),
        Packet::Auth(notice) => put_packet(out, plain(AUTH), |out| encode_notice(out, notice, version)),
    }
}

fn first_byte(publish: &Publish<'_>) -> u8 {
    PUBLISH << 4 | u8::from(publish.dup) << 3 | publish.qos.bits() << 1 | u8::from(publish.retain)
}

fn encode_publish(out: &mut Vec<u8>, publish: &Publish<'_>, version: Version) -> Result<(), EncodeError> {
    put_text(out, publish.topic)?;
    if publish.qos != Qos::AtMostOnce {
        out.extend_from_slice(&publish.packet_id.to_be_bytes());
    }
    put_properties(out, version, &publish.properties)?;
    out.extend_from_slice(publish.payload);
    Ok(())
}

/// Appends a server's DISCONNECT with its reason; nothing in 3.1.1, where a server closes without a word.
pub fn encode_disconnect(reason: Reason, version: Version, out: &mut Vec<u8>) {
    if version == Version::V5 {
        let notice = Notice { reason, properties: Properties::NONE };
        // A notice without properties is three bytes at most: it cannot be too long.
        let written = put_packet(out, DISCONNECT << 4, |out| encode_notice(out, &notice, version));
        debug_assert!(written.is_ok());
    }
}

/// Appends a server's DISCONNECT with its reason in words as well, unless that makes it longer than the client takes
/// ([MQTT-3.14.2-3]).
pub fn encode_disconnect_in_words(reason: Reason, words: &str, packet_bytes_max: u32, out: &mut Vec<u8>) {
    let mut properties = PropertyBuffer::new();
    let start = out.len();
    let written = properties.put(PropertyId::ReasonString, Value::Text(words)).and_then(|()| {
        let notice = Notice { reason, properties: properties.view() };
        put_packet(out, DISCONNECT << 4, |out| encode_notice(out, &notice, Version::V5))
    });
    if written.is_err() || out.len() - start > packet_bytes_max as usize {
        out.truncate(start);
        encode_disconnect(reason, Version::V5, out);
    }
}
