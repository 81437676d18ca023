//! The retained messages of all nodes of a site: of each MQTT topic the newest one, and marks where it was removed. Pure.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use super::retained::{Retained, RetainedFull, RetainedIndex, RetainedLimits};
use crate::event_log::Stamp;

/// Marks of removed messages that are kept; beyond that the oldest go.
const MARKS_MAX: usize = 10_000;
/// How long a mark is kept, in milliseconds: a node that is cut off for longer may bring an older message back.
const MARK_KEEP_MS: i64 = 7 * 24 * 3_600 * 1_000;

/// By how much another node's clock is to have moved before its messages are gone through.
const CLOCK_STEP_MS: u64 = 1_000;

/// The life in the stamp of what says nothing any more: it is older than what any life wrote at that moment.
const FORSAKEN: u64 = 0;

/// What a node holds of a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// When and where it was written.
    pub stamp: Stamp,
    /// The message; `None`: it was removed.
    pub message: Option<Retained>,
}

/// What became of another node's word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is the newest; what was held before it had this stamp.
    Newest(Option<Stamp>),
    /// What is held is newer, or the same.
    Older,
}

/// The newest of all nodes' retained messages.
#[derive(Debug, Default)]
pub struct Merged {
    index: RetainedIndex,
    /// Stamps of messages: a message that has expired keeps its own until it is dropped.
    stamps: HashMap<Arc<str>, Stamp>,
    marks: Marks,
    /// By how much the clocks of other nodes are ahead of the caller's, in milliseconds, by their lives: times of messages are the caller's.
    ahead_ms: HashMap<u64, i64>,
    /// By how much what an earlier process of this node has written was made to expire sooner, in milliseconds; below 0: later.
    earlier_ms: i64,
}

#[derive(Debug, Default)]
struct Marks {
    by_topic: HashMap<Arc<str>, Stamp>,
    by_age: BTreeSet<(Stamp, Arc<str>)>,
}

impl Marks {
    fn insert(&mut self, topic: &str, stamp: Stamp) {
        self.remove(topic);
        let topic: Arc<str> = topic.into();
        self.by_age.insert((stamp, Arc::clone(&topic)));
        self.by_topic.insert(topic, stamp);
    }

    fn remove(&mut self, topic: &str) -> Option<Stamp> {
        let (topic, stamp) = self.by_topic.remove_entry(topic)?;
        self.by_age.remove(&(stamp, topic));
        Some(stamp)
    }
}

impl Merged {
    /// Nothing yet.
    pub fn new(limits: RetainedLimits) -> Self {
        Self { index: RetainedIndex::new(limits), ..Self::default() }
    }

    /// The messages.
    pub fn index(&self) -> &RetainedIndex {
        &self.index
    }

    /// When and where what is held of a topic was written.
    pub fn stamp(&self, topic: &str) -> Option<Stamp> {
        self.stamps.get(topic).or_else(|| self.marks.by_topic.get(topic)).copied()
    }

    /// What is held of a topic, unless it is expired.
    pub fn held(&self, topic: &str, now_ms: u64) -> Option<Held> {
        let stamp = self.stamp(topic)?;
        match self.marks.by_topic.contains_key(topic) {
            true => Some(Held { stamp, message: None }),
            false => self.index.get(topic, now_ms).map(|message| Held { stamp, message: Some(message.clone()) }),
        }
    }

    /// Holds a message of this node's own, which is newer than all that is known.
    ///
    /// # Errors
    /// When there is no room; what was held stays.
    pub fn set(&mut self, topic: &str, message: Retained, stamp: Stamp) -> Result<(), RetainedFull> {
        self.index.set(topic, message)?;
        self.marks.remove(topic);
        match self.stamps.get_mut(topic) {
            Some(known) => *known = stamp,
            None => {
                self.stamps.insert(topic.into(), stamp);
            }
        }
        Ok(())
    }

