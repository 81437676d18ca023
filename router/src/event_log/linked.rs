//! What links bring of other sites' lives: through the committer into the store, under the sync of the node's own.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use sled_data::{
    Ahead, HLC_LOGICAL_BITS, HoleWhy, Linked, LinkedError, LinkedPart, Offset, OriginId, PartitionId, StoreFailed,
    TopicInfo,
};

use super::brought::{Brought, Done};
use super::topics::Topics;
use super::{EventLog, PartitionLog, Topic, TopicError};

/// Between a site's name and that of its topic.
pub const SITE_SEPARATOR: char = '/';
/// Topics of other sites at most, those of all links together.
pub const LINKED_TOPICS_MAX: usize = 5_000;
/// How long after its origin an event that a link brings may be stored here and not be late, in milliseconds: as far as clocks of nodes
/// may be apart, and a slow line takes.
const LATE_AFTER_MS: i64 = if cfg!(test) { 1_000 } else { 60_000 };

/// What is said of a part ahead that was dropped. Nobody was told that it is stored.
const DROPPED: &str = "what lay ahead is dropped: another node of the site brings in order what comes there";

/// Why what a link brought was not taken. Nothing of it is stored.
#[derive(Debug, thiserror::Error)]
pub enum LinkFailed {
    /// The store refused it.
    #[error(transparent)]
    Store(#[from] LinkedError),
    /// It could not be made durable.
    #[error("it could not be synced: {0}")]
    Sync(String),
    /// The node is stopping.
    #[error("the node is stopping")]
    Closing,
}

type Answer = Result<(), LinkFailed>;

/// What the bringer holds for what is on its way, as its share of the memory: let go of when it is stored or refused, also where nobody waits
/// for that any more.
pub type Held = Arc<dyn Send + Sync>;

/// What a link has brought, on its way into the store.
pub(super) type LinkedRequest = Brought<(OriginId, Linked, Vec<LinkedPart>, Comes, Held), Answer>;

/// Who has brought it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Comes {
    /// A link, which may bring what is live before what was missed.
    ByLink,
    /// Another node of the site, which has it all in order: what lies ahead here goes where that comes to it.
    WithinSite,
}

/// What lies ahead of a partition's end, in order: from, to before.
type Shown = Vec<(Offset, Offset)>;

/// What is in the store and not yet synced: where its partitions end.
pub(super) struct Taken {
    ends: BTreeMap<PartitionId, (Offset, Shown)>,
    done: Done<Answer>,
}

impl EventLog {
    /// Stores what a link has brought of an origin. Durable, and visible, on return. The caller bounds how many bytes it has
    /// under way.
    ///
    /// # Errors
    /// Why it was not taken; nothing of it is stored then.
    pub async fn take_linked(&self, origin: OriginId, from: Linked, parts: Vec<LinkedPart>) -> Result<(), LinkFailed> {
        self.take_linked_held(origin, from, parts, (Comes::ByLink, Arc::new(()))).await
    }

    /// The same, and `held` is kept as long as any of it is in memory: one who brings more and is cut off each time may not have more under
    /// way than that allows.
    ///
    /// # Errors
    /// Those of [`EventLog::take_linked`].
    pub async fn take_linked_held(
        &self,
        origin: OriginId,
        from: Linked,
        parts: Vec<LinkedPart>,
        (comes, held): (Comes, Held),
    ) -> Result<(), LinkFailed> {
        let bytes = parts.iter().map(part_bytes).sum();
        let stored = self.bring(|open| &mut open.linked, (origin, from, parts, comes, held), bytes);
        stored.await.unwrap_or(Err(LinkFailed::Closing))
    }

    /// Notes who brought some of a linked origin here: a link, or another node of the site.
    pub fn note_linked(&self, origin: OriginId, by_link: bool) {
        let mut within = self.linked_within.lock();
        match by_link {
            true => within.remove(&origin),
            false => within.insert(origin),
        };
    }

    /// Origins that a link from this site has from other nodes, as long as they can: those that these write, and what links bring to them.
    pub fn sent_by_others(&self) -> BTreeSet<OriginId> {
        let within = self.linked_within.lock();
        self.others().into_iter().chain(within.iter().copied()).collect()
    }

    /// Puts requests into the store; answers those that it refuses.
    pub(super) fn apply_linked(&self, requests: Vec<LinkedRequest>) -> Vec<Taken> {
        let mut taken = Vec::with_capacity(requests.len());
        for Brought { what: (origin, from, parts, comes, _held), done, .. } in requests {
            // By the clock of the moment in which it is stored.
            let late_before = u64::try_from(self.clock.wall_ms() - LATE_AFTER_MS).unwrap_or(0) << HLC_LOGICAL_BITS;
            let stored = match comes {
                Comes::ByLink => self.store.take_linked_late(origin, &from, &parts, late_before),
                Comes::WithinSite => {
                    self.store.take_linked_in_order(origin, &from, &parts, late_before).map(|gone| tell_dropped(&gone))
                }
            };
            match stored {
                Ok(()) => taken.push(Taken { ends: self.ends_of(&parts), done }),
                Err(error) => {
                    if let LinkedError::Clearing(partition) = &error {
                        tracing::warn!(%partition, "{error}");
                        self.hide_dropped(*partition, &mut taken);
                    }
                    done.answer(Err(error.into()));
                }
            }
        }
        taken
    }

