//! Lives of this store that have ended: what their readers had not read is read on in the present life, and by nobody else.
//!
//! In a site a node takes a copy of its life before from another one and follows it then, like any other. So lives are noted while it is seen that
//! they were written here: in the small named tree `own_lives`, whose key is the life (8 bytes, big-endian) and whose value is a version byte, 1.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{Offset, OriginId, PartitionId, ReadError, Store};

use super::lives::was_outlived;
use super::{EventLog, PartitionLog, Topic};

/// The small named tree of ended lives.
pub(super) const LIVES_TREE: &str = "own_lives";
/// A value of the tree.
const NOTED: &[u8] = &[1];
/// The small named tree of ended lives without events, of which the store keeps nothing once one more has ended: the value is a version byte, 1, and the hybrid
/// clock of the last commit (8 bytes, big-endian).
const SPENT_TREE: &str = "own_lives_spent";
/// Such lives that are noted; the oldest go.
const SPENT_MAX: usize = 256;
/// Noted lives that are read at once.
const NOTED_READ_MAX: usize = 256;

/// The life that a key of the tree names.
pub(super) fn life_of(key: &[u8]) -> Option<OriginId> {
    Some(OriginId(u64::from_be_bytes(key.try_into().ok()?)))
}

/// The ended lives that are noted.
fn noted(store: &Store) -> Result<BTreeSet<OriginId>, ReadError> {
    let (mut lives, mut after) = (BTreeSet::new(), None::<Vec<u8>>);
    loop {
        let page = store.state_scan(LIVES_TREE, &[], after.as_deref(), NOTED_READ_MAX)?;
        lives.extend(page.iter().filter_map(|(key, _)| life_of(key)));
        match page.into_iter().last() {
            Some((last, _)) => after = Some(last),
            None => return Ok(lives),
        }
    }
}

/// The ended lives without events that are noted, each with its last clock.
fn noted_spent(store: &Store) -> Result<BTreeMap<OriginId, u64>, ReadError> {
    let found = store.state_scan(SPENT_TREE, &[], None, SPENT_MAX)?;
    let read = |(key, value): (Vec<u8>, Vec<u8>)| {
        let clock = value.strip_prefix(&[1])?;
        Some((life_of(&key)?, u64::from_be_bytes(clock.try_into().ok()?)))
    };
    Ok(found.into_iter().filter_map(read).collect())
}

/// The ended lives that the store has partitions of, the oldest first. They stand apart in their hybrid clocks, so that one batch of each says where
/// it belongs; one of which nothing can be read comes first. One that was outlived is left out: what others have more of was read on there.
pub(super) fn ended_lives(store: &Store) -> Vec<OriginId> {
    // A store that cannot be read tells so elsewhere.
    let noted = noted(store).unwrap_or_default();
    let followed: BTreeSet<OriginId> = store.followed().into_iter().map(|(origin, _)| origin).collect();
    let is_from_elsewhere = |life: OriginId| followed.contains(&life) || store.linked_origin(life).is_some();
    let mut newest: BTreeMap<OriginId, u64> = BTreeMap::new();
    for id in store.partitions().into_iter().filter(|id| id.origin != store.origin()) {
        let known = newest.entry(id.origin).or_default();
        if *known == 0 && (noted.contains(&id.origin) || !is_from_elsewhere(id.origin)) {
            *known = store.last_batch_hlc(id).unwrap_or(0);
        }
    }
    let is_outlived = |life| was_outlived(store, life).unwrap_or(true);
    newest.retain(|life, _| noted.contains(life) || !is_from_elsewhere(*life) && !is_outlived(*life));
    let mut lives: Vec<(u64, OriginId)> = newest.into_iter().map(|(life, hlc)| (hlc, life)).collect();
    lives.sort_unstable();
    lives.into_iter().map(|(_, life)| life).collect()
}

impl EventLog {
    /// The ended lives of this store whose unread rest is this node's to read on, the oldest first.
    pub fn ended_lives(&self) -> &[OriginId] {
        &self.ended
    }

