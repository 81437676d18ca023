//! Routing rules that people set: at every node, at once, before the node's own, and without the others.

use serde_json::json;

use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// Where an MQTT topic goes at a node.
fn goes_to(site: &Site, place: usize, mqtt_topic: &str) -> (String, String) {
    let told = site[place].get(&format!("routes?mqtt_topic={mqtt_topic}")).ok().json();
    let text = |name: &str| told["destination"][name].as_str().unwrap_or_default().to_owned();
    (text("topic"), text("key"))
}

fn wait_route(site: &Site, mqtt_topic: &str, topic: &str) {
    for place in site.running() {
        let name = &site.members[place].name;
        wait::until_true(&format!("{mqtt_topic} to go to {topic} at {name}"), || {
            goes_to(site, place, mqtt_topic).0 == topic
        });
    }
}

/// The values of a topic with their keys, as a node has them.
fn values(site: &Site, place: usize, topic: &str) -> Vec<(String, String)> {
    site[place].readable_events(topic).iter().map(|event| (event.key().to_owned(), event.text())).collect()
}

#[test]
fn a_rule_is_set_at_every_node_at_once() {
    let mut site = Site::of(3);
    // Both stay connected all the while.
    let mut near = Client::simple(site[0].mqtt, Version::V5, "near");
    let mut far = Client::simple(site[2].mqtt, Version::V5, "far");
    let publish = |client: &mut Client, topic: &str, value: &str| {
        assert_eq!(client.publish(&Message::new(topic, value).qos(1)), 0, "{topic}");
    };
    publish(&mut far, "line/7/temp", "before");

    let set = ["route", "set", "line", "--pattern", "line/{number}/#", "--topic", "line", "--key", "{number}"];
    site[0].cli(&set).ok();
    // Where it was asked for it counts on return.
    publish(&mut near, "line/1/temp", "at once");
    assert_eq!(goes_to(&site, 0, "line/1/x"), ("line".to_owned(), "1".to_owned()));
    wait_route(&site, "line/7/temp", "line");
    publish(&mut far, "line/7/temp", "after");
    // The rules of the site stand before the node's own, the lower order before the higher.
    let set = |name: &str, pattern: &str, topic: &str, order: &str| {
        site[1].cli(&["route", "set", name, "--pattern", pattern, "--topic", topic, "--order", order]).ok();
    };
    set("late", "plain/+", "late", "20");
    set("early", "plain/{x}", "early-{x}", "10");
    wait_route(&site, "plain/a", "early-a");
    wait_route(&site, "plain/a/b", "plain");
    site[2].cli(&["route", "delete", "early"]).ok();
    wait_route(&site, "plain/a", "late");
    site.wait_level();
    for place in 0..3 {
        let mut found = values(&site, place, "line");
        found.sort();
        let expected = [("1", "at once"), ("7", "after")].map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(found, expected, "at {}", site.members[place].name);
        let before = ("line/7/temp".to_owned(), "before".to_owned());
        assert!(values(&site, place, "mqtt").contains(&before), "what came before the rule stays where it was");
    }

    // What is wrong with a rule is said, and nothing changes.
    let cases = [
        (json!({"pattern": "a/#/b", "topic": "t"}), "a level is a name"),
        (json!({"pattern": "a/{b}", "topic": "t-{c}"}), "{c} is not captured"),
        (json!({"pattern": "a", "topic": "_audit"}), "internal"),
        (json!({"pattern": "a", "topic": "a b"}), "cannot be a topic's name"),
        (json!({"pattern": "a".repeat(2_000), "topic": "t"}), "shorten it"),
    ];
    for (rule, says) in cases {
        let refused = site[1].call("PUT", "routes/late", Some(&rule));
        let said = refused.json();
        assert_eq!((refused.status, &said["error"]["code"]), (400, &json!("bad-rule")), "{said}");
        assert!(said["error"]["message"].as_str().unwrap().contains(says), "{said}");
    }
    let missing = site[1].call("DELETE", "routes/early", None);
    assert_eq!(missing.status, 404, "{missing:?}");
    assert_eq!(goes_to(&site, 1, "plain/a").0, "late");

    // One that is left alone goes on by the rules that it has, over a restart as well, and sets none.
    site.kill(&[0, 1]);
    assert!(site.members[2].node.stop().success());
    site.run(&[2]);
    let mut alone = Client::simple(site[2].mqtt, Version::V5, "alone");
    publish(&mut alone, "line/9/temp", "alone");
    assert!(values(&site, 2, "line").contains(&("9".to_owned(), "alone".to_owned())));
    let refused = site[2].call("PUT", "routes/other", Some(&json!({"pattern": "a", "topic": "t"})));
    assert_eq!(refused.status, 503, "{refused:?}");
    site.run(&[0, 1]);
    wait_route(&site, "line/9/temp", "line");
}
