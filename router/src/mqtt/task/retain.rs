//! Retained messages: the index in memory and its copy in the store, written with the event's own commit.
//!
//! In a site the newest of all nodes' messages counts. A node's own tree holds what it wrote itself as long as that is
//! the newest that it knows, and marks where that was a removal.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sled_data::{FollowedCommit, OriginId, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX};

use super::door::Config;
use crate::event_log::{EventLog, OpenCommit, Stamp, fits_state};
use crate::mqtt::codec::{PropertyBuffer, PropertyId, Publish, Qos};
use crate::mqtt::merged::{Held, Merged, Taken};
use crate::mqtt::outgoing::put_forwarded;
use crate::mqtt::retained::{Retained, RetainedFull, RetainedLimits};

/// The small named tree of retained messages; its key is the MQTT topic.
const RETAINED_TREE: &str = "retained";
/// The version byte before a stored message.
const VERSION: u8 = 2;
/// The version before it, which does not say when it was written.
const VERSION_1: u8 = 1;
/// Entries that are taken at once at the start.
const LOAD_COUNT: usize = 1_000;
/// Expired messages, and old marks, that are dropped at once.
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

/// What a node holds of a topic, as it is stored.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct StoredV2 {
    /// The hybrid clock of its writing.
    clock: u64,
    /// `None`: the message was removed.
    message: Option<StoredV1>,
}

/// All retained messages that are known here. Locked after the log, where both are.
pub(super) struct RetainedStore {
    merged: Mutex<Merged>,
    /// Lives that say nothing any more: their nodes have gone on with them in later ones. What was removed since would come back from them when the mark of
    /// that is too old.
    carried_on: RwLock<BTreeSet<OriginId>>,
}

/// What lives hold of a topic, as they have stored it.
type Stored = Vec<(OriginId, Vec<u8>)>;

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

/// When a message counts as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Written {
    /// Now, by a session that began at this hybrid clock: what an older one of its client left at another node stays older, whatever clocks say.
    Now(u64),
    /// By who went without a word, whose session began at hybrid clock `begun`, and who was heard last at `heard`: what its next session retains at another node is newer, though
    /// that may not have arrived here. Where it is known that one began at `newer`, it is before that.
    Will { begun: u64, heard: u64, newer: Option<u64> },
}

impl Written {
    /// The stamp of a message of this node; `known` is that of what is held of its topic. `None`: what is held is to stay.
    fn stamp(self, log: &EventLog, known: Option<Stamp>) -> Option<Stamp> {
        match self {
            Self::Now(begun) => Some(log.stamp_after(known.max(Some(Stamp { clock: begun, origin: 0 })))),
            Self::Will { heard, newer, .. } => {
                let clock = newer.map_or(heard, |newer| heard.min(newer.saturating_sub(1)));
                let stamp = Stamp { clock, origin: log.origin().0 }.after(known.unwrap_or_default());
                newer.is_none_or(|newer| stamp.clock < newer).then_some(stamp)
            }
        }
    }
}

/// What a publish did to the index, to be undone where it is not appended.
pub(super) struct Change {
    before: Option<Held>,
}

impl RetainedStore {
    /// Nothing yet.
    pub(super) fn new(config: &Config) -> Self {
        let limits = RetainedLimits { messages_max: config.retained_max, bytes_max: config.retained_bytes_max };
        Self { merged: Mutex::new(Merged::new(limits)), carried_on: RwLock::default() }
    }

    /// Takes what this node and all others have in the store.
    pub(super) fn load(&self, log: &EventLog) {
        *self.carried_on.write() = log.followed_lives().carried_on;
        for origin in std::iter::once(log.origin()).chain(self.others(log)) {
            self.load_origin(log, origin);
        }
    }

    /// Takes what a life has that was copied. Where a node is known by now to have gone on with one in another, what that other one holds counts alone.
    pub(super) fn copied(&self, log: &EventLog, origin: OriginId) {
        let left = self.look_at_lives(log);
        if self.counts(log, origin) {
            // What it holds of these is in place then, and needs no further reading.
            self.load_origin(log, origin);
        }
        self.replace(log, &left);
    }

    /// Which lives go on is known better.
    pub(super) fn lives_changed(&self, log: &EventLog) {
        let left = self.look_at_lives(log);
        self.replace(log, &left);
    }

    /// Looks which lives say nothing any more; the topics of what is held of them.
    fn look_at_lives(&self, log: &EventLog) -> Vec<Arc<str>> {
        let carried_on = log.followed_lives().carried_on;
        let left = self.merged.lock().forsake(|origin| carried_on.contains(&OriginId(origin)));
        *self.carried_on.write() = carried_on;
        left
    }

