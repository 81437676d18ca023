//! What one call brings, planned: each part goes to where it begins, at the partition's end or in what lies ahead of it.

use super::ahead::{Ahead, Aheads, PARTS_AHEAD_MAX, Parts, pass};
use super::{Hole, HoleWhy, Holes, Lates, LinkedError, hole_at};
use crate::backend::BackendError;
use crate::batch::StoredBatch;
use crate::ids::{Offset, PartitionId};
use crate::store::commit::{Touched, Writer};
use crate::store::follow::plan::Plan;
use crate::store::partition::remove_batches;
use crate::store::{FollowError, ReadError, Store, keys};

/// Stored bytes of parts ahead whose batches are removed while all who write wait.
const DROPPED_AT_ONCE_BYTES_MAX: u64 = 1 << 20;

/// The plan of one call.
pub(super) struct Coming<'a> {
    pub(super) plan: Plan<'a>,
    pub(super) aheads: Aheads,
    /// New holes, each with its partition's place among those touched.
    pub(super) holes: Vec<(usize, Hole)>,
    /// Parts ahead that are to go first, as what comes in order has come to them; each with its partition's place among those touched.
    pub(super) dropped: Vec<(usize, Ahead)>,
    is_in_order: bool,
}

/// How a partition is, as a call has left it so far, about an offset.
struct About {
    /// Its place among those touched.
    at: usize,
    /// Its parts ahead.
    parts: Parts,
    /// In which of them the offset is, or behind which: 0 is the partition itself, 1 the first part.
    place: usize,
    /// Where that one ends.
    end: Offset,
}

impl About {
    /// Where the next part begins.
    fn next(&self) -> Option<Offset> {
        self.parts.get(self.place).map(|part| part.from)
    }
}

impl<'a> Coming<'a> {
    /// Of what comes by a link; in order from another node of the site.
    pub(super) fn new(plan: Plan<'a>, is_in_order: bool) -> Self {
        Self { plan, aheads: Aheads::default(), holes: Vec::new(), dropped: Vec::new(), is_in_order }
    }

    fn about(&mut self, partition: PartitionId, offset: Offset) -> Result<About, LinkedError> {
        let at = self.plan.touch(partition).map_err(|e| match e.of(self.plan.store) {
            FollowError::Dropping(partition) => LinkedError::Clearing(partition),
            e => e.into(),
        })?;
        let end = self.plan.touched[at].after.end;
        let parts = self.aheads.of(&self.plan.touched, at);
        let place = if self.is_in_order { 0 } else { parts.partition_point(|part| part.from <= offset) };
        let end = place.checked_sub(1).and_then(|last| parts.get(last)).map_or(end, |part| part.end);
        Ok(About { at, parts, place, end })
    }

    pub(super) fn add_batch(&mut self, batch: &'a StoredBatch) -> Result<(), LinkedError> {
        let (partition, base, next) = (batch.envelope().partition, batch.base_offset(), batch.next_offset());
        let mut about = self.about(partition, base)?;
        let at = about.at;
        if next <= about.end || next <= self.plan.touched[at].after.end {
            return self.is_here(at, batch);
        }
        if base == about.end && self.is_in_order {
            self.make_way(at, next);
            about = self.about(partition, base)?;
        }
        // It may not reach into what lies ahead: the two are not of one log then.
        if base != about.end || about.next().is_some_and(|from| next > from) {
            return Err(LinkedError::NotNext { partition, end: about.end, found: base });
        }
        if about.next() == Some(next) && self.is_newer_than(batch, next) {
            return Err(LinkedError::Differs { partition, end: next });
        }
        match about.place.checked_sub(1) {
            None => self.plan.append(at, batch),
            Some(place) => {
                let mut parts = about.parts.to_vec();
                if let Some(part) = parts.get_mut(place) {
                    part.end = next;
                    part.bytes += batch.bytes().len() as u64;
                    part.digest = part.digest.wrapping_add(batch.envelope().digest);
                }
                self.aheads.set(at, parts);
                self.plan.appends.push((at, batch));
            }
        }
        self.aheads.join(&mut self.plan.touched, at);
        Ok(())
    }

    /// Whether a batch is newer than what lies ahead, as that was before the call, and begins at an offset: within a partition clocks never fall, so the
    /// two are not of one log. One that was restored comes to what lies ahead of it so.
    fn is_newer_than(&self, batch: &StoredBatch, ahead: Offset) -> bool {
        self.first_clock(batch.envelope().partition, ahead).is_some_and(|first| batch.envelope().hlc > first)
    }

