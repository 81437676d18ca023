//! Subscriptions: filters, overlaps, options, refusals.

use crate::harness::Node;
use crate::harness::mqtt::{BOTH, Client, Message, Properties, Value, Version, id, packet};

#[test]
fn filters_match_as_the_specification_says() {
    // (filter, MQTT topics that match, MQTT topics that do not)
    let cases: [(&str, &[&str], &[&str]); 9] = [
        ("a/b", &["a/b"], &["a", "a/b/c", "a/B", "/a/b"]),
        ("a/+", &["a/b", "a/"], &["a", "a/b/c"]),
        ("+/b", &["a/b", "/b"], &["b", "a/b/c"]),
        ("a/#", &["a", "a/b", "a/b/c", "a/"], &["b", "ab"]),
        ("#", &["a", "/", "a/b"], &[]),
        ("+", &["a"], &["/a", "a/b"]),
        ("+/+", &["a/b", "/b", "/"], &["a"]),
        ("a/+/c", &["a/b/c", "a//c"], &["a/c", "a/b/b/c"]),
        ("a/ b", &["a/ b"], &["a/b"]),
    ];
    let node = Node::start();
    for version in BOTH {
        let mut publisher = Client::simple(node.mqtt, version, "publisher");
        for (filter, matching, others) in cases {
            let mut client = Client::simple(node.mqtt, version, "subscriber");
            assert_eq!(client.subscribe_with(&[(filter, 1), ("mark", 1)], &Properties::default()), [1, 1]);
            for topic in others.iter().chain(matching) {
                publisher.publish(&Message::new(topic, "x").qos(1));
            }
            publisher.publish(&Message::new("mark", "end").qos(1));
            let mut topics = Vec::new();
            loop {
                match client.message() {
                    message if message.text() == "end" => break,
                    message => topics.push(message.topic),
                }
            }
            assert_eq!(topics, matching, "{filter}");
        }
    }
}

#[test]
fn overlapping_subscriptions_deliver_at_the_highest_quality() {
    let node = Node::start();
    for version in BOTH {
        let mut client = Client::simple(node.mqtt, version, "overlap");
        client.subscribe_with(&[("over/#", 1), ("over/+", 0), ("mark", 1)], &Properties::default());
        let mut publisher = Client::simple(node.mqtt, version, "publisher");
        publisher.publish(&Message::new("over/x", "once").qos(1));
        publisher.publish(&Message::new("mark", "end").qos(1));
        let mut qualities = Vec::new();
        loop {
            match client.message() {
                message if message.text() == "end" => break,
                message => qualities.push(message.qos),
            }
        }
        // Once, or once for each subscription [MQTT-3.3.4-2]; never below the best.
        assert_eq!(qualities.iter().max(), Some(&1), "{qualities:?}");
        assert!(qualities.len() <= 2);
    }
}

#[test]
fn one_subscription_replaces_another_and_may_be_given_up() {
    let node = Node::start();
    for version in BOTH {
        let mut client = Client::simple(node.mqtt, version, "replacing");
        let mut publisher = Client::simple(node.mqtt, version, "publisher");
        assert_eq!(client.subscribe("re/x", 0), 0);
        assert_eq!(client.subscribe("re/x", 1), 1);
        client.subscribe("mark", 1);
        publisher.publish(&Message::new("re/x", "1").qos(1));
        let received = client.message();
        assert_eq!((received.text().as_str(), received.qos), ("1", 1));
        let codes = client.unsubscribe("re/x");
        assert_eq!(codes, if version == Version::V5 { vec![0] } else { vec![] });
        let codes = client.unsubscribe("re/x");
        assert_eq!(codes, if version == Version::V5 { vec![0x11] } else { vec![] }, "there is none");
        publisher.publish(&Message::new("re/x", "2").qos(1));
        publisher.publish(&Message::new("mark", "end").qos(1));
        assert_eq!(client.message().text(), "end");
    }
}

#[test]
fn a_malformed_filter_ends_the_connection() {
    let node = Node::start();
    for version in BOTH {
        for filter in ["a/#/b", "a/b#", "a+/b", ""] {
            let mut client = Client::simple(node.mqtt, version, "malformed");
            client.send(&packet::subscribe(version, 1, &Properties::default(), &[(filter, 1)]));
            let told = client.closed();
            match version {
                Version::V3 => assert_eq!(told, None, "{filter}"),
                Version::V5 => assert!(matches!(told, Some(0x81 | 0x82 | 0x8f)), "{filter}: {told:02x?}"),
            }
        }
    }
}

#[test]
fn shared_subscriptions_are_refused() {
    let node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V5, "shared");
    assert_eq!(client.properties.number(id::SHARED_AVAILABLE), Some(0));
    let codes = client.subscribe_with(&[("$share/group/a", 1), ("b", 1)], &Properties::default());
    assert_eq!(codes, [0x9e, 1], "that one alone");
    client.ping();
}

#[test]
fn no_local_spares_the_sender() {
    let node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V5, "self");
    client.subscribe("local/quiet", 1 | 0x04);
    client.subscribe("local/loud", 1);
    client.publish(&Message::new("local/quiet", "1").qos(1));
    client.publish(&Message::new("local/loud", "2").qos(1));
    assert_eq!(client.message().text(), "2");
}

#[test]
fn subscription_identifiers_travel_with_the_message() {
    let node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V5, "numbered");
    let numbered = |n| Properties(vec![(id::SUBSCRIPTION_ID, Value::Varint(n))]);
    client.subscribe_with(&[("ids/#", 1)], &numbered(7));
    client.subscribe_with(&[("ids/+", 1)], &numbered(268_435_455));
    client.subscribe_with(&[("mark", 1)], &Properties::default());
    let mut publisher = Client::simple(node.mqtt, Version::V3, "publisher");
    publisher.publish(&Message::new("ids/x", "x").qos(1));
    publisher.publish(&Message::new("mark", "end").qos(1));
    let mut seen = Vec::new();
    loop {
        let message = client.message();
        let ids = message.properties.all(id::SUBSCRIPTION_ID).into_iter().cloned();
        seen.extend(ids);
        if message.text() == "end" {
            break;
        }
    }
    seen.sort_by_key(|value| format!("{value:?}").len());
    assert_eq!(seen, [Value::Varint(7), Value::Varint(268_435_455)]);
}

#[test]
fn topics_of_the_server_are_not_matched_by_wildcards() {
    let node = Node::start();
    for version in BOTH {
        let mut client = Client::simple(node.mqtt, version, "curious");
        client.subscribe("#", 1);
        client.subscribe("+/x", 1);
        let mut publisher = Client::simple(node.mqtt, Version::V5, "publisher");
        publisher.publish(&Message::new("$SYS/x", "no").qos(1));
        publisher.publish(&Message::new("end", "end").qos(1));
        assert_eq!(client.message().text(), "end");
    }
}
