//! Topics by name, and their partitions of this node's own.

use std::collections::HashSet;
use std::sync::Arc;

use sha2::Digest;
use sled_data::{PartitionId, TopicConfig, TopicError as StoreError, TopicId, TopicInfo};

use super::EventLog;
use super::linked::SITE_SEPARATOR;
use super::outcome::CommitFailed;
use super::partition::PartitionLog;

/// The longest topic name, in bytes.
pub const TOPIC_NAME_BYTES_MAX: usize = 249;
/// Partitions that one topic may have.
pub const PARTITIONS_MAX: u32 = 256;

/// Topics of one name that are looked through to know one that was deleted.
const EARLIER_TOPICS_MAX: u32 = 64;
/// The small named tree of names that were deleted: name -> how often, 4 bytes, big-endian.
const DELETED_TREE: &str = "deleted_topics";

/// All topics by name.
pub(super) type Topics = std::collections::HashMap<Arc<str>, Arc<Topic>>;

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
    /// What the store says of its name cannot be read.
    #[error("the store cannot say whether the topic was deleted before: {0}; run `edgeway store verify`")]
    Unreadable(String),
    /// That it is deleted could not be stored.
    #[error("the topic was not deleted: {0}")]
    NotDeleted(CommitFailed),
}

impl Topic {
    /// Its random 64-bit id, which its data is kept under.
    pub fn id(&self) -> TopicId {
        self.info.id
    }

