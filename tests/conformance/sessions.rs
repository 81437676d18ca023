//! Sessions that outlive their connection, and those that do not.

use std::time::Duration;

use crate::harness::Node;
use crate::harness::mqtt::{BOTH, Client, Connect, Message, Value, Version, id};

#[test]
fn a_kept_session_queues_and_a_clean_one_forgets() {
    let mut node = Node::start();
    for version in BOTH {
        for crash in [false, true] {
            let name = format!("kept-{}-{crash}", version as u8);
            let connect = Connect::new(version, &name).kept();
            let mut client = Client::connect(node.mqtt, &connect);
            assert!(!client.session_present);
            client.subscribe(&format!("{name}/+"), 1);
            client.disconnect();
            let mut publisher = Client::simple(node.mqtt, Version::V3, "publisher");
            for number in 0..20 {
                publisher.publish(&Message::new(&format!("{name}/x"), number.to_string()).qos(1));
            }
            if crash {
                node.kill();
                node.run();
            }
            let mut client = Client::connect(node.mqtt, &connect);
            assert!(client.session_present);
            let texts: Vec<String> = client.messages(20).into_iter().map(|(_, text)| text).collect();
            assert_eq!(texts, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
            client.disconnect();
            let mut clean = Client::connect(node.mqtt, &Connect::new(version, &name));
            assert!(!clean.session_present, "a clean start forgets");
            clean.ping();
            clean.disconnect();
            let again = Client::connect(node.mqtt, &connect);
            assert!(!again.session_present);
        }
    }
}

#[test]
fn what_was_not_acknowledged_is_sent_again() {
    let mut node = Node::start();
    for version in BOTH {
        for crash in [false, true] {
            let name = format!("again-{}-{crash}", version as u8);
            let connect = Connect::new(version, &name).kept();
            let mut client = Client::connect(node.mqtt, &connect);
            client.subscribe(&name, 1);
            client.acknowledges = false;
            let mut publisher = Client::simple(node.mqtt, Version::V5, "publisher");
            for text in ["1", "2", "3"] {
                publisher.publish(&Message::new(&name, text).qos(1));
            }
            let first = client.message();
            client.acknowledge(&first);
            assert_eq!(client.messages(2).len(), 2);
            client.ping(); // the acknowledgement of the first has been read
            drop(client);
            if crash {
                node.kill();
                node.run();
            }
            let mut client = Client::connect(node.mqtt, &connect);
            let mut received = vec![client.message(), client.message()];
            if received[0].text() == "1" {
                // An acknowledgement is remembered a moment later; a crash may repeat what had it.
                assert!(crash, "repeated without a crash");
                received.remove(0);
                received.push(client.message());
            }
            assert_eq!(received.iter().map(Message::text).collect::<Vec<_>>(), ["2", "3"]);
            if !crash {
                assert!(received.iter().all(|m| m.dup), "marked as sent before");
            }
        }
    }
}

#[test]
fn a_session_expires_as_it_asked() {
    let node = Node::start();
    let connect = |seconds| {
        Connect { clean: false, ..Connect::new(Version::V5, "short") }.with(id::SESSION_EXPIRY, Value::Four(seconds))
    };
    Client::connect(node.mqtt, &connect(60)).disconnect();
    assert!(Client::connect(node.mqtt, &connect(1)).session_present, "within its time");
    std::thread::sleep(Duration::from_millis(2500)); // what is tested is that time passes
    let client = Client::connect(node.mqtt, &connect(0));
    assert!(!client.session_present, "after its time");
    drop(client);
    assert!(!Client::connect(node.mqtt, &connect(0)).session_present, "0 ends with the connection");
}

#[test]
fn disconnect_may_change_the_expiry() {
    let node = Node::start();
    let connect = Connect::new(Version::V5, "changed").kept();
    let mut client = Client::connect(node.mqtt, &connect);
    client.send(&[0xe0, 7, 0, 5, 17, 0, 0, 0, 0]); // DISCONNECT, session expiry 0
    client.closed();
    let mut client = Client::connect(node.mqtt, &Connect { clean: false, ..Connect::new(Version::V5, "changed") });
    assert!(!client.session_present);
    // From 0 it may not be raised [MQTT-3.14.2.2.2].
    client.send(&[0xe0, 7, 0, 5, 17, 0, 0, 0, 9]);
    assert_eq!(client.closed(), Some(0x82));
}

#[test]
fn a_client_without_a_name_is_given_one() {
    let node = Node::start();
    let mut first = Client::simple(node.mqtt, Version::V5, "");
    let mut second = Client::simple(node.mqtt, Version::V5, "");
    let name = |client: &Client| client.properties.text(id::ASSIGNED_CLIENT_ID).unwrap().to_owned();
    assert!(!name(&first).is_empty());
    assert_ne!(name(&first), name(&second));
    first.ping();
    second.ping();
    let mut old = Client::simple(node.mqtt, Version::V3, "");
    old.ping();
    assert!(Client::try_connect(node.mqtt, &Connect::new(Version::V3, "").kept()).is_err());
}