    /// Shows no more what lay ahead of a partition and was dropped with a call that the store refused: its batches are being removed.
    fn hide_dropped(&self, id: PartitionId, taken: &mut [Taken]) {
        let Some(partition) = self.foreign_partition(id) else { return };
        let _showing = self.showing.lock();
        let left = self.aheads_of(id);
        let shown = partition.aheads();
        for (from, to) in shown.into_iter().filter(|part| !left.contains(part)) {
            tracing::warn!(partition = %id, from, to, "{DROPPED}");
        }
        // Those before it in this round show no more of it either.
        taken.iter_mut().filter_map(|taken| taken.ends.get_mut(&id)).for_each(|(_, aheads)| aheads.clone_from(&left));
        partition.show_ahead(left);
    }

    fn ends_of(&self, parts: &[LinkedPart]) -> BTreeMap<PartitionId, (Offset, Shown)> {
        let end = |id: PartitionId| {
            // In this order: an end that is newer than what lies ahead hides it.
            let aheads = self.aheads_of(id);
            (id, (self.store.end_offset(id), aheads))
        };
        // Each once: many parts are of few partitions.
        let ids: BTreeSet<PartitionId> = parts.iter().map(LinkedPart::partition).collect();
        ids.into_iter().map(end).collect()
    }

    /// What lies ahead of a partition's end in the store.
    pub(super) fn aheads_of(&self, id: PartitionId) -> Shown {
        self.store.parts_ahead(id).iter().map(|part| (part.from, part.end)).collect()
    }

    /// Shows what is synced and answers; `synced` is an error where it is not.
    pub(super) fn end_linked(&self, taken: Vec<Taken>, synced: &Result<(), String>) {
        if taken.is_empty() {
            return;
        }
        let showing = self.showing.lock();
        let mut answers = Vec::with_capacity(taken.len());
        for Taken { ends, done } in taken {
            if let Err(error) = synced {
                answers.push((done, Err(LinkFailed::Sync(error.clone()))));
                continue;
            }
            for (id, (end, aheads)) in ends {
                if let Some(partition) = self.foreign_partition(id) {
                    partition.show_up_to(end);
                    partition.show_ahead(aheads);
                    partition.handed_out();
                }
            }
            answers.push((done, Ok(())));
        }
        self.tell_visible(Vec::new(), true);
        drop(showing);
        answers.into_iter().for_each(|(done, result)| done.answer(result));
    }

    /// Makes another site's topic, whose name begins with that of its link, unless it is here; the one that is here. Where another
    /// topic has that name, as one that was deleted there had, the name gets the id behind it. Durable on return.
    ///
    /// # Errors
    /// When the id is that of a topic of this site or of another link, there are too many topics, or the store refuses.
    pub fn adopt_linked_topic(&self, mut info: TopicInfo) -> Result<Arc<Topic>, TopicError> {
        let mut topics = self.topics.write();
        if let Some(known) = topics.values().find(|topic| topic.id() == info.id) {
            let is_of_link = known.is_linked() && link_of(known.name()) == link_of(&info.name);
            return if is_of_link { Ok(Arc::clone(known)) } else { Err(TopicError::Exists(known.name().to_owned())) };
        }
        self.check_room(&topics, &info.name)?;
        free_name(&topics, &mut info);
        let info = self.store.create_topic_as(info)?;
        Ok(self.insert_topic(&mut topics, info))
    }

    /// Whether one more topic may be made. Those of other sites are counted by themselves, so that no link takes the room of this site's.
    pub(super) fn check_room(&self, topics: &Topics, name: &str) -> Result<(), TopicError> {
        let linked = topics.values().filter(|topic| topic.is_linked()).count();
        match name.contains(SITE_SEPARATOR) {
            true if linked >= LINKED_TOPICS_MAX => Err(TopicError::TooMany(linked)),
            false if topics.len() - linked >= self.config.topics_max => Err(TopicError::TooMany(topics.len() - linked)),
            _ => Ok(()),
        }
    }

