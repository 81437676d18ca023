//! Guards: plugins that are asked before a command is sent, for interlocks.
//!
//! A question goes through these files: `roster` asks those whose manifest
//! `wants` the command, in the order of their names; a `post` is one guard, with
//! its instance and its time; the `sandbox` calls it; the `guest` may read what
//! other plugins `keep`; and the `answer` is judged in turn.
//!
//! A guard fails closed: whatever keeps it from answering keeps the command back.
//! There is no way to pause one; what opens the way is to remove it.

mod answer;
mod bindings;
mod counters;
mod guest;
mod kept;
mod post;
mod roster;
mod sandbox;
mod wants;

pub use counters::{GuardCounters, GuardFigures};
pub use kept::{Kept, StoredState};
pub use post::Post;
pub use roster::Roster;
pub use sandbox::{Sandbox, Template};
pub use wants::check_manifest;

#[cfg(test)]
pub mod test_guard;
#[cfg(test)]
mod tests;
