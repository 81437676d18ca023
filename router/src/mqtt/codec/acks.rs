//! The packets that are little more than a number: PUBACK to PUBCOMP, PINGREQ, PINGRESP, DISCONNECT, AUTH.

use super::connect::{put_properties, read_properties};
use super::header::{PUBACK, PUBCOMP, PUBREC, PUBREL};
use super::packet::{Ack, Notice, Packet};
use super::property::{Place, Properties, PropertyId};
use super::reader::{Parsed, Reader};
use super::reason::{Carrier, Reason, Sender};
use super::writer::EncodeError;
use super::{Settings, Version, rules};

/// PINGRESP as it goes on the wire.
pub const PINGRESP: [u8; 2] = [0xD0, 0x00];

/// An answer without properties; what a server sends most.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // named by the packets
pub enum Reply {
    PubAck { packet_id: u16, reason: Reason },
    PubRec { packet_id: u16, reason: Reason },
    PubRel { packet_id: u16, reason: Reason },
    PubComp { packet_id: u16, reason: Reason },
    PingResp,
}

impl Reply {
    /// Writes the answer: 4 bytes for success and in 3.1.1, 5 otherwise, 2 for PINGRESP.
    #[inline]
    pub fn encode(self, version: Version, out: &mut Vec<u8>) {
        let (first, packet_id, reason) = match self {
            Self::PubAck { packet_id, reason } => (PUBACK << 4, packet_id, reason),
            Self::PubRec { packet_id, reason } => (PUBREC << 4, packet_id, reason),
            Self::PubRel { packet_id, reason } => (PUBREL << 4 | 2, packet_id, reason),
            Self::PubComp { packet_id, reason } => (PUBCOMP << 4, packet_id, reason),
            Self::PingResp => return out.extend_from_slice(&PINGRESP),
        };
        let [high, low] = packet_id.to_be_bytes();
        if version == Version::V311 || reason == Reason::Success {
            out.extend_from_slice(&[first, 2, high, low]);
        } else {
            out.extend_from_slice(&[first, 3, high, low, reason.code()]);
        }
    }
}

pub(super) fn empty<'a>(body: &[u8], packet: Packet<'a>) -> Parsed<Packet<'a>> {
    if body.is_empty() { Ok(packet) } else { Err(rules::LENGTH_WRONG) }
}

pub(super) fn decode_ack<'a>(packet_type: u8, body: &'a [u8], version: Version) -> Parsed<Ack<'a>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let carrier = match packet_type {
        PUBACK | PUBREC => Carrier::PubAckOrPubRec,
        _ => Carrier::PubRelOrPubComp,
    };
    let (reason, properties) = match version {
        Version::V311 => (Reason::Success, Properties::NONE),
        Version::V5 => reason_and_properties(&mut reader, carrier, Place::Ack)?,
    };
    reader.finish()?;
    Ok(Ack { packet_id, reason, properties })
}

/// Both may be left out from the end: no reason means success, no properties none (5.0 section 3.4.2.1).
fn reason_and_properties<'a>(
    reader: &mut Reader<'a>,
    carrier: Carrier,
    place: Place,
) -> Parsed<(Reason, Properties<'a>)> {
    if reader.is_empty() {
        return Ok((Reason::Success, Properties::NONE));
    }
    let reason = carrier.reason(reader.u8()?).ok_or(rules::REASON_CODE)?;
    let properties = if reader.is_empty() { Properties::NONE } else { Properties::read(reader, place)? };
    Ok((reason, properties))
}

pub(super) fn encode_ack(out: &mut Vec<u8>, ack: &Ack<'_>, version: Version) -> Result<(), EncodeError> {
    out.extend_from_slice(&ack.packet_id.to_be_bytes());
    put_reason(out, ack.reason, &ack.properties, version)
}

pub(super) fn encode_notice(out: &mut Vec<u8>, notice: &Notice<'_>, version: Version) -> Result<(), EncodeError> {
    put_reason(out, notice.reason, &notice.properties, version)
}

fn put_reason(
    out: &mut Vec<u8>,
    reason: Reason,
    properties: &Properties<'_>,
    version: Version,
) -> Result<(), EncodeError> {
    match version {
        Version::V311 if reason == Reason::Success => put_properties(out, version, properties),
        Version::V311 => Err(EncodeError::NotInVersion),
        Version::V5 if properties.is_empty() && reason == Reason::Success => Ok(()),
        Version::V5 => {
            out.push(reason.code());
            if properties.is_empty() { Ok(()) } else { properties.put(out) }
        }
    }
}

pub(super) fn decode_disconnect<'a>(body: &'a [u8], settings: &Settings) -> Parsed<Notice<'a>> {
    let mut reader = Reader::new(body);
    if settings.version == Version::V311 {
        reader.finish().map_err(|_| rules::LENGTH_WRONG)?;
        return Ok(Notice { reason: Reason::Success, properties: Properties::NONE });
    }
    let place = match settings.sender {
        Sender::Client => Place::DisconnectFromClient,
        Sender::Server => Place::DisconnectFromServer,
    };
    let (reason, properties) = reason_and_properties(&mut reader, Carrier::Disconnect(settings.sender), place)?;
    reader.finish()?;
    Ok(Notice { reason, properties })
}

pub(super) fn decode_auth<'a>(body: &'a [u8], settings: &Settings) -> Parsed<Notice<'a>> {
    let mut reader = Reader::new(body);
    if reader.is_empty() && settings.sender == Sender::Server {
        return Ok(Notice { reason: Reason::Success, properties: Properties::NONE });
    }
    let carrier = Carrier::Auth(settings.sender);
    let reason = carrier.reason(reader.u8()?).ok_or(rules::REASON_CODE)?;
    let properties = read_properties(&mut reader, settings.version, Place::Auth)?;
    reader.finish()?;
    if properties.get(PropertyId::AuthMethod).is_none() {
        return Err(rules::AUTH_METHOD_ABSENT);
    }
    Ok(Notice { reason, properties })
}
