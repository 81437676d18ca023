//! The promises of a simulation, each by its name, held against the history of a run.

use super::seeds::Broken;

/// What a check found: nothing, or the story of a promise that was broken.
pub type Checked = Result<(), String>;

/// A promise's name, and what finds out whether a history breaks it.
pub type Promise<H> = (&'static str, fn(&H) -> Checked);

/// The names of those that are broken, each with its story.
pub fn broken<H>(all: &[Promise<H>], history: &H) -> Broken {
    all.iter().filter_map(|(name, check)| Some((*name, check(history).err()?))).collect()
}
