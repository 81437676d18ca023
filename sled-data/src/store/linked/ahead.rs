//! The part ahead: batches of a linked partition that are here before those that come before them.
//!
//! After an outage what is live may come at once, and the backlog behind it. The partition ends where it ended, and what is live lies
//! ahead of that end, dense in itself: an open hole is between the two. What fills it is appended at the end as ever. The group with which the end
//! comes to the part ahead makes both one partition, which ends where the part ahead did. So who reads up to the end sees each event once and in order,
//! and nothing of what lies ahead until all before it is there.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::holes::put as put_holes;
use super::{Hole, HoleWhy, LinkedError};
use crate::backend::{BackendError, Group, Tree};
use crate::batch::StoredBatch;
use crate::ids::{Offset, PartitionId};
use crate::store::commit::{Touched, Writer};
use crate::store::follow::plan::Plan;
use crate::store::follow::put_ends;
use crate::store::open::OpenError;
use crate::store::partition::{Partition, remove_batches};
use crate::store::read::{ReadError, View, read_from};
use crate::store::recover::{Partitions, each_of_kind, refuse};
use crate::store::values::{AheadV1, PartitionV1, read, write};
use crate::store::walk::base_at_or_before;
use crate::store::{Store, StoreFailed, keys};

/// What lies ahead of a partition's end: offsets `from` to before `end`. Those between the end and `from` are to come.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Ahead {
    /// Its first offset, behind the partition's end.
    pub from: Offset,
    /// Where it goes on.
    pub end: Offset,
    /// Stored bytes of its batches.
    pub bytes: u64,
    /// Wrapping sum of the digests of its records.
    pub digest: u64,
}

/// The parts ahead of all partitions, as they are read when the store is opened. One whose batches are gone is forgotten: a program that
/// knows of none has cut them off, and its link began where the partition ends.
pub(in crate::store) fn load(meta: &dyn Tree, partitions: &Partitions) -> Result<(), OpenError> {
    let mut all = Vec::new();
    each_of_kind(meta, keys::AHEAD, |key, value| {
        let id = keys::partition_of(key).ok_or_else(|| OpenError::Damaged("the key of a part ahead".into()))?;
        let AheadV1 { from, end, bytes, digest } =
            read::<AheadV1>(key, value).map_err(|e| refuse(&keys::describe(key), e))?;
        all.push((id, Ahead { from, end, bytes, digest }));
        Ok(())
    })?;
    for (id, ahead) in all {
        let found = partitions.get(&id).filter(|partition| partition.extent().end < ahead.from);
        match found {
            Some(partition) if ahead.bytes == 0 || has_batches(partition.tree(), ahead.from, ahead.end)? => {
                partition.set_ahead(Some(ahead));
            }
            _ => meta.remove(&keys::ahead(id))?,
        }
    }
    Ok(())
}

fn has_batches(tree: &dyn Tree, from: Offset, end: Offset) -> Result<bool, BackendError> {
    let last = base_at_or_before(tree, end.saturating_sub(1))?;
    Ok(last.is_some_and(|base| base >= from))
}

/// The parts ahead that a call changes, by the place of their partitions among those touched.
#[derive(Default)]
pub(super) struct Aheads(BTreeMap<usize, Option<Ahead>>);

impl Aheads {
    fn of(&self, touched: &[Touched], at: usize) -> Option<Ahead> {
        self.0.get(&at).copied().unwrap_or_else(|| touched.get(at).and_then(|touched| touched.partition.ahead()))
    }

    fn set(&mut self, at: usize, ahead: Option<Ahead>) {
        self.0.insert(at, ahead);
    }

    /// Makes one of a partition and its part ahead, where it ends there now.
    fn join(&mut self, touched: &mut [Touched], at: usize) {
        if let Some(ahead) = self.of(touched, at)
            && let Some(Touched { after, .. }) = touched.get_mut(at)
            && after.end == ahead.from
        {
            join(after, &ahead);
            self.set(at, None);
        }
    }

    /// Gives up what was to come before a part ahead, and makes one of both: the hole that is there then.
    pub(super) fn close(&mut self, touched: &mut [Touched], at: usize, why: HoleWhy) -> Option<Hole> {
        let ahead = self.of(touched, at)?;
        let Touched { after, .. } = touched.get_mut(at)?;
        let hole = Hole { from: after.end, to: ahead.from, why, at_ms: 0 };
        pass(after, ahead.from);
        self.join(touched, at);
        Some(hole)
    }

    /// Adds what has changed to `group`.
    pub(super) fn put(&self, touched: &[Touched], group: &mut Group, value: &mut Vec<u8>) {
        for (at, ahead) in &self.0 {
            let key = keys::ahead(touched[*at].partition.id);
            match ahead {
                Some(Ahead { from, end, bytes, digest }) => {
                    write(&key, &AheadV1 { from: *from, end: *end, bytes: *bytes, digest: *digest }, value);
                    group.put(&key, value);
                }
                None => group.remove(&key),
            }
        }
    }

