//! Bad input over raw sockets: the specification's reason code, a closed connection, and a node that goes on.

use crate::harness::Node;
use crate::harness::mqtt::packet::{Packet, subscribe};
use crate::harness::mqtt::{BOTH, Client, Connect, End, Message, Properties, Value, Version, bytes, id};

/// Sent after CONNECT and CONNACK; the reason code is what version 5 must be told.
struct Case {
    name: &'static str,
    version: Version,
    bytes: Vec<u8>,
    reason: u8,
}

fn case(name: &'static str, version: Version, bytes: impl Into<Vec<u8>>, reason: u8) -> Case {
    Case { name, version, bytes: bytes.into(), reason }
}

const MALFORMED: u8 = 0x81;
const PROTOCOL_ERROR: u8 = 0x82;

/// What is wrong in both versions alike.
fn shared(v: Version) -> Vec<Case> {
    let publish = |topic: &str| Message::new(topic, "x").encode(v);
    let filter = |filter: &str, options: u8| subscribe(v, 1, &Properties::default(), &[(filter, options)]);
    let no_properties: &[u8] = if v == Version::V5 { &[0] } else { &[] };
    let with_id = |first: u8, id: &[u8]| bytes::packet(first, &[id, no_properties].concat());
    vec![
        case("type 0", v, [0x00, 0], MALFORMED),
        case("CONNECT twice", v, Connect::new(v, "again").encode(), PROTOCOL_ERROR),
        case("CONNACK from a client", v, [0x20, 2, 0, 0], PROTOCOL_ERROR),
        case("SUBACK from a client", v, [0x90, 3, 0, 1, 0], PROTOCOL_ERROR),
        case("PINGRESP from a client", v, [0xd0, 0], PROTOCOL_ERROR),
        case("PINGREQ with flags", v, [0xc1, 0], MALFORMED),
        case("PINGREQ with a body", v, [0xc0, 1, 0], MALFORMED),
        case("SUBSCRIBE with other flags", v, [0x80, 6, 0, 1, 0, 1, b'a', 0], MALFORMED),
        case("PUBREL with other flags", v, [0x60, 2, 0, 1], MALFORMED),
        case("PUBACK of one byte", v, [0x40, 1, 0], MALFORMED),
        case("remaining length of five bytes", v, [0x30, 0xff, 0xff, 0xff, 0xff, 1], MALFORMED),
        case("PUBLISH of QoS 3", v, [0x36, 6, 0, 1, b'a', 0, 1, 0], MALFORMED),
        case("PUBLISH of QoS 0 with DUP", v, [0x38, 4, 0, 1, b'a', 0], MALFORMED),
        case("PUBLISH with a cut topic", v, [0x30, 3, 0, 9, b'a'], MALFORMED),
        case("PUBLISH of QoS 1 with id 0", v, [0x32, 6, 0, 1, b'a', 0, 0, 0], PROTOCOL_ERROR),
        case("PUBLISH to a topic with NUL", v, publish("a\0b"), MALFORMED),
        case("PUBLISH to a wildcard", v, publish("a/+"), 0x90),
        case("PUBLISH with bad UTF-8", v, [0x30, 5, 0, 2, 0xc3, 0x28, 0], MALFORMED),
        case("SUBSCRIBE without filters", v, with_id(0x82, &[0, 1]), PROTOCOL_ERROR),
        case("UNSUBSCRIBE without filters", v, with_id(0xa2, &[0, 1]), PROTOCOL_ERROR),
        case("SUBSCRIBE at QoS 3", v, filter("a", 3), PROTOCOL_ERROR),
        case("SUBSCRIBE with id 0", v, subscribe(v, 0, &Properties::default(), &[("a", 0)]), PROTOCOL_ERROR),
    ]
}

