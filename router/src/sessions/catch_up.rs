//! How much is here of what the site's other nodes have written, and who waits for it after a start: they may have seen this node's clients
//! meanwhile.

use std::time::Duration;

use tokio::sync::watch;

use super::registry::Sessions;

/// How long a client waits at most that may have been elsewhere; many give up at five seconds.
const ADMIT_WAIT_MAX: Duration = Duration::from_millis(4_500);
/// How long other things wait at most: wills that were found, and what has expired by clocks that are not known yet.
const WAIT_MAX: Duration = Duration::from_secs(10);

/// How much is known here of what the site's other nodes have written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Knows {
    /// Something is missing, or not said yet.
    Part,
    /// What those have written that are heard. Not all are.
    OfHeard,
    /// What all have written, but for the last moments.
    All,
}

/// What was told, and since when it is waited for. Times are monotonic.
#[derive(Debug, Clone, Copy)]
struct Told {
    knows: Knows,
    waits_since: Option<Duration>,
}

impl Told {
    /// How long it is still to be waited, of `max` at most.
    fn left(&self, now: Duration, max: Duration) -> Duration {
        self.waits_since.map_or(Duration::ZERO, |since| max.saturating_sub(now.saturating_sub(since)))
    }
}

/// How far this node has caught up.
pub(super) struct CatchUp(watch::Sender<Told>);

impl Default for CatchUp {
    fn default() -> Self {
        Self(watch::Sender::new(Told { knows: Knows::All, waits_since: None }))
    }
}

impl Sessions {
    /// The node has others, and is to hear from them first. To be called before doors open.
    pub fn await_others(&self) {
        let now = self.log.clock().monotonic();
        self.catch_up.0.send_replace(Told { knows: Knows::Part, waits_since: Some(now) });
    }

    /// How much is known now; to be told whenever that may have changed.
    pub fn tell_known(&self, knows: Knows) {
        self.catch_up.0.send_if_modified(|told| {
            let waits_since = told.waits_since.filter(|_| knows == Knows::Part);
            let is_new = told.knows != knows || told.waits_since != waits_since;
            *told = Told { knows, waits_since };
            is_new
        });
    }

    /// Whether it is still waited, since the start, for what others have written; ten seconds at most.
    pub fn awaits_others(&self) -> bool {
        let told = *self.catch_up.0.borrow();
        !told.left(self.log.clock().monotonic(), WAIT_MAX).is_zero()
    }

    /// Waits for what others have written before the start, within a bound.
    pub(super) async fn others_heard(&self) {
        let left = self.catch_up.0.borrow().left(self.log.clock().monotonic(), ADMIT_WAIT_MAX);
        if !left.is_zero() {
            let mut told = self.catch_up.0.subscribe();
            let _ = tokio::time::timeout(left, told.wait_for(|told| told.waits_since.is_none())).await;
        }
    }

    /// Whether all is known that others have written.
    pub(super) fn knows_all(&self) -> bool {
        self.catch_up.0.borrow().knows == Knows::All
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_waited_for_for_ever() {
        let second = Duration::from_secs(1);
        let told = Told { knows: Knows::Part, waits_since: Some(second * 60) };
        for (at, left) in [(60, 10), (61, 9), (69, 1), (70, 0), (90, 0)] {
            assert_eq!(told.left(second * at, WAIT_MAX), second * left, "{at}");
        }
        assert_eq!(Told { waits_since: None, ..told }.left(second * 60, WAIT_MAX), Duration::ZERO);
    }
}
