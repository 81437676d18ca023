//! What must hold of every run over links, one file each.

mod acknowledged;
mod converges;
mod deadline;
mod down;
mod gaps;
mod lives;
mod nodes;
mod once;
mod order;
mod readers;
mod ring;

use super::history::History;
pub use crate::seeded::promises::Checked;
use crate::seeded::promises::{self, Promise};
use crate::seeded::seeds::Broken;

/// Each, by its name.
const ALL: [Promise<History>; 11] = [
    ("acknowledged", acknowledged::check),
    ("once", once::check),
    ("order", order::check),
    ("gaps", gaps::check),
    ("deadline", deadline::check),
    ("lives", lives::check),
    ("ring", ring::check),
    ("converges", converges::check),
    ("nodes", nodes::check),
    ("readers", readers::check),
    ("down", down::check),
];

/// The names of those that are broken, each with its story.
pub fn broken(history: &History) -> Broken {
    let broken = promises::broken(&ALL, history);
    broken.into_iter().map(|(name, what)| (name, format!("{what}\n{}", history.tail()))).collect()
}