    /// Removes what is held of a topic, and leaves a mark where there is a stamp for it.
    pub fn remove(&mut self, topic: &str, mark: Option<Stamp>) {
        self.index.clear(topic);
        self.stamps.remove(topic);
        self.marks.remove(topic);
        if let Some(stamp) = mark {
            self.marks.insert(topic, stamp);
        }
    }

    /// Takes what another node holds. A message that has no room leaves a mark: rather none than an older one.
    pub fn take(&mut self, topic: &str, mut held: Held) -> Taken {
        let known = self.stamp(topic);
        if known.is_some_and(|known| known >= held.stamp) {
            return Taken::Older;
        }
        if let (Some(message), Some(ahead_ms)) = (&mut held.message, self.ahead_ms.get(&held.stamp.origin)) {
            message.expires_at_ms =
                message.expires_at_ms.map(|at_ms| at_ms.saturating_add_signed(ahead_ms.saturating_neg()));
        }
        let set = held.message.map(|message| self.set(topic, message, held.stamp));
        if !matches!(set, Some(Ok(()))) {
            self.remove(topic, Some(held.stamp));
        }
        Taken::Newest(known)
    }

    /// The clock of the node that writes a life is so much ahead of the caller's: what is held of it expires by that, where it is a second or more
    /// that has changed.
    pub fn follow_clock(&mut self, origin: u64, ahead_ms: i64) {
        let known = self.ahead_ms.get(&origin).copied().unwrap_or(0);
        let by_ms = known.saturating_sub(ahead_ms);
        if by_ms.unsigned_abs() < CLOCK_STEP_MS {
            return;
        }
        self.ahead_ms.insert(origin, ahead_ms);
        let written = self.stamps.iter().filter(|(_, stamp)| stamp.origin == origin);
        written.for_each(|(topic, _)| self.index.postpone(topic, by_ms));
    }

    /// What the life `origin` has written up to `until` is so much older than it seems, or younger (below 0): its process had the time, and this one began
    /// without.
    pub fn follow_set_clock(&mut self, origin: u64, until: u64, ahead_ms: i64) {
        if ahead_ms.abs_diff(self.earlier_ms) < CLOCK_STEP_MS {
            return;
        }
        let by_ms = self.earlier_ms.saturating_sub(ahead_ms);
        self.earlier_ms = ahead_ms;
        let written = self.stamps.iter().filter(|(_, stamp)| stamp.origin == origin && stamp.clock <= until);
        written.for_each(|(topic, _)| self.index.postpone(topic, by_ms));
    }

    /// What is held of lives that `is_one` names says nothing any more: what another one has written at the same moment, or later, takes its place. It is shown
    /// until then. The topics.
    pub fn forsake(&mut self, is_one: impl Fn(u64) -> bool) -> Vec<Arc<str>> {
        let written = self.stamps.iter_mut().filter(|(_, stamp)| is_one(stamp.origin));
        let forsaken = written.map(|(topic, stamp)| {
            stamp.origin = FORSAKEN;
            Arc::clone(topic)
        });
        forsaken.collect()
    }

    /// Whether what is held of a topic says nothing any more.
    pub fn is_forsaken(&self, topic: &str) -> bool {
        self.stamps.get(topic).is_some_and(|stamp| stamp.origin == FORSAKEN)
    }

    /// Drops at most `count_max` messages that have expired; each leaves a mark of its stamp where `marks` says so.
    /// Their topics and stamps.
    pub fn expire(&mut self, now_ms: u64, count_max: usize, marks: bool) -> Vec<(Arc<str>, Stamp)> {
        let dropped = self.index.expire(now_ms, count_max);
        let stamps = dropped.into_iter().map(|topic| {
            let stamp = self.stamps.remove(&*topic).unwrap_or_default();
            if marks {
                self.marks.insert(&topic, stamp);
            }
            (topic, stamp)
        });
        stamps.collect()
    }

