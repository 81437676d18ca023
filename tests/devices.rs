//! Devices: added, tagged, chosen and removed; who may connect where only enrolled ones may.

use std::fs;
use std::process::Command;
use std::time::Duration;

use devices::client::{Config, Fate, Handlers, blocking};
use serde_json::{Value, json};

use crate::harness::cli::Ran;
use crate::harness::mqtt::{Client, Connect, Message, Version};
use crate::harness::skip::{installed, skipped};
use crate::harness::{Node, http, wait};

const ENROLMENT: &str = "[catalog]\nknown_by = 'enrolment'\n[listen]\nquic = '127.0.0.1:0'\n";

/// The names that a list gives.
fn listed(node: &Node, args: &[&str]) -> Vec<String> {
    let devices = node.cli(&[&["device", "list", "--json"], args].concat()).ok().lines();
    devices.iter().map(|device| device["device"].as_str().unwrap().to_owned()).collect()
}

fn shown(node: &Node, device: &str) -> Value {
    node.cli(&["device", "show", device, "--json"]).ok().json()
}

fn metric(node: &Node, name: &str) -> u64 {
    let text = http::get(node.http, "/metrics", None).unwrap().body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap();
    line.parse().unwrap()
}

#[test]
fn devices_are_added_tagged_chosen_and_removed() {
    let mut node = Node::start();
    node.cli(&["device", "add", "pump-7", "--tag", "pump", "--set", "pressure=5.5", "--refuses-repeats", "yes"]).ok();
    node.cli(&["device", "add", "fan-1"]).ok();
    node.cli(&["device", "tag", "fan-1", "fan", "old"]).ok();
    node.cli(&["device", "tag", "fan-1", "north", "--remove", "old"]).ok();
    node.cli(&["device", "set", "fan-1", "serial=0042", "spare=true", "wrong=1"]).ok();
    node.cli(&["device", "set", "fan-1", "pressure=3", "--unset", "wrong", "--refuses-repeats", "no"]).ok();
    let mut seen = Client::simple(node.mqtt, Version::V5, "sensor-2");
    assert_eq!(seen.subscribe("a/#", 1), 1);
    node.cli(&["device", "tag", "sensor-2", "north"]).ok();
    for round in ["before", "after kill -9", "after a stop"] {
        let expected = json!({"serial": "0042", "spare": true, "pressure": 3});
        let fan = shown(&node, "fan-1");
        assert_eq!((&fan["attributes"], &fan["tags"]), (&expected, &json!(["fan", "north"])), "{round}");
        assert_eq!((&fan["refuses_repeats"], &fan["enrolled"]), (&json!(false), &json!(true)));
        assert_eq!((&fan["first_seen_ms"], &fan["protocol"]), (&Value::Null, &Value::Null));
        assert_eq!(listed(&node, &[]), ["fan-1", "pump-7", "sensor-2"], "{round}");
        assert_eq!(listed(&node, &["--tag", "north"]), ["fan-1", "sensor-2"]);
        assert_eq!(listed(&node, &["--tag", "north", "--tag", "fan"]), ["fan-1"]);
        assert_eq!(listed(&node, &["--where", "tag = pump and attribute.pressure > 5"]), ["pump-7"]);
        assert_eq!(listed(&node, &["--where", "pressure = * and not device = 'pump-*'"]), ["fan-1"]);
        assert_eq!(listed(&node, &["--where", "enrolled = false or last_seen < 1h"]), ["sensor-2"]);
        let connected: &[&str] = if round == "before" { &["sensor-2"] } else { &[] };
        assert_eq!(listed(&node, &["--connected"]), connected, "{round}");
        assert_eq!(metric(&node, "edgeway_catalog_devices"), 3);
        assert_eq!(metric(&node, "edgeway_catalog_devices_enrolled"), 2);
        assert_eq!(metric(&node, "edgeway_devices_seen"), 1);
        match round {
            "before" => {
                let sensor = shown(&node, "sensor-2");
                assert_eq!((&sensor["filters"], &sensor["connected"]), (&json!(["a/#"]), &json!(true)));
                node.kill();
            }
            _ => assert!(node.stop().success()),
        }
        node.run();
    }
    assert!(node.cli(&["device", "list"]).ok().out.contains("fan north"));
    assert!(node.cli(&["device", "remove", "sensor-2"]).ok().out.contains("device sensor-2 is removed"));
    node.cli(&["device", "remove", "fan-1"]).ok();
    node.kill();
    node.run();
    assert_eq!(listed(&node, &[]), ["pump-7"]);
}

