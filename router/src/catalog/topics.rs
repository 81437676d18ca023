//! Makes the log's topics what people agreed on: created, changed and deleted on every node.

use std::sync::Arc;
use std::time::Duration;

use sled_data::{Durability, TopicConfig, TopicId, TopicInfo};

use super::topic::{Ack, TopicRecord, TopicSettings};
use super::{Catalog, Change, Refusal, TopicRefusal};
use crate::event_log::{EventLog, Topic, TopicError};

/// When what could not be brought about is tried again, where no change comes before: the store's disk may have been full.
const RETRY: Duration = Duration::from_secs(5);

/// Why a topic was not created or deleted.
#[derive(Debug, thiserror::Error)]
pub enum AgreeError {
    /// It was not agreed on.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The log of this node does not have it so.
    #[error(transparent)]
    Log(#[from] TopicError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

impl Catalog {
    /// Has a topic created on all nodes of the site, for `who`. It is here on return.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn create_topic(
        self: &Arc<Self>,
        name: &str,
        config: TopicConfig,
        who: &str,
    ) -> Result<Arc<Topic>, AgreeError> {
        let log = self.log();
        if log.topic(name).is_some() {
            return Err(TopicError::Exists(name.to_owned()).into());
        }
        let id = log.new_topic_id(name, self.topic(name).deletions)?;
        self.agree(name, id.0, &config, who).await?;
        self.bring().await?;
        log.topic(name).ok_or_else(|| TopicError::Unknown(name.to_owned()).into())
    }

    /// Has a topic deleted on all nodes of the site, for `who`. It is gone here on return.
    ///
    /// # Errors
    /// Why it was not.
    pub async fn delete_topic(self: &Arc<Self>, name: &str, who: &str) -> Result<(), AgreeError> {
        let topic = self.log().topic(name).ok_or_else(|| TopicError::Unknown(name.to_owned()))?;
        if self.topic(name).topic.is_none() {
            // A first contact made it: it is agreed on first, so that all know what is deleted.
            match self.agree(name, topic.id().0, topic.config(), who).await {
                Err(Refusal::Topic(TopicRefusal::Exists(_))) | Ok(()) => {}
                Err(refusal) => return Err(refusal.into()),
            }
        }
        self.propose(Change::DeleteTopic { name: name.to_owned() }, who).await?;
        self.bring().await
    }

    async fn agree(self: &Arc<Self>, name: &str, id: u64, config: &TopicConfig, who: &str) -> Result<(), Refusal> {
        let ack = if config.durability == Durability::Quorum { Ack::Quorum } else { Ack::Local };
        let change = Change::CreateTopic { id, name: name.to_owned(), settings: TopicSettings::from(config), ack };
        self.propose(change, who).await.map(drop)
    }

    /// Goes on making the log's topics what was agreed on, as changes come.
    pub async fn keep_topics(self: Arc<Self>) {
        let (mut changed, mut told) = (self.watch(), String::new());
        loop {
            changed.borrow_and_update();
            let brought = self.bring().await;
            let next = changed.changed();
            let next = match brought {
                Ok(()) => next.await,
                Err(AgreeError::Stopping) => return,
                Err(error) => {
                    let text = error.to_string();
                    if text != told {
                        tracing::warn!(%error, "a topic is not yet as it was agreed on; it is tried again");
                        told = text;
                    }
                    tokio::time::timeout(RETRY, next).await.unwrap_or(Ok(()))
                }
            };
            if next.is_err() {
                return;
            }
        }
    }

    async fn bring(self: &Arc<Self>) -> Result<(), AgreeError> {
        let catalog = Arc::clone(self);
        let brought = tokio::task::spawn_blocking(move || {
            // One that cannot be brought about keeps no other one back.
            let mut first = Ok(());
            for (name, record) in catalog.topic_records() {
                let brought = bring_one(catalog.log(), &name, &record);
                first = first.and(brought);
            }
            first.and(delete_rests(&catalog))
        });
        Ok(brought.await.map_err(|_| AgreeError::Stopping)??)
    }
}

/// Deletes what is here of deleted topics that themselves are not: their records never came here, or their events after they were deleted.
fn delete_rests(catalog: &Catalog) -> Result<(), TopicError> {
    let log = catalog.log();
    let mut unknown = log.unknown_topics();
    if unknown.is_empty() {
        return Ok(());
    }
    let mut first = Ok(());
    for (name, record) in catalog.topic_records() {
        let is_of =
            |id: &TopicId| record.deleted_id == Some(id.0) || log.is_earlier_topic(&name, *id, record.deletions);
        for id in unknown.extract_if(is_of) {
            first = first.and(log.delete_unknown(id));
        }
    }
    first
}

fn bring_one(log: &EventLog, name: &str, record: &TopicRecord) -> Result<(), TopicError> {
    // Each start knows it anew: a node that has not heard of it goes on sending events of it.
    log.note_deletions(name, record.deletions, record.deleted_id.map(TopicId));
    let here = log.topic(name);
    let is_gone = |topic: &Topic| {
        record.deleted_id == Some(topic.id().0) || log.is_earlier_topic(name, topic.id(), record.deletions)
    };
    if let Some(topic) = here.as_ref().filter(|topic| is_gone(topic)) {
        match log.delete_agreed_topic(topic.name(), record.deletions) {
            // It has just been deleted.
            Ok(()) | Err(TopicError::Unknown(_)) => {}
            Err(error) => return Err(error),
        }
    }
    log.raise_deletions(name, record.deletions)?;
    let Some(agreed) = &record.topic else { return Ok(()) };
    match log.topic(name) {
        Some(topic) if topic.id().0 == agreed.id => {
            let (config, settings) = (topic.config(), &agreed.settings);
            let kept = (settings.retention_ms, settings.retention_bytes);
            if (config.retention_ms, config.retention_bytes) != kept {
                log.set_retention(topic.id(), kept.0, kept.1)?;
            }
            Ok(())
        }
        Some(_) => Err(TopicError::Exists(name.to_owned())),
        None => {
            let mut config = agreed.settings.to_config();
            if agreed.ack == Ack::Quorum {
                config.durability = Durability::Quorum;
            }
            log.adopt_topic(TopicInfo { id: sled_data::TopicId(agreed.id), name: name.to_owned(), config })
        }
    }
}

#[cfg(test)]
mod tests {
    use sled_data::{Backend, Commit, CommitNumber, MemoryBackend, Options, PartitionId, Store};

