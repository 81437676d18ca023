//! The new store: topics as they were, batches moved to the new life.

use std::fs::File;
use std::path::Path;

use super::SalvageError;
use super::report::SalvagedTopic;
use crate::batch::{BatchError, StoredBatch};
use crate::ids::{Offset, PartitionId};
use crate::store::{Commit, CommitError, OpenError, Options, Store, StoreFailed, SyncError};
use crate::topic::TopicInfo;

/// Stored bytes that one commit takes, and the batch that passes it.
const COMMIT_BYTES: usize = 1 << 20;
/// Batches of one commit.
const COMMIT_BATCHES_MAX: usize = 1_024;
/// Commits after which the store is synced.
const SYNC_EVERY_COMMITS: u32 = 32;

/// A store being filled.
pub(super) struct Rebuild {
    store: Store,
    commit: Commit,
    commit_bytes: usize,
    unsynced: u32,
    /// The partition that is appended to, where it ends with the open commit, and the hybrid clock of what ends there.
    at: Option<(PartitionId, Offset, u64)>,
}

impl Rebuild {
    /// Makes the store, with its topics.
    pub(super) fn begin(folder: &Path, topics: &[SalvagedTopic]) -> Result<Rebuild, SalvageError> {
        let (store, _) = Store::open(folder, Options::default())?;
        for topic in topics {
            store.restore_topic(TopicInfo { id: topic.id, name: topic.name.clone(), config: topic.config.clone() })?;
        }
        Ok(Rebuild { store, commit: Commit::default(), commit_bytes: 0, unsynced: 0, at: None })
    }

    /// Appends a batch of partition `id` of the damaged store; the offset it begins at, or `None` where it is not sound after all.
    pub(super) fn append(
        &mut self,
        id: PartitionId,
        batch: Result<StoredBatch, BatchError>,
    ) -> Result<Option<Offset>, SalvageError> {
        let id = PartitionId { origin: self.store.origin(), ..id };
        let (base, last_hlc) = match self.at {
            Some((at, end, hlc)) if at == id => (end, hlc),
            _ => {
                self.write()?;
                let end = self.store.end_offset(id);
                (end, self.store.hlc_before(id, end).unwrap_or(0))
            }
        };
        // Several lives may come behind one another. Within a partition clocks never fall: links tell by them what is another log.
        let Ok(moved) = batch.and_then(|batch| batch.moved_to(id, base, last_hlc)) else { return Ok(None) };
        self.at = Some((id, moved.envelope().next_offset(), moved.envelope().hlc));
        self.commit_bytes += moved.bytes().len();
        // A commit's clock is not below those before it: the next life's clock starts above the last one.
        self.commit.hlc = self.commit.hlc.max(moved.envelope().hlc);
        self.commit.appends.push(moved);
        if self.commit_bytes >= COMMIT_BYTES || self.commit.appends.len() >= COMMIT_BATCHES_MAX {
            self.write()?;
        }
        Ok(Some(base))
    }

    fn write(&mut self) -> Result<(), SalvageError> {
        if self.commit.appends.is_empty() {
            return Ok(());
        }
        self.store.commit(&self.commit)?;
        self.commit.appends.clear();
        self.commit_bytes = 0;
        self.unsynced += 1;
        if self.unsynced >= SYNC_EVERY_COMMITS {
            self.unsynced = 0;
            self.store.sync()?;
        }
        Ok(())
    }

    /// Writes what is left, and closes the store in order.
    pub(super) fn end(mut self) -> Result<(), SalvageError> {
        self.write()?;
        Ok(self.store.close()?)
    }
}

/// Gives the finished store its name, durably.
pub(super) fn give_name(part: &Path, to: &Path) -> Result<(), SalvageError> {
    let parent = match to.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let named = std::fs::rename(part, to).and_then(|()| File::open(parent)).and_then(|folder| folder.sync_all());
    named.map_err(|e| SalvageError::Write(e.to_string()))
}

impl From<OpenError> for SalvageError {
    fn from(error: OpenError) -> SalvageError {
        match error {
            OpenError::Full => SalvageError::Full,
            other => SalvageError::Write(other.to_string()),
        }
    }
}

impl From<CommitError> for SalvageError {
    fn from(error: CommitError) -> SalvageError {
        match error {
            CommitError::Full => SalvageError::Full,
            other => SalvageError::Write(other.to_string()),
        }
    }
}

impl From<SyncError> for SalvageError {
    fn from(SyncError(StoreFailed(why)): SyncError) -> SalvageError {
        SalvageError::Write(why.to_string())
    }
}
