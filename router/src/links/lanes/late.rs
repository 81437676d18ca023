//! What is too old to be sent: older than its class's deadline, by the hybrid clock that it is stored with. A hole takes its place.

use sled_data::{HLC_LOGICAL_BITS, Hole, HoleWhy, LinkedPart, Offset, Store};

use super::Lane;
use crate::clock::Clock;
use crate::links::waiting::waiting_bytes;

/// What goes with events that are too old: all that will be within so much of the deadline. A line that is too thin for good makes a hole
/// for each such part of it then, not one for each frame; upstream keeps a bounded number of holes.
const WITH_IT: u64 = 8;

/// When a round is made, by the clocks of the node.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moment {
    /// The wall clock, Unix milliseconds.
    pub wall_ms: u64,
    /// How long the node has been running, milliseconds.
    pub up_ms: u64,
    /// The hybrid clock before its first commit since: what it wrote with a greater one is no older than it has been running,
    /// whatever the wall clock says.
    pub began_after: u64,
}

/// What was dropped, and not told yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Dropped {
    /// Where the partition goes on.
    pub(super) to: Offset,
    /// How many events.
    pub(super) events: u64,
    /// Stored bytes of their batches, about.
    pub(super) bytes: u64,
}

impl Moment {
    /// This moment.
    pub fn of(clock: &Clock) -> Self {
        Self {
            wall_ms: u64::try_from(clock.wall_ms()).unwrap_or(0),
            up_ms: u64::try_from(clock.monotonic().as_millis()).unwrap_or(u64::MAX),
            began_after: clock.began_after(),
        }
    }

    /// The first hybrid clock that is not older than so many milliseconds. `is_own`: of an origin whose clock is the one here.
    fn floor(self, age_ms: u64, is_own: bool) -> u64 {
        let floor = self.wall_ms.saturating_sub(age_ms) << HLC_LOGICAL_BITS;
        if is_own && self.up_ms < age_ms { floor.min(self.began_after.saturating_add(1)) } else { floor }
    }
}

impl Lane {
    /// Whether what is next is too old. A deadline of 0 is none.
    pub(super) fn is_late(&self, moment: Moment, is_own: bool) -> bool {
        let Some(LinkedPart::Batch(batch)) = self.window.front() else { return false };
        self.drop_after_ms > 0 && batch.envelope().hlc < moment.floor(self.drop_after_ms, is_own)
    }

    /// Puts a hole in the place of what is next and too old, and of what will be soon. Reads the store.
    pub(super) fn drop_late(&mut self, store: &Store, moment: Moment, is_own: bool) {
        let floor = moment.floor(self.drop_after_ms - self.drop_after_ms / WITH_IT, is_own);
        let Some(from) = self.window.front().map(super::begins_at) else { return };
        let (mut to, mut bytes) = (from, 0);
        while let Some(LinkedPart::Batch(batch)) = self.window.front()
            && batch.envelope().hlc < floor
        {
            (to, bytes) = (batch.next_offset(), bytes + batch.bytes().len() as u64);
            self.window.pop_front();
        }
        if self.window.is_empty() {
            let end = self.late_up_to(store, to, floor);
            bytes += waiting_bytes(&store.reach(self.log.id()), end - to);
            (to, self.next) = (end, end);
        }
        self.window.push_front(LinkedPart::Hole(self.log.id(), Hole { from, to, why: HoleWhy::Deadline, at_ms: 0 }));
        self.dropped = Some(Dropped { to, events: to - from, bytes });
    }

    /// Where the first batch behind an offset begins that is not older than a clock, without reading all that lie between. What is
    /// missing there for another reason is told by that one.
    fn late_up_to(&self, store: &Store, from: Offset, floor: u64) -> Offset {
        let id = self.log.id();
        // What cannot be found is met batch by batch.
        let found = store.offset_at_clock(id, from, floor).unwrap_or(from).min(self.limit);
        let hole = store.holes(id).iter().find(|hole| hole.to > from).map_or(found, |hole| hole.from);
        let is_gone = store.reach(id).start > from;
        if is_gone { from } else { found.min(hole).max(from) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_jumps_ahead_makes_nothing_older_than_the_node_has_been_running() {
        let (hour, began) = (3_600_000, 1_000_000_000);
        let moment = |wall_ms, up_ms| Moment { wall_ms, up_ms, began_after: began << HLC_LOGICAL_BITS };
        // now, how long it has been running, age, own, the first clock's milliseconds that are young enough
        let cases = [
            (began + 5 * hour, 5 * hour, hour, true, began + 4 * hour),
            (began + 5 * hour, 5 * hour, hour, false, began + 4 * hour),
            // It began with a clock of the past, which was set since.
            (began + 500 * hour, hour / 2, hour, true, began),
            (began + 500 * hour, hour / 2, hour, false, began + 499 * hour),
            // What is from before the start may be older.
            (began + hour / 2, hour / 2, hour, true, began - hour / 2),
            (5, 5, hour, true, 0),
        ];
        for (wall_ms, up_ms, age_ms, is_own, expected) in cases {
            let floor = moment(wall_ms, up_ms).floor(age_ms, is_own);
            assert_eq!(floor >> HLC_LOGICAL_BITS, expected, "{wall_ms} {up_ms} {is_own}");
        }
    }
}
