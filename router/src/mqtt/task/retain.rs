//! Retained messages: the index in memory and its copy in the store, written with the event's own commit.

use devices::headers;
use parking_lot::Mutex;
use sled_data::HeaderBlock;

use super::door::Config;
use super::publish::{RETAINED_TREE, add_properties};
use crate::event_log::{EventLog, OpenCommit};
use crate::mqtt::codec::{Publish, Qos};
use crate::mqtt::topic;

/// The version byte before a stored message.
const VERSION: u8 = 1;
/// Entries read at once at the start.
const LOAD_COUNT: usize = 1_000;
/// What an entry costs besides its topic, payload and headers, bytes.
const ENTRY_OVERHEAD_BYTES: usize = 96;

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct RetainedMessage {
    pub(super) payload: Vec<u8>,
    /// 0, 1 or 2.
    pub(super) qos: u8,
    pub(super) stored_at_ms: i64,
    /// Its MQTT 5 properties, as the reserved headers of an event: name and value.
    pub(super) headers: Vec<(String, Vec<u8>)>,
}

/// All retained messages of the node.
pub(super) struct Retained {
    index: Mutex<Index>,
    count_max: usize,
    bytes_max: usize,
}

#[derive(Default)]
struct Index {
    by_topic: std::collections::BTreeMap<Box<str>, RetainedMessage>,
    bytes: usize,
}

impl Index {
    fn insert(&mut self, topic: &str, message: RetainedMessage) {
        self.remove(topic);
        self.bytes += cost(topic, &message);
        self.by_topic.insert(topic.into(), message);
    }

    fn remove(&mut self, topic: &str) {
        if let Some(old) = self.by_topic.remove(topic) {
            self.bytes -= cost(topic, &old);
        }
    }
}

fn cost(topic: &str, message: &RetainedMessage) -> usize {
    let headers: usize = message.headers.iter().map(|(name, value)| name.len() + value.len()).sum();
    ENTRY_OVERHEAD_BYTES + topic.len() + message.payload.len() + headers
}

impl Retained {
    /// What the store kept.
    pub(super) fn load(log: &EventLog, config: &Config) -> Self {
        let mut index = Index::default();
        let mut after: Option<Vec<u8>> = None;
        while let Ok(entries) = log.state_scan(RETAINED_TREE, &[], after.as_deref(), LOAD_COUNT) {
            let Some((last, _)) = entries.last() else { break };
            after = Some(last.clone());
            for (key, value) in &entries {
                match (std::str::from_utf8(key), decode(value)) {
                    (Ok(topic), Some(message)) => index.insert(topic, message),
                    _ => tracing::warn!(topic = %String::from_utf8_lossy(key), "a retained message cannot be read"),
                }
            }
        }
        Self { index: Mutex::new(index), count_max: config.retained_max, bytes_max: config.retained_bytes_max }
    }

    /// Keeps or, with an empty payload, removes the retained message of a topic [MQTT-3.3.1-6]; stored with the
    /// commit that is open. `false` when there is no room: the event itself is not affected.
    pub(super) fn set<'log>(
        &self,
        log: &'log EventLog,
        open: &mut Option<OpenCommit<'log>>,
        topic: &str,
        publish: &Publish<'_>,
        now_ms: i64,
    ) -> bool {
        let mut index = self.index.lock();
        let open = open.get_or_insert_with(|| log.lock());
        if publish.payload.is_empty() {
            index.remove(topic);
            open.put_state(RETAINED_TREE, topic.as_bytes(), None);
            return true;
        }
        let mut block = HeaderBlock::new();
        add_properties(&mut block, &publish.properties);
        let headers = block.iter().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
        let message = RetainedMessage {
            payload: publish.payload.to_vec(),
            qos: publish.qos.bits(),
            stored_at_ms: now_ms,
            headers,
        };
        let is_new = !index.by_topic.contains_key(topic);
        let full =
            (is_new && index.by_topic.len() >= self.count_max) || index.bytes + cost(topic, &message) > self.bytes_max;
        if full {
            tracing::warn!(topic, "a message was not retained: [mqtt] retained_max or retained_bytes_max is reached");
            return false;
        }
        open.put_state(RETAINED_TREE, topic.as_bytes(), Some(&encode(&message)));
        index.insert(topic, message);
        true
    }

    /// The retained messages that a filter matches, without those that have expired.
    pub(super) fn matching(&self, filter: &str, now_ms: i64) -> Vec<(String, RetainedMessage)> {
        let index = self.index.lock();
        let is_live = |message: &RetainedMessage| seconds_left(message, now_ms) != Some(0);
        if !topic::has_wildcard(filter) {
            let found = index.by_topic.get_key_value(filter).filter(|(_, message)| is_live(message));
            return found.map(|(topic, message)| (topic.to_string(), message.clone())).into_iter().collect();
        }
        // What stands before the first wildcard narrows the search.
        let prefix = filter.split(['+', '#']).next().unwrap_or_default();
        let from = prefix.strip_suffix('/').unwrap_or(prefix);
        let range = index.by_topic.range::<str, _>((std::ops::Bound::Included(from), std::ops::Bound::Unbounded));
        let near = range.take_while(|(topic, _)| topic.starts_with(from));
        near.filter(|(name, message)| topic::matches(filter, name) && is_live(message))
            .map(|(topic, message)| (topic.to_string(), message.clone()))
            .collect()
    }
}

