//! Topics: made, changed, deleted; and the store's clean end.

use super::commit::Writer;
use super::recover::put_header;
use super::values::{TopicV1, write};
use super::{Gone, Store, StoreFailed, SyncError, keys, space};
use crate::backend::{BackendError, Direction, Group, Span};
use crate::ids::{PARTITION_ID_BYTES, PartitionId, TopicId};
use crate::topic::{Durability, PARTITIONS_MAX, TOPIC_NAME_BYTES_MAX, TOPICS_MAX, TopicConfig, TopicInfo};
use std::ops::ControlFlow;

/// Bytes that the disk takes for a topic besides its name, about.
const TOPIC_BYTES: usize = 256;
/// Names of topics that are a node's own begin so.
const INTERNAL: char = '_';

/// Deleted topics that are remembered until the store is closed.
pub const DELETED_TOPICS_MAX: usize = 65_536;

/// Why a topic was not made, changed or deleted.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TopicError {
    /// The name is taken.
    #[error("there is a topic {0} already")]
    Exists(String),
    /// There is no such topic.
    #[error("there is no topic {0}")]
    Unknown(TopicId),
    /// The number is taken, or is 0.
    #[error("a topic cannot have the number {0}: it is taken, or 0")]
    Id(TopicId),
    /// The name cannot be used.
    #[error("a topic's name has 1 to {TOPIC_NAME_BYTES_MAX} bytes and no control characters")]
    Name,
    /// The number of partitions cannot be used.
    #[error("a topic has 1 to {PARTITIONS_MAX} partitions")]
    Partitions,
    /// The store holds as many topics as it may.
    #[error("there are {TOPICS_MAX} topics already")]
    TooMany,
    /// The disk's reserve or the store's byte bound would be passed.
    #[error("the store is full: free space on its disk, or have it keep less")]
    Full,
    /// The store has failed and must be opened again.
    #[error(transparent)]
    Failed(#[from] StoreFailed),
}

impl Store {
    /// All topics, by id.
    pub fn topics(&self) -> Vec<TopicInfo> {
        self.topics.read().values().cloned().collect()
    }

    /// Makes a topic, durably. There must be room for it as for a commit; internal ones (`_name`), which a node cannot start without, may use the
    /// disk's reserve but for what trims need.
    ///
    /// # Errors
    /// Any [`TopicError`].
    pub fn create_topic(&self, name: &str, config: TopicConfig) -> Result<TopicInfo, TopicError> {
        self.check()?;
        check_info(name, &config)?;
        let mut writer = self.writer.lock();
        self.check_free(name)?;
        let mut id = TopicId(writer.draw.next());
        while self.topics.read().contains_key(&id) {
            id = TopicId(writer.draw.next());
        }
        self.add_topic(&mut writer, TopicInfo { id, name: name.to_owned(), config })
    }

    /// Makes a topic under a given number, durably.
    ///
    /// # Errors
    /// Any [`TopicError`]; [`TopicError::Id`] where the number is taken or 0.
    pub fn create_topic_as(&self, info: TopicInfo) -> Result<TopicInfo, TopicError> {
        self.check()?;
        check_info(&info.name, &info.config)?;
        let mut writer = self.writer.lock();
        if info.id.0 == 0 || self.topics.read().contains_key(&info.id) {
            return Err(TopicError::Id(info.id));
        }
        self.check_free(&info.name)?;
        self.add_topic(&mut writer, info)
    }

    /// Makes a topic that a damaged store had. Number and name must be free; there may be more than [`TOPICS_MAX`], as deleted ones come back.
    pub(super) fn restore_topic(&self, info: TopicInfo) -> Result<TopicInfo, TopicError> {
        self.check()?;
        self.add_topic(&mut self.writer.lock(), info)
    }

    /// Whether there is room for a topic of this name.
    fn check_free(&self, name: &str) -> Result<(), TopicError> {
        let topics = self.topics.read();
        if topics.values().any(|t| t.name == name) {
            return Err(TopicError::Exists(name.to_owned()));
        }
        if topics.len() >= TOPICS_MAX { Err(TopicError::TooMany) } else { Ok(()) }
    }

