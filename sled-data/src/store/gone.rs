//! Partitions that are deleted: out of the store at once and durably, their batches in steps, while others write.
//!
//! sled reads each page of a tree that it drops, and frees none of what it read before it is done: of a large tree that takes long, and much
//! memory. So batches are removed some at a time, and the tree is dropped when it holds nothing.

use std::collections::HashSet;
use std::sync::Arc;

use parking_lot::{Condvar, Mutex};

use super::partition::{Partition, STEP_BYTES_MAX, STEP_VALUES_MAX, remove_some};
use super::{Store, keys, space};
use crate::backend::{Backend, BackendError, Tree};
use crate::ids::PartitionId;

/// Steps after which memory is let go of: 32 MiB at most. What each has removed is made durable while the disk is tight, so that no room on it is taken.
const LET_GO_STEPS: usize = 16;

/// Partitions whose trees are being dropped: none is made under the same name meanwhile.
#[derive(Default)]
pub(super) struct Dropping {
    ids: Mutex<HashSet<PartitionId>>,
    ended: Condvar,
}

impl Dropping {
    /// Whether a partition's tree is being dropped.
    pub(super) fn has(&self, id: PartitionId) -> bool {
        self.ids.lock().contains(&id)
    }

    /// Waits until a partition's tree is dropped, if that has begun.
    pub(super) fn wait(&self, id: PartitionId) {
        let mut ids = self.ids.lock();
        while ids.contains(&id) {
            self.ended.wait(&mut ids);
        }
    }
}

/// Partitions that the store has no more, and whose batches are still to be removed. Where that does not happen, the next opening does it.
#[must_use = "their batches stay"]
pub struct Gone {
    partitions: Vec<Arc<Partition>>,
    dropping: Arc<Dropping>,
}

impl Drop for Gone {
    fn drop(&mut self) {
        let mut ids = self.dropping.ids.lock();
        ids.retain(|id| self.partitions.iter().all(|partition| partition.id != *id));
        drop(ids);
        self.dropping.ended.notify_all();
    }
}

impl Store {
    /// Takes partitions out whose records are removed. The caller holds the writer, and what keeps trims away.
    pub(super) fn take_out(&self, gone: &[PartitionId]) -> Gone {
        let mut all = self.partitions.write();
        let partitions: Vec<_> = gone.iter().filter_map(|id| all.remove(id)).collect();
        self.dropping.ids.lock().extend(partitions.iter().map(|partition| partition.id));
        Gone { partitions, dropping: Arc::clone(&self.dropping) }
    }

    /// Removes their batches, in steps, and drops their trees. Should this end early, opening does it, as no partition record names them.
    pub(super) fn drop_trees(&self, gone: Gone) -> Result<(), BackendError> {
        for partition in &gone.partitions {
            partition.close();
            // Once the store is closed, the next opening goes on.
            let goes_on = || self.failure().is_none();
            let is_tight = || space::is_tight(&*self.backend, &self.options);
            drop_in_steps(&*self.backend, partition.tree(), &keys::partition_tree(partition.id), &goes_on, &is_tight)?;
        }
        Ok(())
    }
}

/// Empties a partition's tree and drops it, as long as that is to go on. Each step is synced only while the disk `is_tight`: commits share
/// their syncs with it, and an opening waits for it.
pub(super) fn drop_in_steps(
    backend: &dyn Backend,
    tree: &dyn Tree,
    name: &[u8],
    goes_on: &dyn Fn() -> bool,
    is_tight: &dyn Fn() -> bool,
) -> Result<(), BackendError> {
    let mut steps = 0_usize;
    while goes_on() {
        if !remove_some(tree, 0, None, (STEP_VALUES_MAX, STEP_BYTES_MAX))?.more {
            return backend.drop_tree(name);
        }
        if is_tight() {
            backend.sync()?;
        }
        steps += 1;
        if steps.is_multiple_of(LET_GO_STEPS) {
            backend.let_go()?;
        }
    }
    Ok(())
}
