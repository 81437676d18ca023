//! One partition: its tree, and how far it reaches.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};

use super::keys;
use super::linked::{Holes, Lates, Parts};
use super::values::PartitionV1;
use crate::backend::{BackendError, Direction, Span, Tree};
use crate::ids::{Offset, PartitionId};

pub(super) struct Partition {
    pub(super) id: PartitionId,
    tree: Arc<dyn Tree>,
    extent: Mutex<PartitionV1>,
    /// Offsets that never came; of a linked partition alone.
    holes: RwLock<Holes>,
    /// Events that came late; of a linked partition alone.
    late: RwLock<Lates>,
    /// What lies ahead of its end; of a linked partition alone.
    aheads: RwLock<Parts>,
    /// How often some of that was dropped, or what was to come before it given up, since the store was opened.
    drops: AtomicU64,
    /// Past its end and in no part ahead: from, to before, of which batches of dropped parts are left. Nothing is written to it until they are gone.
    rubble: Mutex<Vec<(Offset, Offset)>>,
    /// Whether the tree was dropped; readers hold it while they read.
    dropped: RwLock<bool>,
}

/// A partition's tree while it is sure to be there.
pub(super) struct Reading<'a> {
    tree: &'a dyn Tree,
    _gate: RwLockReadGuard<'a, bool>,
}

impl Reading<'_> {
    pub(super) fn tree(&self) -> &dyn Tree {
        self.tree
    }
}

impl Partition {
    pub(super) fn new(id: PartitionId, tree: Arc<dyn Tree>, extent: PartitionV1) -> Partition {
        let (extent, dropped) = (Mutex::new(extent), RwLock::new(false));
        let (holes, late, aheads) = (RwLock::default(), RwLock::default(), RwLock::default());
        let (drops, rubble) = (AtomicU64::new(0), Mutex::default());
        Partition { id, tree, extent, holes, late, aheads, drops, rubble, dropped }
    }

    pub(super) fn extent(&self) -> PartitionV1 {
        *self.extent.lock()
    }

    /// Shows a new extent to readers. Only who holds the store's writer calls this.
    pub(super) fn set_extent(&self, extent: PartitionV1) {
        *self.extent.lock() = extent;
    }

    pub(super) fn holes(&self) -> Holes {
        self.holes.read().clone()
    }

    /// Shows other holes to readers. Only who holds the store's writer calls this.
    pub(super) fn set_holes(&self, holes: Holes) {
        *self.holes.write() = holes;
    }

    pub(super) fn late(&self) -> Lates {
        self.late.read().clone()
    }

    /// Shows other ranges to readers. Only who holds the store's writer calls this.
    pub(super) fn set_late(&self, late: Lates) {
        *self.late.write() = late;
    }

    pub(super) fn aheads(&self) -> Parts {
        self.aheads.read().clone()
    }

    /// Stored bytes of what lies ahead. Asked behind the extent: what becomes part of the partition in between counts less, never twice.
    pub(super) fn ahead_bytes(&self) -> u64 {
        self.aheads.read().iter().map(|part| part.bytes).sum()
    }

    /// Shows other parts ahead to readers, after the extent that goes with them. Only who holds the store's writer calls this.
    pub(super) fn set_aheads(&self, aheads: Parts) {
        *self.aheads.write() = aheads;
    }

    pub(super) fn drops(&self) -> u64 {
        self.drops.load(Ordering::Acquire)
    }

    /// Counts that parts ahead were dropped, or what was to come before one given up.
    pub(super) fn count_drop(&self) {
        self.drops.fetch_add(1, Ordering::AcqRel);
    }

    /// The first range of which batches of dropped parts are left.
    pub(super) fn rubble(&self) -> Option<(Offset, Offset)> {
        self.rubble.lock().first().copied()
    }

    /// Notes ranges of which batches of dropped parts are left. Only who holds the store's writer calls this.
    pub(super) fn leave_rubble(&self, range: (Offset, Offset)) {
        self.rubble.lock().push(range);
    }

    /// Nothing is left of a range.
    pub(super) fn cleared(&self, range: (Offset, Offset)) {
        self.rubble.lock().retain(|left| *left != range);
    }

    /// Removes batches past an end that no group covers; the parts ahead stay as they are. The number of keys removed.
    pub(super) fn remove_past(&self, end: Offset) -> Result<u64, BackendError> {
        let (mut end, mut removed) = (end, 0);
        for part in self.aheads().iter() {
            removed += remove_batches(self.tree(), end, Some(part.from))?;
            end = part.end;
        }
        Ok(removed + remove_batches(self.tree(), end, None)?)
    }

    /// The tree for writing, under the store's writer.
    pub(super) fn tree(&self) -> &dyn Tree {
        &*self.tree
    }

    /// The tree for reading; `None` once the partition was deleted.
    pub(super) fn reading(&self) -> Option<Reading<'_>> {
        let gate = self.dropped.read();
        (!*gate).then_some(Reading { tree: &*self.tree, _gate: gate })
    }

    /// Waits for readers and lets no more in.
    pub(super) fn close(&self) {
        *self.dropped.write() = true;
    }
}

/// Most keys that are collected before they are removed.
pub(super) const REMOVE_KEYS_MAX: usize = 4096;

/// Values that are removed before the backend makes that durable, where there is little room, and after so many bytes of them no more: sled may write
/// as much anew.
pub(super) const STEP_VALUES_MAX: usize = 128;
pub(super) const STEP_BYTES_MAX: usize = 2 << 20;

/// The same as [`remove_batches`], in steps, with what is to be done after each that leaves something.
///
/// sled writes what is left of a page anew, and writes on over what is gone only when that is durable: 84 MB that were removed without a sync took
/// another 31 MB of the disk.
pub(super) fn remove_in_steps(
    tree: &dyn Tree,
    from: Offset,
    to: Option<Offset>,
    after_step: &dyn Fn() -> Result<(), BackendError>,
) -> Result<u64, BackendError> {
    let mut removed = 0;
    loop {
        let some = remove_some(tree, from, to, (STEP_VALUES_MAX, STEP_BYTES_MAX))?;
        removed += some.keys as u64;
        if !some.more {
            return Ok(removed);
        }
        after_step()?;
    }
}

/// Removes all parts of batches with a base offset from `from` on and below `to`; the number of keys removed.
pub(super) fn remove_batches(tree: &dyn Tree, from: Offset, to: Option<Offset>) -> Result<u64, BackendError> {
    let mut removed = 0;
    loop {
        let some = remove_some(tree, from, to, (REMOVE_KEYS_MAX, usize::MAX))?;
        removed += some.keys as u64;
        if !some.more {
            return Ok(removed);
        }
    }
}

/// What [`remove_some`] removed.
pub(super) struct Removed {
    pub(super) keys: usize,
    /// Whether something may be left.
    pub(super) more: bool,
}

/// The same, so many keys at most, and no more after so many bytes of values.
pub(super) fn remove_some(
    tree: &dyn Tree,
    from: Offset,
    to: Option<Offset>,
    (keys_max, bytes_max): (usize, usize),
) -> Result<Removed, BackendError> {
    let from = keys::batch(from);
    let to = to.map(keys::batch);
    let span = Span { from: &from, to: to.as_ref().map(|to| to.as_slice()) };
    let (mut found, mut bytes, mut more) = (Vec::new(), 0, false);
    tree.scan(span, Direction::Forward, &mut |key, value| {
        found.push(key.to_vec());
        bytes += value.len();
        more = found.len() >= keys_max || bytes >= bytes_max;
        if more { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    tree.remove_all(&found, bytes)?;
    Ok(Removed { keys: found.len(), more })
}