impl RetainedMessage {
    /// The QoS at which it is sent at most.
    pub(super) fn is_qos_1(&self, granted: Qos) -> bool {
        self.qos > 0 && granted.bits() > 0
    }

    /// Its properties as headers.
    pub(super) fn header_block(&self) -> HeaderBlock {
        let mut block = HeaderBlock::new();
        for (name, value) in &self.headers {
            block.push(name, value);
        }
        block
    }

    /// What is left of its expiry, in seconds [MQTT-3.3.2-6]; `None` where it has none.
    pub(super) fn expiry_left_s(&self, now_ms: i64) -> Option<u32> {
        seconds_left(self, now_ms)
    }
}

fn seconds_left(message: &RetainedMessage, now_ms: i64) -> Option<u32> {
    let (_, expiry) = message.headers.iter().find(|(name, _)| name == headers::MQTT_EXPIRY)?;
    let total_s = u32::from_be_bytes(expiry.as_slice().try_into().ok()?);
    let age_s = now_ms.saturating_sub(message.stored_at_ms).max(0) / 1_000;
    Some(total_s.saturating_sub(u32::try_from(age_s).unwrap_or(u32::MAX)))
}

fn encode(message: &RetainedMessage) -> Vec<u8> {
    postcard::to_extend(message, vec![VERSION]).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Option<RetainedMessage> {
    match bytes.split_first()? {
        (&VERSION, body) => postcard::from_bytes(body).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_message_has_these_bytes() {
        let message =
            RetainedMessage { payload: vec![7], qos: 1, stored_at_ms: 1, headers: vec![("a".into(), vec![2])] };
        let golden = [1, 1, 7, 1, 2, 1, 1, b'a', 1, 2];
        assert_eq!(encode(&message), golden);
        assert_eq!(decode(&golden), Some(message));
        assert_eq!(decode(&[0]), None);
    }

    #[test]
    fn filters_find_what_they_match_and_nothing_that_expired() {
        let retained = Retained { index: Mutex::default(), count_max: 10, bytes_max: 10_000 };
        let message = |expiry: Option<u32>| RetainedMessage {
            payload: vec![1],
            qos: 0,
            stored_at_ms: 0,
            headers: expiry.map(|s| (headers::MQTT_EXPIRY.to_owned(), s.to_be_bytes().to_vec())).into_iter().collect(),
        };
        for topic in ["a", "a/b", "a/c/d", "ab", "$sys/a"] {
            retained.index.lock().insert(topic, message(None));
        }
        retained.index.lock().insert("a/old", message(Some(5)));
        let cases: [(&str, &[&str]); 6] = [
            ("a", &["a"]),
            ("a/#", &["a", "a/b", "a/c/d"]),
            ("a/+", &["a/b"]),
            ("+", &["a", "ab"]),
            ("#", &["a", "a/b", "a/c/d", "ab"]),
            ("none/#", &[]),
        ];
        for (filter, expected) in cases {
            let found: Vec<String> = retained.matching(filter, 5_000).into_iter().map(|(topic, _)| topic).collect();
            assert_eq!(found, expected, "{filter}");
        }
    }
}