    /// Puts what others hold in the place of what is forsaken, of these topics, or nothing. Reads the store before the log is locked.
    fn replace(&self, log: &EventLog, topics: &[Arc<str>]) {
        let others = self.others(log);
        for topics in topics.chunks(LOAD_COUNT) {
            let left: Vec<&Arc<str>> = {
                let merged = self.merged.lock();
                topics.iter().filter(|topic| merged.is_forsaken(topic)).collect()
            };
            let stored: Vec<Stored> = left.iter().map(|topic| stored_by(log, &others, topic.as_bytes())).collect();
            let mut open = log.lock();
            for (topic, stored) in left.into_iter().zip(stored) {
                let is_left = {
                    let mut merged = self.merged.lock();
                    let is_left = merged.is_forsaken(topic);
                    if is_left {
                        merged.remove(topic, None);
                    }
                    is_left
                };
                if is_left {
                    self.take_stored(&mut open, topic.as_bytes(), &stored);
                }
            }
        }
    }

    /// The lives of others that count.
    fn others(&self, log: &EventLog) -> Vec<OriginId> {
        let mut others = log.others();
        others.retain(|origin| self.counts(log, *origin));
        others
    }

    /// Whether what another's life holds counts: not of an ended one of this node, whose present life goes on with that.
    fn counts(&self, log: &EventLog, origin: OriginId) -> bool {
        !log.is_ended(origin) && !self.carried_on.read().contains(&origin)
    }

    /// Takes what one node has in the store.
    fn load_origin(&self, log: &EventLog, origin: OriginId) {
        let mut page = Vec::new();
        let walked = log.state_walk_of(origin, RETAINED_TREE, |key, value| {
            page.push((key.to_vec(), value.to_vec()));
            if page.len() >= LOAD_COUNT {
                self.take_all(log, origin, page.drain(..));
            }
        });
        self.take_all(log, origin, page.drain(..));
        if let Err(error) = walked {
            tracing::error!(%origin, %error, "retained messages cannot be read; run `edgeway store verify`");
        }
    }

    fn take_all(&self, log: &EventLog, origin: OriginId, entries: impl Iterator<Item = (Vec<u8>, Vec<u8>)>) {
        let mut open = log.lock();
        for (key, value) in entries {
            self.take(&mut open, origin, &key, &value);
        }
    }

    /// Takes what a node has written of a topic. What this node holds itself is removed from its tree where that is
    /// older.
    fn take(&self, open: &mut OpenCommit<'_>, origin: OriginId, key: &[u8], value: &[u8]) {
        let topic = String::from_utf8_lossy(key);
        let Some(held) = decode(value, origin) else {
            tracing::warn!(%topic, %origin, "a retained message cannot be read and is left out");
            return;
        };
        let (own, is_message) = (open.origin(), held.message.is_some());
        let (taken, has_room, is_own) = {
            let mut merged = self.merged.lock();
            let taken = merged.take(&topic, held);
            let is_own = merged.stamp(&topic).is_some_and(|stamp| stamp.origin == own.0);
            (taken, !is_message || merged.index().has(&topic), is_own)
        };
        let was_own = match taken {
            Taken::Newest(before) => before.is_some_and(|before| before.origin == own.0),
            Taken::Older => origin == own,
        };
        if was_own && !is_own {
            open.put_state(RETAINED_TREE, key, None);
        }
        if taken != Taken::Older && !has_room {
            tracing::warn!(%topic, "a retained message is left out: [mqtt] retained_max or retained_bytes_max is reached");
        }
    }

    /// Another node's clock is `ahead_ms` ahead of the door's: by it its messages say when they expire.
    pub(super) fn follow_clock(&self, origin: OriginId, ahead_ms: i64) {
        self.merged.lock().follow_clock(origin.0, ahead_ms);
    }

    /// Takes what a commit of another node has changed.
    pub(super) fn followed(&self, log: &EventLog, commit: &FollowedCommit) {
        let mut writes = commit.record.state.iter().filter(|write| write.tree == RETAINED_TREE).peekable();
        if writes.peek().is_none() || !self.counts(log, commit.origin) {
            return;
        }
        // Read before the log is locked.
        let mut others: Option<Vec<OriginId>> = None;
        let mut all = Vec::new();
        for write in writes {
            let is_lost = write.value.is_none() && self.is_of(&write.key, commit.origin);
            let stored = match is_lost {
                true => stored_by(log, others.get_or_insert_with(|| self.others(log)), &write.key),
                false => Stored::new(),
            };
            all.push((write, stored));
        }
        let mut open = log.lock();
        for (write, stored) in all {
            match &write.value {
                Some(value) => self.take(&mut open, commit.origin, &write.key, value),
                None => self.lost(&mut open, commit.origin, &write.key, &stored),
            }
        }
    }

