//! Holes: offsets of a linked partition whose events never came, each with its reason.

use std::collections::{BTreeMap, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use super::ahead::Aheads;
use crate::backend::{BackendError, Direction, Group, Span, Tree};
use crate::ids::{Offset, PartitionId};
use crate::store::commit::Touched;
use crate::store::open::OpenError;
use crate::store::recover::{each_of_kind, refuse};
use crate::store::values::{HoleV1, read, write};
use crate::store::walk::walk;
use crate::store::{Store, keys};

/// Most holes that are kept of one partition; beyond, what lies before the oldest goes.
pub const HOLES_MAX: usize = 256;

/// Why events never came.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum HoleWhy {
    /// Retention had taken them where they came from.
    Retention,
    /// They were damaged where they came from.
    Damage,
    /// They were too old to be of use when their turn came.
    Deadline,
    /// They are to come later: what follows goes on ahead of them. An open hole, which is never kept as a hole.
    Later,
    /// Their link was removed before they came.
    Removed,
}

impl HoleWhy {
    /// Each.
    pub const ALL: [HoleWhy; 5] =
        [HoleWhy::Retention, HoleWhy::Damage, HoleWhy::Deadline, HoleWhy::Later, HoleWhy::Removed];

    /// As it is stored and said.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// What a code means; one that is not known is told as damage, as programs do that know fewer.
    pub fn of_code(code: u8) -> Self {
        Self::ALL.into_iter().find(|why| why.code() == code).unwrap_or(HoleWhy::Damage)
    }

    /// What people and programs read.
    pub fn name(self) -> &'static str {
        match self {
            HoleWhy::Retention => "retention",
            HoleWhy::Damage => "damage",
            HoleWhy::Deadline => "deadline",
            HoleWhy::Later => "later",
            HoleWhy::Removed => "link-removed",
        }
    }
}

/// Events that never came: offsets `from` to before `to`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Hole {
    /// The first of them.
    pub from: Offset,
    /// The first one after them.
    pub to: Offset,
    /// Why.
    pub why: HoleWhy,
    /// When that was heard, Unix milliseconds.
    pub at_ms: i64,
}

impl HoleV1 {
    fn hole(self, from: Offset) -> Hole {
        Hole { from, to: self.to, why: HoleWhy::of_code(self.why), at_ms: self.at_ms }
    }
}

/// A partition's holes, in order.
pub(in crate::store) type Holes = Arc<[Hole]>;

/// The holes of all partitions, as they are read when the store is opened.
pub(in crate::store) fn load(meta: &dyn Tree) -> Result<HashMap<PartitionId, Vec<Hole>>, OpenError> {
    let mut found: HashMap<PartitionId, Vec<Hole>> = HashMap::new();
    each_of_kind(meta, keys::HOLE, |key, value| {
        let (id, from) = keys::hole_of(key).ok_or_else(|| OpenError::Damaged("a hole's key".into()))?;
        let hole = read::<HoleV1>(key, value).map_err(|e| refuse(&keys::describe(key), e))?;
        found.entry(id).or_default().push(hole.hole(from));
        Ok(())
    })?;
    Ok(found)
}

/// Adds new holes to `group`, and takes out those that lie before their partition's start, but for those that go up to it; the holes of each partition that has new
/// ones. Where they are too many, the partition's start moves past the oldest; what is to come before the parts ahead that these are in is given up then.
pub(super) fn put(
    touched: &mut [Touched],
    aheads: &mut Aheads,
    new: &[(usize, Hole)],
    group: &mut Group,
    value: &mut Vec<u8>,
) -> Result<BTreeMap<usize, Holes>, BackendError> {
    let mut grown: BTreeMap<usize, Vec<Hole>> = BTreeMap::new();
    for (at, hole) in new {
        let holes = grown.entry(*at).or_insert_with(|| touched[*at].partition.holes().to_vec());
        add(holes, *hole);
    }
    for (at, holes) in &mut grown {
        // Each that is given up adds one more.
        while let Some(oldest) = holes.len().checked_sub(HOLES_MAX + 1).and_then(|last| holes.get(last)).copied()
            && oldest.to > touched[*at].after.end
            && let Some(closed) = aheads.close(touched, *at, HoleWhy::Retention)
        {
            add(holes, Hole { at_ms: oldest.at_ms, ..closed });
        }
        let Touched { partition, after, .. } = &mut touched[*at];
        let too_many = holes.len().saturating_sub(HOLES_MAX);
        let last = too_many.checked_sub(1).and_then(|last| holes.get(last));
        if let Some(last) = last.filter(|last| last.to > after.start) {
            after.bytes = after.bytes.saturating_sub(bytes_between(partition.tree(), after.start, last.to)?);
            after.start = last.to;
        }
        let start = after.start;
        for gone in holes.drain(..first_kept(holes, start).max(too_many.saturating_sub(1))) {
            group.remove(&keys::hole(partition.id, gone.from));
        }
        for hole in holes.iter() {
            let key = keys::hole(partition.id, hole.from);
            write(&key, &HoleV1 { to: hole.to, why: hole.why.code(), at_ms: hole.at_ms }, value);
            group.put(&key, value);
        }
    }
    Ok(grown.into_iter().map(|(at, holes)| (at, holes.into())).collect())
}

/// The place of the first hole that is kept of a partition that begins at an offset: the one that ends there, or those before it without an event
/// between. Nothing was ever there, and others are told why.
fn first_kept(holes: &[Hole], start: Offset) -> usize {
    let mut first = holes.partition_point(|hole| hole.to < start);
    while let Some(before) = first.checked_sub(1)
        && let (Some(hole), Some(next)) = (holes.get(before), holes.get(first))
        && hole.to == next.from
    {
        first = before;
    }
    first
}

