//! Nodes one version apart work together: a site is upgraded node by node under load, and nothing is lost.

use std::time::Duration;

use serde_json::json;

use super::load::{Load, check, make_topics};
use crate::harness::site::{ROUTING, Site};
use crate::harness::wait;

/// Three nodes share the processors with those who publish.
const PAUSE: Duration = Duration::from_millis(10);

/// A node as it is before its upgrade: what the newest version brought is unknown to it.
fn older() -> String {
    format!("{ROUTING}\n[site]\nprotocol_max = 1\n")
}

fn level(site: &Site, place: usize) -> u64 {
    site.status(place)["catalog"]["level"].as_u64().unwrap()
}

/// Sets a routing rule at a node; the code with which that is refused.
fn set_route(site: &Site, place: usize) -> Result<(), String> {
    let answer = site[place].call("PUT", "routes/r", Some(&json!({"pattern": "r/#", "topic": "r"})));
    match answer.status {
        200 => Ok(()),
        _ => Err(answer.json()["error"]["code"].as_str().unwrap_or_default().to_owned()),
    }
}

#[test]
fn three_are_upgraded_one_by_one_under_load() {
    let mut site = Site::of_with(3, &older());
    make_topics(&site);
    assert_eq!(level(&site, 0), 1);
    let mut records = Vec::new();
    for upgraded in 0..3 {
        // What the oldest does not know is refused, whoever is asked, and what it knows is done.
        for place in 0..3 {
            assert_eq!(set_route(&site, place), Err("site-not-upgraded".to_owned()), "{upgraded} are upgraded");
        }
        if upgraded > 0 {
            wait::until_true("it is told who holds it up", || {
                let told = site[0].cli(&["node", "status"]).ok().out;
                told.contains("level     1; 4 when all nodes are there") && told.contains("n3 knows 1")
            });
        }
        let device = format!("pump-{upgraded}");
        // One whose end was not known may have been made since.
        wait::until_true("a change", || {
            matches!(site[upgraded].call("POST", "devices", Some(&json!({"device": device}))).status, 201 | 409)
        });
        let mut load = Load::start_paced(&site, &format!("upgrade-{upgraded}"), PAUSE);
        load.wait(150);
        let name = site.members[upgraded].name.clone();
        records.extend(load.stop_at(&name));
        assert!(site.members[upgraded].node.stop().success());
        load.wait(50);
        site[upgraded].configure(ROUTING);
        site.run(&[upgraded]);
        load.wait(100);
        records.extend(load.stop());
        site.wait_level();
    }
    for place in 0..3 {
        wait::until_true("the site has moved on", || level(&site, place) == 4);
    }
    wait::until_true("what is new can be set", || set_route(&site, 1).is_ok());
    for place in 0..3 {
        for device in 0..3 {
            let path = format!("devices/pump-{device}");
            wait::until_true("all have all that was set", || site[place].get(&path).status == 200);
        }
        wait::until_true("and what is new", || {
            site[place].get("routes").json()["routes"].as_array().unwrap().iter().any(|route| route["name"] == "r")
        });
    }
    check(&site, &records);

    // None goes back: its store is one of the newer version.
    assert!(site.members[2].node.stop().success());
    site[2].configure(&older());
    let (status, said) = site.members[2].node.run_refused();
    assert!(!status.success());
    assert!(said.contains("start the newer edgeway"), "{said}");
    site[2].configure(ROUTING);
    site.run(&[2]);
    site.wait_level();
    check(&site, &records);
}

#[test]
fn one_that_was_away_while_the_others_moved_on_is_told_to_be_upgraded() {
    let mut site = Site::of_with(3, &older());
    // Given up, it holds up nobody.
    assert!(site.members[2].node.stop().success());
    for place in [0, 1] {
        assert!(site.members[place].node.stop().success());
        site[place].configure(ROUTING);
        site.run(&[place]);
    }
    wait::until_true("both are there", || site.status(0)["quorum"]["in_reach"] == true);
    assert_eq!(level(&site, 0), 1, "one that is away may come back");
    site[0].cli(&["node", "remove", "n3"]).ok();
    wait::until_true("the site has moved on", || level(&site, 0) == 4 && level(&site, 1) == 4);
    // A node that is too old for the site is not let in.
    site.members.pop();
    let joined = site.join();
    let (old, first) = (site.members[joined].name.clone(), site.members[0].name.clone());
    // Whoever of the two dials is told.
    let refused = wait::until("the old one is told", || {
        let seen = [site.seen(joined, &first), site.seen(0, &old)];
        let mut problems = seen.iter().filter_map(|seen| seen["problem"].as_str().map(str::to_owned));
        problems.find(|problem| problem.contains("no protocol in common"))
    });
    assert!(refused.contains("upgrade"), "{refused}");
    assert!(site.members[joined].node.stop().success());
    site[joined].configure(ROUTING);
    site.run(&[joined]);
    wait::until_true("upgraded, it is one of them", || level(&site, joined) == 4);
}
