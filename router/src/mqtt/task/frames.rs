//! A segment's events as PUBLISH frames, encoded once for all subscribers of one version and QoS.

use devices::headers;
use sled_data::{HeadersRef, RecordRef};

use crate::mqtt::codec::{PropertyBuffer, PropertyId, Value, Version, put_variable};
use crate::subscriptions::{Frame, Frames, Segment, SegmentEvent};

/// PUBLISH as the first byte on the wire, without flags.
const PUBLISH: u8 = 0x30;
const QOS_1: u8 = 0x02;
const RETAIN: u8 = 0x01;

/// A form that frames are kept in, of [`crate::subscriptions::FORMATS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Form {
    pub(super) version: Version,
    pub(super) qos_1: bool,
}

impl Form {
    fn number(self) -> usize {
        usize::from(self.version == Version::V5) * 2 + usize::from(self.qos_1)
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
            let about = About { retain: false, subscription_ids: &[] };
            let packet_id_at = self.encode(&event, about, now_ms, &mut properties, &mut frames.bytes);
            frames.list.push(Frame {
                start: u32::try_from(start).unwrap_or(u32::MAX),
                end: u32::try_from(frames.bytes.len()).unwrap_or(u32::MAX),
                packet_id_at: u32::try_from(packet_id_at).unwrap_or(0),
                topic: event.topic_number,
                partition: event.partition,
                offset: event.offset,
            });
        }
        frames
    }

    /// Appends one event as a PUBLISH; returns where its packet id stands, counted from its begin (0: none).
    pub(super) fn encode(
        self,
        event: &SegmentEvent<'_>,
        about: About<'_>,
        now_ms: i64,
        properties: &mut PropertyBuffer,
        out: &mut Vec<u8>,
    ) -> usize {
        let record = &event.record;
        properties.clear();
        let Some(expiry_s) = seconds_left(record, now_ms) else { return 0 };
        if self.version == Version::V5 {
            fill(properties, &record.headers, expiry_s);
            for id in about.subscription_ids {
                let _ = properties.put(PropertyId::SubscriptionId, Value::Variable(*id));
            }
        }
        self.put(event.topic, record.value.unwrap_or_default(), about.retain, properties, out)
    }

    /// Appends a PUBLISH of these parts; returns where its packet id stands, counted from its begin (0: none).
    pub(super) fn put(
        self,
        topic: &str,
        payload: &[u8],
        retain: bool,
        properties: &PropertyBuffer,
        out: &mut Vec<u8>,
    ) -> usize {
        let is_5 = self.version == Version::V5;
        let wire = properties.view().wire();
        let properties_len = if is_5 { variable_len(wire.len()) + wire.len() } else { 0 };
        let body = 2 + topic.len() + usize::from(self.qos_1) * 2 + properties_len + payload.len();
        let start = out.len();
        out.push(PUBLISH | if self.qos_1 { QOS_1 } else { 0 } | if retain { RETAIN } else { 0 });
        put_length(out, body);
        out.extend_from_slice(&u16::try_from(topic.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(topic.as_bytes());
        let packet_id_at = if self.qos_1 { out.len() - start } else { 0 };
        if self.qos_1 {
            out.extend_from_slice(&[0, 0]);
        }
        if is_5 {
            put_length(out, wire.len());
            out.extend_from_slice(wire);
        }
        out.extend_from_slice(payload);
        packet_id_at
    }
}

/// What differs between subscribers.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) retain: bool,
    pub(super) subscription_ids: &'a [u32],
}

fn put_length(out: &mut Vec<u8>, length: usize) {
    // A stored event is far below the 256 MiB that the four bytes can say.
    put_variable(out, u32::try_from(length).unwrap_or(u32::MAX));
}

fn variable_len(length: usize) -> usize {
    match length {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// `Some(None)`: no expiry; `None`: it has expired.
fn seconds_left(record: &RecordRef<'_>, now_ms: i64) -> Option<Option<u32>> {
    let Some(expiry) = record.headers.get(headers::MQTT_EXPIRY).and_then(|bytes| bytes.try_into().ok()) else {
        return Some(None);
    };
    let total_s = u32::from_be_bytes(expiry);
    let age_s = u32::try_from(now_ms.saturating_sub(record.timestamp_ms).max(0) / 1_000).unwrap_or(u32::MAX);
    (total_s > age_s).then(|| Some(total_s - age_s))
}

/// The MQTT 5 properties that an event kept as headers.
pub(super) fn fill(properties: &mut PropertyBuffer, from: &HeadersRef<'_>, expiry_s: Option<u32>) {
    let mut put = |id, value| {
        // What came in as a property fits as one.
        let _ = properties.put(id, value);
    };
    if let Some(seconds) = expiry_s {
        put(PropertyId::MessageExpiry, Value::U32(seconds));
    }
    for (name, value) in from.iter() {
        match name {
            headers::MQTT_PAYLOAD_FORMAT => {
                put(PropertyId::PayloadFormat, Value::Byte(value.first().copied().unwrap_or(0)))
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