    /// Whether a life is one of these: what it left in small named trees the present one goes on with, also where it is followed now.
    pub fn is_ended(&self, life: OriginId) -> bool {
        self.ended.contains(&life)
    }

    /// The ended lives without events that others may have something of, each with the clock of its last commit: not those that were outlived.
    pub(super) fn spent_with_clocks(&self) -> BTreeMap<OriginId, u64> {
        // A store that cannot be read tells so elsewhere. Nobody can have one without a commit.
        let mut spent = noted_spent(&self.store).unwrap_or_default();
        let clock = |(life, last)| Some((life, self.store.clock_of(life, last).ok().flatten()?));
        spent.extend(self.spent_lives().into_iter().filter_map(clock));
        spent.retain(|life, _| !self.is_ended(*life) && matches!(self.was_outlived(*life), Ok(false)));
        spent
    }

    fn note_spent_lives(&self) {
        let Ok(noted) = noted_spent(&self.store) else { return };
        let mut spent: Vec<(u64, OriginId)> =
            self.spent_with_clocks().into_iter().map(|(life, clock)| (clock, life)).collect();
        spent.sort_unstable();
        let stays: BTreeMap<OriginId, u64> =
            spent.into_iter().rev().take(SPENT_MAX).map(|(clock, life)| (life, clock)).collect();
        if stays == noted {
            return;
        }
        let mut open = self.lock();
        for life in noted.keys().filter(|life| !stays.contains_key(life)) {
            open.put_state(SPENT_TREE, &life.0.to_be_bytes(), None);
        }
        for (life, clock) in stays.iter().filter(|(life, _)| !noted.contains_key(life)) {
            open.put_state(SPENT_TREE, &life.0.to_be_bytes(), Some(&[&[1][..], &clock.to_be_bytes()].concat()));
        }
        let _ = open.ticket();
    }

    /// Notes the ended lives, and forgets those of which nothing is left; durable with the next commit, before anything is followed.
    pub(super) fn note_ended_lives(&self) {
        self.note_spent_lives();
        let Ok(noted) = noted(&self.store) else { return };
        let new = self.ended.iter().filter(|life| !noted.contains(life)).map(|life| (*life, Some(NOTED)));
        let gone = noted.iter().filter(|life| !self.ended.contains(life)).map(|life| (*life, None));
        let changed: Vec<(OriginId, Option<&[u8]>)> = new.chain(gone).collect();
        if changed.is_empty() {
            return;
        }
        let mut open = self.lock();
        for (life, value) in changed {
            open.put_state(LIVES_TREE, &life.0.to_be_bytes(), value);
        }
        // Nobody waits: it is written before what comes later.
        let _ = open.ticket();
    }

    /// Has a reader that has no cursor yet in partitions of ended lives begin there: what retention takes of them is kept for it to be told, as of any other.
    /// Stored with the next commit; nobody waits for that.
    pub fn begin_in_ended(&self, reader: &str, begins: impl IntoIterator<Item = (PartitionId, Offset)>) {
        // A store that cannot be read tells so elsewhere.
        let is_new = |id: PartitionId| self.visible_end(id) > 0 && matches!(self.cursor(reader, id), Ok(None));
        let begins: Vec<_> = begins.into_iter().filter(|(id, _)| is_new(*id)).collect();
        if begins.is_empty() {
            return;
        }
        let mut open = self.lock();
        begins.into_iter().for_each(|(id, next)| open.move_cursor(reader, id, next));
        let _ = open.ticket();
    }

