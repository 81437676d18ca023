//! Commands in a site: they go to the node that their device comes to, and outlive the node that has them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::harness::device::Device;
use crate::harness::mqtt::Version;
use crate::harness::site::Site;
use crate::harness::wait;

/// Devices that a job has, at each of two nodes.
const DEVICES: usize = 6;

/// Submits a command at a node; its id.
fn submit(site: &Site, place: usize, device: &str, more: Value) -> String {
    let mut body = json!({"device": device, "name": "cool", "payload": "5", "allow_unknown": true});
    let more = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(more);
    site[place].submit(&body).ok().json()["id"].as_str().unwrap().to_owned()
}

/// How often a command took a step, as a node's log has it of all nodes.
fn count(site: &Site, place: usize, id: &str, step: &str) -> usize {
    site[place].command_steps(id).iter().filter(|found| found["step"] == step).count()
}

/// The outcomes of a command in the log, with the term of who says so: each node says one at most.
fn outcomes(site: &Site, place: usize, id: &str) -> Vec<String> {
    let names = ["succeeded", "failed", "rejected", "expired", "unknown", "timed-out", "refused"];
    let steps = site[place].command_steps(id).into_iter();
    let is_outcome = |step: &Value| names.iter().any(|name| step["step"] == *name) && step["late"] != true;
    steps.filter(is_outcome).map(|step| step["step"].as_str().unwrap().to_owned()).collect()
}

/// Waits until every node says so; one that has nothing to do with a command hears of it two seconds later.
fn wait_everywhere(site: &Site, id: &str, state: &str) {
    for place in site.running() {
        wait::until_true(&format!("{id} {state} at {}", site.members[place].name), || {
            let shown = site[place].get(&format!("commands/{id}"));
            shown.status == 200 && shown.json()["state"] == state
        });
    }
}

#[test]
fn a_command_goes_to_the_node_that_its_device_comes_to_and_so_do_a_jobs() {
    let site = Site::of_with(3, "");
    let id = submit(&site, 1, "pump", json!({"repeat": "never"}));
    let mut pump = Device::connect(&site[0], Version::V5, "pump");
    let command = pump.command();
    assert_eq!((command.id.as_str(), command.name.as_str()), (id.as_str(), "cool"));
    pump.answer(&command, "succeeded", "done");
    wait_everywhere(&site, &id, "succeeded");
    site.wait_level();
    for place in site.running() {
        assert_eq!(count(&site, place, &id, "sent"), 1);
        assert_eq!(outcomes(&site, place, &id), ["succeeded"]);
    }

    // A job at one node, for devices at the two others.
    let names: Vec<String> = (0..2 * DEVICES).map(|number| format!("fan-{number:02}")).collect();
    let mut devices: Vec<Device> = Vec::new();
    for (number, name) in names.iter().enumerate() {
        site[0].call("POST", "devices", Some(&json!({"device": name, "tags": ["fan"]}))).ok();
        devices.push(Device::connect(&site[1 + number % 2], Version::V5, name));
    }
    let words = ["command", "send", "cool", "--where", "tag = fan", "--deliver-by", "1m"];
    let job = site[0].cli(&words).ok().out.trim().to_owned();
    let mut ids = BTreeSet::new();
    for (number, device) in devices.iter_mut().enumerate() {
        let command = device.command();
        device.answer(&command, if number == 3 { "failed" } else { "succeeded" }, "");
        ids.insert(command.id);
    }
    assert_eq!(ids.len(), names.len());
    let shown = || site[0].cli(&["job", "show", &job, "--json"]).ok().json();
    let done = wait::until("the job has ended", || Some(shown()).filter(|job| job["ended"] == true));
    assert_eq!((&done["state"], &done["outcomes"]["failed"]), (&json!("done"), &json!(1)), "{done}");
    assert_eq!(done["outcomes"]["succeeded"], names.len() - 1, "{done}");
    site.wait_level();
    for id in &ids {
        assert_eq!((count(&site, 0, id, "sent"), outcomes(&site, 0, id).len()), (1, 1), "{id}");
    }
}

#[test]
fn commands_of_a_lost_node_reach_their_devices_once_and_are_not_sent_again_when_it_is_back() {
    let mut site = Site::of_with(3, "");
    let waits = submit(&site, 1, "pump", json!({}));
    let fan = Device::connect(&site[1], Version::V5, "fan");
    // They are written to the device, which confirms neither.
    let sent = submit(&site, 1, "fan", json!({}));
    let never = submit(&site, 1, "fan", json!({"repeat": "never"}));
    for id in [&sent, &never] {
        site[0].wait_step(id, "sent");
        site[2].wait_step(id, "sent");
    }
    site[2].wait_step(&waits, "queued");
    site.kill(&[1]);
    drop(fan);

    let mut pump = Device::connect(&site[0], Version::V5, "pump");
    let mut fan = Device::connect(&site[2], Version::V5, "fan");
    for (device, id) in [(&mut pump, &waits), (&mut fan, &sent)] {
        let command = device.command();
        assert_eq!(&command.id, id);
        device.answer(&command, "succeeded", "");
    }
    let expected = [(&waits, "succeeded"), (&sent, "succeeded"), (&never, "unknown")];
    expected.iter().for_each(|(id, state)| wait_everywhere(&site, id, state));
    site.wait_level();
    let before: Vec<usize> = expected.iter().map(|(id, _)| count(&site, 0, id, "sent")).collect();
    assert_eq!(before, [1, 2, 1]);

    // It is back, and its devices come to it before it can know.
    drop((pump, fan));
    site.run(&[1]);
    let mut devices = ["pump", "fan"].map(|name| Device::connect(&site[1], Version::V5, name));
    site.wait_level();
    expected.iter().for_each(|(id, state)| wait_everywhere(&site, id, state));
    // What is submitted now comes first: nothing of before does.
    for device in &mut devices {
        let id = submit(&site, 1, &device.name, json!({}));
        let command = device.command();
        assert_eq!(command.id, id);
        device.answer(&command, "succeeded", "");
        wait_everywhere(&site, &id, "succeeded");
    }
    site.wait_level();
    let after: Vec<usize> = expected.iter().map(|(id, _)| count(&site, 0, id, "sent")).collect();
    assert_eq!(after, before, "nothing is sent twice");
    for (id, state) in expected {
        let said: BTreeSet<String> = outcomes(&site, 0, id).into_iter().collect();
        assert_eq!(said, BTreeSet::from([state.to_owned()]), "all who say how it ended say the same");
    }
}
