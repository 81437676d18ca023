//! When and where something was written: of what several nodes wrote, the greatest stamp counts.

use serde::{Deserialize, Serialize};

/// A moment of one node's writing. Ordered by the clock, then by the life: any two differ, on all nodes alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The hybrid clock; 0 is older than all.
    pub clock: u64,
    /// The life that wrote it.
    pub origin: u64,
}

impl Stamp {
    /// Of this moment, or just after what is `known`, whatever other nodes' clocks say.
    pub fn after(self, known: Self) -> Self {
        Self { clock: self.clock.max(known.clock.saturating_add(1)), ..self }
    }
}
