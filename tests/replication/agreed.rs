//! What people set is set at every node, by a majority, and not without one.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::harness::http::Answer;
use crate::harness::site::Site;
use crate::harness::wait;

/// How long a change may take after the leader was killed, on a machine that is busy with other tests.
const LEADERLESS_MAX: Duration = Duration::from_secs(15);
/// Longer than one is silent who counts as lost.
const SILENT: Duration = Duration::from_secs(4);
/// How soon a change is refused that cannot be, there too.
const REFUSED_MAX: Duration = Duration::from_secs(20);

fn add(site: &Site, place: usize, device: &str) -> Answer {
    site[place].call("POST", "devices", Some(&json!({"device": device, "tags": ["pump"]})))
}

/// One whose end was not known may have been made before it was asked for again.
fn is_made(answer: &Answer) -> bool {
    matches!(answer.status, 201 | 409)
}

/// Waits until all that run have a device with these tags.
fn seen_at_all(site: &Site, device: &str, tags: &Value) {
    for place in site.running() {
        wait::until_true(&format!("{device} at {}", site.members[place].name), || {
            let answer = site[place].get(&format!("devices/{device}"));
            answer.status == 200 && answer.json()["tags"] == *tags
        });
    }
}

fn leader(site: &Site, place: usize) -> Option<usize> {
    let status = site.status(place);
    site.members.iter().position(|member| status["catalog"]["leader"] == *member.name)
}

#[test]
fn devices_are_set_by_a_majority() {
    let mut site = Site::of(3);
    for place in 0..3 {
        let device = format!("pump-{place}");
        site[place].cli(&["device", "add", &device, "--tag", "pump"]).ok();
        let other = (place + 1) % 3;
        wait::until_true("it is seen", || site[other].get(&format!("devices/{device}")).status == 200);
        site[other].cli(&["device", "tag", &device, "north"]).ok();
        seen_at_all(&site, &device, &json!(["north", "pump"]));
    }
    assert_eq!(add(&site, 2, "pump-0").status, 409, "it is there already, whoever is asked");

    let led = wait::until("a leader", || leader(&site, 0));
    site.kill(&[led]);
    let killed = Instant::now();
    let other = (led + 1) % 3;
    wait::until_true("a change", || is_made(&add(&site, other, "after")));
    let took = killed.elapsed();
    assert!(took < LEADERLESS_MAX, "a change took {took:?} after the leader was killed");
    seen_at_all(&site, "after", &json!(["pump"]));
    site.run(&[led]);
    seen_at_all(&site, "after", &json!(["pump"]));

    site.kill(&[led, other]);
    let alone = (led + 2) % 3;
    // As long as the dead ones may still be there, nobody can say what becomes of a change; then it is refused.
    let killed = Instant::now();
    for known in ["unknown-outcome", "no-majority"] {
        let asked = Instant::now();
        let refused = add(&site, alone, known);
        let took = asked.elapsed();
        assert!(took < REFUSED_MAX, "a refusal took {took:?}");
        let said = refused.json();
        let code = said["error"]["code"].as_str().unwrap();
        assert!(refused.status == 503 && [known, "no-majority"].contains(&code), "{said}");
    }
    assert!(killed.elapsed() < 2 * REFUSED_MAX);
    let told = site[alone].cli(&["device", "tag", "pump-0", "south"]);
    assert_eq!(told.code, 1, "{told:?}");
    assert!(told.err.contains("no majority"), "{told:?}");
    // What was set is known, and it can be changed again with one more.
    assert_eq!(site[alone].get("devices/pump-0").ok().json()["tags"], json!(["north", "pump"]));
    site.run(&[other]);
    wait::until_true("a change", || is_made(&add(&site, alone, "healed")));
    site.run(&[led]);
    seen_at_all(&site, "healed", &json!(["pump"]));
    for place in 0..3 {
        assert_eq!(site[place].get("devices/no-majority").status, 404, "what was refused was not done");
    }
}

/// The lives that a node has had taken over from their writers.
fn taken_over(site: &Site, place: usize) -> Vec<Value> {
    let acts = site[place].readable_events("_audit").into_iter().map(|event| event.json());
    acts.filter(|act| act["act"] == "work.take_over" && act["outcome"] == "done").collect()
}

#[test]
fn a_leader_that_hears_nobody_takes_nothing_over_and_leads_no_more_when_it_was_started_again() {
    let mut site = Site::of(3);
    let led = wait::until("a leader", || leader(&site, 0));
    let others = [(led + 1) % 3, (led + 2) % 3];
    others.iter().for_each(|place| site[*place].freeze());
    let is_heard = |site: &Site, place: &usize| site.seen(led, &site.members[*place].name)["connected"] == true;
    // It leads as before, and to it all others are silent for longer than any that is lost.
    let since = Instant::now();
    wait::until_true("it leads alone", || {
        let hears = others.iter().any(|place| is_heard(&site, place));
        since.elapsed() > SILENT && leader(&site, led) == Some(led) && !hears
    });
    site.kill(&[led]);
    site.run(&[led]);
    // Its disk may be older than it was: it is to be elected.
    assert_eq!(leader(&site, led), None);
    let is_heard = |place: &usize| is_heard(&site, place);
    others.iter().for_each(|place| site[*place].thaw());
    wait::until_true("all are heard", || others.iter().all(is_heard));
    // Whatever it had decided is accepted by now, or never.
    wait::until_true("a change", || is_made(&add(&site, led, "after")));
    seen_at_all(&site, "after", &json!(["pump"]));
    assert_eq!(taken_over(&site, led), Vec::<Value>::new(), "nobody was lost");
    // One that is lost while most are heard is taken over as before.
    let dies = others[0];
    site.kill(&[dies]);
    wait::until_true("it is taken over", || {
        others[1..].iter().chain([&led]).any(|at| !taken_over(&site, *at).is_empty())
    });
}
