//! After a restart in a site: what was open is held back until it is known whether others have taken it up meanwhile.
//!
//! A node that was lost is back before it has heard what the site has decided. Were it to go on at once, a device could
//! get a command from it that it has had from a survivor. A node that is cut off goes on after a bounded time.

use super::Commands;

/// How long commands are held back at most, in milliseconds.
const HELD_MAX_MS: u64 = 10_000;

/// Whether commands are held back.
#[derive(Debug, Default)]
pub(super) struct Standing {
    /// Until when, on the steady clock.
    held_until: Option<u64>,
}

impl Commands {
    /// Holds back what was open before, where this node is one of several.
    pub(super) fn hold_back(&self) {
        if self.forward.get().is_some() && !self.log.others().is_empty() && self.pending() > 0 {
            self.standing.lock().held_until = Some(self.now().steady + HELD_MAX_MS);
        }
    }

    /// All that the others have written before now is here, or they are not heard: what is held back goes on.
    pub fn go_on(&self) {
        if self.standing.lock().held_until.take().is_some() {
            self.mail.arrived.notify_one();
        }
    }

    /// Until when commands are held back, on the steady clock; `None` where they are not.
    pub(super) fn held_until(&self) -> Option<u64> {
        let mut standing = self.standing.lock();
        if standing.held_until.is_some_and(|until| until <= self.now().steady) {
            standing.held_until = None;
        }
        standing.held_until
    }
}
