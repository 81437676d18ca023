//! Plugins that a headquarters gives to a linked site, as real processes with a line between them that is cut: deployed there once the link
//! stands, whatever dies; what is the site's own is left alone; and what came of it is known at both ends.

use std::net::SocketAddr;
use std::path::PathBuf;

use devices::fleet::relay::{LineConfig, Relay};
use serde_json::{Value, json};

use crate::harness::components::{hostile, hostile_guard, hostile_guard_manifest, hostile_manifest};
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::{ROUTING, Site, free_port};
use crate::harness::{Node, wait};
use crate::links::within::fed;
use crate::links::{link, linked, view};

const IN: &str = "[[routing.rules]]\npattern = 'in/#'\ntopic = 'in'\nkey = 'one'\n";

/// A component and its manifest in a folder, as people have them.
struct Files(tempfile::TempDir);

impl Files {
    fn new() -> Files {
        let files = Files(tempfile::tempdir().unwrap());
        std::fs::write(files.wasm(), hostile()).unwrap();
        files
    }

    fn wasm(&self) -> PathBuf {
        self.0.path().join("plugin.wasm")
    }

    /// Gives it to the plant, under a name and with so many milliseconds a call.
    fn give(&self, hq: &Node, name: &str, call_ms: u32) {
        std::fs::write(self.0.path().join("plugin.toml"), manifest(name, call_ms)).unwrap();
        hq.cli(&["plugin", "deploy", self.wasm().to_str().unwrap(), "--site", "plant"]).ok();
    }
}

fn manifest(name: &str, call_ms: u32) -> String {
    let text = hostile_manifest("in").replace("name = 'hostile'", &format!("name = '{name}'"));
    text.replace("call_ms = 100", &format!("call_ms = {call_ms}"))
}

/// What the headquarters says of a plugin of the plant.
fn said(hq: &Node, name: &str) -> Option<String> {
    let all = hq.get("links/plant/plugins").ok().json();
    let found = all["plugins"].as_array().unwrap().iter().find(|plugin| plugin["name"] == name)?.clone();
    Some(found["said"].as_array().unwrap().iter().map(|said| said.as_str().unwrap()).collect::<Vec<_>>().join("; "))
}

/// The milliseconds a call that a plugin has at the plant, while it runs.
fn call_ms(plant: &Node, name: &str) -> Option<u64> {
    let all = plant.plugins();
    let found = all.iter().find(|plugin| plugin["name"] == name && plugin["state"] == "running")?;
    found["manifest"]["limits"]["call_ms"].as_u64()
}

fn until_deployed(hq: &Node, plant: &Node, name: &str, ms: u64) {
    wait::until_true(&format!("{name} runs at the plant"), || call_ms(plant, name) == Some(ms));
    wait::until_true(&format!("{name} is known to run"), || {
        said(hq, name).is_some_and(|said| said.ends_with(": deployed"))
    });
}