/// What only version 5 knows.
fn version_5() -> Vec<Case> {
    let v = Version::V5;
    let publish = |properties: &[(u8, Value)]| {
        let mut message = Message::new("a", "x");
        message.properties = Properties(properties.to_vec());
        message.encode(v)
    };
    let filter = |filter: &str, options: u8| subscribe(v, 1, &Properties::default(), &[(filter, options)]);
    let twice = (id::MESSAGE_EXPIRY, Value::Four(1));
    let zero_id = Properties(vec![(id::SUBSCRIPTION_ID, Value::Varint(0))]);
    vec![
        case("type 15 without authentication", v, [0xf0, 0], PROTOCOL_ERROR),
        case("a property twice", v, publish(&[twice.clone(), twice]), PROTOCOL_ERROR),
        case("a property of another packet", v, publish(&[(id::RECEIVE_MAX, Value::Two(1))]), MALFORMED),
        case("an unknown property", v, [0x30, 6, 0, 1, b'a', 2, 0x7f, 0], MALFORMED),
        case("payload format 2", v, publish(&[(id::PAYLOAD_FORMAT, Value::Byte(2))]), PROTOCOL_ERROR),
        case("topic alias 0", v, publish(&[(id::TOPIC_ALIAS, Value::Two(0))]), 0x94),
        case("topic alias beyond the bound", v, publish(&[(id::TOPIC_ALIAS, Value::Two(65_535))]), 0x94),
        case("no topic and no alias", v, Message::new("", "x").encode(v), PROTOCOL_ERROR),
        case("reserved subscription options", v, filter("a", 0xc0), MALFORMED),
        case("retain handling 3", v, filter("a", 0x30), PROTOCOL_ERROR),
        case("subscription identifier 0", v, subscribe(v, 1, &zero_id, &[("a", 0)]), PROTOCOL_ERROR),
        case("response topic with wildcard", v, publish(&[(id::RESPONSE_TOPIC, Value::Text("a/#".into()))]), 0x90),
    ]
}