    /// The partitions of a topic that ended lives of this store have written, life by life, the oldest first.
    pub fn ended_partitions(&self, topic: &Topic) -> Vec<Arc<PartitionLog>> {
        let partitions = self.partitions.read();
        let of = |origin: OriginId| {
            (0..topic.partitions()).map(move |index| PartitionId { origin, topic: topic.id(), index })
        };
        self.ended.iter().copied().flat_map(of).filter_map(|id| partitions.get(&id).cloned()).collect()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sled_data::{Durability, MemoryBackend, TopicConfig};

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
        assert_eq!((log.ended_lives(), stored.as_slice()), (lives.as_slice(), lives.as_slice()));
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
    fn a_life_without_events_has_its_place_where_it_counts() {
        let backend = Arc::new(MemoryBackend::new());
        let mut lives = Vec::new();
        for has_events in [true, false, true] {
            let log = open_on(&backend, Config::default());
            let topic = log.ensure_topic("kept", None).unwrap();
            let ticket = {
                let mut open = log.lock();
                open.put_state("any", b"", Some(b""));
                open.ticket()
            };
            log.durable_blocking(ticket).unwrap();
            if has_events {
                publish(&log, &topic);
            }
            lives.push(log.origin());
            log.close();
            log.store().end_life("as after a kill").unwrap();
        }
        // Of the second the store itself keeps nothing any more.
        let log = open_on(&backend, Config::default());
        assert!(log.spent_lives().is_empty());
        assert_eq!(log.lives_before(|_| false), [lives[0], lives[2]]);
        assert_eq!(log.lives_before(|life| life == lives[1]), lives);
        let chain: Vec<OriginId> = lives.iter().copied().chain([log.origin()]).collect();
        assert_eq!(log.chains(1, &lives), [chain]);
        log.close();
    }

    #[test]
    fn what_was_followed_is_another_nodes_but_for_a_life_that_was_noted_before() {
        let backend = Arc::new(MemoryBackend::new());
        let log = open_on(&backend, Config::default());
        log.ensure_topic("loose", Some(TopicConfig { durability: Durability::Memory, ..TopicConfig::default() }))
            .unwrap();
        let topic = log.ensure_topic("kept", None).unwrap();
        publish(&log, &topic);
        let life = log.origin();
        log.store().set_follow_node(OriginId(60), 1).unwrap();
        log.close();
        let log = open_on(&backend, Config::default());
        assert_eq!(log.ended_lives(), [life]);
        publish(&log, &log.topic("kept").unwrap());
        assert_eq!(noted(log.store()).unwrap(), BTreeSet::from([life]));
        assert_eq!(log.store().state_get(LIVES_TREE, &life.0.to_be_bytes()).unwrap().as_deref(), Some(NOTED));
        // Its copy comes from another node, and it is followed from then on.
        let head = log.store().copy_head(life).unwrap();
        log.store().begin_copy(&head).unwrap();
        log.store().end_copy(life, head.commit).unwrap();
        log.store().sync().unwrap();
        assert!(log.others().contains(&life));
        assert_eq!(log.ended_lives(), [life]);
        log.close();
        log.store().close().unwrap();
        let log = open_on(&backend, Config::default());
        assert_eq!(log.ended_lives(), [life]);
        // Nothing of it is left.
        log.store().forget_followed(life).unwrap();
        log.close();
        log.store().close().unwrap();
        let log = open_on(&backend, Config::default());
        publish(&log, &log.topic("kept").unwrap());
        assert_eq!((log.ended_lives(), noted(log.store()).unwrap()), (&[][..], BTreeSet::new()));
        log.close();
    }

    #[test]
    fn a_note_that_was_refused_is_written_when_there_is_room() {
        let backend = Arc::new(MemoryBackend::new());
        let log = open_on(&backend, Config::default());
        publish(&log, &log.ensure_topic("kept", None).unwrap());
        let life = log.origin();
        log.close();
        log.store().end_life("as after a kill").unwrap();
        drop(log);
        backend.set_faults(sled_data::Faults { free_bytes: Some(0), ..Default::default() });
        let log = open_on(&backend, Config::default());
        let until = std::time::Instant::now() + std::time::Duration::from_secs(20);
        let wait = |what: &str, is_so: &dyn Fn() -> bool| {
            while !is_so() {
                assert!(std::time::Instant::now() < until, "{what}");
                std::thread::yield_now();
            }
        };
        wait("it is refused", &|| log.lock().failures() > 0);
        backend.set_faults(Default::default());
        assert_eq!((log.ended_lives(), noted(log.store()).unwrap()), (&[life][..], BTreeSet::new()));
        wait("it is written", &|| {
            log.apply_retention(&sled_data::Wait::for_ever(&|_| u64::MAX));
            noted(log.store()).unwrap().contains(&life)
        });
        log.close();
    }
}
