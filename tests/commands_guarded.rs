//! Commands under guard: denied, rewritten, kept back where the guard fails, and the urgent ones that go all the same.

use serde_json::{Value, json};

use crate::harness::binary::root;
use crate::harness::components::{hostile_guard, hostile_guard_manifest, shipped};
use crate::harness::device::{Device, ROUTING};
use crate::harness::mqtt::{Message, Version};
use crate::harness::{Node, wait};

fn send(node: &Node, name: &str, payload: &str, urgent: bool) -> String {
    let body = json!({"device": "valve", "name": name, "payload": payload, "urgent": urgent, "allow_unknown": true});
    node.submit(&body).ok().json()["id"].as_str().unwrap().to_owned()
}

fn shown(node: &Node, id: &str) -> Value {
    node.get(&format!("commands/{id}")).ok().json()
}

#[test]
fn a_guard_denies_rewrites_and_fails_closed() {
    let mut node = Node::start();
    node.deploy(&hostile_guard(), hostile_guard_manifest()).ok();
    let mut device = Device::connect(&node, Version::V5, "valve");
    for (payload, code) in [("D", "denied"), ("T", "guard-failed"), ("L", "guard-failed"), ("O", "guard-failed")] {
        let id = send(&node, "open", payload, false);
        node.wait_command(&id, "refused");
        let why = shown(&node, &id)["why"].clone();
        assert_eq!((&why["code"], &why["by"]), (&code.into(), &"hostile-guard".into()), "{payload}: {why}");
        let end = wait::until("the end is audited", || {
            let mut acts = node.events("_audit").into_iter().map(|event| event.json());
            acts.find(|act| act["detail"]["id"] == id.as_str())
        });
        assert!(end["outcome"] == "refused" && end["detail"]["code"] == code, "{end}");
    }
    let rewritten = send(&node, "open", "Whalf", false);
    let command = device.command();
    assert_eq!((command.id.as_str(), command.message.text().as_str()), (rewritten.as_str(), "half"));
    node.wait_step(&rewritten, "delivered");
    let names: Vec<Value> = node.command_steps(&rewritten).iter().map(|step| step["step"].clone()).collect();
    assert_eq!(names[..3], ["queued", "rewritten", "sent"]);
    // An emergency goes, whatever the guard says; so does what it does not judge.
    for (name, payload, urgent) in [("open", "D", true), ("open", "T", true), ("close", "D", false)] {
        let id = send(&node, name, payload, urgent);
        assert_eq!(device.command().id, id, "{name} {payload}");
        node.wait_step(&id, "delivered");
        if urgent {
            node.wait_step(&id, "guard-overridden");
            assert_eq!(shown(&node, &id)["overridden"]["by"], "hostile-guard");
            assert!(node.cli(&["command", "show", &id]).ok().out.contains("overridden"), "{id}");
        }
    }
    node.kill();
    node.run();
    let mut device = Device::connect(&node, Version::V5, "valve");
    let denied = send(&node, "open", "D", false);
    let allowed = send(&node, "open", "allowed", false);
    assert_eq!(device.command().id, allowed, "the guard is on duty again after a crash");
    node.wait_command(&denied, "refused");
}

#[test]
fn a_valve_stays_shut_while_the_pressure_is_high_or_not_known() {
    let check = "a valve stays shut while the pressure is high or not known";
    let (Some(guard), Some(watch)) = (shipped("valve-guard", check), shipped("pressure-watch", check)) else { return };
    let node = Node::start_with(ROUTING);
    for (name, wasm) in [("pressure-watch", watch), ("valve-guard", guard)] {
        let manifest = std::fs::read_to_string(root().join("plugins").join(name).join("manifest.toml")).unwrap();
        node.deploy(&wasm, &manifest).ok();
    }
    let mut device = Device::connect(&node, Version::V5, "valve");
    let unknown = send(&node, "open-valve", "", false);
    node.wait_command(&unknown, "refused");
    let urgent = send(&node, "open-valve", "", true);
    assert_eq!(device.command().id, urgent);
    let reading = |device: &mut Device, bar: f64| {
        let text = json!({"pressure": bar}).to_string();
        assert_eq!(device.client.publish(&Message::new("sensors/valve/pressure", text).qos(1)), 0);
    };
    reading(&mut device, 3.0);
    // The state is as late as the plugin that keeps it.
    let opened = wait::until("the low pressure is known", || {
        let id = send(&node, "open-valve", "", false);
        wait::until_true("it is judged", || node.command_state(&id) != "queued");
        (node.command_state(&id) != "refused").then_some(id)
    });
    assert_eq!(device.command().id, opened);
    reading(&mut device, 9.0);
    wait::until_true("the high pressure is known", || {
        let id = send(&node, "open-valve", "", false);
        wait::until_true("it is judged", || node.command_state(&id) != "queued");
        node.command_state(&id) == "refused" && shown(&node, &id)["why"]["code"] == "denied"
    });
}
