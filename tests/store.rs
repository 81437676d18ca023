//! A damaged store: `verify` names what is damaged, and the rest is readable.

use std::fs;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};

use serde_json::Value;
use sled_data::{Backend, Direction, SledBackend, SledConfig, Span};

use crate::harness::Node;
use crate::harness::binary;
use crate::harness::cli::Ran;
use crate::harness::mqtt::{Client, Message, Version};

#[test]
fn a_sound_store_verifies() {
    let mut node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V3, "writer");
    for number in 0..50 {
        client.publish(&Message::new("a", number.to_string()).qos(1));
    }
    let report = verify(&node);
    assert_eq!(report["clean"], true, "{report}");
    assert!(report["events"].as_u64().unwrap() >= 50, "{report}");
    assert!(node.stop().success());
    node.run();
    assert_eq!(verify(&node)["clean"], true);
}

#[test]
fn topics_of_the_node_itself_are_bounded_from_the_first_start() {
    let mut node = Node::start();
    for round in ["a fresh store", "after a restart"] {
        let topics = node.get("topics").ok().json();
        let own = topics["topics"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|topic| topic["name"].as_str().unwrap().starts_with('_'));
        let own: Vec<&Value> = own.collect();
        for name in ["_answers", "_audit", "_catalog", "_commands", "_jobs"] {
            assert!(own.iter().any(|topic| topic["name"] == name), "{round}: {name} is missing");
        }
        for topic in own {
            let is_bounded = topic["retention_ms"].is_u64() || topic["retention_bytes"].is_u64();
            assert!(is_bounded, "{round}: {topic}");
        }
        assert!(node.stop().success());
        node.run();
    }
}

#[test]
fn a_damaged_batch_is_named_and_the_rest_is_readable() {
    let mut node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V3, "writer");
    write_marked(&mut client);
    let before = node.events("mqtt");
    assert!(node.stop().success());
    assert_eq!(damage_batch(&node.data().join("store"), b"payload-4-"), 1, "the batch was not found");

    node.run();
    let report = verify(&node);
    assert_eq!(report["clean"], false, "{report}");
    let damaged = &report["damaged"].as_array().unwrap()[0];
    let lost = &before[4];
    assert_eq!((&damaged["topic"], &damaged["partition"]), (&"mqtt".into(), &lost.partition().into()));
    let range = damaged["from"].as_u64().unwrap()..damaged["to"].as_u64().unwrap();
    assert!(range.contains(&lost.offset()), "{range:?} of {}", lost.offset());

    let found: Vec<String> = node.readable_events("mqtt").iter().map(|event| event.text()).collect();
    for event in before.iter().filter(|event| !range.contains(&event.offset())) {
        assert!(found.contains(&event.text()), "{} is lost with the damaged one", event.text());
    }
    let mut client = Client::simple(node.mqtt, Version::V3, "writer");
    assert_eq!(client.publish(&Message::new("one/topic", "after").qos(1)), 0);
}

#[test]
fn a_store_that_lost_its_end_is_refused() {
    let mut node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V3, "writer");
    write_marked(&mut client);
    assert!(node.stop().success());
    assert!(damage(node.data(), b"payload-4-") > 0, "the payload was not found on disk");
    let mut command = std::process::Command::new(binary::edgeway());
    command.args(["run", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0"]).arg("--data").arg(node.data());
    let ran: Ran = command.output().unwrap().into();
    assert_ne!(ran.code, 0);
    assert!(ran.err.contains("damaged"), "says so, and does not go on with less: {}", ran.err);
}

/// Nine events, each its own batch, as each waits for its acknowledgement.
fn write_marked(client: &mut Client) {
    for number in 0..9 {
        let text = format!("payload-{number}-{}", "#".repeat(40));
        assert_eq!(client.publish(&Message::new("one/topic", text).qos(1)), 0);
    }
}

/// Has the node read its whole store; gives the last line, its report.
fn verify(node: &Node) -> Value {
    let lines = node.call("POST", "store/verify", None).ok().lines();
    lines.last().unwrap()["report"].clone()
}

/// Flips a bit in each stored batch that holds `needle`, beneath the checksums of sled's own pages.
fn damage_batch(store: &Path, needle: &[u8]) -> usize {
    let backend = SledBackend::open(store, SledConfig { cache_bytes: 1 << 20 }).unwrap();
    let mut damaged = 0;
    for name in backend.tree_names() {
        let tree = backend.tree(&name).unwrap();
        let mut found = Vec::new();
        let mut visit = |key: &[u8], value: &[u8]| {
            let place = value.windows(needle.len()).position(|window| window == needle);
            found.extend(place.map(|at| (key.to_vec(), value.to_vec(), at)));
            ControlFlow::Continue(())
        };
        tree.scan(Span::ALL, Direction::Forward, &mut visit).unwrap();
        for (key, mut value, at) in found {
            value[at] ^= 0x10;
            tree.insert(&key, &value).unwrap();
            damaged += 1;
        }
    }
    backend.sync().unwrap();
    damaged
}

/// Flips a bit in every copy of `needle` in the files below a folder.
fn damage(folder: &Path, needle: &[u8]) -> usize {
    let mut count = 0;
    for file in files(folder) {
        let mut bytes = fs::read(&file).unwrap();
        let places: Vec<usize> = (0..bytes.len().saturating_sub(needle.len()))
            .filter(|&at| bytes[at] == needle[0] && bytes[at..].starts_with(needle))
            .collect();
        for at in &places {
            bytes[at + needle.len() / 2] ^= 0x10;
        }
        if !places.is_empty() {
            fs::write(&file, &bytes).unwrap();
        }
        count += places.len();
    }
    count
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(files(&entry.path()));
        } else {
            found.push(entry.path());
        }
    }
    found
}
