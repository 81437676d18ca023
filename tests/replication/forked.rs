//! A node that was restored from a backup and wrote on: what it had written before is with others, and goes with none of them.

use std::ops::Range;
use std::time::Duration;

use serde_json::Value;

use super::load::{make_topics, sorted};
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// How long a node may take to end.
const END_MAX: Duration = Duration::from_secs(60);
/// How long people ask again.
const CHANGE_MAX: Duration = Duration::from_secs(180);

fn publish(site: &Site, place: usize, numbers: Range<usize>) {
    let mut client = Client::simple(site[place].mqtt, Version::V5, "guest");
    let messages: Vec<Message> = numbers.map(|number| Message::new("plain/guest", number.to_string())).collect();
    client.publish_all(&messages);
}

/// An origin as a node has it.
fn origin(site: &Site, place: usize, id: &Value) -> Value {
    let status = site.status(place);
    status["origins"].as_array().unwrap().iter().find(|origin| origin["origin"] == *id).cloned().unwrap_or_default()
}

#[test]
fn what_a_restored_node_has_lost_does_not_go_with_the_one_that_has_it() {
    let mut site = Site::of(2);
    make_topics(&site);
    let (keeps, restored) = (0, 1);
    publish(&site, restored, 0..10);
    site.wait_level();
    let status = site.status(restored);
    let own =
        status["origins"].as_array().unwrap().iter().find(|origin| origin["own"] == true).unwrap()["origin"].clone();
    assert!(site.members[restored].node.stop().success());
    let backup = site.backup(restored);
    site.run(&[restored]);
    publish(&site, restored, 10..30);
    site.wait_level();

    // It comes back as it was, does not meet the other one, and writes further than that one has its log.
    assert!(site.members[restored].node.stop().success());
    site.restore(restored, &backup);
    site.kill(&[keeps]);
    site.run(&[restored]);
    for number in 100..160 {
        publish(&site, restored, number..number + 1);
    }
    site.run(&[keeps]);
    site.members[restored].node.wait_end(END_MAX);
    site.run(&[restored]);
    wait::until_true("it is followed in its new life", || site.follower(restored, "n1")["connected"] == true);
    wait::until_true("it follows", || site.follower(keeps, "n2")["connected"] == true);
    let refused = wait::until_within(CHANGE_MAX, "it does not leave", || {
        let refused = site[keeps].cli(&["node", "leave"]);
        assert_eq!(refused.code, 1, "what it alone has would go with it: {refused:?}");
        refused.err.contains(own.as_str().unwrap()).then_some(refused)
    });
    assert!(refused.err.contains("let a new node join"), "{refused:?}");

    // One that joins has it from here; then it may leave.
    let joined = site.join();
    let here = origin(&site, keeps, &own);
    wait::until_true("the new one has that log", || {
        let there = origin(&site, joined, &own);
        there["whole"] == true && there["commit"] == here["commit"]
    });
    wait::until_within(CHANGE_MAX, "it leaves", || {
        let left = site[keeps].cli(&["node", "leave"]);
        assert!(!left.err.contains("let a new node join"), "the new one has it: {left:?}");
        (left.code == 0).then_some(())
    });
    assert!(site.members[keeps].node.wait_end(END_MAX).success());
    let mut numbers: Vec<usize> =
        sorted(&site, joined, "plain").iter().map(|line| line["value"].as_str().unwrap().parse().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (0..30).collect::<Vec<_>>(), "all that was acknowledged before it was restored");
}
