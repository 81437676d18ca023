//! What must hold of every run of a site, one file each.

mod acknowledged;
mod bounds;
mod converges;
mod gaps;
mod kept_for_followers;
mod lives;
mod nobody_waits;
mod offsets;
mod quorum_refused;
mod readers;
mod synced_alone_is_sent;
mod together;
mod visible_end;

use super::history::History;
pub use crate::seeded::promises::Checked;
use crate::seeded::promises::{self, Promise};
use crate::seeded::seeds::Broken;

/// Each, by its name.
const ALL: [Promise<History>; 13] = [
    ("synced_alone_is_sent", synced_alone_is_sent::check),
    ("acknowledged", acknowledged::check),
    ("offsets", offsets::check),
    ("visible_end", visible_end::check),
    ("together", together::check),
    ("readers", readers::check),
    ("nobody_waits", nobody_waits::check),
    ("gaps", gaps::check),
    ("kept_for_followers", kept_for_followers::check),
    ("lives", lives::check),
    ("quorum_refused", quorum_refused::check),
    ("bounds", bounds::check),
    ("converges", converges::check),
];

/// The names of those that are broken, each with its story.
pub fn broken(history: &History) -> Broken {
    promises::broken(&ALL, history)
}
