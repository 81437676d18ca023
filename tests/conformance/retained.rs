//! Retained messages.

use std::time::Duration;

use crate::harness::Node;
use crate::harness::mqtt::{BOTH, Client, Connect, Message, Version};

#[test]
fn a_new_subscription_gets_the_last_retained_message() {
    let node = Node::start();
    for version in BOTH {
        let base = format!("kept/{}", version as u8);
        let mut client = Client::simple(node.mqtt, version, "publisher");
        for (level, qos) in [("a", 0), ("b", 1), ("c/d", 2)] {
            let message = Message::new(&format!("{base}/{level}"), level).qos(qos).retain();
            assert_eq!(client.publish(&message), 0);
        }
        let mut subscriber = Client::simple(node.mqtt, version, "subscriber");
        subscriber.subscribe(&format!("{base}/#"), 1);
        let mut received: Vec<_> = (0..3).map(|_| subscriber.message()).collect();
        received.sort_by(|a, b| a.topic.cmp(&b.topic));
        let seen: Vec<_> = received.iter().map(|m| (m.text(), m.qos.min(1), m.retain)).collect();
        let expected = [("a", 0, true), ("b", 1, true), ("c/d", 1, true)];
        assert_eq!(seen, expected.map(|(text, qos, retain)| (text.to_owned(), qos, retain)));
    }
}

#[test]
fn an_empty_payload_removes_and_is_not_kept() {
    let node = Node::start();
    for version in BOTH {
        let topic = format!("removed/{}", version as u8);
        let mut client = Client::simple(node.mqtt, version, "both");
        client.publish(&Message::new(&topic, "x").qos(1).retain());
        client.publish(&Message::new(&topic, "").qos(1).retain());
        client.subscribe(&topic, 1);
        client.publish(&Message::new(&topic, "live").qos(1));
        let first = client.message();
        assert_eq!((first.text().as_str(), first.retain), ("live", false));
    }
}

#[test]
fn retained_messages_survive_a_crash() {
    let mut node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V3, "publisher");
    for number in 0..50 {
        client.publish(&Message::new(&format!("many/{number}"), "old").qos(1).retain());
        client.publish(&Message::new(&format!("many/{number}"), number.to_string()).qos(1).retain());
    }
    node.kill();
    node.run();
    let mut client = Client::simple(node.mqtt, Version::V5, "subscriber");
    client.subscribe("many/+", 1);
    let mut received: Vec<u32> = client.messages(50).iter().map(|(_, text)| text.parse().unwrap()).collect();
    received.sort_unstable();
    assert_eq!(received, (0..50).collect::<Vec<_>>());
}

#[test]
fn version_5_says_how_retained_messages_are_handled() {
    let node = Node::start();
    let mut publisher = Client::simple(node.mqtt, Version::V5, "publisher");
    publisher.publish(&Message::new("handling", "kept").qos(1).retain());
    // Options: retain handling in bits 4 and 5, retain as published in bit 3.
    let mut client = Client::simple(node.mqtt, Version::V5, "subscriber");
    let mut next = |client: &mut Client| {
        publisher.publish(&Message::new("handling/mark", "mark").qos(1));
        client.message().text()
    };
    client.subscribe("handling/mark", 1);
    client.subscribe("handling", 1 | 0x20);
    assert_eq!(next(&mut client), "mark", "2: never");
    client.subscribe("handling", 1 | 0x10);
    assert_eq!(next(&mut client), "mark", "1: not for a subscription that exists");
    client.unsubscribe("handling");
    client.subscribe("handling", 1 | 0x10);
    assert_eq!(client.message().text(), "kept", "1: for a new one");
    client.subscribe("handling", 1);
    assert_eq!(client.message().text(), "kept", "0: always");
    client.subscribe("handling", 1 | 0x08);
    assert!(client.message().retain, "a retained message at subscription has the flag");
    publisher.publish(&Message::new("handling", "again").qos(1).retain());
    assert!(client.message().retain, "as published");
}

#[test]
fn an_expired_retained_message_is_not_sent() {
    let node = Node::start();
    let mut publisher = Client::simple(node.mqtt, Version::V5, "publisher");
    let expiry = crate::harness::mqtt::id::MESSAGE_EXPIRY;
    let seconds = |n| crate::harness::mqtt::Value::Four(n);
    publisher.publish(&Message::new("expiring/soon", "soon").qos(1).retain().with(expiry, seconds(1)));
    publisher.publish(&Message::new("expiring/later", "later").qos(1).retain().with(expiry, seconds(600)));
    std::thread::sleep(Duration::from_millis(2100)); // what is tested is that time passes
    let mut client = Client::connect(node.mqtt, &Connect::new(Version::V5, "subscriber"));
    client.subscribe("expiring/#", 1);
    let message = client.message();
    assert_eq!(message.text(), "later");
    let left = message.properties.number(expiry).unwrap();
    assert!((590..=599).contains(&left), "{left} seconds left");
}
