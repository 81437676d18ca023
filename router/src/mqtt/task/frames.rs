//! Events as PUBLISH frames: a segment's encoded once for all subscribers of one version and QoS, or one for one.

use devices::headers;
use sled_data::HeadersRef;

use crate::mqtt::codec::{PropertyBuffer, PropertyId, Qos, Value, Version};
use crate::mqtt::outgoing::{FrameLayout, Message, PerSubscriber, encode_for_one, encode_shared};
use crate::mqtt::session::TopicForm;
use crate::subscriptions::{Frame, Frames, Segment, SegmentEvent};

/// A form that frames are kept in, of [`crate::subscriptions::FORMATS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) version: Version,
    pub(super) qos_1: bool,
}

/// What differs between subscribers.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) retain: bool,
    pub(super) dup: bool,
    pub(super) topic: TopicForm,
    pub(super) subscription_ids: &'a [u32],
}

impl Form {
    fn number(self) -> usize {
        usize::from(self.version == Version::V5) * 2 + usize::from(self.qos_1)
    }

    fn qos(self) -> Qos {
        if self.qos_1 { Qos::AtLeastOnce } else { Qos::AtMostOnce }
    }

    /// The segment's frames in this form. An event that has expired has an empty frame.
    pub(super) fn frames(self, segment: &Segment, now_ms: i64) -> &Frames {
        segment.frames(self.number(), |segment| self.encode_all(segment, now_ms))
    }

    fn encode_all(self, segment: &Segment, now_ms: i64) -> Frames {
        let mut frames = Frames { bytes: Vec::with_capacity(segment.bytes()), list: Vec::new() };
        let mut properties = PropertyBuffer::new();
        for event in segment.events() {
            let start = frames.bytes.len();
            let message = self.message(&event, now_ms, &mut properties);
            // What was taken as a PUBLISH can be said as one; where it cannot, its frame stays empty.
            let layout = message.and_then(|message| {
                encode_shared(&message, self.version, self.qos(), &mut frames.bytes).ok()?.packet_id_at
            });
            frames.list.push(Frame {
                start: u32::try_from(start).unwrap_or(u32::MAX),
                end: u32::try_from(frames.bytes.len()).unwrap_or(u32::MAX),
                packet_id_at: layout.and_then(|at| u32::try_from(at).ok()).unwrap_or(0),
                topic: event.topic_number,
                partition: event.partition,
                offset: event.offset,
            });
        }
        frames
    }

    /// Appends one event as a PUBLISH for one client; `None` where it has expired.
    pub(super) fn encode(
        self,
        event: &SegmentEvent<'_>,
        about: About<'_>,
        now_ms: i64,
        properties: &mut PropertyBuffer,
        out: &mut Vec<u8>,
    ) -> Option<FrameLayout> {
        let message = self.message(event, now_ms, properties)?;
        self.put(&message, about, out)
    }

    /// Appends a message as a PUBLISH for one client; `None` where MQTT cannot say it.
    pub(super) fn put(self, message: &Message<'_>, about: About<'_>, out: &mut Vec<u8>) -> Option<FrameLayout> {
        let copy = PerSubscriber { packet_id: 0, dup: about.dup, retain: about.retain };
        let ids = if self.version == Version::V5 { about.subscription_ids } else { &[] };
        encode_for_one(message, self.version, self.qos(), copy, about.topic, ids, out).ok()
    }

    /// An event as a message; `None` where it has expired.
    fn message<'a>(
        self,
        event: &SegmentEvent<'a>,
        now_ms: i64,
        properties: &'a mut PropertyBuffer,
    ) -> Option<Message<'a>> {
        properties.clear();
        let expiry_left_s = event.seconds_left(now_ms)?;
        if self.version == Version::V5 {
            fill(properties, &event.record.headers);
        }
        let payload = event.record.value.unwrap_or_default();
        Some(Message { topic: event.topic, payload, expiry_left_s, properties: properties.view() })
    }
}

/// The MQTT 5 properties that an event kept as headers, but for its expiry.
fn fill(properties: &mut PropertyBuffer, from: &HeadersRef<'_>) {
    let mut put = |id, value| {
        // What came in as a property fits as one.
        let _ = properties.put(id, value);
    };
    for (name, value) in from.iter() {
        match name {
            headers::MQTT_PAYLOAD_FORMAT => {
                put(PropertyId::PayloadFormat, Value::Byte(value.first().copied().unwrap_or(0)));
            }
            headers::MQTT_CONTENT_TYPE => put_text(&mut put, PropertyId::ContentType, value),
            headers::MQTT_RESPONSE_TOPIC => put_text(&mut put, PropertyId::ResponseTopic, value),
            headers::MQTT_CORRELATION => put(PropertyId::CorrelationData, Value::Binary(value)),
            headers::MQTT_USER => {
                if let Some((name, value)) = split_user_property(value) {
                    put(PropertyId::UserProperty, Value::Pair(name, value));
                }
            }
            _ => {}
        }
    }
}

fn put_text<'a>(put: &mut impl FnMut(PropertyId, Value<'a>), id: PropertyId, value: &'a [u8]) {
    if let Ok(text) = std::str::from_utf8(value) {
        put(id, Value::Text(text));
    }
}

fn split_user_property(bytes: &[u8]) -> Option<(&str, &str)> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let (name, value) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}
