//! Nodes leave or are taken out under load: all that they acknowledged is on those that stay.

use std::time::Duration;

use devices::fleet::relay::LineConfig;

use super::cut_off::{dialled_by_all, relayed};
use super::load::{Load, check, make_topics, sorted};
use crate::harness::mqtt::publisher::Record;
use crate::harness::mqtt::{Client, Connect, Message, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// How long a node may take to end when it has left.
const END_MAX: Duration = Duration::from_secs(30);
/// The time from one node to another.
const DELAY: Duration = Duration::from_millis(100);
/// Three nodes share the processors with those who publish.
const PAUSE: Duration = Duration::from_millis(20);
/// How long people ask again: each try closes the doors for up to ten seconds, and the load comes back in between.
const CHANGE_MAX: Duration = Duration::from_secs(180);

/// Events of a log that takes long over a thin line.
const EVENTS: u64 = 80;

/// Of what it makes nothing can be packed.
struct Noise(u64);

impl Noise {
    /// A payload of 96,000 bytes.
    fn payload(&mut self) -> Vec<u8> {
        let mut next = || {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            self.0.to_be_bytes()
        };
        (0..12_000).flat_map(|_| next()).collect()
    }
}

/// Waits until those that stay list each other alone.
fn wait_listed(site: &Site, count: usize) {
    for place in 0..count {
        wait::until_true("those that stay are listed", || {
            site.status(place)["nodes"].as_array().unwrap().len() == count
        });
    }
}

/// Has the site changed by the command line. Where three nodes and their load share the processors, a majority or those who follow
/// may be silent for a moment: then it is asked again, as people would.
fn change(site: &Site, place: usize, args: &[&str]) {
    wait::until_within(CHANGE_MAX, "the site is changed", || {
        let done = site[place].cli(args);
        let is_silence = ["no majority", "try again"].iter().any(|why| done.err.contains(why));
        assert!(done.code == 0 || is_silence, "{done:?}");
        (done.code == 0).then_some(())
    });
}

#[test]
fn what_a_node_acknowledged_stays_when_it_leaves_under_load() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut site, relays) = relayed(&runtime, 3);
    make_topics(&site);
    site.wait_level();
    // What is acknowledged last is on no other node for a while.
    relays.iter().for_each(|relay| relay.set(LineConfig { delay: DELAY, ..LineConfig::default() }));
    let mut guest = Client::simple(site[2].mqtt, Version::V5, "guest");
    let load = Load::start_paced(&site, "leaves", PAUSE);
    load.wait(500);
    // Its own publishers go on until it sends them away.
    change(&site, 2, &["node", "leave"]);
    assert!(site.members[2].node.wait_end(END_MAX).success());
    load.wait(100);
    let mut records = load.stop();
    site.members.pop();
    wait_listed(&site, 2);
    site.wait_level();
    check(&site, &records);
    assert_eq!(guest.closed(), Some(0x9d), "the server has moved");

    // The same where another node takes it out while it lives.
    let joined = site.join();
    site.wait_level();
    let name = site.members[joined].name.clone();
    let load = Load::start_paced(&site, "removed", PAUSE);
    load.wait(500);
    change(&site, 0, &["node", "remove", &name]);
    assert!(site.members[joined].node.wait_end(END_MAX).success(), "it ends when it was taken out");
    load.wait(100);
    records.extend(load.stop());
    site.members.pop();
    wait_listed(&site, 2);
    site.wait_level();
    check(&site, &records);
    let acked: u64 = records.iter().map(|record| record.acked).sum();
    assert!(acked > 1_000, "hardly anything was acknowledged: {acked}");
}

#[test]
fn a_node_that_nobody_follows_does_not_leave_and_goes_on() {
    let mut site = Site::of(2);
    make_topics(&site);
    site.kill(&[1]);
    wait::until_true("nobody follows", || site.follower(0, "n2")["connected"] == false);
    let refused = site[0].cli(&["node", "leave"]);
    assert_eq!(refused.code, 1, "{refused:?}");
    assert!(refused.err.contains("would go with it"), "{refused:?}");
    // It takes clients as before.
    let mut client = Client::simple(site[0].mqtt, Version::V5, "client");
    assert_eq!(client.publish(&Message::new("plain/a", "on").qos(1)), 0);
}

