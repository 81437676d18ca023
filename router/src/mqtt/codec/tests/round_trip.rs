//! What is encoded is decoded to the same value, for every packet that both versions know.

use crate::mqtt::codec::*;
use proptest::prelude::*;

fn back(packet: &Packet<'_>, settings: &Settings) {
    let version = match packet {
        Packet::Connect(connect) => connect.version,
        _ => settings.version,
    };
    let mut bytes = b"before".to_vec();
    encode(packet, version, &mut bytes).unwrap();
    let wide = Settings { packet_bytes_max: VARIABLE_INTEGER_MAX, ..*settings };
    match decode(&bytes[6..], &wide) {
        Ok(Decoded::Packet { packet: found, len }) => {
            assert_eq!(&found, packet);
            assert_eq!(len, bytes.len() - 6);
        }
        other => panic!("{packet:?}: {other:?}"),
    }
}

fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V311), Just(Version::V5)]
}

fn qos() -> impl Strategy<Value = Qos> {
    (0u8..3).prop_map(|bits| Qos::from_bits(bits).unwrap())
}

fn topic_name() -> impl Strategy<Value = String> {
    "[a-z/äß€ ]{1,40}"
}

/// Properties that a PUBLISH of either side may carry.
fn publish_properties() -> impl Strategy<Value = PropertyBuffer> {
    let user = proptest::collection::vec(("[a-z]{0,9}", "[ -~]{0,9}"), 0..4);
    (any::<Option<u32>>(), proptest::option::of("[a-z/]{1,9}"), any::<Option<bool>>(), any::<Vec<u8>>(), user).prop_map(
        |(expiry, response, format, correlation, user)| {
            let mut buffer = PropertyBuffer::new();
            if let Some(expiry) = expiry {
                buffer.put(PropertyId::MessageExpiry, Value::U32(expiry)).unwrap();
            }
            if let Some(topic) = response {
                buffer.put(PropertyId::ResponseTopic, Value::Text(&topic)).unwrap();
            }
            if let Some(format) = format {
                buffer.put(PropertyId::PayloadFormat, Value::Byte(u8::from(format))).unwrap();
            }
            if !correlation.is_empty() {
                buffer.put(PropertyId::CorrelationData, Value::Binary(&correlation)).unwrap();
            }
            for (name, value) in &user {
                buffer.put(PropertyId::UserProperty, Value::Pair(name, value)).unwrap();
            }
            buffer
        },
    )
}

fn of<'a>(version: Version, buffer: &'a PropertyBuffer) -> Properties<'a> {
    if version == Version::V5 { buffer.view() } else { Properties::NONE }
}

proptest! {
    #[test]
    fn publish(
        version in version(),
        qos in qos(),
        topic in topic_name(),
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        id in 1u16..,
        flags in any::<(bool, bool)>(),
        buffer in publish_properties(),
    ) {
        let packet_id = if qos == Qos::AtMostOnce { 0 } else { id };
        let dup = flags.0 && qos != Qos::AtMostOnce;
        let properties = of(version, &buffer);
        let publish = Publish { topic: &topic, payload: &payload, properties, packet_id, qos, dup, retain: flags.1 };
        back(&Packet::Publish(publish), &Settings::server(version));
        back(&Packet::Publish(publish), &Settings::client(version));
    }

    #[test]
    fn connect(
        version in version(),
        clean_start in any::<bool>(),
        keep_alive_s in any::<u16>(),
        client_id in "[a-zA-Z0-9ä]{0,30}",
        will in proptest::option::of((topic_name(), any::<Vec<u8>>(), qos(), any::<bool>(), publish_properties())),
        user in proptest::option::of(("[a-z]{0,9}", any::<Option<Vec<u8>>>())),
        expiry in any::<Option<u32>>(),
    ) {
        let mut buffer = PropertyBuffer::new();
        if let Some(expiry) = expiry {
            buffer.put(PropertyId::SessionExpiry, Value::U32(expiry)).unwrap();
        }
        let will = will.as_ref().map(|(topic, payload, qos, retain, properties)| Will {
            topic, payload, qos: *qos, retain: *retain, properties: of(version, properties),
        });
        let connect = Connect {
            version, clean_start, keep_alive_s, client_id: &client_id, will,
            user_name: user.as_ref().map(|(name, _)| name.as_str()),
            password: user.as_ref().and_then(|(_, password)| password.as_deref()),
            properties: of(version, &buffer),
        };
        back(&Packet::Connect(Box::new(connect)), &Settings::server(version));
    }

    #[test]
    fn subscribe_and_unsubscribe(
        version in version(),
        packet_id in 1u16..,
        filters in proptest::collection::vec(("[a-z]{1,5}(/[a-z]{0,5}|/\\+){0,4}(/#)?", qos(), any::<(bool, bool)>()), 1..9),
    ) {
        let mut list = FilterBuffer::new(version);
        let mut topics = TopicBuffer::new();
        for (filter, qos, (no_local, retain_as_published)) in &filters {
            let mut options = SubscribeOptions::plain(*qos);
            if version == Version::V5 {
                options = SubscribeOptions {
                    no_local: *no_local, retain_as_published: *retain_as_published,
                    retain_handling: RetainHandling::IfNew, ..options
                };
            }
            list.put(filter, options).unwrap();
            topics.put(filter).unwrap();
        }
        let properties = Properties::NONE;
        let subscribe = Subscribe { packet_id, properties, filters: list.view() };
        prop_assert!(subscribe.filters.iter().map(|f| f.filter).eq(filters.iter().map(|f| f.0.as_str())));
        back(&Packet::Subscribe(subscribe), &Settings::server(version));
        let unsubscribe = Unsubscribe { packet_id, properties, filters: topics.view() };
        prop_assert!(unsubscribe.filters.iter().eq(filters.iter().map(|f| f.0.as_str())));
        back(&Packet::Unsubscribe(unsubscribe), &Settings::server(version));
    }
}

