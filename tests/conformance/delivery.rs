//! From one client to another: quality of service, order, large payloads.

use crate::harness::Node;
use crate::harness::mqtt::{BOTH, Client, Connect, Message, Packet, Version, packet};

#[test]
fn a_message_arrives_as_it_was_sent() {
    let node = Node::start();
    for from in BOTH {
        for to in BOTH {
            let mut subscriber = Client::simple(node.mqtt, to, "subscriber");
            assert_eq!(subscriber.subscribe("plain/#", 1), 1);
            let mut publisher = Client::simple(node.mqtt, from, "publisher");
            for (qos, expected) in [(0, 0), (1, 1), (2, 1)] {
                for payload in [&b""[..], b"text", &[0, 0xff, 0x80], &[7; 20_000]] {
                    assert_eq!(publisher.publish(&Message::new("plain/x", payload).qos(qos)), 0);
                    let received = subscriber.message();
                    assert_eq!((received.topic.as_str(), received.qos), ("plain/x", expected));
                    assert!(received.payload == payload && !received.retain && !received.dup);
                }
            }
        }
    }
}

#[test]
fn order_is_kept_per_topic() {
    let node = Node::start();
    for version in BOTH {
        let mut subscriber = Client::simple(node.mqtt, version, "subscriber");
        subscriber.subscribe("order", 1);
        let mut publisher = Client::simple(node.mqtt, version, "publisher");
        let messages: Vec<Message> = (0..500).map(|n| Message::new("order", n.to_string())).collect();
        publisher.publish_all(&messages);
        for number in 0..500 {
            assert_eq!(subscriber.message().text(), number.to_string());
        }
    }
}

#[test]
fn quality_2_is_taken_once_however_often_it_is_sent() {
    let mut node = Node::start();
    for version in BOTH {
        let topic = format!("twice/{}", version as u8);
        let connect = Connect::new(version, &topic).kept();
        let mut client = Client::connect(node.mqtt, &connect);
        let mut message = Message::new(&topic, "once").qos(2);
        message.id = 77;
        client.send(&message.encode(version));
        client.wait_ack(5, 77);
        message.dup = true;
        client.send(&message.encode(version));
        client.wait_ack(5, 77);
        drop(client); // before PUBREL; sent again on the next connection, after a crash
        node.kill();
        node.run();
        let mut client = Client::connect(node.mqtt, &connect);
        assert!(client.session_present);
        client.send(&message.encode(version));
        client.wait_ack(5, 77);
        client.send(&packet::ack(0x62, 77));
        client.wait_ack(7, 77);
        client.send(&packet::ack(0x62, 77)); // PUBREL again gets PUBCOMP again
        client.wait_ack(7, 77);
        let stored = node.events("mqtt").into_iter().filter(|event| event.key() == topic);
        assert_eq!(stored.count(), 1);
    }
}

#[test]
fn a_publish_followed_by_disconnect_is_not_lost() {
    let node = Node::start();
    for version in BOTH {
        for qos in [0, 1, 2] {
            let topic = format!("last/{}/{qos}", version as u8);
            let mut subscriber = Client::simple(node.mqtt, Version::V5, "subscriber");
            subscriber.subscribe(&topic, 0);
            let mut client = Client::simple(node.mqtt, version, "hasty");
            let mut message = Message::new(&topic, "last word").qos(qos);
            message.id = 1;
            let mut bytes = message.encode(version);
            bytes.extend([0xe0, 0]);
            client.send(&bytes);
            assert_eq!(subscriber.message().text(), "last word");
        }
    }
}

#[test]
fn acknowledgements_leave_in_the_order_of_arrival() {
    let node = Node::start();
    for version in BOTH {
        let mut client = Client::simple(node.mqtt, version, "mixed");
        let mut bytes = Vec::new();
        for id in 1..=20u16 {
            let mut message = Message::new(&format!("mixed/{id}"), "x").qos(1 + (id % 2) as u8);
            message.id = id;
            bytes.extend(message.encode(version));
        }
        client.send(&bytes);
        for expected in 1..=20u16 {
            let Ok(Packet::Ack { kind, id, code: 0 | 0x10 }) = client.receive() else { panic!("no ack") };
            assert_eq!((id, kind), (expected, if expected % 2 == 0 { 4 } else { 5 }));
        }
    }
}

#[test]
fn a_second_connection_under_a_name_ends_the_first() {
    let node = Node::start();
    for version in BOTH {
        let mut first = Client::simple(node.mqtt, version, "same");
        let mut second = Client::simple(node.mqtt, version, "same");
        let expected = (version == Version::V5).then_some(0x8e);
        assert_eq!(first.closed(), expected);
        second.ping();
    }
}
