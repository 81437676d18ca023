//! A plugin that is deployed at one node runs at all of them, so that its work can be taken over.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::json;

use super::load::{Load, make_topics};
use crate::harness::components::{hostile, hostile_manifest};
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// Events published at the node that is lost.
const EVENTS: usize = 60;
/// How often a node is killed.
const KILLS: usize = 6;
/// How long it may take until all is counted that was written.
const COUNTED_MAX: Duration = Duration::from_secs(120);

fn is_running(site: &Site, place: usize) -> bool {
    site[place].plugins().iter().any(|plugin| plugin["name"] == "hostile" && plugin["state"] == "running")
}

fn wait_running(site: &Site) {
    for place in site.running() {
        wait::until_true(&format!("the plugin at {}", site.members[place].name), || is_running(site, place));
    }
}

/// Publishes values that the plugin forwards.
fn publish(site: &Site, place: usize, values: &[String]) {
    let mut client = Client::simple(site[place].mqtt, Version::V5, &format!("source-{place}"));
    let message = |(number, value): (usize, &String)| Message::new(&format!("vital/{}", number % 9), value);
    client.publish_all(&values.iter().enumerate().map(message).collect::<Vec<_>>());
}

/// What was derived, as a node shows it; waits until that is all of `values`, each once.
fn assert_derived(site: &Site, place: usize, values: &[String]) {
    site[place].events_when("out", values.len());
    site.wait_level();
    let mut derived: Vec<String> = site[place].events("out").iter().map(|event| event.text()).collect();
    derived.sort_unstable();
    let mut expected = values.to_vec();
    expected.sort_unstable();
    assert_eq!(derived, expected, "each once");
}

#[test]
fn a_plugin_runs_at_all_nodes_and_its_work_is_taken_over() {
    let mut site = Site::of(3);
    site.create_topic(0, "vital", "quorum");
    site.kill(&[2]);
    let deployed = site[0].deploy(&hostile(), &hostile_manifest("vital")).ok().json();
    assert_eq!((&deployed["nodes"], &deployed["version"]), (&json!(3), &json!(1)), "{deployed}");
    assert!(is_running(&site, 0), "it runs where it was deployed, on return");
    wait_running(&site);
    // One that was down gets it when it is back.
    site.run(&[2]);
    wait_running(&site);
    site.wait_level();

    let lost: Vec<String> = (0..EVENTS).map(|number| format!("x{number}")).collect();
    publish(&site, 0, &lost);
    site.kill(&[0]);
    let other: Vec<String> = (0..5).map(|number| format!("y{number}")).collect();
    publish(&site, 1, &other);
    let all = [lost, other].concat();
    for place in [1, 2] {
        assert_derived(&site, place, &all);
    }

    // Without a majority nothing is deployed or removed, and what ran runs on.
    site.kill(&[2]);
    // What is begun before the silence is noticed has no known end.
    let refused = wait::until("it is refused", || {
        let answer = site[1].deploy(&hostile(), &hostile_manifest("vital"));
        assert_eq!(answer.status, 503, "{answer:?}");
        (answer.json()["error"]["code"] != "unknown-outcome").then_some(answer)
    });
    assert_eq!(refused.json()["error"]["code"], "no-majority", "{refused:?}");
    assert_eq!(site[1].call("DELETE", "plugins/hostile", None).status, 503);
    assert!(is_running(&site, 1));

    site.run(&[2]);
    // One removal whose end was not known may have been done since.
    wait::until_true("it is removed", || matches!(site[1].call("DELETE", "plugins/hostile", None).status, 204 | 404));
    assert!(site[1].plugins().is_empty(), "it is gone there, on return");
    wait::until_true("it is gone from n3", || site[2].plugins().is_empty());
    site.run(&[0]);
    wait::until_true("it is gone from n1", || site[0].plugins().is_empty());
}

/// What a plugin may append to, as a node runs it.
fn emits(site: &Site, place: usize) -> Vec<String> {
    let plugins = site[place].plugins();
    let hostile = plugins.iter().find(|plugin| plugin["name"] == "hostile" && plugin["state"] == "running");
    let emit = hostile.and_then(|plugin| plugin["manifest"]["grants"]["emit"].as_array().cloned()).unwrap_or_default();
    emit.iter().map(|topic| topic.as_str().unwrap().to_owned()).collect()
}

fn wait_emits(site: &Site, topics: &[&str]) {
    for place in site.running() {
        let what = format!("{} lets the plugin append to {topics:?}", site.members[place].name);
        wait::until_true(&what, || emits(site, place) == topics);
    }
}

fn texts(site: &Site, place: usize, topic: &str) -> Vec<String> {
    site[place].readable_events(topic).iter().map(|event| event.text()).collect()
}

