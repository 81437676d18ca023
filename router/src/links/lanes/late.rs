//! What is too old to be sent: older than its class's deadline, by the hybrid clock that it is stored with. A hole takes its place.

use std::collections::BTreeMap;

use sled_data::{HLC_LOGICAL_BITS, Hole, HoleWhy, LinkedPart, Offset, OriginId, Store};

use super::{Lane, Stream};
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

/// The newest clock of each origin that others write, and when it was seen here first: their clocks may be hours behind this node's. Kept over
/// connections, or what has stood still would be young again after each cut.
#[derive(Debug, Default)]
pub struct Newest(BTreeMap<OriginId, (u64, u64)>);

impl Newest {
    /// A hybrid clock of an origin was seen, so long after the node's start (milliseconds).
    fn see(&mut self, origin: OriginId, hlc: u64, up_ms: u64) {
        let newest = self.0.entry(origin).or_insert((hlc, up_ms));
        if hlc > newest.0 {
            *newest = (hlc, up_ms);
        }
    }

    /// What an origin's own clock may show by now, milliseconds: its newest one, and the time since it came.
    fn now_ms(&self, origin: OriginId, up_ms: u64) -> Option<u64> {
        let (hlc, seen_ms) = self.0.get(&origin)?;
        Some((hlc >> HLC_LOGICAL_BITS).saturating_add(up_ms.saturating_sub(*seen_ms)))
    }
}

/// By which clock the events of an origin are dated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dated {
    /// By the one here.
    Here,
    /// By another one, which shows this by now at most, milliseconds.
    Elsewhere(u64),
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

    /// The first hybrid clock that is not older than so many milliseconds.
    fn floor(self, age_ms: u64, dated: Dated) -> u64 {
        let floor = self.wall_ms.saturating_sub(age_ms) << HLC_LOGICAL_BITS;
        match dated {
            Dated::Here if self.up_ms < age_ms => floor.min(self.began_after.saturating_add(1)),
            Dated::Here => floor,
            Dated::Elsewhere(now_ms) => floor.min(now_ms.saturating_sub(age_ms) << HLC_LOGICAL_BITS),
        }
    }
}

impl Stream {
    /// Notes the newest clock of what another node writes, where something has a deadline; by which clock it is dated.
    pub(super) fn date(&mut self, store: &Store, origin: OriginId, moment: Moment, newest: &mut Newest) -> Dated {
        if origin == store.origin() {
            return Dated::Here;
        }
        let has_more = |lane: &&mut Lane| lane.drop_after_ms > 0 && lane.dated_to < lane.limit;
        for lane in self.lanes.values_mut().filter(has_more) {
            lane.dated_to = lane.limit;
            if let Some(hlc) = store.hlc_before(lane.log.id(), lane.limit) {
                newest.see(origin, hlc, moment.up_ms);
            }
        }
        newest.now_ms(origin, moment.up_ms).map_or(Dated::Here, Dated::Elsewhere)
    }
}

impl Lane {
    /// Whether what is next is too old. A deadline of 0 is none.
    pub(super) fn is_late(&self, moment: Moment, dated: Dated) -> bool {
        let Some(LinkedPart::Batch(batch)) = self.window.front() else { return false };
        self.drop_after_ms > 0 && batch.envelope().hlc < moment.floor(self.drop_after_ms, dated)
    }

    /// Puts a hole in the place of what is next and too old, and of what will be soon. Reads the store.
    pub(super) fn drop_late(&mut self, store: &Store, moment: Moment, dated: Dated) {
        let floor = moment.floor(self.drop_after_ms - self.drop_after_ms / WITH_IT, dated);
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
        let found = store.offset_at_clock(id, from, floor).unwrap_or(from).min(self.batches_to());
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
        // Dated by a clock that has shown the same, an hour more, three hours less, and one that has stood still since long.
        let elsewhere = |ms: u64| Dated::Elsewhere(began + ms);
        let now = 5 * hour;
        // now, how long it has been running, age, by which clock, the first clock's milliseconds that are young enough
        let cases = [
            (began + now, now, hour, Dated::Here, began + 4 * hour),
            (began + now, now, hour, elsewhere(now), began + 4 * hour),
            (began + now, now, hour, elsewhere(now + hour), began + 4 * hour),
            (began + now, now, hour, elsewhere(now - 3 * hour), began + hour),
            // It began with a clock of the past, which was set since.
            (began + 500 * hour, hour / 2, hour, Dated::Here, began),
            (began + 500 * hour, hour / 2, hour, elsewhere(hour), began),
            // What is from before the start may be older.
            (began + hour / 2, hour / 2, hour, Dated::Here, began - hour / 2),
            (5, 5, hour, Dated::Here, 0),
            (began, 5, hour, Dated::Elsewhere(5), 0),
        ];
        for (wall_ms, up_ms, age_ms, dated, expected) in cases {
            let floor = moment(wall_ms, up_ms).floor(age_ms, dated);
            assert_eq!(floor >> HLC_LOGICAL_BITS, expected, "{wall_ms} {up_ms} {dated:?}");
        }
    }

    #[test]
    fn what_another_node_writes_grows_old_by_the_time_since_it_came() {
        let (mut newest, origin) = (Newest::default(), OriginId(7));
        assert_eq!(newest.now_ms(origin, 9), None);
        let hlc = |ms: u64| ms << HLC_LOGICAL_BITS;
        // a clock that is seen, when, what its own clock may show a second later
        let steps =
            [(1_000, 50, 2_000), (1_500, 90, 2_500), (1_400, 500, 2_910), (1_500, 700, 3_110), (9_000, 800, 10_000)];
        for (ms, up_ms, expected) in steps {
            newest.see(origin, hlc(ms), up_ms);
            assert_eq!(newest.now_ms(origin, up_ms + 1_000), Some(expected), "{ms} {up_ms}");
        }
    }
}