#[test]
fn a_broken_packet_closes_its_connection_alone() {
    let node = Node::start();
    let mut witness = Client::simple(node.mqtt, Version::V5, "witness");
    let cases = BOTH.into_iter().flat_map(shared).chain(version_5());
    let mut wrong = Vec::new();
    for case in cases {
        let mut client = Client::simple(node.mqtt, case.version, "broken");
        client.send(&case.bytes);
        let told = client.closed();
        let right = match case.version {
            Version::V3 => told.is_none(),
            // Both codes name what is wrong with a packet; the specification
            // lets malformed packets be told as protocol errors.
            Version::V5 if case.reason <= PROTOCOL_ERROR => matches!(told, Some(MALFORMED | PROTOCOL_ERROR)),
            // A more specific code, or the general ones.
            Version::V5 => {
                matches!(told, Some(code) if code == case.reason || code == MALFORMED || code == PROTOCOL_ERROR)
            }
        };
        if !right {
            wrong.push(format!("{} in {:?}: told {told:02x?}", case.name, case.version));
        }
        witness.ping();
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert!(node.is_healthy());
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[test]
fn a_broken_connect_is_refused() {
    let node = Node::start();
    let good = Connect::new(Version::V5, "x").encode();
    let edit = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        bytes
    };
    let cases: Vec<(&str, Version, Vec<u8>)> = vec![
        ("PINGREQ first", Version::V3, vec![0xc0, 0]),
        ("PUBLISH first", Version::V3, Message::new("a", "x").encode(Version::V3)),
        ("flags in the first byte", Version::V5, edit(0, 0x11)),
        ("another protocol name", Version::V5, edit(4, b'X')),
        ("version 6", Version::V5, edit(8, 6)),
        ("reserved connect flag", Version::V5, edit(9, 0x03)),
        ("will QoS without will", Version::V5, edit(9, 0x0a)),
        ("cut short", Version::V5, vec![0x10, 6, 0, 4, b'M', b'Q', b'T', b'T']),
        ("HTTP", Version::V3, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec()),
        ("nothing but 0xff", Version::V3, vec![0xff; 64]),
    ];
    for (name, version, bytes) in cases {
        let mut client = Client::open(node.mqtt, version);
        client.send(&bytes);
        let told = client.closed();
        assert!(told != Some(0), "{name} was accepted");
    }
    // A version that is not known gets the answer of its kind [MQTT-3.1.2-2].
    let mut client = Client::open(node.mqtt, Version::V5);
    client.send(&edit(8, 6));
    assert!(matches!(client.closed(), Some(0x84 | 1) | None));
    // 3.1.1: an empty client identifier needs a clean session [MQTT-3.1.3-8].
    let mut connect = Connect::new(Version::V3, "");
    connect.clean = false;
    assert_eq!(Client::try_connect(node.mqtt, &connect).err(), Some(2));
    assert!(node.is_healthy());
}

#[test]
fn noise_does_no_harm() {
    let node = Node::start();
    let mut seed: u64 = 0x9e37_79b9_7f4a_7c15;
    for round in 0..200 {
        let version = BOTH[round % 2];
        let mut client = Client::simple(node.mqtt, version, "noise");
        let mut next = || {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            seed
        };
        let mut bytes = Message::new("noise", "payload of some length").qos(1).encode(version);
        bytes[3] = 0;
        for _ in 0..=next() % 3 {
            let at = next() as usize % bytes.len();
            bytes[at] ^= 1 << (next() % 8);
        }
        client.send(&bytes);
        client.send(&[0xe0, 0]);
        drop(client);
    }
    let mut client = Client::simple(node.mqtt, Version::V5, "after");
    assert_eq!(client.publish(&Message::new("after", "x").qos(1)), 0);
    assert!(!node.log().contains("panicked"), "{}", node.log());
}

#[test]
fn strict_rules_refuse_other_topics() {
    let node = Node::start_with(
        "[routing]\nstrict = true\n[[routing.rules]]\npattern = 'in/{key}'\ntopic = 'taken'\nkey = '{key}'\n",
    );
    let mut modern = Client::simple(node.mqtt, Version::V5, "modern");
    assert_eq!(modern.publish(&Message::new("in/a", "1").qos(1)), 0);
    assert!(matches!(modern.publish(&Message::new("out/a", "2").qos(1)), 0x87 | 0x90));
    assert!(matches!(modern.publish(&Message::new("out/a", "2").qos(2)), 0x87 | 0x90));
    assert_eq!(modern.publish(&Message::new("in/b", "3").qos(2)), 0, "the connection goes on");
    let mut old = Client::simple(node.mqtt, Version::V3, "old");
    let mut message = Message::new("out/a", "4").qos(1);
    message.id = 1;
    old.send(&message.encode(Version::V3));
    assert_eq!(old.closed(), None);
    let values: Vec<String> = node.events("taken").iter().map(|e| e.text()).collect();
    assert_eq!(values.len(), 2, "{values:?}");
    assert!(node.log().contains("out/a"), "the log names the topic");
}

#[test]
fn a_misspelt_topic_of_a_device_is_logged_with_what_is_wrong() {
    let cases = [
        ("edgeway/answer/pump/17/failed", "the command id is not a UUID"),
        ("edgeway/twin/pump/reported/new", "the version is not a number"),
    ];
    for (topic, why) in cases {
        let node = Node::start();
        let mut client = Client::simple(node.mqtt, Version::V5, "pump");
        assert_eq!(client.publish(&Message::new(topic, "x").qos(1)), 0x87, "{topic}");
        assert!(node.log().contains(why), "{topic}: {}", node.log());
    }
}

#[test]
fn internal_topics_are_closed_to_clients() {
    let node = Node::start();
    for topic in ["edgeway/command/pump/1/cool", "edgeway/answer/pump", "$SYS/broker"] {
        let mut modern = Client::simple(node.mqtt, Version::V5, "modern");
        let code = modern.publish(&Message::new(topic, "x").qos(1));
        assert!(matches!(code, 0x87 | 0x90), "{topic}: {code:#04x}");
    }
}

#[test]
fn a_payload_over_the_limit_is_refused() {
    const LIMIT: usize = 4096;
    let node = Node::start_with(&format!("[mqtt]\npacket_bytes_max = {LIMIT}\n"));
    for version in BOTH {
        let mut client = Client::simple(node.mqtt, version, "large");
        if version == Version::V5 {
            assert_eq!(client.properties.number(id::PACKET_MAX), Some(LIMIT as u32));
        }
        assert_eq!(client.publish(&Message::new("fits", vec![b'x'; LIMIT - 64]).qos(1)), 0);
        let mut message = Message::new("large", vec![b'x'; LIMIT]).qos(1);
        message.id = 7;
        client.send(&message.encode(version));
        let expected = (version == Version::V5).then_some(0x95);
        assert_eq!(client.closed(), expected);
    }
    let events = node.events("mqtt");
    assert!(events.iter().all(|e| e.key() == "fits"), "nothing half-written");
    assert_eq!(events.len(), 2);
}

#[test]
fn half_a_packet_is_waited_for_and_its_end_taken() {
    let node = Node::start();
    let mut message = Message::new("slow", "one byte at a time").qos(1);
    message.id = 1;
    for version in BOTH {
        let mut client = Client::open(node.mqtt, version);
        for byte in Connect::new(version, "slow").encode() {
            client.send(&[byte]);
        }
        assert!(matches!(client.receive(), Ok(Packet::Connack { code: 0, .. })));
        for byte in message.encode(version) {
            client.send(&[byte]);
        }
        assert_eq!(client.wait_ack(4, 1), 0);
        client.send(&[0x30, 100, 0]);
        drop(client); // in the middle of a packet
    }
    let mut client = Client::simple(node.mqtt, Version::V3, "other");
    client.ping();
    assert_eq!(client.receive_within(std::time::Duration::from_millis(1)), Err(End::Timeout));
}