    /// Id, name and settings.
    pub fn info(&self) -> &TopicInfo {
        &self.info
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

    /// Whether it is another site's, which a link brings: nobody publishes to it here.
    pub fn is_linked(&self) -> bool {
        self.name.contains(SITE_SEPARATOR)
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
        self.check_room(&topics, name)?;
        let info = match self.site() {
            Some(site) => {
                let id = topic_id(site, name, self.times_deleted(name)?);
                self.store.create_topic_as(TopicInfo { id, name: name.to_owned(), config })?
            }
            None => self.store.create_topic(name, config)?,
        };
        Ok(self.insert_topic(&mut topics, info))
    }

    /// The id that the next topic of a name has in this site, where at least `deletions` of that name were deleted.
    ///
    /// # Errors
    /// When the store cannot say how many were.
    pub fn new_topic_id(&self, name: &str, deletions: u32) -> Result<TopicId, TopicError> {
        check_name(name)?;
        Ok(topic_id(self.site().unwrap_or(0), name, self.times_deleted(name)?.max(deletions)))
    }

    /// Notes that at least so many topics of a name were deleted, here or elsewhere. Durable on return.
    ///
    /// # Errors
    /// When the store cannot say or take it.
    pub fn raise_deletions(&self, name: &str, deletions: u32) -> Result<(), TopicError> {
        if self.times_deleted(name)? >= deletions {
            return Ok(());
        }
        self.put_deletions(name, deletions)
    }

    /// Sets how long a topic's events are kept. What has the topic in hand sees it after the next start.
    ///
    /// # Errors
    /// The store's.
    pub fn set_retention(&self, id: TopicId, age_ms: Option<u64>, bytes: Option<u64>) -> Result<(), TopicError> {
        let info = self.store.set_topic_retention(id, age_ms, bytes)?;
        let mut topics = self.topics.write();
        if let Some(topic) = topics.get(info.name.as_str()).filter(|topic| topic.id() == id) {
            let changed = Topic { info, name: Arc::clone(&topic.name), partitions: topic.partitions.clone() };
            topics.insert(Arc::clone(&changed.name), Arc::new(changed));
        }
        Ok(())
    }

    /// Makes a topic as another node of the site has it, unless it is here. Durable on return.
    ///
    /// # Errors
    /// When there is another topic of that name, too many, or the store refuses.
    pub fn adopt_topic(&self, info: TopicInfo) -> Result<(), TopicError> {
        let mut topics = self.topics.write();
        let known = topics.get(info.name.as_str()).map(|known| known.id());
        if known == Some(info.id) {
            return Ok(());
        }
        // Another node has not heard yet that it was deleted.
        if self.is_earlier_topic(&info.name, info.id, self.times_deleted(&info.name)?) {
            self.store.note_deleted(info.id);
            return Err(TopicError::Unknown(info.name));
        }
        if known.is_some() {
            return Err(TopicError::Exists(info.name));
        }
        self.check_room(&topics, &info.name)?;
        let info = self.store.create_topic_as(info)?;
        self.insert_topic(&mut topics, info);
        Ok(())
    }

    /// Notes which topics of a name were deleted, `deletions` of them, the last one under `deleted`: nothing of them is kept that comes from other
    /// nodes later. The notes end with the process; reads no store.
    pub fn note_deletions(&self, name: &str, deletions: u32, deleted: Option<TopicId>) {
        deleted.into_iter().chain(self.earlier_ids(name, deletions)).for_each(|id| self.store.note_deleted(id));
    }

    pub(super) fn insert_topic(&self, topics: &mut Topics, info: TopicInfo) -> Arc<Topic> {
        let topic = self.add_topic(info);
        self.add_stored_partitions(&topic);
        topics.insert(Arc::clone(&topic.name), Arc::clone(&topic));
        topic
    }

    /// How often a topic of that name was deleted: its next life has another id.
    fn times_deleted(&self, name: &str) -> Result<u32, TopicError> {
        let stored = self.store.state_get(DELETED_TREE, name.as_bytes());
        let stored = stored.map_err(|error| TopicError::Unreadable(error.to_string()))?;
        Ok(stored.and_then(|bytes| bytes.try_into().ok()).map_or(0, u32::from_be_bytes))
    }

    /// Deletes a topic and its events.
    ///
    /// # Errors
    /// When there is none of that name, or the store refuses.
    pub fn delete_topic(&self, name: &str) -> Result<(), TopicError> {
        self.delete_agreed_topic(name, self.times_deleted(name)?.saturating_add(1))
    }

    /// Whether an id is that of a topic of this name in this site that was deleted, `deletions` of them having been.
    pub fn is_earlier_topic(&self, name: &str, id: TopicId, deletions: u32) -> bool {
        self.earlier_ids(name, deletions).any(|earlier| earlier == id)
    }

    /// The ids of topics of this name in this site that were deleted, the newest first.
    fn earlier_ids(&self, name: &str, deletions: u32) -> impl Iterator<Item = TopicId> {
        let times = deletions.saturating_sub(EARLIER_TOPICS_MAX)..deletions;
        self.site().into_iter().flat_map(move |site| times.clone().rev().map(move |times| topic_id(site, name, times)))
    }

    /// Deletes a topic and its events, as the `deletions`th of its name.
    ///
    /// # Errors
    /// As those of [`Self::delete_topic`].
    pub fn delete_agreed_topic(&self, name: &str, deletions: u32) -> Result<(), TopicError> {
        self.count_deletion(name, deletions)?;
        let mut topics = self.topics.write();
        let topic = topics.get(name).cloned().ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        let placing = self.placing.lock();
        let gone = self.store.begin_delete_topic(topic.id())?;
        topics.remove(name);
        drop(topics);
        // Under the guard's lock, so that a topic that a guard may append to stays so while it is held.
        let open = self.open.lock();
        let mut partitions = self.partitions.write();
        partitions.retain(|id, partition| {
            let stays = id.topic != topic.id();
            if !stays {
                partition.mark_deleted();
            }
            stays
        });
        drop((partitions, open, placing));
        self.turned();
        // Commits go on while its batches are removed.
        Ok(self.store.end_delete_topic(gone)?)
    }

    /// Topics of which there are events here, and nothing else: no record of them came, or could be taken.
    pub fn unknown_topics(&self) -> HashSet<TopicId> {
        let topics = self.topics.read();
        let known: HashSet<TopicId> = topics.values().map(|topic| topic.id()).collect();
        self.store.partitions().into_iter().map(|id| id.topic).filter(|id| !known.contains(id)).collect()
    }

    /// Deletes the events of a topic whose record is not here.
    ///
    /// # Errors
    /// The store's.
    pub fn delete_unknown(&self, id: TopicId) -> Result<(), TopicError> {
        // None is made of it meanwhile.
        let topics = self.topics.write();
        if topics.values().any(|topic| topic.id() == id) {
            return Ok(());
        }
        let placing = self.placing.lock();
        let gone = match self.store.begin_delete_topic(id) {
            Ok(gone) => gone,
            Err(StoreError::Unknown(_)) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        drop((placing, topics));
        Ok(self.store.end_delete_topic(gone)?)
    }

    /// Notes, before a topic is deleted, that the next of its name is another. Durable on return.
    fn count_deletion(&self, name: &str, deletions: u32) -> Result<(), TopicError> {
        if self.topic(name).is_none() {
            return Err(TopicError::Unknown(name.to_owned()));
        }
        self.put_deletions(name, self.times_deleted(name)?.max(deletions))
    }

    fn put_deletions(&self, name: &str, times: u32) -> Result<(), TopicError> {
        let mut open = self.lock();
        open.put_state(DELETED_TREE, name.as_bytes(), Some(&times.to_be_bytes()));
        let ticket = open.ticket();
        drop(open);
        self.durable_blocking(ticket).map_err(TopicError::NotDeleted)
    }

    pub(super) fn load_topics(&self) {
        let mut topics = self.topics.write();
        for info in self.store.topics() {
            let topic = self.add_topic(info);
            self.add_stored_partitions(&topic);
            topics.insert(Arc::clone(&topic.name), topic);
        }
    }

    fn add_topic(&self, info: TopicInfo) -> Arc<Topic> {
        let origin = self.store.origin();
        let mut slots = self.slots.write();
        let mut by_id = self.partitions.write();
        // Nobody writes to another site's topic here.
        let own = if info.name.contains(SITE_SEPARATOR) { 0 } else { info.config.partitions };
        let partitions = (0..own)
            .map(|index| {
                let id = PartitionId { origin, topic: info.id, index };
                let slot = u32::try_from(slots.len()).unwrap_or(u32::MAX);
                let partition = Arc::new(PartitionLog::new(id, slot, &info, self.store.end_offset(id), &self.turns));
                slots.push(Arc::clone(&partition));
                by_id.insert(id, Arc::clone(&partition));
                partition
            })
            .collect();
        self.turned();
        Arc::new(Topic { name: Arc::from(info.name.as_str()), info, partitions })
    }
}

/// The id of a topic in a site: nodes that make it apart from one another agree.
pub fn topic_id(site: u64, name: &str, times_deleted: u32) -> TopicId {
    let text = [&site.to_be_bytes()[..], &times_deleted.to_be_bytes(), name.as_bytes()].concat();
    let digest = sha2::Sha256::digest(&text);
    let id = digest.iter().take(8).fold(0_u64, |id, byte| id << 8 | u64::from(*byte));
    // 0 names nothing.
    TopicId(id.max(1))
}

/// Whether a topic is internal, here or at the site that it is of.
pub fn is_internal(topic: &str) -> bool {
    topic.rsplit(SITE_SEPARATOR).next().is_some_and(|last| last.starts_with('_'))
}

/// Whether `name` can be a topic's.
fn check_name(name: &str) -> Result<(), TopicError> {
    let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    let fits = !name.is_empty() && name.len() <= TOPIC_NAME_BYTES_MAX && name != "." && name != "..";
    if fits && name.chars().all(legal) { Ok(()) } else { Err(TopicError::Name(name.to_owned())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_has_one_id_in_a_site_until_it_is_deleted() {
        assert_eq!(topic_id(1, "telemetry", 0), TopicId(0xf815_fadf_ef49_d597));
        let others = [topic_id(2, "telemetry", 0), topic_id(1, "telemetry", 1), topic_id(1, "telemetri", 0)];
        assert!(others.iter().all(|other| *other != topic_id(1, "telemetry", 0)));
    }
}