    /// The clock of the batch with which a part ahead begins at an offset, as it was before the call.
    fn first_clock(&self, partition: PartitionId, ahead: Offset) -> Option<u64> {
        let found = self.plan.store.read_newest(partition, ahead, 1).unwrap_or_default();
        found.first().filter(|first| first.base_offset() == ahead).map(|first| first.envelope().hlc)
    }

    /// The same of a gap that ends where what lies ahead begins: whether the newest of what is kept before it, of this call or as it was before, is newer
    /// than what that begins with.
    fn is_between_two_logs(&self, partition: PartitionId, about: &About, ahead: Offset) -> bool {
        let Some(first) = self.first_clock(partition, ahead) else { return false };
        let of_call =
            self.plan.appends.iter().filter(|(at, batch)| *at == about.at && batch.next_offset() <= about.end);
        let clock = |batch: &StoredBatch| batch.envelope().hlc;
        let newest_of_call = of_call.map(|(_, batch)| clock(batch)).max();
        let is_newer = |newest: Option<u64>| newest.is_some_and(|newest| newest > first);
        is_newer(newest_of_call)
            || is_newer(self.plan.store.newest_before(partition, about.end).map(|batch| clock(&batch)))
    }

    /// Looks whether a batch that is to be left out is the one that is here, before the end or in what lay ahead as they were before the call.
    /// Few are: those that two senders have sent. What is behind another one is not to be put behind the one here.
    fn is_here(&self, at: usize, batch: &StoredBatch) -> Result<(), LinkedError> {
        let (partition, next) = (batch.envelope().partition, batch.next_offset());
        let Touched { partition: found, before, .. } = &self.plan.touched[at];
        if self.is_in_order {
            return if next <= before.end { self.is_the_same(batch) } else { Ok(()) };
        }
        let was_ahead = || found.aheads().iter().any(|was| was.from < next && next <= was.end);
        let is_kept = next <= before.end || was_ahead();
        let here = if is_kept { self.plan.store.hlc_before(partition, next) } else { None };
        match here.is_some_and(|hlc| hlc != batch.envelope().hlc) {
            true => Err(LinkedError::Differs { partition, end: next }),
            false => Ok(()),
        }
    }

    /// Looks whether a batch that comes in order is the one at its place, all of it, as that is before the partition's end. Where nothing is kept, nothing
    /// can be told.
    fn is_the_same(&self, batch: &StoredBatch) -> Result<(), LinkedError> {
        let (partition, next) = (batch.envelope().partition, batch.next_offset());
        let is_same = match self.plan.store.read(partition, batch.base_offset(), 1) {
            Ok(here) => here.first().is_none_or(|here| is_at_one_place(here, batch)),
            // Events that lie within it, behind a gap or where the partition begins, are others.
            Err(ReadError::Trimmed { start, .. }) => next <= start,
            Err(_) => true,
        };
        if is_same { Ok(()) } else { Err(LinkedError::Differs { partition, end: next }) }
    }

    /// Drops the parts ahead to which the partition comes with what comes in order. Nothing shows that they go on from that: they were of the log of an
    /// edge that may have been restored since. They count as stored for nobody, and what was in them comes in order as well.
    fn make_way(&mut self, at: usize, to: Offset) {
        let parts = self.aheads.of(&self.plan.touched, at);
        let reached = parts.partition_point(|part| part.from <= to);
        if reached > 0 {
            self.dropped.extend(parts[..reached].iter().map(|part| (at, *part)));
            self.aheads.set(at, parts[reached..].to_vec());
        }
    }

    pub(super) fn add_hole(&mut self, partition: PartitionId, hole: Hole) -> Result<(), LinkedError> {
        let about = self.about(partition, hole.from)?;
        // What fills the holes before parts ahead may go over what has come there; and an open hole passes over nothing.
        let is_to_be_next = self.is_in_order || about.parts.is_empty() && hole.why != HoleWhy::Later;
        if is_to_be_next && self.is_over_events(about.at, &hole) {
            return Err(LinkedError::NotNext { partition, end: about.end, found: hole.from });
        }
        if hole.to <= about.end || hole.to <= self.plan.touched[about.at].after.end {
            return Ok(());
        }
        if hole.from > about.end {
            return Err(LinkedError::NotNext { partition, end: about.end, found: hole.from });
        }
        if hole.why == HoleWhy::Later {
            return self.open_hole(partition, hole, &about);
        }
        let About { at, .. } = about;
        if self.is_in_order {
            self.make_way(at, hole.to);
        }
        let about = self.about(partition, hole.from)?;
        let to = about.next().map_or(hole.to, |next| next.min(hole.to));
        // What is told as damage may lie between two logs: who says so knows that they are two.
        if about.next() == Some(to) && hole.why != HoleWhy::Damage && self.is_between_two_logs(partition, &about, to) {
            return Err(LinkedError::Differs { partition, end: to });
        }
        self.holes.push((at, Hole { from: about.end, to, ..hole }));
        match about.place.checked_sub(1) {
            None => pass(&mut self.plan.touched[at].after, to),
            Some(place) => {
                let mut parts = about.parts.to_vec();
                parts.iter_mut().skip(place).take(1).for_each(|part| part.end = to);
                self.aheads.set(at, parts);
            }
        }
        self.aheads.join(&mut self.plan.touched, at);
        // What of it lies behind the next part.
        if to < hole.to { self.add_hole(partition, hole) } else { Ok(()) }
    }