    /// Gives up what was still to come of these partitions before the first part ahead of their ends: a hole is there then, and they go on behind it. Of one
    /// that is named more than once, before as many parts.
    /// Blocks on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn close_ahead(&self, ids: &[PartitionId], why: HoleWhy) -> Result<(), StoreFailed> {
        for id in ids {
            self.store.close_ahead(*id, why, self.clock.wall_ms())?;
        }
        self.show_closed(ids)
    }

    /// Shows partitions that go on behind what was still to come.
    pub(super) fn show_closed(&self, ids: &[PartitionId]) -> Result<(), StoreFailed> {
        if ids.is_empty() {
            return Ok(());
        }
        let _showing = self.showing.lock();
        let ends: Vec<_> = ids.iter().map(|id| (*id, self.store.end_offset(*id))).collect();
        self.store.sync().map_err(|error| error.0)?;
        for (id, end) in ends {
            if let Some(partition) = self.foreign_partition(id) {
                partition.show_up_to(end);
                partition.hide_reached();
                partition.handed_out();
            }
        }
        self.tell_visible(Vec::new(), true);
        Ok(())
    }

    /// Forgets a linked origin of which nothing is kept; false where there is. Blocks on the disk.
    ///
    /// # Errors
    /// The store's.
    pub fn forget_linked(&self, origin: OriginId) -> Result<bool, StoreFailed> {
        let is_forgotten = self.store.forget_linked(origin)?;
        if is_forgotten {
            self.linked_within.lock().remove(&origin);
            self.partitions.write().retain(|id, _| id.origin != origin);
            self.turned();
        }
        Ok(is_forgotten)
    }

    /// Every partition that is known here, of every origin, in the order of their ids.
    pub fn all_partitions(&self) -> Vec<Arc<PartitionLog>> {
        let mut all: Vec<_> = self.partitions.read().values().cloned().collect();
        all.sort_unstable_by_key(|partition| partition.id());
        all
    }
}

/// Says which parts ahead were dropped.
fn tell_dropped(gone: &[(PartitionId, Ahead)]) {
    for (partition, Ahead { from, end, .. }) in gone {
        tracing::warn!(%partition, from, to = end, "{DROPPED}");
    }
}

/// The name of the link that a topic's name begins with.
fn link_of(name: &str) -> Option<&str> {
    name.split_once(SITE_SEPARATOR).map(|(link, _)| link)
}

fn free_name(topics: &Topics, info: &mut TopicInfo) {
    if topics.contains_key(info.name.as_str()) {
        info.name = format!("{}@{}", info.name, info.id);
    }
}

fn part_bytes(part: &LinkedPart) -> usize {
    match part {
        LinkedPart::Batch(batch) => batch.bytes().len(),
        LinkedPart::Hole(..) => size_of::<LinkedPart>(),
    }
}

#[cfg(test)]
mod tests {
    use sled_data::{Hole, MemoryBackend, StoredBatch, TopicConfig, TopicId};

    use super::super::Config;
    use super::super::rubbish::sound;
    use super::super::tests::open_on;
    use super::*;

    /// A call that is refused while a large part that was dropped is being removed has dropped it all the same.
    #[tokio::test]
    async fn a_part_that_was_dropped_is_not_shown_while_it_is_removed() {
        let log = open_on(&Arc::new(MemoryBackend::new()), Config::default());
        let config = TopicConfig { partitions: 1, ..TopicConfig::default() };
        let topic = TopicInfo { id: TopicId(7), name: "plant/telemetry".to_owned(), config };
        log.adopt_linked_topic(topic).unwrap();
        let id = PartitionId { origin: OriginId(90), topic: TopicId(7), index: 0 };
        let from = Linked { link: 5, hlc: 0, path: vec![1] };
        let value = "v".repeat(10_000);
        let batch = |base, values: &[&str]| {
            LinkedPart::Batch(StoredBatch::decode(sound(id, base, base + 1, values).bytes().to_vec()).unwrap())
        };
        let later = Hole { from: 1, to: 4, why: HoleWhy::Later, at_ms: 0 };
        let mut parts = vec![batch(0, &["first"]), LinkedPart::Hole(id, later)];
        parts.extend((4..134).map(|base| batch(base, &[&value])));
        log.take_linked(id.origin, from.clone(), parts).await.unwrap();
        let partition = log.partition(id).unwrap();
        assert_eq!((partition.visible_end(), partition.newest_end()), (1, 134));
        let in_order = vec![batch(1, &["2", "3", "4", "5"])];
        let take =
            || log.take_linked_held(id.origin, from.clone(), in_order.clone(), (Comes::WithinSite, Arc::new(())));
        let refused = take().await.unwrap_err();
        assert!(matches!(refused, LinkFailed::Store(LinkedError::Clearing(of)) if of == id), "{refused}");
        assert_eq!((partition.visible_end(), partition.newest_end()), (1, 1), "nothing lies ahead any more");
        log.store().clear_dropped(id).unwrap();
        take().await.unwrap();
        assert_eq!((partition.visible_end(), partition.newest_end()), (5, 5));
        log.close();
    }
}
