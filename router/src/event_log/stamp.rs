//! Stamps of what this node writes.

pub use devices::stamp::Stamp;

use super::EventLog;

impl EventLog {
    /// A stamp of this node and this moment, for what comes after all that is `known`.
    pub fn stamp_after(&self, known: Option<Stamp>) -> Stamp {
        let now = Stamp { clock: self.clock.next_hybrid(), origin: self.origin().0 };
        now.after(known.unwrap_or_default())
    }
}
