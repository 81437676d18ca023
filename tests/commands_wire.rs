//! The command channel by its documented MQTT topics: `mosquitto_sub` and `mosquitto_pub` alone as a device, gateways,
//! two sessions of one device, order and refused answers.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::harness::device::Device;
use crate::harness::mqtt::{BOTH, Client, Message, Version};
use crate::harness::skip::{installed, skipped};
use crate::harness::{Node, wait};

/// Receives one command with `mosquitto_sub`; its MQTT topic and payload.
fn receive(node: &Node, version: &str, device: &str, id: &str) -> (String, String) {
    let port = node.mqtt.port().to_string();
    let filter = format!("edgeway/command/{device}/#");
    let mut command = Command::new("mosquitto_sub");
    command.args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-i", device, "-q", "1", "-t", &filter]);
    let mut child = command.args(["-C", "1", "-W", "30", "-F", "%t %p"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(child.wait().unwrap().success());
    node.wait_command(id, "delivered");
    let (topic, payload) = line.trim_end_matches('\n').split_once(' ').unwrap();
    (topic.to_owned(), payload.to_owned())
}

fn answer(node: &Node, version: &str, device: &str, topic: &str, payload: &str) {
    let port = node.mqtt.port().to_string();
    let mut command = Command::new("mosquitto_pub");
    command.args(["-h", "127.0.0.1", "-p", &port, "-V", version, "-i", device, "-q", "1", "-t", topic, "-m", payload]);
    assert!(command.status().unwrap().success());
}

#[test]
fn mosquitto_alone_is_a_device() {
    if !(installed("mosquitto_pub") && installed("mosquitto_sub")) {
        return skipped("mosquitto_alone_is_a_device", "mosquitto_pub and mosquitto_sub are not installed");
    }
    let node = Node::start();
    for version in ["mqttv311", "mqttv5"] {
        let device = format!("valve-{version}");
        let first = node.send_command(&device, "open", "wide", None);
        let (topic, payload) = receive(&node, version, &device, &first);
        assert_eq!((topic, payload.as_str()), (format!("edgeway/command/{device}/{first}/open"), "wide"));
        let base = format!("edgeway/answer/{device}/{first}");
        answer(&node, version, &device, &format!("{base}/accepted"), "");
        node.wait_command(&first, "accepted");
        answer(&node, version, &device, &format!("{base}/in-progress/40"), "");
        node.wait_command(&first, "in-progress");
        let shown = node.get(&format!("commands/{first}")).ok().json();
        assert_eq!(shown["result"]["percent"], 40, "{shown}");
        answer(&node, version, &device, &format!("{base}/succeeded"), "open now");
        node.wait_command(&first, "succeeded");
        let shown = node.get(&format!("commands/{first}")).ok().json();
        assert_eq!(shown["result"]["payload"], "open now", "{shown}");

        let second = node.send_command(&device, "close", "", None);
        receive(&node, version, &device, &second);
        answer(&node, version, &device, &format!("edgeway/answer/{device}/{second}/failed/valve-stuck"), "rust");
        node.wait_command(&second, "failed");
        let shown = node.get(&format!("commands/{second}")).ok().json();
        assert_eq!((&shown["result"]["code"], &shown["result"]["payload"]), (&"valve-stuck".into(), &"rust".into()));
    }
}

#[test]
fn a_gateway_takes_the_commands_of_those_behind_it() {
    let node = Node::start();
    for version in BOTH {
        let mut gateway = Client::simple(node.mqtt, version, "gateway");
        let names = ["left", "right"].map(|side| format!("{side}-{}", version as u8));
        for name in &names {
            assert_eq!(gateway.subscribe(&format!("edgeway/command/{name}/#"), 1), 1);
        }
        for name in &names {
            let id = node.send_command(name, "turn", name, None);
            let message = gateway.message();
            assert_eq!(
                (message.topic, message.payload),
                (format!("edgeway/command/{name}/{id}/turn"), name.clone().into())
            );
            let answer = Message::new(&format!("edgeway/answer/{name}/{id}/succeeded"), "ok").qos(1);
            assert_eq!(gateway.publish(&answer), 0);
            node.wait_command(&id, "succeeded");
        }
        gateway.disconnect();
    }
}

#[test]
fn of_two_sessions_the_newer_gets_it() {
    let node = Node::start();
    let filter = "edgeway/command/twice/#";
    let mut older = Client::simple(node.mqtt, Version::V5, "older");
    assert_eq!(older.subscribe(filter, 1), 1);
    let mut newer = Client::simple(node.mqtt, Version::V3, "newer");
    assert_eq!(newer.subscribe(filter, 1), 1);
    let id = node.send_command("twice", "go", "", None);
    assert!(newer.message().topic.contains(&id));
    newer.disconnect();
    let next = node.send_command("twice", "go", "", None);
    assert!(older.message().topic.contains(&next), "the first that the older one gets");
}

#[test]
fn what_is_urgent_overtakes_what_waits() {
    let node = Node::start();
    for version in BOTH {
        let name = format!("crane-{}", version as u8);
        let send = |what: &str, urgent: bool, key: Option<&str>| {
            let body = json!({"device": name, "name": what, "urgent": urgent, "supersede": key, "allow_unknown": true});
            node.submit(&body).ok().json()["id"].as_str().unwrap().to_owned()
        };
        let superseded = send("lift", false, Some("height"));
        send("light", false, None);
        send("lower", false, Some("height"));
        send("stop", true, None);
        assert_eq!(node.command_state(&superseded), "superseded");
        let mut device = Device::connect(&node, version, &name);
        let order: Vec<String> = (0..3).map(|_| device.command().name).collect();
        assert_eq!(order, ["stop", "light", "lower"]);
    }
}

#[test]
fn a_device_is_told_that_its_answer_does_not_count() {
    let node = Node::start();
    for version in BOTH {
        let name = format!("gate-{}", version as u8);
        let mut device = Device::connect(&node, version, &name);
        assert_eq!(device.client.subscribe(&format!("edgeway/refused/{name}/#"), 1), 1);
        let id = node.send_command(&name, "open", "", None);
        let command = device.command();
        device.answer(&command, "succeeded", "");
        node.wait_command(&id, "succeeded");
        device.answer(&command, "failed", "after all");
        assert_eq!(device.client.message().topic, format!("edgeway/refused/{name}/{id}/second-answer"));
        assert_eq!(node.command_state(&id), "succeeded");
    }
}

#[test]
fn an_answer_after_the_end_is_kept_and_marked_late() {
    let node = Node::start();
    let body = json!({"device": "slow", "name": "dig", "execution_timeout_ms": 300, "allow_unknown": true});
    let id = node.submit(&body).ok().json()["id"].as_str().unwrap().to_owned();
    let mut device = Device::connect(&node, Version::V5, "slow");
    let command = device.command();
    node.wait_command(&id, "timed-out");
    device.answer(&command, "succeeded", "dug");
    let late = wait::until("the late answer", || {
        let shown = node.get(&format!("commands/{id}")).ok().json();
        shown["result"].is_object().then_some(shown)
    });
    assert_eq!((&late["state"], &late["result"]["late"]), (&"timed-out".into(), &true.into()));
    assert_eq!(late["result"]["payload"], "dug");
}

#[test]
fn a_device_at_qos_0_is_sent_commands_at_qos_0_and_ends_them_by_its_answers() {
    let node = Node::start();
    for version in BOTH {
        let device = format!("old-{version:?}");
        let mut client = Client::simple(node.mqtt, version, &device);
        assert_eq!(client.subscribe(&format!("edgeway/command/{device}/#"), 0), 0);
        let answered = node.send_command(&device, "open", "wide", None);
        let message = client.message();
        assert_eq!((message.qos, &message.topic), (0, &format!("edgeway/command/{device}/{answered}/open")));
        node.wait_command(&answered, "sent");
        client.publish(&Message::new(&format!("edgeway/answer/{device}/{answered}/succeeded"), "").qos(1));
        node.wait_command(&answered, "succeeded");
        let body = json!({"device": device, "name": "close", "payload": "", "execution_timeout_ms": 1_000});
        let silent = node.submit(&body).ok().json()["id"].as_str().unwrap().to_owned();
        assert_eq!(client.message().qos, 0);
        node.wait_command(&silent, "unknown");
    }
}
