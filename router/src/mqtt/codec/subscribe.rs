//! SUBSCRIBE, SUBACK, UNSUBSCRIBE and UNSUBACK (sections 3.8 to 3.11).

use super::connect::{put_properties, read_properties};
use super::packet::{Qos, SubAck, Subscribe, UnsubAck, Unsubscribe};
use super::property::{Place, Properties};
use super::reader::{Parsed, Reader};
use super::reason::Carrier;
use super::writer::{EncodeError, put_text};
use super::{Version, rules};
use crate::mqtt::topic;

/// When a subscription is answered with retained messages.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum RetainHandling {
    /// 0: at every SUBSCRIBE; the rule of MQTT 3.1.1.
    Always,
    /// 1: only if the subscription did not exist.
    IfNew,
    /// 2: never.
    Never,
}

/// What a client asks of a subscription; in MQTT 3.1.1 only the QoS is asked, the rest is its default.
#[derive(Copy, Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct SubscribeOptions {
    /// The highest QoS to deliver at.
    pub qos: Qos,
    /// Do not deliver what this client published itself.
    pub no_local: bool,
    /// Keep the retain flag as it was published.
    pub retain_as_published: bool,
    /// When retained messages are sent.
    pub retain_handling: RetainHandling,
}

impl SubscribeOptions {
    /// The options of MQTT 3.1.1.
    pub fn plain(qos: Qos) -> Self {
        Self { qos, no_local: false, retain_as_published: false, retain_handling: RetainHandling::Always }
    }

    fn from_bits(bits: u8, version: Version) -> Parsed<Self> {
        let reserved = if version == Version::V311 { 0xfc } else { 0xc0 };
        if bits & reserved != 0 {
            return Err(rules::SUBSCRIBE_RESERVED);
        }
        let qos = Qos::from_bits(bits & 3).ok_or(rules::SUBSCRIBE_QOS_3)?;
        let retain_handling = match bits >> 4 & 3 {
            0 => RetainHandling::Always,
            1 => RetainHandling::IfNew,
            2 => RetainHandling::Never,
            _ => return Err(rules::RETAIN_HANDLING_3),
        };
        Ok(Self { qos, no_local: bits & 4 != 0, retain_as_published: bits & 8 != 0, retain_handling })
    }

    fn bits(self, version: Version) -> u8 {
        match version {
            Version::V311 => self.qos.bits(),
            Version::V5 => {
                self.qos.bits()
                    | u8::from(self.no_local) << 2
                    | u8::from(self.retain_as_published) << 3
                    | (self.retain_handling as u8) << 4
            }
        }
    }
}

/// One topic filter of a SUBSCRIBE.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct SubscribeFilter<'a> {
    /// The filter, valid, with `$share/{name}/` in front where it is shared.
    pub filter: &'a str,
    /// What is asked.
    pub options: SubscribeOptions,
}

/// The topic filters of a SUBSCRIBE, checked when it was decoded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Filters<'a> {
    wire: &'a [u8],
    version: Version,
}

impl<'a> Filters<'a> {
    /// The filters in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = SubscribeFilter<'a>> + use<'a> {
        let mut reader = Reader::new(self.wire);
        let version = self.version;
        std::iter::from_fn(move || read_filter(&mut reader, version).ok())
    }
}

/// The topic filters of an UNSUBSCRIBE, checked when it was decoded.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Topics<'a> {
    wire: &'a [u8],
}

impl<'a> Topics<'a> {
    /// The filters in the order of the packet.
    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.wire);
        std::iter::from_fn(move || reader.text().ok())
    }
}

/// The topic filters of a SUBSCRIBE being written.
#[derive(Clone, Debug)]
pub struct FilterBuffer {
    wire: Vec<u8>,
    version: Version,
}

impl FilterBuffer {
    /// An empty list for a packet of `version`.
    pub fn new(version: Version) -> Self {
        Self { wire: Vec::new(), version }
    }

    /// Appends a filter, which the caller has checked. Errors: [`EncodeError::FieldTooLong`].
    pub fn put(&mut self, filter: &str, options: SubscribeOptions) -> Result<(), EncodeError> {
        put_text(&mut self.wire, filter)?;
        self.wire.push(options.bits(self.version));
        Ok(())
    }

