//! Who may do what: the words in which a guard judges commands.

mod guard;

pub use guard::{Asked, Guard, GuardSlot, Judgement};
