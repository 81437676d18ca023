//! Keep alive, and what the server says about it.

use std::time::Duration;

use crate::harness::Node;
use crate::harness::mqtt::{BOTH, Client, Connect, Message, Version, id};

#[test]
fn a_client_that_pings_is_kept() {
    let node = Node::start();
    for version in BOTH {
        let mut connect = Connect::new(version, "pinging");
        connect.keep_alive_s = 1;
        let mut client = Client::connect(node.mqtt, &connect);
        for _ in 0..5 {
            std::thread::sleep(Duration::from_millis(600)); // three seconds in all: twice its patience
            client.ping();
        }
    }
}

#[test]
fn a_client_that_publishes_is_kept() {
    let node = Node::start();
    let mut connect = Connect::new(Version::V3, "publishing");
    connect.keep_alive_s = 1;
    let mut client = Client::connect(node.mqtt, &connect);
    for _ in 0..5 {
        std::thread::sleep(Duration::from_millis(600)); // three seconds in all: twice its patience
        assert_eq!(client.publish(&Message::new("alive", "x").qos(1)), 0);
    }
}

#[test]
fn a_silent_client_is_told_and_closed() {
    let node = Node::start();
    for version in BOTH {
        let mut connect = Connect::new(version, "silent");
        connect.keep_alive_s = 1;
        let mut client = Client::connect(node.mqtt, &connect);
        let expected = (version == Version::V5).then_some(0x8d);
        assert_eq!(client.closed(), expected);
    }
}

#[test]
fn the_server_may_set_a_shorter_keep_alive() {
    let node = Node::start_with("[mqtt]\nkeep_alive_s_max = 60\n");
    let mut connect = Connect::new(Version::V5, "patient");
    connect.keep_alive_s = 3600;
    let client = Client::connect(node.mqtt, &connect);
    assert_eq!(client.properties.number(id::SERVER_KEEP_ALIVE), Some(60));
    connect.keep_alive_s = 30;
    let client = Client::connect(node.mqtt, &connect);
    assert_eq!(client.properties.number(id::SERVER_KEEP_ALIVE), None);
}
