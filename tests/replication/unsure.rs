//! What is not known to have happened: a node that is taken out and does not hear it, and one that joins and does not hear that it has.

use std::time::Duration;

use devices::fleet::relay::{LineConfig, Relay};
use serde_json::Value;

use super::cut_off::{dialled_by_all, relayed};
use super::load::{check, make_topics};
use crate::harness::http::Answer;
use crate::harness::mqtt::publisher::Record;
use crate::harness::mqtt::{Client, Connect, Message, Version};
use crate::harness::node::Node;
use crate::harness::site::{Site, free_port, join};
use crate::harness::wait;

/// The time from one node to another: what is decided is heard of so much later.
const DELAY: Duration = Duration::from_millis(200);
/// How long a node may take to end when it has left.
const END_MAX: Duration = Duration::from_secs(60);
/// How often it is tried to cut the line between the decision and the word of it.
const TRIES: usize = 5;
/// Events that it has acknowledged.
const EVENTS: u64 = 20;

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

fn leader(site: &Site, place: usize) -> Option<String> {
    site.status(place)["catalog"]["leader"].as_str().map(str::to_owned)
}

/// Three nodes, and one of them whose way to all others one relay is, and which does not lead.
fn site_whose_node_may_be_cut(runtime: &tokio::runtime::Runtime) -> (Site, Vec<Relay>, usize) {
    let (mut site, relays) = relayed(runtime, 3);
    make_topics(&site);
    let cut = dialled_by_all(&site);
    let (near, name) = ((cut + 1) % 3, site.members[cut].name.clone());
    if leader(&site, near).as_ref() == Some(&name) {
        site.kill(&[cut]);
        wait::until_true("another one leads", || leader(&site, near).is_some_and(|leader| leader != name));
        site.run(&[cut]);
    }
    site.wait_level();
    (site, relays, cut)
}

/// Has a node leave, and cuts its line when others say that it is out; what it answers.
fn leave_and_hear_nothing(site: &Site, relay: &Relay, cut: usize) -> Answer {
    let (near, name) = ((cut + 1) % 3, site.members[cut].name.clone());
    relay.set(LineConfig { delay: DELAY, ..LineConfig::default() });
    std::thread::scope(|scope| {
        let leave = scope.spawn(|| site[cut].call("POST", "site/leave", None));
        wait::until_true("it is taken out", || leave.is_finished() || site.seen(near, &name) == Value::Null);
        relay.cut(true);
        leave.join().unwrap()
    })
}

#[test]
fn a_node_that_does_not_hear_that_it_is_out_keeps_its_doors_closed() {
    let runtime = runtime();
    for attempt in 1..=TRIES {
        let (mut site, relays, cut) = site_whose_node_may_be_cut(&runtime);
        let mut guest = Client::simple(site[cut].mqtt, Version::V5, "guest");
        for number in 0..EVENTS {
            assert_eq!(guest.publish(&Message::new("plain/guest", number.to_string()).qos(1)), 0);
        }
        site.wait_level();
        let told = leave_and_hear_nothing(&site, &relays[cut], cut);
        if told.status == 200 {
            // It heard it in time: the machine is busy.
            assert!(attempt < TRIES, "the line was never cut in time");
            continue;
        }
        assert_eq!((told.status, &told.json()["error"]["code"]), (503, &"unknown-outcome".into()), "{told:?}");
        assert_eq!(guest.closed(), Some(0x9d), "its clients were sent away");
        let late = Client::try_connect(site[cut].mqtt, &Connect::new(Version::V5, "late"));
        assert!(late.is_err(), "it may be out: what it took would go with it");
        let made = ["topic", "create", "late", "--durability", "sync", "--partitions", "1"];
        assert!(site[cut].cli(&made).code != 0, "nor does it take a change");
        // It hears it now, and ends.
        relays[cut].set(LineConfig::default());
        relays[cut].cut(false);
        assert!(site.members[cut].node.wait_end(END_MAX).success());
        site.members.remove(cut);
        let records = [Record { topic: "plain/guest".to_owned(), sent: EVENTS, acked: EVENTS }];
        check(&site, &records);
        return;
    }
}

#[test]
fn a_node_that_did_not_hear_that_it_has_joined_asks_again_and_no_other_may() {
    let runtime = runtime();
    let port = free_port();
    let node = format!("127.0.0.1:{port}").parse().unwrap();
    let relay = runtime.block_on(Relay::start(node, LineConfig::default(), 1)).unwrap();
    let site = Site::found_at("", port, &relay.address().to_string());
    let token = site.token();
    relay.set(LineConfig { delay: DELAY, ..LineConfig::default() });
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let address = format!("127.0.0.1:{}", free_port());
    let unheard = std::thread::scope(|scope| {
        let joins = scope.spawn(|| join(&data, &token, "second", &address));
        // The answer is on its way.
        wait::until_true("it is let in", || site.seen(0, "second") != Value::Null);
        relay.cut(true);
        joins.join().unwrap()
    });
    assert_eq!(unheard.code, 3, "it was not told: {unheard:?}");
    assert!(!data.join("site").exists(), "it has no place yet");
    let id = site.seen(0, "second")["node"].clone();
    relay.set(LineConfig::default());
    relay.cut(false);

    let other = tempfile::tempdir().unwrap();
    for name in ["third", "second"] {
        let refused = join(&other.path().join("data"), &token, name, &address);
        assert!(refused.code == 1 && refused.err.contains("used"), "another node may not: {refused:?}");
    }
    let joined = join(&data, &token, "second", &address).ok();
    assert!(joined.out.contains(id.as_str().unwrap()), "the same node: {joined:?}");
    assert_eq!(site.status(0)["nodes"].as_array().unwrap().len(), 2);
    // And it is one: it starts and is heard.
    let mut second = Node::prepare(folder, data, "", &["--site-listen", &address, "--site-address", &address]);
    second.run();
    wait::until_true("it is heard", || site.seen(0, "second")["connected"] == true);
    second.stop();
}
