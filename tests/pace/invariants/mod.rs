//! What must hold of every pace.

mod comes_up;
mod free_when_quiet;
mod live_first;

use super::history::History;

/// What a check found: nothing, or the story of a promise that was broken.
pub type Checked = Result<(), String>;

type Check = fn(&History) -> Checked;

/// Each, by its name.
const ALL: [(&str, Check); 3] =
    [("live_first", live_first::check), ("comes_up", comes_up::check), ("free_when_quiet", free_when_quiet::check)];

/// The names of those that are broken, each with its story.
pub fn broken(history: &History) -> Vec<(&'static str, String)> {
    let checked = ALL.iter().filter_map(|(name, check)| Some((*name, check(history).err()?)));
    checked.map(|(name, what)| (name, format!("{what}\n{}", history.story()))).collect()
}
