//! Commands between the nodes of a site in one thread: three nodes, their logs, the ways between them and devices that go from one to
//! another, decided by one seed.
//!
//! What decides is the product's own: `commands::Table` with its replay, the `Desk` that judges what others hand over, `take_up_step`,
//! `Unstored` and the stored form. Around it the model does what the room's task, the streams of commits and the catalog's decisions do, in
//! rougher weather: power cuts at any step, ways that break in one question's middle, questions that come late, answers that are lost,
//! nodes that are lost, taken over and back, devices that go away with a command. A run is a list of facts; `invariants` says what must hold
//! of it. `bug` plants mistakes, to prove that they see.
//!
//! `EDGEWAY_HAND_OVER_SEEDS` is how many seeds are run, or which, as in `1000..2000`; `EDGEWAY_HAND_OVER_SEED` the one to run alone.

mod bug;
mod history;
mod invariants;
mod log;
mod node;
mod world;

use std::collections::BTreeSet;

use devices::command::Step;

use crate::seeded::seeds::{Seeds, assert_met};
use bug::Bug;
use history::Fact;

const SEEDS: Seeds =
    Seeds { count: "EDGEWAY_HAND_OVER_SEEDS", alone: "EDGEWAY_HAND_OVER_SEED", quick: 200, to_see: 600 };

#[test]
fn every_promise_holds_between_nodes_in_all_weathers() {
    SEEDS.assert_all_hold(|seed| invariants::broken(&world::run(seed, None)));
}

#[test]
fn each_bug_that_is_planted_between_nodes_is_seen() {
    SEEDS.assert_each_is_seen(&Bug::ALL, |seed, bug| invariants::broken(&world::run(seed, bug)));
}

#[test]
fn a_seed_is_always_the_same_site_of_commands() {
    SEEDS.assert_always_the_same(3, |seed| world::run(seed, None).facts);
}

#[test]
fn commands_between_nodes_meet_all_weathers() {
    let mut met = BTreeSet::new();
    for seed in 0..40 {
        for (_, fact) in &world::run(seed, None).facts {
            met.insert(match fact {
                Fact::Weather { what, .. } => *what,
                Fact::TakenOver { .. } => "a node is taken over",
                Fact::Step { event, .. } => match &event.step {
                    Step::Moving { .. } => "moving",
                    Step::Moved { .. } => "moved",
                    Step::Stays => "stays",
                    Step::Queued(queued) => match queued.taken.as_deref() {
                        Some(taken) if taken.is_over => "taken up, and over",
                        Some(taken) if taken.with_device.is_some() => "taken up from its device",
                        Some(taken) if taken.may_have_arrived => "taken up, or handed on",
                        Some(_) => "taken",
                        None => "queued",
                    },
                    _ => continue,
                },
                _ => continue,
            });
        }
    }
    let wanted = [
        "a node is taken over",
        "moving",
        "moved",
        "stays",
        "taken up, and over",
        "taken up from its device",
        "taken up, or handed on",
        "taken",
        "it dies when it was asked",
        "a question comes late",
        "an answer is lost",
        "a question is lost",
        "declined",
        "it is being taken",
        "it is back",
        "it holds back",
        "its disk is full",
        "a copy begins",
    ];
    assert_met(&met, &wanted);
}
