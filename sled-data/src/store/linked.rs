//! Linked origins: what a link brings of another site's lives, some of their topics, partition by partition.
//!
//! A partition's end is the link's cursor in it. What comes is put into the partitions' trees, then one atomic group in `meta` makes it
//! count: ends, holes, and the origin's record. Opening cuts off what no group covers, as it does with commits. `ahead` is about what comes
//! before its turn, `coming` plans what one call brings.

mod ahead;
mod apart;
mod coming;
mod forget;
mod holes;
mod late;
mod rubble;

use std::collections::{BTreeMap, BTreeSet};

use super::commit::{Touched, Writer, insert_batches};
use super::follow::plan::Plan;
use super::follow::put_ends;
use super::open::OpenError;
use super::recover::{each_of_kind, refuse};
use super::values::{LinkedV1, read, write};
use super::{COMMIT_BYTES_MAX, FollowError, Store, keys};
use crate::backend::{BackendError, Tree};
use crate::batch::StoredBatch;
use crate::ids::{Offset, OriginId, PartitionId};
use crate::topic::PARTITIONS_MAX;

pub use ahead::{Ahead, PARTS_AHEAD_MAX};
pub(super) use ahead::{Parts, load as load_aheads, remove as remove_aheads};
pub use apart::APART_MAX;
use coming::Coming;
pub(super) use forget::load as load_forgotten;
pub use forget::{FORGOTTEN_MAX, Forgotten};
pub use holes::{HOLES_MAX, Hole, HoleWhy};
pub(super) use holes::{Holes, at as hole_at, load as load_holes};
pub use late::{LATE_MAX, Late};
pub(super) use late::{Lates, load as load_late, remove as remove_late};

/// Most origins that links bring to one store.
pub const LINKED_ORIGINS_MAX: usize = 16_384;
/// Most origins that one link brings: no link can use up what all have.
pub const LINKED_ORIGINS_OF_LINK_MAX: usize = 1_024;
/// Most partitions that one link brings.
pub const LINKED_PARTITIONS_OF_LINK_MAX: usize = 32_768;
/// Most partitions that one call begins.
pub const LINKED_NEW_PARTITIONS_MAX: usize = 1_024;
/// Most sites that an origin's events may pass on their way.
pub const LINK_HOPS_MAX: usize = 16;
/// Bytes that the disk takes for a hole, or for how far a partition has come, about.
const PART_SMALL_BYTES: usize = 64;
/// Most parts that are taken at once.
pub const LINKED_PARTS_MAX: usize = 65_536;

/// A linked origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Linked {
    /// The link that brings it; no other may.
    pub link: u64,
    /// The newest hybrid clock of what has come.
    pub hlc: u64,
    /// The sites that it has passed, its own first.
    pub path: Vec<u64>,
}

/// What a link brings, in the order in which it is to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkedPart {
    /// The next batch of its partition. One that is here already is left out.
    Batch(StoredBatch),
    /// Events that do not come.
    Hole(PartitionId, Hole),
}

impl LinkedPart {
    /// Its partition.
    pub fn partition(&self) -> PartitionId {
        match self {
            LinkedPart::Batch(batch) => batch.envelope().partition,
            LinkedPart::Hole(partition, _) => *partition,
        }
    }

    /// Where its partition ends with it.
    pub fn end(&self) -> Offset {
        match self {
            LinkedPart::Batch(batch) => batch.next_offset(),
            LinkedPart::Hole(_, hole) => hole.to,
        }
    }
}

