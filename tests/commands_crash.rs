//! `kill -9` of the node at each step of a command, with a device that remembers what it has done.

use serde_json::{Value, json};

use crate::harness::device::{Command, Device};
use crate::harness::mqtt::{BOTH, Message, Version};
use crate::harness::{Node, wait};

/// How far the command is when the node dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Queued,
    /// The device has it, the node has no PUBACK.
    Sent,
    Delivered,
    Accepted,
    InProgress,
    /// The answer is on its way, its PUBACK is not here.
    Answered,
    Ended,
}

const STAGES: [Stage; 7] =
    [Stage::Queued, Stage::Sent, Stage::Delivered, Stage::Accepted, Stage::InProgress, Stage::Answered, Stage::Ended];

const OUTCOMES: [&str; 9] =
    ["succeeded", "failed", "rejected", "expired", "unknown", "timed-out", "refused", "cancelled", "superseded"];

#[test]
fn a_crash_at_each_step_leaves_one_outcome() {
    for version in BOTH {
        for stage in STAGES {
            for repeat in ["safe", "never"] {
                crash(version, stage, repeat, false);
            }
        }
    }
}

#[test]
fn so_does_one_behind_which_the_store_begins_a_new_life() {
    for stage in STAGES {
        for repeat in ["safe", "never"] {
            crash(Version::V5, stage, repeat, true);
        }
    }
}

fn crash(version: Version, stage: Stage, repeat: &str, is_new_life: bool) {
    let what = format!("{version:?} {stage:?} {repeat}, a new life: {is_new_life}");
    let mut node = Node::start();
    if is_new_life {
        node.cli(&["topic", "create", "loose", "--durability", "memory", "--partitions", "1"]).ok();
    }
    let body = json!({"device": "press", "name": "stamp", "repeat": repeat, "allow_unknown": true,
                      "deliver_within_ms": 120_000});
    let id = node.submit(&body).ok().json()["id"].as_str().unwrap().to_owned();
    let mut done = 0;
    let received = (stage != Stage::Queued).then(|| go_as_far_as(&mut node, version, stage, &id, &mut done));
    node.kill();
    node.run();
    assert_eq!(node.log().contains("a new life begins"), is_new_life, "{what}");

    let mut device = Device::connect(&node, version, "press");
    let comes_again = stage == Stage::Queued || (stage == Stage::Sent && repeat == "safe");
    let command = if comes_again { device.command() } else { received.clone().unwrap() };
    assert_eq!(command.id, id, "{what}");
    if received.is_none() {
        done += 1;
    }
    // It does not know whether its answer arrived, and gives it again.
    device.answer(&command, "succeeded", "stamped");
    let expected = if (stage, repeat) == (Stage::Sent, "never") { "unknown" } else { "succeeded" };
    node.wait_step(&id, expected);
    if expected == "unknown" {
        wait::until_true(&format!("{what}: the late answer"), || {
            node.command_steps(&id).iter().any(|step| step["late"] == true)
        });
        assert_eq!(node.command_state(&id), "unknown", "{what}: a late answer changes nothing");
    }
    assert_eq!(done, 1, "{what}");
    let mut steps = node.command_steps(&id);
    if is_new_life {
        // Those of two lives are read in no order.
        steps.sort_by_key(|step| step["n"].as_u64());
    }
    check_steps(&steps, stage, &what);
}

/// The device takes the command and answers as far as the stage says.
fn go_as_far_as(node: &mut Node, version: Version, stage: Stage, id: &str, done: &mut u32) -> Command {
    let mut device = Device::connect(node, version, "press");
    device.client.acknowledges = stage != Stage::Sent;
    let command = device.command();
    *done += 1;
    if stage >= Stage::Delivered {
        node.wait_step(id, "delivered");
    }
    for (from, status) in [(Stage::Accepted, "accepted"), (Stage::InProgress, "in-progress")] {
        if stage >= from {
            device.answer(&command, status, "");
            node.wait_step(id, status);
        }
    }
    if stage == Stage::Answered {
        let topic = format!("edgeway/answer/press/{id}/succeeded");
        let answer = Message { id: 99, ..Message::new(&topic, "stamped").qos(1) };
        device.client.send(&answer.encode(version));
    }
    if stage == Stage::Ended {
        device.answer(&command, "succeeded", "stamped");
        node.wait_step(id, "succeeded");
    }
    command
}

fn check_steps(steps: &[Value], stage: Stage, what: &str) {
    let names: Vec<&str> = steps.iter().map(|step| step["step"].as_str().unwrap()).collect();
    let numbers: Vec<u64> = steps.iter().map(|step| step["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (0..steps.len() as u64).collect::<Vec<_>>(), "{what}: {names:?}");
    let ends = steps.iter().filter(|step| OUTCOMES.contains(&step["step"].as_str().unwrap()) && step["late"] != true);
    assert_eq!(ends.count(), 1, "{what}: {names:?}");
    assert_eq!(names[..2], ["queued", "sent"], "{what}");
    let sent: Vec<u64> = steps.iter().filter_map(|step| step["attempt"].as_u64()).collect();
    let attempts = if names.contains(&"returned") { 2 } else { 1 };
    assert_eq!(sent, (1..=attempts).collect::<Vec<_>>(), "{what}: {names:?}");
    assert!(attempts == 1 || stage == Stage::Sent, "{what}: {names:?}");
}