    fn add_topic(&self, writer: &mut Writer, info: TopicInfo) -> Result<TopicInfo, TopicError> {
        let small = (info.name.len() + TOPIC_BYTES) as u64;
        let room = match info.name.starts_with(INTERNAL) {
            true => space::check_last(&*self.backend, &self.options, small),
            false => space::check(&*self.backend, &self.options, (0, small), || self.batch_bytes()),
        };
        room.map_err(|_| TopicError::Full)?;
        let mut group = Group::new();
        put_topic(&info, &mut group);
        if info.config.durability == Durability::Memory && !writer.header.memory_topics {
            writer.header.memory_topics = true;
            let mut value = Vec::new();
            write(keys::HEADER, &writer.header, &mut value);
            group.put(keys::HEADER, &value);
        }
        self.apply_and_sync(&group)?;
        self.topics.write().insert(info.id, info.clone());
        self.deleted.write().remove(&info.id);
        Ok(info)
    }

    /// Notes that a topic was deleted elsewhere: where neither it nor events of it are here, none of followed origins are kept from now on,
    /// until the store is closed or the topic made. Beyond [`DELETED_TOPICS_MAX`] none is noted.
    pub fn note_deleted(&self, id: TopicId) {
        let mut deleted = self.deleted.write();
        if deleted.len() < DELETED_TOPICS_MAX {
            deleted.insert(id);
        }
    }

    /// Whether a topic is known to be deleted.
    pub(super) fn is_deleted(&self, id: TopicId) -> bool {
        self.deleted.read().contains(&id)
    }

    /// Changes how long a topic's events are kept, durably.
    ///
    /// # Errors
    /// Any [`TopicError`].
    pub fn set_topic_retention(
        &self,
        id: TopicId,
        retention_ms: Option<u64>,
        retention_bytes: Option<u64>,
    ) -> Result<TopicInfo, TopicError> {
        self.check()?;
        let _writer = self.writer.lock();
        let mut info = self.topics.read().get(&id).cloned().ok_or(TopicError::Unknown(id))?;
        info.config.retention_ms = retention_ms;
        info.config.retention_bytes = retention_bytes;
        let mut group = Group::new();
        put_topic(&info, &mut group);
        self.apply_and_sync(&group)?;
        self.topics.write().insert(id, info.clone());
        Ok(info)
    }

    /// Deletes a topic with its events, of all lives and followed origins, and all cursors in it, durably. A topic whose record is not here
    /// can be deleted where there are partitions of it. Others write while its batches are removed.
    ///
    /// # Errors
    /// Any [`TopicError`].
    pub fn delete_topic(&self, id: TopicId) -> Result<(), TopicError> {
        let gone = self.begin_delete_topic(id)?;
        self.end_delete_topic(gone)
    }

    /// The same, but for the batches: it is gone, durably, and they are to be removed by [`Store::end_delete_topic`], which takes as long as there are
    /// many of them.
    ///
    /// # Errors
    /// Any [`TopicError`].
    pub fn begin_delete_topic(&self, id: TopicId) -> Result<Gone, TopicError> {
        self.check()?;
        let _trimming = self.trimming.lock();
        let _writer = self.writer.lock();
        let gone: Vec<PartitionId> = self.partitions().into_iter().filter(|p| p.topic == id).collect();
        if gone.is_empty() && !self.topics.read().contains_key(&id) {
            return Err(TopicError::Unknown(id));
        }
        let mut group = Group::new();
        group.remove(&keys::topic(id));
        for partition in &gone {
            group.remove(&keys::partition(*partition));
            self.holes(*partition).iter().for_each(|hole| group.remove(&keys::hole(*partition, hole.from)));
            super::linked::remove_late(self, *partition, &mut group);
            super::linked::remove_aheads(self, *partition, &mut group);
        }
        self.remove_cursors(|at| at.topic == id, &mut group).map_err(|e| self.topic_error(&e))?;
        let removed = gone.iter().try_for_each(|partition| self.remove_gaps(*partition, &mut group));
        removed.map_err(|e| self.topic_error(&e))?;
        self.apply_and_sync(&group)?;
        self.topics.write().remove(&id);
        self.note_deleted(id);
        Ok(self.take_out(&gone))
    }