/// Why what a link brought was not taken. Nothing of the call is stored then.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum LinkedError {
    /// The origin is this store's own, or was, or is followed here.
    #[error("origin {0} is written or followed here: no link brings it")]
    Ours(OriginId),
    /// Another link brings the origin.
    #[error("origin {origin} comes by another link ({link:016x})")]
    OtherLink {
        /// The origin.
        origin: OriginId,
        /// The link.
        link: u64,
    },
    /// A part of another origin, or of a partition that cannot be.
    #[error("{0} does not belong to what was announced")]
    Foreign(PartitionId),
    /// A batch or a hole begins neither where its partition ends, nor where what lies ahead of that does; or a hole goes over events that
    /// came meanwhile, in order or where nothing lies ahead.
    #[error("{partition} ends at {end}, and what came begins at {found}")]
    NotNext {
        /// The partition.
        partition: PartitionId,
        /// Where it ends.
        end: Offset,
        /// Where what came begins.
        found: Offset,
    },
    /// A batch that is here already, or one that ends where it does, is another one; or it comes to what lies ahead, and is newer than that.
    #[error("{partition} has another batch before {end}")]
    Differs {
        /// The partition.
        partition: PartitionId,
        /// Where the batch ends.
        end: Offset,
    },
    /// What lay ahead of a partition was dropped as this comes there in order, or the partition was deleted, and it is large: its batches go first, by
    /// [`Store::clear_dropped`].
    #[error("what {0} had was dropped, and its batches are not removed yet: it is tried again when they are")]
    Clearing(PartitionId),
    /// Too much at once, or too many.
    #[error("there are too many {0}")]
    Bound(&'static str),
    /// There is no room, or the store has failed.
    #[error(transparent)]
    Store(#[from] FollowError),
}

/// The linked origins, as they are read when the store is opened.
pub(super) fn load(meta: &dyn Tree) -> Result<BTreeMap<OriginId, LinkedV1>, OpenError> {
    let mut found = BTreeMap::new();
    each_of_kind(meta, keys::LINKED, |key, value| {
        let origin = keys::followed_of(key).ok_or_else(|| OpenError::Damaged("a linked origin's key".into()))?;
        found.insert(origin, read::<LinkedV1>(key, value).map_err(|e| refuse(&keys::describe(key), e))?);
        Ok(())
    })?;
    Ok(found)
}

/// How far a partition reaches, all of one moment.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Reach {
    /// First offset that is kept.
    pub start: Offset,
    /// Offset of the next event.
    pub end: Offset,
    /// Stored bytes of its batches.
    pub bytes: u64,
    /// Wrapping sum of the digests of all events that ever came.
    pub digest: u64,
}

impl Store {
    /// How far a partition reaches; all 0 for one that has nothing.
    pub fn reach(&self, partition: PartitionId) -> Reach {
        let extent = self.partition(partition).map(|partition| partition.extent()).unwrap_or_default();
        Reach { start: extent.start, end: extent.end, bytes: extent.bytes, digest: extent.digest }
    }

    /// The origins that links have brought, in order.
    pub fn linked(&self) -> Vec<(OriginId, Linked)> {
        self.linked.read().iter().map(|(origin, record)| (*origin, record.told())).collect()
    }

    /// A linked origin; `None` where no link has brought anything of it.
    pub fn linked_origin(&self, origin: OriginId) -> Option<Linked> {
        self.linked.read().get(&origin).map(LinkedV1::told)
    }

    /// Whether a link may bring an origin.
    ///
    /// # Errors
    /// [`LinkedError::Ours`], [`LinkedError::OtherLink`], [`LinkedError::Bound`].
    pub fn may_link(&self, origin: OriginId, link: u64) -> Result<(), LinkedError> {
        let linked = self.linked.read();
        match linked.get(&origin) {
            Some(known) if known.link != link => Err(LinkedError::OtherLink { origin, link: known.link }),
            Some(_) if self.follows(origin) => Err(LinkedError::Ours(origin)),
            Some(_) => Ok(()),
            None if self.is_ours(origin) => Err(LinkedError::Ours(origin)),
            None if linked.len() >= LINKED_ORIGINS_MAX => Err(LinkedError::Bound("linked origins")),
            None if linked.values().filter(|known| known.link == link).count() >= LINKED_ORIGINS_OF_LINK_MAX => {
                Err(LinkedError::Bound("origins of one link"))
            }
            None => Ok(()),
        }
    }

    /// How many partitions a link has brought.
    pub fn partitions_of_link(&self, link: u64) -> usize {
        let linked = self.linked.read();
        let is_of = |id: &&PartitionId| linked.get(&id.origin).is_some_and(|record| record.link == link);
        self.partitions.read().keys().filter(is_of).count()
    }

