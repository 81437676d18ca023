//! Nodes that their site has no place for: one that was taken out, and one on a copied data folder. What they took would be with nobody else.

use std::time::Duration;

use serde_json::{Value, json};

use super::load::make_topics;
use crate::harness::http;
use crate::harness::mqtt::{Client, Connect, Message, Version};
use crate::harness::node::Node;
use crate::harness::site::Site;
use crate::harness::wait;

/// How long a node may take to end when it was taken out.
const END_MAX: Duration = Duration::from_secs(30);
/// The reason code of one that is to go to another server.
const SERVER_MOVED: u8 = 0x9d;

/// Whether a node takes neither clients nor events by its API.
fn assert_takes_nothing(node: &Node) {
    let refused = Client::try_connect(node.mqtt, &Connect::new(Version::V5, "late")).map(|_| ());
    assert_eq!(refused, Err(SERVER_MOVED));
    let event = json!({"events": [{"key": "k", "value": "late"}]});
    let refused = node.call("POST", "topics/plain/events", Some(&event));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("kept-out")), "{refused:?}");
}

fn own_followers(status: &Value) -> Vec<Value> {
    let own = status["origins"].as_array().unwrap().iter().find(|origin| origin["own"] == true).unwrap();
    own["followers"].as_array().unwrap().iter().map(|follower| follower["node"].clone()).collect()
}

#[test]
fn a_node_that_was_removed_remembers_it_and_goes_on_with_nothing() {
    let mut site = Site::of(3);
    make_topics(&site);
    let removed = 2;
    let id = site.seen(0, "n3")["node"].as_str().unwrap().to_owned();
    site[0].cli(&["node", "remove", "n3"]).ok();
    assert!(site.members[removed].node.wait_end(END_MAX).success());
    for (place, other) in [(0, "n2"), (1, "n1")] {
        wait::until_true("it is not listed", || site.status(place)["nodes"].as_array().unwrap().len() == 2);
        assert_eq!(own_followers(&site.status(place)), [json!(other)], "one that was removed follows no more");
        let metrics = http::get(site[place].http, "/metrics", None).unwrap().body;
        assert!(metrics.contains("edgeway_site_follower_lag_seconds{"), "{metrics}");
        assert!(!metrics.contains(&id) && !metrics.contains("node=\"n3\""), "{metrics}");
    }

    // It is started where nobody can tell it.
    site.kill(&[0, 1]);
    site.members[removed].node.run_kept_out("was taken out of its site");
    assert_takes_nothing(&site[removed]);
    assert!(site.troubles(removed).contains(&"removed".to_owned()));
    let before = site.status(removed)["quorum"].clone();
    let refused = site[removed].cli(&["node", "promote", "--lost"]);
    assert!(refused.code == 1 && refused.err.contains("was taken out of its site"), "{refused:?}");
    let after = site.status(removed);
    assert_eq!(after["quorum"]["voters"], before["voters"], "a refusal changes nothing");
    assert!(after["nodes"].as_array().unwrap().iter().all(|node| node["state"] != "lost"), "{after}");

    // The others say so as well: of this one, and not of themselves.
    site.run(&[0, 1]);
    wait::until_true("the others say so", || {
        let problem = site.seen(removed, "n1")["problem"].clone();
        problem.as_str().is_some_and(|problem| problem.contains(&format!("node {id}, which is this one, was removed")))
    });
    assert_takes_nothing(&site[removed]);
}

#[test]
fn a_copy_takes_nothing_while_it_is_kept_out_and_the_one_that_runs_is_told() {
    let mut site = Site::of(2);
    make_topics(&site);
    assert!(site.members[1].node.stop().success());
    let mut copy = site.copied(1);
    site.run(&[1]);
    site.wait_level();
    copy.run_kept_out("two nodes run as node");
    assert_takes_nothing(&copy);
    let told = copy.cli(&["node", "status"]).ok().out;
    assert!(told.contains("copied-here") && told.contains("kept out as a copy"), "{told}");
    wait::until_true("the one that runs is told", || site.troubles(1).contains(&"copied".to_owned()));
    assert_eq!(http::get(site[1].http, "/readyz", None).unwrap().status, 200, "and goes on");
    let mut client = Client::simple(site[1].mqtt, Version::V5, "client");
    assert_eq!(client.publish(&Message::new("plain/a", "on").qos(1)), 0);
    // Nobody else is that node any more.
    site.kill(&[1]);
    wait::until_true("the other one is let in", || copy.log().contains("not kept out as a copy any more"));
    copy.kill();
}