    /// Drops at most `count_max` marks that are too old, by the wall clock, or too many. Their topics and stamps.
    pub fn drop_marks(&mut self, wall_ms: i64, count_max: usize) -> Vec<(Arc<str>, Stamp)> {
        let mut dropped = Vec::new();
        while dropped.len() < count_max {
            let Some((stamp, topic)) = self.marks.by_age.first() else { break };
            let is_old = sled_data::hlc_ms(stamp.clock).saturating_add(MARK_KEEP_MS) <= wall_ms;
            if !is_old && self.marks.by_age.len() <= MARKS_MAX {
                break;
            }
            let (stamp, topic) = (*stamp, Arc::clone(topic));
            self.marks.remove(&topic);
            dropped.push((topic, stamp));
        }
        dropped
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::mqtt::codec::Qos;

    fn message(payload: &str) -> Retained {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Retained { payload, properties: Bytes::new(), qos: Qos::AtMostOnce, expires_at_ms: None }
    }

    fn held(clock: u64, origin: u64, payload: Option<&str>) -> Held {
        Held { stamp: Stamp { clock, origin }, message: payload.map(message) }
    }

    fn shown(merged: &Merged) -> Vec<(String, Retained)> {
        merged.index().matching("#", None, 0).map(|(topic, message)| (topic.to_string(), message.clone())).collect()
    }

    #[test]
    fn a_removal_beats_an_older_message_and_not_a_newer_one() {
        let mut merged = Merged::default();
        assert_eq!(merged.take("t", held(5, 1, None)), Taken::Newest(None));
        assert_eq!(merged.take("t", held(4, 2, Some("old"))), Taken::Older);
        assert_eq!(merged.take("t", held(5, 0, Some("old"))), Taken::Older);
        assert!(shown(&merged).is_empty());
        assert_eq!(merged.take("t", held(6, 0, Some("new"))), Taken::Newest(Some(Stamp { clock: 5, origin: 1 })));
        assert_eq!(merged.held("t", 0), Some(held(6, 0, Some("new"))));
        assert_eq!(merged.take("t", held(6, 0, Some("new"))), Taken::Older, "the same");
        merged.remove("t", None);
        assert_eq!(merged.stamp("t"), None);
    }

    #[test]
    fn what_has_no_room_is_not_replaced_by_what_is_older() {
        let mut merged = Merged::new(RetainedLimits { messages_max: 1, bytes_max: 20 });
        merged.take("a", held(1, 1, Some("x")));
        merged.take("b", held(2, 1, Some("x")));
        assert_eq!(shown(&merged).len(), 1);
        merged.remove("a", None);
        assert_eq!(merged.take("b", held(1, 2, Some("older"))), Taken::Older);
        merged.take("b", held(3, 2, Some(&"x".repeat(30))));
        assert!(shown(&merged).is_empty());
    }

    #[test]
    fn marks_are_bounded_in_number_and_age() {
        let mut merged = Merged::default();
        for clock in 1..=MARKS_MAX as u64 + 3 {
            merged.take(&format!("t/{clock}"), held(clock, 1, None));
        }
        let dropped = merged.drop_marks(0, 2);
        assert_eq!(dropped.iter().map(|(topic, _)| &**topic).collect::<Vec<_>>(), ["t/1", "t/2"]);
        assert_eq!(merged.drop_marks(0, 9).len(), 1);
        assert_eq!(merged.drop_marks(MARK_KEEP_MS + 1, usize::MAX).len(), MARKS_MAX);
        assert!(merged.marks.by_age.is_empty() && merged.marks.by_topic.is_empty());
    }

    #[test]
    fn what_another_node_holds_expires_by_its_clock() {
        let mut merged = Merged::default();
        let expiring = |clock, origin| {
            let mut held = held(clock, origin, Some("x"));
            held.message.as_mut().unwrap().expires_at_ms = Some(50_000);
            held
        };
        let left_s = |merged: &Merged, topic: &str| merged.index().get(topic, 40_000)?.expiry_left_s(40_000);
        merged.take("known", expiring(5, 1));
        merged.take("other", expiring(5, 2));
        for (ahead_ms, expected) in
            [(5_000, Some(5)), (5_999, Some(5)), (-20_000, Some(30)), (10_000, None), (0, Some(10))]
        {
            merged.follow_clock(1, ahead_ms);
            merged.take("late", expiring(5, 1));
            assert_eq!(left_s(&merged, "known"), expected, "{ahead_ms}");
            assert_eq!(left_s(&merged, "late"), expected, "{ahead_ms}");
            assert_eq!(left_s(&merged, "other"), Some(10));
            merged.remove("late", None);
        }
        assert!(merged.expire(49_999, 9, true).is_empty());
        assert_eq!(merged.expire(50_000, 9, true).len(), 2);
    }

    #[test]
    fn what_is_forsaken_gives_way_to_what_is_as_old() {
        let mut merged = Merged::default();
        for topic in ["same", "later", "older", "none"] {
            merged.take(topic, held(5, 9, Some("x")));
        }
        merged.take("other", held(5, 8, Some("x")));
        let mut topics = merged.forsake(|origin| origin == 9);
        topics.sort();
        assert_eq!(topics, ["later".into(), "none".into(), "older".into(), "same".into()] as [Arc<str>; 4]);
        assert_eq!(shown(&merged).len(), 5, "it is shown for now");
        for (topic, clock, takes) in [("same", 5, true), ("later", 6, true), ("older", 4, false)] {
            let taken = merged.take(topic, held(clock, 1, Some("y")));
            assert_eq!(taken != Taken::Older, takes, "{topic}");
        }
        let left = ["same", "later", "older", "none", "other"].map(|topic| merged.is_forsaken(topic));
        assert_eq!(left, [false, false, true, true, false]);
    }

    #[test]
    fn what_expires_leaves_its_stamp_in_a_site() {
        let mut merged = Merged::default();
        let mut expiring = held(5, 1, Some("x"));
        expiring.message.as_mut().unwrap().expires_at_ms = Some(10);
        merged.take("t", expiring);
        assert_eq!(merged.expire(10, 9, true), [("t".into(), Stamp { clock: 5, origin: 1 })]);
        assert_eq!(merged.take("t", held(4, 2, Some("older"))), Taken::Older);
    }

    proptest! {
        /// Whatever arrives in whatever order, and however often: all nodes hold the same.
        #[test]
        fn any_order_of_arrival_gives_the_same_messages(
            words in proptest::collection::vec(("[ab]", 1u64..9, 1u64..4, proptest::option::of("[xy]")), 1..20),
            again in proptest::collection::vec(any::<prop::sample::Index>(), 0..20),
            order in any::<u64>(),
        ) {
            // A node writes a topic once at a moment.
            let mut unique: HashMap<(String, Stamp), Option<Retained>> = HashMap::new();
            for (topic, clock, origin, payload) in &words {
                let stamp = Stamp { clock: *clock, origin: *origin };
                unique.entry((topic.clone(), stamp)).or_insert(payload.as_deref().map(message));
            }
            let mut words: Vec<(String, Held)> = unique.into_iter()
                .map(|((topic, stamp), message)| (topic, Held { stamp, message })).collect();
            words.sort_by_key(|(topic, held)| (topic.clone(), held.stamp));
            let mut expected = Merged::default();
            for (topic, held) in &words {
                expected.take(topic, held.clone());
            }
            let mut shuffled = words.clone();
            shuffled.sort_by_key(|(topic, held)| {
                let mixed = held.stamp.clock.wrapping_mul(31) ^ held.stamp.origin.wrapping_mul(order | 1) ^ topic.len() as u64;
                mixed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left((order % 64) as u32)
            });
            shuffled.extend(again.iter().map(|at| at.get(&words).clone()));
            let mut merged = Merged::default();
            for (topic, held) in &shuffled {
                merged.take(topic, held.clone());
            }
            prop_assert_eq!(shown(&merged), shown(&expected));
            for topic in ["a", "b"] {
                prop_assert_eq!(merged.held(topic, 0), expected.held(topic, 0));
            }
        }
    }
}
