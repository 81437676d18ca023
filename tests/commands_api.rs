//! Commands over the HTTP API and the command line: keys, call-offs, dead letters, bounds, and their codes.

use serde_json::{Value, json};

use crate::harness::Node;
use crate::harness::device::Device;
use crate::harness::http::Answer;
use crate::harness::mqtt::Version;

fn code(answer: &Answer) -> (u16, String) {
    let body: Value = answer.json();
    (answer.status, body["error"]["code"].as_str().unwrap_or_default().to_owned())
}

fn id(answer: Answer) -> String {
    answer.ok().json()["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_key_is_one_command_and_another_content_conflicts() {
    let mut node = Node::start();
    let body = json!({"device": "d", "name": "cool", "payload": "1", "idempotency_key": "k", "allow_unknown": true});
    let first = node.submit(&body);
    assert_eq!(first.status, 202);
    let first = id(first);
    node.kill();
    node.run();
    let again = node.submit(&body);
    assert_eq!((again.status, &again.json()["is_new"]), (200, &false.into()));
    assert_eq!(id(again), first);
    let mut other = body.clone();
    other["payload"] = "2".into();
    assert_eq!(code(&node.submit(&other)), (409, "idempotency_conflict".into()));
    assert_eq!(node.get("commands?device=d").ok().json()["commands"].as_array().unwrap().len(), 1);
}

#[test]
fn what_breaks_a_bound_is_refused_by_code() {
    let node = Node::start();
    let refused = |body: &Value| code(&node.submit(body));
    assert_eq!(refused(&json!({"device": "nobody", "name": "x"})), (404, "unknown_device".into()));
    let large = json!({"device": "d", "name": "x", "payload": "x".repeat(16_385), "allow_unknown": true});
    assert_eq!(refused(&large), (413, "too_large".into()));
    assert_eq!(refused(&json!({"device": "a/b", "name": "x"})), (404, "unknown_site".into()));
    for bad in [json!({"device": "a+b", "name": "x"}), json!({"device": "d", "name": "x", "deliver_within_ms": 0})] {
        assert_eq!(refused(&bad).0, 400, "{bad}");
    }
    assert!(node.get("commands").ok().json()["commands"].as_array().unwrap().is_empty());
}

#[test]
fn a_command_is_called_off_until_it_is_sent() {
    let node = Node::start();
    let cancel = |id: &str| node.call("POST", &format!("commands/{id}/cancel"), Some(&json!({})));
    let queued = node.send_command("door", "open", "", None);
    assert_eq!(cancel(&queued).ok().json()["state"], "cancelled");
    assert_eq!(code(&cancel(&queued)), (409, "already_ended".into()));
    let mut device = Device::connect(&node, Version::V5, "door");
    let sent = node.send_command("door", "open", "", None);
    assert_eq!(device.command().id, sent, "what was called off is never sent");
    assert_eq!(code(&cancel(&sent)), (409, "already_sent".into()));
    assert_eq!(cancel("017f22e2-79b0-7cc3-98c4-dc0c0c07398f").status, 404);
}

#[test]
fn a_dead_letter_is_listed_and_sent_again_once() {
    let node = Node::start();
    let redrive = |id: &str, body: Value| node.call("POST", &format!("commands/{id}/redrive"), Some(&body));
    let dead = node.send_command("away", "open", "", Some(200));
    assert_eq!(code(&redrive(&dead, json!({}))), (409, "not_dead".into()));
    node.wait_command(&dead, "expired");
    let listed = node.cli(&["command", "list", "--dead", "--json"]).ok().lines();
    assert!(listed.len() == 1 && listed[0]["id"] == dead.as_str(), "{listed:?}");
    let again = id(redrive(&dead, json!({})));
    assert_eq!(code(&redrive(&dead, json!({}))), (409, "already_redriven".into()));
    let mut device = Device::connect(&node, Version::V3, "away");
    let command = device.command();
    assert_eq!(command.id, again);
    device.answer(&command, "succeeded", "");
    node.wait_command(&again, "succeeded");
    assert_eq!(redrive("017f22e2-79b0-7cc3-98c4-dc0c0c07398f", json!({})).status, 404);
}

#[test]
fn what_must_not_be_repeated_is_sent_again_by_force_alone() {
    let node = Node::start();
    let body = json!({"device": "bolt", "name": "fire", "repeat": "never", "allow_unknown": true});
    let lost = id(node.submit(&body));
    let mut device = Device::connect(&node, Version::V5, "bolt");
    device.client.acknowledges = false;
    assert_eq!(device.command().id, lost);
    drop(device);
    node.wait_command(&lost, "unknown");
    let redrive = |body: Value| node.call("POST", &format!("commands/{lost}/redrive"), Some(&body));
    assert_eq!(code(&redrive(json!({}))), (409, "not_repeatable".into()));
    let forced = id(redrive(json!({"force": true})));
    assert_eq!(Device::connect(&node, Version::V5, "bolt").command().id, forced);
}

#[test]
fn a_watched_command_is_told_to_its_end_and_audited() {
    let node = Node::start();
    let command = node.send_command("lamp", "on", "", None);
    let mut device = Device::connect(&node, Version::V5, "lamp");
    let received = device.command();
    node.wait_command(&command, "delivered");
    device.answer(&received, "failed/burnt-out", "");
    let watched = node.cli(&["command", "watch", &command]);
    for step in ["queued", "sent", "delivered", "failed", "burnt-out"] {
        assert!(watched.out.contains(step), "{step}: {watched:?}");
    }
    let called_off = node.send_command("absent", "on", "", None);
    node.cli(&["command", "cancel", &called_off]).ok();
    node.wait_step(&command, "failed");
    for (id, outcome) in [(&command, "failed"), (&called_off, "cancelled")] {
        let acts: Vec<Value> = node.events("_audit").iter().map(|event| event.json()).collect();
        let ends: Vec<&Value> = acts.iter().filter(|act| act["detail"]["id"] == id.as_str()).collect();
        assert!(ends.len() == 1 && ends[0]["outcome"] == outcome, "{outcome}: {ends:?}");
    }
}
