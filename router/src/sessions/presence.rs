//! What was seen of clients: an event when one comes or goes, and a record of each.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::{Deserialize, Serialize};
use sled_data::{OriginId, ReadError as StoreError};

use crate::event_log::{EventLog, NO_HEADERS, NewEvent, OpenCommit, Ticket};

/// The internal topic of comings and goings; its key is the client id.
pub const SESSIONS_TOPIC: &str = "_sessions";
/// The small named tree of [`DeviceRecord`]s; its key is the client id.
pub const DEVICES_TREE: &str = "devices";
/// The version byte before a stored record.
const VERSION: u8 = 2;
/// The version before it, which does not say when the session began.
const VERSION_1: u8 = 1;

/// What is known of a client that has been seen.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRecord {
    /// Its client id.
    pub client_id: String,
    /// When it was seen first, in milliseconds since 1970.
    pub first_seen_ms: i64,
    /// When it came or went last.
    pub last_seen_ms: i64,
    /// Whether it is connected, as of that moment.
    pub connected: bool,
    /// `mqtt-3.1.1`, `mqtt-5` and the like.
    pub protocol: String,
    /// The address that it came from.
    pub remote: String,
}

/// What is known of a client, with what says which node's word is the newest. It is also the mark that an ended session
/// leaves: what other nodes keep of an older one does not count any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// What is known.
    pub device: DeviceRecord,
    /// The hybrid clock at which the client came last; 0 in a record of version 1, which is older than all.
    pub begun: u64,
    /// Whether its session began anew then.
    pub anew: bool,
}

impl Seen {
    /// As it is stored: a version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Reads a stored record; `None` where its version or its bytes are not known.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&VERSION, body) => postcard::from_bytes(body).ok(),
            (&VERSION_1, body) => {
                let device = postcard::from_bytes(body).ok()?;
                Some(Self { device, begun: 0, anew: false })
            }
            _ => None,
        }
    }
}

/// Why an event on [`SESSIONS_TOPIC`] was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Change {
    Connected,
    Disconnected,
}

#[derive(Serialize)]
struct PresenceEvent<'a> {
    v: u8,
    change: Change,
    client_id: &'a str,
    session: u64,
    protocol: &'a str,
    remote: &'a str,
}

/// Entries counted at once at the start.
const COUNT_AT_ONCE: usize = 1_000;

/// Writes down who comes and goes.
pub(super) struct Presence {
    log: Arc<EventLog>,
    /// Records that there are; at most `devices_max` are made.
    known: AtomicUsize,
    devices_max: usize,
}

impl Presence {
    /// Counts the records that the store has.
    pub(super) fn open(log: Arc<EventLog>, devices_max: usize) -> Self {
        let mut known = 0;
        let mut after: Option<Vec<u8>> = None;
        while let Ok(entries) = log.state_scan(DEVICES_TREE, &[], after.as_deref(), COUNT_AT_ONCE) {
            let Some((last, _)) = entries.last() else { break };
            after = Some(last.clone());
            known += entries.len();
        }
        Self { log, known: AtomicUsize::new(known), devices_max }
    }

    /// The record as it is to be stored; `None` where there are as many as there may be.
    fn record(&self, seen: &Seen) -> Option<Seen> {
        let client_id = &seen.device.client_id;
        match self.get(client_id).ok().flatten() {
            Some(known) => {
                let device = DeviceRecord { first_seen_ms: known.device.first_seen_ms, ..seen.device.clone() };
                Some(Seen { device, ..*seen })
            }
            None if self.known.load(Ordering::Relaxed) >= self.devices_max => {
                tracing::warn!(client = client_id, "[sessions] devices_max is reached: the device is not listed");
                None
            }
            None => {
                self.known.fetch_add(1, Ordering::Relaxed);
                Some(seen.clone())
            }
        }
    }

