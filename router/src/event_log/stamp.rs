//! When and where something was written: of what several nodes wrote, the greatest stamp counts.

use serde::{Deserialize, Serialize};
use sled_data::OriginId;

use super::EventLog;

/// A moment of one node's writing. Ordered by the clock, then by the life: any two differ, on all nodes alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize)]
pub struct Stamp {
    /// The hybrid clock; 0 is older than all.
    pub clock: u64,
    /// The life that wrote it.
    pub origin: u64,
}

impl Stamp {
    /// When it was, in milliseconds since 1970, by the clock of its node.
    pub fn ms(self) -> i64 {
        sled_data::hlc_ms(self.clock)
    }

    /// Whether a life wrote it.
    pub fn is_of(self, origin: OriginId) -> bool {
        self.origin == origin.0
    }
}

impl EventLog {
    /// A stamp of this node for what comes after all that is `known`, whatever other nodes' clocks say.
    pub fn stamp_after(&self, known: Option<Stamp>) -> Stamp {
        let after = known.map_or(0, |known| known.clock.saturating_add(1));
        Stamp { clock: self.clock.next_hybrid().max(after), origin: self.origin().0 }
    }
}
