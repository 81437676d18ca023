//! Forgetting a linked origin of which nothing is kept any more.

use crate::backend::{BackendError, Group};
use crate::ids::{OriginId, PartitionId};
use crate::store::{Store, StoreFailed, keys};

/// Partitions whose records one group removes.
const FORGET_PARTITIONS: usize = 64;

impl Store {
    /// Forgets a linked origin all of whose partitions are empty: its record, and where its partitions ended. False where it is not
    /// linked, or has events still. Durable with the next [`Store::sync`]. Cut short by an end of the process, it leaves some of the
    /// partitions, and the origin linked.
    ///
    /// Should its link come again, whatever is still where it came from is taken anew: for an origin whose link was removed.
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be written.
    pub fn forget_linked(&self, origin: OriginId) -> Result<bool, StoreFailed> {
        self.check()?;
        // Most have events for long: who writes does not wait for that to be found.
        if !self.is_linked(origin) || self.has_events_of(origin) {
            return Ok(false);
        }
        let _trimming = self.trimming.lock();
        loop {
            // Taking more of the origin waits meanwhile, some partitions at a time.
            let _writer = self.writer.lock();
            if !self.is_linked(origin) || self.has_events_of(origin) {
                return Ok(false);
            }
            let all: Vec<PartitionId> = self.partitions().into_iter().filter(|id| id.origin == origin).collect();
            let mut group = Group::new();
            let some: Vec<PartitionId> = all.iter().copied().take(FORGET_PARTITIONS).collect();
            let is_last = some.len() == all.len();
            if is_last {
                group.remove(&keys::linked(origin));
            }
            self.forget_partitions(some, &mut group).map_err(|e| self.fail(&e))?;
            if is_last {
                self.linked.write().remove(&origin);
                return Ok(true);
            }
        }
    }

    fn has_events_of(&self, origin: OriginId) -> bool {
        let partitions = self.partitions.read();
        let mut of_it = partitions.values().filter(|partition| partition.id.origin == origin);
        of_it.any(|partition| partition.extent().start < partition.extent().end || partition.ahead().is_some())
    }

    fn forget_partitions(&self, gone: Vec<PartitionId>, group: &mut Group) -> Result<(), BackendError> {
        for id in &gone {
            group.remove(&keys::partition(*id));
            self.holes(*id).iter().for_each(|hole| group.remove(&keys::hole(*id, hole.from)));
            super::remove_late(self, *id, group);
            group.remove(&keys::ahead(*id));
            self.remove_gaps(*id, group)?;
        }
        self.remove_cursors(|at| gone.contains(&at), group)?;
        self.meta.apply(group)?;
        self.drop_partitions(gone)
    }
}