    /// Whether the call begins no more partitions than it may, and the link has none too many then.
    fn check_new_partitions(&self, link: u64, parts: &[LinkedPart]) -> Result<(), LinkedError> {
        let ids: BTreeSet<PartitionId> = parts.iter().map(LinkedPart::partition).collect();
        let partitions = self.partitions.read();
        let new = ids.iter().filter(|id| !partitions.contains_key(id)).count();
        drop(partitions);
        if new == 0 {
            return Ok(());
        }
        if new > LINKED_NEW_PARTITIONS_MAX {
            return Err(LinkedError::Bound("new partitions at once"));
        }
        let all = self.partitions_of_link(link) + new;
        if all > LINKED_PARTITIONS_OF_LINK_MAX { Err(LinkedError::Bound("partitions of one link")) } else { Ok(()) }
    }

    /// Own, of an own earlier life, or followed. The caller knows that it is not linked.
    fn is_ours(&self, origin: OriginId) -> bool {
        origin == self.origin
            || self.follows(origin)
            || self
                .partitions
                .read()
                .values()
                .any(|partition| partition.id.origin == origin && partition.extent().end > 0)
    }

    /// Whether links bring the origin.
    pub(super) fn is_linked(&self, origin: OriginId) -> bool {
        self.linked.read().contains_key(&origin)
    }

    /// Takes what a link brings of an origin, all or nothing: durable after the next [`Store::sync`], readable at once. `from` says which link,
    /// and the way that the origin has come.
    ///
    /// # Errors
    /// Any [`LinkedError`]; nothing of the call is stored then.
    pub fn take_linked(&self, origin: OriginId, from: &Linked, parts: &[LinkedPart]) -> Result<(), LinkedError> {
        self.take_linked_late(origin, from, parts, 0)
    }

    /// The same, and batches whose hybrid clock is below `late_before` are kept as come late.
    ///
    /// # Errors
    /// Those of [`Store::take_linked`].
    pub fn take_linked_late(
        &self,
        origin: OriginId,
        from: &Linked,
        parts: &[LinkedPart],
        late_before: u64,
    ) -> Result<(), LinkedError> {
        self.take(origin, from, parts, (late_before, false)).map(drop)
    }

    /// The same, of what another node of the site brings, which has it all in order: a part ahead to which the partition comes is dropped, as it may
    /// be of a log that the edge has no more. Those that were, with what they had.
    ///
    /// # Errors
    /// Those of [`Store::take_linked`].
    pub fn take_linked_in_order(
        &self,
        origin: OriginId,
        from: &Linked,
        parts: &[LinkedPart],
        late_before: u64,
    ) -> Result<Vec<(PartitionId, Ahead)>, LinkedError> {
        self.take(origin, from, parts, (late_before, true))
    }

    fn take(
        &self,
        origin: OriginId,
        from: &Linked,
        parts: &[LinkedPart],
        (late_before, is_in_order): (u64, bool),
    ) -> Result<Vec<(PartitionId, Ahead)>, LinkedError> {
        self.check().map_err(FollowError::from)?;
        let bytes = check_call(origin, from, parts)?;
        let mut writer = self.writer.lock();
        self.may_link(origin, from.link)?;
        self.check_new_partitions(from.link, parts)?;
        self.room(bytes, parts.len() * PART_SMALL_BYTES)?;
        let mut coming = Coming::new(Plan::new(self), is_in_order);
        let mut newest = from.hlc.max(self.linked.read().get(&origin).map_or(0, |record| record.hlc));
        for part in parts {
            match part {
                LinkedPart::Batch(batch) => {
                    newest = newest.max(batch.envelope().hlc);
                    coming.add_batch(batch)?;
                }
                LinkedPart::Hole(partition, hole) => coming.add_hole(*partition, *hole)?,
            }
        }
        let Coming { plan: Plan { mut touched, appends, .. }, mut aheads, holes, dropped, .. } = coming;
        self.check_cleared(&touched)?;
        self.drop_parts(&mut writer, &touched, &dropped).map_err(|e| self.take_back(&touched, &e))?;
        self.check_cleared(&touched)?;
        let batches = appends.iter().map(|(at, batch)| (*at, batch.base_offset(), batch.bytes()));
        insert_batches(&touched, batches, &mut writer.value).map_err(|e| self.take_back(&touched, &e))?;
        let record = LinkedV1 { link: from.link, hlc: newest, path: from.path.clone() };
        let news = News { holes: &holes, aheads: &mut aheads, appends: &appends, late_before };
        let written = self.write_linked(&mut writer, (origin, record), &mut touched, news);
        written.map_err(|e| self.take_back(&touched, &e))?;
        self.passed(bytes);
        self.remove_before_starts(&touched)?;
        let of = |(at, part): (usize, Ahead)| (touched[at].partition.id, part);
        Ok(dropped.into_iter().map(of).filter(|(_, part)| part.from < part.end).collect())
    }