#[test]
fn what_cannot_be_is_refused_with_a_code() {
    let node = Node::start_with("[catalog]\ndevices_max = 2\n");
    node.cli(&["device", "add", "a"]).ok();
    let long = "x".repeat(65);
    let many: Vec<String> = (0..65).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    // (arguments, exit code, what is said)
    let cases: [(&[&str], i32, &str); 11] = [
        (&["device", "add", "a"], 1, "is enrolled already"),
        (&["device", "add", "a/b"], 2, "cannot be a device's name"),
        (&["device", "remove", "x"], 4, "there is no device x"),
        (&["device", "tag", "x", "t"], 4, "there is no device x"),
        (&["device", "set", "x", "t=1"], 4, "there is no device x"),
        (&["device", "show", "x"], 4, "there is no device x"),
        (&["device", "tag", "a", &long], 2, "cannot name a tag"),
        (&[&["device", "tag", "a"], &many[..]].concat(), 2, "more than 64 tags"),
        (&["device", "set", "a"], 2, "nothing is to be set"),
        (&["device", "list", "--where", "tag = "], 2, "position 7: expected a value, found the end"),
        (&["device", "tag", "a"], 2, "required"),
    ];
    for (args, code, said) in cases {
        let ran = node.cli(args);
        assert_eq!(ran.code, code, "{args:?}: {ran:?}");
        assert!(ran.err.contains(said), "{args:?}: {ran:?}");
    }
    let refused = |method, path: &str, body: Option<Value>| {
        let answer = node.call(method, path, body.as_ref());
        (answer.status, answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned())
    };
    let set = |value: Value| refused("POST", "devices/a/attributes", Some(json!({"set": value})));
    assert_eq!(refused("GET", "devices?where=tag", None), (400, "bad_filter".into()));
    assert_eq!(refused("POST", "devices", Some(json!({"device": ""}))), (400, "bad_request".into()));
    assert_eq!(refused("DELETE", "devices/x", None), (404, "not_found".into()));
    assert_eq!(set(json!({"x": "y".repeat(257)})), (400, "bad_request".into()));
    assert_eq!(set(json!({"x": ["y"]})), (400, "bad_request".into()));
    let many: serde_json::Map<String, Value> = many.iter().map(|name| ((*name).to_owned(), json!(1))).collect();
    assert_eq!(set(json!(many)), (400, "too_many_attributes".into()));
    assert_eq!(refused("POST", "devices", Some(json!({"device": "a"}))), (409, "conflict".into()));
    node.cli(&["device", "add", "b"]).ok();
    assert_eq!(refused("POST", "devices", Some(json!({"device": "c"}))), (429, "too_many_devices".into()));
    let _connected = Client::simple(node.mqtt, Version::V3, "d");
    assert_eq!(refused("DELETE", "devices/d", None), (409, "conflict".into()));
}

#[test]
fn changes_and_refusals_are_in_the_audit() {
    let node = Node::start();
    node.cli(&["device", "add", "a", "--tag", "t"]).ok();
    node.call("POST", "devices/a/attributes", Some(&json!({"set": {"x": 1}, "refuses_repeats": null}))).ok();
    node.cli(&["device", "add", "a"]);
    node.cli(&["device", "remove", "a"]).ok();
    let acts: Vec<Value> =
        node.events("_audit").iter().map(|event| serde_json::from_str(&event.text()).unwrap()).collect();
    let brief = acts.iter().map(|a| ["who", "act", "what", "outcome"].map(|part| a[part].as_str().unwrap()));
    let expected = [
        ["cli", "device.add", "a", "done"],
        ["api", "device.set", "a", "done"],
        ["cli", "device.add", "a", "conflict"],
        ["cli", "device.remove", "a", "done"],
    ];
    assert_eq!(brief.collect::<Vec<_>>(), expected);
    assert_eq!(acts[1]["detail"], json!({"set": {"x": 1}, "refuses_repeats": null}));
    let changes: Vec<Value> =
        node.events("_catalog").iter().map(|event| serde_json::from_str(&event.text()).unwrap()).collect();
    assert_eq!(changes.len(), 3);
    assert_eq!(changes[1]["set"]["attributes"], json!({"x": 1}));
    assert_eq!(changes[2]["set"], Value::Null);
}

