//! Parts ahead: batches of a linked partition that are here before those that come before them.
//!
//! After an outage what is live may come at once, and the backlog behind it. The partition ends where it ended, and what is live lies
//! ahead of that end, dense in itself: an open hole is between the two. Another outage while that is open leaves another part, behind another open
//! hole. What fills a hole is appended at the end as ever. The group with which the end comes to a part ahead makes both one partition, which ends where
//! that part did. So who reads up to the end sees each event once and in order, and nothing of what lies ahead until all before it is there.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use super::holes::{at as hole_at, put as put_holes};
use super::{Hole, HoleWhy};
use crate::backend::{BackendError, Group, Tree};
use crate::batch::StoredBatch;
use crate::ids::{Offset, PartitionId};
use crate::store::commit::{Touched, Writer};
use crate::store::follow::put_ends;
use crate::store::open::OpenError;
use crate::store::partition::{Partition, remove_batches};
use crate::store::read::{ReadError, View, back_from, read_from};
use crate::store::recover::{Partitions, each_of_kind, refuse};
use crate::store::values::{AheadV1, PartitionV1, read, write};
use crate::store::walk::base_at_or_before;
use crate::store::{Store, StoreFailed, keys};

/// Most parts ahead of one partition's end.
pub const PARTS_AHEAD_MAX: usize = 8;

/// A part ahead of a partition's end: offsets `from` to before `end`. Those between what lies before it and `from` are to come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Its first offset, behind the partition's end and all parts before it.
    pub from: Offset,
    /// Where it goes on.
    pub end: Offset,
    /// Stored bytes of its batches.
    pub bytes: u64,
    /// Wrapping sum of the digests of its records.
    pub digest: u64,
}

/// The parts ahead of a partition, in order.
pub(in crate::store) type Parts = Arc<[Ahead]>;

/// The key of the part at a place among those of its partition. The first one's is that under which programs look that know of one part alone.
fn key(id: PartitionId, place: usize, from: Offset) -> Vec<u8> {
    if place == 0 { keys::ahead(id).to_vec() } else { keys::further_ahead(id, from).to_vec() }
}

/// The parts ahead of all partitions, as they are read when the store is opened. One whose batches are gone is forgotten, and all behind it: a program
/// that knows of none, or of one, has cut them off, and its link began where the partition, or that one, ends.
pub(in crate::store) fn load(
    meta: &dyn Tree,
    partitions: &Partitions,
    holes: &HashMap<PartitionId, Vec<Hole>>,
) -> Result<(), OpenError> {
    let (mut firsts, mut further) = (BTreeMap::new(), BTreeMap::<PartitionId, Vec<Ahead>>::new());
    each_of_kind(meta, keys::AHEAD, |key, value| {
        let id = keys::partition_of(key).ok_or_else(|| OpenError::Damaged("the key of a part ahead".into()))?;
        firsts.insert(id, part(key, value)?);
        Ok(())
    })?;
    each_of_kind(meta, keys::FURTHER_AHEAD, |key, value| {
        let (id, _) = keys::hole_of(key).ok_or_else(|| OpenError::Damaged("the key of a part ahead".into()))?;
        further.entry(id).or_default().push(part(key, value)?);
        Ok(())
    })?;
    let ids: BTreeSet<PartitionId> = firsts.keys().chain(further.keys()).copied().collect();
    for id in ids {
        let (first, others) = (firsts.get(&id).copied(), further.remove(&id).unwrap_or_default());
        // Without the first one the others are of what was cut off.
        let found = partitions.get(&id).filter(|_| first.is_some());
        let holes = holes.get(&id).map_or(&[][..], Vec::as_slice);
        let kept = match found {
            Some(partition) => still_there(partition, first.iter().chain(&others), holes)?,
            None => Vec::new(),
        };
        if let Some(first) = first.filter(|_| kept.is_empty()) {
            meta.remove(&key(id, 0, first.from))?;
        }
        for gone in others.iter().filter(|part| !kept.contains(part)) {
            meta.remove(&key(id, 1, gone.from))?;
        }
        if let Some(partition) = found {
            partition.set_aheads(kept.into());
        }
    }
    Ok(())
}

fn part(key: &[u8], value: &[u8]) -> Result<Ahead, OpenError> {
    let AheadV1 { from, end, bytes, digest } =
        read::<AheadV1>(key, value).map_err(|e| refuse(&keys::describe(key), e))?;
    Ok(Ahead { from, end, bytes, digest })
}

