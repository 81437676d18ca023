//! Retained messages: the last one of each MQTT topic, bounded in number and bytes.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use bytes::Bytes;

use super::codec::{Properties, Qos};
use super::topic;

/// Bounds of an index.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct RetainedLimits {
    /// Topics at most.
    pub messages_max: usize,
    /// Bytes of topics, payloads and properties at most.
    pub bytes_max: usize,
}

impl Default for RetainedLimits {
    fn default() -> Self {
        Self { messages_max: 100_000, bytes_max: 64 << 20 }
    }
}

/// A retained message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Retained {
    /// The payload, not empty.
    pub payload: Bytes,
    /// Properties that go with it, in wire form, without its expiry.
    pub properties: Bytes,
    /// The QoS at which it was published.
    pub qos: Qos,
    /// When it expires, by the caller's clock.
    pub expires_at_ms: Option<u64>,
}

impl Retained {
    /// The properties that go with it.
    pub fn properties(&self) -> Properties<'_> {
        Properties::from_stored(&self.properties)
    }

    /// What is left of its expiry, whole seconds rounded up, for its PUBLISH.
    pub fn expiry_left_s(&self, now_ms: u64) -> Option<u32> {
        let left_ms = self.expires_at_ms?.saturating_sub(now_ms);
        Some(u32::try_from(left_ms.div_ceil(1000)).unwrap_or(u32::MAX))
    }

    fn is_expired(&self, now_ms: u64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    fn bytes(&self, topic: &str) -> usize {
        topic.len() + self.payload.len() + self.properties.len()
    }
}

/// A retained message is refused; the one before it, if any, stays. A client is told 0x97, quota exceeded.
#[derive(Copy, Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RetainedFull {
    /// The number of topics.
    #[error("{0} topics have a retained message, which is the limit")]
    Messages(usize),
    /// The bytes.
    #[error("retained messages would take more than {0} bytes, which is the limit")]
    Bytes(usize),
}

/// The retained messages by topic name.
#[derive(Debug, Default)]
pub struct RetainedIndex {
    limits: RetainedLimits,
    by_topic: BTreeMap<Arc<str>, Retained>,
    by_expiry: BTreeSet<(u64, Arc<str>)>,
    bytes: usize,
}