    /// The list, for a packet to carry.
    pub fn view(&self) -> Filters<'_> {
        Filters { wire: &self.wire, version: self.version }
    }
}

/// The topic filters of an UNSUBSCRIBE being written.
#[derive(Clone, Debug, Default)]
pub struct TopicBuffer {
    wire: Vec<u8>,
}

impl TopicBuffer {
    /// An empty list.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends a filter, which the caller has checked. Errors: [`EncodeError::FieldTooLong`].
    pub fn put(&mut self, filter: &str) -> Result<(), EncodeError> {
        put_text(&mut self.wire, filter)
    }

    /// The list, for a packet to carry.
    pub fn view(&self) -> Topics<'_> {
        Topics { wire: &self.wire }
    }
}

fn read_filter<'a>(reader: &mut Reader<'a>, version: Version) -> Parsed<SubscribeFilter<'a>> {
    let filter = reader.text()?;
    let shared = topic::check_filter(filter, version)?;
    let options = SubscribeOptions::from_bits(reader.u8()?, version)?;
    if shared && options.no_local { Err(rules::NO_LOCAL_SHARED) } else { Ok(SubscribeFilter { filter, options }) }
}

pub(super) fn decode_subscribe<'a>(body: &'a [u8], version: Version) -> Parsed<Subscribe<'a>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = read_properties(&mut reader, version, Place::Subscribe)?;
    if reader.is_empty() {
        return Err(rules::SUBSCRIBE_EMPTY);
    }
    let mut each = reader;
    while !each.is_empty() {
        read_filter(&mut each, version)?;
    }
    Ok(Subscribe { packet_id, properties, filters: Filters { wire: reader.take_rest(), version } })
}

pub(super) fn decode_unsubscribe<'a>(body: &'a [u8], version: Version) -> Parsed<Unsubscribe<'a>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = read_properties(&mut reader, version, Place::Unsubscribe)?;
    if reader.is_empty() {
        return Err(rules::UNSUBSCRIBE_EMPTY);
    }
    let mut each = reader;
    while !each.is_empty() {
        topic::check_filter(each.text()?, version)?;
    }
    Ok(Unsubscribe { packet_id, properties, filters: Topics { wire: reader.take_rest() } })
}

pub(super) fn decode_suback<'a>(body: &'a [u8], version: Version) -> Parsed<SubAck<'a>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = read_properties(&mut reader, version, Place::SubAck)?;
    let codes = reader.take_rest();
    let known = |&code: &u8| match version {
        Version::V311 => matches!(code, 0..=2 | 0x80),
        Version::V5 => Carrier::SubAck.reason(code).is_some(),
    };
    if codes.is_empty() {
        return Err(rules::SUBACK_EMPTY);
    }
    if codes.iter().all(known) { Ok(SubAck { packet_id, properties, codes }) } else { Err(rules::SUBACK_CODE) }
}

pub(super) fn decode_unsuback<'a>(body: &'a [u8], version: Version) -> Parsed<UnsubAck<'a>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    if version == Version::V311 {
        reader.finish()?;
        return Ok(UnsubAck { packet_id, properties: Properties::NONE, codes: &[] });
    }
    let properties = Properties::read(&mut reader, Place::UnsubAck)?;
    let codes = reader.take_rest();
    if codes.is_empty() {
        return Err(rules::UNSUBACK_EMPTY);
    }
    let known = codes.iter().all(|&code| Carrier::UnsubAck.reason(code).is_some());
    if known { Ok(UnsubAck { packet_id, properties, codes }) } else { Err(rules::REASON_CODE) }
}

pub(super) fn put_listed(
    out: &mut Vec<u8>,
    packet_id: u16,
    properties: &Properties<'_>,
    version: Version,
    list: &[u8],
) -> Result<(), EncodeError> {
    out.extend_from_slice(&packet_id.to_be_bytes());
    put_properties(out, version, properties)?;
    out.extend_from_slice(list);
    Ok(())
}

impl Filters<'_> {
    pub(super) fn wire(&self) -> &[u8] {
        self.wire
    }
}

impl Topics<'_> {
    pub(super) fn wire(&self) -> &[u8] {
        self.wire
    }
}
