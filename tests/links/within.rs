//! A site of three nodes that is fed: each has what the link brings, whichever it comes to, dies or leaves.

use std::time::Duration;

use super::{Load, check_level, check_records, link, stored, view};
use crate::harness::components::{hostile, hostile_manifest};
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::{ROUTING, Site};
use crate::harness::{Event, Node, wait};

/// How long a node may take to end when it has left.
const END_MAX: Duration = Duration::from_secs(40);
/// The topic, at the plant and upstream.
const PLAIN: (&str, &str) = ("plain", "plant%2Fplain");

/// The node of a site that the plant's link stands to.
pub fn fed(hq: &Site) -> usize {
    let is_fed = |place: &usize| view(&hq[*place], "plant")["state"] == "connected";
    wait::until("the link stands", || hq.running().find(is_fed))
}

/// All nodes that run have all that the plant has, line by line; what that is.
fn check_all(plant: &Node, hq: &Site) -> Vec<serde_json::Value> {
    let mut all: Vec<_> = hq.running().map(|place| check_level(plant, &hq[place], PLAIN)).collect();
    all.remove(0)
}

#[test]
fn whichever_node_dies_or_leaves_the_others_have_what_came() {
    let plant = Node::start_with(ROUTING);
    let mut hq = Site::of_with(3, &format!("{ROUTING}[site]\nlinked_quorum = [\"*\"]\n"));
    link(&plant, &hq[0], "plant");
    let load = Load::start(&plant, "first");
    load.wait(500);
    let mut records = load.stop();
    check_records(check_all(&plant, &hq), &records);

    // It dies under load, and the edge goes on with another.
    let first = fed(&hq);
    let load = Load::start(&plant, "dies");
    load.wait(300);
    hq.kill(&[first]);
    load.wait(300);
    // It takes a while until the edge knows.
    records.extend(load.stop());
    assert_ne!(first, fed(&hq));
    check_records(check_all(&plant, &hq), &records);
    // What it has not had comes from the others.
    hq.run(&[first]);
    check_records(check_all(&plant, &hq), &records);

    // The one that is fed now leaves, under load: nothing of it goes with it.
    hq.wait_level();
    let load = Load::start(&plant, "leaves");
    load.wait(300);
    let fed = fed(&hq);
    wait::until_true("it leaves", || {
        let left = hq[fed].cli(&["node", "leave"]);
        let is_silence = ["no majority", "try again"].iter().any(|why| left.err.contains(why));
        assert!(left.code == 0 || is_silence, "{left:?}");
        left.code == 0
    });
    assert!(hq.members[fed].node.wait_end(END_MAX).success());
    hq.members.remove(fed);
    load.wait(300);
    records.extend(load.stop());
    check_records(check_all(&plant, &hq), &records);
    for place in hq.running() {
        let verified = hq[place].cli(&["store", "verify", "--json"]).ok().json();
        assert_eq!(verified["clean"], true, "{verified}");
        assert_eq!(view(&hq[place], "plant")["gaps"].as_array().map(Vec::len), Some(0));
    }
    assert!(stored(&plant, "plain") > 1_500, "hardly anything was acknowledged");
}

/// What a plugin has derived, at a node; waits until that is all of these, each once.
fn check_derived(hq: &Site, place: usize, values: &[String]) {
    hq[place].events_when("out", values.len());
    hq.wait_level();
    let mut derived: Vec<String> = hq[place].events("out").iter().map(Event::text).collect();
    derived.sort_unstable();
    assert_eq!(derived, values, "each once");
}

#[test]
fn a_plugin_of_the_site_works_on_what_a_link_brings_at_all_nodes() {
    let plant = Node::start_with(ROUTING);
    let mut hq = Site::of(3);
    link(&plant, &hq[0], "plant");
    let mut values = Vec::new();
    let mut publish = |run: char| {
        let mut client = Client::simple(plant.mqtt, Version::V5, "source");
        let new: Vec<String> = (0..40).map(|number| format!("x{run}{number:02}")).collect();
        let message = |(number, value): (usize, &String)| Message::new(&format!("plain/{}", number % 9), value);
        client.publish_all(&new.iter().enumerate().map(message).collect::<Vec<_>>());
        values.extend(new);
        values.clone()
    };
    let first = publish('a');
    check_all(&plant, &hq);
    let manifest = format!("scope = 'site'\n{}", hostile_manifest("plant/plain"));
    hq[1].deploy(&hostile(), &manifest).ok();
    // Its partition numbers are at different nodes; the link stands to one.
    check_derived(&hq, 2, &first);
    let second = publish('b');
    check_derived(&hq, 1, &second);
    // One that the link does not stand to dies: another reads on, from where it was.
    let fed = fed(&hq);
    hq.kill(&[(fed + 1) % 3]);
    let third = publish('c');
    check_derived(&hq, fed, &third);
}
