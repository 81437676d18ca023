//! A reader that keeps a cursor, where something may come ahead of what was missed: what it has seen and its cursor are durable together.

use std::sync::Arc;

use sled_data::{Commit, CursorMove, Offset, PartitionId, ReadError, StoredBatch};

use super::{Running, World};
use crate::chain::bug::Bug;

/// What it is called.
const READER: &str = "reader";
/// Bytes that it reads at once.
const READ_BYTES: usize = 300;

impl World {
    /// Whether something may come ahead to a site.
    fn has_reader(&self, at: usize) -> bool {
        self.links.iter().any(|link| link.newest && link.nodes.contains(&at))
    }

    /// What it had seen behind the cursors that are there is as if it had not been.
    pub fn start_reader(&mut self, at: usize, running: &Running) {
        for ((_, id), read) in self.history.read.iter_mut().filter(|((site, _), _)| *site == at) {
            let next = running.store.cursor(READER, *id).expect("it can be read").unwrap_or(0);
            if next < read.next {
                self.history.met.insert("a reader starts again");
            }
            read.seen.retain(|(offset, _)| *offset < next);
            (read.from, read.next) = (read.from.min(next), next);
        }
    }

    /// One turn: it reads on in each partition that a link brings, and moves its cursors with one commit.
    pub fn read(&mut self, at: usize) {
        if !self.has_reader(at) {
            return;
        }
        let Some(mut running) = self.sites[at].running.take() else { return };
        if self.is_calm {
            // Also what came on a link that nothing more comes by.
            running.store.sync().expect("it syncs");
            let all = running.store.partitions();
            all.into_iter().for_each(|id| running.show(id, running.store.end_offset(id)));
        }
        let linked = |id: &PartitionId| running.store.linked_origin(id.origin).is_some();
        let ids: Vec<PartitionId> = running.logs.keys().copied().filter(linked).collect();
        let mut cursors = Vec::new();
        for id in ids {
            let mut next = running.store.cursor(READER, id).expect("it can be read").unwrap_or(0);
            if self.has(Bug::PassesOpenHole) {
                next = self.history.read.get(&(at, id)).map_or(next, |read| read.next.max(next));
            }
            let (to, batches) = self.read_one(&running, id, next);
            if to == next {
                continue;
            }
            let read = self.history.read.entry((at, id)).or_default();
            for batch in batches {
                let records = batch.decompress().expect("it was checked");
                let number =
                    |value: Option<&[u8]>| u64::from_be_bytes(value.expect("a value").try_into().expect("a number"));
                let seen = records.iter().map(|record| (records.offset_of(&record), number(record.value)));
                read.seen.extend(seen.filter(|(offset, _)| *offset >= next));
            }
            read.next = to;
            // The store takes no cursor that is past an end.
            let moves = to <= running.store.end_offset(id);
            cursors.extend(moves.then(|| CursorMove { reader: READER.to_owned(), partition: id, next: to }));
        }
        if !cursors.is_empty() {
            running.hybrid += 1;
            let commit = Commit { hlc: running.hybrid, cursors, ..Commit::default() };
            running.store.commit(&commit).expect("it is taken");
        }
        self.sites[at].running = Some(running);
    }

    /// What comes next of a partition, up to where it may be seen, and where the reader stands then.
    fn read_one(&self, running: &Running, id: PartitionId, next: Offset) -> (Offset, Vec<StoredBatch>) {
        let log = Arc::clone(&running.logs[&id]);
        let passes = self.has(Bug::PassesOpenHole);
        let end = if passes { log.newest_end() } else { log.visible_end() };
        if next >= end {
            return (next, Vec::new());
        }
        // It is to be done when all has come to rest.
        let bytes = if self.is_calm { usize::MAX } else { READ_BYTES };
        let found = match passes {
            true => running.store.read_newest(id, next, bytes),
            false => running.store.read(id, next, bytes),
        };
        match found {
            Ok(mut batches) => {
                batches.retain(|batch| batch.next_offset() <= end);
                (batches.last().map_or(next, StoredBatch::next_offset), batches)
            }
            Err(ReadError::Trimmed { start, .. }) if start <= end => (start, Vec::new()),
            Err(ReadError::Trimmed { .. }) => (next, Vec::new()),
            Err(error) => panic!("{error}"),
        }
    }
}
