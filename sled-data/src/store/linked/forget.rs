//! Forgetting a linked origin of which nothing is kept any more. That it was here is remembered: who has some of it still, as another node of a
//! site, is told so from what never came.

use std::collections::BTreeMap;

use super::LINKED_ORIGINS_MAX;
use crate::backend::{BackendError, Group, Tree};
use crate::ids::{OriginId, PartitionId};
use crate::store::open::OpenError;
use crate::store::recover::{each_of_kind, refuse};
use crate::store::values::{ForgottenV1, read, write};
use crate::store::{Store, StoreFailed, keys};

/// Most forgotten origins that are remembered; beyond, the one whose events are the oldest is not.
pub const FORGOTTEN_MAX: usize = if cfg!(test) { 4 } else { LINKED_ORIGINS_MAX };
/// Partitions whose records one group removes.
const FORGET_PARTITIONS: usize = 64;

/// A linked origin that was here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Forgotten {
    /// The link that brought it.
    pub link: u64,
    /// The newest hybrid clock of what had come.
    pub hlc: u64,
}

/// Those that are remembered, as they are read when the store is opened.
pub(in crate::store) fn load(meta: &dyn Tree) -> Result<BTreeMap<OriginId, ForgottenV1>, OpenError> {
    let mut found = BTreeMap::new();
    each_of_kind(meta, keys::FORGOTTEN, |key, value| {
        let origin = keys::followed_of(key).ok_or_else(|| OpenError::Damaged("a forgotten origin's key".into()))?;
        found.insert(origin, read::<ForgottenV1>(key, value).map_err(|e| refuse(&keys::describe(key), e))?);
        Ok(())
    })?;
    Ok(found)
}

impl Store {
    /// A linked origin that was forgotten here and has not come again; `None` where it is here, or never was, or too many were forgotten since.
    pub fn forgotten_linked(&self, origin: OriginId) -> Option<Forgotten> {
        self.forgotten.read().get(&origin).map(|ForgottenV1 { link, hlc }| Forgotten { link: *link, hlc: *hlc })
    }

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
            let remembered = if is_last { self.remember(origin, &mut group) } else { None };
            self.forget_partitions(some, &mut group).map_err(|e| self.fail(&e))?;
            if is_last {
                self.linked.write().remove(&origin);
                if let Some((forgotten, oldest)) = remembered {
                    let mut all = self.forgotten.write();
                    oldest.map(|oldest| all.remove(&oldest));
                    all.insert(origin, forgotten);
                }
                return Ok(true);
            }
        }
    }

    /// Puts into `group` that an origin is linked no more, and was: what is remembered of it, and which other one is not any more. Of what never
    /// had events nothing is.
    fn remember(&self, origin: OriginId, group: &mut Group) -> Option<(ForgottenV1, Option<OriginId>)> {
        group.remove(&keys::linked(origin));
        let forgotten = {
            let linked = self.linked.read();
            let record = linked.get(&origin).filter(|record| record.hlc > 0)?;
            ForgottenV1 { link: record.link, hlc: record.hlc }
        };
        let (key, mut value) = (keys::forgotten(origin), Vec::new());
        write(&key, &forgotten, &mut value);
        group.put(&key, &value);
        let all = self.forgotten.read();
        let is_full = all.len() >= FORGOTTEN_MAX;
        let oldest = all.iter().filter(|_| is_full).min_by_key(|(_, other)| other.hlc).map(|(oldest, _)| *oldest);
        if let Some(oldest) = oldest {
            group.remove(&keys::forgotten(oldest));
        }
        Some((forgotten, oldest))
    }

    pub(in crate::store) fn has_events_of(&self, origin: OriginId) -> bool {
        let partitions = self.partitions.read();
        let mut of_it = partitions.values().filter(|partition| partition.id.origin == origin);
        of_it.any(|partition| partition.extent().start < partition.extent().end || !partition.aheads().is_empty())
    }

    fn forget_partitions(&self, gone: Vec<PartitionId>, group: &mut Group) -> Result<(), BackendError> {
        for id in &gone {
            group.remove(&keys::partition(*id));
            self.holes(*id).iter().for_each(|hole| group.remove(&keys::hole(*id, hole.from)));
            super::remove_late(self, *id, group);
            super::remove_aheads(self, *id, group);
            self.remove_gaps(*id, group)?;
        }
        self.remove_cursors(|at| gone.contains(&at), group)?;
        self.meta.apply(group)?;
        // There are no events in them.
        self.drop_trees(self.take_out(&gone))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Hole, HoleWhy, Linked, LinkedPart, MemoryBackend, Options, TopicId};

    #[test]
    fn so_many_forgotten_ones_are_remembered_and_no_more() {
        let backend = MemoryBackend::new();
        let open = || Store::on(Arc::new(backend.clone()), Options { seed: Some(1), ..Options::default() }).unwrap().0;
        let store = open();
        let hole = Hole { from: 0, to: 2, why: HoleWhy::Retention, at_ms: 0 };
        // The clocks fall: the one that is forgotten first has the newest events.
        for origin in 1..=FORGOTTEN_MAX as u64 + 2 {
            let id = PartitionId { origin: OriginId(origin), topic: TopicId(1), index: 0 };
            let linked = Linked { link: 5, hlc: 100 - origin, path: vec![1] };
            store.take_linked(id.origin, &linked, &[LinkedPart::Hole(id, hole)]).unwrap();
            assert_eq!(store.forget_linked(id.origin), Ok(true));
            assert_eq!(store.forgotten_linked(id.origin), Some(Forgotten { link: 5, hlc: 100 - origin }));
        }
        let known = |store: &Store| {
            (1..=FORGOTTEN_MAX as u64 + 2)
                .filter(|o| store.forgotten_linked(OriginId(*o)).is_some())
                .collect::<Vec<_>>()
        };
        assert_eq!(known(&store), [1, 2, 3, 6], "the oldest of those before makes room");
        store.sync().unwrap();
        drop(store);
        assert_eq!(known(&open()), [1, 2, 3, 6]);
    }
}
