//! Plugins that are broken or hostile: refused, or contained, while everything else goes on.

use crate::harness::components::{hostile, hostile_manifest};
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::{Event, Node};

#[test]
fn a_broken_file_is_refused_at_deploy() {
    let node = Node::start();
    let good = hostile();
    let manifest = hostile_manifest("in");
    let module = b"\0asm\x01\0\0\0".to_vec();
    let cases: [(&str, Vec<u8>); 4] = [
        ("empty", Vec::new()),
        ("text", b"not a component".to_vec()),
        ("a core module", module),
        ("cut in the middle", good[..good.len() / 2].to_vec()),
    ];
    for (name, bytes) in cases {
        let refused = node.deploy(&bytes, &manifest);
        assert_eq!(refused.status, 422, "{name}: {refused:?}");
        assert!(refused.json()["error"]["message"].as_str().is_some_and(|reason| reason.len() > 10), "{name}");
    }
    let broken = [
        ("not TOML", "name = ".to_owned()),
        ("no such entry", format!("{manifest}\n[grant]\nemit = []\n")),
        ("internal topic", manifest.replace("['out']", "['_commands']")),
        ("settings that it refuses", format!("{manifest}\n[config]\nany = 1\n")),
    ];
    for (name, text) in broken {
        let refused = node.deploy(&good, &text);
        assert_eq!(refused.status, 422, "{name}: {refused:?}");
        assert!(refused.json()["error"]["message"].as_str().is_some_and(|reason| reason.len() > 10), "{name}");
    }
    assert!(node.plugins().is_empty(), "nothing was deployed: {:?}", node.plugins());
    node.deploy(&good, &manifest).ok();
    assert_eq!(node.plugins().len(), 1);
}

#[test]
fn a_hostile_plugin_is_contained() {
    // The first byte says what the plugin does with the event.
    const POISON: [(&str, &str); 6] = [
        ("T", "trap"),
        ("L", "endless loop"),
        ("B", "memory bomb"),
        ("E", "an error"),
        ("U", "a topic that was not granted"),
        ("R", "set aside by the plugin itself"),
    ];
    let routing = "[[routing.rules]]\npattern = 'in/#'\ntopic = 'in'\nkey = 'one'\n";
    let mut node = Node::start_with(routing);
    node.deploy(&hostile(), &hostile_manifest("in")).ok();
    let mut client = Client::simple(node.mqtt, Version::V5, "source");
    let mut sent = Vec::new();
    for (poison, _) in POISON {
        for value in [format!("before {poison}"), format!("{poison} itself"), format!("x after {poison}")] {
            assert_eq!(client.publish(&Message::new("in/x", &value).qos(1)), 0);
            sent.push(value);
        }
    }
    let is_poison = |value: &str| POISON.iter().any(|(poison, _)| value.starts_with(poison));
    let harmless: Vec<&String> = sent.iter().filter(|value| !is_poison(value)).collect();
    let out = node.events_when("out", harmless.len());
    assert_eq!(out.iter().map(Event::text).collect::<Vec<_>>(), harmless.into_iter().cloned().collect::<Vec<_>>());

    let letters = node.events_when("_dead_letters", POISON.len());
    assert_eq!(letters.len(), POISON.len());
    let source = node.events("in");
    for (letter, (poison, what)) in letters.iter().zip(POISON) {
        let poisoned = source.iter().find(|e| e.text().starts_with(poison)).unwrap();
        let headers = &letter.0["headers"];
        assert_eq!(letter.text(), poisoned.text());
        assert_eq!((&headers["dead.plugin"], &headers["dead.topic"]), (&"hostile".into(), &"in".into()), "{what}");
        assert_eq!(headers["dead.offset"], poisoned.offset().to_string(), "{what}");
        assert!(headers["dead.error"].as_str().is_some_and(|reason| !reason.is_empty()), "{what}");
    }
    assert!(node.is_healthy());
    assert!(node.log().contains("hostile"), "the node's log names the plugin");

    // Nothing of it happens again after a crash.
    node.kill();
    node.run();
    assert_eq!(node.events("out"), out);
    assert_eq!(node.events("_dead_letters"), letters);
}

#[test]
fn what_a_plugin_had_not_read_is_read_once_in_a_new_life_of_the_store() {
    const SLOW: usize = 15;
    let mut node = Node::start_with("[[routing.rules]]\npattern = 'in/#'\ntopic = 'in'\nkey = 'one'\n");
    node.cli(&["topic", "create", "loose", "--durability", "memory", "--partitions", "1"]).ok();
    node.deploy(&hostile(), &hostile_manifest("in")).ok();
    let mut sent = Vec::new();
    for life in 1..=2 {
        let mut client = Client::simple(node.mqtt, Version::V5, "source");
        let mut publish = |value: &str| assert_eq!(client.publish(&Message::new("in/x", value).qos(1)), 0);
        // It takes seconds for these, so that it has not read what follows.
        (0..SLOW).for_each(|_| publish("Loop"));
        for number in 0..10 {
            sent.push(format!("x{life}-{number}"));
            publish(&sent[sent.len() - 1]);
        }
        node.kill();
        node.run();
        assert_eq!(node.log().matches("a new life begins").count(), life);
    }
    // Those of two lives are told in no order.
    let sorted = |events: Vec<Event>| {
        let mut values: Vec<String> = events.iter().map(Event::text).collect();
        values.sort_unstable();
        values
    };
    sent.sort_unstable();
    assert_eq!(sorted(node.events_when("out", sent.len())), sent);
    assert_eq!(node.events_when("_dead_letters", 2 * SLOW).len(), 2 * SLOW, "each is set aside once");
    node.kill();
    node.run();
    assert_eq!(sorted(node.events("out")), sent, "nothing is read again");
}

#[test]
fn a_slow_plugin_delays_nobody() {
    let node = Node::start_with("[[routing.rules]]\npattern = 'in/#'\ntopic = 'in'\nkey = 'one'\n");
    node.deploy(&hostile(), &hostile_manifest("in")).ok();
    let mut client = Client::simple(node.mqtt, Version::V5, "source");
    for _ in 0..20 {
        assert_eq!(client.publish(&Message::new("in/x", "Loop").qos(1)), 0);
    }
    // While the plugin is stopped twenty times over, others are served.
    let mut subscriber = Client::simple(node.mqtt, Version::V5, "other");
    subscriber.subscribe("other/#", 1);
    for number in 0..50 {
        let text = number.to_string();
        assert_eq!(client.publish(&Message::new("other/x", &text).qos(1)), 0);
        assert_eq!(subscriber.message().text(), text);
    }
    assert_eq!(node.events_when("_dead_letters", 20).len(), 20);
}

#[test]
fn a_removed_plugin_is_gone_and_may_come_again() {
    let node = Node::start_with("[[routing.rules]]\npattern = 'in/#'\ntopic = 'in'\nkey = 'one'\n");
    node.deploy(&hostile(), &hostile_manifest("in")).ok();
    let mut client = Client::simple(node.mqtt, Version::V3, "source");
    client.publish(&Message::new("in/x", "a").qos(1));
    node.events_when("out", 1);
    node.call("DELETE", "plugins/hostile", None).ok();
    assert_eq!(node.call("DELETE", "plugins/hostile", None).status, 404, "there is none");
    client.publish(&Message::new("in/x", "b").qos(1));
    assert_eq!(node.events("out").len(), 1);
    node.deploy(&hostile(), &hostile_manifest("in")).ok();
    let values: Vec<String> = node.events_when("out", 2).iter().map(Event::text).collect();
    assert!(values.ends_with(&["b".to_owned()]), "{values:?}");
}
