//! The topics that people create, change and delete. Pure.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use sled_data::{Compression, Durability, TOPIC_NAME_BYTES_MAX, TopicConfig};

use super::change::Terms;
use super::encoding::{decode, encode};
use super::refusal::Class;
use super::state::State;
use super::write::Write;
use crate::event_log::PARTITIONS_MAX;

/// Topics that people may have created at once.
pub const AGREED_TOPICS_MAX: usize = 10_000;
/// Names of topics that are remembered: those of deleted ones among them.
pub const TOPIC_NAMES_MAX: usize = 20_000;
/// The version byte before a stored topic.
const VERSION: u8 = 1;

/// When an event of a topic is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ack {
    /// When the node that took it has it durably.
    #[default]
    Local,
    /// When enough nodes of the site have it durably.
    Quorum,
}

/// How the batches of a topic are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Packing {
    /// Stored as they are.
    None,
    /// LZ4.
    #[default]
    Lz4,
    /// Zstandard.
    Zstd,
}

/// What a topic is set to. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicSettings {
    /// Its partitions; fixed for its life.
    pub partitions: u32,
    /// How its batches are compressed.
    pub compression: Packing,
    /// Whether its events are acknowledged before they are synced.
    pub memory: bool,
    /// Age in milliseconds after which events may go; `None` keeps them.
    pub retention_ms: Option<u64>,
    /// Stored bytes that a partition keeps at most; `None` sets no bound.
    pub retention_bytes: Option<u64>,
}

/// A topic that people created. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AgreedTopic {
    /// Its id, the same on every node.
    pub id: u64,
    /// What it is set to.
    pub settings: TopicSettings,
    /// When its events are acknowledged.
    pub ack: Ack,
    /// When it was created, in milliseconds since 1970.
    pub created_at_ms: i64,
}

/// All that is known of a name. Stored as it is: a change of this struct makes a new version.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TopicRecord {
    /// How often a topic of that name was deleted.
    pub deletions: u32,
    /// The id of the one that was deleted last.
    pub deleted_id: Option<u64>,
    /// The topic; `None`: there is none now.
    pub topic: Option<AgreedTopic>,
}

/// What shall be otherwise of a topic; `None` leaves it as it is.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TopicUpdate {
    /// Age in milliseconds after which events may go; `Some(None)` keeps them.
    pub retention_ms: Option<Option<u64>>,
    /// Stored bytes that a partition keeps at most; `Some(None)` sets no bound.
    pub retention_bytes: Option<Option<u64>>,
    /// How its batches are compressed from now on.
    pub compression: Option<Packing>,
    /// When its events are acknowledged.
    pub ack: Option<Ack>,
}

/// Why a change of a topic was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TopicRefusal {
    /// It cannot be a topic's name.
    #[error(
        "{0:?} cannot be a topic's name: 1 to {TOPIC_NAME_BYTES_MAX} characters of a-z, A-Z, 0-9, '.', '_' and '-', not beginning with '_'"
    )]
    Name(String),
    /// More partitions than the bound, or none.
    #[error("a topic has 1 to {PARTITIONS_MAX} partitions, not {0}")]
    Partitions(u32),
    /// It exists.
    #[error("topic {0} exists already; change it with `edgeway topic set`")]
    Exists(String),
    /// There is none.
    #[error("nobody has created a topic {0}; `edgeway topic list` names what there is")]
    Unknown(String),
    /// The id is that of another topic, or of one that was deleted.
    #[error("the id {0:016x} is that of another topic or of a deleted one; ask again")]
    IdTaken(u64),
    /// There are as many as there may be.
    #[error("there are {0} topics already, as many as there may be; delete some")]
    TooMany(usize),
    /// As many names are remembered as may be.
    #[error("{TOPIC_NAMES_MAX} names of topics were used, as many as can be remembered; use one of them again")]
    TooManyNames,
}

impl TopicRefusal {
    pub(super) fn code(&self) -> &'static str {
        match self {
            Self::Name(_) | Self::Partitions(_) => "bad_request",
            Self::Exists(_) => "topic-exists",
            Self::Unknown(_) => "topic-unknown",
            Self::IdTaken(_) => "topic-id-taken",
            Self::TooMany(_) | Self::TooManyNames => "too-many-topics",
        }
    }

    pub(super) fn class(&self) -> Class {
        match self {
            Self::Name(_) | Self::Partitions(_) => Class::Bad,
            Self::Exists(_) | Self::IdTaken(_) => Class::Conflict,
            Self::Unknown(_) => Class::Unknown,
            Self::TooMany(_) | Self::TooManyNames => Class::TooMuch,
        }
    }
}

impl From<&TopicConfig> for TopicSettings {
    fn from(config: &TopicConfig) -> Self {
        let compression = match config.compression {
            Compression::None => Packing::None,
            Compression::Lz4 => Packing::Lz4,
            Compression::Zstd => Packing::Zstd,
        };
        Self {
            partitions: config.partitions,
            compression,
            memory: config.durability == Durability::Memory,
            retention_ms: config.retention_ms,
            retention_bytes: config.retention_bytes,
        }
    }
}