    /// Shows what has changed to readers, after the extents.
    pub(super) fn show(&self, touched: &[Touched]) {
        self.0.iter().for_each(|(at, ahead)| touched[*at].partition.set_ahead(*ahead));
    }
}

fn join(extent: &mut PartitionV1, ahead: &Ahead) {
    extent.end = ahead.end;
    extent.bytes += ahead.bytes;
    extent.digest = extent.digest.wrapping_add(ahead.digest);
}

/// A partition goes on at an offset, and what lies between does not come.
fn pass(extent: &mut PartitionV1, to: Offset) {
    extent.end = to;
    if extent.bytes == 0 {
        // Nothing is kept before it: the partition begins after it.
        extent.start = to;
    }
}

/// What one call brings, planned: each part goes to the end of its partition, or to that of its part ahead.
pub(super) struct Coming<'a> {
    pub(super) plan: Plan<'a>,
    pub(super) aheads: Aheads,
    /// New holes, each with its partition's place among those touched.
    pub(super) holes: Vec<(usize, Hole)>,
}

impl<'a> Coming<'a> {
    pub(super) fn new(plan: Plan<'a>) -> Self {
        Self { plan, aheads: Aheads::default(), holes: Vec::new() }
    }

    fn touch(&mut self, partition: PartitionId) -> Result<(usize, Offset, Option<Ahead>), LinkedError> {
        let at = self.plan.touch(partition).map_err(|e| e.of(self.plan.store))?;
        Ok((at, self.plan.touched[at].after.end, self.aheads.of(&self.plan.touched, at)))
    }

    pub(super) fn add_batch(&mut self, batch: &'a StoredBatch) -> Result<(), LinkedError> {
        let (partition, base, next) = (batch.envelope().partition, batch.base_offset(), batch.next_offset());
        let (at, end, ahead) = self.touch(partition)?;
        if next <= end {
            return self.is_here(at, batch);
        }
        if let Some(ahead) = ahead.filter(|ahead| base >= ahead.from) {
            return self.add_ahead(at, ahead, batch);
        }
        // It may not reach into what lies ahead: the two are not of one log then.
        if base != end || ahead.is_some_and(|ahead| next > ahead.from) {
            return Err(LinkedError::NotNext { partition, end, found: base });
        }
        self.plan.append(at, batch);
        self.aheads.join(&mut self.plan.touched, at);
        Ok(())
    }

    /// Looks whether a batch that is to be left out is the one that is here, before the end or in the part ahead as they were before the call.
    /// Few are: those that two senders have sent. What is behind another one is not to be put behind the one here.
    fn is_here(&self, at: usize, batch: &StoredBatch) -> Result<(), LinkedError> {
        let (partition, next) = (batch.envelope().partition, batch.next_offset());
        let Touched { partition: found, before, .. } = &self.plan.touched[at];
        let is_kept = next <= before.end || found.ahead().is_some_and(|was| was.from < next && next <= was.end);
        let here = if is_kept { self.plan.store.hlc_before(partition, next) } else { None };
        match here.is_some_and(|hlc| hlc != batch.envelope().hlc) {
            true => Err(LinkedError::Differs { partition, end: next }),
            false => Ok(()),
        }
    }

    fn add_ahead(&mut self, at: usize, mut ahead: Ahead, batch: &'a StoredBatch) -> Result<(), LinkedError> {
        if batch.next_offset() <= ahead.end {
            return self.is_here(at, batch);
        }
        if batch.base_offset() != ahead.end {
            let partition = batch.envelope().partition;
            return Err(LinkedError::NotNext { partition, end: ahead.end, found: batch.base_offset() });
        }
        ahead.end = batch.next_offset();
        ahead.bytes += batch.bytes().len() as u64;
        ahead.digest = ahead.digest.wrapping_add(batch.envelope().digest);
        self.aheads.set(at, Some(ahead));
        self.plan.appends.push((at, batch));
        Ok(())
    }

    pub(super) fn add_hole(&mut self, partition: PartitionId, hole: Hole) -> Result<(), LinkedError> {
        let (at, end, ahead) = self.touch(partition)?;
        if hole.to <= end {
            return Ok(());
        }
        let not_next = |end| Err(LinkedError::NotNext { partition, end, found: hole.from });
        match ahead {
            _ if hole.why == HoleWhy::Later && hole.from > end => not_next(end),
            _ if hole.why == HoleWhy::Later => match ahead {
                None => {
                    self.aheads.set(at, Some(Ahead { from: hole.to, end: hole.to, bytes: 0, digest: 0 }));
                    Ok(())
                }
                Some(ahead) if ahead.from == hole.to => Ok(()),
                Some(ahead) => Err(LinkedError::NotNext { partition, end: ahead.from, found: hole.to }),
            },
            Some(ahead) if hole.from >= ahead.from => {
                if hole.to > ahead.end && hole.from > ahead.end {
                    return not_next(ahead.end);
                }
                if hole.to > ahead.end {
                    self.holes.push((at, Hole { from: ahead.end, ..hole }));
                    self.aheads.set(at, Some(Ahead { end: hole.to, ..ahead }));
                }
                Ok(())
            }
            _ if hole.from > end => not_next(end),
            ahead => {
                let to = ahead.map_or(hole.to, |ahead| ahead.from.min(hole.to));
                pass(&mut self.plan.touched[at].after, to);
                self.holes.push((at, Hole { from: end, to, ..hole }));
                self.aheads.join(&mut self.plan.touched, at);
                // What of it lies behind the part ahead.
                if to < hole.to { self.add_hole(partition, hole) } else { Ok(()) }
            }
        }
    }
}

