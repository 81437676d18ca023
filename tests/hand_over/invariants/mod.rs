//! What must hold of every run of commands between nodes, one file each.

mod at_most_once;
mod converges;
mod goes_on;
mod held_back;
mod known_outcome;
mod not_done;
mod nothing_lost;
mod one_outcome;
mod terms;

use super::history::History;
pub use crate::seeded::promises::Checked;
use crate::seeded::promises::{self, Promise};
use crate::seeded::seeds::Broken;

/// Each, by its name.
const ALL: [Promise<History>; 9] = [
    ("at_most_once", at_most_once::check),
    ("one_outcome", one_outcome::check),
    ("known_outcome", known_outcome::check),
    ("not_done", not_done::check),
    ("nothing_lost", nothing_lost::check),
    ("terms", terms::check),
    ("held_back", held_back::check),
    ("goes_on", goes_on::check),
    ("converges", converges::check),
];

/// The names of those that are broken, each with its story.
pub fn broken(history: &History) -> Broken {
    promises::broken(&ALL, history)
}
