//! A reader on each node: it counts what it sees of every partition, and stores count and cursor together.

use sled_data::{CursorMove, PartitionId, ReadError, StateWrite};

use super::World;
use crate::site::bug::Bug;
use crate::site::history::Fact;
use crate::site::node::Running;

/// The reader's name, and that of its state tree: partition -> [`Tally`].
pub const READER: &str = "count";
/// A tree with keys that come and go.
pub const LOOSE: &str = "loose";
/// Keys of that tree.
const LOOSE_KEYS: u64 = 8;

/// What the reader knows of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tally {
    /// Events that it saw.
    pub count: u64,
    /// The sum of their numbers.
    pub sum: u64,
    /// Offsets that it was told are gone.
    pub gaps: Vec<(u64, u64)>,
}

impl Tally {
    pub fn encode(&self) -> Vec<u8> {
        let gaps = self.gaps.iter().flat_map(|(from, to)| [*from, *to]);
        [self.count, self.sum].into_iter().chain(gaps).flat_map(u64::to_be_bytes).collect()
    }

    pub fn decode(bytes: &[u8]) -> Tally {
        let mut numbers = bytes.chunks(8).map(|bytes| u64::from_be_bytes(bytes.try_into().unwrap()));
        let (count, sum) = (numbers.next().unwrap(), numbers.next().unwrap());
        let mut gaps = Vec::new();
        while let (Some(from), Some(to)) = (numbers.next(), numbers.next()) {
            gaps.push((from, to));
        }
        Tally { count, sum, gaps }
    }
}

/// The number of an event, by its value.
pub fn event_of(value: &[u8]) -> u64 {
    u64::from_be_bytes(value[..8].try_into().unwrap())
}

impl World {
    pub(super) fn read(&mut self, at: usize, run: &mut Running) {
        if run.is_reading || run.failed.is_some() || !(self.is_calm || self.random.chance(300)) {
            return;
        }
        let lagging = |id: &PartitionId| {
            let cursor = run.store.cursor(READER, *id).ok().flatten().unwrap_or(0);
            run.visible.get(id).is_some_and(|end| *end > cursor)
        };
        let behind: Vec<PartitionId> = run.store.partitions().into_iter().filter(lagging).collect();
        if !behind.is_empty() {
            let id = behind[self.random.place(behind.len())];
            self.count(at, run, id);
        }
        if !self.is_calm && self.random.chance(400) {
            self.write_loose(run);
        }
        run.is_reading = !run.state.is_empty();
    }

    fn count(&mut self, at: usize, run: &mut Running, id: PartitionId) {
        let node = self.nodes[at].id;
        let found = run.store.cursor(READER, id).ok().flatten();
        let mut cursor = found.unwrap_or(0);
        let key = id.to_bytes();
        // Without a cursor it begins anew: the copy was given up, or the topic deleted.
        let stored = found.and_then(|_| run.store.state_get(READER, &key).ok().flatten());
        let mut tally = stored.map_or_else(Tally::default, |bytes| Tally::decode(&bytes));
        let visible = run.visible.get(&id).copied().unwrap_or(0);
        match run.store.read(id, cursor, 2_000) {
            Ok(batches) => {
                let mut events = Vec::new();
                for batch in batches {
                    let records = batch.decompress().unwrap();
                    let seen = records.iter().filter(|r| (cursor..visible).contains(&records.offset_of(r)));
                    events.extend(seen.map(|record| event_of(record.value.unwrap())));
                }
                tally.count += events.len() as u64;
                tally.sum = events.iter().fold(tally.sum, |sum, event| sum.wrapping_add(*event));
                let from = cursor;
                cursor += events.len() as u64;
                self.history.note(Fact::Seen { node, partition: id, from, events });
            }
            Err(ReadError::Trimmed { start, .. }) => {
                let start = start.min(visible.max(cursor));
                self.history.note(Fact::Gap { node, partition: id, from: cursor, to: start });
                tally.gaps.push((cursor, start));
                cursor = start;
            }
            Err(_) => {
                run.failed = run.store.failure().map(|_| "its store failed");
                return;
            }
        }
        run.cursors.push(CursorMove { reader: READER.to_owned(), partition: id, next: cursor });
        run.state.push(StateWrite { tree: READER.to_owned(), key: key.to_vec(), value: Some(tally.encode()) });
    }

    /// State that comes and goes.
    fn write_loose(&mut self, run: &mut Running) {
        for _ in 0..=self.random.below(3) {
            let key = vec![u8::try_from(self.random.below(LOOSE_KEYS)).unwrap()];
            let value = self.random.chance(500).then(|| self.random.next().to_be_bytes().to_vec());
            if self.has(Bug::CopyOfRemoved)
                && value.is_none()
                && let Ok(Some(old)) = run.store.state_get(LOOSE, &key)
            {
                run.buried.push(StateWrite { tree: LOOSE.to_owned(), key: key.clone(), value: Some(old) });
            }
            run.state.retain(|write| write.tree != LOOSE || write.key != key);
            run.state.push(StateWrite { tree: LOOSE.to_owned(), key, value });
        }
    }
}
