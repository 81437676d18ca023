//! Topics by name, and their partitions of this node's own.

use std::sync::Arc;

use sled_data::{PartitionId, TopicConfig, TopicError as StoreError, TopicId, TopicInfo};

use super::EventLog;
use super::partition::PartitionLog;

/// The longest topic name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Partitions that one topic may have.
pub const PARTITIONS_MAX: u32 = 256;

/// A topic with its partitions of this node's own.
pub struct Topic {
    info: TopicInfo,
    name: Arc<str>,
    partitions: Vec<Arc<PartitionLog>>,
}

/// Why a topic was not made or found.
#[derive(Debug, thiserror::Error)]
pub enum TopicError {
    /// The name cannot be a topic's.
    #[error(
        "{0:?} cannot be a topic's name: 1 to {TOPIC_NAME_BYTES_MAX} characters of a-z, A-Z, 0-9, '.', '_' and '-'"
    )]
    Name(String),
    /// More partitions than the bound, or none.
    #[error("a topic has 1 to {PARTITIONS_MAX} partitions, not {0}")]
    Partitions(u32),
    /// There are as many topics as the configuration allows.
    #[error("there are {0} topics already, as many as [log] topics_max allows")]
    TooMany(usize),
    /// It exists with another configuration.
    #[error("topic {0} exists already")]
    Exists(String),
    /// It does not exist.
    #[error("there is no topic {0}; `edgeway topic list` names what there is")]
    Unknown(String),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Topic {
    /// Its random 64-bit id, which its data is kept under.
    pub fn id(&self) -> TopicId {
        self.info.id
    }

    /// Its name, an alias of the id.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its configuration.
    pub fn config(&self) -> &TopicConfig {
        &self.info.config
    }

    /// How many partitions it has; fixed for its life.
    pub fn partitions(&self) -> u32 {
        self.info.config.partitions
    }

    /// One of its partitions of this node's own.
    pub fn partition(&self, index: u32) -> Option<&Arc<PartitionLog>> {
        self.partitions.get(index as usize)
    }

    /// All its partitions of this node's own, by number.
    pub fn all_partitions(&self) -> &[Arc<PartitionLog>] {
        &self.partitions
    }

    /// Whether it is the node's own: no rule, client or plugin reaches it without a grant.
    pub fn is_internal(&self) -> bool {
        self.name.starts_with('_')
    }
}

impl EventLog {
    /// The topic of that name.
    pub fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.topics.read().get(name).cloned()
    }

    /// All topics, by name.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        let mut all: Vec<_> = self.topics.read().values().cloned().collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// The topic of that name, made with `config` (or the configured defaults) where there is none. Durable on return.
    ///
    /// # Errors
    /// When the name or the number of partitions is out of bounds, or the store refuses.
    pub fn ensure_topic(&self, name: &str, config: Option<TopicConfig>) -> Result<Arc<Topic>, TopicError> {
        match self.topic(name) {
            Some(topic) => Ok(topic),
            None => match self.create_topic(name, config.unwrap_or_else(|| self.topic_defaults())) {
                Err(TopicError::Exists(_)) => self.topic(name).ok_or_else(|| TopicError::Unknown(name.to_owned())),
                made => made,
            },
        }
    }

    /// What a topic is set to that is made without settings of its own.
    pub fn topic_defaults(&self) -> TopicConfig {
        self.config.topics.to_topic_config()
    }

    /// Makes a topic. Durable on return.
    ///
    /// # Errors
    /// As [`Self::ensure_topic`], and when it exists.
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<Arc<Topic>, TopicError> {
        check_name(name)?;
        if config.partitions == 0 || config.partitions > PARTITIONS_MAX {
            return Err(TopicError::Partitions(config.partitions));
        }
        let mut topics = self.topics.write();
        if topics.contains_key(name) {
            return Err(TopicError::Exists(name.to_owned()));
        }
        if topics.len() >= self.config.topics_max {
            return Err(TopicError::TooMany(topics.len()));
        }
        let info = self.store.create_topic(name, config)?;
        let topic = self.add_topic(info);
        topics.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        Ok(topic)
    }

    /// Deletes a topic and its events.
    ///
    /// # Errors
    /// When there is none of that name, or the store refuses.
    pub fn delete_topic(&self, name: &str) -> Result<(), TopicError> {
        let mut topics = self.topics.write();
        let topic = topics.get(name).cloned().ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let placing = self.placing.lock();
        self.store.delete_topic(topic.id())?;
        topics.remove(name);
        drop(topics);
        // Under the guard's lock, so that a topic that a guard may append to stays so while it is held.
        let open = self.open.lock();
        let mut partitions = self.partitions.write();
        for partition in &topic.partitions {
            partition.mark_deleted();
            partitions.remove(&partition.id());
        }
        drop((partitions, open, placing));
        Ok(())
    }

    pub(super) fn load_topics(&self) {
        let mut topics = self.topics.write();
        for info in self.store.topics() {
            let topic = self.add_topic(info);
            topics.insert(Arc::clone(&topic.name), topic);
        }
    }

    fn add_topic(&self, info: TopicInfo) -> Arc<Topic> {
        let origin = self.store.origin();
        let mut slots = self.slots.write();
        let mut by_id = self.partitions.write();
        let partitions = (0..info.config.partitions)
            .map(|index| {
                let id = PartitionId { origin, topic: info.id, index };
                let slot = u32::try_from(slots.len()).unwrap_or(u32::MAX);
                let partition = Arc::new(PartitionLog::new(id, slot, &info, self.store.end_offset(id)));
                slots.push(Arc::clone(&partition));
                by_id.insert(id, Arc::clone(&partition));
                partition
            })
            .collect();
        Arc::new(Topic { name: Arc::from(info.name.as_str()), info, partitions })
    }
}

/// Whether `name` can be a topic's.
fn check_name(name: &str) -> Result<(), TopicError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = !name.is_empty() && name.len() <= TOPIC_NAME_BYTES_MAX && name != "." && name != "..";
    if fits && name.chars().all(legal) { Ok(()) } else { Err(TopicError::Name(name.to_owned())) }
}
