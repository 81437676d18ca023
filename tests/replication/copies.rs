//! What is published at any node is at every node, and when it is acknowledged.

use serde_json::json;

use super::load::{TOPICS, make_topics, sorted};
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// Events of each topic at each node.
const EVENTS: usize = 120;

fn publish(site: &Site, place: usize, topic: &str, payload: &str) -> u8 {
    let name = format!("{}-{topic}-{payload}", site.members[place].name);
    Client::simple(site[place].mqtt, Version::V5, &name).publish(&Message::new(&format!("{topic}/one"), payload).qos(1))
}

#[test]
fn what_is_published_at_one_is_at_all_and_a_quorum_is_asked_for() {
    let mut site = Site::of(3);
    make_topics(&site);
    for (place, member) in site.members.iter().enumerate() {
        let mut client = Client::simple(site[place].mqtt, Version::V5, &member.name);
        for topic in TOPICS {
            let message =
                |number: usize| Message::new(&format!("{topic}/{}/{}", member.name, number % 7), number.to_string());
            client.publish_all(&(0..EVENTS).map(message).collect::<Vec<_>>());
        }
    }
    site.wait_level();
    for topic in TOPICS {
        let at_first = sorted(&site, 0, topic);
        assert_eq!(at_first.len(), 3 * EVENTS, "{topic}");
        for member in &site.members {
            let of_node = at_first.iter().filter(|line| line["key"].as_str().unwrap().contains(&member.name));
            let mut numbers: Vec<usize> =
                of_node.map(|line| line["value"].as_str().unwrap().parse().unwrap()).collect();
            numbers.sort_unstable();
            assert_eq!(numbers, (0..EVENTS).collect::<Vec<_>>(), "{topic} of {}: each once", member.name);
        }
        for place in 1..3 {
            assert_eq!(sorted(&site, place, topic), at_first, "{topic} at node {place}");
        }
    }
    // A person sees the same, and may ask for one partition; what was asked of the others goes on to be told.
    let shown = site[2].cli(&["tail", "plain", "--json"]).ok();
    assert_eq!(shown.lines().len(), 3 * EVENTS);
    two_of_three_are_dead(&mut site);
    one_that_starts_takes_the_first_message(&mut site);
}

/// A client of MQTT 5 does not send again what was refused.
fn one_that_starts_takes_the_first_message(site: &mut Site) {
    for round in 0..3 {
        site.kill(&[0]);
        site.run(&[0]);
        assert_eq!(publish(site, 0, "vital", &format!("first-{round}")), 0);
    }
}

fn two_of_three_are_dead(site: &mut Site) {
    site.kill(&[1, 2]);
    assert_eq!(publish(site, 0, "plain", "alone"), 0, "its own disk is enough");
    wait::until_true("the quorum is out of reach", || site.status(0)["quorum"]["in_reach"] == false);
    assert_eq!(publish(site, 0, "vital", "refused"), 0x97);
    let event = json!({"events": [{"key": "k", "value": "refused"}]});
    let refused = site[0].call("POST", "topics/vital/events", Some(&event));
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("no_quorum")), "{refused:?}");
    assert_eq!(publish(site, 0, "plain", "still"), 0);
    let told = site[0].cli(&["node", "status"]).ok();
    assert!(told.out.contains("OUT OF REACH"), "{}", told.out);

    site.run(&[1]);
    wait::until_true("one is back", || site.status(0)["quorum"]["in_reach"] == true);
    assert_eq!(publish(site, 0, "vital", "taken"), 0);
    site[0].call("POST", "topics/vital/events", Some(&json!({"events": [{"key": "k", "value": "taken"}]}))).ok();
    site.run(&[2]);
    site.wait_level();
    for place in 0..3 {
        let values = |topic| -> Vec<String> {
            let all = sorted(site, place, topic).into_iter();
            let mut words: Vec<String> = all.map(|line| line["value"].as_str().unwrap().to_owned()).collect();
            words.retain(|word| word.parse::<usize>().is_err());
            words.sort_unstable();
            words
        };
        assert_eq!(values("vital"), ["taken", "taken"], "nothing that was refused is stored");
        assert_eq!(values("plain"), ["alone", "still"]);
    }
}
