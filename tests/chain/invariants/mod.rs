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

/// What a check found: nothing, or the story of a promise that was broken.
pub type Checked = Result<(), String>;

type Check = fn(&History) -> Checked;

/// Each, by its name.
const ALL: [(&str, Check); 11] = [
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
pub fn broken(history: &History) -> Vec<(&'static str, String)> {
    let checked = ALL.iter().filter_map(|(name, check)| Some((*name, check(history).err()?)));
    checked.map(|(name, what)| (name, format!("{what}\n{}", history.tail()))).collect()
}
