//! After a restart in a site: what was open is held back until it is known whether others have taken it up meanwhile.
//!
//! A node that was lost is back before it has heard what the site has decided. Were it to go on at once, a device could
//! get a command from it that it has had from a survivor. A node that is cut off goes on after a bounded time. [`Standing`] decides and is
//! pure.

use sled_data::{CopyState, Offset, PartitionId};

use super::Commands;

/// How long commands are held back at most, in milliseconds.
const HELD_MAX_MS: u64 = 10_000;
/// The same while copies of what others have written are on their way.
const HELD_FOR_COPIES_MAX_MS: u64 = 300_000;

/// Whether commands are held back.
#[derive(Debug, Default)]
pub struct Standing {
    /// Since when, and until when, on the steady clock.
    held: Option<(u64, u64)>,
    /// Where the steps and answers end that were here when all was here that others had written: they are to be read first.
    ends: Option<Vec<(PartitionId, Offset)>>,
}

impl Standing {
    /// Holds back what was open before.
    pub fn hold(&mut self, now_ms: u64) {
        *self = Self { held: Some((now_ms, now_ms + HELD_MAX_MS)), ends: None };
    }

    /// What others have written is on its way as a whole: it takes its time.
    pub fn hold_on(&mut self, now_ms: u64) {
        if let Some((since, until)) = &mut self.held {
            *until = (*until).max((now_ms + HELD_MAX_MS).min(*since + HELD_FOR_COPIES_MAX_MS));
        }
    }

    /// All that others had written is here, up to these ends of the partitions to be read; true where that was not known before.
    pub fn go_on(&mut self, ends: impl FnOnce() -> Vec<(PartitionId, Offset)>) -> bool {
        let is_new = self.held.is_some() && self.ends.is_none();
        if is_new {
            self.ends = Some(ends());
        }
        is_new
    }

    /// Whether all that others had written may be read, by how far each partition may. To be asked before it is read.
    pub fn is_shown(&self, visible_end: impl Fn(PartitionId) -> Offset) -> bool {
        self.ends.as_ref().is_some_and(|ends| ends.iter().all(|(id, end)| visible_end(*id) >= *end))
    }

    /// Others' partitions were read: all that may be, and what was written is within it. What is held back goes on.
    pub fn has_read(&mut self) {
        *self = Self::default();
    }

    /// Until when commands are held back, on the steady clock; `None` where they are not.
    pub fn held_until(&mut self, now_ms: u64) -> Option<u64> {
        if self.held.is_some_and(|(_, until)| until <= now_ms) {
            *self = Self::default();
        }
        self.held.map(|(_, until)| until)
    }
}

impl Commands {
    /// Holds back what was open before, where this node is one of several.
    pub(super) fn hold_back(&self) {
        if self.forward.get().is_some() && !self.log.others().is_empty() && self.pending() > 0 {
            self.standing.lock().hold(self.now().steady);
        }
    }

    /// Copies of what the others have written are on their way: what is held back waits for longer.
    pub fn hold_on(&self) {
        self.standing.lock().hold_on(self.now().steady);
    }

    /// All that the others have written before now is here, or they are not heard: what is held back goes on when it is read.
    pub fn go_on(&self) {
        if self.standing.lock().go_on(|| self.ends_of_others()) {
            self.mail.arrived.notify_one();
        }
    }

    /// Whether something is held back.
    pub fn is_held_back(&self) -> bool {
        self.held_until().is_some()
    }

    /// Until when commands are held back, on the steady clock; `None` where they are not.
    pub(super) fn held_until(&self) -> Option<u64> {
        self.standing.lock().held_until(self.now().steady)
    }

    /// Where others' steps and answers end in the store, whether or not they are shown yet. Of what is copied nothing is shown, and those who
    /// write it are not heard.
    fn ends_of_others(&self) -> Vec<(PartitionId, Offset)> {
        let store = self.log.store();
        let followed = store.followed().into_iter().filter(|(_, followed)| followed.copy != CopyState::Taking);
        let whole: Vec<_> = followed.map(|(origin, _)| origin).collect();
        let is_read = |id: &PartitionId| {
            (id.topic == self.commands.id() || id.topic == self.answers.id()) && whole.contains(&id.origin)
        };
        store.partitions().into_iter().filter(is_read).map(|id| (id, store.end_offset(id))).collect()
    }
}

#[cfg(test)]
mod tests {
    use sled_data::{OriginId, TopicId};

    use super::*;

    const ID: PartitionId = PartitionId { origin: OriginId(1), topic: TopicId(2), index: 0 };

    #[test]
    fn what_is_held_back_goes_on_when_all_that_was_written_is_read() {
        let mut standing = Standing::default();
        assert!(!standing.go_on(Vec::new), "nothing is held back");
        standing.hold(100);
        assert!(!standing.is_shown(|_| Offset::MAX), "it is not known what was written");
        assert!(standing.go_on(|| vec![(ID, 7)]));
        assert!(!standing.go_on(|| vec![(ID, 9)]), "what comes later is not waited for");
        assert!(!standing.is_shown(|_| 6));
        assert!(standing.is_shown(|_| 7));
        assert_eq!(standing.held_until(101), Some(100 + HELD_MAX_MS), "it is to be read first");
        standing.has_read();
        assert_eq!(standing.held_until(102), None);
    }

    #[test]
    fn nothing_is_held_back_for_ever() {
        let mut standing = Standing::default();
        standing.hold(100);
        assert_eq!(standing.held_until(99 + HELD_MAX_MS), Some(100 + HELD_MAX_MS));
        assert_eq!(standing.held_until(100 + HELD_MAX_MS), None);
        standing.hold_on(200);
        assert_eq!(standing.held_until(200), None, "what goes on is not held back again");
        standing.hold(100);
        let mut now = 100;
        while let Some(until) = standing.held_until(now) {
            assert!(now < 100 + HELD_FOR_COPIES_MAX_MS);
            now = until - 1;
            standing.hold_on(now);
            now += 1;
        }
        assert_eq!(now, 100 + HELD_FOR_COPIES_MAX_MS);
    }
}