#[test]
fn a_plugin_goes_down_a_link_whatever_dies_and_what_is_the_sites_own_stays() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let port = free_port();
    let mut hq = Site::found_at(ROUTING, port, &format!("127.0.0.1:{port}"));
    let relay = Relay::start(SocketAddr::from(([127, 0, 0, 1], port)), LineConfig::default(), 7);
    let relay = runtime.block_on(relay).unwrap();
    let config =
        format!("{IN}[[link]]\nname = \"hq\"\naddress = \"{}\"\ndown = [\"commands\", \"plugins\"]\n", relay.address());
    let mut plant = Node::start_with(&config);
    link(&plant, &hq[0], "plant");
    let files = Files::new();

    // As people give it; it works, and both ends say so.
    files.give(&hq[0], "one", 100);
    until_deployed(&hq[0], &plant, "one", 100);
    let mut client = Client::simple(plant.mqtt, Version::V5, "source");
    assert_eq!(client.publish(&Message::new("in/x", "a").qos(1)), 0);
    assert_eq!(plant.events_when("out", 1).len(), 1);
    let listed = hq[0].cli(&["plugin", "list", "--site", "plant"]).ok().out;
    assert!(listed.contains("one") && listed.contains("deployed"), "{listed}");
    for (node, name) in [(&plant, "hq"), (&hq[0], "plant")] {
        assert_eq!(view(node, name)["plugins"][0]["name"], "one");
        let told = node.cli(&["link", "show", name]).ok().out;
        assert!(told.contains("plugin     one") && told.contains("1 deployed, 0 removed"), "{told}");
        let figures = crate::harness::http::get(node.http, "/metrics", None).unwrap().body;
        let states = format!("edgeway_link_plugins{{link=\"{name}\",state=\"done\"}} 1.0");
        let answers = format!("edgeway_link_plugin_answers_total{{link=\"{name}\",outcome=\"deployed\"}} 1");
        assert!(figures.contains(&states) && figures.contains(&answers), "{figures}");
    }
    let has_act = |node: &Node, wanted: &dyn Fn(&Value) -> bool| {
        node.readable_events("_audit").into_iter().any(|act| wanted(&act.json()))
    };
    assert!(has_act(&plant, &|act| act["act"] == "plugin.deploy" && act["who"] == "link:hq" && act["what"] == "one"));
    assert!(has_act(&hq[0], &|act| act["act"] == "plugin.give" && act["who"] == "cli" && act["outcome"] == "wanted"));

    // A new version while nothing comes through; the headquarters dies before it can hand it over.
    relay.cut(true);
    files.give(&hq[0], "one", 110);
    hq.kill(&[0]);
    hq.run(&[0]);
    assert_eq!(said(&hq[0], "one").unwrap(), "not deployed yet");
    relay.cut(false);
    until_deployed(&hq[0], &plant, "one", 110);
    // The plant dies, at whatever moment of it.
    for (round, ms) in [120, 130, 140].into_iter().enumerate() {
        files.give(&hq[0], "one", ms);
        if round > 0 {
            let has_begun = || plant.log().matches("upstream wants a plugin here").count() > round;
            wait::until_true("it is asked for", || has_begun() || call_ms(&plant, "one") == Some(u64::from(ms)));
        }
        plant.kill();
        plant.run();
        until_deployed(&hq[0], &plant, "one", u64::from(ms));
    }

    // What is the plant's own.
    plant.deploy(&hostile(), &manifest("own", 50)).ok();
    files.give(&hq[0], "own", 200);
    wait::until_true("it is refused", || said(&hq[0], "own").is_some_and(|said| said.contains("refused (local)")));
    assert_eq!(call_ms(&plant, "own"), Some(50));
    // What people there have changed is theirs.
    plant.cli(&["plugin", "revoke", "one", "--command", "cool"]).ok();
    files.give(&hq[0], "one", 150);
    wait::until_true("it is refused", || said(&hq[0], "one").is_some_and(|said| said.contains("refused (local)")));
    assert_eq!(call_ms(&plant, "one"), Some(140));
    for name in ["one", "own"] {
        hq[0].cli(&["plugin", "remove", name, "--site", "plant"]).ok();
        wait::until_true("the answer is there", || said(&hq[0], name).is_none());
        assert!(call_ms(&plant, name).is_some(), "{name} stays");
    }
    // What is not goes.
    files.give(&hq[0], "two", 100);
    until_deployed(&hq[0], &plant, "two", 100);
    hq[0].cli(&["plugin", "remove", "two", "--site", "plant"]).ok();
    wait::until_true("it is gone", || call_ms(&plant, "two").is_none() && said(&hq[0], "two").is_none());
    // What a site is never given, and a site that nobody knows.
    let body = json!({"manifest": hostile_guard_manifest(), "wasm_base64": base64(&hostile_guard())});
    assert_eq!(hq[0].call("POST", "links/plant/plugins", Some(&body)).status, 422);
    assert_eq!(hq[0].get("links/plnt/plugins").status, 404);
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