/// Those of a partition's parts, in order, up to the first one whose batches are gone, or that is not behind what lies before it.
fn still_there<'a>(
    partition: &Partition,
    parts: impl Iterator<Item = &'a Ahead>,
    holes: &[Hole],
) -> Result<Vec<Ahead>, BackendError> {
    let mut kept: Vec<Ahead> = Vec::new();
    let mut end = partition.extent().end;
    for part in parts {
        let is_empty = part.from == part.end || hole_at(holes, part.from).is_some_and(|hole| hole.to >= part.end);
        let is_there = match part.bytes {
            0 => is_empty,
            _ => has_batches(partition.tree(), part.from, part.end)?,
        };
        if part.from <= end || !is_there {
            break;
        }
        end = part.end;
        kept.push(*part);
    }
    Ok(kept)
}

fn has_batches(tree: &dyn Tree, from: Offset, end: Offset) -> Result<bool, BackendError> {
    let last = base_at_or_before(tree, end.saturating_sub(1))?;
    Ok(last.is_some_and(|base| base >= from))
}

/// The parts ahead that a call changes, by the place of their partitions among those touched; and of which partitions a hole was given up.
#[derive(Default)]
pub(super) struct Aheads(BTreeMap<usize, Parts>, BTreeSet<usize>);

impl Aheads {
    /// The parts of a partition, as the call has left them so far.
    pub(super) fn of(&self, touched: &[Touched], at: usize) -> Parts {
        let known = || touched.get(at).map(|touched| touched.partition.aheads()).unwrap_or_default();
        self.0.get(&at).cloned().unwrap_or_else(known)
    }

    pub(super) fn set(&mut self, at: usize, parts: Vec<Ahead>) {
        self.0.insert(at, parts.into());
    }

    /// Makes one of a partition and the parts that it has come to, and of parts that have come to one another.
    pub(super) fn join(&mut self, touched: &mut [Touched], at: usize) {
        let parts = self.of(touched, at);
        let Some(Touched { after, .. }) = touched.get_mut(at) else { return };
        let mut apart: Vec<Ahead> = Vec::with_capacity(parts.len());
        for part in parts.iter() {
            match apart.last_mut() {
                None if after.end == part.from => join(after, part),
                Some(last) if last.end == part.from => {
                    last.end = part.end;
                    last.bytes += part.bytes;
                    last.digest = last.digest.wrapping_add(part.digest);
                }
                _ => apart.push(*part),
            }
        }
        if apart.len() != parts.len() {
            self.set(at, apart);
        }
    }

    /// Gives up what was to come before the first part ahead, and makes one of both: the hole that is there then.
    pub(super) fn close(&mut self, touched: &mut [Touched], at: usize, why: HoleWhy) -> Option<Hole> {
        let first = *self.of(touched, at).first()?;
        let Touched { after, .. } = touched.get_mut(at)?;
        let hole = Hole { from: after.end, to: first.from, why, at_ms: 0 };
        pass(after, first.from);
        self.join(touched, at);
        self.1.insert(at);
        Some(hole)
    }

    /// Adds what has changed to `group`.
    pub(super) fn put(&self, touched: &[Touched], group: &mut Group, value: &mut Vec<u8>) {
        for (at, parts) in &self.0 {
            let id = touched[*at].partition.id;
            let before = touched[*at].partition.aheads();
            for (place, was) in before.iter().enumerate() {
                let stays = match place {
                    0 => !parts.is_empty(),
                    _ => parts.iter().skip(1).any(|part| part.from == was.from),
                };
                if !stays {
                    group.remove(&key(id, place, was.from));
                }
            }
            for (place, part) in parts.iter().enumerate().filter(|(place, part)| before.get(*place) != Some(part)) {
                let key = key(id, place, part.from);
                let Ahead { from, end, bytes, digest } = *part;
                write(&key, &AheadV1 { from, end, bytes, digest }, value);
                group.put(&key, value);
            }
        }
    }

    /// Shows what has changed to readers, after the extents.
    pub(super) fn show(&self, touched: &[Touched]) {
        self.0.iter().for_each(|(at, parts)| touched[*at].partition.set_aheads(Arc::clone(parts)));
        self.1.iter().for_each(|at| touched[*at].partition.count_drop());
    }
}

/// Takes the records of the parts ahead of a partition that goes out, in `group`.
pub(in crate::store) fn remove(store: &Store, id: PartitionId, group: &mut Group) {
    let parts = store.parts_ahead(id);
    parts.iter().enumerate().for_each(|(place, part)| group.remove(&key(id, place, part.from)));
}

