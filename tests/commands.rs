//! Commands by hand: kept for absent devices, delivered, answered, expired.

use crate::harness::device::Device;
use crate::harness::mqtt::{BOTH, Client, Message, Version, id};
use crate::harness::{Node, wait};

fn wait_state(node: &Node, command: &str, state: &str) {
    wait::until_true(&format!("{command} {state}"), || node.command_state(command) == state);
}

#[test]
fn a_command_waits_for_an_absent_device() {
    let mut node = Node::start();
    for version in BOTH {
        let name = format!("late-{}", version as u8);
        let first = node.send_command(&name, "open", "1", None);
        let second = node.send_command(&name, "close", "2", None);
        assert_eq!(node.command_state(&first), "queued");
        node.kill();
        node.run();
        assert_eq!(node.command_state(&second), "queued", "kept over a crash");

        let mut device = Device::connect(&node, version, &name);
        let commands = [device.command(), device.command()];
        assert_eq!(commands.each_ref().map(|c| c.id.clone()), [first.clone(), second.clone()], "in order");
        assert_eq!(commands.each_ref().map(|c| c.message.text()), ["1", "2"]);
        wait_state(&node, &first, "delivered");
        device.answer(&commands[0], "succeeded", "done");
        device.answer(&commands[1], "failed", "stuck");
        wait_state(&node, &first, "succeeded");
        wait_state(&node, &second, "failed");
    }
}

#[test]
fn version_5_gets_the_properties_of_a_request() {
    let node = Node::start();
    let command = node.send_command("pump", "cool", "x", None);
    let mut device = Device::connect(&node, Version::V5, "pump");
    let received = device.command();
    let properties = &received.message.properties;
    assert_eq!(properties.text(id::RESPONSE_TOPIC), Some(format!("edgeway/answer/pump/{command}").as_str()));
    assert!(properties.number(id::MESSAGE_EXPIRY).is_some_and(|s| (1..=60).contains(&s)), "{properties:?}");
    assert!(properties.get(id::CORRELATION).is_some());
}

#[test]
fn every_status_moves_the_command_on() {
    let node = Node::start();
    let mut device = Device::connect(&node, Version::V3, "valve");
    for outcome in ["succeeded", "failed", "rejected"] {
        let command = node.send_command("valve", "turn", "", None);
        let received = device.command();
        assert_eq!(received.id, command);
        for status in ["accepted", "in-progress", outcome] {
            device.answer(&received, status, "");
            wait_state(&node, &command, status);
        }
        // The first outcome stays; what comes later does not change it.
        device.answer(&received, "failed", "late");
        let next = node.send_command("valve", "next", "", None);
        let received = device.command();
        device.answer(&received, "succeeded", "");
        wait_state(&node, &next, "succeeded");
        assert_eq!(node.command_state(&command), outcome);
    }
}

#[test]
fn a_command_that_nobody_takes_expires() {
    let node = Node::start();
    let command = node.send_command("nobody", "open", "", Some(1_000));
    wait_state(&node, &command, "expired");
    let mut device = Device::connect(&node, Version::V5, "nobody");
    // A later command is the first thing that arrives.
    let later = node.send_command("nobody", "later", "", None);
    assert_eq!(device.command().id, later, "an expired command is never delivered");
}

#[test]
fn only_the_device_that_got_it_answers() {
    let node = Node::start();
    let mut device = Device::connect(&node, Version::V3, "lock");
    let command = node.send_command("lock", "open", "", None);
    let received = device.command();
    let mut stranger = Client::simple(node.mqtt, Version::V3, "stranger");
    let forged = Message::new(&format!("edgeway/answer/lock/{command}/succeeded"), "forged").qos(1);
    assert_eq!(stranger.publish(&forged), 0);
    device.answer(&received, "failed", "true");
    wait_state(&node, &command, "failed");
}

#[test]
fn a_crash_between_sending_and_answer_loses_nothing() {
    let mut node = Node::start();
    let command = node.send_command("fan", "spin", "", Some(120_000));
    let mut device = Device::connect(&node, Version::V3, "fan");
    device.client.acknowledges = false;
    assert_eq!(device.command().id, command);
    node.kill(); // before the PUBACK
    node.run();
    let mut device = Device::connect(&node, Version::V3, "fan");
    let received = device.command();
    assert_eq!(received.id, command, "sent again");
    device.answer(&received, "succeeded", "");
    wait_state(&node, &command, "succeeded");
}