impl RetainedIndex {
    /// An empty index.
    pub fn new(limits: RetainedLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// How many topics have a retained message, expired ones that were not yet dropped included.
    pub fn len(&self) -> usize {
        self.by_topic.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.by_topic.is_empty()
    }

    /// The bytes of all topics, payloads and properties.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Sets the message of a topic. A message with an empty payload clears instead ([MQTT-3.3.1-6]): see
    /// [`RetainedIndex::clear`].
    pub fn set(&mut self, topic: &str, message: Retained) -> Result<(), RetainedFull> {
        let before = self.by_topic.get(topic).map(|before| before.bytes(topic));
        if before.is_none() && self.by_topic.len() >= self.limits.messages_max {
            return Err(RetainedFull::Messages(self.limits.messages_max));
        }
        let bytes = self.bytes - before.unwrap_or(0) + message.bytes(topic);
        if bytes > self.limits.bytes_max {
            return Err(RetainedFull::Bytes(self.limits.bytes_max));
        }
        self.clear(topic);
        let topic: Arc<str> = topic.into();
        if let Some(at_ms) = message.expires_at_ms {
            self.by_expiry.insert((at_ms, topic.clone()));
        }
        self.by_topic.insert(topic, message);
        self.bytes = bytes;
        Ok(())
    }

    /// Removes the message of a topic; says whether there was one.
    pub fn clear(&mut self, topic: &str) -> bool {
        let Some((topic, message)) = self.by_topic.remove_entry(topic) else {
            return false;
        };
        self.bytes -= message.bytes(&topic);
        if let Some(at_ms) = message.expires_at_ms {
            self.by_expiry.remove(&(at_ms, topic));
        }
        true
    }

    /// Has the message of a topic expire later by so many milliseconds, where it expires at all.
    pub fn postpone(&mut self, topic: &str, by_ms: i64) {
        let Some((topic, _)) = self.by_topic.get_key_value(topic) else { return };
        let topic = Arc::clone(topic);
        let Some(at_ms) = self.by_topic.get_mut(&topic).and_then(|message| message.expires_at_ms.as_mut()) else {
            return;
        };
        self.by_expiry.remove(&(*at_ms, Arc::clone(&topic)));
        *at_ms = at_ms.saturating_add_signed(by_ms);
        self.by_expiry.insert((*at_ms, topic));
    }

    /// Whether a topic has a message, expired or not.
    pub fn has(&self, topic: &str) -> bool {
        self.by_topic.contains_key(topic)
    }

    /// The message of a topic, unless it is expired.
    pub fn get(&self, topic: &str, now_ms: u64) -> Option<&Retained> {
        self.by_topic.get(topic).filter(|message| !message.is_expired(now_ms))
    }

    /// The messages that match a filter, in the order of their topics. `after` continues an earlier search behind the
    /// topic that it ended with. What begins like the filter up to its first wildcard is looked through.
    pub fn matching<'a>(
        &'a self,
        filter: &'a str,
        after: Option<&'a str>,
        now_ms: u64,
    ) -> impl Iterator<Item = (&'a Arc<str>, &'a Retained)> {
        let prefix = literal_prefix(filter);
        let from = match after {
            Some(after) if after >= prefix => Bound::Excluded(after),
            _ => Bound::Included(prefix),
        };
        self.by_topic
            .range::<str, _>((from, Bound::Unbounded))
            .take_while(move |(topic, _)| topic.starts_with(prefix))
            .filter(move |(topic, message)| topic::matches(filter, topic) && !message.is_expired(now_ms))
    }

    /// Drops at most `count_max` expired messages and returns their topics.
    pub fn expire(&mut self, now_ms: u64, count_max: usize) -> Vec<Arc<str>> {
        let mut dropped = Vec::new();
        while dropped.len() < count_max {
            match self.by_expiry.first() {
                Some((at_ms, topic)) if *at_ms <= now_ms => {
                    let topic = topic.clone();
                    self.clear(&topic);
                    dropped.push(topic);
                }
                _ => break,
            }
        }
        dropped
    }
}

