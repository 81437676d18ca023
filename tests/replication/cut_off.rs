//! A node that no other reaches for a while: it goes on, is known to be behind, and catches up by itself.

use std::time::Duration;

use devices::fleet::relay::{LineConfig, Relay};
use serde_json::Value;

use super::load::{Load, check, make_topics};
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::{ROUTING, Site, free_port};
use crate::harness::wait;

/// Between two looks of a publisher: the relays have a processor too.
const PAUSE: Duration = Duration::from_millis(20);

/// A site in which each node is reached through a relay of its own.
pub(super) fn relayed(runtime: &tokio::runtime::Runtime, count: usize) -> (Site, Vec<Relay>) {
    let (mut site, mut relays) = (None, Vec::new());
    for _ in 0..count {
        let port = free_port();
        let node = format!("127.0.0.1:{port}").parse().unwrap();
        let relay = runtime.block_on(Relay::start(node, LineConfig::default(), 1)).unwrap();
        let address = relay.address().to_string();
        match &mut site {
            None => site = Some(Site::found_at(ROUTING, port, &address)),
            Some(site) => drop(site.join_at(port, &address)),
        }
        relays.push(relay);
    }
    let site = site.unwrap();
    site.wait_level();
    (site, relays)
}

/// The node that all others dial: the one with the greatest id, whose relay carries all that it hears.
pub(super) fn dialled_by_all(site: &Site) -> usize {
    let id = |place: &usize| site.status(*place)["node"].as_str().unwrap().to_owned();
    (0..site.members.len()).max_by_key(id).unwrap()
}

#[test]
fn one_that_is_cut_off_goes_on_and_catches_up() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (site, relays) = relayed(&runtime, 3);
    make_topics(&site);
    let cut = dialled_by_all(&site);
    let (near, name) = ((cut + 1) % 3, site.members[cut].name.clone());
    let mut records = Vec::new();

    let load = Load::start_paced(&site, "before", PAUSE);
    load.wait(200);
    relays[cut].cut(true);
    wait::until_true("it is not heard", || site.seen(near, &name)["connected"] == false);
    wait::until_true("it hears nobody", || site.status(cut)["quorum"]["in_reach"] == false);
    records.extend(load.stop());

    let load = Load::start_paced(&site, "cut", PAUSE);
    let mut alone = Client::simple(site[cut].mqtt, Version::V5, "alone");
    for number in 0..50 {
        assert_eq!(alone.publish(&Message::new("plain/alone", number.to_string()).qos(1)), 0);
    }
    assert_eq!(alone.publish(&Message::new("vital/alone", "refused").qos(1)), 0x97);
    load.wait(200);
    records.extend(load.stop());
    behind_and_told(&site, near, &name);
    behind_and_told(&site, cut, &site.members[near].name);

    relays[cut].cut(false);
    for (place, other) in [(near, &name), (cut, &site.members[near].name)] {
        wait::until_true(&format!("{other} has all of {}", site.members[place].name), || {
            let follower = site.follower(place, other);
            follower["connected"] == true && LAGS.iter().all(|lag| follower[*lag] == 0)
        });
    }
    site.wait_level();
    records.push(crate::harness::mqtt::publisher::Record { topic: "plain/alone".to_owned(), sent: 50, acked: 50 });
    check(&site, &records);
    assert!(site.troubles(near).is_empty() && site.troubles(cut).is_empty(), "nothing is wrong with it");
}

const LAGS: [&str; 4] = ["lag_commits", "lag_events", "lag_bytes", "lag_ms"];

/// Programs and people are told how far a node is behind.
fn behind_and_told(site: &Site, place: usize, name: &str) {
    // The stream itself is given up a little later than the node.
    wait::until_true("the stream is closed", || site.follower(place, name)["connected"] == false);
    let follower = site.follower(place, name);
    let lags = LAGS.map(|lag| follower[lag].as_u64().unwrap_or(0));
    assert!(lags.iter().all(|lag| *lag > 0), "{name} is behind: {follower}");
    assert!(lags[1] >= 50 && lags[2] > lags[1], "events have bytes: {follower}");
    let told = site[place].cli(&["--json", "node", "status"]).ok().json();
    let origins = told["origins"].as_array().unwrap();
    let followers =
        origins.iter().filter(|origin| origin["own"] == true).flat_map(|o| o["followers"].as_array().unwrap());
    let same: Vec<&Value> = followers.filter(|follower| follower["node"] == name).collect();
    assert_eq!(same.len(), 1, "{told}");
    assert!(same[0]["lag_ms"].as_u64() >= follower["lag_ms"].as_u64(), "{same:?}");
    let shown = site[place].cli(&["node", "status"]).ok().out;
    let line = shown.lines().find(|line| line.trim_start().starts_with(name) && line.contains("closed"));
    assert!(line.is_some(), "{shown}");
    let metrics = crate::harness::http::get(site[place].http, "/metrics", None).unwrap().body;
    let lag = format!("edgeway_site_follower_lag_events{{node=\"{name}\"}}");
    let lag = metrics.lines().find_map(|line| line.strip_prefix(lag.as_str())).expect("the lag is a metric");
    assert!(lag.trim().parse::<f64>().unwrap() >= 50.0, "{lag}");
}
