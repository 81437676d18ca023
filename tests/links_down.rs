//! Commands that a headquarters gives to devices of a linked site, as real processes with a line between them that is cut: each ends
//! in one outcome, equal at both ends.

use devices::fleet::relay::LineConfig;
use serde_json::{Value, json};

use crate::harness::device::Device;
use crate::harness::mqtt::Version;
use crate::harness::site::{ROUTING, Site};
use crate::harness::{Node, wait};
use crate::links::within::fed;
use crate::links::{link, linked, relayed, view};

/// Gives a command at a headquarters; its id.
fn give(hq: &Node, device: &str, more: Value) -> String {
    let mut body = json!({"device": format!("plant/{device}"), "name": "cool", "payload": "5", "repeat": "never"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    hq.submit(&body).ok().json()["id"].as_str().unwrap().to_owned()
}

/// Waits until a command has ended at both ends; how it did.
fn ended(hq: &Node, plant: &Node, id: &str) -> String {
    let end = |node: &Node| {
        let shown = node.get(&format!("commands/{id}")).ok().json();
        let state = shown["state"].as_str().unwrap().to_owned();
        let has_ended = !["queued", "sent", "delivered", "accepted", "in-progress"].contains(&state.as_str());
        has_ended.then_some((state, shown["result"]["payload"].clone(), shown["why"].clone()))
    };
    let there = wait::until(&format!("{id} has ended at the plant"), || end(plant));
    let here = wait::until(&format!("{id} has ended at the headquarters"), || end(hq));
    assert_eq!(here, there, "{id}");
    here.0
}

/// How often a command was sent to its device.
fn sent(plant: &Node, id: &str) -> usize {
    plant.command_steps(id).iter().filter(|step| step["step"] == "sent").count()
}

fn stands(hq: &Node) {
    wait::until_true("the link stands", || {
        let shown = view(hq, "plant");
        shown["state"] == "connected" && shown["down"] == json!(["commands"])
    });
}

#[test]
fn a_command_goes_down_a_link_and_has_one_end_whatever_dies_or_is_cut() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut plant, mut hq, relay) = relayed(&runtime, LineConfig::default(), "");
    let mut pump = Device::connect(&plant, Version::V5, "pump");
    stands(&hq[0]);

    // As people give it.
    let given = ["command", "send", "--site", "plant", "pump", "cool", "--payload", "5"];
    let id = hq[0].cli(&given).ok().out.trim().to_owned();
    let command = pump.command();
    assert_eq!((&command.id, command.message.payload.as_slice()), (&id, &b"5"[..]));
    pump.answer(&command, "succeeded", "cold");
    assert_eq!(ended(&hq[0], &plant, &id), "succeeded");
    let shown = plant.cli(&["command", "show", &id]).ok().out;
    assert!(shown.contains("link:hq/cli"), "{shown}");
    let listed = hq[0].cli(&["command", "list", "--device", "plant/pump"]).ok().out;
    assert!(listed.contains("succeeded"), "{listed}");
    let acts = plant.readable_events("_audit");
    let is_taken = |act: Value| act["act"] == "command.take" && act["who"] == "link:hq" && act["outcome"] == "taken";
    assert!(acts.into_iter().any(|act| is_taken(act.json())));

    // A device that the plant does not know, and a site that nobody knows.
    let id = give(&hq[0], "pmp", json!({}));
    wait::until_true("it is refused", || hq[0].command_state(&id) == "refused");
    assert_eq!(hq[0].get(&format!("commands/{id}")).ok().json()["why"]["by"], "unknown-device");
    let unknown = hq[0].cli(&["command", "send", "plnt/pump", "cool"]);
    assert!(unknown.code == 4 && unknown.err.contains("link list"), "{unknown:?}");

    // The headquarters dies with the answer on its way.
    let id = give(&hq[0], "pump", json!({}));
    let command = pump.command();
    hq.kill(&[0]);
    pump.answer(&command, "failed", "hot");
    plant.wait_command(&id, "failed");
    hq.run(&[0]);
    assert_eq!((ended(&hq[0], &plant, &id).as_str(), sent(&plant, &id)), ("failed", 1));

    // It is given while nothing comes through, and the headquarters dies before it knows who has it.
    stands(&hq[0]);
    relay.cut(true);
    let id = give(&hq[0], "pump", json!({}));
    hq[0].wait_step(&id, "moving");
    hq.kill(&[0]);
    hq.run(&[0]);
    assert_eq!(hq[0].command_state(&id), "queued");
    relay.cut(false);
    // A line that was silent is found out by the next ping.
    stands(&hq[0]);
    let command = pump.command();
    assert_eq!(command.id, id);
    pump.answer(&command, "succeeded", "");
    assert_eq!((ended(&hq[0], &plant, &id).as_str(), sent(&plant, &id)), ("succeeded", 1));

    // The plant dies while it waits there for its device.
    drop(pump);
    let id = give(&hq[0], "pump", json!({}));
    wait::until_true("the plant has it", || plant.get(&format!("commands/{id}")).status == 200);
    plant.kill();
    plant.run();
    let mut pump = Device::connect(&plant, Version::V5, "pump");
    let command = pump.command();
    pump.answer(&command, "rejected", "");
    assert_eq!((ended(&hq[0], &plant, &id).as_str(), sent(&plant, &id)), ("rejected", 1));

    // The plant dies while the device has it: what is known there is known here.
    let id = give(&hq[0], "pump", json!({"execution_timeout_ms": 2_000}));
    assert_eq!(pump.command().id, id);
    plant.kill();
    plant.run();
    let end = ended(&hq[0], &plant, &id);
    assert!(end == "unknown" || end == "timed-out", "{end}");
    assert_eq!(sent(&plant, &id), 1);

    // One that was never handed over expires, and comes never.
    plant.cli(&["link", "pause", "hq"]).ok();
    wait::until_true("the link is cut", || view(&hq[0], "plant")["state"] == "cut");
    let gone = give(&hq[0], "pump", json!({"deliver_within_ms": 500}));
    let waits = give(&hq[0], "pump", json!({}));
    hq[0].wait_command(&gone, "expired");
    let mut pump = Device::connect(&plant, Version::V5, "pump");
    plant.cli(&["link", "resume", "hq"]).ok();
    let command = pump.command();
    assert_eq!(command.id, waits);
    pump.answer(&command, "succeeded", "");
    assert_eq!(ended(&hq[0], &plant, &waits), "succeeded");
    assert_eq!(plant.get(&format!("commands/{gone}")).status, 404);
    for node in [&plant, &hq[0]] {
        let verified = node.cli(&["store", "verify", "--json"]).ok().json();
        assert_eq!(verified["clean"], true, "{verified}");
    }
}