    /// The record of a client, as of the last commit.
    pub(super) fn get(&self, client_id: &str) -> Result<Option<Seen>, StoreError> {
        self.get_of(self.log.origin(), client_id)
    }

    /// What another node has recorded of a client, as far as it has arrived here.
    pub(super) fn get_of(&self, origin: OriginId, client_id: &str) -> Result<Option<Seen>, StoreError> {
        let stored = self.log.store().state_get_of(origin, DEVICES_TREE, client_id.as_bytes())?;
        Ok(stored.and_then(|bytes| Seen::decode(&bytes)))
    }

    /// At most `max` records by client id, those after `after`; fewer only where there are no more. `None`: one of an
    /// unknown version.
    pub(super) fn page(&self, after: Option<&str>, max: usize) -> Result<Vec<(String, Option<Seen>)>, StoreError> {
        let entries = self.log.state_scan(DEVICES_TREE, &[], after.map(str::as_bytes), max)?;
        let read =
            |(key, value): (Vec<u8>, Vec<u8>)| (String::from_utf8_lossy(&key).into_owned(), Seen::decode(&value));
        Ok(entries.into_iter().map(read).collect())
    }

    /// Removes the record of a client with this commit.
    pub(super) fn forget(&self, open: &mut OpenCommit<'_>, client_id: &str) {
        if open.put_state(DEVICES_TREE, client_id.as_bytes(), None) {
            let _ = self.known.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |known| known.checked_sub(1));
        }
    }

    /// How many records there are.
    pub(super) fn known(&self) -> usize {
        self.known.load(Ordering::Relaxed)
    }

    /// Appends what happened; the record and the event are one commit.
    pub(super) fn note(&self, change: Change, session: u64, seen: &Seen) -> Option<Ticket> {
        let record = self.record(seen);
        append(&self.log, change, session, &seen.device, record.as_ref())
    }
}

fn append(log: &EventLog, change: Change, session: u64, seen: &DeviceRecord, record: Option<&Seen>) -> Option<Ticket> {
    let topic = log
        .ensure_topic(SESSIONS_TOPIC, None)
        .inspect_err(|error| tracing::warn!(%error, client = seen.client_id, "presence was not recorded"))
        .ok()?;
    let event = PresenceEvent {
        v: 1,
        change,
        client_id: &seen.client_id,
        session,
        protocol: &seen.protocol,
        remote: &seen.remote,
    };
    let value = serde_json::to_vec(&event).unwrap_or_default();
    let new = NewEvent {
        timestamp_ms: seen.last_seen_ms,
        key: Some(seen.client_id.as_bytes()),
        value: Some(&value),
        headers: &NO_HEADERS,
        extra: &NO_HEADERS,
        fanned_out: true,
    };
    let mut open = log.lock();
    open.append_keyed(&topic, &new)
        .inspect_err(|error| tracing::warn!(%error, client = seen.client_id, "presence was not recorded"))
        .ok()?;
    if let Some(record) = record {
        open.put_state(DEVICES_TREE, seen.client_id.as_bytes(), Some(&record.encode()));
    }
    Some(open.ticket())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_record_has_these_bytes() {
        let record = DeviceRecord {
            client_id: "s1".into(),
            first_seen_ms: 1,
            last_seen_ms: 2,
            connected: true,
            protocol: "mqtt-5".into(),
            remote: "::1".into(),
        };
        let seen = Seen { device: record, begun: 7, anew: true };
        let golden = [2, 2, b's', b'1', 2, 4, 1, 6, b'm', b'q', b't', b't', b'-', b'5', 3, b':', b':', b'1', 7, 1];
        assert_eq!(seen.encode(), golden);
        assert_eq!(Seen::decode(&golden), Some(seen.clone()));
        let version_1 = [&[1], &golden[1..18]].concat();
        assert_eq!(Seen::decode(&version_1), Some(Seen { begun: 0, anew: false, ..seen }));
        assert_eq!(Seen::decode(&[9, 9]), None);
    }
}