impl TopicSettings {
    /// As the store takes it.
    pub fn to_config(&self) -> TopicConfig {
        let compression = match self.compression {
            Packing::None => Compression::None,
            Packing::Lz4 => Compression::Lz4,
            Packing::Zstd => Compression::Zstd,
        };
        TopicConfig {
            partitions: self.partitions,
            compression,
            durability: if self.memory { Durability::Memory } else { Durability::Sync },
            retention_ms: self.retention_ms,
            retention_bytes: self.retention_bytes,
        }
    }
}

impl TopicRecord {
    pub(super) fn encode(&self) -> Vec<u8> {
        encode(VERSION, self)
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        decode(VERSION, bytes)
    }

    /// As people and programs read it; null where there is no topic now.
    pub fn json(&self) -> Json {
        let Some(topic) = &self.topic else { return Json::Null };
        let settings = &topic.settings;
        json!({
            "id": format!("{:016x}", topic.id),
            "partitions": settings.partitions,
            "compression": settings.compression,
            "memory": settings.memory,
            "retention_ms": settings.retention_ms,
            "retention_bytes": settings.retention_bytes,
            "ack": topic.ack,
        })
    }
}

pub(super) fn judge_create(
    state: &State,
    name: &str,
    id: u64,
    settings: &TopicSettings,
    ack: Ack,
    terms: &Terms,
) -> Result<Vec<Write>, TopicRefusal> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits =
        (1..=TOPIC_NAME_BYTES_MAX).contains(&name.len()) && !name.starts_with('_') && name != "." && name != "..";
    if !fits || !name.chars().all(legal) {
        return Err(TopicRefusal::Name(name.to_owned()));
    }
    if !(1..=PARTITIONS_MAX).contains(&settings.partitions) {
        return Err(TopicRefusal::Partitions(settings.partitions));
    }
    let before = state.topic(name);
    if before.is_some_and(|before| before.topic.is_some()) {
        return Err(TopicRefusal::Exists(name.to_owned()));
    }
    let has_id = |record: &TopicRecord| {
        record.deleted_id == Some(id) || record.topic.as_ref().is_some_and(|topic| topic.id == id)
    };
    if state.topics().any(|(_, record)| has_id(record)) {
        return Err(TopicRefusal::IdTaken(id));
    }
    let live = state.topics().filter(|(_, record)| record.topic.is_some()).count();
    if live >= AGREED_TOPICS_MAX {
        return Err(TopicRefusal::TooMany(live));
    }
    if before.is_none() && state.topics().count() >= TOPIC_NAMES_MAX {
        return Err(TopicRefusal::TooManyNames);
    }
    let topic = AgreedTopic { id, settings: settings.clone(), ack, created_at_ms: terms.at_ms };
    let record = TopicRecord { topic: Some(topic), ..before.map(|before| (**before).clone()).unwrap_or_default() };
    Ok(vec![Write::Topic(name.into(), Arc::new(record))])
}

pub(super) fn judge_set(state: &State, name: &str, update: &TopicUpdate) -> Result<Vec<Write>, TopicRefusal> {
    let (before, mut topic) = known(state, name)?;
    let settings = &mut topic.settings;
    settings.retention_ms = update.retention_ms.unwrap_or(settings.retention_ms);
    settings.retention_bytes = update.retention_bytes.unwrap_or(settings.retention_bytes);
    settings.compression = update.compression.unwrap_or(settings.compression);
    topic.ack = update.ack.unwrap_or(topic.ack);
    let record = TopicRecord { topic: Some(topic), ..(*before).clone() };
    Ok(vec![Write::Topic(name.into(), Arc::new(record))])
}

pub(super) fn judge_delete(state: &State, name: &str) -> Result<Vec<Write>, TopicRefusal> {
    let (before, topic) = known(state, name)?;
    let deletions = before.deletions.saturating_add(1);
    let record = TopicRecord { deletions, deleted_id: Some(topic.id), topic: None };
    Ok(vec![Write::Topic(name.into(), Arc::new(record))])
}

fn known(state: &State, name: &str) -> Result<(Arc<TopicRecord>, AgreedTopic), TopicRefusal> {
    let record = state.topic(name);
    let found = record.and_then(|record| Some((Arc::clone(record), record.topic.clone()?)));
    found.ok_or_else(|| TopicRefusal::Unknown(name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_topic_has_these_bytes() {
        let settings = TopicSettings {
            partitions: 4,
            compression: Packing::Zstd,
            memory: true,
            retention_ms: Some(5),
            retention_bytes: None,
        };
        assert_eq!(TopicSettings::from(&settings.to_config()), settings);
        let topic = AgreedTopic { id: 200, settings, ack: Ack::Quorum, created_at_ms: 1 };
        let record = TopicRecord { deletions: 2, deleted_id: Some(3), topic: Some(topic) };
        let golden = [1, 2, 1, 3, 1, 0xc8, 1, 4, 2, 1, 1, 5, 0, 1, 2];
        assert_eq!(record.encode(), golden);
        assert_eq!(TopicRecord::decode(&golden), Some(record));
        assert_eq!(TopicRecord::decode(&[1, 0, 0, 0]), Some(TopicRecord::default()));
    }
}
