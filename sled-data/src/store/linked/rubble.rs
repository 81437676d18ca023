//! What is left of parts ahead that were dropped: their batches, which nothing refers to any more. They are removed in steps, while others write.

use super::LinkedError;
use crate::ids::PartitionId;
use crate::store::commit::Touched;
use crate::store::partition::{REMOVE_KEYS_MAX, remove_some};
use crate::store::{Store, StoreFailed};

impl Store {
    /// Whether nothing is left of dropped parts in partitions that are to be written to.
    pub(super) fn check_cleared(&self, touched: &[Touched]) -> Result<(), LinkedError> {
        match touched.iter().find(|touched| touched.partition.rubble().is_some()) {
            Some(Touched { partition, .. }) => Err(LinkedError::Clearing(partition.id)),
            None => Ok(()),
        }
    }

    /// Removes what is left of parts ahead of a partition that were dropped, or waits until that of a deleted one is removed. Others write meanwhile, but
    /// not to this partition: [`LinkedError::Clearing`]. Opening does it too.
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be written.
    pub fn clear_dropped(&self, id: PartitionId) -> Result<(), StoreFailed> {
        self.dropping.wait(id);
        loop {
            // Its tree may not be dropped in a step; the writer is not held.
            let _trimming = self.trimming.lock();
            self.check()?;
            let Some(partition) = self.partition(id) else { return Ok(()) };
            let Some(range) = partition.rubble() else { return Ok(()) };
            let removed = remove_some(partition.tree(), range.0, Some(range.1), (REMOVE_KEYS_MAX, usize::MAX));
            if !removed.map_err(|e| self.fail(&e))?.more {
                partition.cleared(range);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::backend::MemoryBackend;
    use crate::batch::{HeaderBlock, OpenBatch, SealInfo, Sealer, StoredBatch};
    use crate::ids::{Offset, OriginId, TopicId};
    use crate::store::{Hole, HoleWhy, Linked, LinkedPart, Options};
    use crate::topic::Compression;

    const ID: PartitionId = PartitionId { origin: OriginId(50), topic: TopicId(2), index: 0 };

    fn batch(base_offset: Offset, count: u64) -> LinkedPart {
        let mut open = OpenBatch::new();
        for _ in 0..count {
            open.push(1_000, None, Some(&[7; 10_000]), &HeaderBlock::new()).unwrap();
        }
        let info = SealInfo {
            partition: ID,
            base_offset,
            hlc: 7 + base_offset,
            compression: Compression::None,
            hops: 0,
            term: 0,
            flags: 0,
        };
        LinkedPart::Batch(StoredBatch::decode(open.seal(info, &mut Sealer::new()).bytes().to_vec()).unwrap())
    }

    /// Who brings it in order writes nothing over batches of what was dropped, and nobody waits for these to be removed.
    #[test]
    fn a_large_part_that_is_dropped_is_removed_without_the_writer() {
        let linked = Linked { link: 5, hlc: 0, path: vec![1] };
        // how many events of 10 KB the part has, whether its batches go at once, whether the store is opened again instead of cleared
        for (count, at_once, opens) in [(90, true, false), (130, false, false), (130, false, true)] {
            let memory = MemoryBackend::new();
            let open =
                || Store::on(Arc::new(memory.clone()), Options { seed: Some(1), ..Options::default() }).unwrap().0;
            let mut store = open();
            let later = Hole { from: 1, to: 4, why: HoleWhy::Later, at_ms: 0 };
            let mut parts = vec![batch(0, 1), LinkedPart::Hole(ID, later)];
            parts.extend((4..4 + count).map(|base| batch(base, 1)));
            store.take_linked(ID.origin, &linked, &parts).unwrap();
            let keys = |store: &Store| {
                let mut keys = 0;
                let span = crate::backend::Span { from: &[], to: None };
                let tree = store.partition(ID).unwrap();
                let mut count = |_: &[u8], _: &[u8]| {
                    keys += 1;
                    std::ops::ControlFlow::Continue(())
                };
                tree.tree().scan(span, crate::backend::Direction::Forward, &mut count).unwrap();
                keys
            };
            let before = keys(&store);
            // Another log, whose batches are larger: what lay ahead has others at the same places.
            let in_order = [batch(1, 4), batch(5, 3)];
            let take = |store: &Store| store.take_linked_in_order(ID.origin, &linked, &in_order, 0);
            let taken = take(&store).map(drop);
            assert_eq!(store.dropped_ahead(ID), 1);
            if !at_once {
                assert_eq!(taken, Err(LinkedError::Clearing(ID)));
                assert_eq!((store.ahead(ID), store.end_offset(ID), keys(&store)), (None, 1, before));
                assert_eq!(take(&store).map(drop), Err(LinkedError::Clearing(ID)), "nothing is written over them");
                assert_eq!(store.take_linked(ID.origin, &linked, &[batch(1, 1)]), Err(LinkedError::Clearing(ID)));
                // Others are written to.
                let other = PartitionId { index: 1, ..ID };
                let gone = Hole { from: 0, to: 3, why: HoleWhy::Damage, at_ms: 0 };
                store.take_linked(ID.origin, &linked, &[LinkedPart::Hole(other, gone)]).unwrap();
                store.sync().unwrap();
                match opens {
                    true => {
                        drop(store);
                        store = open();
                    }
                    false => store.clear_dropped(ID).unwrap(),
                }
                assert!(keys(&store) < before / 10);
                take(&store).unwrap();
            } else {
                taken.unwrap();
            }
            assert_eq!((store.ahead(ID), store.end_offset(ID)), (None, 8));
            let read = store.read(ID, 0, usize::MAX).unwrap();
            assert_eq!(read.iter().map(StoredBatch::base_offset).collect::<Vec<_>>(), [0, 1, 5]);
            assert!(store.verify(&mut |_| {}).unwrap().is_clean());
        }
    }
    /// Of several parts the first is dropped, and what was to come before the next is given up.
    #[test]
    fn nothing_of_a_dropped_part_is_left_where_the_end_goes_past_it() {
        let linked = Linked { link: 5, hlc: 0, path: vec![1] };
        let (store, _) = Store::on(Arc::new(MemoryBackend::new()), Options::default()).unwrap();
        let later = |from, to| LinkedPart::Hole(ID, Hole { from, to, why: HoleWhy::Later, at_ms: 0 });
        let mut parts = vec![batch(0, 1), later(1, 4)];
        parts.extend((4..134).map(|base| batch(base, 1)));
        parts.extend([later(134, 200), batch(200, 1)]);
        store.take_linked(ID.origin, &linked, &parts).unwrap();
        let taken = store.take_linked_in_order(ID.origin, &linked, &[batch(1, 4)], 0);
        assert_eq!(taken, Err(LinkedError::Clearing(ID)));
        assert!(store.close_ahead(ID, HoleWhy::Retention, 0).unwrap());
        assert_eq!((store.ahead(ID), store.end_offset(ID)), (None, 201));
        let tree = store.partition(ID).unwrap();
        let removed = crate::store::partition::remove_batches(tree.tree(), 1, Some(200)).unwrap();
        assert_eq!(removed, 0, "what was dropped is there still");
    }
}
