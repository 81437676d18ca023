//! What the API's JSON looks like, for both sides: the handlers write it, the CLI reads it.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use sled_data::{Durability, TopicConfig};

use crate::config::CompressionName;

/// When a topic's events are acknowledged, as people write it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DurabilityName {
    /// After the disk has them.
    #[default]
    Sync,
    /// At once; a power cut may lose them.
    Memory,
    /// After the disks of most voters of the site have them.
    Quorum,
}

impl From<DurabilityName> for Durability {
    fn from(name: DurabilityName) -> Self {
        match name {
            DurabilityName::Sync => Self::Sync,
            DurabilityName::Memory => Self::Memory,
            DurabilityName::Quorum => Self::Quorum,
        }
    }
}

impl From<Durability> for DurabilityName {
    fn from(durability: Durability) -> Self {
        match durability {
            Durability::Sync => Self::Sync,
            Durability::Memory => Self::Memory,
            Durability::Quorum => Self::Quorum,
        }
    }
}

/// A topic to make; what is left out has the configured default.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewTopic {
    /// Its name.
    pub name: String,
    /// Number of partitions, fixed for its life.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub partitions: Option<u32>,
    /// Compression of its batches.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub compression: Option<CompressionName>,
    /// When its events are acknowledged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub durability: Option<DurabilityName>,
    /// Age in milliseconds after which events may go; 0 keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_ms: Option<u64>,
    /// Stored bytes that a partition keeps at most; 0 sets no bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retention_bytes: Option<u64>,
}

impl NewTopic {
    /// The settings that are meant, on top of `defaults`.
    pub fn config(&self, defaults: TopicConfig) -> TopicConfig {
        let or = |chosen: Option<u64>, default: Option<u64>| match chosen {
            Some(value) => (value > 0).then_some(value),
            None => default,
        };
        TopicConfig {
            partitions: self.partitions.unwrap_or(defaults.partitions),
            compression: self.compression.map_or(defaults.compression, Into::into),
            durability: self.durability.map_or(defaults.durability, Into::into),
            retention_ms: or(self.retention_ms, defaults.retention_ms),
            retention_bytes: or(self.retention_bytes, defaults.retention_bytes),
        }
    }
}

/// A topic as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicView {
    /// Its name.
    pub name: String,
    /// Its id, in hexadecimal.
    pub id: String,
    /// Whether it is the node's own.
    pub internal: bool,
    /// Number of partitions.
    pub partitions: u32,
    /// Compression of its batches.
    pub compression: CompressionName,
    /// When its events are acknowledged.
    pub durability: DurabilityName,
    /// Age in milliseconds after which events may go; null keeps them.
    pub retention_ms: Option<u64>,
    /// Stored bytes that a partition keeps at most; null sets no bound.
    pub retention_bytes: Option<u64>,
    /// Events that are kept here, of all origins.
    pub events: u64,
    /// Its partitions, of all origins that are kept here; only where one topic is shown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub extents: Vec<Extent>,
}

/// What a partition holds: offsets `start` up to before `end`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Whose events they are: the life that wrote them.
    #[serde(default)]
    pub origin: String,
    /// What people call the node that lives it now; null for an earlier life, another site's, and a node that is gone.
    #[serde(default)]
    pub node: Option<String>,
    /// The partition's number.
    pub partition: u32,
    /// The oldest offset that is kept.
    pub start: u64,
    /// The offset of the next event.
    pub end: u64,
}

/// Events to publish; all become durable together, or none.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Publish {
    /// The events, in order.
    pub events: Vec<PublishEvent>,
}

/// One event to publish.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishEvent {
    /// Chooses the partition; what `get` finds it by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// The value, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The value, where it is no text. Neither: the key is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_base64: Option<String>,
    /// Headers.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub headers: BTreeMap<String, String>,
    /// When it happened, in milliseconds since 1970; left out: now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub timestamp_ms: Option<i64>,
}

impl PublishEvent {
    /// An event with this value, as text where it is text.
    pub fn with_value(bytes: Vec<u8>) -> Self {
        match String::from_utf8(bytes) {
            Ok(text) => Self { value: Some(text), ..Self::default() },
            Err(error) => Self { value_base64: Some(BASE64.encode(error.as_bytes())), ..Self::default() },
        }
    }

    /// The value's bytes; `None` deletes the key.
    ///
    /// # Errors
    /// What is wrong with the value.
    pub fn value_bytes(&self) -> Result<Option<Vec<u8>>, String> {
        match (&self.value, &self.value_base64) {
            (Some(_), Some(_)) => Err("value and value_base64 exclude each other".to_owned()),
            (Some(text), None) => Ok(Some(text.clone().into_bytes())),
            (None, Some(text)) => match BASE64.decode(text) {
                Ok(bytes) => Ok(Some(bytes)),
                Err(error) => Err(format!("value_base64 is no base64: {error}")),
            },
            (None, None) => Ok(None),
        }
    }
}

/// What became of a publish.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// The topic.
    pub topic: String,
    /// How many events are durable now.
    pub events: usize,
}
