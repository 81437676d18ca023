//! Which origins of the site's other nodes this one sends: those that are left, their own nodes sending them no more (pure).

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sled_data::{Offset, OriginId, PartitionId};

/// One look at a partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Look {
    /// Where it ended upstream.
    upstream: Offset,
    /// Where what is live went on there: behind what lies ahead of that, where something does.
    live: Offset,
    /// Where it ended here.
    here: Offset,
}

/// What was seen of partitions that other nodes of the site write.
#[derive(Debug, Default)]
pub struct Left {
    looks: BTreeMap<PartitionId, Look>,
    /// When upstream was seen to have more of an origin than before.
    moved: BTreeMap<OriginId, Duration>,
}

impl Left {
    /// Notes where a partition ends upstream, and what is live goes on there, and where it ends here; says whether it is left: upstream is behind, was so
    /// at the last look, and has had nothing more of its origin for `after`, be it ahead of the end.
    pub fn look(
        &mut self,
        id: PartitionId,
        (upstream, live): (Offset, Offset),
        here: Offset,
        now: Duration,
        after: Duration,
    ) -> bool {
        let before = self.looks.insert(id, Look { upstream, live, here });
        let stood = before.is_some_and(|before| (before.upstream, before.live) == (upstream, live));
        let moved = self.moved.entry(id.origin).or_insert(now);
        if before.is_some() && !stood {
            *moved = now;
        }
        let was_behind = before.is_some_and(|before| before.upstream < before.here);
        stood && was_behind && upstream < here && now.saturating_sub(*moved) >= after
    }

    /// Whether upstream had all of a partition at the last look that is here now.
    pub fn is_level(&self, id: PartitionId, here: Offset) -> bool {
        self.looks.get(&id).is_some_and(|look| look.upstream >= here)
    }

    /// Forgets partitions that are not here any more.
    pub fn keep(&mut self, here: &BTreeSet<PartitionId>) {
        self.looks.retain(|id, _| here.contains(id));
        let origins: BTreeSet<OriginId> = self.looks.keys().map(|id| id.origin).collect();
        self.moved.retain(|origin, _| origins.contains(origin));
    }

    /// Notes that this node has sent all of a partition.
    pub fn level(&mut self, id: PartitionId, end: Offset) {
        self.looks.insert(id, Look { upstream: end, live: end, here: end });
    }
}

#[cfg(test)]
mod tests {
    use sled_data::TopicId;

    use super::*;

    const AFTER: Duration = Duration::from_secs(10);

    fn id(origin: u64, index: u32) -> PartitionId {
        PartitionId { origin: OriginId(origin), topic: TopicId(1), index }
    }

    #[test]
    fn an_origin_is_left_when_upstream_has_stood_still_behind() {
        let mut left = Left::default();
        let mut look = |index, end, here, s| left.look(id(1, index), (end, end), here, Duration::from_secs(s), AFTER);
        assert!(!look(0, 5, 9, 0), "the first look");
        assert!(!look(0, 5, 9, 9), "too soon");
        assert!(look(0, 5, 9, 10), "it stands still");
        assert!(!look(0, 7, 9, 11), "it goes on");
        assert!(!look(0, 7, 9, 20));
        assert!(!look(1, 0, 4, 20), "the first look at another");
        assert!(!look(1, 1, 4, 30), "another one of the origin goes on");
        assert!(!look(0, 7, 9, 35), "so does the origin");
        assert!(look(0, 7, 9, 40));
        assert!(look(1, 1, 4, 40));
    }

    #[test]
    fn one_that_was_level_is_watched_from_its_next_event_on() {
        let mut left = Left::default();
        let at = Duration::from_secs;
        left.level(id(1, 0), 5);
        assert!(left.is_level(id(1, 0), 5) && !left.is_level(id(1, 0), 6) && !left.is_level(id(2, 0), 0));
        assert!(!left.look(id(1, 0), (5, 5), 6, at(100), AFTER), "its node has had no time yet");
        assert!(left.look(id(1, 0), (5, 5), 6, at(110), AFTER));
    }

    #[test]
    fn one_of_which_what_is_live_goes_on_ahead_is_not_left() {
        let mut left = Left::default();
        let mut look = |live, s| left.look(id(1, 0), (5, live), 30, Duration::from_secs(s), AFTER);
        assert!(!look(20, 0) && !look(21, 10) && !look(22, 20) && !look(22, 29));
        assert!(look(22, 30), "nothing more comes");
        assert!(!look(23, 31), "it goes on");
    }
}
