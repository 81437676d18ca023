//! Lives of this store that have ended: what their readers had not read is read on in the present life, and by nobody else.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{OriginId, PartitionId, Store};

use super::lives::was_outlived;
use super::{EventLog, PartitionLog, Topic};

/// The ended lives that the store has partitions of, the oldest first. They stand apart in their hybrid clocks, so that one batch of each says where
/// it belongs; one of which nothing can be read comes first. One that was outlived is left out: what others have more of was read on there.
pub(super) fn ended_lives(store: &Store) -> Vec<OriginId> {
    let followed: BTreeSet<OriginId> = store.followed().into_iter().map(|(origin, _)| origin).collect();
    let is_written_here = |origin: OriginId| {
        origin != store.origin() && !followed.contains(&origin) && store.linked_origin(origin).is_none()
    };
    let mut newest: BTreeMap<OriginId, u64> = BTreeMap::new();
    for id in store.partitions().into_iter().filter(|id| is_written_here(id.origin)) {
        let known = newest.entry(id.origin).or_default();
        if *known == 0 {
            *known = store.last_batch_hlc(id).unwrap_or(0);
        }
    }
    // A store that cannot be read tells so elsewhere.
    newest.retain(|life, _| !was_outlived(store, *life).unwrap_or(true));
    let mut lives: Vec<(u64, OriginId)> = newest.into_iter().map(|(life, hlc)| (hlc, life)).collect();
    lives.sort_unstable();
    lives.into_iter().map(|(_, life)| life).collect()
}

impl EventLog {
    /// The ended lives of this store whose unread rest is this node's to read on, the oldest first. Not one that was outlived, nor one that others
    /// have more of: what comes from there was read on there.
    pub fn ended_lives(&self) -> Vec<OriginId> {
        if self.ended.is_empty() {
            return Vec::new();
        }
        let followed = self.others();
        self.ended.iter().copied().filter(|life| !followed.contains(life)).collect()
    }

    /// The partitions of a topic that ended lives of this store have written, life by life, the oldest first.
    pub fn ended_partitions(&self, topic: &Topic) -> Vec<Arc<PartitionLog>> {
        let lives = self.ended_lives();
        let partitions = self.partitions.read();
        let of = |origin: OriginId| {
            (0..topic.partitions()).map(move |index| PartitionId { origin, topic: topic.id(), index })
        };
        lives.into_iter().flat_map(of).filter_map(|id| partitions.get(&id).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sled_data::{Durability, MemoryBackend, Options, TopicConfig};

    use super::super::tests::open_on;
    use super::super::{Config, NO_HEADERS, NewEvent, Outliver};
    use super::*;

    fn publish(log: &EventLog, topic: &Topic) {
        let event = NewEvent {
            timestamp_ms: 1,
            key: Some(b"k"),
            value: Some(b"v"),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: false,
        };
        let ticket = {
            let mut open = log.lock();
            open.append_keyed(topic, &event).unwrap();
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
    }

    #[tokio::test]
    async fn lives_that_have_ended_are_known_in_their_order() {
        let backend = Arc::new(MemoryBackend::new());
        let one = |durability| TopicConfig { partitions: 1, durability, ..TopicConfig::default() };
        let mut lives = Vec::new();
        for _ in 0..6 {
            let log = open_on(&backend, Config::default());
            assert_eq!(log.ended_lives(), lives, "the oldest first");
            let topic = log.ensure_topic("kept", Some(one(Durability::Sync))).unwrap();
            log.ensure_topic("loose", Some(one(Durability::Memory))).unwrap();
            assert_eq!(log.ended_partitions(&topic).len(), lives.len());
            publish(&log, &topic);
            lives.push(log.origin());
            log.close();
            drop(log);
            backend.power_cut(0);
        }
        let log = open_on(&backend, Config::default());
        let stored: Vec<OriginId> = ended_lives(log.store());
        assert_eq!((log.ended_lives(), stored), (lives.clone(), lives.clone()));
        let topic = log.topic("kept").unwrap();
        let found: Vec<_> = log.ended_partitions(&topic).iter().map(|partition| partition.id().origin).collect();
        assert_eq!(found, lives);
        assert!(log.ended_partitions(&topic).iter().all(|partition| partition.visible_end() == 1));
        // What others have more of was read on there.
        log.note_end_of_life(Outliver::Site).await.unwrap();
        publish(&log, &topic);
        log.close();
        log.store().end_life("others have more").unwrap();
        let log = open_on(&backend, Config::default());
        assert_eq!(log.ended_lives(), lives);
        log.close();
    }

    #[test]
    fn what_was_followed_is_another_nodes() {
        let backend = Arc::new(MemoryBackend::new());
        let log = open_on(&backend, Config::default());
        log.store().set_follow_node(OriginId(60), 1).unwrap();
        assert_eq!((ended_lives(log.store()), log.ended_lives()), (vec![], vec![]));
        log.close();
        let (store, _) =
            Store::on(Arc::new(MemoryBackend::new()), Options { seed: Some(1), ..Options::default() }).unwrap();
        assert_eq!(ended_lives(&store), []);
    }
}
