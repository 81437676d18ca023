//! What a plugin does on a gateway that lives and is cut off: it goes on, or pauses, as people want; each event counts once.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use super::cut_off::{dialled_by_all, relayed};
use crate::harness::components::{hostile, hostile_manifest};
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// Events that are published at a node that is cut off.
const EVENTS: usize = 40;
/// From the silence (three seconds) to the pause.
const PAUSED_WITHIN: Duration = Duration::from_secs(20);

fn state(site: &Site, place: usize) -> String {
    let plugins = site[place].plugins();
    let found = plugins.iter().find(|plugin| plugin["name"] == "hostile");
    found.and_then(|plugin| plugin["state"].as_str()).unwrap_or_default().to_owned()
}

fn publish(client: &mut Client, from: usize) -> Vec<String> {
    let values: Vec<String> = (from..from + EVENTS).map(|number| format!("x{number}")).collect();
    for value in &values {
        assert_eq!(client.publish(&Message::new("plain/a", value).qos(1)), 0);
    }
    values
}

/// What was derived, as a node's log has it.
fn derived(site: &Site, place: usize) -> Vec<String> {
    let mut values: Vec<String> = site[place].readable_events("out").iter().map(|event| event.text()).collect();
    values.sort_unstable();
    values
}

/// Waits until every node shows all that was to be derived, by no life twice. The log has what two lives derived where one had taken
/// over from the other: of these, readers count what is of the newer term (`plugin_host::overridden`).
fn counted(site: &Site, expected: &[String]) {
    let expected: BTreeSet<&str> = expected.iter().map(String::as_str).collect();
    for place in site.running() {
        let name = &site.members[place].name;
        wait::until_true(&format!("all is derived, as {name} shows it"), || {
            let derived = derived(site, place);
            derived.iter().map(String::as_str).collect::<BTreeSet<_>>() == expected
        });
    }
    site.wait_level();
    for place in site.running() {
        let mut seen = BTreeSet::new();
        for event in site[place].readable_events("out") {
            let (life, text) = (event.0["origin"].to_string(), event.text());
            assert!(expected.contains(text.as_str()), "{text} was not to be derived");
            assert!(seen.insert((life.clone(), text.clone())), "{text} was derived twice by the life {life}");
        }
    }
}

/// No event was derived by two lives: who paused did not read what another one read for it.
fn derived_once(site: &Site, values: &[String]) {
    for place in site.running() {
        let derived = derived(site, place);
        for value in values {
            let count = derived.iter().filter(|text| *text == value).count();
            assert_eq!(count, 1, "{value} at {}", site.members[place].name);
        }
    }
}

/// The places by id: of two nodes the one with the smaller id dials, so the relay of the second carries what the first two say to each other, and
/// nothing else.
fn by_id(site: &Site) -> [usize; 3] {
    let mut places = [0, 1, 2];
    places.sort_by_key(|place| site.status(*place)["node"].as_str().unwrap().to_owned());
    places
}

/// Who leads, as all say.
fn leader(site: &Site) -> usize {
    wait::until("all know who leads", || {
        let known: BTreeSet<String> = site
            .running()
            .filter_map(|place| Some(site.status(place)["catalog"]["leader"].as_str()?.to_owned()))
            .collect();
        let place = site.running().find(|place| known.contains(&site.members[*place].name));
        place.filter(|_| known.len() == 1)
    })
}

fn set_policy(site: &Site, policy: &str) {
    site[0].cli(&["node", "policy", policy]).ok();
    for place in site.running() {
        wait::until_true("the policy is known", || site.status(place)["lease"] == policy);
    }
}

#[test]
fn one_that_is_cut_off_goes_on_or_pauses() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (site, relays) = relayed(&runtime, 3);
    site.create_topic(0, "plain", "sync");
    let cut = dialled_by_all(&site);
    let near = (cut + 1) % 3;
    let name = site.members[cut].name.clone();
    site[near].deploy(&hostile(), &hostile_manifest("plain")).ok();
    for place in 0..3 {
        wait::until_true("the plugin runs", || state(&site, place) == "running");
    }
    let mut client = Client::simple(site[cut].mqtt, Version::V5, "client");
    let mut all = publish(&mut client, 0);
    counted(&site, &all);

    for policy in ["run", "pause"] {
        set_policy(&site, policy);
        let cut_at = Instant::now();
        relays[cut].cut(true);
        wait::until_true("it is not heard", || site.seen(near, &name)["connected"] == false);
        wait::until_true("it hears nobody", || site.status(cut)["quorum"]["in_reach"] == false);
        if policy == "pause" {
            wait::until_true("it pauses", || state(&site, cut) == "paused");
            assert!(cut_at.elapsed() < PAUSED_WITHIN, "it paused after {:?}", cut_at.elapsed());
        }
        let before = derived(&site, cut);
        let new = publish(&mut client, all.len());
        all.extend(new);
        if policy == "run" {
            wait::until_true("it goes on", || derived(&site, cut).len() >= all.len());
        } else {
            // As long as a round of another topic's reader takes: the events are there to be read, and are not.
            site[cut].events_when("plain", all.len());
            assert_eq!(derived(&site, cut), before, "nothing is derived while it pauses");
            assert_eq!(state(&site, cut), "paused");
        }
        relays[cut].cut(false);
        wait::until_true("it is heard", || site.seen(near, &name)["connected"] == true);
        wait::until_true("it runs", || state(&site, cut) == "running");
        counted(&site, &all);
        if policy == "pause" {
            derived_once(&site, &all[all.len() - EVENTS..]);
        }
    }
}

#[test]
fn one_that_is_cut_off_from_the_leader_alone_pauses() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut site, relays) = relayed(&runtime, 3);
    site.create_topic(0, "plain", "sync");
    let [least, middle, third] = by_id(&site);
    if leader(&site) == third {
        site.members[third].node.stop();
        leader(&site);
        site.run(&[third]);
        site.wait_level();
    }
    let leads = leader(&site);
    assert_ne!(leads, third, "it was followed by another one");
    let cut = if leads == least { middle } else { least };
    site[third].deploy(&hostile(), &hostile_manifest("plain")).ok();
    set_policy(&site, "pause");
    for place in 0..3 {
        wait::until_true("the plugin runs", || state(&site, place) == "running");
    }
    let mut client = Client::simple(site[cut].mqtt, Version::V5, "client");
    let mut all = publish(&mut client, 0);
    counted(&site, &all);

    let name = site.members[cut].name.clone();
    relays[middle].cut(true);
    wait::until_true("the leader does not hear it", || site.seen(leads, &name)["connected"] == false);
    wait::until_true("it pauses", || state(&site, cut) == "paused");
    assert_eq!(site.seen(third, &name)["connected"], true, "the third one hears both");
    let new = publish(&mut client, all.len());
    all.extend(new);
    // Its log comes to the others by the third one, and one of them reads on.
    wait::until_true("another one reads for it", || derived(&site, third).len() >= all.len());
    assert_eq!(state(&site, cut), "paused");

    relays[middle].cut(false);
    wait::until_true("the leader hears it", || site.seen(leads, &name)["connected"] == true);
    wait::until_true("it runs", || state(&site, cut) == "running");
    let new = publish(&mut client, all.len());
    all.extend(new);
    counted(&site, &all);
    derived_once(&site, &all);
}