#[test]
fn a_node_whose_followers_lack_something_stays_and_goes_on() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (site, relays) = relayed(&runtime, 2);
    make_topics(&site);
    site.wait_level();
    let mut guest = Client::simple(site[0].mqtt, Version::V5, "guest");
    let publish = |client: &mut Client, from: u64, to: u64| {
        for number in from..to {
            assert_eq!(client.publish(&Message::new("plain/guest", number.to_string()).qos(1)), 0);
        }
    };
    publish(&mut guest, 0, 10);
    relays.iter().for_each(|relay| relay.cut(true));
    publish(&mut guest, 10, 30);
    // The silence is not noticed yet: the follower counts as there, and does not get the last events.
    let refused = site[0].cli(&["node", "leave"]);
    assert!(refused.code == 1 && refused.err.contains("would go with it"), "{refused:?}");
    assert_eq!(guest.closed(), Some(0x9d), "its clients were sent away");
    let mut back = Client::simple(site[0].mqtt, Version::V5, "guest");
    publish(&mut back, 30, 40);
    relays.iter().for_each(|relay| relay.cut(false));
    wait::until_true("it is followed", || site.follower(0, "n2")["connected"] == true);
    site.wait_level();
    check(&site, &[Record { topic: "plain/guest".to_owned(), sent: 40, acked: 40 }]);
    site[0].cli(&["node", "leave"]).ok();
}

#[test]
fn a_node_that_leaves_first_hands_on_what_it_alone_has_of_one_that_was_lost() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut site, relays) = relayed(&runtime, 3);
    make_topics(&site);
    let behind = dialled_by_all(&site);
    let (lost, leaves) = ((behind + 1) % 3, (behind + 2) % 3);
    relays[behind].cut(true);
    wait::until_true("it is not heard", || site.seen(lost, &site.members[behind].name)["connected"] == false);
    let mut guest = Client::simple(site[lost].mqtt, Version::V5, "guest");
    let mut noise = Noise(7);
    for _ in 0..EVENTS {
        assert_eq!(guest.publish(&Message::new("vital/guest", noise.payload()).qos(1)), 0);
    }
    site.kill(&[lost]);
    // The one that was behind gets what it lacks from the one that leaves, by a line on which that takes some ten seconds.
    relays[behind].set(LineConfig { bytes_per_s: Some(800_000), queue_bytes_max: 200_000, ..LineConfig::default() });
    relays[behind].cut(false);
    let name = site.members[lost].name.clone();
    change(&site, leaves, &["node", "remove", &name]);
    let node = &site[leaves];
    wait::until_within(CHANGE_MAX, "it leaves", || (node.cli(&["node", "leave"]).code == 0).then_some(()));
    assert!(site.members[leaves].node.wait_end(END_MAX).success());
    wait::until_true("it is listed alone", || site.status(behind)["nodes"].as_array().unwrap().len() == 1);
    assert_eq!(
        sorted(&site, behind, "vital").len() as u64,
        EVENTS,
        "all that was acknowledged is with the one that stays"
    );
}

#[test]
fn a_node_that_was_killed_twice_while_it_was_cut_off_hands_on_all_when_it_leaves() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut site, relays) = relayed(&runtime, 2);
    make_topics(&site);
    // With events of a `memory` topic, a node that was killed begins a new life.
    site.create_topic(0, "loose", "memory");
    site.wait_level();
    let (stays, leaves) = (0, 1);
    relays.iter().for_each(|relay| relay.cut(true));
    for life in 0..2 {
        let mut guest = Client::simple(site[leaves].mqtt, Version::V5, "guest");
        for number in 0..10 {
            let payload = format!("{life} {number}");
            assert_eq!(guest.publish(&Message::new("plain/guest", payload).qos(1)), 0);
        }
        site.kill(&[leaves]);
        site.run(&[leaves]);
    }
    relays.iter().for_each(|relay| relay.cut(false));
    change(&site, leaves, &["node", "leave"]);
    assert!(site.members[leaves].node.wait_end(END_MAX).success());
    let events = sorted(&site, stays, "plain");
    assert_eq!(events.len(), 20, "all that was acknowledged in both lives is with the one that stays: {events:?}");
}

#[test]
fn a_node_that_was_taken_out_while_it_was_cut_off_takes_nothing_any_more() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (site, relays) = relayed(&runtime, 3);
    make_topics(&site);
    let cut = dialled_by_all(&site);
    let (near, name) = ((cut + 1) % 3, site.members[cut].name.clone());
    let mut guest = Client::simple(site[cut].mqtt, Version::V5, "guest");
    relays[cut].cut(true);
    wait::until_true("it is not heard", || site.seen(near, &name)["connected"] == false);
    change(&site, near, &["node", "remove", &name]);
    assert_eq!(guest.publish(&Message::new("plain/guest", "it does not know").qos(1)), 0);
    relays[cut].cut(false);
    // It hears of it from its catalog, or from one that refuses it.
    let connect = || Client::try_connect(site[cut].mqtt, &Connect::new(Version::V5, "late"));
    wait::until_true("it takes no client", || connect().is_err());
    assert_eq!(guest.closed(), Some(0x9d), "its clients are sent away");
    let made = ["topic", "create", "late", "--durability", "sync", "--partitions", "1"];
    wait::until_true("it takes nothing more", || site[cut].cli(&made).code != 0);
}

