//! PUBLISH on its way out: encoded once for each version and QoS, then copied for every subscriber.
//!
//! A frame's first byte and its packet identifier are all that differs between most subscribers, and both stand at
//! known places ([`FrameLayout::write`]). What goes further (subscription identifiers, a topic alias) is encoded for one
//! subscriber ([`encode_for_one`]).

use devices::sequence::MQTT_PROPERTY;

use super::codec::{
    EncodeError, Properties, PropertyBuffer, PropertyId, Publish, Qos, Value, Version, put_variable, variable_from,
    variable_len,
};
use super::session::TopicForm;

const PUBLISH: u8 = 0x30;
const DUP: u8 = 0x08;
const RETAIN: u8 = 0x01;

/// A message to be sent, for every subscriber the same.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// A valid topic name.
    pub topic: &'a str,
    /// The payload.
    pub payload: &'a [u8],
    /// What is left of its expiry, seconds ([MQTT-3.3.2-6]); not sent to a 3.1.1 client.
    pub expiry_left_s: Option<u32>,
    /// What else goes with it, see [`put_forwarded`]; not sent to a 3.1.1 client.
    pub properties: Properties<'a>,
}

/// What a single subscriber's copy says.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq)]
pub struct PerSubscriber {
    /// Of no meaning at QoS 0.
    pub packet_id: u16,
    /// Whether it was sent before.
    pub dup: bool,
    /// The retain flag.
    pub retain: bool,
}

/// Where a shared frame's packet identifier is.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct FrameLayout {
    /// The frame's length, bytes.
    pub len: usize,
    /// Where its packet identifier stands, from the frame's first byte; `None` at QoS 0.
    pub packet_id_at: Option<usize>,
}

impl FrameLayout {
    /// Appends one subscriber's copy of `frame`.
    #[inline]
    pub fn write(&self, frame: &[u8], copy: PerSubscriber, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(frame);
        if let Some(written) = out.get_mut(start..) {
            self.patch(written, copy);
        }
    }

    /// Sets in `frame` what differs between subscribers.
    #[inline]
    pub fn patch(&self, frame: &mut [u8], copy: PerSubscriber) {
        if let Some(at) = self.packet_id_at
            && let Some(place) = frame.get_mut(at..at + 2)
        {
            place.copy_from_slice(&copy.packet_id.to_be_bytes());
        }
        if let Some(first) = frame.first_mut() {
            *first = *first & !(DUP | RETAIN) | flag(copy.dup, DUP) | flag(copy.retain, RETAIN);
        }
    }
}

#[inline]
fn flag(set: bool, bit: u8) -> u8 {
    if set { bit } else { 0 }
}

/// Puts those properties of a received PUBLISH that go on to subscribers unaltered: all but the expiry, which is
/// counted down, the topic alias and subscription identifiers, which belong to one connection, and the device's number.
pub fn put_forwarded(publish: &Publish<'_>, into: &mut PropertyBuffer) {
    const LEFT_OUT: [PropertyId; 3] = [PropertyId::MessageExpiry, PropertyId::TopicAlias, PropertyId::SubscriptionId];
    let is_number = |value: &Value<'_>| matches!(value, Value::Pair(MQTT_PROPERTY, _));
    into.put_all_but(&publish.properties, |id, value| LEFT_OUT.contains(&id) || is_number(value));
}

/// Appends a frame that [`FrameLayout::write`] copies, with packet identifier 0 where it has one. Errors: a topic or a
/// message that is longer than MQTT can say, with `out` as it was.
#[inline]
pub fn encode_shared(
    message: &Message<'_>,
    version: Version,
    qos: Qos,
    out: &mut Vec<u8>,
) -> Result<FrameLayout, EncodeError> {
    encode(message, version, qos, PerSubscriber::default(), Personal::NONE, out)
}

/// Appends one subscriber's own frame: `form` names its topic, `subscription_ids` are those of all its matching
/// subscriptions. In 3.1.1 both must be what it knows, a name and none.
pub fn encode_for_one(
    message: &Message<'_>,
    version: Version,
    qos: Qos,
    copy: PerSubscriber,
    form: TopicForm,
    subscription_ids: &[u32],
    out: &mut Vec<u8>,
) -> Result<FrameLayout, EncodeError> {
    if version == Version::V311 && (form != TopicForm::Name || !subscription_ids.is_empty()) {
        return Err(EncodeError::NotInVersion);
    }
    encode(message, version, qos, copy, Personal { form, subscription_ids }, out)
}

