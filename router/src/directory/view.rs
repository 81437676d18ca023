//! A device as it is shown, and as a filter sees it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::walk::Row;
use crate::catalog::{Facts, Value};
use crate::sessions::{DeviceRecord, SeenElsewhere};
use crate::transport::NodeId;

static NO_TAGS: BTreeSet<String> = BTreeSet::new();
static NO_ATTRIBUTES: BTreeMap<String, Value> = BTreeMap::new();

/// A device as it is shown.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its name: the MQTT client id.
    pub device: String,
    /// Whether it was added by people.
    pub enrolled: bool,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
    /// Whether it refuses a command whose id it has seen; null where nobody said.
    pub refuses_repeats: Option<bool>,
    /// Whether it is connected now.
    pub connected: bool,
    /// The number of its session, where it is connected.
    pub session: Option<u64>,
    /// `mqtt-3.1.1`, `mqtt-5` and the like, as of its last connection; null where it was never seen.
    pub protocol: Option<String>,
    /// The address that it last came from.
    pub remote: Option<String>,
    /// When it was seen first, in milliseconds since 1970.
    pub first_seen_ms: Option<i64>,
    /// When it came or went last.
    pub last_seen_ms: Option<i64>,
    /// Its subscriptions' filters, where it is connected.
    pub filters: Vec<String>,
    /// The life of the other node that has seen it last; absent where that was this one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin: Option<String>,
    /// That node's id, where it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Whether that node is heard; where it is not, the device is shown as it was seen last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node_heard: Option<bool>,
}

/// One page of devices, by name.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// Give this as `after` to have the next page; null on the last.
    pub next: Option<String>,
}

impl Row<'_> {
    /// What was recorded, corrected by who is connected now: a node that crashed recorded nobody's going.
    pub(super) fn view(&self) -> DeviceView {
        let record = self.record.as_ref();
        let now = self.newest();
        let all = [now, record, self.elsewhere.as_ref().map(|elsewhere| &elsewhere.seen.device)];
        let seen_at = all.into_iter().flatten().map(|record| record.last_seen_ms);
        let first_seen = all.into_iter().flatten().map(|record| record.first_seen_ms);
        let first_seen_ms = record.filter(|_| self.elsewhere.is_none()).map(|record| record.first_seen_ms);
        let set = self.device.as_deref();
        DeviceView {
            device: self.name.clone(),
            enrolled: self.is_enrolled(),
            tags: set.map(|set| set.tags.clone()).unwrap_or_default(),
            attributes: set.map(|set| set.attributes.clone()).unwrap_or_default(),
            refuses_repeats: set.and_then(|set| set.refuses_repeats),
            connected: self.is_connected(),
            session: self.session.map(|session| session.number),
            protocol: now.map(|now| now.protocol.clone()),
            remote: now.map(|now| now.remote.clone()),
            first_seen_ms: first_seen_ms.or(first_seen.min()),
            last_seen_ms: seen_at.max(),
            filters: self.session.map(|session| session.filters.clone()).unwrap_or_default(),
            origin: self.elsewhere.as_ref().map(|elsewhere| elsewhere.origin.to_string()),
            node: self.elsewhere.as_ref().and_then(|elsewhere| Some(NodeId(elsewhere.node?).to_string())),
            node_heard: self.elsewhere.as_ref().map(|elsewhere| elsewhere.is_heard),
        }
    }

    /// The newest that is known: another node's word, where that is newer than the session here.
    fn newest(&self) -> Option<&DeviceRecord> {
        let elsewhere = self.elsewhere.as_ref().map(|elsewhere| &elsewhere.seen.device);
        elsewhere.or(self.session.map(|session| &session.device)).or(self.record.as_ref())
    }

    fn is_connected(&self) -> bool {
        let is_elsewhere = |elsewhere: &SeenElsewhere| elsewhere.is_heard && elsewhere.seen.device.connected;
        self.session.is_some() || self.elsewhere.as_ref().is_some_and(is_elsewhere)
    }

    /// What a filter is asked about; `now_ms` is the wall clock.
    pub(super) fn facts(&self, now_ms: i64) -> Facts<'_> {
        let now = self.newest();
        let ago = |last_ms: i64| u64::try_from(now_ms.saturating_sub(last_ms)).unwrap_or(0);
        let connected = self.is_connected();
        Facts {
            device: &self.name,
            tags: self.device.as_ref().map_or(&NO_TAGS, |set| &set.tags),
            attributes: self.device.as_ref().map_or(&NO_ATTRIBUTES, |set| &set.attributes),
            enrolled: self.is_enrolled(),
            connected,
            protocol: now.map(|now| now.protocol.as_str()),
            seen_ago_ms: now.map(|now| if connected { 0 } else { ago(now.last_seen_ms) }),
        }
    }
}
