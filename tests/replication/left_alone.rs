//! The last node of a site whose majority is lost for good.

use std::time::Duration;

use serde_json::json;

use super::load::{Load, check, make_topics};
use crate::harness::mqtt::publisher::Record;
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// How long a node may take to end.
const END_MAX: Duration = Duration::from_secs(60);

#[test]
fn the_last_one_goes_on_alone_when_it_is_told_to() {
    let mut site = Site::of(3);
    make_topics(&site);
    let load = Load::start(&site, "three");
    load.wait(300);
    let mut records = load.stop();
    site.wait_level();
    site.kill(&[0, 1]);
    wait::until_true("the quorum is out of reach", || site.status(2)["quorum"]["in_reach"] == false);
    let add = |device: &str| site[2].call("POST", "devices", Some(&json!({"device": device})));
    // What is begun before the silence is noticed has no known end.
    let refused = wait::until("it is refused", || {
        let refused = add("early");
        (refused.json()["error"]["code"] != "unknown-outcome").then_some(refused)
    });
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("no-majority")), "{refused:?}");
    assert!(refused.body.contains("edgeway node promote --lost"), "what can be done is said: {refused:?}");

    let unsure = site[2].cli(&["node", "promote"]);
    assert_eq!(unsure.code, 2, "it is asked for in full: {unsure:?}");
    // Asked for again, as its answer may be lost, it ends the same.
    for _ in 0..2 {
        site[2].cli(&["node", "promote", "--lost"]).ok();
        let status = site.status(2);
        let lost = status["nodes"].as_array().unwrap().iter().filter(|node| node["state"] == "lost").count();
        assert_eq!(lost, 2, "{status}");
    }
    wait::until_true("it decides alone", || matches!(add("late").status, 201 | 409));
    assert!(site.troubles(2).contains(&"lost-nodes".to_owned()), "what is to be done with them is said");
    // One of them was not lost: both sides say so.
    assert!(!site.troubles(2).contains(&"lost-heard".to_owned()));
    site.run(&[0]);
    wait::until_true("it is heard", || site.troubles(2).contains(&"lost-heard".to_owned()));
    wait::until_true("it is told", || site.troubles(0).contains(&"lost-there".to_owned()));
    // What it acknowledged on its own comes with it when it is taken out, though the two agree on nothing any more.
    let mut device = Client::simple(site[0].mqtt, Version::V5, "apart");
    assert_eq!(device.publish(&Message::new("plain/apart", "0").qos(1)), 0);
    records.push(Record { topic: "plain/apart".to_owned(), sent: 1, acked: 1 });
    let removed = site[2].cli(&["node", "remove", "n1", "--json"]).ok();
    assert_eq!(removed.json()["not_handed_over"], json!(null), "{removed:?}");
    site.kill(&[0]);
    site[2].cli(&["node", "remove", "n2"]).ok();
    wait::until_true("its own disk is the quorum", || site.status(2)["quorum"]["in_reach"] == true);
    assert!(site.troubles(2).iter().all(|code| !code.starts_with("lost")), "they are out");
    site.members.drain(..2);
    let load = Load::start(&site, "alone");
    load.wait(200);
    records.extend(load.stop());
    check(&site, &records);
    // Others come to it, and have all.
    site.join();
    site.join();
    site.wait_level();
    check(&site, &records);
}

#[test]
fn the_only_voter_is_restored_and_the_other_one_goes_on() {
    let mut site = Site::of(2);
    make_topics(&site);
    let publish = |site: &Site, from: usize| {
        let mut client = Client::simple(site[0].mqtt, Version::V5, "guest");
        let messages = (from..from + 10).map(|number| Message::new("plain/guest", number.to_string()));
        client.publish_all(&messages.collect::<Vec<_>>());
    };
    publish(&site, 0);
    site.wait_level();
    assert!(site.members[0].node.stop().success());
    let backup = site.backup(0);
    site.run(&[0]);
    publish(&site, 10);
    assert_eq!(site[0].call("POST", "devices", Some(&json!({"device": "later"}))).status, 201);
    site.wait_level();
    wait::until_true("the other one knows it", || site[1].get("devices/later").status == 200);
    assert!(site.members[0].node.stop().success());
    site.restore(0, &backup);
    site.kill(&[1]);
    site.run(&[0]);
    site.run(&[1]);
    // The other one has more of its log. From then on it waits to be let in, however often it is started.
    site.members[0].node.wait_end(END_MAX);
    for _ in 0..2 {
        site.run(&[0]);
        wait::until_true("they are connected", || site.seen(0, "n2")["connected"] == true);
        let refused = site[0].call("POST", "devices", Some(&json!({"device": "second-group"})));
        assert_eq!(refused.status, 503, "nobody leads: {refused:?}");
        let refused = site[0].cli(&["node", "promote", "--lost"]);
        assert!(refused.code == 1 && refused.err.contains("n2, who may know more"), "{refused:?}");
        assert!(site.members[0].node.stop().success());
    }
    site.run(&[0]);
    wait::until_true("they are connected", || site.seen(1, "n1")["connected"] == true);
    // Until it has been silent for long enough.
    wait::until("it goes on alone", || (site[1].cli(&["node", "promote", "--lost"]).code == 0).then_some(()));
    let add = |device: &str| site[1].call("POST", "devices", Some(&json!({"device": device}))).status;
    wait::until_true("it decides alone", || matches!(add("alone"), 201 | 409));
    assert_eq!(site[1].get("devices/later").status, 200, "it knew more");
}
