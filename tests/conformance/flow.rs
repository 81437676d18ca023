//! Flow control and limits of version 5: receive maximum, packet size, topic aliases, expiry.

use std::time::Duration;

use crate::harness::Node;
use crate::harness::mqtt::{Client, Connect, End, Message, Value, Version, id};

#[test]
fn no_more_than_the_receive_maximum_is_in_flight() {
    let node = Node::start();
    let connect = Connect::new(Version::V5, "narrow").with(id::RECEIVE_MAX, Value::Two(3));
    let mut client = Client::connect(node.mqtt, &connect);
    client.subscribe("narrow", 1);
    client.acknowledges = false;
    let mut publisher = Client::simple(node.mqtt, Version::V5, "publisher");
    let messages: Vec<Message> = (0..10).map(|n| Message::new("narrow", n.to_string())).collect();
    publisher.publish_all(&messages);
    let mut unacknowledged: Vec<Message> = (0..3).map(|_| client.message()).collect();
    let quiet = Duration::from_millis(300); // nothing may come; a longer wait only finds more
    assert_eq!(client.receive_within(quiet), Err(End::Timeout), "a fourth before an acknowledgement");
    for number in 3..10 {
        client.acknowledge(&unacknowledged.remove(0));
        let next = client.message();
        assert_eq!(next.text(), number.to_string());
        unacknowledged.push(next);
    }
}

#[test]
fn what_is_larger_than_the_client_takes_is_not_sent() {
    let node = Node::start();
    let connect = Connect::new(Version::V5, "small").with(id::PACKET_MAX, Value::Four(100));
    let mut client = Client::connect(node.mqtt, &connect);
    client.subscribe("sized", 1);
    let mut publisher = Client::simple(node.mqtt, Version::V5, "publisher");
    publisher.publish(&Message::new("sized", vec![b'x'; 200]).qos(1));
    publisher.publish(&Message::new("sized", "fits").qos(1));
    assert_eq!(client.message().text(), "fits");
}

#[test]
fn a_topic_alias_stands_for_its_topic() {
    let node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V5, "aliasing");
    let bound = client.properties.number(id::TOPIC_ALIAS_MAX).unwrap_or(0);
    assert!(bound > 0, "the node takes aliases");
    client.subscribe("aliased/#", 1);
    let alias = |message: Message, n: u16| message.with(id::TOPIC_ALIAS, Value::Two(n)).qos(1);
    assert_eq!(client.publish(&alias(Message::new("aliased/a", "1"), 1)), 0);
    assert_eq!(client.publish(&alias(Message::new("", "2"), 1)), 0);
    assert_eq!(client.publish(&alias(Message::new("aliased/b", "3"), 1)), 0, "an alias may be moved");
    assert_eq!(client.publish(&alias(Message::new("", "4"), 1)), 0);
    let received = client.messages(4);
    let topics: Vec<&str> = received.iter().map(|(topic, _)| topic.as_str()).collect();
    assert_eq!(topics, ["aliased/a", "aliased/a", "aliased/b", "aliased/b"]);
    // An alias that was never set is an error.
    client.send(&Message::new("", "5").with(id::TOPIC_ALIAS, Value::Two(2)).encode(Version::V5));
    assert!(matches!(client.closed(), Some(0x82 | 0x94)));
}

#[test]
fn a_message_expires_in_a_queue_and_tells_what_is_left() {
    let node = Node::start();
    let connect = Connect::new(Version::V5, "away").kept();
    let mut client = Client::connect(node.mqtt, &connect);
    client.subscribe("fresh", 1);
    client.disconnect();
    let mut publisher = Client::simple(node.mqtt, Version::V5, "publisher");
    let expiring =
        |text: &str, seconds| Message::new("fresh", text).qos(1).with(id::MESSAGE_EXPIRY, Value::Four(seconds));
    publisher.publish(&expiring("stale", 1));
    publisher.publish(&expiring("good", 100));
    publisher.publish(&Message::new("fresh", "for ever").qos(1));
    std::thread::sleep(Duration::from_millis(2100)); // what is tested is that time passes
    let mut client = Client::connect(node.mqtt, &connect);
    let first = client.message();
    assert_eq!(first.text(), "good");
    let left = first.properties.number(id::MESSAGE_EXPIRY).unwrap();
    assert!((90..=99).contains(&left), "{left} seconds left");
    assert_eq!(client.message().text(), "for ever");
}
