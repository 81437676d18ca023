//! A link brings what a plugin makes of a topic, each summary once whatever dies; the topic itself stays and is asked for.

use serde_json::{Value, json};

use crate::harness::components::shipped;
use crate::harness::site::{ROUTING, Site};
use crate::harness::{Node, wait};
use crate::links::{check_level, link, stored, view};

/// The raw topic's name upstream is that of its summaries.
const SUMMARY: &str = "[[link]]\nname = \"hq\"\n[[link.summary]]\ntopic = \"telemetry\"\nplugin = \"downsample\"\n\
                       as = \"telemetry-1m\"\nupstream = \"telemetry\"\n";
const MANIFEST: &str = "name = 'downsample'\ntopics = ['telemetry']\nfrom = 'start'\n\
                        [grants]\nemit = ['telemetry-1m']\nstate = true\n\
                        [config]\npath = 't'\nwindow_ms = 60000\ntopic = 'telemetry-1m'\n";
/// When the first window begins, Unix milliseconds.
const BEGINS_MS: i64 = 1_764_000_000_000;
const SENSORS: [&str; 3] = ["a", "b", "c"];
const READINGS_A_WINDOW: i64 = 5;

/// Publishes some windows of all sensors.
fn publish(plant: &Node, windows: std::ops::Range<i64>) {
    for window in windows {
        let reading = |sensor: &str, n: i64| {
            let at = BEGINS_MS + window * 60_000 + n * 10_000;
            json!({"key": sensor, "value": format!("{{\"t\":{}}}", window * 100 + n), "timestamp_ms": at})
        };
        let numbers = 0..READINGS_A_WINDOW;
        let events: Vec<Value> = numbers.flat_map(|n| SENSORS.iter().map(move |sensor| reading(sensor, n))).collect();
        plant.call("POST", "topics/telemetry/events", Some(&json!({"events": events}))).ok();
    }
}

fn problem(plant: &Node) -> Option<String> {
    view(plant, "hq")["summaries"][0]["problem"].as_str().map(str::to_owned)
}

#[test]
fn summaries_go_once_each_and_the_topic_itself_is_asked_for() {
    let Some(component) = shipped("downsample", "summaries of a link") else { return };
    let (mut plant, mut hq) = (Node::start_with(&format!("{ROUTING}{SUMMARY}")), Site::found(ROUTING));
    link(&plant, &hq[0], "plant");
    // What keeps it from going is said, one thing after another.
    let is_told = |plant: &Node, word: &str| {
        wait::until_true(word, || problem(plant).is_some_and(|problem| problem.contains(word)));
    };
    is_told(&plant, "no topic telemetry");
    plant.cli(&["topic", "create", "telemetry"]).ok();
    is_told(&plant, "downsample is not deployed");
    let shown = plant.cli(&["link", "show", "hq"]).ok().out;
    assert!(shown.contains("telemetry stays; telemetry-1m goes") && shown.contains("not deployed"), "{shown}");
    wait::until_true("the log names it", || plant.log().contains("nothing goes of a topic that a link summarises"));
    plant.deploy(&component, &MANIFEST.replace("'telemetry-1m'", "'other'")).ok();
    is_told(&plant, "may not write telemetry-1m");
    plant.call("DELETE", "plugins/downsample", None).ok();
    plant.deploy(&component, MANIFEST).ok();
    wait::until_true("all is well", || problem(&plant).is_none());

    // Either end dies in between.
    publish(&plant, 0..20);
    hq.kill(&[0]);
    publish(&plant, 20..40);
    plant.kill();
    plant.run();
    publish(&plant, 40..60);
    hq.run(&[0]);
    publish(&plant, 60..81);
    let count = 80 * SENSORS.len();
    wait::until_true("all summaries are made", || stored(&plant, "telemetry-1m") == count);
    let came = check_level(&plant, &hq[0], ("telemetry-1m", "plant%2Ftelemetry"));
    assert_eq!(came.len(), count);
    let mut windows: Vec<(String, i64)> = came
        .iter()
        .map(|line| {
            let summary: Value = serde_json::from_str(line["value"].as_str().unwrap()).unwrap();
            assert_eq!(summary["count"].as_i64(), Some(READINGS_A_WINDOW), "{summary}");
            (line["key"].as_str().unwrap().to_owned(), summary["window_start_ms"].as_i64().unwrap())
        })
        .collect();
    windows.sort();
    windows.dedup();
    assert_eq!(windows.len(), count, "each window of each sensor once");
    // What is read here is summaries; the site has the readings themselves.
    let carried = hq[0].cli(&["tail", "telemetry", "--site", "plant", "--carried", "--json"]).ok().lines();
    assert_eq!(carried.len(), count);
    let readings = 81 * SENSORS.len() * READINGS_A_WINDOW as usize;
    let asked = wait::until("the site is asked", || {
        let asked = hq[0].cli(&["tail", "telemetry", "--site", "plant", "--detail", "--json"]);
        (asked.code == 0).then(|| asked.lines())
    });
    assert_eq!(asked.len(), readings);
    assert_eq!(stored(&plant, "telemetry"), readings);
}

#[test]
fn a_summary_that_cannot_be_stops_the_start() {
    // (what is wrong, a word of what is said)
    let cases = [
        ("topic = 'raw'\nplugin = 'downsample'\nas = 'raw'\n", "another topic"),
        ("topic = 'raw'\nas = 'mean'\n", "what stays"),
        ("topic = 'raw'\nplugin = 'downsample'\nas = 'mean'\nupstream = 'alarms'\n", "upstream"),
    ];
    for (summary, word) in cases {
        let ran = crate::config::run_with(&format!("[[link]]\nname = 'hq'\n[[link.summary]]\n{summary}"));
        assert!(ran.code == 2 && ran.err.contains(word), "{summary}: {ran:?}");
    }
}
