//! Topics that a headquarters gives to a linked site, as real processes with a line between them that is cut: whatever dies, the site has
//! each event once and in order, and nothing that is not listed at both ends.

use std::net::SocketAddr;

use devices::fleet::relay::{LineConfig, Relay};
use serde_json::{Value, json};

use crate::harness::mqtt::publisher::Record;
use crate::harness::site::{ROUTING, Site, free_port};
use crate::harness::{Node, wait};
use crate::links::{Load, check_level, check_records, link, stored, view};

/// What the headquarters allows, and keeps.
const GIVES: &str = "\n[site]\nlink_bytes_max = 1073741824\n[[downlink]]\nsite = \"plant*\"\ntopics = [\"plain\"]\n";
/// What the plant lists.
const LISTS: &str = "down = [\"commands\", \"topics:plain\", \"topics:vital\", \"topics:*/*\"]\n";

/// A headquarters that gives `plain`, and the address of a line to it.
fn headquarters(runtime: &tokio::runtime::Runtime) -> (Site, Relay) {
    let port = free_port();
    let hq = Site::found_at(&format!("{ROUTING}{GIVES}"), port, &format!("127.0.0.1:{port}"));
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let relay = runtime.block_on(Relay::start(address, LineConfig::default(), 7)).unwrap();
    (hq, relay)
}