fn join(extent: &mut PartitionV1, ahead: &Ahead) {
    extent.end = ahead.end;
    extent.bytes += ahead.bytes;
    extent.digest = extent.digest.wrapping_add(ahead.digest);
}

/// A partition goes on at an offset, and what lies between does not come.
pub(super) fn pass(extent: &mut PartitionV1, to: Offset) {
    extent.end = to;
    if extent.bytes == 0 {
        // Nothing is kept before it: the partition begins after it.
        extent.start = to;
    }
}

impl Store {
    /// The first part ahead of a partition's end; `None` where nothing lies ahead. Asked before [`Store::reach`], so that the end that is seen is no older.
    pub fn ahead(&self, partition: PartitionId) -> Option<Ahead> {
        self.parts_ahead(partition).first().copied()
    }

    /// All parts ahead of a partition's end, in order: at most [`PARTS_AHEAD_MAX`]. Asked before [`Store::reach`], as [`Store::ahead`].
    pub fn parts_ahead(&self, partition: PartitionId) -> Arc<[Ahead]> {
        self.partition(partition).map(|partition| partition.aheads()).unwrap_or_default()
    }

    /// How often parts ahead of a partition were dropped since the store was opened, or what was to come before one was given up. Who brings it counts what
    /// lies ahead as stored when all before it is, and sends that: it is to hear that it is so no more. Asked before [`Store::parts_ahead`].
    pub fn dropped_ahead(&self, partition: PartitionId) -> u64 {
        self.partition(partition).map_or(0, |partition| partition.drops())
    }

    /// The open holes of all partitions, in order: where each begins, and the part that lies behind it.
    pub fn aheads(&self) -> Vec<(PartitionId, Offset, Ahead)> {
        let partitions = self.partitions.read();
        let mut all = Vec::new();
        for partition in partitions.values() {
            let parts = partition.aheads();
            let end = partition.extent().end;
            // What was made part of the partition in between is open no more.
            let open = parts.iter().filter(|part| part.from > end);
            let begins = std::iter::once(end).chain(open.clone().map(|part| part.end));
            all.extend(open.zip(begins).map(|(part, from)| (partition.id, from, *part)));
        }
        all.sort_unstable_by_key(|(id, from, _)| (*id, *from));
        all
    }

    /// As [`Store::read`], and what lies ahead as well: who reads on over an open hole is told of it as [`ReadError::Trimmed`], and does
    /// not see what fills it.
    ///
    /// # Errors
    /// Those of [`Store::read`].
    pub fn read_newest(&self, id: PartitionId, from: Offset, max_bytes: usize) -> Result<Vec<StoredBatch>, ReadError> {
        let parts = self.parts_ahead(id);
        let behind = parts.partition_point(|part| part.from <= from);
        let (within, next) = (behind.checked_sub(1).and_then(|place| parts.get(place)), parts.get(behind));
        match (within, next) {
            (Some(part), next) if from < part.end || next.is_none() => {
                let read = self.view_ahead(id, *part, |view| read_from(&view, from, max_bytes))?;
                Ok(self.passed_all(read.unwrap_or_default()))
            }
            (within, Some(next)) if within.is_some() || from >= self.end_offset(id) => {
                Err(ReadError::Trimmed { partition: id, start: next.from })
            }
            _ => self.read(id, from, max_bytes),
        }
    }

    /// The newest batch that is kept before an offset, in the part ahead that the offset is in or behind, or in the partition; `None` where there is none, or
    /// it cannot be read.
    pub(super) fn newest_before(&self, id: PartitionId, offset: Offset) -> Option<StoredBatch> {
        let within = self.parts_ahead(id).iter().copied().rfind(|part| part.from < offset);
        let found = match within {
            Some(part) => self.view_ahead(id, part, |view| back_from(&view, offset, 1)).ok()?.unwrap_or_default(),
            None => self.read_back(id, offset, 1).ok()?,
        };
        found.into_iter().next()
    }

