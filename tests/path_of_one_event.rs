//! The path of one event: from a device's PUBLISH through the log and a plugin back to the device as a command.

use crate::harness::components::shipped;
use crate::harness::device::{Device, ROUTING};
use crate::harness::log::assert_dense;
use crate::harness::mqtt::{BOTH, Version};
use crate::harness::{Node, wait};

const MANIFEST: &str = r#"
name = "threshold-alarm"
topics = ["telemetry"]
from = "start"
[grants]
emit = ["alarms"]
commands = ["cool"]
state = true
[config]
path = ""
limit = 80
clear = 75
readings = 3
command = "cool"
payload = "on"
"#;

#[test]
fn path_of_one_event() {
    let Some(plugin) = shipped("threshold-alarm", "path_of_one_event") else { return };
    for version in BOTH {
        walk(version, &plugin);
    }
}

fn walk(version: Version, plugin: &[u8]) {
    let mut node = Node::start_with(ROUTING);
    node.deploy(plugin, MANIFEST).ok();
    let mut device = Device::connect(&node, version, "pump-7");

    // The reading is in the log as soon as it is acknowledged, with its place.
    for value in [71.5, 90.0, 91.0, 92.5] {
        device.reading(value);
    }
    let readings = node.events("telemetry");
    assert_eq!(readings.iter().map(|e| e.text()).collect::<Vec<_>>(), ["71.5", "90", "91", "92.5"]);
    assert_dense(&readings);
    assert!(readings.iter().all(|e| e.key() == "pump-7" && e.partition() == readings[0].partition()));

    // The plugin's answer: an alarm event and a command, which the device gets.
    let command = device.command();
    assert_eq!((command.name.as_str(), command.message.text().as_str()), ("cool", "on"));
    let alarms = node.events_when("alarms", 1);
    assert_eq!(alarms.len(), 1);
    assert_eq!(alarms[0].key(), "pump-7");
    let alarm = alarms[0].json();
    assert_eq!((&alarm["alarm"], &alarm["value"]), (&"raised".into(), &92.5.into()));
    assert_eq!(alarm["offset"], readings[3].offset());

    // What the device answers is the command's outcome.
    device.answer(&command, "succeeded", "cooling");
    wait::until_true("the outcome", || node.command_state(&command.id) == "succeeded");

    // All of it is still so after a restart, and nothing happens twice.
    node.kill();
    node.run();
    assert_eq!(node.command_state(&command.id), "succeeded");
    assert_eq!(node.events("telemetry"), readings);
    assert_eq!(node.events("alarms"), alarms);
}