    /// Whether a gap passes over events that were here before the call. Who brings it was told where the partition ended before they came, and has judged
    /// nothing of them: what follows may be of another log, so it is to be judged anew.
    fn is_over_events(&self, at: usize, hole: &Hole) -> bool {
        let Touched { partition, before, .. } = &self.plan.touched[at];
        let to = hole.to.min(before.end);
        hole.from < to && hole_at(&partition.holes(), hole.from).is_none_or(|known| known.to < to)
    }

    /// Opens a hole behind what there is, unless it is open already. Where nothing has come behind the last one, that one grows.
    fn open_hole(&mut self, partition: PartitionId, hole: Hole, about: &About) -> Result<(), LinkedError> {
        match about.next() {
            Some(next) if next == hole.to => return Ok(()),
            Some(next) => return Err(LinkedError::NotNext { partition, end: next, found: hole.to }),
            None => {}
        }
        let mut parts = about.parts.to_vec();
        parts.pop_if(|last| last.from == last.end);
        if parts.len() >= PARTS_AHEAD_MAX {
            return Err(LinkedError::Bound("parts ahead of one partition"));
        }
        parts.push(Ahead { from: hole.to, end: hole.to, bytes: 0, digest: 0 });
        self.aheads.set(about.at, parts);
        Ok(())
    }
}

fn is_at_one_place(one: &StoredBatch, other: &StoredBatch) -> bool {
    let place = |batch: &StoredBatch| (batch.base_offset(), batch.next_offset(), batch.envelope().hlc);
    place(one) == place(other)
}

impl Store {
    /// Drops parts ahead: first their records go, with their holes and what of them came late, then their batches. Those of large ones are left, as all who
    /// write wait meanwhile. Opening ends what was cut short between.
    pub(super) fn drop_parts(
        &self,
        writer: &mut Writer,
        touched: &[Touched],
        dropped: &[(usize, Ahead)],
    ) -> Result<(), BackendError> {
        if dropped.is_empty() {
            return Ok(());
        }
        let Writer { group, value, .. } = writer;
        group.clear();
        let mut aheads = Aheads::default();
        let mut ranges: Vec<(usize, Holes, Lates)> = Vec::new();
        let mut places: Vec<usize> = dropped.iter().map(|(at, _)| *at).collect();
        places.dedup();
        for at in places {
            let partition = &touched[at].partition;
            let is_in =
                |offset: Offset| dropped.iter().any(|(of, part)| *of == at && (part.from..part.end).contains(&offset));
            let stays = |part: &&Ahead| !dropped.iter().any(|(of, gone)| *of == at && gone.from == part.from);
            aheads.set(at, partition.aheads().iter().filter(stays).copied().collect());
            let (holes, late) = (partition.holes(), partition.late());
            holes
                .iter()
                .filter(|hole| is_in(hole.from))
                .for_each(|hole| group.remove(&keys::hole(partition.id, hole.from)));
            late.iter()
                .filter(|range| is_in(range.from))
                .for_each(|range| group.remove(&keys::late(partition.id, range.from)));
            let holes = holes.iter().filter(|hole| !is_in(hole.from)).copied().collect();
            ranges.push((at, holes, late.iter().filter(|range| !is_in(range.from)).copied().collect()));
        }
        aheads.put(touched, group, value);
        self.meta.apply(group)?;
        aheads.show(touched);
        for (at, holes, late) in ranges {
            touched[at].partition.set_holes(holes);
            touched[at].partition.set_late(late);
            touched[at].partition.count_drop();
        }
        let is_large = dropped.iter().map(|(_, part)| part.bytes).sum::<u64>() > DROPPED_AT_ONCE_BYTES_MAX;
        for (at, part) in dropped {
            match is_large {
                true => touched[*at].partition.leave_rubble((part.from, part.end)),
                false => drop(remove_batches(touched[*at].partition.tree(), part.from, Some(part.end))?),
            }
        }
        Ok(())
    }
}
