//! CONNECT and CONNACK (sections 3.1 and 3.2).

use super::packet::{ConnAck, Connect, Qos, Will};
use super::property::{Place, Properties, PropertyId};
use super::reader::{Parsed, Reader};
use super::reason::Carrier;
use super::writer::{EncodeError, put_binary, put_text};
use super::{Version, rules};
use crate::mqtt::topic;

const USER_NAME: u8 = 0x80;
const PASSWORD: u8 = 0x40;
const WILL_RETAIN: u8 = 0x20;
const WILL: u8 = 0x04;
const CLEAN_START: u8 = 0x02;
const RESERVED: u8 = 0x01;

/// Sets `connack` as soon as it is known in which form a refusal may be answered.
pub(super) fn decode_connect<'a>(body: &'a [u8], connack: &mut Option<Version>) -> Parsed<Connect<'a>> {
    let mut reader = Reader::new(body);
    let version = decode_protocol(&mut reader, connack)?;
    let flags = reader.u8()?;
    check_flags(flags, version)?;
    let keep_alive_s = reader.u16()?;
    let properties = read_properties(&mut reader, version, Place::Connect)?;
    check_auth(&properties)?;
    let client_id = reader.text()?;
    let will = if flags & WILL != 0 { Some(decode_will(&mut reader, flags, version)?) } else { None };
    let user_name = if flags & USER_NAME != 0 { Some(reader.text()?) } else { None };
    let password = if flags & PASSWORD != 0 { Some(reader.binary()?) } else { None };
    reader.finish()?;
    let clean_start = flags & CLEAN_START != 0;
    Ok(Connect { version, clean_start, keep_alive_s, client_id, will, user_name, password, properties })
}

/// The name and level. A level above 5 is answered in the form of 5.0, one below 4 in that of 3.1.1 ([MQTT-3.1.2-2]);
/// a name that is not MQTT's gets no answer, except that of the predecessor 3.1.
fn decode_protocol(reader: &mut Reader<'_>, connack: &mut Option<Version>) -> Parsed<Version> {
    let name = reader.text()?;
    if name == "MQIsdp" {
        *connack = Some(Version::V311);
        return Err(rules::PROTOCOL_LEVEL);
    }
    if name != "MQTT" {
        return Err(rules::PROTOCOL_NAME);
    }
    match reader.u8()? {
        4 => {
            *connack = Some(Version::V311);
            Ok(Version::V311)
        }
        5 => {
            *connack = Some(Version::V5);
            Ok(Version::V5)
        }
        level => {
            *connack = Some(if level < 4 { Version::V311 } else { Version::V5 });
            Err(rules::PROTOCOL_LEVEL)
        }
    }
}

fn check_flags(flags: u8, version: Version) -> Parsed<()> {
    let will_qos = flags >> 3 & 3;
    if flags & RESERVED != 0 {
        Err(rules::CONNECT_RESERVED)
    } else if will_qos == 3 {
        Err(rules::WILL_QOS_3)
    } else if flags & WILL == 0 && will_qos != 0 {
        Err(rules::WILL_QOS_ALONE)
    } else if flags & WILL == 0 && flags & WILL_RETAIN != 0 {
        Err(rules::WILL_RETAIN_ALONE)
    } else if version == Version::V311 && flags & USER_NAME == 0 && flags & PASSWORD != 0 {
        Err(rules::PASSWORD_ALONE)
    } else {
        Ok(())
    }
}

fn decode_will<'a>(reader: &mut Reader<'a>, flags: u8, version: Version) -> Parsed<Will<'a>> {
    let properties = read_properties(reader, version, Place::Will)?;
    let topic = reader.text()?;
    topic::check_name(topic)?;
    let payload = reader.binary()?;
    let qos = Qos::from_bits(flags >> 3 & 3).ok_or(rules::WILL_QOS_3)?;
    Ok(Will { topic, payload, qos, retain: flags & WILL_RETAIN != 0, properties })
}

fn check_auth(properties: &Properties<'_>) -> Parsed<()> {
    let has = |id| properties.get(id).is_some();
    if has(PropertyId::AuthData) && !has(PropertyId::AuthMethod) { Err(rules::AUTH_DATA_ALONE) } else { Ok(()) }
}

pub(super) fn read_properties<'a>(reader: &mut Reader<'a>, version: Version, place: Place) -> Parsed<Properties<'a>> {
    match version {
        Version::V311 => Ok(Properties::NONE),
        Version::V5 => Properties::read(reader, place),
    }
}

pub(super) fn put_properties(
    out: &mut Vec<u8>,
    version: Version,
    properties: &Properties<'_>,
) -> Result<(), EncodeError> {
    match version {
        Version::V311 if properties.is_empty() => Ok(()),
        Version::V311 => Err(EncodeError::NotInVersion),
        Version::V5 => properties.put(out),
    }
}

pub(super) fn encode_connect(out: &mut Vec<u8>, connect: &Connect<'_>) -> Result<(), EncodeError> {
    let version = connect.version;
    put_text(out, "MQTT")?;
    out.push(if version == Version::V5 { 5 } else { 4 });
    out.push(flags_of(connect));
    out.extend_from_slice(&connect.keep_alive_s.to_be_bytes());
    put_properties(out, version, &connect.properties)?;
    put_text(out, connect.client_id)?;
    if let Some(will) = &connect.will {
        put_properties(out, version, &will.properties)?;
        put_text(out, will.topic)?;
        put_binary(out, will.payload)?;
    }
    if let Some(name) = connect.user_name {
        put_text(out, name)?;
    }
    connect.password.map_or(Ok(()), |password| put_binary(out, password))
}

fn flags_of(connect: &Connect<'_>) -> u8 {
    let mut flags = if connect.clean_start { CLEAN_START } else { 0 };
    if let Some(will) = &connect.will {
        flags |= WILL | will.qos.bits() << 3 | if will.retain { WILL_RETAIN } else { 0 };
    }
    if connect.user_name.is_some() {
        flags |= USER_NAME;
    }
    if connect.password.is_some() {
        flags |= PASSWORD;
    }
    flags
}

pub(super) fn decode_connack<'a>(body: &'a [u8], version: Version) -> Parsed<ConnAck<'a>> {
    let mut reader = Reader::new(body);
    let acknowledge = reader.u8()?;
    if acknowledge & !1 != 0 {
        return Err(rules::CONNACK_RESERVED);
    }
    let session_present = acknowledge == 1;
    let code = reader.u8()?;
    let known = match version {
        Version::V311 => code <= 5,
        Version::V5 => Carrier::ConnAck.reason(code).is_some(),
    };
    if !known {
        return Err(rules::REASON_CODE);
    }
    if session_present && code != 0 {
        return Err(rules::SESSION_PRESENT_REFUSED);
    }
    let properties = read_properties(&mut reader, version, Place::ConnAck)?;
    check_auth(&properties)?;
    reader.finish()?;
    Ok(ConnAck { session_present, code, properties })
}

pub(super) fn encode_connack(out: &mut Vec<u8>, connack: &ConnAck<'_>, version: Version) -> Result<(), EncodeError> {
    out.push(u8::from(connack.session_present));
    out.push(connack.code);
    put_properties(out, version, &connack.properties)
}
