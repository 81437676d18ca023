//! PUBLISH (section 3.3): the packet whose decoding must cost nothing.

use super::packet::{Publish, Qos};
use super::property::{Place, Properties, PropertyId};
use super::reader::{Parsed, Reader};
use super::reason::Sender;
use super::{Settings, Version, rules};
use crate::mqtt::topic;

#[inline]
pub(super) fn decode<'a>(first: u8, body: &'a [u8], settings: &Settings) -> Parsed<Publish<'a>> {
    let qos = Qos::from_bits(first >> 1 & 3).ok_or(rules::QOS_3)?;
    let dup = first & 0x08 != 0;
    if dup && qos == Qos::AtMostOnce {
        return Err(rules::DUP_QOS_0);
    }
    let mut reader = Reader::new(body);
    let topic = std::str::from_utf8(reader.binary()?).map_err(|_| rules::UTF8)?;
    topic::check_characters(topic)?;
    let packet_id = if qos == Qos::AtMostOnce { 0 } else { reader.packet_id()? };
    let properties = match settings.version {
        Version::V311 => Properties::NONE,
        Version::V5 => Properties::read(&mut reader, place(settings.sender))?,
    };
    if topic.is_empty() {
        check_nameless(settings.version, &properties)?;
    }
    let payload = reader.take_rest();
    Ok(Publish { topic, payload, properties, packet_id, qos, dup, retain: first & 1 != 0 })
}

fn place(sender: Sender) -> Place {
    match sender {
        Sender::Client => Place::PublishFromClient,
        Sender::Server => Place::PublishFromServer,
    }
}

/// An empty topic name is legal where an alias stands for it (5.0 section 3.3.2.1).
#[cold]
fn check_nameless(version: Version, properties: &Properties<'_>) -> Parsed<()> {
    match version {
        Version::V311 => Err(rules::NAME_EMPTY),
        Version::V5 if properties.get(PropertyId::TopicAlias).is_none() => Err(rules::NAME_ABSENT),
        Version::V5 => Ok(()),
    }
}
