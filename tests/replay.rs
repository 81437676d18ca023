//! Real data: a machine's temperature with labelled anomalies, through MQTT and the threshold plugin.
//!
//! What a fixed limit finds there, and what it does not: below 45 degrees it finds the two failures (the second and
//! fourth window) without one false alarm; below 55 it reaches all four windows, at the price of six alarms outside.

use std::path::PathBuf;

use serde_json::Value;

use crate::harness::components::shipped;
use crate::harness::device::ROUTING;
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::skip::skipped;
use crate::harness::{Event, Node, binary, wait};

const FILE: &str = "machine_temperature_system_failure.csv";

/// A plugin's setting, and what it must find.
struct Setting {
    limit: u32,
    /// For each labelled window, whether an alarm is raised within it.
    windows_hit: [bool; 4],
    alarms_outside: usize,
}

const SETTINGS: [Setting; 2] = [
    Setting { limit: 45, windows_hit: [false, true, false, true], alarms_outside: 0 },
    Setting { limit: 55, windows_hit: [true, true, true, true], alarms_outside: 6 },
];

fn manifest(limit: u32) -> String {
    format!(
        "name = 'below-{limit}'\ntopics = ['telemetry']\nfrom = 'start'\n\
         [grants]\nemit = ['alarms-{limit}']\nstate = true\n\
         [config]\npath = 'value'\nside = 'below'\nlimit = {limit}\nclear = {}\nreadings = 3\n\
         alarm_topic = 'alarms-{limit}'\n",
        limit + 10
    )
}

#[test]
fn real_readings_raise_alarms_in_labelled_windows() {
    let check = "real_readings_raise_alarms_in_labelled_windows";
    let Some(series) = series() else {
        return skipped(check, "the folder ../shared/data/nab is absent");
    };
    let Some(plugin) = shipped("threshold-alarm", check) else { return };
    let node = Node::start_with(ROUTING);
    for setting in &SETTINGS {
        node.deploy(&plugin, &manifest(setting.limit)).ok();
    }
    let mut device = Client::simple(node.mqtt, Version::V3, "machine");
    let reading = |(time, value): &(String, f64)| {
        Message::new("sensors/machine/temperature", format!(r#"{{"time":"{time}","value":{value}}}"#))
    };
    device.publish_all(&series.iter().map(reading).collect::<Vec<_>>());
    // One last alarm of our own, at a known place: where it is, all before it was read.
    let end = [99.0, 1.0, 1.0, 1.0].map(|value| reading(&(String::new(), value)));
    device.publish_all(&end);
    let readings = series.len() + end.len();

    for setting in &SETTINGS {
        let topic = format!("alarms-{}", setting.limit);
        let alarms = wait::until(&topic, || {
            let alarms: Vec<Value> = node.readable_events(&topic).iter().map(Event::json).collect();
            alarms.last().is_some_and(|last| last["offset"] == readings - 1).then_some(alarms)
        });
        let raised = alarms.iter().filter(|alarm| alarm["alarm"] == "raised");
        let places = raised.map(|alarm| alarm["offset"].as_u64().unwrap() as usize);
        let times = places.filter_map(|place| series.get(place)).map(|(time, _)| time.as_str());
        compare(setting, &times.collect::<Vec<_>>());
    }
}

fn compare(setting: &Setting, raised: &[&str]) {
    let windows = windows();
    let inside = |time: &str, (from, to): &(String, String)| from.as_str() <= time && time <= to.as_str();
    let hit: Vec<bool> = windows.iter().map(|window| raised.iter().any(|time| inside(time, window))).collect();
    let outside = raised.iter().filter(|time| !windows.iter().any(|window| inside(time, window)));
    assert_eq!(hit, setting.windows_hit, "below {}: {raised:?}", setting.limit);
    assert_eq!(outside.count(), setting.alarms_outside, "below {}: {raised:?}", setting.limit);
}

fn folder() -> PathBuf {
    binary::root().join("../shared/data/nab")
}

/// Times and readings; times of this form compare as text.
fn series() -> Option<Vec<(String, f64)>> {
    let text = std::fs::read_to_string(folder().join(FILE)).ok()?;
    let rows = text.lines().skip(1).map(|line| {
        let (time, value) = line.split_once(',').unwrap();
        (time.to_owned(), value.parse().unwrap())
    });
    Some(rows.collect())
}

fn windows() -> Vec<(String, String)> {
    let text = std::fs::read_to_string(folder().join("windows.json")).unwrap();
    let all: Value = serde_json::from_str(&text).unwrap();
    let text = |window: &Value, side: usize| window[side].as_str().unwrap()[..19].to_owned();
    let windows = all[FILE].as_array().unwrap();
    windows.iter().map(|window| (text(window, 0), text(window, 1))).collect()
}
