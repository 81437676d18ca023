//! Reading: from memory at the tail, from the store behind it, never past the visible end.

use std::sync::Arc;

use sled_data::{BatchError, Offset, OriginId, PartitionId, ReadError as StoreError, StoredBatch};

use super::EventLog;
use super::partition::{Batch, PartitionLog};

/// Entries that a walk through a small named tree reads at once.
const WALK_ENTRIES_MAX: usize = 1_000;

/// Keys and values of a small named tree, in key order.
pub type StateEntries = Vec<(Vec<u8>, Vec<u8>)>;

/// Why a read gave nothing.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// No such partition on this node.
    #[error("there is no partition {index} of topic id {topic:016x} here; `edgeway topic list` names what there is")]
    NoPartition {
        /// The topic's id.
        topic: u64,
        /// The partition's number.
        index: u32,
    },
    /// The store could not give it.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// A batch whose checksums fit, and whose records cannot be read.
fn damaged(batch: &StoredBatch, error: BatchError) -> ReadError {
    let (partition, from, to) = (batch.envelope().partition, batch.base_offset(), batch.next_offset());
    StoreError::Damaged { partition, from, to, reason: error.to_string() }.into()
}

impl EventLog {
    /// Batches from `from` on, together about `bytes_max` bytes, at least one where there is one. The first
    /// may begin before `from`; where retention has taken `from`, it begins after it.
    ///
    /// # Errors
    /// When the partition is not here, or the store cannot read it; what is damaged is told as a range.
    pub fn read(&self, id: PartitionId, from: Offset, bytes_max: usize) -> Result<Vec<Batch>, ReadError> {
        let partition = self.partition(id)?;
        let end = partition.visible_end();
        if from >= end {
            return Ok(Vec::new());
        }
        if let Some(recent) = partition.recent_from(from, bytes_max) {
            return Ok(recent);
        }
        let stored = match self.store.read(id, from, bytes_max) {
            Err(StoreError::Trimmed { start, .. }) if start < end => self.store.read(id, start, bytes_max)?,
            Err(StoreError::Trimmed { .. }) => Vec::new(),
            read => read?,
        };
        self.decompressed(id, stored, end)
    }

    /// As [`Self::read`], and from where nothing more is visible on what lies ahead of that, behind open holes: for those who follow what is live,
    /// and not for who is to see each event. What fills a hole is not seen by who has passed it.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_newest(&self, id: PartitionId, from: Offset, bytes_max: usize) -> Result<Vec<Batch>, ReadError> {
        let partition = self.partition(id)?;
        let ahead = partition.ahead_at(from).filter(|_| from >= partition.visible_end());
        let Some((begins, end)) = ahead else { return self.read(id, from, bytes_max) };
        let from = from.max(begins);
        if from >= end {
            return Ok(Vec::new());
        }
        let stored = match self.store.read_newest(id, from, bytes_max) {
            Err(StoreError::Trimmed { start, .. }) if start < end => self.store.read_newest(id, start, bytes_max)?,
            Err(StoreError::Trimmed { .. }) => Vec::new(),
            read => read?,
        };
        self.decompressed(id, stored, end)
    }

    /// Batches that begin before an end, as readers get them.
    fn decompressed(&self, id: PartitionId, stored: Vec<StoredBatch>, end: Offset) -> Result<Vec<Batch>, ReadError> {
        let mut batches = Vec::new();
        for stored in stored {
            if stored.base_offset() >= end {
                break;
            }
            let (base, count) = (stored.base_offset(), stored.envelope().count);
            match stored.decompress() {
                Ok(records) => {
                    let is_late = self.store.is_late(id, base);
                    batches.push(Batch::stored(id, base, count, records).late(is_late));
                }
                // What is damaged is told to who reads from there.
                Err(_) if !batches.is_empty() => break,
                Err(error) => return Err(damaged(&stored, error)),
            }
        }
        Ok(batches)
    }

    /// The partition as the event log keeps it.
    ///
    /// # Errors
    /// When there is none of that identity.
    pub fn partition(&self, id: PartitionId) -> Result<Arc<PartitionLog>, ReadError> {
        let partitions = self.partitions.read();
        partitions.get(&id).cloned().ok_or(ReadError::NoPartition { topic: id.topic.0, index: id.index })
    }

    /// Up to where readers may see a partition; 0 where it is unknown.
    pub fn visible_end(&self, id: PartitionId) -> Offset {
        self.partitions.read().get(&id).map_or(0, |partition| partition.visible_end())
    }

    /// Up to where who asks for the newest may see a partition, behind what lies ahead; 0 where it is unknown.
    pub fn newest_end(&self, id: PartitionId) -> Offset {
        self.partitions.read().get(&id).map_or(0, |partition| partition.newest_end())
    }

    /// The oldest offset that is still stored.
    pub fn start_offset(&self, id: PartitionId) -> Offset {
        self.store.start_offset(id)
    }

    /// A reader's cursor: the first offset that it has not done, `None` before its first commit.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn cursor(&self, reader: &str, id: PartitionId) -> Result<Option<Offset>, StoreError> {
        self.store.cursor(reader, id)
    }

    /// One entry of a small named tree, as of the last written commit.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state_get(&self, tree: &str, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        self.store.state_get(tree, key)
    }

    /// Entries of a small named tree in key order: those that begin with `prefix`, after key `after`,
    /// `entries_max` at most.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state_scan(
        &self,
        tree: &str,
        prefix: &[u8],
        after: Option<&[u8]>,
        entries_max: usize,
    ) -> Result<StateEntries, StoreError> {
        self.store.state_scan(tree, prefix, after, entries_max)
    }

    /// The life that is written here.
    pub fn origin(&self) -> OriginId {
        self.store.origin()
    }

    /// The other lives whose commits are kept here, in order; none on a node that is alone.
    pub fn others(&self) -> Vec<OriginId> {
        self.store.followed().into_iter().map(|(origin, _)| origin).collect()
    }

    /// What each life that is known here has under a key of a small named tree, this one first.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state_of_all(&self, tree: &str, key: &[u8]) -> Result<Vec<(OriginId, Vec<u8>)>, StoreError> {
        let mut found = Vec::new();
        for origin in std::iter::once(self.origin()).chain(self.others()) {
            found.extend(self.store.state_get_of(origin, tree, key)?.map(|value| (origin, value)));
        }
        Ok(found)
    }

    /// Shows `visit` every entry of a small named tree of one life, in key order, a page at a time.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn state_walk_of(
        &self,
        origin: OriginId,
        tree: &str,
        mut visit: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.store.state_scan_of(origin, tree, &[], after.as_deref(), WALK_ENTRIES_MAX)?;
            page.iter().for_each(|(key, value)| visit(key, value));
            match page.into_iter().last() {
                Some((last, _)) => after = Some(last),
                None => return Ok(()),
            }
        }
    }
}
