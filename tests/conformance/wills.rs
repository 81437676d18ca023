//! Wills.

use std::time::{Duration, Instant};

use crate::harness::Node;
use crate::harness::mqtt::{BOTH, Client, Connect, Message, Value, Version, id};

fn will(topic: &str) -> Message {
    Message::new(topic, "gone").qos(1)
}

#[test]
fn a_will_follows_any_end_but_a_clean_one() {
    let node = Node::start();
    for version in BOTH {
        let mut watcher = Client::simple(node.mqtt, version, "watcher");
        watcher.subscribe("wills/+", 1);
        let start = |end: &str| {
            let connect = Connect::new(version, end).will(will(&format!("wills/{end}")));
            Client::connect(node.mqtt, &connect)
        };
        start("clean").disconnect();
        drop(start("dropped"));
        assert_eq!(watcher.message().topic, "wills/dropped", "and none for the clean end before it");
        let mut broken = start("malformed");
        broken.send(&[0x00, 0]);
        assert_eq!(watcher.message().topic, "wills/malformed");
        let first = start("taken-over");
        let second = Client::connect(node.mqtt, &Connect::new(version, "taken-over"));
        assert_eq!(watcher.message().topic, "wills/taken-over");
        drop((first, second));
        if version == Version::V5 {
            let mut asked = start("asked");
            asked.send(&[0xe0, 1, 0x04]); // DISCONNECT with will
            assert_eq!(watcher.message().topic, "wills/asked");
        }
    }
}

#[test]
fn a_will_is_an_event_and_may_be_retained() {
    let node = Node::start();
    for version in BOTH {
        let topic = format!("status/{}", version as u8);
        let connect = Connect::new(version, "mortal").will(will(&topic).retain());
        let mut watcher = Client::simple(node.mqtt, version, "watcher");
        watcher.subscribe(&topic, 1);
        drop(Client::connect(node.mqtt, &connect));
        assert_eq!(watcher.message().text(), "gone");
        let mut late = Client::simple(node.mqtt, version, "late");
        late.subscribe(&topic, 1);
        assert!(late.message().retain);
        assert!(node.events("mqtt").iter().any(|event| event.key() == topic));
    }
}

#[test]
fn a_silent_client_is_given_up_and_its_will_sent() {
    let node = Node::start();
    for version in BOTH {
        let mut watcher = Client::simple(node.mqtt, version, "watcher");
        watcher.subscribe("silent", 1);
        let mut connect = Connect::new(version, "sleeper").will(will("silent"));
        connect.keep_alive_s = 1;
        let began = Instant::now();
        let sleeper = Client::connect(node.mqtt, &connect);
        assert_eq!(watcher.message().text(), "gone");
        let waited = began.elapsed();
        assert!(waited >= Duration::from_millis(1400), "one and a half times the keep alive: {waited:?}");
        drop(sleeper);
    }
}

#[test]
fn a_will_may_wait_and_be_called_off() {
    let node = Node::start();
    let mut watcher = Client::simple(node.mqtt, Version::V5, "watcher");
    watcher.subscribe("late/#", 1);
    let connect = |name: &str, seconds| {
        let will = will(&format!("late/{name}")).with(id::WILL_DELAY, Value::Four(seconds));
        Connect::new(Version::V5, name).kept().will(will)
    };
    drop(Client::connect(node.mqtt, &connect("back", 2)));
    let back = Client::connect(node.mqtt, &connect("back", 2)); // in time: no will
    let began = Instant::now();
    drop(Client::connect(node.mqtt, &connect("away", 2)));
    assert_eq!(watcher.message().topic, "late/away");
    let waited = began.elapsed();
    assert!(waited >= Duration::from_millis(1900), "after its delay: {waited:?}");
    assert!(waited < Duration::from_secs(20), "soon after its delay: {waited:?}");
    drop(back);
}

#[test]
fn a_will_keeps_its_properties() {
    let node = Node::start();
    let mut watcher = Client::simple(node.mqtt, Version::V5, "watcher");
    watcher.subscribe("proper", 1);
    let will = will("proper")
        .with(id::CONTENT_TYPE, Value::Text("text/plain".into()))
        .with(id::USER, Value::Pair("a".into(), "b".into()));
    drop(Client::connect(node.mqtt, &Connect::new(Version::V5, "mortal").will(will)));
    let received = watcher.message();
    assert_eq!(received.properties.text(id::CONTENT_TYPE), Some("text/plain"));
    assert_eq!(received.properties.get(id::USER), Some(&Value::Pair("a".into(), "b".into())));
}
