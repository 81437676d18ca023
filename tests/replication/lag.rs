//! Each node tells, of the log that it writes, how far every other is behind with each partition: in events exactly.

use serde_json::Value;

use super::load::make_topics;
use crate::harness::http;
use crate::harness::mqtt::{Client, Message, Version};
use crate::harness::site::Site;
use crate::harness::wait;

/// An origin as a node has it, by the name of the node that writes it.
fn origin(site: &Site, place: usize, writer: &str) -> Value {
    let status = site.status(place);
    let origins = status["origins"].as_array().unwrap();
    origins.iter().find(|origin| origin["node"] == writer).cloned().unwrap_or_default()
}

/// Of each partition of `plain`: its number, and the field of this name.
fn of_plain(found: &Value, field: &str) -> Vec<(u64, u64)> {
    let all = found["partitions"].as_array().unwrap().iter().filter(|of| of["topic"] == "plain");
    let fields = all.map(|of| (of["partition"].as_u64().unwrap(), of[field].as_u64().unwrap()));
    // Of its own topics a node has the empty partitions as well.
    fields.filter(|(_, value)| *value > 0).collect()
}

/// How far a follower is behind with the log that a node writes, as that one tells.
fn lag(site: &Site, place: usize, follower: &str) -> Value {
    site.follower(place, follower)
}

fn publish(site: &Site, place: usize, device: &str, count: usize) {
    let mut client = Client::simple(site[place].mqtt, Version::V5, device);
    let topic = format!("plain/{device}");
    let messages: Vec<Message> = (0..count).map(|number| Message::new(&topic, number.to_string())).collect();
    client.publish_all(&messages);
}

#[test]
fn a_node_that_is_away_is_behind_by_so_many_events_of_each_partition() {
    let mut site = Site::of(3);
    make_topics(&site);
    for device in ["a", "b", "c", "d"] {
        publish(&site, 0, device, 5);
    }
    site.wait_level();
    let before = of_plain(&origin(&site, 0, "n1"), "end");
    assert_eq!(before.len(), 2, "{before:?}");
    assert_eq!(before.iter().map(|(_, end)| end).sum::<u64>(), 20);
    assert_eq!(of_plain(&lag(&site, 0, "n3"), "lag_events"), []);

    site.kill(&[2]);
    wait::until_true("its stream is closed", || lag(&site, 0, "n3")["connected"] == false);
    // Each device has a partition of its own; both partitions have some.
    for (device, count) in [("a", 3), ("b", 30), ("c", 41), ("d", 7)] {
        publish(&site, 0, device, count);
    }
    publish(&site, 1, "elsewhere", 11);
    lags_are_told(&site, &before);

    // Of the other's log that one tells, and here it is known how far the copy is.
    let elsewhere = of_plain(&lag(&site, 1, "n3"), "lag_events");
    assert_eq!(elsewhere.iter().map(|(_, events)| events).sum::<u64>(), 11, "{elsewhere:?}");
    wait::until_true("the copy has all", || {
        let copy = origin(&site, 0, "n2");
        of_plain(&copy, "synced_end") == of_plain(&origin(&site, 1, "n2"), "synced_end") && copy["behind_commits"] == 0
    });
    assert_eq!(origin(&site, 0, "n2")["followers"].as_array().unwrap().len(), 0, "they follow it from its writer");

    // After a restart nothing is known of one that has not come since.
    site.kill(&[0]);
    site.run(&[0]);
    assert_eq!(
        (lag(&site, 0, "n3")["told"].clone(), lag(&site, 0, "n3")["lag_events"].clone()),
        (false.into(), 0.into())
    );
    let shown = site[0].cli(&["node", "status"]).ok().out;
    assert!(shown.contains("not heard of since this node was started"), "{shown}");

    // It has the log of one that is lost from another, which tells how far it is.
    site.kill(&[1]);
    site.run(&[2]);
    wait::until_true("it has all that was written while it was away", || {
        let follower = lag(&site, 0, "n3");
        follower["told"] == true && follower["lag_events"] == 0 && follower["partitions"].as_array().unwrap().is_empty()
    });
    wait::until_true("it has the lost one's log, and that is told", || {
        let lost = origin(&site, 0, "n2");
        let followers = lost["followers"].as_array().unwrap();
        let is_level = |of: &&Value| of["node"] == "n3" && of["commit"] == lost["commit"] && of["lag_events"] == 0;
        followers.iter().any(|of| is_level(&of))
    });
    assert_eq!(of_plain(&origin(&site, 2, "n2"), "synced_end"), of_plain(&origin(&site, 0, "n2"), "synced_end"));
    let series = metrics(&site, 0);
    assert!(!series.contains("edgeway_site_follower_partition_lag_events{node=\"n3\""), "{series}");
    site.run(&[1]);
    site.wait_level();
}

fn metrics(site: &Site, place: usize) -> String {
    http::get(site[place].http, "/metrics", None).unwrap().body
}

/// Programs, people and metrics are told the same, and it is what was published since these ends.
fn lags_are_told(site: &Site, before: &[(u64, u64)]) {
    let own = origin(site, 0, "n1");
    let now = of_plain(&own, "synced_end");
    assert_eq!((of_plain(&own, "end"), of_plain(&own, "visible_end")), (now.clone(), now.clone()));
    let lacked: Vec<(u64, u64)> = now.iter().zip(before).map(|((id, now), (_, had))| (*id, now - had)).collect();
    assert_eq!(lacked.iter().map(|(_, events)| events).sum::<u64>(), 81);
    assert!(lacked.iter().all(|(_, events)| *events > 0), "both have some: {lacked:?}");
    let follower = lag(site, 0, "n3");
    assert_eq!(of_plain(&follower, "lag_events"), lacked);
    assert_eq!(of_plain(&follower, "next"), before);
    assert!(of_plain(&follower, "lag_bytes").iter().zip(&lacked).all(|((_, bytes), (_, events))| bytes > events));
    assert!(follower["lag_events"].as_u64() >= Some(81) && follower["at_least"] == false, "{follower}");
    wait::until_true("it is behind for over a second", || {
        of_plain(&lag(site, 0, "n3"), "lag_ms").iter().all(|(_, ms)| *ms > 1_000)
    });
    let (shown, series) = (site[0].cli(&["node", "status"]).ok().out, metrics(site, 0));
    for (partition, events) in &lacked {
        let is_it = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.starts_with(&["n3", "plain", &partition.to_string()]) && words.get(4) == Some(&&*events.to_string())
        };
        assert!(shown.lines().any(is_it), "{partition} {events} in\n{shown}");
        let id = own["origin"].as_str().unwrap();
        let line = format!(
            "edgeway_site_follower_partition_lag_events{{node=\"n3\",origin=\"{id}\",topic=\"plain\",\
             partition=\"{partition}\"}} {events}.0"
        );
        assert!(series.lines().any(|found| found == line), "{line} in\n{series}");
    }
    wait::until_true("the other one has all", || of_plain(&lag(site, 0, "n2"), "lag_events").is_empty());
}
