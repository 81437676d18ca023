//! Retention waits for a node that is away, up to the bound; what it takes in spite of that is a gap there, and is told.

use serde_json::Value;

use crate::harness::http;
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::{ROUTING, Site};
use crate::harness::wait;

/// Bytes by which a partition may have more than its topic keeps, for a node that is away; the topic itself keeps next to nothing.
const WAIT_BYTES: u64 = 1_000_000;
const KEPT_BYTES: &str = "1000";
/// Events that are published while it is away: together three times what is waited for, and nothing that would shrink.
const EVENTS: usize = 300;
const EVENT_BYTES: usize = 10_000;

fn noise(seed: usize) -> String {
    let mut number = seed as u64 + 1;
    let mut next = || {
        number = number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        char::from(b'0' + (number >> 33) as u8 % 64)
    };
    (0..EVENT_BYTES).map(|_| next()).collect()
}

/// The partition of `plain` that has events, of the origin that the first node writes, as a node has it.
fn partition(site: &Site, place: usize) -> Value {
    let status = site.status(place);
    let origin = status["origins"].as_array().unwrap().iter().find(|origin| origin["node"] == "n1").unwrap().clone();
    let partitions = origin["partitions"].as_array().unwrap();
    let found = partitions.iter().find(|found| found["topic"] == "plain" && found["end"].as_u64() > Some(0));
    found.cloned().unwrap_or_default()
}

fn metric(site: &Site, place: usize, name: &str) -> u64 {
    let text = http::get(site[place].http, "/metrics", None).unwrap().body;
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {name} in\n{text}")).parse().unwrap()
}

#[test]
fn retention_waits_up_to_its_bound_and_then_the_gap_is_told() {
    let config = format!("{ROUTING}\n[site]\nretention_wait_bytes = {WAIT_BYTES}\n");
    let mut site = Site::of_with(2, &config);
    let made =
        ["topic", "create", "plain", "--durability", "sync", "--partitions", "2", "--retention-bytes", KEPT_BYTES];
    site[0].cli(&made).ok();
    wait::until_true("the topic at both", || site[1].get("topics/plain").status == 200);
    let mut client = Client::simple(site[0].mqtt, Version::V5, "source");
    client.publish_all(&[Message::new("plain/one", "before")]);
    site.wait_level();
    site.kill(&[1]);
    let messages: Vec<Message> = (0..EVENTS).map(|number| Message::new("plain/one", noise(number))).collect();
    client.publish_all(&messages);

    let code = "retention-waits-no-more";
    wait::until_true("retention has waited enough", || site.troubles(0).iter().any(|told| told == code));
    let is_within = || metric(&site, 0, "edgeway_store_batch_bytes") < 2 * WAIT_BYTES;
    wait::until_true("it has come to the bound", is_within);
    let start = partition(&site, 0)["start"].as_u64().unwrap();
    let (least, most) = (EVENTS as u64 / 4, EVENTS as u64 * 4 / 5);
    assert!((least..most).contains(&start), "what is within the bound waits: {start} of {EVENTS}");

    site.run(&[1]);
    site.wait_level();
    // What was still in the source's memory came all the same, so that there may be several gaps.
    let gaps = partition(&site, 1)["gaps"].as_array().unwrap().clone();
    let ends = |gap: &Value| (gap["from"].as_u64().unwrap(), gap["to"].as_u64().unwrap());
    assert!(gaps.iter().all(|gap| gap["why"] == "source-retention" && ends(gap).0 > 0), "{gaps:?}");
    let to = gaps.last().map(|gap| ends(gap).1).unwrap();
    assert!(to <= partition(&site, 0)["start"].as_u64().unwrap(), "no more than is gone at the source: {gaps:?}");
    assert_eq!(
        metric(&site, 1, "edgeway_site_gap_events"),
        gaps.iter().map(|gap| ends(gap).1 - ends(gap).0).sum::<u64>()
    );
    let shown = site[1].cli(&["node", "status"]).ok();
    assert!(shown.out.contains("gap in plain/"), "{}", shown.out);
    let told = site[1].cli(&["tail", "plain", "--json"]).ok().lines();
    let is_gap = |line: &Value| line["gap"]["reason"] == "source-retention" && line["gap"]["to"] == to;
    assert!(told.iter().any(is_gap), "{:?}", told.first());
}
