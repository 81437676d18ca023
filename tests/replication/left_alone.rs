//! The last node of a site whose majority is lost for good.

use serde_json::json;

use super::load::{Load, check, make_topics};
use crate::harness::site::Site;
use crate::harness::wait;

#[test]
fn the_last_one_goes_on_alone_when_it_is_told_to() {
    let mut site = Site::of(3);
    make_topics(&site);
    let load = Load::start(&site, "three");
    load.wait(300);
    let mut records = load.stop();
    site.wait_level();
    site.kill(&[0, 1]);
    wait::until_true("the quorum is out of reach", || site.status(2)["quorum"]["in_reach"] == false);
    let add = |device: &str| site[2].call("POST", "devices", Some(&json!({"device": device})));
    // What is begun before the silence is noticed has no known end.
    let refused = wait::until("it is refused", || {
        let refused = add("early");
        (refused.json()["error"]["code"] != "unknown-outcome").then_some(refused)
    });
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (503, &json!("no-majority")), "{refused:?}");

    let unsure = site[2].cli(&["node", "promote"]);
    assert_eq!(unsure.code, 2, "it is asked for in full: {unsure:?}");
    // Asked for again, as its answer may be lost, it ends the same.
    for _ in 0..2 {
        site[2].cli(&["node", "promote", "--lost"]).ok();
        let status = site.status(2);
        let lost = status["nodes"].as_array().unwrap().iter().filter(|node| node["state"] == "lost").count();
        assert_eq!(lost, 2, "{status}");
    }
    wait::until_true("it decides alone", || matches!(add("late").status, 201 | 409));
    for name in ["n1", "n2"] {
        site[2].cli(&["node", "remove", name]).ok();
    }
    wait::until_true("its own disk is the quorum", || site.status(2)["quorum"]["in_reach"] == true);
    site.members.drain(..2);
    let load = Load::start(&site, "alone");
    load.wait(200);
    records.extend(load.stop());
    check(&site, &records);
    // Others come to it, and have all.
    site.join();
    site.join();
    site.wait_level();
    check(&site, &records);
}