    use super::*;
    use crate::clock::Clock;
    use crate::event_log::Config;
    use crate::event_log::rubbish::sound;

    fn open(backend: &MemoryBackend, seed: u64) -> Arc<EventLog> {
        let backend: Arc<dyn Backend> = Arc::new(backend.clone());
        let (store, recovered) = Store::on(backend, Options { seed: Some(seed), ..Options::default() }).unwrap();
        let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
        let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
        log.set_site(1);
        log
    }

    #[test]
    fn what_comes_of_deleted_topics_after_a_restart_is_not_kept() {
        let there = open(&MemoryBackend::new(), 1);
        let (mut topics, mut hlc) = (Vec::new(), 0);
        let mut write_on = |id: TopicId, base: u64| {
            let id = PartitionId { origin: there.store().origin(), topic: id, index: 0 };
            hlc += 1;
            there
                .store()
                .commit(&Commit { hlc, appends: vec![sound(id, base, hlc, &["a"])], ..Commit::default() })
                .unwrap();
            there.store().sync().unwrap();
        };
        for deletions in 0..2 {
            let topic = there.create_topic("line", TopicConfig::default()).unwrap();
            write_on(topic.id(), 0);
            topics.push(topic.info().clone());
            if deletions == 0 {
                there.delete_topic("line").unwrap();
            }
        }
        let origin = there.store().origin();
        let follow = |log: &EventLog| {
            let next = log.store().last_commit_of(origin).next();
            let commits = there.store().commits_to_ship(origin, next, 1 << 20).unwrap();
            assert!(!commits.is_empty());
            log.store().follow(&commits).unwrap();
        };
        let backend = MemoryBackend::new();
        let here = open(&backend, 2);
        here.adopt_topic(topics[1].clone()).unwrap();
        follow(&here);
        let record = TopicRecord { deletions: 2, deleted_id: Some(topics[1].id.0), topic: None };
        bring_one(&here, "line", &record).unwrap();
        let held = |log: &EventLog| {
            let ids = log.store().partitions().into_iter().map(|id| id.topic);
            ids.filter(|id| topics.iter().any(|topic| topic.id == *id)).count()
        };
        assert_eq!(held(&here), 0);
        here.close();
        // The other node has not heard of it yet.
        write_on(topics[1].id, 1);
        let here = open(&backend, 2);
        bring_one(&here, "line", &record).unwrap();
        follow(&here);
        assert_eq!((held(&here), here.store().last_commit_of(origin)), (0, there.store().last_commit()));
        // A node that comes later, and knows them by the record alone.
        let late = open(&MemoryBackend::new(), 3);
        bring_one(&late, "line", &record).unwrap();
        assert_eq!(late.store().last_commit_of(origin), CommitNumber(0));
        follow(&late);
        assert_eq!(held(&late), 0);
        [there, here, late].iter().for_each(|log| log.close());
    }
}
