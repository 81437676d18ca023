//! Properties that travel from publisher to subscriber, and requests with answers.

use crate::harness::Node;
use crate::harness::mqtt::{Client, Message, Value, Version, id};

#[test]
fn a_request_is_answered_where_it_asks() {
    let node = Node::start();
    let mut server = Client::simple(node.mqtt, Version::V5, "server");
    server.subscribe("service/add", 1);
    let mut client = Client::simple(node.mqtt, Version::V5, "client");
    client.subscribe("answers/client", 1);
    let request = Message::new("service/add", "1 2")
        .qos(1)
        .with(id::RESPONSE_TOPIC, Value::Text("answers/client".into()))
        .with(id::CORRELATION, Value::Bytes(vec![0, 0xff, 7]));
    assert_eq!(client.publish(&request), 0);
    let received = server.message();
    let topic = received.properties.text(id::RESPONSE_TOPIC).unwrap().to_owned();
    let correlation = received.properties.get(id::CORRELATION).unwrap().clone();
    server.publish(&Message::new(&topic, "3").qos(1).with(id::CORRELATION, correlation));
    let answer = client.message();
    assert_eq!(answer.text(), "3");
    assert_eq!(answer.properties.get(id::CORRELATION), Some(&Value::Bytes(vec![0, 0xff, 7])));
}

#[test]
fn properties_arrive_in_their_order() {
    let mut node = Node::start();
    let pair = |a: &str, b: &str| Value::Pair(a.into(), b.into());
    let message = Message::new("full", "{}")
        .qos(1)
        .retain()
        .with(id::PAYLOAD_FORMAT, Value::Byte(1))
        .with(id::CONTENT_TYPE, Value::Text("application/json".into()))
        .with(id::USER, pair("b", "1"))
        .with(id::USER, pair("a", "2"))
        .with(id::USER, pair("b", "3"))
        .with(id::USER, pair("", ""));
    let mut client = Client::simple(node.mqtt, Version::V5, "client");
    client.subscribe("full", 1);
    assert_eq!(client.publish(&message), 0);
    let check = |received: Message, when: &str| {
        let users = received.properties.all(id::USER);
        let expected = [pair("b", "1"), pair("a", "2"), pair("b", "3"), pair("", "")];
        assert_eq!(users, expected.iter().collect::<Vec<_>>(), "{when}");
        assert_eq!(received.properties.text(id::CONTENT_TYPE), Some("application/json"), "{when}");
        assert_eq!(received.properties.number(id::PAYLOAD_FORMAT), Some(1), "{when}");
    };
    check(client.message(), "live");
    node.kill();
    node.run();
    let mut client = Client::simple(node.mqtt, Version::V5, "client");
    client.subscribe("full", 1);
    check(client.message(), "retained, after a crash");
    let mut old = Client::simple(node.mqtt, Version::V3, "old");
    old.subscribe("full", 1);
    assert_eq!(old.message().text(), "{}", "without properties for 3.1.1");
}
