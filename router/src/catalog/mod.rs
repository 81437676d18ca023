//! What people set: the devices with their tags and attributes.
//!
//! A `change` is judged against the devices in memory and comes to what is `Applied` (pure, the same on every node);
//! `propose` makes it durable, and only then `state` takes it over. `device` is what is set of one device and how it
//! is stored; `filter` is the language in which devices are chosen.
//!
//! Tree `catalog`: key = `device/` and the name; value = version byte 1, then postcard of the device. Each change is
//! one commit: the entry, an event on topic `_catalog`, and an act on the audit topic.

mod change;
mod config;
mod device;
mod filter;
mod propose;
mod state;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use parking_lot::RwLock;
use sled_data::{ReadError as StoreError, TopicConfig};

use crate::event_log::{EventLog, Topic, TopicError};
use state::Devices;

pub use change::{Applied, Change, Refusal};
pub use config::{Config, KnownBy};
pub use device::{ATTRIBUTES_MAX, Device, NAME_BYTES_MAX, TAGS_MAX, TEXT_BYTES_MAX, Value};
pub use filter::{Facts, Filter, FilterError, Pattern};

/// The internal topic of changes; its key is the device's name.
pub const CATALOG_TOPIC: &str = "_catalog";
/// The small named tree of what is set.
pub const CATALOG_TREE: &str = "catalog";
/// What the key of a device begins with.
const DEVICE_PREFIX: &str = "device/";
/// Stored entries read at once at the start.
const LOAD_ENTRIES_MAX: usize = 1_000;

/// Why the catalog could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its topic could not be made.
    #[error(transparent)]
    Topic(#[from] TopicError),
    /// Its topic's retention could not be set.
    #[error(transparent)]
    Retention(#[from] sled_data::TopicError),
    /// The stored entries could not be read.
    #[error("the stored catalog cannot be read: {0}; run `edgeway store verify`")]
    Store(#[from] StoreError),
}

/// The catalog of this node.
pub struct Catalog {
    log: Arc<EventLog>,
    config: Config,
    topic: Arc<Topic>,
    devices: RwLock<Devices>,
    /// One change after another: each is judged by what those before it came to.
    changing: tokio::sync::Mutex<()>,
}

impl Catalog {
    /// Opens the catalog: makes its topic and loads what is stored.
    ///
    /// # Errors
    /// When the store cannot be read or takes no topic.
    pub fn open(log: Arc<EventLog>, config: Config) -> Result<Arc<Self>, OpenError> {
        // One partition: changes have one order.
        let retention_bytes = Some(config.retention_bytes);
        let kept = TopicConfig { partitions: 1, retention_ms: None, retention_bytes, ..log.topic_defaults() };
        let topic = log.ensure_topic(CATALOG_TOPIC, Some(kept))?;
        // One of an earlier store may have no bound; one that was set is kept.
        if topic.config().retention_ms.is_none() && topic.config().retention_bytes.is_none() {
            log.store().set_topic_retention(topic.id(), None, retention_bytes)?;
        }
        let devices = RwLock::new(load(&log)?);
        Ok(Arc::new(Self { log, config, topic, devices, changing: tokio::sync::Mutex::default() }))
    }

    /// What makes a device known.
    pub fn known_by(&self) -> KnownBy {
        self.config.known_by
    }

    /// Whether a device may connect.
    pub fn lets_in(&self, device: &str) -> bool {
        self.config.known_by == KnownBy::Contact || self.is_enrolled(device)
    }

    /// What is set of a device.
    pub fn get(&self, device: &str) -> Option<Arc<Device>> {
        self.devices.read().get(device)
    }

    /// Whether a device was added by people.
    pub fn is_enrolled(&self, device: &str) -> bool {
        self.get(device).is_some_and(|device| device.enrolled)
    }

    /// Whether people said of a device that it refuses a command whose id it has seen.
    pub fn refuses_repeats(&self, device: &str) -> bool {
        self.get(device).is_some_and(|device| device.refuses_repeats == Some(true))
    }

    /// At most `max` devices by name, those after `after`.
    pub fn page(&self, after: Option<&str>, max: usize) -> Vec<(Arc<str>, Arc<Device>)> {
        self.devices.read().page(after, max)
    }

    /// How many devices it has.
    pub fn len(&self) -> usize {
        self.devices.read().len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many of its devices are enrolled.
    pub fn enrolled(&self) -> usize {
        self.devices.read().enrolled()
    }
}

/// What is stored, also beyond the bounds of today's settings: nothing that was set is lost by lowering them.
fn load(log: &EventLog) -> Result<Devices, StoreError> {
    let mut devices = Devices::default();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let entries = log.state_scan(CATALOG_TREE, DEVICE_PREFIX.as_bytes(), after.as_deref(), LOAD_ENTRIES_MAX)?;
        let Some((last, _)) = entries.last() else { return Ok(devices) };
        after = Some(last.clone());
        for (key, value) in &entries {
            let name = std::str::from_utf8(key).ok().and_then(|key| key.strip_prefix(DEVICE_PREFIX));
            match name.zip(Device::decode(value)) {
                Some((name, device)) => devices.apply(&Applied { name: name.into(), device: Some(Arc::new(device)) }),
                None => tracing::warn!(
                    key = %String::from_utf8_lossy(key),
                    "an entry of the catalog is of an unknown version and is left out; was a newer edgeway here?"
                ),
            }
        }
    }
}