impl Store {
    /// What lies ahead of a partition's end; `None` where nothing does. Asked before [`Store::reach`], so that the end that is seen is no older.
    pub fn ahead(&self, partition: PartitionId) -> Option<Ahead> {
        self.partition(partition)?.ahead()
    }

    /// The partitions that have a part ahead, with it and their ends, in order.
    pub fn aheads(&self) -> Vec<(PartitionId, Offset, Ahead)> {
        let partitions = self.partitions.read();
        let has = |partition: &Arc<Partition>| {
            let ahead = partition.ahead()?;
            let end = partition.extent().end;
            (end < ahead.from).then_some((partition.id, end, ahead))
        };
        let mut all: Vec<_> = partitions.values().filter_map(has).collect();
        all.sort_unstable_by_key(|(id, ..)| *id);
        all
    }

    /// As [`Store::read`], and what lies ahead as well: who reads on over the open hole is told of it as [`ReadError::Trimmed`], and does
    /// not see what fills it.
    ///
    /// # Errors
    /// Those of [`Store::read`].
    pub fn read_newest(&self, id: PartitionId, from: Offset, max_bytes: usize) -> Result<Vec<StoredBatch>, ReadError> {
        match self.ahead(id) {
            Some(ahead) if from >= ahead.from => {
                let read = self.view_ahead(id, ahead, |view| read_from(&view, from, max_bytes))?;
                Ok(read.unwrap_or_default())
            }
            Some(ahead) if from >= self.end_offset(id) => Err(ReadError::Trimmed { partition: id, start: ahead.from }),
            _ => self.read(id, from, max_bytes),
        }
    }

    /// Calls `f` with a part ahead as if it were the partition.
    pub(in crate::store) fn view_ahead<T>(
        &self,
        id: PartitionId,
        ahead: Ahead,
        f: impl FnOnce(View<'_>) -> Result<T, ReadError>,
    ) -> Result<Option<T>, ReadError> {
        self.view(id, |view| f(view.within(ahead.from, ahead.end)))
    }

    /// Gives up what was to come before a part ahead: a hole is there then, and the partition goes on behind it. False where nothing lies ahead.
    /// Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be written.
    pub fn close_ahead(&self, id: PartitionId, why: HoleWhy, at_ms: i64) -> Result<bool, StoreFailed> {
        self.check()?;
        let mut writer = self.writer.lock();
        let Some(partition) = self.partition(id).filter(|partition| partition.ahead().is_some()) else {
            return Ok(false);
        };
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
            let record = store.meta.get(&keys::ahead(id)).unwrap().unwrap();
            if let Some(taken) = taken {
                let partition = store.partition(id).unwrap();
                remove_batches(partition.tree(), 1, None).unwrap();
                partition.set_ahead(None);
                store.meta.remove(&keys::ahead(id)).unwrap();
                taken.into_iter().for_each(|base| take(&store, &[batch(id, base)]));
                store.meta.insert(&keys::ahead(id), &record).unwrap();
            }
            store.sync().unwrap();
            drop(store);
            let store = open();
            assert_eq!(store.ahead(id).is_some(), is_there);
            assert_eq!(store.meta.get(&keys::ahead(id)).unwrap().is_some(), is_there);
            let end = store.end_offset(id);
            (end..9).for_each(|base| take(&store, &[batch(id, base)]));
            assert_eq!((store.end_offset(id), store.ahead(id)), (9, None));
            // What was known of it hides nothing of what came since.
            let (holes, late): (Vec<_>, Vec<_>) = if is_there { (vec![7], vec![8]) } else { (vec![], vec![]) };
            let check = |store: &Store| {
                assert_eq!(store.holes(id).iter().map(|hole| hole.from).collect::<Vec<_>>(), holes);
                assert_eq!(store.late(id).iter().map(|range| range.from).collect::<Vec<_>>(), late);
                let read = |offset: &Offset| store.read(id, *offset, 1).is_ok_and(|batches| batches.len() == 1);
                assert_eq!((0..9).filter(read).count(), 9 - holes.len());
                assert!(store.verify(&mut |_| {}).unwrap().is_clean());
            };
            check(&store);
            store.sync().unwrap();
            drop(store);
            check(&open());
        }
    }
}
