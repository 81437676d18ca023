//! Live before backlog: after an outage what is new is upstream long before what was missed, and all of it is there once in the end, whoever dies meanwhile.

use std::time::Duration;

use devices::fleet::relay::LineConfig;
use serde_json::Value;

use super::{Load, check_level, check_records, relayed, sorted, stored, view};
use crate::harness::components::{hostile, hostile_manifest};
use crate::harness::mqtt::publisher::Record;
use crate::harness::{Node, wait};

/// How long what was missed may take, on a busy machine.
const DRAIN_MAX: Duration = Duration::from_secs(240);

/// A key of the same partition as another one.
fn beside(node: &Node, topic: &str, key: &str) -> String {
    let topics = node.get("topics").ok().json();
    let of = |found: &&Value| found["name"] == topic;
    let found = topics["topics"].as_array().unwrap().iter().find(of).unwrap();
    let partitions =
        found["partitions"].as_array().map_or_else(|| found["partitions"].as_u64().unwrap(), |all| all.len() as u64);
    let place = |key: &str| sled_data::partition_for_key(key.as_bytes(), partitions as u32);
    (0..).map(|number| format!("fresh-{number}")).find(|fresh| place(fresh) == place(key)).unwrap()
}

#[test]
fn what_is_new_overtakes_what_was_missed_and_readers_count_exactly() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let line = LineConfig::modem(400_000, Duration::from_millis(20));
    let settings = "rate_bytes_max = 10000\ncompress = \"off\"\nbacklog = \"newest\"\n";
    let (mut plant, mut hq, _relay) = relayed(&runtime, line, settings);
    let load = Load::start(&plant, "before");
    load.wait(300);
    let mut records = load.stop();
    check_level(&plant, &hq[0], ("plain", "plant%2Fplain"));
    // It forwards each event that it sees.
    let manifest = format!("scope = 'site'\n{}", hostile_manifest("plant/plain"));
    hq[0].deploy(&hostile(), &manifest).ok();
    plant.cli(&["link", "pause", "hq"]).ok();
    let load = Load::start(&plant, "outage");
    load.wait(6_000);
    records.extend(load.stop());
    let missed = stored(&plant, "plain");
    let is_old = || view(&plant, "hq")["lag_ms"].as_u64().unwrap() > 12_000;
    wait::until_true("what was missed is old", is_old);
    plant.cli(&["link", "resume", "hq"]).ok();
    let later = |node: &Node, name: &str| view(node, name)["later"].as_array().map_or(0, Vec::len);
    wait::until_true("it goes on ahead", || later(&hq[0], "plant") > 0);
    let key = beside(&plant, "plain", "plain/outage/a");
    plant.cli(&["publish", "plain", "--key", &key, "--value", "0"]).ok();
    records.push(Record { topic: key.clone(), acked: 1, sent: 1 });
    wait::until_true("what is new is there", || hq[0].cli(&["get", "plant/plain", &key]).code == 0);
    let there = stored(&hq[0], "plant%2Fplain");
    assert!(there < missed - missed / 5, "{there} of {missed} had come before");
    assert!(later(&plant, "hq") > 0, "{}", view(&plant, "hq"));
    let shown = hq[0].cli(&["link", "show", "plant"]).ok().out;
    assert!(shown.contains("come behind what is newer"), "{shown}");
    let tail = hq[0].cli(&["tail", "plant/plain", "--from", "start", "--json"]).out;
    assert!(tail.contains("\"later\""), "who tails is told of what is to come");
    // Both ends die in the midst of it.
    hq.kill(&[0]);
    hq.run(&[0]);
    plant.kill();
    plant.run();
    wait::until_within(DRAIN_MAX, "what was missed has come", || {
        (stored(&hq[0], "plant%2Fplain") == stored(&plant, "plain")).then_some(())
    });
    let lines = check_level(&plant, &hq[0], ("plain", "plant%2Fplain"));
    let all = lines.len();
    check_records(lines, &records);
    wait::until_within(DRAIN_MAX, "all was forwarded", || (stored(&hq[0], "out") >= all).then_some(()));
    check_records(sorted(&hq[0], "out"), &records);
    wait::until_true("nothing comes behind any more", || later(&hq[0], "plant") + later(&plant, "hq") == 0);
    let verified = hq[0].cli(&["store", "verify", "--json"]).ok().json();
    assert_eq!(verified["clean"], true, "{verified}");
    let metrics = crate::harness::http::get(hq[0].http, "/metrics", None).unwrap().body;
    assert!(metrics.contains("edgeway_link_later_events{link=\"plant\"} 0"), "{metrics}");
}