#[test]
fn what_a_plugin_may_do_changes_at_every_node_while_it_runs() {
    let mut site = Site::of(3);
    site.create_topic(0, "vital", "quorum");
    site[0].deploy(&hostile(), &hostile_manifest("vital")).ok();
    wait_running(&site);
    // `U` appends to the topic `secret`.
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    publish(&site, 0, &words(&["x1", "U1"]));
    site[0].events_when("_dead_letters", 1);
    assert_eq!(texts(&site, 0, "secret"), [""; 0], "it was not granted");

    site[1].cli(&["plugin", "grant", "hostile", "--emit", "secret"]).ok();
    assert_eq!(emits(&site, 1), ["out", "secret"], "it is so there, on return");
    wait_emits(&site, &["out", "secret"]);
    publish(&site, 0, &words(&["U2", "x2"]));
    wait::until_true("what is granted is done", || texts(&site, 2, "secret") == ["U2"]);

    site[2].cli(&["plugin", "revoke", "hostile", "--emit", "secret"]).ok();
    wait_emits(&site, &["out"]);
    publish(&site, 0, &words(&["U3", "x3"]));
    site[0].events_when("_dead_letters", 2);
    assert_derived(&site, 0, &words(&["x1", "x2", "x3"]));
    assert_eq!(texts(&site, 0, "secret"), ["U2"], "and what is not granted any more is not");

    // What cannot be is refused, and so is anything without a majority; a node that comes has what was agreed on.
    let loops = site[0].cli(&["plugin", "grant", "hostile", "--emit", "vital"]);
    assert!(loops.code == 1 && loops.err.contains("feed itself"), "{loops:?}");
    site.kill(&[1, 2]);
    let refused = wait::until("it is refused", || {
        let refused = site[0].cli(&["plugin", "grant", "hostile", "--headers"]);
        assert_eq!(refused.code, 1, "{refused:?}");
        refused.err.contains("no majority").then_some(refused)
    });
    assert!(refused.err.contains("n2"), "{refused:?}");
    site.run(&[1, 2]);
    wait::until_true("it is granted", || site[1].cli(&["plugin", "grant", "hostile", "--headers"]).code == 0);
    let joined = site.join();
    wait::until_true("one that joins lets it do the same", || {
        let plugins = site[joined].plugins();
        plugins.iter().any(|plugin| plugin["manifest"]["grants"]["headers"] == true)
    });
}

/// How many assignments a node remembers.
fn assignments(site: &Site, place: usize) -> u64 {
    let status = site.status(place);
    let bounds = status["bounds"].as_array().unwrap();
    bounds.iter().find(|bound| bound["what"] == "assignments").unwrap()["used"].as_u64().unwrap()
}

#[test]
fn what_was_decided_of_a_removed_plugin_is_forgotten_and_it_can_come_back() {
    let site = Site::of(3);
    site.create_topic(0, "vital", "quorum");
    let manifest = format!("scope = 'site'\n{}", hostile_manifest("vital").replace("from = 'start'", "from = 'end'"));
    let mut all = Vec::new();
    for round in 0..3 {
        site[round].deploy(&hostile(), &manifest).ok();
        wait_running(&site);
        // Two partitions, each at one node.
        wait::until_true("each number has its node", || (0..3).all(|place| assignments(&site, place) == 2));
        let values: Vec<String> = (0..20).map(|number| format!("x{round}-{number:02}")).collect();
        publish(&site, round, &values);
        all.extend(values);
        assert_derived(&site, round, &all);
        assert_eq!(site[round].call("DELETE", "plugins/hostile", None).status, 204);
        wait::until_true("nothing is remembered", || (0..3).all(|place| assignments(&site, place) == 0));
        wait::until_true("it is gone", || (0..3).all(|place| site[place].plugins().is_empty()));
    }
}

/// How often each value is in a topic, as a node shows it.
fn counts(site: &Site, place: usize, topic: &str) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    site[place].events(topic).iter().for_each(|event| *counts.entry(event.text()).or_default() += 1);
    counts
}

#[test]
fn each_event_is_counted_once_although_nodes_are_killed_again_and_again() {
    counted_once(false);
}

#[test]
fn so_it_is_where_each_kill_begins_a_new_life_of_a_store() {
    counted_once(true);
}

fn counted_once(are_new_lives: bool) {
    let mut site = Site::of(3);
    make_topics(&site);
    if are_new_lives {
        site.create_topic(0, "loose", "memory");
    }
    site[0].deploy(&hostile(), &hostile_manifest("vital")).ok();
    wait_running(&site);
    site.wait_level();
    let mut acked = 0;
    for round in 0..KILLS {
        let load = Load::start_paced(&site, &round.to_string(), Duration::from_millis(5));
        load.wait(200);
        site.kill(&[round % 3]);
        // Two rounds of three last until it is taken over from, where the machine has the time.
        load.wait(if round % 3 == 0 { 50 } else { 400 });
        site.run(&[round % 3]);
        load.wait(100);
        acked += load.stop().iter().map(|record| record.acked).sum::<u64>();
        site.wait_level();
    }
    assert!(acked > 1_000, "hardly anything was acknowledged: {acked}");
    let written = counts(&site, 0, "vital");
    let total: usize = written.values().sum();
    wait::until_within(COUNTED_MAX, "all is counted", || (site[0].events("out").len() >= total).then_some(()));
    site.wait_level();
    for place in 0..3 {
        assert_eq!(counts(&site, place, "out"), written, "what was derived of {total} events, at {place}");
        assert_eq!(site[place].log().contains("a new life begins"), are_new_lives);
    }
}