#[test]
fn answers_of_every_allowed_reason() {
    for &reason in Reason::ALL {
        assert_eq!(Reason::from_code(reason.code()), Some(reason));
        for packet_id in [1, 0x1234, u16::MAX] {
            for reply in [
                Reply::PubAck { packet_id, reason },
                Reply::PubRec { packet_id, reason },
                Reply::PubRel { packet_id, reason },
                Reply::PubComp { packet_id, reason },
            ] {
                for version in [Version::V311, Version::V5] {
                    check_reply(reply, reason, version);
                }
            }
        }
    }
}

/// A reply that decodes must say what was put in; one that does not must be refused for its reason alone.
fn check_reply(reply: Reply, reason: Reason, version: Version) {
    let mut bytes = Vec::new();
    reply.encode(version, &mut bytes);
    match decode(&bytes, &Settings::client(version)) {
        Ok(Decoded::Packet { packet, len }) => {
            assert_eq!(len, bytes.len());
            let expected = if version == Version::V5 { reason } else { Reason::Success };
            match (packet, reply) {
                (Packet::PubAck(ack), Reply::PubAck { packet_id, .. })
                | (Packet::PubRec(ack), Reply::PubRec { packet_id, .. })
                | (Packet::PubRel(ack), Reply::PubRel { packet_id, .. })
                | (Packet::PubComp(ack), Reply::PubComp { packet_id, .. }) => {
                    assert_eq!((ack.packet_id, ack.reason), (packet_id, expected));
                }
                other => panic!("{other:?}"),
            }
        }
        Err(error) => assert_eq!(error.statement(), "section 2.4", "{reply:?}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn every_property_is_accepted_somewhere_and_reads_as_it_was_put() {
    for &id in PropertyId::ALL {
        let values = [
            Value::Byte(1),
            Value::U16(7),
            Value::U32(7),
            Value::Variable(300),
            Value::Text("t"),
            Value::Binary(b"b"),
            Value::Pair("k", "v"),
        ];
        let read_back = values.iter().filter(|&&value| {
            let mut buffer = PropertyBuffer::new();
            buffer.put(id, value).unwrap();
            buffer.view().iter().eq([(id, value)])
        });
        assert!(read_back.count() >= 1, "{id:?}");
    }
}

#[test]
fn what_is_too_long_is_refused_and_leaves_nothing_behind() {
    let long = "x".repeat(65_536);
    let mut buffer = PropertyBuffer::new();
    assert_eq!(buffer.put(PropertyId::ContentType, Value::Text(&long)), Err(EncodeError::FieldTooLong(65_536)));
    assert!(buffer.view().is_empty());
    let publish = Publish {
        topic: &long,
        payload: &[],
        properties: Properties::NONE,
        packet_id: 0,
        qos: Qos::AtMostOnce,
        dup: false,
        retain: false,
    };
    let mut out = vec![1, 2];
    assert_eq!(encode(&Packet::Publish(publish), Version::V311, &mut out), Err(EncodeError::FieldTooLong(65_536)));
    assert_eq!(out, [1, 2]);
    let auth = Packet::Auth(Notice { reason: Reason::ContinueAuthentication, properties: Properties::NONE });
    assert_eq!(encode(&auth, Version::V311, &mut out), Err(EncodeError::NotInVersion));
}

#[test]
fn a_server_says_why_it_disconnects_in_5_0_alone() {
    let mut out = Vec::new();
    encode_disconnect(Reason::SessionTakenOver, Version::V311, &mut out);
    assert!(out.is_empty());
    encode_disconnect(Reason::SessionTakenOver, Version::V5, &mut out);
    assert_eq!(out, [0xE0, 1, 0x8E]);
}
