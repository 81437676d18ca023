//! What must hold of every run, one file each.

mod answers_count;
mod at_most_once;
mod converges;
mod handed_in_time;
mod not_done;
mod nothing_lost;
mod one_key;
mod one_outcome;
mod order;
mod outcome_stays;
mod punctual;
mod succeeded;
mod supersede;
mod urgent_first;

use super::history::History;
pub use crate::seeded::promises::Checked;
use crate::seeded::promises::{self, Promise};
use crate::seeded::seeds::Broken;

/// Each, by its name.
const ALL: [Promise<History>; 14] = [
    ("one_outcome", one_outcome::check),
    ("outcome_stays", outcome_stays::check),
    ("nothing_lost", nothing_lost::check),
    ("handed_in_time", handed_in_time::check),
    ("punctual", punctual::check),
    ("not_done", not_done::check),
    ("succeeded", succeeded::check),
    ("at_most_once", at_most_once::check),
    ("one_key", one_key::check),
    ("order", order::check),
    ("urgent_first", urgent_first::check),
    ("supersede", supersede::check),
    ("answers_count", answers_count::check),
    ("converges", converges::check),
];

/// The names of those that are broken, each with its story.
pub fn broken(history: &History) -> Broken {
    promises::broken(&ALL, history)
}