    /// Calls `f` with a part ahead as if it were the partition; `None` where it lies ahead no more, and cannot be read.
    pub(in crate::store) fn view_ahead<T>(
        &self,
        id: PartitionId,
        ahead: Ahead,
        f: impl FnOnce(View<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        match self.view(id, |view| f(view.within(ahead.from, ahead.end))) {
            Err(ReadError::Damaged { .. }) if !self.parts_ahead(id).iter().any(|part| part.from == ahead.from) => {
                Ok(None)
            }
            viewed => viewed,
        }
    }

    /// Gives up what was to come before the first part ahead: a hole is there then, and the partition goes on behind it. False where nothing lies ahead.
    /// Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be written.
    pub fn close_ahead(&self, id: PartitionId, why: HoleWhy, at_ms: i64) -> Result<bool, StoreFailed> {
        if self.partition(id).is_none() {
            return Ok(false);
        }
        // The end would go past it.
        self.clear_dropped(id)?;
        self.check()?;
        let mut writer = self.writer.lock();
        let Some(partition) = self.partition(id).filter(|partition| !partition.aheads().is_empty()) else {
            return Ok(false);
        };
        // There is more where another part was dropped in this moment.
        while let Some(range) = partition.rubble() {
            remove_batches(partition.tree(), range.0, Some(range.1)).map_err(|e| self.fail(&e))?;
            partition.cleared(range);
        }
        let extent = partition.extent();
        let mut touched = [Touched { partition, before: extent, after: extent }];
        let mut aheads = Aheads::default();
        let Some(hole) = aheads.close(&mut touched, 0, why) else { return Ok(false) };
        let holes = [(0, Hole { at_ms, ..hole })];
        self.write_closed(&mut writer, &mut touched, &mut aheads, &holes).map_err(|e| self.fail(&e))?;
        let removed = remove_batches(touched[0].partition.tree(), extent.start, Some(touched[0].after.start));
        removed.map_err(|e| self.fail(&e))?;
        Ok(true)
    }

    fn write_closed(
        &self,
        writer: &mut Writer,
        touched: &mut [Touched],
        aheads: &mut Aheads,
        holes: &[(usize, Hole)],
    ) -> Result<(), BackendError> {
        let Writer { group, value, .. } = writer;
        group.clear();
        let grown = put_holes(touched, aheads, holes, group, value)?;
        put_ends(touched, group, value);
        aheads.put(touched, group, value);
        self.meta.apply(group)?;
        for (at, holes) in grown {
            touched[at].partition.set_holes(holes);
        }
        touched.iter().for_each(|touched| touched.partition.set_extent(touched.after));
        aheads.show(touched);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::MemoryBackend;
    use crate::batch::{HeaderBlock, OpenBatch, SealInfo, Sealer};
    use crate::ids::{OriginId, TopicId};
    use crate::store::partition::remove_batches;
    use crate::store::{Linked, LinkedPart, Options};
    use crate::topic::Compression;

    fn batch(partition: PartitionId, base_offset: Offset) -> LinkedPart {
        let mut open = OpenBatch::new();
        open.push(1_000, None, Some(b"event"), &HeaderBlock::new()).unwrap();
        let info =
            SealInfo { partition, base_offset, hlc: 7, compression: Compression::None, hops: 0, term: 0, flags: 0 };
        let sealed = open.seal(info, &mut Sealer::new());
        LinkedPart::Batch(StoredBatch::decode(sealed.bytes().to_vec()).unwrap())
    }

    /// Programs that know of no part ahead cut it off as what no group covers, and take what comes at the end.
    #[test]
    fn what_an_older_program_has_cut_off_is_forgotten() {
        let id = PartitionId { origin: OriginId(50), topic: TopicId(2), index: 0 };
        let later = Hole { from: 1, to: 4, why: HoleWhy::Later, at_ms: 0 };
        // what the older program had taken since, whether the part ahead is there still
        for (taken, is_there) in
            [(None, true), (Some(vec![]), false), (Some(vec![1, 2]), false), (Some((1..7).collect()), false)]
        {
            let memory = MemoryBackend::new();
            let open =
                || Store::on(Arc::new(memory.clone()), Options { seed: Some(1), ..Options::default() }).unwrap().0;
            let store = open();
            let linked = Linked { link: 5, hlc: 0, path: vec![1] };
            let take = |store: &Store, parts: &[LinkedPart]| store.take_linked(id.origin, &linked, parts).unwrap();
            let begun = [batch(id, 0), LinkedPart::Hole(id, later), batch(id, 4), batch(id, 5), batch(id, 6)];
            take(&store, &begun);
            take(&store, &[LinkedPart::Hole(id, Hole { from: 7, to: 8, why: HoleWhy::Deadline, at_ms: 0 })]);
            store.take_linked_late(id.origin, &linked, &[batch(id, 8)], 8).unwrap();
            let again = Hole { from: 9, to: 12, ..later };
            take(&store, &[LinkedPart::Hole(id, again), batch(id, 12)]);
            let record = store.meta.get(&keys::ahead(id)).unwrap().unwrap();
            if let Some(taken) = taken {
                let partition = store.partition(id).unwrap();
                remove_batches(partition.tree(), 1, None).unwrap();
                partition.set_aheads(Parts::default());
                store.meta.remove(&keys::ahead(id)).unwrap();
                taken.into_iter().for_each(|base| take(&store, &[batch(id, base)]));
                store.meta.insert(&keys::ahead(id), &record).unwrap();
            }
            store.sync().unwrap();
            drop(store);
            let store = open();
            assert_eq!(store.parts_ahead(id).len(), if is_there { 2 } else { 0 });
            for key in [keys::ahead(id).to_vec(), keys::further_ahead(id, 12).to_vec()] {
                assert_eq!(store.meta.get(&key).unwrap().is_some(), is_there);
            }
            let end = store.end_offset(id);
            (end..12).for_each(|base| take(&store, &[batch(id, base)]));
            assert_eq!((store.end_offset(id), store.ahead(id)), (if is_there { 13 } else { 12 }, None));
            // What was known of it hides nothing of what came since.
            let (holes, late): (Vec<_>, Vec<_>) = if is_there { (vec![7], vec![8]) } else { (vec![], vec![]) };
            let check = |store: &Store| {
                assert_eq!(store.holes(id).iter().map(|hole| hole.from).collect::<Vec<_>>(), holes);
                assert_eq!(store.late(id).iter().map(|range| range.from).collect::<Vec<_>>(), late);
                let read = |offset: &Offset| store.read(id, *offset, 1).is_ok_and(|batches| batches.len() == 1);
                assert_eq!((0..12).filter(read).count(), 12 - holes.len());
                assert!(store.verify(&mut |_| {}).unwrap().is_clean());
            };
            check(&store);
            store.sync().unwrap();
            drop(store);
            check(&open());
        }
    }

    /// One that knows of one part alone leaves that one, and goes on with it.
    #[test]
    fn what_a_program_has_cut_off_that_knows_one_part_is_forgotten() {
        let id = PartitionId { origin: OriginId(50), topic: TopicId(2), index: 0 };
        let later = |from, to| LinkedPart::Hole(id, Hole { from, to, why: HoleWhy::Later, at_ms: 0 });
        // where that one had brought the partition, what is in the first part then, the parts that are there
        let cases = [
            (1, Some((4, 5)), vec![(4, 5)]),
            (1, Some((4, 9)), vec![(4, 9)]),
            (5, None, vec![]),
            (9, None, vec![]),
            (5, Some((20, 21)), vec![(20, 21)]),
        ];
        for (end, first, expected) in cases {
            let memory = MemoryBackend::new();
            let open =
                || Store::on(Arc::new(memory.clone()), Options { seed: Some(1), ..Options::default() }).unwrap().0;
            let store = open();
            let linked = Linked { link: 5, hlc: 0, path: vec![1] };
            let take = |parts: &[LinkedPart]| store.take_linked(id.origin, &linked, parts).unwrap();
            take(&[batch(id, 0), later(1, 4), batch(id, 4), later(5, 8), batch(id, 8), later(9, 11), batch(id, 11)]);
            assert_eq!(store.parts_ahead(id).len(), 3);
            let further: Vec<_> = [8, 11]
                .map(|from| keys::further_ahead(id, from))
                .map(|key| (key, store.meta.get(&key).unwrap().unwrap()))
                .into();
            remove_batches(store.partition(id).unwrap().tree(), 5, None).unwrap();
            let parts: Vec<Ahead> = store.parts_ahead(id)[..1].to_vec();
            store.partition(id).unwrap().set_aheads(parts.into());
            further.iter().for_each(|(key, _)| store.meta.remove(key).unwrap());
            (1..end).for_each(|base| take(&[batch(id, base)]));
            if let Some((from, end)) = first {
                take(&[later(store.end_offset(id), from)][usize::from(from < 20)..]);
                (from..end).for_each(|base| take(&[batch(id, base)]));
            }
            further.iter().for_each(|(key, record)| store.meta.insert(key, record).unwrap());
            store.sync().unwrap();
            drop(store);
            let store = open();
            let parts = store.parts_ahead(id);
            assert_eq!(parts.iter().map(|part| (part.from, part.end)).collect::<Vec<_>>(), expected, "{end} {first:?}");
            let is_left = |(key, _): &([u8; 25 + 4], Vec<u8>)| store.meta.get(key).unwrap().is_some();
            assert!(!further.iter().any(is_left), "{end} {first:?}");
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        }
    }
}