#[derive(Copy, Clone)]
struct Personal<'a> {
    form: TopicForm,
    subscription_ids: &'a [u32],
}

impl Personal<'_> {
    const NONE: Personal<'static> = Personal { form: TopicForm::Name, subscription_ids: &[] };

    fn alias(&self) -> Option<u16> {
        match self.form {
            TopicForm::Name => None,
            TopicForm::Introduce(alias) | TopicForm::Alias(alias) => Some(alias),
        }
    }
}

#[inline]
fn encode(
    message: &Message<'_>,
    version: Version,
    qos: Qos,
    copy: PerSubscriber,
    personal: Personal<'_>,
    out: &mut Vec<u8>,
) -> Result<FrameLayout, EncodeError> {
    let topic = if matches!(personal.form, TopicForm::Alias(_)) { "" } else { message.topic };
    let topic_len = u16::try_from(topic.len()).map_err(|_| EncodeError::FieldTooLong(topic.len()))?;
    let properties_len = match version {
        Version::V311 => None,
        Version::V5 => Some(variable_from(properties_len(message, &personal)?)?),
    };
    let id_len = if qos == Qos::AtMostOnce { 0 } else { 2 };
    let head_len = 2 + topic.len() + id_len;
    let list_len = properties_len.map_or(0, |len| variable_len(len) + len as usize);
    let remaining = variable_from(head_len + list_len + message.payload.len())?;
    let len = 1 + variable_len(remaining) + remaining as usize;
    out.reserve(len);
    let flags = flag(copy.dup, DUP) | flag(copy.retain, RETAIN);
    out.push(PUBLISH | qos.bits() << 1 | flags);
    put_variable(out, remaining);
    out.extend_from_slice(&topic_len.to_be_bytes());
    out.extend_from_slice(topic.as_bytes());
    if id_len > 0 {
        out.extend_from_slice(&copy.packet_id.to_be_bytes());
    }
    if let Some(properties_len) = properties_len {
        put_variable(out, properties_len);
        put_properties(message, &personal, out);
    }
    out.extend_from_slice(message.payload);
    let packet_id_at = (id_len > 0).then(|| 1 + variable_len(remaining) + 2 + topic.len());
    Ok(FrameLayout { len, packet_id_at })
}

fn properties_len(message: &Message<'_>, personal: &Personal<'_>) -> Result<usize, EncodeError> {
    let mut len = message.properties.wire().len();
    len += message.expiry_left_s.map_or(0, |_| 5) + personal.alias().map_or(0, |_| 3);
    for &id in personal.subscription_ids {
        len += 1 + variable_len(variable_from(id as usize)?);
    }
    Ok(len)
}

