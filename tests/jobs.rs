//! Jobs, one command to many devices: over a crash, and paused, resumed, cancelled and aborted by hand.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::harness::device::Device;
use crate::harness::log::Event;
use crate::harness::mqtt::Version;
use crate::harness::{Node, wait};

fn add(node: &Node, count: usize) -> Vec<String> {
    let names: Vec<String> = (0..count).map(|n| format!("pump-{n:03}")).collect();
    for device in &names {
        let body = serde_json::json!({"device": device, "tags": ["pump"]});
        node.call("POST", "devices", Some(&body)).ok();
    }
    names
}

/// Starts a job by hand; its id.
fn start(node: &Node, more: &[&str]) -> String {
    let words = [&["command", "send", "cool", "--where", "tag = pump", "--deliver-by", "10m"], more].concat();
    node.cli(&words).ok().out.trim().to_owned()
}

fn job(node: &Node, id: &str) -> Value {
    node.cli(&["job", "show", id, "--json"]).ok().json()
}

fn wait_for(node: &Node, what: &str, id: &str, is_so: impl Fn(&Value) -> bool) -> Value {
    wait::until(what, || Some(job(node, id)).filter(|job| is_so(job)))
}

/// How often each device's command was queued and sent, by the log.
fn steps(node: &Node, job: &str, step: &str) -> BTreeMap<String, usize> {
    let mut found = BTreeMap::new();
    let of_job: Vec<String> = {
        let devices = node.cli(&["job", "show", job, "--devices", "--json"]).ok().lines();
        devices.iter().filter_map(|device| device["command"].as_str().map(str::to_owned)).collect()
    };
    for event in node.events("_commands") {
        let value: Value = serde_json::from_str(&event.text()).unwrap();
        let is_ours = value["id"].as_str().is_some_and(|id| of_job.iter().any(|of| of == id));
        if is_ours && value["step"] == step {
            *found.entry(event.key().to_owned()).or_default() += 1;
        }
    }
    found
}

/// What a topic holds once an event of that kind is in it: where a job stands is told a moment before it is durable.
fn told(node: &Node, topic: &str, kind: &str, is: &str) -> Vec<Value> {
    wait::until(&format!("{is} in {topic}"), || {
        let told: Vec<Value> = node.events(topic).iter().map(Event::json).collect();
        told.iter().any(|event| event[kind] == is).then_some(told)
    })
}

#[test]
fn a_job_survives_a_crash_and_every_device_gets_its_command_once() {
    const DEVICES: usize = 60;
    let mut node = Node::start();
    let names = add(&node, DEVICES);
    let id = start(&node, &["--rate", "40", "--payload", "5"]);
    for least in [10, 25, 40] {
        wait_for(&node, "some are submitted", &id, |job| job["submitted"].as_u64().unwrap() >= least);
        node.kill();
        node.run();
    }
    let shown = wait_for(&node, "all are submitted", &id, |job| job["submitted"] == DEVICES);
    assert_eq!((&shown["state"], &shown["ended"]), (&"running".into(), &false.into()), "they wait for their devices");
    let once: BTreeMap<String, usize> = names.iter().map(|name| (name.clone(), 1)).collect();
    let queued = || Some(steps(&node, &id, "queued")).filter(|queued| queued.len() >= DEVICES);
    assert_eq!(wait::until("all are in the log", queued), once);
    for (n, name) in names.iter().enumerate() {
        let mut device = Device::connect(&node, Version::V5, name);
        let command = device.command();
        assert_eq!((command.name.as_str(), command.message.text().as_str()), ("cool", "5"));
        device.answer(&command, if n == 7 { "failed" } else { "succeeded" }, "");
        if n == DEVICES / 2 {
            wait_for(&node, "half have ended", &id, |job| job["outcomes"]["succeeded"] == n);
            node.kill();
            node.run();
        }
    }
    let done = wait_for(&node, "it is done", &id, |job| job["ended"] == true);
    assert_eq!((&done["state"], &done["outcomes"]["failed"]), (&"done".into(), &1.into()), "{done}");
    assert_eq!(done["outcomes"]["succeeded"], DEVICES - 1, "each outcome counts once: {done}");
    let failed = node.cli(&["job", "show", &id, "--state", "failed", "--json"]).ok().lines();
    assert_eq!((failed.len(), &failed[0]["device"]), (1, &"pump-007".into()));
    let ends = told(&node, "_jobs", "event", "done");
    let count = |what: &str| ends.iter().filter(|event| event["event"] == what).count();
    assert_eq!((count("started"), count("done")), (1, 1), "{ends:?}");
    assert!(node.cli(&["job", "watch", &id]).ok().out.contains("failed 1"));
    assert!(node.cli(&["job", "list"]).ok().out.contains("tag = pump"));
}