#[test]
fn nothing_comes_down_where_nothing_is_listed() {
    let (plant, hq) = linked("[[link]]\nname = \"hq\"\ndown = []\n");
    let mut pump = Device::connect(&plant, Version::V5, "pump");
    wait::until_true("the link stands", || view(&hq[0], "plant")["state"] == "connected");
    for (node, link) in [(&plant, "hq"), (&hq[0], "plant")] {
        let shown = node.cli(&["link", "show", link]).ok().out;
        assert!(shown.contains("down       nothing"), "{shown}");
    }
    let sent = hq[0].cli(&["command", "send", "plant/pump", "cool", "--wait"]);
    assert!(sent.code == 17 && sent.out.contains("`down` of its [[link]]"), "{sent:?}");
    // What is given at the plant itself goes on.
    let id = plant.send_command("pump", "cool", "", None);
    assert_eq!(pump.command().id, id);
}

/// A headquarters of three that a plant feeds, whose link is cut; the node that it led to, and a command that waits at each.
fn cut_off_with_commands(plant: &Node, hq: &Site) -> (usize, Vec<String>) {
    let first = fed(hq);
    plant.cli(&["link", "pause", "hq"]).ok();
    wait::until_true("the link is cut", || (0..3).all(|place| view(&hq[place], "plant")["state"] != "connected"));
    let ids: Vec<String> =
        (0..3).map(|place| give(&hq[place], "pump", json!({"deliver_within_ms": 600_000}))).collect();
    for (place, id) in ids.iter().enumerate() {
        assert_eq!(hq[place].command_state(id), "queued");
        (0..3).for_each(|other| hq[other].wait_step(id, "queued"));
    }
    (first, ids)
}

/// The device gets these commands, once each, long before they expire; each has one end, at the plant and at these nodes.
fn all_done(hq: &Site, places: &[usize], plant: &Node, pump: &mut Device, ids: &[String]) {
    for id in ids {
        wait::until_true(&format!("the plant has {id}"), || plant.get(&format!("commands/{id}")).status == 200);
    }
    let mut come: Vec<String> = Vec::new();
    for _ in ids {
        let command = pump.command();
        pump.answer(&command, "succeeded", &command.id);
        come.push(command.id);
    }
    come.sort_unstable();
    let mut expected = ids.to_vec();
    expected.sort_unstable();
    assert_eq!(come, expected);
    for id in ids {
        for place in places {
            assert_eq!(ended(&hq[*place], plant, id), "succeeded");
        }
        assert_eq!(sent(plant, id), 1, "{id}");
    }
}

#[test]
fn a_command_goes_on_through_another_node_when_the_one_of_the_link_is_killed_or_stands_still() {
    let plant = Node::start_with(ROUTING);
    let mut hq = Site::of_with(3, ROUTING);
    link(&plant, &hq[0], "plant");
    let mut pump = Device::connect(&plant, Version::V5, "pump");

    // It is killed, and the gateway comes to another one.
    let (first, ids) = cut_off_with_commands(&plant, &hq);
    hq.kill(&[first]);
    plant.cli(&["link", "resume", "hq"]).ok();
    let rest: Vec<usize> = hq.running().collect();
    all_done(&hq, &rest, &plant, &mut pump, &ids);
    assert!(rest.contains(&fed(&hq)));
    hq.run(&[first]);
    hq.wait_level();
    ids.iter().for_each(|id| assert_eq!(ended(&hq[first], &plant, id), "succeeded"));

    // It stands still, and goes on when all is done.
    let (first, ids) = cut_off_with_commands(&plant, &hq);
    hq[first].freeze();
    plant.cli(&["link", "resume", "hq"]).ok();
    let rest: Vec<usize> = (0..3).filter(|place| *place != first).collect();
    all_done(&hq, &rest, &plant, &mut pump, &ids);
    hq[first].thaw();
    hq.wait_level();
    ids.iter().for_each(|id| assert_eq!(ended(&hq[first], &plant, id), "succeeded"));
    for id in &ids {
        assert_eq!(sent(&plant, id), 1, "{id}");
    }
    // Nothing else has come.
    let last = give(&hq[first], "pump", json!({}));
    assert_eq!(pump.command().id, last);
}