fn lists(relay: &Relay) -> String {
    format!("{ROUTING}[[link]]\nname = \"hq\"\naddress = \"{}\"\n{LISTS}", relay.address())
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// One topic that comes down, as `link show` has it.
fn shown(node: &Node, link: &str, topic: &str) -> Value {
    let shown = view(node, link);
    let topics = shown["topics"][0]["topics"].as_array().cloned().unwrap_or_default();
    topics.into_iter().find(|found| found["name"] == topic).unwrap_or_default()
}

/// Loads both ends while something is done; what was sent up, and down.
fn load_both(plant: &mut Node, hq: &mut Site, round: usize, relay: &Relay) -> (Vec<Record>, Vec<Record>) {
    let (up, down) = (Load::start(plant, &format!("up-{round}")), Load::start(&hq[0], &format!("down-{round}")));
    up.wait(200);
    down.wait(200);
    match round % 3 {
        0 => {
            relay.cut(true);
            up.wait(300);
            down.wait(300);
            relay.cut(false);
            up.wait(100);
            down.wait(100);
            (up.stop(), down.stop())
        }
        1 => {
            plant.kill();
            let up = up.stop();
            down.wait(300);
            plant.run();
            down.wait(100);
            (up, down.stop())
        }
        _ => {
            hq.kill(&[0]);
            let down = down.stop();
            up.wait(300);
            hq.run(&[0]);
            up.wait(100);
            (up.stop(), down)
        }
    }
}

#[test]
fn topics_go_down_a_link_once_and_in_order_whatever_dies_or_is_cut() {
    let runtime = runtime();
    let (mut hq, relay) = headquarters(&runtime);
    // What is there before the plant is: it comes from the first that is kept.
    for topic in ["plain", "vital"] {
        hq[0].cli(&["topic", "create", topic]).ok();
    }
    hq[0].cli(&["publish", "vital", "--key", "k", "--value", "is not given"]).ok();
    let load = Load::start(&hq[0], "before");
    load.wait(200);
    let mut downs = load.stop();
    let mut plant = Node::start_with(&lists(&relay));
    link(&plant, &hq[0], "plant");
    check_records(check_level(&hq[0], &plant, ("plain", "hq%2Fplain")), &downs);
    let mut ups = Vec::new();
    for round in 0..6 {
        let (up, down) = load_both(&mut plant, &mut hq, round, &relay);
        ups.extend(up);
        downs.extend(down);
        check_records(check_level(&hq[0], &plant, ("plain", "hq%2Fplain")), &downs);
        check_records(check_level(&plant, &hq[0], ("plain", "plant%2Fplain")), &ups);
    }
    // What is not listed at both ends, and what would come back.
    for (node, topic) in [(&plant, "hq%2Fvital"), (&plant, "hq%2Fplant%2Fplain"), (&hq[0], "plant%2Fhq%2Fplain")] {
        assert_eq!(node.get(&format!("topics/{topic}")).status, 404, "{topic}");
    }
    // As people see it, and read it.
    let all = stored(&hq[0], "plain");
    wait::until_true("upstream shows that nothing waits", || {
        let topic = shown(&hq[0], "plant", "plain");
        topic["events"] == json!(all) && topic["waiting_events"] == 0
    });
    assert_eq!(shown(&plant, "hq", "hq/plain")["events"], json!(all));
    let told = plant.cli(&["link", "show", "hq"]).ok().out;
    assert!(told.contains("topics     connected; upstream allows plain;"), "{told}");
    let told = hq[0].cli(&["link", "show", "plant"]).ok().out;
    assert!(told.contains("topics:plain") && told.contains("plain: "), "{told}");
    assert!(told.contains("here, of 1.0 GiB that it may keep"), "{told}");
    let figures = |node: &Node, wanted: &[&str]| {
        // They are measured now and then.
        wait::until_true(&format!("the metrics have {wanted:?}"), || {
            let text = crate::harness::http::get(node.http, "/metrics", None).unwrap().body;
            wanted.iter().all(|line| text.contains(line))
        });
    };
    let down = |link: &str, what: &str| format!("edgeway_link_down_{what}{{link=\"{link}\",gateway=\"");
    figures(
        &plant,
        &[&format!("{}\"}} 1.0", down("hq", "connected")), &format!("{}\"}} 0.0", down("hq", "lag_events"))],
    );
    let kept = "edgeway_link_kept_bytes_max{link=\"plant\"} 1073741824.0";
    figures(&hq[0], &[kept, &down("plant", "connected"), &down("plant", "events_total")]);
    let tail = plant.cli(&["tail", "plain", "--from", "start", "--site", "hq", "--json"]).ok();
    assert_eq!(tail.out.lines().count(), all);
    for node in [&plant, &hq[0]] {
        let verified = node.cli(&["store", "verify", "--json"]).ok().json();
        assert_eq!(verified["clean"], true, "{verified}");
    }
}

#[test]
fn what_one_gateway_brings_down_the_others_have_and_a_list_may_change() {
    let runtime = runtime();
    let (hq, relay) = headquarters(&runtime);
    let load = Load::start(&hq[0], "all");
    load.wait(200);
    let records = load.stop();
    let mut plant = Site::of_with(2, &lists(&relay));
    link(&plant[0], &hq[0], "plant");
    for node in [&plant[0], &plant[1]] {
        check_records(check_level(&hq[0], node, ("plain", "hq%2Fplain")), &records);
    }
    // A site may not be called as a link that brings topics.
    let refused = plant[0].cli(&["link", "invite", "hq"]);
    assert!(refused.code != 0 && refused.err.contains("brings topics down by that name"), "{refused:?}");
    // What is not listed any more comes no more; what has come stays.
    let before = stored(&plant[0], "hq%2Fplain");
    plant.kill(&[0]);
    plant[0].configure(&lists(&relay).replace("topics:plain", "topics:other"));
    plant.run(&[0]);
    wait::until_true("the link stands", || view(&hq[0], "plant")["topics"][0]["state"] == "connected");
    let load = Load::start(&hq[0], "more");
    load.wait(200);
    let more = load.stop();
    let told = Load::start(&plant[0], "up");
    told.wait(200);
    let told = told.stop();
    check_records(check_level(&plant[0], &hq[0], ("plain", "plant%2Fplain")), &told);
    assert_eq!(stored(&plant[0], "hq%2Fplain"), before);
    plant.kill(&[0]);
    plant[0].configure(&lists(&relay));
    plant.run(&[0]);
    let records: Vec<Record> = records.into_iter().chain(more).collect();
    for node in [&plant[0], &plant[1]] {
        check_records(check_level(&hq[0], node, ("plain", "hq%2Fplain")), &records);
    }
}