    /// The group that makes it count.
    fn write_linked(
        &self,
        writer: &mut Writer,
        (origin, record): (OriginId, LinkedV1),
        touched: &mut [Touched],
        news: News<'_>,
    ) -> Result<(), BackendError> {
        let News { holes, aheads, appends, late_before } = news;
        let Writer { group, value, .. } = writer;
        group.clear();
        let grown = holes::put(touched, aheads, holes, group, value)?;
        let late = late::put(touched, appends, late_before, group, value);
        put_ends(touched, group, value);
        aheads.put(touched, group, value);
        let key = keys::linked(origin);
        write(&key, &record, value);
        group.put(&key, value);
        let was_forgotten = self.forgotten.read().contains_key(&origin);
        if was_forgotten {
            group.remove(&keys::forgotten(origin));
        }
        self.meta.apply(group)?;
        if was_forgotten {
            self.forgotten.write().remove(&origin);
        }
        for (at, holes) in grown {
            touched[at].partition.set_holes(holes);
        }
        for (at, late) in late {
            touched[at].partition.set_late(late);
        }
        for Touched { partition, after, .. } in touched.iter() {
            partition.set_extent(*after);
        }
        aheads.show(touched);
        self.linked.write().insert(origin, record);
        Ok(())
    }

    /// The hybrid clock of the batch that ends at a partition's end; `None` where there is none any more, or it cannot be read.
    pub fn last_batch_hlc(&self, partition: PartitionId) -> Option<u64> {
        let end = self.end_offset(partition);
        self.hlc_before(partition, end)
    }

    /// The hybrid clock of the batch that ends at an offset, be it ahead of the end; `None` where none that is kept does.
    pub fn hlc_before(&self, partition: PartitionId, offset: Offset) -> Option<u64> {
        let batches = self.read_newest(partition, offset.checked_sub(1)?, 1).ok()?;
        let ends = batches.first().filter(|batch| batch.next_offset() == offset)?;
        Some(ends.envelope().hlc)
    }
}

/// What a call brings besides where its partitions end.
struct News<'a> {
    holes: &'a [(usize, Hole)],
    aheads: &'a mut ahead::Aheads,
    appends: &'a [(usize, &'a StoredBatch)],
    late_before: u64,
}

impl LinkedV1 {
    fn told(&self) -> Linked {
        Linked { link: self.link, hlc: self.hlc, path: self.path.clone() }
    }
}

/// Whether a call is within bounds and of one origin; the stored bytes of its batches.
fn check_call(origin: OriginId, from: &Linked, parts: &[LinkedPart]) -> Result<usize, LinkedError> {
    if parts.len() > LINKED_PARTS_MAX {
        return Err(LinkedError::Bound("parts"));
    }
    if from.path.len() > LINK_HOPS_MAX {
        return Err(LinkedError::Bound("sites in its path"));
    }
    let mut bytes = 0_usize;
    for part in parts {
        let id = match part {
            LinkedPart::Batch(batch) => {
                bytes = bytes.saturating_add(batch.bytes().len());
                batch.envelope().partition
            }
            LinkedPart::Hole(partition, hole) if hole.from < hole.to => *partition,
            LinkedPart::Hole(partition, _) => return Err(LinkedError::Foreign(*partition)),
        };
        if id.origin != origin || id.index >= PARTITIONS_MAX {
            return Err(LinkedError::Foreign(id));
        }
    }
    if bytes > COMMIT_BYTES_MAX { Err(LinkedError::Bound("bytes")) } else { Ok(bytes) }
}