fn put_properties(message: &Message<'_>, personal: &Personal<'_>, out: &mut Vec<u8>) {
    if let Some(expiry_s) = message.expiry_left_s {
        out.push(PropertyId::MessageExpiry as u8);
        out.extend_from_slice(&expiry_s.to_be_bytes());
    }
    if let Some(alias) = personal.alias() {
        out.push(PropertyId::TopicAlias as u8);
        out.extend_from_slice(&alias.to_be_bytes());
    }
    for &id in personal.subscription_ids {
        out.push(PropertyId::SubscriptionId as u8);
        put_variable(out, id);
    }
    out.extend_from_slice(message.properties.wire());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mqtt::codec::{Decoded, Packet, Settings, Value, decode};
    use proptest::prelude::*;

    fn read(frame: &[u8], version: Version) -> Publish<'_> {
        match decode(frame, &Settings::client(version)).unwrap() {
            Decoded::Packet { packet: Packet::Publish(publish), len } if len == frame.len() => publish,
            other => panic!("{other:?}"),
        }
    }

    proptest! {
        #[test]
        fn every_copy_says_what_its_subscriber_is_to_read(
            payload in proptest::collection::vec(any::<u8>(), 0..400),
            topic in "[a-z/]{1,200}",
            v5 in any::<bool>(),
            qos in 0u8..2,
            copy in (1u16.., any::<bool>(), any::<bool>()),
            expiry_left_s in any::<Option<u32>>(),
            user in proptest::option::of("[a-z]{1,200}"),
            ids in proptest::collection::vec(1u32..268_435_456, 0..4),
            alias in proptest::option::of((1u16.., any::<bool>())),
        ) {
            let version = if v5 { Version::V5 } else { Version::V311 };
            let qos = Qos::from_bits(qos).unwrap();
            let mut buffer = PropertyBuffer::new();
            if let Some(user) = &user {
                buffer.put(PropertyId::UserProperty, Value::Pair("k", user)).unwrap();
            }
            let message = Message { topic: &topic, payload: &payload, expiry_left_s, properties: buffer.view() };
            let copy = PerSubscriber { packet_id: copy.0, dup: copy.1 && qos != Qos::AtMostOnce, retain: copy.2 };

            let mut frame = Vec::new();
            let shared = encode_shared(&message, version, qos, &mut frame).unwrap();
            prop_assert_eq!(shared.len, frame.len());
            let mut out = vec![9];
            shared.write(&frame, copy, &mut out);
            let found = read(&out[1..], version);
            prop_assert_eq!((found.topic, found.payload, found.qos), (&topic[..], &payload[..], qos));
            prop_assert_eq!((found.dup, found.retain), (copy.dup, copy.retain));
            prop_assert_eq!(found.packet_id, if qos == Qos::AtMostOnce { 0 } else { copy.packet_id });
            let expected_expiry = expiry_left_s.filter(|_| v5);
            prop_assert_eq!(found.properties.number(PropertyId::MessageExpiry), expected_expiry);
            prop_assert_eq!(found.properties.user().count(), usize::from(v5 && user.is_some()));

            let form = match alias {
                None => TopicForm::Name,
                Some((alias, true)) => TopicForm::Introduce(alias),
                Some((alias, false)) => TopicForm::Alias(alias),
            };
            let mut own = Vec::new();
            let encoded = encode_for_one(&message, version, qos, copy, form, &ids, &mut own);
            if !v5 && (alias.is_some() || !ids.is_empty()) {
                prop_assert_eq!(encoded, Err(EncodeError::NotInVersion));
                return Ok(());
            }
            prop_assert_eq!(encoded.unwrap().len, own.len());
            let found = read(&own, version);
            prop_assert_eq!(found.topic, if matches!(form, TopicForm::Alias(_)) { "" } else { &topic[..] });
            prop_assert_eq!((found.payload, found.retain, found.dup), (&payload[..], copy.retain, copy.dup));
            prop_assert_eq!(found.properties.short(PropertyId::TopicAlias), alias.map(|(alias, _)| alias));
            let found_ids = found.properties.iter().filter(|(id, _)| *id == PropertyId::SubscriptionId);
            prop_assert!(found_ids.map(|(_, value)| value).eq(ids.iter().map(|&id| Value::Variable(id))));
        }
    }

    #[test]
    fn what_belongs_to_one_connection_is_not_forwarded() {
        let mut sent = PropertyBuffer::new();
        for (id, value) in [
            (PropertyId::TopicAlias, Value::U16(3)),
            (PropertyId::ContentType, Value::Text("text/plain")),
            (PropertyId::MessageExpiry, Value::U32(60)),
            (PropertyId::UserProperty, Value::Pair("k", "1")),
            (PropertyId::PayloadFormat, Value::Byte(1)),
            (PropertyId::UserProperty, Value::Pair("k", "2")),
        ] {
            sent.put(id, value).unwrap();
        }
        let publish = Publish {
            topic: "a",
            payload: b"",
            properties: sent.view(),
            packet_id: 0,
            qos: Qos::AtMostOnce,
            dup: false,
            retain: false,
        };
        let mut forwarded = PropertyBuffer::new();
        put_forwarded(&publish, &mut forwarded);
        let expected = [
            (PropertyId::ContentType, Value::Text("text/plain")),
            (PropertyId::UserProperty, Value::Pair("k", "1")),
            (PropertyId::PayloadFormat, Value::Byte(1)),
            (PropertyId::UserProperty, Value::Pair("k", "2")),
        ];
        assert!(forwarded.view().iter().eq(expected));
    }

    #[test]
    fn what_is_too_long_leaves_nothing_behind() {
        let long = "x".repeat(65_536);
        let message = Message { topic: &long, payload: b"", expiry_left_s: None, properties: Properties::NONE };
        let mut out = vec![1];
        let refused = encode_shared(&message, Version::V5, Qos::AtLeastOnce, &mut out);
        assert_eq!((refused, out), (Err(EncodeError::FieldTooLong(65_536)), vec![1]));
    }
}