/// Adds a hole at its place: what lies ahead may have some that came before. One that goes on where the one before ends becomes part of it.
fn add(holes: &mut Vec<Hole>, hole: Hole) {
    let place = holes.partition_point(|known| known.from < hole.from);
    let before = place.checked_sub(1).and_then(|before| holes.get_mut(before));
    match before {
        Some(before) if before.to == hole.from && before.why == hole.why => before.to = hole.to,
        _ => holes.insert(place, hole),
    }
}

/// Bytes of the batches that begin from an offset on and before another one. What lies before a partition's start counts no more: a trim may have moved
/// the start, and not have removed it yet.
fn bytes_between(tree: &dyn Tree, from: Offset, to: Offset) -> Result<u64, BackendError> {
    let mut bytes = 0;
    let (from, to) = (keys::batch(from), keys::batch(to));
    walk(tree, Span { from: &from, to: Some(&to) }, Direction::Forward, &mut |_, batch| {
        bytes += batch.len() as u64;
        ControlFlow::Continue(())
    })?;
    Ok(bytes)
}

impl Store {
    /// The holes of a partition, the oldest first.
    pub fn holes(&self, partition: PartitionId) -> Vec<Hole> {
        self.partition(partition).map_or_else(Vec::new, |partition| partition.holes().to_vec())
    }
}

/// The hole that an offset lies in, and those that follow it without an event between, as one.
pub(in crate::store) fn at(holes: &[Hole], offset: Offset) -> Option<Hole> {
    let after = holes.partition_point(|hole| hole.from <= offset);
    let mut hole = holes.get(after.checked_sub(1)?).copied().filter(|hole| offset < hole.to)?;
    for next in holes.get(after..)? {
        if next.from > hole.to {
            break;
        }
        hole.to = next.to;
    }
    Some(hole)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::MemoryBackend;
    use crate::batch::{HeaderBlock, OpenBatch, SealInfo, Sealer, StoredBatch};
    use crate::ids::{OriginId, TopicId};
    use crate::store::values::PartitionV1;
    use crate::store::{Linked, LinkedPart, Options};
    use crate::topic::Compression;

    fn batch(partition: PartitionId, base_offset: Offset) -> StoredBatch {
        let mut open = OpenBatch::new();
        open.push(1_000, None, Some(b"event"), &HeaderBlock::new()).unwrap();
        let info =
            SealInfo { partition, base_offset, hlc: 7, compression: Compression::None, hops: 0, term: 0, flags: 0 };
        StoredBatch::decode(open.seal(info, &mut Sealer::new()).bytes().to_vec()).unwrap()
    }

    /// A trim moves the start first, and removes what lies before it without the writer.
    #[test]
    fn too_many_holes_while_a_trim_is_under_way_count_no_byte_twice() {
        let id = PartitionId { origin: OriginId(50), topic: TopicId(2), index: 0 };
        let of_each = batch(id, 0).bytes().len() as u64;
        let count = HOLES_MAX as u64 + 20;
        // up to where the trim has moved the start, where it is at last: behind the oldest holes, which are too many, or where the trim has it
        for (trimmed, start) in [(0, 40), (20, 40), (100, 100)] {
            let (store, _) = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap();
            let linked = Linked { link: 5, hlc: 0, path: vec![1] };
            let both = |n: u64| {
                let hole = Hole { from: 2 * n + 1, to: 2 * n + 2, why: HoleWhy::Damage, at_ms: 0 };
                [LinkedPart::Batch(batch(id, 2 * n)), LinkedPart::Hole(id, hole)]
            };
            let take = |range: std::ops::Range<u64>| {
                let coming: Vec<_> = range.flat_map(both).collect();
                store.take_linked(id.origin, &linked, &coming).unwrap();
            };
            take(0..HOLES_MAX as u64);
            let partition = store.partition(id).unwrap();
            let extent = partition.extent();
            partition.set_extent(PartitionV1 { start: trimmed, bytes: extent.bytes - trimmed / 2 * of_each, ..extent });
            take(HOLES_MAX as u64..count);
            let extent = partition.extent();
            assert_eq!((extent.start, extent.bytes), (start, (count - start / 2) * of_each), "{trimmed}");
        }
    }

    #[test]
    fn reasons_keep_their_codes() {
        let codes: Vec<(u8, &str)> = HoleWhy::ALL.into_iter().map(|why| (why.code(), why.name())).collect();
        assert_eq!(codes, [(0, "retention"), (1, "damage"), (2, "deadline"), (3, "later"), (4, "link-removed")]);
        for why in HoleWhy::ALL {
            assert_eq!(HoleWhy::of_code(why.code()), why);
        }
        assert_eq!(HoleWhy::of_code(200), HoleWhy::Damage);
    }

    #[test]
    fn holes_side_by_side_are_one_to_who_reads() {
        let hole = |from, to, why| Hole { from, to, why, at_ms: 0 };
        let (gone, bad) = (HoleWhy::Retention, HoleWhy::Damage);
        let holes = [hole(10, 20, gone), hole(20, 30, bad), hole(30, 31, gone), hole(40, 50, gone)];
        for (offset, expected) in [
            (9, None),
            (10, Some(31)),
            (19, Some(31)),
            (25, Some(31)),
            (30, Some(31)),
            (31, None),
            (45, Some(50)),
            (50, None),
        ] {
            assert_eq!(at(&holes, offset).map(|hole| hole.to), expected, "{offset}");
        }
    }
}
