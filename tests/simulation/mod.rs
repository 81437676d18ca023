//! The command channel from end to end in one thread: node, disk, links and devices, decided by one seed.
//!
//! What decides is the product's own: `commands::Table` with its replay, `Unstored` and the stored form. Around it the
//! model does what the room's task, its sessions and real devices do, and in rougher weather: crashes at any step,
//! lost connections, a full disk, clocks that are set, guards that answer late, answers that are sent twice or forged.
//! A run is a list of facts; `invariants` says what must hold of it. `bug` plants mistakes, to prove that they see.
//!
//! `EDGEWAY_SIM_SEEDS` is how many seeds are run, or which, as in `1000..2000`; `EDGEWAY_SIM_SEED` the one to run alone.

pub mod bug;
pub mod device;
pub mod disk;
pub mod history;
mod invariants;
mod node;
pub mod session;
mod source;
mod world;

use std::collections::BTreeSet;

use crate::seeded::seeds::{Seeds, assert_met};
use bug::Bug;
use history::Fact;

const SEEDS: Seeds = Seeds { count: "EDGEWAY_SIM_SEEDS", alone: "EDGEWAY_SIM_SEED", quick: 200, to_see: 300 };

#[test]
fn every_promise_holds_in_all_weathers() {
    SEEDS.assert_all_hold(|seed| invariants::broken(&world::run(seed, None)));
}

#[test]
fn each_planted_bug_is_seen() {
    SEEDS.assert_each_is_seen(&Bug::ALL, |seed, bug| invariants::broken(&world::run(seed, bug)));
}

#[test]
fn a_seed_is_always_the_same_run() {
    SEEDS.assert_always_the_same(5, |seed| world::run(seed, None).facts);
}

#[test]
fn all_weathers_are_met() {
    let (mut met, mut states) = (BTreeSet::new(), BTreeSet::new());
    for seed in 0..100 {
        for (_, fact) in &world::run(seed, None).facts {
            met.insert(match fact {
                Fact::Executed { .. } => "executed",
                Fact::Forged(_) => "forged",
                Fact::NodeDied => "node died",
                Fact::WallStep => "clock set",
                Fact::StartedOver => "started over",
                Fact::Step { event, .. } => {
                    states.extend(history::outcome_of(&event.step));
                    step_name(&event.step)
                }
                _ => continue,
            });
        }
    }
    assert_eq!(states.len(), 9, "{states:?}");
    let wanted = [
        "executed",
        "forged",
        "node died",
        "clock set",
        "started over",
        "rewritten",
        "returned",
        "unsent",
        "late",
        "answer refused",
    ];
    assert_met(&met, &wanted);
}

fn step_name(step: &devices::command::Step) -> &'static str {
    use devices::command::Step;
    match step {
        Step::Rewritten(_) => "rewritten",
        Step::Returned { unsent: true, .. } => "unsent",
        Step::Returned { .. } => "returned",
        Step::AnswerRefused { .. } => "answer refused",
        Step::Succeeded(answer) | Step::Failed(answer) if answer.late => "late",
        _ => "step",
    }
}