#[test]
fn a_job_is_paused_resumed_and_cancelled_by_hand() {
    let mut node = Node::start();
    add(&node, 40);
    let id = start(&node, &["--rate", "10"]);
    assert_eq!(node.cli(&["job", "pause", &id]).ok().out.trim(), "paused");
    let paused = job(&node, &id);
    node.kill();
    node.run();
    let after = job(&node, &id);
    assert_eq!((&after["state"], &after["submitted"]), (&"paused".into(), &paused["submitted"]), "kept over a crash");
    assert_eq!(node.cli(&["job", "resume", &id]).ok().out.trim(), "running");
    let more = paused["submitted"].as_u64().unwrap() + 2;
    wait_for(&node, "it goes on", &id, |job| job["submitted"].as_u64().unwrap() >= more);
    let mut device = Device::connect(&node, Version::V3, "pump-000");
    let command = device.command();
    wait::until_true("it is delivered", || node.command_state(&command.id) == "delivered");
    assert_eq!(node.cli(&["job", "cancel", &id]).ok().out.trim(), "cancelled");
    let waits = |job: &Value| job["outcomes"]["cancelled"].as_u64() == job["submitted"].as_u64().map(|n| n - 1);
    assert_eq!(wait_for(&node, "the rest is called off", &id, waits)["ended"], false, "one has its device");
    device.answer(&command, "succeeded", "");
    let ended = wait_for(&node, "it has ended", &id, |job| job["ended"] == true);
    assert_eq!((&ended["state"], &ended["outcomes"]["succeeded"]), (&"cancelled".into(), &1.into()));
    let again = node.cli(&["job", "resume", &id]);
    assert!(again.code == 1 && again.err.contains("is cancelled, and cannot go on"), "{again:?}");
    let refused = node.call("POST", &format!("jobs/{id}/pause"), Some(&serde_json::json!({})));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (409, &"already_ended".into()));
    assert!(steps(&node, &id, "sent").into_keys().eq(["pump-000".to_owned()]), "what was called off went nowhere");
}

#[test]
fn a_job_aborts_above_its_bound_and_says_so_by_its_exit_code() {
    let node = Node::start();
    add(&node, 60);
    let words = ["command", "send", "cool", "--where", "tag = pump", "--rate", "20", "--deliver-by", "50ms"];
    let ran = node.cli(&[&words[..], &["--abort-above", "50%", "--wait", "--json"]].concat());
    assert_eq!(ran.code, 14, "expired: {ran:?}");
    let job = ran.json();
    assert_eq!((&job["state"], &job["ended"], &job["changed_by"]), (&"aborted".into(), &true.into(), &"job".into()));
    assert!(job["submitted"].as_u64().unwrap() < 60 && job["outcomes"]["expired"].as_u64().unwrap() >= 10, "{job}");
    let acts = told(&node, "_audit", "act", "job.end");
    let outcome = |act: &str| acts.iter().find(|line| line["act"] == act).map(|line| line["outcome"].clone());
    assert_eq!((outcome("job.start"), outcome("job.end")), (Some("done".into()), Some("aborted".into())));

    let body = serde_json::json!({"where": "tag = none", "name": "cool"});
    let none = node.call("POST", "jobs", Some(&body));
    assert_eq!((none.status, &none.json()["error"]["code"]), (404, &"no_devices".into()));
    let bad = node.call("POST", "jobs", Some(&serde_json::json!({"where": "tag >", "name": "cool"})));
    assert_eq!((bad.status, &bad.json()["error"]["code"]), (400, &"bad_filter".into()));
    let both = node.cli(&["command", "send", "pump-001", "cool", "--where", "tag = pump"]);
    assert!(both.code == 2 && both.err.contains("exclude each other"), "{both:?}");
}
