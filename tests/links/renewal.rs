//! A link's certificate has an end, and is renewed before that by itself, whatever dies in the midst.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Load, check_level, check_records, link, view};
use crate::harness::site::{ROUTING, Site};
use crate::harness::{Node, wait};

/// A plant that feeds a headquarters whose certificates for links are good for so many seconds.
fn linked(seconds: u32) -> (Node, Site) {
    let (plant, hq) = (
        Node::start_with(ROUTING),
        Site::found(&format!("{ROUTING}[site]\nlink_certificate_short = true\nlink_certificate_s = {seconds}\n")),
    );
    link(&plant, &hq[0], "plant");
    (plant, hq)
}

fn until(view: &Value) -> u64 {
    view["certificate_until_s"].as_u64().unwrap_or(0)
}

#[test]
fn a_certificate_is_renewed_before_its_end_and_a_kill_in_the_midst_does_no_harm() {
    let (mut plant, hq) = linked(36);
    let given = until(&view(&plant, "hq"));
    assert!(given > 0, "{}", view(&plant, "hq"));
    let shown = plant.cli(&["link", "show", "hq"]).ok().out;
    assert!(shown.contains("signed     until"), "{shown}");
    let load = Load::start(&plant, "before");
    load.wait(300);
    // It is due after two thirds: from a second before that on the plant dies again and again.
    let due = Duration::from_secs(23);
    let began = Instant::now();
    std::thread::sleep(due);
    let mut records = load.stop();
    let mut rounds = 0;
    while until(&view(&plant, "hq")) == given {
        assert!(began.elapsed() < Duration::from_secs(36), "it is not renewed");
        plant.kill();
        plant.run();
        rounds += 1;
        std::thread::sleep(Duration::from_millis(70 * rounds));
    }
    plant.kill();
    plant.run();
    let renewed = until(&view(&plant, "hq"));
    assert!(renewed >= given + 20, "{given} {renewed} after {rounds} kills");
    assert!(plant.data().join("links/hq/renewed.pem").exists());
    // It is used, beyond the end of the first one.
    wait::until_true("upstream has seen it", || until(&view(&hq[0], "plant")) == renewed);
    let load = Load::start(&plant, "after");
    load.wait(300);
    records.extend(load.stop());
    check_records(check_level(&plant, &hq[0], ("plain", "plant%2Fplain")), &records);
}

#[test]
fn one_that_has_run_out_is_refused_and_told_what_to_do() {
    let (mut plant, hq) = linked(10);
    plant.cli(&["topic", "create", "plain"]).ok();
    wait::until_true("it stands", || view(&plant, "hq")["state"] == "connected");
    let until = until(&view(&plant, "hq"));
    plant.kill();
    // A tenth longer than it says.
    let now = || std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    wait::until_true("it has run out", || now() > until + 2);
    plant.run();
    wait::until_true("it is refused", || view(&plant, "hq")["state"] == "refused");
    let reason = view(&plant, "hq")["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("ran out") && reason.contains("edgeway link invite"), "{reason}");
    // What it says is done, and what waited comes.
    plant.cli(&["publish", "plain", "--key", "k", "--value", "one"]).ok();
    plant.cli(&["link", "remove", "hq"]).ok();
    link(&plant, &hq[0], "plant");
    check_level(&plant, &hq[0], ("plain", "plant%2Fplain"));
}
