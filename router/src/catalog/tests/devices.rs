//! Changes of devices and what becomes of them, on one node.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{MemoryBackend, TopicConfig};

use super::{add, events, open_log, tag};
use crate::catalog::*;
use crate::event_log::{self, EventLog};

fn catalog(config: Config) -> (Arc<EventLog>, Arc<Catalog>) {
    let log = open_log(&Arc::new(MemoryBackend::new()));
    let catalog = Catalog::open(Arc::clone(&log), config).unwrap();
    (log, catalog)
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

fn set(device: &str, pairs: &[(&str, Option<Value>)]) -> Change {
    let set = pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect();
    Change::SetAttributes { device: device.into(), set, refuses_repeats: None, seen: false }
}

#[tokio::test]
async fn changes_are_bounded_in_bytes_also_those_of_an_earlier_store() {
    let config = Config { retention_bytes: 1 << 20, ..Config::default() };
    let bound = |log: &EventLog| {
        let topic = log.topic(CATALOG_TOPIC).unwrap();
        log.store().topics().into_iter().find(|info| info.id == topic.id()).unwrap().config.retention_bytes
    };
    for is_older in [false, true] {
        let log = open_log(&Arc::new(MemoryBackend::new()));
        if is_older {
            log.ensure_topic(CATALOG_TOPIC, Some(TopicConfig { partitions: 1, ..log.topic_defaults() })).unwrap();
        }
        Catalog::open(Arc::clone(&log), config.clone()).unwrap();
        assert_eq!(bound(&log), Some(1 << 20), "{is_older}");
        log.close();
    }
}

#[tokio::test]
async fn what_is_set_is_there_after_a_restart() {
    let backend = Arc::new(MemoryBackend::new());
    let log = open_log(&backend);
    let catalog = Catalog::open(Arc::clone(&log), Config::default()).unwrap();
    catalog.propose(add("pump-7"), "cli").await.unwrap();
    catalog.propose(add("fan"), "cli").await.unwrap();
    catalog.propose(tag("pump-7", &["pump", "old"], &[], false), "api").await.unwrap();
    catalog.propose(tag("pump-7", &["north"], &["old", "never"], false), "api").await.unwrap();
    let pressure = Some(Value::Number(5.0));
    catalog.propose(set("pump-7", &[("pressure", pressure), ("none", None)]), "api").await.unwrap();
    let flag = Change::SetAttributes {
        device: "pump-7".into(),
        set: BTreeMap::new(),
        refuses_repeats: Some(Some(true)),
        seen: false,
    };
    let applied = catalog.propose(flag, "api").await.unwrap();
    catalog.propose(Change::RemoveDevice { device: "fan".into() }, "cli").await.unwrap();
    let before = catalog.get("pump-7").unwrap();
    assert_eq!(applied.writes, [Write::Device("pump-7".into(), Some(Arc::clone(&before)))]);
    assert_eq!(before.tags, names(&["north", "pump"]));
    assert_eq!(before.attributes.len(), 1);
    log.close();
    drop((catalog, log));
    let log = open_log(&backend);
    let catalog = Catalog::open(Arc::clone(&log), Config::default()).unwrap();
    assert_eq!(catalog.get("pump-7"), Some(before));
    assert_eq!((catalog.len(), catalog.enrolled()), (1, 1));
    assert!(catalog.is_enrolled("pump-7") && !catalog.is_enrolled("fan"));
    assert!(catalog.refuses_repeats("pump-7") && !catalog.refuses_repeats("fan"));
    log.close();
}

#[tokio::test]
async fn each_change_is_an_event_and_an_act() {
    let (log, catalog) = catalog(Config::default());
    catalog.propose(add("pump-7"), "cli").await.unwrap();
    catalog.propose(tag("pump-7", &["pump"], &[], false), "api").await.unwrap();
    catalog.propose(Change::RemoveDevice { device: "pump-7".into() }, "cli").await.unwrap();
    catalog.propose(tag("pump-7", &["pump"], &[], false), "api").await.unwrap_err();
    log.close();
    let changes = events(&log, CATALOG_TOPIC);
    let brief = changes.iter().map(|c| (c["act"].as_str().unwrap(), c["who"].as_str().unwrap(), &c["set"]["tags"]));
    let brief: Vec<_> = brief.map(|(act, who, tags)| (act, who, tags.to_string())).collect();
    let expected = [("device.add", "cli", "[]"), ("device.tag", "api", "[\"pump\"]"), ("device.remove", "cli", "null")];
    assert_eq!(brief, expected.map(|(act, who, tags)| (act, who, tags.to_owned())));
    assert!(changes[2]["set"].is_null() && changes[2]["device"] == "pump-7");
    let acts = events(&log, event_log::AUDIT_TOPIC);
    let brief: Vec<_> = acts.iter().map(|a| (a["act"].as_str().unwrap(), a["outcome"].as_str().unwrap())).collect();
    let done = [("device.add", "done"), ("device.tag", "done"), ("device.remove", "done"), ("device.tag", "not_found")];
    assert_eq!(brief, done);
    assert_eq!(acts[1]["detail"], serde_json::json!({"add": ["pump"], "remove": []}));
}

#[tokio::test]
async fn what_cannot_be_is_refused_and_changes_nothing() {
    let (log, catalog) = catalog(Config { devices_max: 2, ..Config::default() });
    catalog.propose(add("a"), "cli").await.unwrap();
    let long = "x".repeat(NAME_BYTES_MAX + 1);
    let many: Vec<String> = (0..=TAGS_MAX).map(|n| format!("t{n}")).collect();
    let many: Vec<&str> = many.iter().map(String::as_str).collect();
    let flag = || Some(Value::Flag(true));
    let attributes: Vec<(&str, Option<Value>)> = many.iter().map(|name| (*name, flag())).collect();
    let text = |text: String| Some(Value::Text(text));
    let cases = [
        (add("a"), "conflict"),
        (add("a/b"), "bad_request"),
        (add(""), "bad_request"),
        (Change::RemoveDevice { device: "b".into() }, "not_found"),
        (tag("b", &["x"], &[], false), "not_found"),
        (set("b", &[("x", flag())]), "not_found"),
        (tag("a", &["x y"], &[], false), "bad_request"),
        (tag("a", &["x*"], &[], false), "bad_request"),
        (tag("a", &[""], &[], false), "bad_request"),
        (tag("a", &[&long], &[], false), "bad_request"),
        (tag("a", &many, &[], false), "too_many_tags"),
        (tag("a", &[], &many, false), "too_many_tags"),
        (tag("a", &[], &["*"], false), "bad_request"),
        (set("a", &[(&long, flag())]), "bad_request"),
        (set("a", &[("x", text("y".repeat(TEXT_BYTES_MAX + 1)))]), "bad_request"),
        (set("a", &[("x", text("\n".into()))]), "bad_request"),
        (set("a", &[("x", Some(Value::Number(f64::NAN)))]), "bad_request"),
        (set("a", &attributes), "too_many_attributes"),
    ];
    for (change, code) in cases {
        let refusal = catalog.propose(change.clone(), "api").await.unwrap_err();
        assert_eq!(refusal.code(), code, "{change:?}: {refusal}");
    }
    assert_eq!(catalog.page(None, 9).len(), 1);
    assert_eq!(catalog.get("a").unwrap().tags, BTreeSet::new());
    catalog.propose(add("b"), "cli").await.unwrap();
    assert_eq!(catalog.propose(add("c"), "cli").await.unwrap_err(), Refusal::TooMany(2));
    catalog.propose(tag("a", &many[1..], &[], false), "cli").await.unwrap();
    log.close();
    assert_eq!(catalog.propose(add("c"), "cli").await.unwrap_err(), Refusal::TooMany(2));
    let stopped = catalog.propose(tag("a", &[], &["t1"], false), "cli").await.unwrap_err();
    assert_eq!(stopped.code(), "unavailable");
    assert!(catalog.get("a").unwrap().tags.contains("t1"), "not durable, not true");
}

#[tokio::test]
async fn memory_is_bounded() {
    let (log, catalog) = catalog(Config { bytes_max: 600, ..Config::default() });
    catalog.propose(add("a"), "cli").await.unwrap();
    let large = set("a", &[("x", Some(Value::Text("y".repeat(250))))]);
    catalog.propose(large, "cli").await.unwrap();
    assert_eq!(catalog.propose(add("b"), "cli").await.unwrap_err(), Refusal::Full(600));
    catalog.propose(set("a", &[("x", None)]), "cli").await.unwrap();
    catalog.propose(add("b"), "cli").await.unwrap();
    for device in ["a", "b"] {
        catalog.propose(Change::RemoveDevice { device: device.into() }, "cli").await.unwrap();
    }
    assert_eq!((catalog.book.ask(|state| state.devices().bytes()), catalog.enrolled()), (0, 0));
    log.close();
}

#[tokio::test]
async fn a_device_that_was_seen_is_tagged_without_being_enrolled() {
    let (log, catalog) = catalog(Config { known_by: KnownBy::Enrolment, ..Config::default() });
    catalog.propose(tag("pump", &["north"], &[], true), "cli").await.unwrap();
    assert_eq!((catalog.len(), catalog.enrolled(), catalog.lets_in("pump")), (1, 0, false));
    catalog.propose(add("pump"), "cli").await.unwrap();
    assert_eq!((catalog.len(), catalog.enrolled(), catalog.lets_in("pump")), (1, 1, true));
    assert_eq!(catalog.get("pump").unwrap().tags, names(&["north"]), "what was set stays");
    assert!(!catalog.lets_in("fan"));
    log.close();
}

#[tokio::test]
async fn devices_come_in_pages_by_name() {
    let (log, catalog) = catalog(Config::default());
    for device in ["c", "a", "b", "d"] {
        catalog.propose(add(device), "cli").await.unwrap();
    }
    let page = |after, max| catalog.page(after, max).iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    assert_eq!(page(None, 2), ["a", "b"]);
    assert_eq!(page(Some("b"), 9), ["c", "d"]);
    assert_eq!(page(Some("bb"), 1), ["c"]);
    assert_eq!(page(Some("d"), 1), [""; 0]);
    log.close();
}
