//! Retained messages: the index in memory and its copy in the store, written with the event's own commit.

use bytes::Bytes;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sled_data::{STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX};

use super::door::Config;
use crate::event_log::{EventLog, OpenCommit, fits_state};
use crate::mqtt::codec::{PropertyBuffer, PropertyId, Publish, Qos};
use crate::mqtt::outgoing::put_forwarded;
use crate::mqtt::retained::{Retained, RetainedFull, RetainedIndex, RetainedLimits};

/// The small named tree of retained messages; its key is the MQTT topic.
const RETAINED_TREE: &str = "retained";
/// The version byte before a stored message.
const VERSION: u8 = 1;
/// Entries read at once at the start.
const LOAD_COUNT: usize = 1_000;
/// Expired messages that are dropped at once.
const EXPIRE_COUNT_MAX: usize = 1_000;
/// Messages that one search takes out under its lock.
pub(super) const MATCH_COUNT_MAX: usize = 64;

/// A retained message as it is stored.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredV1 {
    payload: Vec<u8>,
    /// MQTT 5 properties in wire form.
    properties: Vec<u8>,
    qos: Qos,
    /// In milliseconds since 1970.
    expires_at_ms: Option<u64>,
}

/// All retained messages of the node.
pub(super) struct RetainedStore {
    index: Mutex<RetainedIndex>,
}

/// Why a message is not retained.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotRetained {
    #[error(transparent)]
    Full(#[from] RetainedFull),
    /// The store takes no entry of this size.
    #[error(
        "a message of {message_bytes} bytes under a topic name of {topic_bytes} cannot be retained; \
         {STATE_VALUE_BYTES_MAX} and {STATE_KEY_BYTES_MAX} bytes can"
    )]
    TooLarge { message_bytes: usize, topic_bytes: usize },
}

/// What a publish did to the index, to be undone where it is not appended.
pub(super) struct Change {
    before: Option<Retained>,
}

impl RetainedStore {
    /// What the store kept.
    pub(super) fn load(log: &EventLog, config: &Config) -> Self {
        let limits = RetainedLimits { messages_max: config.retained_max, bytes_max: config.retained_bytes_max };
        let mut index = RetainedIndex::new(limits);
        let mut after: Option<Vec<u8>> = None;
        while let Ok(entries) = log.state_scan(RETAINED_TREE, &[], after.as_deref(), LOAD_COUNT) {
            let Some((last, _)) = entries.last() else { break };
            after = Some(last.clone());
            for (key, value) in &entries {
                let topic = String::from_utf8_lossy(key);
                match decode(value).map(|message| index.set(&topic, message)) {
                    Some(Ok(())) => {}
                    Some(Err(error)) => tracing::warn!(%topic, %error, "a retained message is left out"),
                    None => tracing::warn!(%topic, "a retained message cannot be read and is left out"),
                }
            }
        }
        Self { index: Mutex::new(index) }
    }

    /// Keeps or, with an empty payload, removes the retained message of a topic [MQTT-3.3.1-6], in memory.
    ///
    /// # Errors
    /// When there is no room, or the store would not take it; the message before it stays.
    pub(super) fn set(&self, topic: &str, publish: &Publish<'_>, now_ms: u64) -> Result<Change, NotRetained> {
        let message = (!publish.payload.is_empty()).then(|| retained(publish, now_ms));
        if let Some(message) = &message {
            let stored = encode(message);
            if !fits_state(topic.as_bytes(), &stored) {
                return Err(NotRetained::TooLarge { message_bytes: stored.len(), topic_bytes: topic.len() });
            }
        }
        let mut index = self.index.lock();
        let before = index.get(topic, now_ms).cloned();
        match message {
            None => {
                index.clear(topic);
            }
            Some(message) => index.set(topic, message)?,
        }
        Ok(Change { before })
    }

    /// Takes a change back: the publish was not appended.
    pub(super) fn undo(&self, topic: &str, change: Change) {
        let mut index = self.index.lock();
        index.clear(topic);
        if let Some(before) = change.before {
            // It was there a moment ago.
            let _ = index.set(topic, before);
        }
    }

    /// Writes what is kept of a topic with the commit that its publish is in.
    pub(super) fn write(&self, open: &mut OpenCommit<'_>, topic: &str, now_ms: u64) {
        if !fits_state(topic.as_bytes(), &[]) {
            // Nothing can be kept under such a name, and so nothing needs to be removed.
            return;
        }
        let stored = self.index.lock().get(topic, now_ms).map(encode);
        open.put_state(RETAINED_TREE, topic.as_bytes(), stored.as_deref());
    }

    /// Retained messages that a filter matches, behind topic `after`, [`MATCH_COUNT_MAX`] at most.
    pub(super) fn matching(&self, filter: &str, after: Option<&str>, now_ms: u64) -> Vec<(String, Retained)> {
        let index = self.index.lock();
        let found = index.matching(filter, after, now_ms).take(MATCH_COUNT_MAX);
        found.map(|(topic, message)| (topic.to_string(), message.clone())).collect()
    }

    /// Drops messages that have expired, from the store as well.
    pub(super) fn expire(&self, log: &EventLog, now_ms: u64) {
        let dropped = self.index.lock().expire(now_ms, EXPIRE_COUNT_MAX);
        if dropped.is_empty() {
            return;
        }
        let mut open = log.lock();
        for topic in dropped {
            // As it is now: a new message may have come since.
            self.write(&mut open, &topic, now_ms);
        }
    }
}

fn retained(publish: &Publish<'_>, now_ms: u64) -> Retained {
    let mut properties = PropertyBuffer::new();
    put_forwarded(publish, &mut properties);
    let expiry_s = publish.properties.number(PropertyId::MessageExpiry);
    Retained {
        payload: Bytes::copy_from_slice(publish.payload),
        properties: properties.into_wire().into(),
        qos: publish.qos,
        expires_at_ms: expiry_s.map(|seconds| now_ms.saturating_add(u64::from(seconds) * 1_000)),
    }
}

fn encode(message: &Retained) -> Vec<u8> {
    let stored = StoredV1 {
        payload: message.payload.to_vec(),
        properties: message.properties.to_vec(),
        qos: message.qos,
        expires_at_ms: message.expires_at_ms,
    };
    postcard::to_extend(&stored, vec![VERSION]).unwrap_or_default()
}

fn decode(bytes: &[u8]) -> Option<Retained> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    let stored: StoredV1 = postcard::from_bytes(body).ok()?;
    Some(Retained {
        payload: stored.payload.into(),
        properties: stored.properties.into(),
        qos: stored.qos,
        expires_at_ms: stored.expires_at_ms,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_message_has_these_bytes() {
        let message = Retained {
            payload: Bytes::from_static(&[7]),
            properties: Bytes::from_static(&[1, 1]),
            qos: Qos::AtLeastOnce,
            expires_at_ms: Some(5),
        };
        let golden = [1, 1, 7, 2, 1, 1, 1, 1, 5];
        assert_eq!(encode(&message), golden);
        assert_eq!(decode(&golden), Some(message));
        assert_eq!(decode(&[0]), None);
        assert_eq!(decode(&[]), None);
    }
}
