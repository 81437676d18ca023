//! What came late: events of a linked partition that were stored here long after their origin had stored them, as after an outage.
//!
//! Known by the hybrid clock of a batch against the one here when it is taken, and kept as ranges with what came: who reads them again, after
//! whatever crash, sees the same.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::backend::{Group, Tree};
use crate::batch::StoredBatch;
use crate::ids::{Offset, PartitionId};
use crate::store::commit::Touched;
use crate::store::open::OpenError;
use crate::store::recover::{each_of_kind, refuse};
use crate::store::values::{LateV1, read, write};
use crate::store::{Store, keys};

/// Most ranges that are kept of one partition; of those before them it is not known any more.
pub const LATE_MAX: usize = 64;

/// Events that came late: offsets `from` to before `to`.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Late {
    /// The first of them.
    pub from: Offset,
    /// The first one after them.
    pub to: Offset,
}

/// A partition's ranges, in order.
pub(in crate::store) type Lates = Arc<[Late]>;

/// Those of all partitions, as they are read when the store is opened.
pub(in crate::store) fn load(meta: &dyn Tree) -> Result<HashMap<PartitionId, Vec<Late>>, OpenError> {
    let mut found: HashMap<PartitionId, Vec<Late>> = HashMap::new();
    each_of_kind(meta, keys::LATE, |key, value| {
        let (id, from) = keys::hole_of(key).ok_or_else(|| OpenError::Damaged("a key of late events".into()))?;
        let LateV1 { to } = read::<LateV1>(key, value).map_err(|e| refuse(&keys::describe(key), e))?;
        found.entry(id).or_default().push(Late { from, to });
        Ok(())
    })?;
    Ok(found)
}

/// Adds what is late of these batches to `group`, and takes out ranges that lie before their partition's start, or are too many; the
/// ranges of each partition that has new ones. Late is what has a hybrid clock below `late_before`.
pub(super) fn put(
    touched: &[Touched],
    appends: &[(usize, &StoredBatch)],
    late_before: u64,
    group: &mut Group,
    value: &mut Vec<u8>,
) -> BTreeMap<usize, Lates> {
    let mut grown: BTreeMap<usize, Vec<Late>> = BTreeMap::new();
    for (at, batch) in appends.iter().filter(|(_, batch)| batch.envelope().hlc < late_before) {
        let ranges = grown.entry(*at).or_insert_with(|| touched[*at].partition.late().to_vec());
        add(ranges, Late { from: batch.base_offset(), to: batch.next_offset() });
    }
    for (at, ranges) in &mut grown {
        let Touched { partition, after, .. } = &touched[*at];
        let too_many = ranges.len().saturating_sub(LATE_MAX);
        let known = partition.late();
        let mut place = 0;
        ranges.retain(|range| {
            place += 1;
            let stays = place > too_many && range.to > after.start;
            if !stays {
                group.remove(&keys::late(partition.id, range.from));
            }
            stays
        });
        for range in ranges.iter().filter(|range| !known.contains(range)) {
            let key = keys::late(partition.id, range.from);
            write(&key, &LateV1 { to: range.to }, value);
            group.put(&key, value);
        }
    }
    grown.into_iter().map(|(at, ranges)| (at, ranges.into())).collect()
}

/// Adds a range at its place: what lies ahead may have some that came before. One that goes on where the one before ends becomes part of it.
fn add(ranges: &mut Vec<Late>, range: Late) {
    let place = ranges.partition_point(|known| known.from < range.from);
    let before = place.checked_sub(1).and_then(|before| ranges.get_mut(before));
    match before {
        Some(before) if before.to == range.from => before.to = range.to,
        _ => ranges.insert(place, range),
    }
}

/// Takes the ranges of a partition that goes out, in `group`.
pub(in crate::store) fn remove(store: &Store, id: PartitionId, group: &mut Group) {
    store.late(id).iter().for_each(|range| group.remove(&keys::late(id, range.from)));
}

impl Store {
    /// The ranges of a partition that came late, the oldest first.
    pub fn late(&self, partition: PartitionId) -> Vec<Late> {
        self.partition(partition).map_or_else(Vec::new, |partition| partition.late().to_vec())
    }

    /// Whether an event came late.
    pub fn is_late(&self, partition: PartitionId, offset: Offset) -> bool {
        let Some(partition) = self.partition(partition) else { return false };
        let ranges = partition.late();
        let after = ranges.partition_point(|range| range.from <= offset);
        after.checked_sub(1).and_then(|last| ranges.get(last)).is_some_and(|range| offset < range.to)
    }
}