    /// Removes the batches of a deleted topic. Cut short by an end of the process, it is done by the next opening.
    ///
    /// # Errors
    /// [`TopicError::Full`], [`TopicError::Failed`].
    pub fn end_delete_topic(&self, gone: Gone) -> Result<(), TopicError> {
        self.drop_trees(gone).map_err(|e| self.topic_error(&e))
    }

    /// Ends the store in order: syncs and marks it clean. No commit may follow.
    ///
    /// # Errors
    /// [`SyncError`]: the next opening treats the store as one that was not closed.
    pub fn close(&self) -> Result<(), SyncError> {
        let mut writer = self.writer.lock();
        self.sync()?;
        writer.header.clean = true;
        put_header(&*self.meta, &writer.header).and_then(|()| self.backend.settle()).map_err(|e| self.fail(&e))?;
        self.sync()?;
        self.stop("it was closed");
        Ok(())
    }

    /// Ends the present life: syncs, marks that the next opening begins a new one, and stops the store. For a store that was restored or
    /// copied, or of whose events others hold more than it does.
    ///
    /// # Errors
    /// [`SyncError`]: the store has failed, and it is not known which life the next opening is of.
    pub fn end_life(&self, why: &str) -> Result<(), SyncError> {
        let mut writer = self.writer.lock();
        self.sync()?;
        // An end that was not clean, with acknowledged events in doubt: just what a new life is for.
        (writer.header.clean, writer.header.memory_topics) = (false, true);
        put_header(&*self.meta, &writer.header).map_err(|e| self.fail(&e))?;
        self.sync()?;
        self.stop(why);
        Ok(())
    }

    fn apply_and_sync(&self, group: &Group) -> Result<(), TopicError> {
        self.meta.apply(group).map_err(|e| self.topic_error(&e))?;
        self.backend.sync().map_err(|e| self.fail(&e))?;
        Ok(())
    }

    fn topic_error(&self, error: &BackendError) -> TopicError {
        match error {
            BackendError::Full => TopicError::Full,
            other => self.fail(other).into(),
        }
    }

    /// Removes, in `group`, all cursors in the partitions chosen.
    pub(super) fn remove_cursors(
        &self,
        chosen: impl Fn(PartitionId) -> bool,
        group: &mut Group,
    ) -> Result<(), BackendError> {
        for kind in [keys::CURSOR, keys::FOLLOWED_CURSOR] {
            let (from, to) = ([kind], [kind + 1]);
            let span = Span::between(&from, &to);
            self.meta.scan(span, Direction::Forward, &mut |key, _| {
                let id = key.len().checked_sub(PARTITION_ID_BYTES).and_then(|at| PartitionId::from_bytes(&key[at..]));
                if id.is_some_and(&chosen) {
                    group.remove(key);
                }
                ControlFlow::Continue(())
            })?;
        }
        Ok(())
    }
}

fn check_info(name: &str, config: &TopicConfig) -> Result<(), TopicError> {
    if name.is_empty() || name.len() > TOPIC_NAME_BYTES_MAX || name.chars().any(char::is_control) {
        return Err(TopicError::Name);
    }
    if (1..=PARTITIONS_MAX).contains(&config.partitions) { Ok(()) } else { Err(TopicError::Partitions) }
}

fn put_topic(info: &TopicInfo, group: &mut Group) {
    let key = keys::topic(info.id);
    let mut value = Vec::new();
    write(&key, &TopicV1::new(&info.name, &info.config), &mut value);
    group.put(&key, &value);
}