#[test]
fn a_call_off_goes_down_and_how_far_a_command_is_comes_up() {
    let (plant, hq) = linked("");
    let hq = &hq[0];
    drop(Device::connect(&plant, Version::V5, "pump"));
    stands(hq);
    let at_site = |id: &str| hq.get(&format!("commands/{id}")).ok().json()["at_site"].clone();
    let waits = || {
        let id = give(hq, "pump", json!({"deliver_within_ms": 600_000}));
        wait::until_true("it waits at the plant", || {
            let at = at_site(&id);
            at["state"] == "queued" && at["device_connected"] == false
        });
        id
    };

    let id = waits();
    let shown = hq.cli(&["command", "show", &id]).ok().out;
    assert!(shown.contains("waits for its device"), "{shown}");
    assert_eq!(hq.cli(&["command", "cancel", &id]).ok().out.trim(), "cancelled");
    assert_eq!(ended(hq, &plant, &id), "cancelled");

    // Nothing comes through: it is asked as soon as something does.
    let id = waits();
    plant.cli(&["link", "pause", "hq"]).ok();
    wait::until_true("the link is cut", || view(hq, "plant")["state"] == "cut");
    let asked = hq.cli(&["command", "cancel", &id]).ok().out;
    assert!(asked.contains("has not answered yet"), "{asked}");
    let shown = hq.cli(&["command", "show", &id]).ok().out;
    assert!(shown.contains("called off by   cli"), "{shown}");
    plant.cli(&["link", "resume", "hq"]).ok();
    assert_eq!(ended(hq, &plant, &id), "cancelled");

    // Its device has it.
    let mut pump = Device::connect(&plant, Version::V5, "pump");
    let id = give(hq, "pump", json!({}));
    let command = pump.command();
    assert_eq!(command.id, id, "those that were called off never come");
    pump.answer(&command, "accepted", "");
    wait::until_true("it is seen to be accepted", || at_site(&id)["state"] == "accepted");
    assert_eq!(at_site(&id)["attempts"], 1);
    let refused = hq.cli(&["command", "cancel", &id]);
    assert!(refused.code != 0 && refused.err.contains("accepted"), "{refused:?}");
    pump.answer(&command, "succeeded", "");
    assert_eq!((ended(hq, &plant, &id).as_str(), sent(&plant, &id)), ("succeeded", 1));
    assert_eq!(at_site(&id), Value::Null);
}

#[test]
fn commands_end_where_they_are_though_their_link_is_made_anew_and_another_plant_gets_the_name() {
    let (plant, hq) = linked("");
    let hq = &hq[0];
    let mut pump = Device::connect(&plant, Version::V5, "pump");
    stands(hq);
    let long = || json!({"deliver_within_ms": 600_000, "execution_timeout_ms": 600_000});

    // The plant takes a new token: it is another gateway of the same site, and tells how its command ended.
    let id = give(hq, "pump", long());
    let command = pump.command();
    plant.cli(&["link", "remove", "hq"]).ok();
    link(&plant, hq, "plant");
    pump.answer(&command, "succeeded", "");
    assert_eq!((ended(hq, &plant, &id).as_str(), sent(&plant, &id)), ("succeeded", 1));

    // The link is removed where it ends: what waits for it is over.
    stands(hq);
    plant.cli(&["link", "pause", "hq"]).ok();
    wait::until_true("the link is cut", || view(hq, "plant")["state"] == "cut");
    let waits = give(hq, "pump", long());
    hq.cli(&["link", "remove", "plant"]).ok();
    hq.wait_command(&waits, "refused");
    let why = &hq.get(&format!("commands/{waits}")).ok().json()["why"];
    assert_eq!((&why["code"], &why["by"]), (&json!("link-refused"), &json!("link-removed")));

    // Another plant comes by that name.
    let other = Node::start_with(ROUTING);
    let mut pump = Device::connect(&other, Version::V5, "pump");
    link(&other, hq, "plant");
    stands(hq);
    let id = give(hq, "pump", long());
    let command = pump.command();
    assert_eq!(command.id, id);
    pump.answer(&command, "succeeded", "");
    assert_eq!(ended(hq, &other, &id), "succeeded");
    assert_eq!(other.get(&format!("commands/{waits}")).status, 404);
}
