//! A site grows to five nodes and shrinks to three while it is published to.

use std::time::Duration;

use super::load::{Load, check, make_topics};
use crate::harness::site::Site;
use crate::harness::wait;

/// Five nodes share the processors with those who publish.
const PAUSE: Duration = Duration::from_millis(100);

#[test]
fn three_become_five_and_three_again_under_load() {
    let mut site = Site::of(3);
    make_topics(&site);
    let load = Load::start_paced(&site, "grows", PAUSE);
    load.wait(100);
    site.join();
    site.join();
    load.wait(100);
    let mut records = load.stop();
    site.wait_level();
    assert_eq!(site.status(4)["quorum"]["needed"], 3);
    check(&site, &records);

    let mut load = Load::start_paced(&site, "shrinks", PAUSE);
    load.wait(100);
    // Its devices are elsewhere when it leaves; the others are published to all the while.
    let name = site.members[3].name.clone();
    records.extend(load.stop_at(&name));
    site[3].cli(&["node", "leave"]).ok();
    assert!(site.members[3].node.wait_end(Duration::from_secs(30)).success());
    site.kill(&[4]);
    load.wait(100);
    site[0].cli(&["node", "remove", &site.members[4].name]).ok();
    load.wait(100);
    records.extend(load.stop());
    site.members.truncate(3);
    for place in 0..3 {
        wait::until_true("three are left", || site.status(place)["nodes"].as_array().unwrap().len() == 3);
    }
    wait::until_true("three vote", || site.status(0)["quorum"]["voters"] == 3);
    site.wait_level();
    // What the killed one had acknowledged by its own disk alone may be gone with it; the rest holds.
    for record in records.iter_mut().filter(|record| record.topic == "plain/shrinks/n5") {
        record.acked = 0;
    }
    check(&site, &records);
}
