//! A store that does not open any more: `edgeway store salvage`, and a node on what it saved.

use std::fs;
use std::path::Path;

use crate::harness::Node;
use crate::harness::cli::{self, Ran};
use crate::harness::log::Event;
use crate::harness::mqtt::{Client, Message, Version};

fn salvage(data: &Path, to: &Path, more: &[&str]) -> Ran {
    let (data, to) = (data.to_string_lossy(), to.to_string_lossy());
    cli::edgeway(&[&["store", "salvage", "--data", &data, "--to", &to], more].concat())
}

/// Partition, offset, key and value of each event, in that order.
fn numbered(events: &[Event]) -> Vec<(u64, u64, String, String)> {
    let all = events.iter().map(|event| (event.partition(), event.offset(), event.key().to_owned(), event.text()));
    let mut all: Vec<_> = all.collect();
    all.sort();
    all
}

/// Where sled's log goes on behind its newest snapshot, as the name of that says; in `db` too, while that has one segment.
fn snapshot_end(sled: &Path) -> usize {
    let names = fs::read_dir(sled).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let ends = names.filter_map(|name| usize::from_str_radix(name.strip_prefix("snap.")?, 16).ok());
    ends.max().unwrap()
}

#[test]
fn a_node_runs_on_what_was_salvaged() {
    let mut node = Node::start();
    node.cli(&["topic", "create", "readings", "--partitions", "2"]).ok();
    for number in 0..20 {
        let (key, value) = (format!("pump-{}", number % 3), format!("reading {number}"));
        node.cli(&["publish", "readings", "--key", &key, "--value", &value]).ok();
    }
    let mut client = Client::simple(node.mqtt, Version::V3, "writer");
    for number in 0..9 {
        assert_eq!(client.publish(&Message::new("one/topic", number.to_string()).qos(1)), 0);
    }
    let folder = tempfile::tempdir().unwrap();
    let to = folder.path().join("new");
    let refused = salvage(node.data(), &to, &[]);
    assert_eq!(refused.code, 1, "a node runs on it: {refused:?}");
    assert!(refused.err.contains("in use") && !to.exists(), "{refused:?}");
    let before = (node.events("readings"), node.events("mqtt"));
    assert!(node.stop().success());

    // One byte where the log goes on behind its snapshot: sled takes that for its end, and no node starts, as often as it is tried.
    let db = node.data().join("store/sled/db");
    let mut bytes = fs::read(&db).unwrap();
    let at = snapshot_end(db.parent().unwrap());
    assert!(at < 8 << 20 && bytes[at..].iter().any(|byte| *byte != 0), "nothing was written behind {at}");
    bytes[at] ^= 0x10;
    fs::write(&db, &bytes).unwrap();
    let data = node.data().to_string_lossy().into_owned();
    for _ in 0..2 {
        let ran = cli::edgeway(&["run", "--mqtt", "127.0.0.1:0", "--http", "127.0.0.1:0", "--data", &data]);
        assert_eq!(ran.code, 6, "{ran:?}");
        assert!(ran.err.contains("store salvage"), "{ran:?}");
    }
    let left = fs::read(&db).unwrap();
    let report = salvage(node.data(), &to, &["--json"]).ok().json();
    assert_eq!(report["complete"], true, "{report}");
    assert_eq!(fs::read(&db).unwrap(), left, "the damaged store was written to");
    let names: Vec<&str> = report["topics"].as_array().unwrap().iter().map(|t| t["name"].as_str().unwrap()).collect();
    assert!(
        names.contains(&"readings") && names.contains(&"mqtt") && names.contains(&"salvaged_sessions"),
        "{names:?}"
    );
    let saved = Node::start_in(folder, to.clone(), "");
    for (topic, before) in [("readings", &before.0), ("mqtt", &before.1)] {
        let after = saved.events(topic);
        assert_eq!(numbered(&after), numbered(before), "{topic}");
    }
    let tail = saved.cli(&["tail", "readings", "--from", "start"]).ok();
    assert!(tail.out.contains("reading 19"), "{}", tail.out);
    saved.cli(&["publish", "readings", "--key", "pump-1", "--value", "after"]).ok();
    assert_eq!(saved.cli(&["get", "readings", "pump-1"]).ok().out.trim_end(), "after");
}

#[test]
fn what_is_missing_is_told_and_exits_with_6() {
    let mut node = Node::start();
    let mut client = Client::simple(node.mqtt, Version::V3, "writer");
    for number in 0..9 {
        let text = format!("payload-{number}-{}", "#".repeat(40));
        assert_eq!(client.publish(&Message::new("one/topic", text).qos(1)), 0);
    }
    let lost = node.events("mqtt").swap_remove(4);
    assert!(node.stop().success());
    let db = node.data().join("store/sled/db");
    let mut bytes = fs::read(&db).unwrap();
    let needle = b"payload-4-";
    let places: Vec<usize> = (0..bytes.len() - needle.len()).filter(|at| bytes[*at..].starts_with(needle)).collect();
    assert!(!places.is_empty());
    places.iter().for_each(|at| bytes[at + 3] ^= 0x10);
    fs::write(&db, &bytes).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let told = salvage(node.data(), &folder.path().join("table"), &[]);
    assert_eq!(told.code, 6, "{told:?}");
    for words in ["missing:", "found damaged", "not salvaged:", "edgeway run --data"] {
        assert!(told.out.contains(words), "{words} in:\n{}", told.out);
    }
    let told = salvage(node.data(), &folder.path().join("json"), &["--json"]);
    assert_eq!(told.code, 6, "{told:?}");
    let report = told.json();
    let topic = report["topics"].as_array().unwrap().iter().find(|topic| topic["name"] == "mqtt").unwrap();
    let of = topic["partitions"].as_array().unwrap().iter().find(|of| of["partition"] == lost.partition()).unwrap();
    let missing = &of["missing"].as_array().unwrap()[0];
    assert_eq!((missing["from"].as_u64(), missing["damaged"].as_bool()), (Some(lost.offset()), Some(true)), "{of}");
}

#[test]
fn folders_that_cannot_be_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    assert_eq!(salvage(&at("nowhere"), &at("new"), &[]).code, 4);
    fs::create_dir_all(at("data/store/sled")).unwrap();
    fs::write(at("data/store/sled/db"), b"nothing that was ever a store").unwrap();
    assert_eq!(salvage(&at("data"), &at("data/new"), &[]).code, 2, "within the damaged folder");
    assert_eq!(salvage(&at("data"), folder.path(), &[]).code, 2, "not empty");
    let nothing = salvage(&at("data"), &at("new"), &[]);
    assert_eq!(nothing.code, 6, "{nothing:?}");
    assert!(!at("new").exists());
}
