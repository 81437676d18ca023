//! A device as it is shown, and as a filter sees it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::walk::Row;
use crate::catalog::{Facts, Value};

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
        let now = self.session.map(|session| &session.device).or(record);
        let seen_at = [now, record].into_iter().flatten().map(|record| record.last_seen_ms);
        let set = self.device.as_deref();
        DeviceView {
            device: self.name.clone(),
            enrolled: self.is_enrolled(),
            tags: set.map(|set| set.tags.clone()).unwrap_or_default(),
            attributes: set.map(|set| set.attributes.clone()).unwrap_or_default(),
            refuses_repeats: set.and_then(|set| set.refuses_repeats),
            connected: self.session.is_some(),
            session: self.session.map(|session| session.number),
            protocol: now.map(|now| now.protocol.clone()),
            remote: now.map(|now| now.remote.clone()),
            first_seen_ms: record.or(now).map(|record| record.first_seen_ms),
            last_seen_ms: seen_at.max(),
            filters: self.session.map(|session| session.filters.clone()).unwrap_or_default(),
        }
    }

    /// What a filter is asked about; `now_ms` is the wall clock.
    pub(super) fn facts(&self, now_ms: i64) -> Facts<'_> {
        let now = self.session.map(|session| &session.device).or(self.record.as_ref());
        let ago = |last_ms: i64| u64::try_from(now_ms.saturating_sub(last_ms)).unwrap_or(0);
        let connected = self.session.is_some();
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
