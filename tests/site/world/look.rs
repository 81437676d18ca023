//! Somebody looks what a node holds of everything.

use std::collections::BTreeMap;

use sled_data::{CommitNumber, CopyState, OriginId, PartitionId};

use super::World;
use super::reader::{LOOSE, READER};
use crate::site::history::{Extent, Fact, Held};
use crate::site::life::hash;
use crate::site::node::Running;

impl World {
    pub(super) fn look(&mut self, at: usize) {
        let Some(run) = self.nodes[at].running.take_if(|run| run.store.failure().is_none()) else { return };
        let origin = run.store.origin();
        // What is not synced yet may be as if it had never been; in the end nothing can take it away any more.
        if run.store.synced_commit() == run.store.last_commit() || self.is_calm {
            self.look_at(at, &run, origin, Some(self.nodes[at].life), run.store.last_commit(), true);
        }
        for (origin, followed) in run.store.followed() {
            self.look_at(at, &run, origin, None, followed.commit, followed.copy == CopyState::Whole);
        }
        let mut left: Vec<OriginId> = run.store.partitions().into_iter().map(|id| id.origin).collect();
        left.retain(|of| *of != origin && run.store.followed().iter().all(|(followed, _)| followed != of));
        left.dedup();
        // Of earlier lives of its own a node has the events.
        for origin in left {
            self.look_at(at, &run, origin, None, run.store.last_commit_of(origin), false);
        }
        self.nodes[at].running = Some(run);
    }

    fn look_at(
        &mut self,
        at: usize,
        run: &Running,
        origin: OriginId,
        own: Option<usize>,
        commit: CommitNumber,
        is_whole: bool,
    ) {
        let cursors = run.store.cursors_of(origin, READER).unwrap_or_default();
        let cursors = cursors.into_iter().map(|(id, next)| ((READER.to_owned(), id), next)).collect();
        let mut state = BTreeMap::new();
        for tree in [READER, LOOSE] {
            let found = run.store.state_scan_of(origin, tree, b"", None, 10_000).unwrap_or_default();
            state.extend(found.into_iter().map(|(key, value)| ((tree.to_owned(), key), value)));
        }
        let partitions = run.store.partitions().into_iter().filter(|id| id.origin == origin);
        let partitions = partitions.map(|id| extent(run, id)).collect();
        let node = self.nodes[at].id;
        self.history.note(Fact::Held(Box::new(Held {
            node,
            origin,
            own,
            commit,
            is_whole,
            cursors,
            state,
            partitions,
        })));
    }
}

fn extent(run: &Running, id: PartitionId) -> Extent {
    let (start, end) = (run.store.start_offset(id), run.store.end_offset(id));
    let read = run.store.read(id, start, usize::MAX);
    let batches =
        read.ok().map(|batches| batches.iter().map(|batch| (batch.base_offset(), hash(batch.bytes()))).collect());
    Extent { partition: id, start, end, digest: run.store.digest(id), batches }
}