#[test]
fn a_plugin_goes_nowhere_that_does_not_list_it_and_does_no_more_than_the_link_may() {
    let (mut plant, hq) = linked("[[link]]\nname = \"hq\"\ndown = [\"commands\"]\n");
    let files = Files::new();
    files.give(&hq[0], "one", 100);
    wait::until_true("the link stands", || view(&hq[0], "plant")["down"] == json!(["commands"]));
    assert_eq!(said(&hq[0], "one").unwrap(), "not deployed yet");
    assert!(plant.plugins().is_empty());
    // It would send commands.
    plant.kill();
    plant.configure(&format!("{ROUTING}[[link]]\nname = \"hq\"\ndown = [\"plugins\"]\n"));
    plant.run();
    wait::until_true("it is refused", || said(&hq[0], "one").is_some_and(|said| said.contains("refused (grants)")));
    assert!(plant.plugins().is_empty());
    // Whoever has the name next is not given it.
    hq[0].cli(&["link", "remove", "plant"]).ok();
    plant.cli(&["link", "remove", "hq"]).ok();
    link(&plant, &hq[0], "plant");
    assert_eq!(said(&hq[0], "one"), None);
}

/// All nodes of the headquarters that run say this of a plugin of the plant.
fn until_all_say(hq: &Site, name: &str, what: &str, is: impl Fn(Option<String>) -> bool) {
    for place in hq.running() {
        wait::until_true(&format!("node {place} says of {name}: {what}"), || is(said(&hq[place], name)));
    }
}

#[test]
fn what_was_said_at_one_node_of_a_headquarters_is_handed_over_by_another_though_the_first_dies() {
    let mut hq = Site::of_with(3, ROUTING);
    let plant = Node::start_with(&format!("{IN}[[link]]\nname = \"hq\"\ndown = [\"commands\", \"plugins\"]\n"));
    link(&plant, &hq[0], "plant");
    let files = Files::new();
    let is_deployed = |said: Option<String>| said.is_some_and(|said| said.ends_with(": deployed"));
    let first = fed(&hq);
    let (second, third) = ((first + 1) % 3, (first + 2) % 3);

    // The link leads to another node than the one that was told.
    files.give(&hq[second], "one", 100);
    until_deployed(&hq[second], &plant, "one", 100);
    until_all_say(&hq, "one", "deployed", is_deployed);

    // A new version, told to one that dies before the link stands again.
    plant.cli(&["link", "pause", "hq"]).ok();
    files.give(&hq[third], "one", 120);
    until_all_say(&hq, "one", "not yet", |said| said.is_some_and(|said| said == "not deployed yet"));
    hq.kill(&[third]);
    plant.cli(&["link", "resume", "hq"]).ok();
    let stands = hq.running().next().unwrap();
    until_deployed(&hq[stands], &plant, "one", 120);
    until_all_say(&hq, "one", "deployed", is_deployed);

    // Removed while one is away, which comes back and has known of no removal: it does not come back with it.
    files.give(&hq[second], "two", 100);
    until_deployed(&hq[second], &plant, "two", 100);
    hq[first].cli(&["plugin", "remove", "one", "--site", "plant"]).ok();
    wait::until_true("it is gone at the plant", || call_ms(&plant, "one").is_none());
    until_all_say(&hq, "one", "nothing", |said| said.is_none());
    hq.run(&[third]);
    until_all_say(&hq, "two", "deployed", is_deployed);
    until_all_say(&hq, "one", "nothing", |said| said.is_none());
    assert_eq!((call_ms(&plant, "one"), call_ms(&plant, "two")), (None, Some(100)));

    // Said by turns at all of them: the last one counts, whichever it was.
    for (round, ms) in [130, 140, 150, 160].into_iter().enumerate() {
        files.give(&hq[round % 3], "two", ms);
    }
    until_deployed(&hq[first], &plant, "two", 160);
    until_all_say(&hq, "two", "deployed", is_deployed);
    assert_eq!(call_ms(&plant, "two"), Some(160));
}
