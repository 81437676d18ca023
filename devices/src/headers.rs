//! Names of the reserved event headers, and the bytes of those that are not plain values.
//!
//! What came by MQTT is kept in headers, so that a subscriber gets what the publisher sent and a
//! plugin may read it. Names are ASCII; a publisher cannot set them, as its own user properties all
//! travel inside [`MQTT_USER`] headers.

/// The MQTT topic that the event was published to (UTF-8).
pub const MQTT_TOPIC: &str = "mqtt.topic";
/// The publisher's quality of service: one byte, 0 to 2; absent means 1.
pub const MQTT_QOS: &str = "mqtt.qos";
/// The retain flag: one byte of value 1; absent means not retained.
pub const MQTT_RETAIN: &str = "mqtt.retain";
/// The publisher's MQTT client identifier (UTF-8).
pub const MQTT_CLIENT: &str = "mqtt.client";
/// On the will of a client that was lost: the hybrid clock at which its session began, eight bytes, big-endian.
pub const MQTT_WILL: &str = "mqtt.will";
/// MQTT 5 content type (UTF-8).
pub const MQTT_CONTENT_TYPE: &str = "mqtt.content-type";
/// MQTT 5 response topic (UTF-8).
pub const MQTT_RESPONSE_TOPIC: &str = "mqtt.response-topic";
/// MQTT 5 correlation data (bytes as they came).
pub const MQTT_CORRELATION: &str = "mqtt.correlation";
/// MQTT 5 message expiry interval: seconds as four bytes, big-endian.
pub const MQTT_EXPIRY: &str = "mqtt.expiry";
/// MQTT 5 payload format indicator: one byte.
pub const MQTT_PAYLOAD_FORMAT: &str = "mqtt.payload-format";
/// One MQTT 5 user property, see [`encode_user_property`]; repeated, in the order of arrival.
pub const MQTT_USER: &str = "mqtt.user";
/// The number of the session that sent the event: eight bytes, big-endian; on answers only.
pub const SESSION: &str = "session";
/// The device's own number of the event, see [`crate::sequence::Sequence`].
pub const SEQUENCE: &str = "sequence";
/// What a derived event was made from: plugin, source topic, partition and offset.
pub const CAUSE: &str = "cause";

/// On a step of a command that the node that wrote it has made already: nothing to read again but after a restart.
pub const OWN_STEP: &str = "step";

/// On an event that a link brought late, as after an outage: one byte of value 1. It is not stored with the event: the node that it came to
/// shows it to plugins.
pub const LATE: &str = "link.late";

/// Every reserved name.
pub const ALL: [&str; 16] = [
    MQTT_TOPIC,
    MQTT_QOS,
    MQTT_RETAIN,
    MQTT_CLIENT,
    MQTT_WILL,
    MQTT_CONTENT_TYPE,
    MQTT_RESPONSE_TOPIC,
    MQTT_CORRELATION,
    MQTT_EXPIRY,
    MQTT_PAYLOAD_FORMAT,
    MQTT_USER,
    SESSION,
    SEQUENCE,
    CAUSE,
    OWN_STEP,
    LATE,
];

/// Whether a header name is reserved: one of [`ALL`], or any name under `mqtt.`.
pub fn is_reserved(name: &str) -> bool {
    name.starts_with("mqtt.") || ALL.contains(&name)
}

/// The value of a [`MQTT_USER`] header: the name's length (two bytes, big-endian), name, value.
///
/// `None` when MQTT cannot carry them: name or value is longer than 65,535 bytes, or holds U+0000. A subscriber that gets
/// such a property closes its connection.
pub fn encode_user_property(name: &str, value: &str) -> Option<Vec<u8>> {
    let length = u16::try_from(name.len()).ok()?;
    if value.len() > usize::from(u16::MAX) || name.contains('\0') || value.contains('\0') {
        return None;
    }
    let mut bytes = Vec::with_capacity(2 + name.len() + value.len());
    bytes.extend_from_slice(&length.to_be_bytes());
    bytes.extend_from_slice(name.as_bytes());
    bytes.extend_from_slice(value.as_bytes());
    Some(bytes)
}

/// Name and value of a [`MQTT_USER`] header; `None` when the bytes are not such a header's.
pub fn decode_user_property(bytes: &[u8]) -> Option<(&str, &str)> {
    let (length, rest) = bytes.split_first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    if rest.len() < length {
        return None;
    }
    let (name, value) = rest.split_at(length);
    Some((std::str::from_utf8(name).ok()?, std::str::from_utf8(value).ok()?))
}

/// The value of a [`MQTT_WILL`] header.
pub fn encode_will(begun: u64) -> [u8; 8] {
    begun.to_be_bytes()
}

/// When the session of a [`MQTT_WILL`] header began; `None` unless there are exactly eight bytes.
pub fn decode_will(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// The value of a [`SESSION`] header.
pub fn encode_session(number: u64) -> [u8; 8] {
    number.to_be_bytes()
}

/// The session number of a [`SESSION`] header; `None` unless there are exactly eight bytes.
pub fn decode_session(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_properties_have_golden_bytes() {
        let bytes = encode_user_property("unit", "°C").unwrap();
        assert_eq!(bytes, b"\x00\x04unit\xc2\xb0C");
        assert_eq!(decode_user_property(&bytes), Some(("unit", "°C")));
        assert_eq!(encode_user_property("", "").unwrap(), [0, 0]);
        assert_eq!(decode_user_property(&[0, 0]), Some(("", "")));
    }

    #[test]
    fn broken_user_properties_are_refused() {
        let broken: [&[u8]; 5] = [b"", b"\x00", b"\x00\x02a", b"\x00\x01\xff", b"\x00\x00\xff"];
        for bytes in broken {
            assert_eq!(decode_user_property(bytes), None, "{bytes:?}");
        }
        let (longest, long) = ("n".repeat(65_535), "n".repeat(65_536));
        assert!(encode_user_property(&longest, &longest).is_some());
        for (name, value) in [(&*long, ""), ("", &*long), ("a\0", ""), ("", "\0b")] {
            assert!(encode_user_property(name, value).is_none(), "{} and {} bytes", name.len(), value.len());
        }
    }

    #[test]
    fn sessions_are_eight_bytes_big_endian() {
        assert_eq!(encode_session(258), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(decode_session(&encode_session(u64::MAX)), Some(u64::MAX));
        assert_eq!(decode_session(&[1; 7]), None);
        assert_eq!(decode_session(&[1; 9]), None);
    }

    #[test]
    fn a_will_says_when_its_session_began() {
        assert_eq!(encode_will(258), [0, 0, 0, 0, 0, 0, 1, 2]);
        assert_eq!(decode_will(&encode_will(u64::MAX)), Some(u64::MAX));
        assert_eq!(decode_will(&[1; 9]), None);
    }

    #[test]
    fn names_are_reserved_and_distinct() {
        let mut names = ALL.to_vec();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), ALL.len());
        assert!(ALL.iter().all(|name| is_reserved(name)));
        assert!(is_reserved("mqtt.something-later"));
        assert!(!is_reserved("unit"));
    }
}