    /// Whether what is held of a topic is a life's.
    fn is_of(&self, key: &[u8], origin: OriginId) -> bool {
        let stamp = self.merged.lock().stamp(&String::from_utf8_lossy(key));
        stamp.is_some_and(|stamp| stamp.origin == origin.0)
    }

    /// A node holds nothing of a topic any more: where that was the newest, what others have `stored` of it counts. What this node holds is in memory: it was
    /// not the newest, so it holds nothing.
    fn lost(&self, open: &mut OpenCommit<'_>, origin: OriginId, key: &[u8], stored: &[(OriginId, Vec<u8>)]) {
        if self.is_of(key, origin) {
            self.merged.lock().remove(&String::from_utf8_lossy(key), None);
            self.take_stored(open, key, stored);
        }
    }

    fn take_stored(&self, open: &mut OpenCommit<'_>, key: &[u8], stored: &[(OriginId, Vec<u8>)]) {
        stored.iter().for_each(|(of, value)| self.take(open, *of, key, value));
    }

    /// Keeps or, with an empty payload, removes the retained message of a topic [MQTT-3.3.1-6], in memory. `None`: what is held is newer than
    /// what was `written`, and stays.
    ///
    /// # Errors
    /// When there is no room, or the store would not take it; the message before it stays.
    pub(super) fn set(
        &self,
        log: &EventLog,
        topic: &str,
        publish: &Publish<'_>,
        written: Written,
        now_ms: u64,
    ) -> Result<Option<Change>, NotRetained> {
        let message = (!publish.payload.is_empty()).then(|| retained(publish, now_ms));
        let mut merged = self.merged.lock();
        let Some(stamp) = written.stamp(log, merged.stamp(topic)) else { return Ok(None) };
        let before = merged.held(topic, now_ms);
        match message {
            None => merged.remove(topic, (!log.others().is_empty()).then_some(stamp)),
            Some(message) => {
                let held = Held { stamp, message: Some(message) };
                let stored = encode(&held);
                if !fits_state(topic.as_bytes(), &stored) {
                    return Err(NotRetained::TooLarge { message_bytes: stored.len(), topic_bytes: topic.len() });
                }
                if let Some(message) = held.message {
                    merged.set(topic, message, stamp)?;
                }
            }
        }
        Ok(Some(Change { before }))
    }

    /// Takes a change back: the publish was not appended.
    pub(super) fn undo(&self, topic: &str, change: Change) {
        let mut merged = self.merged.lock();
        match change.before {
            Some(Held { stamp, message: Some(message) }) => {
                merged.remove(topic, None);
                // It was there a moment ago.
                let _ = merged.set(topic, message, stamp);
            }
            Some(Held { stamp, message: None }) => merged.remove(topic, Some(stamp)),
            None => merged.remove(topic, None),
        }
    }

    /// Writes what this node holds of a topic with the commit that its publish is in.
    pub(super) fn write(&self, open: &mut OpenCommit<'_>, topic: &str, now_ms: u64) {
        if !fits_state(topic.as_bytes(), &[]) {
            // Nothing can be kept under such a name, and so nothing needs to be removed.
            return;
        }
        let held = self.merged.lock().held(topic, now_ms).filter(|held| held.stamp.origin == open.origin().0);
        open.put_state(RETAINED_TREE, topic.as_bytes(), held.as_ref().map(encode).as_deref());
    }

    /// Retained messages that a filter matches, behind topic `after`, [`MATCH_COUNT_MAX`] at most.
    pub(super) fn matching(&self, filter: &str, after: Option<&str>, now_ms: u64) -> Vec<(String, Retained)> {
        let merged = self.merged.lock();
        let found = merged.index().matching(filter, after, now_ms).take(MATCH_COUNT_MAX);
        found.map(|(topic, message)| (topic.to_string(), message.clone())).collect()
    }

    /// The stamp of what is held of a topic.
    pub(super) fn stamp(&self, topic: &str) -> Option<Stamp> {
        self.merged.lock().stamp(topic)
    }

    /// Drops messages that have expired and marks that are too old, from the store as well; none while this node's clock may be ahead.
    pub(super) fn expire(&self, log: &EventLog, now_ms: u64) {
        let in_site = !log.others().is_empty();
        let clock = log.clock();
        let dropped = {
            let mut merged = self.merged.lock();
            merged.follow_set_clock(log.origin().0, clock.began_after(), clock.set_ahead_ms());
            if clock.may_be_set_back() {
                return;
            }
            let mut dropped = merged.expire(now_ms, EXPIRE_COUNT_MAX, in_site);
            dropped.extend(merged.drop_marks(log.clock().wall_ms(), EXPIRE_COUNT_MAX));
            dropped
        };
        let mut own = dropped.into_iter().filter(|(_, stamp)| stamp.origin == log.origin().0).peekable();
        if own.peek().is_none() {
            return;
        }
        let mut open = log.lock();
        for (topic, _) in own {
            // As it is now: a new message may have come since.
            self.write(&mut open, &topic, now_ms);
        }
    }
}

