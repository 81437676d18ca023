//! Commits of other origins: through the committer into the store, under the sync of the node's own, then shown.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use sled_data::{FollowError, FollowedCommit, Gap, Offset, OriginId, PartitionId, TopicId};

use super::brought::{Brought, Done};
use super::committer::{CommittedBatch, Observer};
use super::partition::NO_SLOT;
use super::{Batch, EventLog, PartitionLog, Topic};

/// Why commits of another origin were not taken. Nothing of them is stored.
#[derive(Debug, thiserror::Error)]
pub enum FollowFailed {
    /// The store refused them.
    #[error(transparent)]
    Store(#[from] FollowError),
    /// They could not be made durable.
    #[error("they could not be synced: {0}")]
    Sync(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Closing,
}

/// What retention had taken at the source before it came here.
pub type Gaps = Vec<Gap>;

type Answer = Result<Gaps, FollowFailed>;

/// Commits on their way.
pub(super) type FollowRequest = Brought<Vec<FollowedCommit>, Answer>;

/// Commits that are in the store and not yet synced.
pub(super) struct Applied {
    commits: Vec<FollowedCommit>,
    gaps: Gaps,
    done: Done<Answer>,
}

impl EventLog {
    /// Stores commits of another origin, which follow the newest that is here. Durable, and visible, on return. The
    /// caller bounds how many bytes it has under way.
    ///
    /// # Errors
    /// Why they were not taken; nothing of them is stored then.
    pub async fn follow(&self, commits: Vec<FollowedCommit>) -> Result<Gaps, FollowFailed> {
        let bytes = commits.iter().flat_map(|commit| &commit.batches).map(|batch| batch.bytes().len()).sum();
        self.bring(|open| &mut open.followed, commits, bytes).await.unwrap_or(Err(FollowFailed::Closing))
    }

    /// Puts requests into the store; answers those that it refuses.
    pub(super) fn apply_followed(&self, requests: Vec<FollowRequest>) -> Vec<Applied> {
        let mut applied = Vec::with_capacity(requests.len());
        for Brought { what: commits, done, .. } in requests {
            match self.store.follow(&commits) {
                Ok(gaps) => applied.push(Applied { commits, gaps, done }),
                Err(error) => done.answer(Err(error.into())),
            }
        }
        applied
    }

    /// Shows what is synced and answers; `synced` is an error where it is not.
    pub(super) fn end_followed(&self, applied: Vec<Applied>, synced: &Result<(), String>) {
        for Applied { commits, gaps, done } in applied {
            if let Err(error) = synced {
                done.answer(Err(FollowFailed::Sync(error.clone())));
                continue;
            }
            self.show_followed(&commits);
            done.answer(Ok(gaps));
        }
    }

    fn show_followed(&self, commits: &[FollowedCommit]) {
        let _showing = self.showing.lock();
        let observers: Vec<Arc<dyn Observer>> = self.observers.read().clone();
        let listening = observers.iter().any(|observer| observer.is_listening());
        let (mut batches, mut shown) = (Vec::new(), Vec::new());
        for commit in commits {
            for appended in &commit.record.appended {
                if let Some(partition) = self.foreign_partition(appended.partition) {
                    partition.show_up_to(appended.base_offset + appended.count);
                    shown.push(partition);
                }
            }
            if listening {
                batches.extend(self.to_fan_out(commit));
            }
        }
        self.tell_visible(batches, shown.is_empty() || shown.iter().any(|partition| partition.is_internal()));
        shown.iter().for_each(|partition| partition.handed_out());
        self.note_writers_by(commits);
        observers.iter().for_each(|observer| observer.followed(commits));
    }

    /// A commit's batches that subscribers may want.
    fn to_fan_out(&self, commit: &FollowedCommit) -> Vec<CommittedBatch> {
        let mut found = Vec::new();
        for stored in &commit.batches {
            let id = stored.envelope().partition;
            let Some(partition) = self.foreign_partition(id).filter(|found| !found.topic().starts_with('_')) else {
                continue;
            };
            match stored.decompress() {
                Ok(records) => {
                    let batch = Batch::stored(id, stored.base_offset(), stored.envelope().count, records);
                    found.push(CommittedBatch { partition, batch });
                }
                Err(error) => tracing::error!(%error, partition = %id, "a followed batch cannot be handed out"),
            }
        }
        found
    }

    /// Shows all that the store has of an origin, after a copy of it was taken.
    pub fn show_origin(&self, origin: OriginId) {
        let _showing = self.showing.lock();
        for id in self.store.partitions().into_iter().filter(|id| id.origin == origin) {
            if let Some(partition) = self.foreign_partition(id) {
                partition.show_up_to(self.store.end_offset(id));
                partition.handed_out();
            }
        }
        self.tell_visible(Vec::new(), true);
        // Observers look at all lives anew.
        self.note_writers();
        let observers: Vec<Arc<dyn Observer>> = self.observers.read().clone();
        observers.iter().for_each(|observer| observer.copied(origin));
    }

    /// The partition of another origin as the log keeps it; `None` while its topic is not known here.
    pub(super) fn foreign_partition(&self, id: PartitionId) -> Option<Arc<PartitionLog>> {
        if let Some(known) = self.partitions.read().get(&id) {
            return Some(Arc::clone(known));
        }
        let topic = self.topic_by_id(id.topic)?;
        Some(self.add_foreign(&topic, id, 0))
    }

    fn add_foreign(&self, topic: &Topic, id: PartitionId, end: Offset) -> Arc<PartitionLog> {
        let made = || Arc::new(PartitionLog::new(id, NO_SLOT, topic.info(), end, &self.turns));
        let found = Arc::clone(self.partitions.write().entry(id).or_insert_with(made));
        self.turned();
        found
    }

    /// A partition has come, or gone.
    pub(super) fn turned(&self) {
        self.turns.fetch_add(1, Ordering::AcqRel);
        self.internal.send_modify(|number| *number += 1);
    }

    /// Adds the partitions of other origins, and of earlier lives, that the store has of a topic.
    pub(super) fn add_stored_partitions(&self, topic: &Topic) {
        for id in self.store.partitions().into_iter().filter(|id| id.topic == topic.id()) {
            if id.origin != self.store.origin() {
                let aheads = self.aheads_of(id);
                self.add_foreign(topic, id, self.store.end_offset(id)).show_ahead(aheads);
            }
        }
    }

    /// The topic with this id.
    pub fn topic_by_id(&self, id: TopicId) -> Option<Arc<Topic>> {
        self.topics.read().values().find(|topic| topic.id() == id).cloned()
    }

    /// The partitions of a topic, of every origin that is known here, in the order of their ids.
    pub fn partitions_of(&self, topic: &Topic) -> Vec<Arc<PartitionLog>> {
        let partitions = self.partitions.read();
        let mut found: Vec<_> = partitions.values().filter(|found| found.id().topic == topic.id()).cloned().collect();
        drop(partitions);
        found.sort_unstable_by_key(|partition| partition.id());
        found
    }

    /// How many events are kept here of each topic that readers may see, of all origins.
    pub fn events_kept(&self) -> HashMap<TopicId, u64> {
        let partitions: Vec<_> = self.partitions.read().values().cloned().collect();
        let mut kept: HashMap<TopicId, u64> = HashMap::new();
        for partition in partitions {
            let count = partition.visible_end().saturating_sub(self.store.start_offset(partition.id()));
            *kept.entry(partition.id().topic).or_default() += count;
        }
        kept
    }
}