#[test]
fn only_enrolled_devices_connect_by_mqtt() {
    let mut node = Node::start_with(ENROLMENT);
    node.cli(&["device", "add", "pump"]).ok();
    for (version, code) in [(Version::V5, 0x87), (Version::V3, 5)] {
        assert_eq!(Client::try_connect(node.mqtt, &Connect::new(version, "stranger")).err(), Some(code));
    }
    // The node would choose its name.
    assert_eq!(Client::try_connect(node.mqtt, &Connect::new(Version::V5, "")).err(), Some(0x87));
    node.kill();
    node.run();
    for version in [Version::V5, Version::V3] {
        let mut pump = Client::simple(node.mqtt, version, "pump");
        assert_eq!(pump.publish(&Message::new("a", "b").qos(1)), 0);
    }
    assert_eq!(Client::try_connect(node.mqtt, &Connect::new(Version::V5, "stranger")).err(), Some(0x87));
    assert_eq!(metric(&node, "edgeway_sessions_refused_not_enrolled_total"), 1);
    assert!(node.log().contains("a device that is not enrolled was turned away"));
    assert_eq!(listed(&node, &[]), ["pump"], "who is turned away is not remembered");
}

#[test]
fn a_removed_device_is_disconnected() {
    let node = Node::start_with(ENROLMENT);
    for (version, told) in [(Version::V5, Some(0x98)), (Version::V3, None)] {
        node.cli(&["device", "add", "pump"]).ok();
        let mut pump = Client::simple(node.mqtt, version, "pump");
        node.cli(&["device", "remove", "pump"]).ok();
        assert_eq!(pump.closed(), told);
        assert_eq!(listed(&node, &[]), [""; 0], "forgotten");
        assert!(Client::try_connect(node.mqtt, &Connect::new(version, "pump")).is_err());
    }
    // Where contact is enough it may stay.
    let node = Node::start();
    node.cli(&["device", "add", "pump"]).ok();
    let mut pump = Client::simple(node.mqtt, Version::V5, "pump");
    assert!(node.cli(&["device", "remove", "pump"]).ok().out.contains("stays listed as seen"));
    pump.ping();
    assert_eq!(shown(&node, "pump")["enrolled"], json!(false));
}

#[test]
fn mosquitto_is_told_that_it_is_not_enrolled() {
    if !installed("mosquitto_pub") {
        skipped("mosquitto_is_told_that_it_is_not_enrolled", "mosquitto_pub is not installed");
        return;
    }
    let node = Node::start_with(ENROLMENT);
    node.cli(&["device", "add", "pump"]).ok();
    let publish = |version: &str, device: &str| -> Ran {
        let mut command = Command::new("mosquitto_pub");
        command.args(["-h", "127.0.0.1", "-p", &node.mqtt.port().to_string(), "-V", version, "-i", device]);
        command.args(["-q", "1", "-t", "a", "-m", "hello"]).output().unwrap().into()
    };
    for (version, said) in [("mqttv5", "Not authorized"), ("mqttv311", "not authorised")] {
        let ran = publish(version, "stranger");
        assert_ne!(ran.code, 0, "{ran:?}");
        assert!(ran.err.contains(said), "{ran:?}");
        publish(version, "pump").ok();
    }
    assert_eq!(metric(&node, "edgeway_sessions_refused_not_enrolled_total"), 2);
    assert_eq!(node.events("mqtt").len(), 2);
}

#[test]
fn only_enrolled_devices_connect_by_the_native_protocol() {
    let node = Node::start_with(ENROLMENT);
    let written = |name: &str| fs::read_to_string(node.data().join(name)).unwrap();
    let url = format!("quic://{}?pin={}", written("quic.addr"), written("quic.fingerprint"));
    let start = |device: &str| {
        let mut config = Config::from_url(&url, device).unwrap();
        config.backoff_max = Duration::from_millis(300);
        blocking::Client::start(config, Handlers::new()).unwrap()
    };
    let stranger = start("stranger");
    drop(stranger.publish("a", "secret").unwrap());
    wait::until_true("a refusal", || stranger.counters().breaks >= 1);
    assert_eq!(stranger.counters().connects, 0);
    assert!(metric(&node, "edgeway_sessions_refused_not_enrolled_total") >= 1);
    node.cli(&["device", "add", "pump"]).ok();
    let pump = start("pump");
    assert!(matches!(pump.publish("a", "hello").unwrap().wait(), Fate::Acked { .. }));
    node.cli(&["device", "remove", "pump"]).ok();
    wait::until_true("its end", || pump.counters().breaks >= 1);
    assert_eq!(node.events("mqtt").len(), 1);
    assert_eq!(listed(&node, &[]), [""; 0]);
}