/// What lives have stored of a topic. Reads an entry of each.
fn stored_by(log: &EventLog, lives: &[OriginId], key: &[u8]) -> Stored {
    let stored = lives.iter().filter_map(|origin| {
        let value = log.store().state_get_of(*origin, RETAINED_TREE, key);
        let value = value.inspect_err(|error| {
            let topic = String::from_utf8_lossy(key);
            tracing::error!(%topic, %origin, %error, "a retained message cannot be read; run `edgeway store verify`");
        });
        Some((*origin, value.ok()??))
    });
    stored.collect()
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

fn encode(held: &Held) -> Vec<u8> {
    let message = held.message.as_ref().map(|message| StoredV1 {
        payload: message.payload.to_vec(),
        properties: message.properties.to_vec(),
        qos: message.qos,
        expires_at_ms: message.expires_at_ms,
    });
    postcard::to_extend(&StoredV2 { clock: held.stamp.clock, message }, vec![VERSION]).unwrap_or_default()
}

/// Reads what a node has stored.
fn decode(bytes: &[u8], origin: OriginId) -> Option<Held> {
    let StoredV2 { clock, message } = match bytes.split_first()? {
        (&VERSION, body) => postcard::from_bytes(body).ok()?,
        (&VERSION_1, body) => StoredV2 { clock: 0, message: Some(postcard::from_bytes(body).ok()?) },
        _ => return None,
    };
    let message = message.map(|stored| Retained {
        payload: stored.payload.into(),
        properties: stored.properties.into(),
        qos: stored.qos,
        expires_at_ms: stored.expires_at_ms,
    });
    Some(Held { stamp: Stamp { clock, origin: origin.0 }, message })
}

#[cfg(test)]
mod tests {
    use sled_data::MemoryBackend;

    use super::*;
    use crate::mqtt::task::tests::node_on;

    #[tokio::test]
    async fn a_will_is_older_than_what_its_clients_next_session_retains() {
        let node = node_on(&Arc::new(MemoryBackend::new()));
        let log = &node.log;
        // when its client was heard, and came to another node; what is held; the will's
        for (heard, newer, known, expected) in [
            (10, None, None, Some(10)),
            (10, None, Some(12), Some(13)),
            (10, Some(20), None, Some(10)),
            (30, Some(20), None, Some(19)),
            (30, Some(20), Some(18), Some(19)),
            (30, Some(20), Some(19), None),
            (10, Some(20), Some(40), None),
        ] {
            let known = known.map(|clock| Stamp { clock, origin: 7 });
            let stamp = Written::Will { begun: 1, heard, newer }.stamp(log, known);
            let expected = expected.map(|clock| Stamp { clock, origin: log.origin().0 });
            assert_eq!(stamp, expected, "{heard} {newer:?} {known:?}");
        }
        // A session's are newer than its beginning, whatever the clock here says.
        let begun = log.clock().next_hybrid() + (1 << 40);
        assert!(Written::Now(begun).stamp(log, None).is_some_and(|stamp| stamp.clock > begun));
        log.close();
    }

    #[test]
    fn a_stored_message_has_these_bytes() {
        let message = Retained {
            payload: Bytes::from_static(&[7]),
            properties: Bytes::from_static(&[1, 1]),
            qos: Qos::AtLeastOnce,
            expires_at_ms: Some(5),
        };
        let origin = OriginId(9);
        let held = Held { stamp: Stamp { clock: 3, origin: 9 }, message: Some(message) };
        let golden = [2, 3, 1, 1, 7, 2, 1, 1, 1, 1, 5];
        assert_eq!(encode(&held), golden);
        assert_eq!(decode(&golden, origin), Some(held.clone()));
        let removed = Held { message: None, ..held.clone() };
        assert_eq!(encode(&removed), [2, 3, 0]);
        assert_eq!(decode(&[2, 3, 0], origin), Some(removed));
        let version_1 = [1, 1, 7, 2, 1, 1, 1, 1, 5];
        assert_eq!(decode(&version_1, origin), Some(Held { stamp: Stamp { clock: 0, origin: 9 }, ..held }));
        assert_eq!(decode(&[0], origin), None);
        assert_eq!(decode(&[], origin), None);
    }
}