/// What every topic that matches begins with. `a/#` matches `a` as well, so the slash before `#` is not part of it.
fn literal_prefix(filter: &str) -> &str {
    match filter.find(['+', '#']) {
        None => filter,
        Some(at) => {
            let prefix = filter.get(..at).unwrap_or_default();
            if filter.ends_with("/#") && at + 1 == filter.len() { prefix.trim_end_matches('/') } else { prefix }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(payload: &str, expires_at_ms: Option<u64>) -> Retained {
        let payload = Bytes::copy_from_slice(payload.as_bytes());
        Retained { payload, properties: Bytes::new(), qos: Qos::AtLeastOnce, expires_at_ms }
    }

    fn topics(index: &RetainedIndex, filter: &str, after: Option<&str>, now_ms: u64) -> Vec<String> {
        index.matching(filter, after, now_ms).map(|(topic, _)| topic.to_string()).collect()
    }

    #[test]
    fn filters_find_what_matches_and_not_what_is_expired() {
        let mut index = RetainedIndex::default();
        for topic in ["a", "a/b", "a/b/c", "a/c", "ab", "b", "$SYS/x", "/"] {
            index.set(topic, message("x", (topic == "a/c").then_some(100))).unwrap();
        }
        let cases: [(&str, &[&str]); 8] = [
            ("a/#", &["a", "a/b", "a/b/c", "a/c"]),
            ("a/+", &["a/b", "a/c"]),
            ("#", &["/", "a", "a/b", "a/b/c", "a/c", "ab", "b"]),
            ("+/b", &["a/b"]),
            ("$SYS/#", &["$SYS/x"]),
            ("a/b", &["a/b"]),
            ("+/+", &["/", "a/b", "a/c"]),
            ("c", &[]),
        ];
        for (filter, expected) in cases {
            assert_eq!(topics(&index, filter, None, 99), expected, "{filter}");
        }
        assert_eq!(topics(&index, "a/+", None, 100), ["a/b"]);
        assert_eq!(topics(&index, "a/#", Some("a/b"), 99), ["a/b/c", "a/c"]);
        assert_eq!(topics(&index, "a/#", Some("0"), 99).len(), 4);
        assert!(index.get("a/c", 99).is_some() && index.get("a/c", 100).is_none());
    }

    #[test]
    fn expiry_is_counted_down_and_dropped_in_bounded_steps() {
        let mut index = RetainedIndex::default();
        for (topic, at) in [("a", 10), ("b", 20), ("c", 20), ("d", 30)] {
            index.set(topic, message("x", Some(at))).unwrap();
        }
        index.set("a", message("x", Some(1_000))).unwrap();
        assert_eq!(index.expire(25, 1).len(), 1);
        assert_eq!(index.expire(25, 9).len(), 1);
        assert_eq!((index.expire(25, 9).len(), index.len()), (0, 2));
        let left = |now| index.get("a", now).and_then(|message| message.expiry_left_s(now));
        assert_eq!([left(0), left(1), left(999)], [Some(1), Some(1), Some(1)]);
        assert_eq!(message("x", Some(2_001)).expiry_left_s(0), Some(3));
        assert_eq!(message("x", None).expiry_left_s(0), None);
    }

    #[test]
    fn bounds_refuse_the_new_and_keep_the_old() {
        let mut index = RetainedIndex::new(RetainedLimits { messages_max: 2, bytes_max: 10 });
        index.set("a", message("1234", None)).unwrap();
        index.set("b", message("1", None)).unwrap();
        assert_eq!(index.set("c", message("1", None)), Err(RetainedFull::Messages(2)));
        assert_eq!(index.set("b", message("12345", None)), Err(RetainedFull::Bytes(10)));
        assert_eq!(index.get("b", 0), Some(&message("1", None)));
        index.set("b", message("1234", None)).unwrap();
        assert_eq!(index.bytes(), 10);
        assert!(index.clear("a") && !index.clear("a"));
        assert_eq!((index.bytes(), index.len()), (5, 1));
        index.set("c", message("1", None)).unwrap();
    }

    proptest! {
        #[test]
        fn the_index_holds_what_a_plain_map_holds(
            steps in proptest::collection::vec(("[ab/]{1,3}", "[x]{0,4}", proptest::option::of(0u64..50)), 0..60),
            filter in "(a|b|\\+)(/(a|b|\\+)?){0,2}(/#)?|#",
            now_ms in 0u64..60,
        ) {
            let mut index = RetainedIndex::default();
            let mut model: BTreeMap<String, Retained> = BTreeMap::new();
            for (topic, payload, expires_at_ms) in &steps {
                if payload.is_empty() {
                    prop_assert_eq!(index.clear(topic), model.remove(topic).is_some());
                } else {
                    index.set(topic, message(payload, *expires_at_ms)).unwrap();
                    model.insert(topic.clone(), message(payload, *expires_at_ms));
                }
            }
            let bytes = model.iter().map(|(topic, message)| message.bytes(topic)).sum::<usize>();
            prop_assert_eq!((index.len(), index.bytes()), (model.len(), bytes));
            model.retain(|_, message| !message.is_expired(now_ms));
            let expected: Vec<String> = model.keys().filter(|topic| topic::matches(&filter, topic)).cloned().collect();
            prop_assert_eq!(topics(&index, &filter, None, now_ms), expected);
            index.expire(now_ms, usize::MAX);
            prop_assert_eq!(index.by_topic.keys().map(|topic| topic.to_string()).collect::<Vec<_>>(), model.keys().cloned().collect::<Vec<_>>());
            prop_assert!(index.by_expiry.len() <= index.len());
        }
    }
}