#[test]
fn a_node_that_is_taken_out_while_it_leaves_takes_nothing_any_more() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (site, relays) = relayed(&runtime, 3);
    make_topics(&site);
    let cut = dialled_by_all(&site);
    let (near, name) = ((cut + 1) % 3, site.members[cut].name.clone());
    relays[cut].cut(true);
    std::thread::scope(|scope| {
        // It waits for those that do not hear it; when that comes to nothing, it is out.
        let leave = scope.spawn(|| site[cut].cli(&["node", "leave"]));
        wait::until_true("it is not heard", || site.seen(near, &name)["connected"] == false);
        change(&site, near, &["node", "remove", &name]);
        relays[cut].cut(false);
        let left = leave.join().unwrap();
        assert!(left.code == 1, "{left:?}");
    });
    // It hears of it from its catalog, or from one that refuses it; once it has, that it had begun to leave changes nothing.
    let connect = || Client::try_connect(site[cut].mqtt, &Connect::new(Version::V5, "late"));
    wait::until_true("it takes no client", || connect().is_err());
    let made = ["topic", "create", "late", "--durability", "sync", "--partitions", "1"];
    assert!(site[cut].cli(&made).code != 0, "nor a change");
}

#[test]
fn a_node_leaves_when_the_other_has_what_it_wrote_before_it_was_killed() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut site, relays) = relayed(&runtime, 2);
    make_topics(&site);
    // With events of a `memory` topic, a node that was killed begins a new life.
    site.create_topic(0, "loose", "memory");
    site.wait_level();
    let (leaves, killed) = (0, 1);
    let mut guest = Client::simple(site[killed].mqtt, Version::V5, "guest");
    let mut publish = |from: u64, to: u64| {
        for number in from..to {
            assert_eq!(guest.publish(&Message::new("plain/guest", number.to_string()).qos(1)), 0);
        }
    };
    publish(0, 10);
    relays.iter().for_each(|relay| relay.cut(true));
    // What it wrote last is not with the other one.
    publish(10, 30);
    let own = |site: &Site| {
        let status = site.status(killed);
        let origins = status["origins"].as_array().unwrap();
        origins.iter().find(|origin| origin["own"] == true).unwrap()["origin"].clone()
    };
    let before = own(&site);
    site.kill(&[killed]);
    relays.iter().for_each(|relay| relay.cut(false));
    site.run(&[killed]);
    assert_ne!(own(&site), before, "it has begun a new life");
    site.wait_level();
    change(&site, leaves, &["node", "leave"]);
    assert!(site.members[leaves].node.wait_end(END_MAX).success());
    assert!(
        !site.troubles(killed).contains(&"source-forked".to_owned()),
        "the one that was behind was not taken for another"
    );
    assert_eq!(sorted(&site, killed, "plain").len(), 30);
}

#[test]
fn two_that_go_at_once_do_not_count_on_each_other() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (mut site, relays) = relayed(&runtime, 3);
    make_topics(&site);
    let stays = dialled_by_all(&site);
    let (removed, leaves) = ((stays + 1) % 3, (stays + 2) % 3);
    relays[stays].cut(true);
    let name = site.members[removed].name.clone();
    for place in [removed, leaves] {
        let is_heard = |site: &Site| site.seen(place, &site.members[stays].name)["connected"] == true;
        wait::until_true("it is not heard", || !is_heard(&site));
    }
    let mut noise = Noise(7);
    for place in [removed, leaves] {
        let mut guest = Client::simple(site[place].mqtt, Version::V5, &format!("guest-{place}"));
        for _ in 0..EVENTS {
            assert_eq!(guest.publish(&Message::new("vital/guest", noise.payload()).qos(1)), 0);
        }
    }
    // What they have acknowledged takes longer to the one that stays than anybody waits.
    relays[stays].set(LineConfig { bytes_per_s: Some(500_000), queue_bytes_max: 125_000, ..LineConfig::default() });
    relays[stays].cut(false);
    wait::until_true("it is heard", || site.seen(stays, &name)["connected"] == true);
    std::thread::scope(|scope| {
        let removing = scope.spawn(|| change(&site, stays, &["node", "remove", &name]));
        wait::until_true("it is known that it goes", || {
            assert!(!removing.is_finished(), "it has gone, and nobody knew before");
            site.seen(leaves, &name)["state"] == "leaving"
        });
        let refused = site[leaves].cli(&["node", "leave"]);
        assert!(refused.code == 1 && refused.err.contains("would go with it"), "{refused:?}");
        removing.join().unwrap();
    });
    assert!(site.members[removed].node.wait_end(END_MAX).success());
    relays[stays].set(LineConfig::default());
    wait::until_true("the others are alone", || site.status(stays)["nodes"].as_array().unwrap().len() == 2);
    wait::until_within(CHANGE_MAX, "it leaves", || (site[leaves].cli(&["node", "leave"]).code == 0).then_some(()));
    assert!(site.members[leaves].node.wait_end(END_MAX).success());
    assert_eq!(
        sorted(&site, stays, "vital").len() as u64,
        2 * EVENTS,
        "all that was acknowledged is with the one that stays"
    );
}
