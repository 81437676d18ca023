//! The store: all log logic, written once above a backend.

mod commit;
mod commit_stream;
mod copy;
mod ended;
mod follow;
mod gaps;
#[cfg(test)]
mod golden;
mod gone;
mod kept;
mod keys;
mod linked;
mod lookup;
mod open;
mod partition;
mod read;
mod recover;
mod retention;
mod salvage;
mod ship;
mod space;
mod state;
mod streams;
mod topics;
mod values;
mod verify;
mod walk;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::backend::{Backend, BackendError, Mark, Tree};
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId, TopicId};
use crate::topic::TopicInfo;

pub use commit::{Commit, CommitError, CursorMove, StateWrite};
pub use commit_stream::{Appended, CommitRecord};
pub use copy::{COPY_HEAD_BYTES_MAX, COPY_PART_BYTES_MAX, CopyError, CopyExtent, CopyHead, CopyPart, CopyPosition};
pub use ended::ENDED_LIVES_MAX;
pub use follow::{FOLLOW_COMMITS_MAX, FollowError, Gap};
pub use gaps::{GAPS_MAX, GapCause, KeptGap};
pub use gone::Gone;
pub use linked::{
    APART_MAX, Ahead, FORGOTTEN_MAX, Forgotten, HOLES_MAX, Hole, HoleWhy, LATE_MAX, LINK_HOPS_MAX,
    LINKED_NEW_PARTITIONS_MAX, LINKED_ORIGINS_MAX, LINKED_ORIGINS_OF_LINK_MAX, LINKED_PARTITIONS_OF_LINK_MAX,
    LINKED_PARTS_MAX, Late, Linked, LinkedError, LinkedPart, PARTS_AHEAD_MAX, Reach,
};
pub use open::{OpenError, Options, Recovered};
pub use read::ReadError;
pub use retention::{SPENT_WAITING_MAX, Trimmed, Wait};
pub use salvage::{
    MissingRange, SALVAGE_RANGES_MAX, SalvageError, SalvageProgress, SalvageReport, SalvagedPartition, SalvagedRun,
    SalvagedTopic, salvage,
};
pub use ship::{COMMIT_BYTES_MAX, FollowedCommit, FollowedCommitError};
pub use space::WhyFull;
pub use state::StateEntries;
pub use streams::{CopyState, FOLLOWED_ORIGINS_MAX, Followed};
pub use topics::{DELETED_TOPICS_MAX, TopicError};
pub use verify::{DAMAGES_MAX, Damage, Progress, VerifyReport};

use partition::Partition;

/// Longest reader's or state tree's name, in bytes.
pub const NAME_BYTES_MAX: usize = 255;
/// Longest key of a state tree, in bytes.
pub const STATE_KEY_BYTES_MAX: usize = 1 << 10;
/// Longest value of a state tree, in bytes.
pub const STATE_VALUE_BYTES_MAX: usize = 60 << 10;
/// Most bytes of state and cursors that one commit may write.
pub const COMMIT_STATE_BYTES_MAX: usize = 4 << 20;
/// Most stored bytes of batches that one commit may append.
pub const COMMIT_BATCH_BYTES_MAX: usize = 112 << 20;

/// Bytes of batches that may go through memory before it is let go of.
const LET_GO_EVERY_BYTES: u64 = 32 << 20;

/// The store met an error after which it does not know what is stored; only opening it again tells.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("the store stopped: {0}")]
pub struct StoreFailed(pub Arc<str>);

/// Why syncing failed: the commits since the last sync may or may not be durable.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error(transparent)]
pub struct SyncError(#[from] pub StoreFailed);

/// A node's store. One caller commits at a time (others wait); readers work beside it.
pub struct Store {
    backend: Arc<dyn Backend>,
    meta: Arc<dyn Tree>,
    origin: OriginId,
    options: Options,
    topics: RwLock<BTreeMap<TopicId, TopicInfo>>,
    /// Topics that were deleted, as far as it is known since the store was opened: nothing of them is kept that comes later.
    deleted: RwLock<HashSet<TopicId>>,
    partitions: RwLock<HashMap<PartitionId, Arc<Partition>>>,
    streams: RwLock<streams::Streams>,
    /// Origins that links bring.
    linked: RwLock<BTreeMap<OriginId, values::LinkedV1>>,
    /// Those of which nothing was kept any more, and that were forgotten.
    forgotten: RwLock<BTreeMap<OriginId, values::ForgottenV1>>,
    writer: Mutex<commit::Writer>,
    dropping: Arc<gone::Dropping>,
    /// Held while events are being trimmed: one pass at a time.
    trimming: Mutex<()>,
    committed: AtomicU64,
    synced: AtomicU64,
    /// Groups of followed commits that were written since the store was opened, and how many of them are durable.
    follow_groups: AtomicU64,
    follow_synced: AtomicU64,
    /// Holds of commit records that were given out.
    holds: AtomicU64,
    /// Bytes of batches that went through memory since it was last let go of.
    passed_bytes: AtomicU64,
    failed: OnceLock<StoreFailed>,
}

impl Store {
    /// The present life.
    pub fn origin(&self) -> OriginId {
        self.origin
    }

    /// The newest commit, durable or not.
    pub fn last_commit(&self) -> CommitNumber {
        CommitNumber(self.committed.load(Ordering::Acquire))
    }

    /// The newest commit known to be durable.
    pub fn synced_commit(&self) -> CommitNumber {
        CommitNumber(self.synced.load(Ordering::Acquire))
    }

    /// Makes all commits so far durable, followed ones too, with one sync for all; the newest of this life.
    ///
    /// # Errors
    /// [`SyncError`]: the store has failed and must be opened again.
    pub fn sync(&self) -> Result<CommitNumber, SyncError> {
        self.check()?;
        let number = self.committed.load(Ordering::Acquire);
        let groups = self.follow_groups.load(Ordering::Acquire);
        self.backend.sync().map_err(|e| self.fail(&e))?;
        self.follow_synced.fetch_max(groups, Ordering::AcqRel);
        let before = self.synced.fetch_max(number, Ordering::AcqRel);
        if before < number {
            let mark = Mark { origin: self.origin.0, commit: number };
            self.backend.set_mark(mark).map_err(|e| self.fail(&e))?;
        }
        Ok(CommitNumber(number))
    }

    /// First offset that is kept of a partition, own or followed; 0 for a partition that has nothing.
    pub fn start_offset(&self, partition: PartitionId) -> Offset {
        self.partition(partition).map_or(0, |p| p.extent().start)
    }

    /// Offset of the next event; 0 for a partition that has nothing.
    pub fn end_offset(&self, partition: PartitionId) -> Offset {
        self.partition(partition).map_or(0, |p| p.extent().end)
    }

    /// Wrapping sum of the digests of all records ever appended: equal in every whole copy, however its batches are cut.
    pub fn digest(&self, partition: PartitionId) -> u64 {
        self.partition(partition).map_or(0, |p| p.extent().digest)
    }

    /// All partitions that hold or held events, those of earlier lives and of followed origins too, in order.
    pub fn partitions(&self) -> Vec<PartitionId> {
        let mut all: Vec<_> = self.partitions.read().keys().copied().collect();
        all.sort_unstable();
        all
    }

    /// Stored bytes of all batches that are kept.
    pub fn batch_bytes(&self) -> u64 {
        let of = |partition: &Arc<Partition>| partition.extent().bytes + partition.ahead_bytes();
        self.partitions.read().values().map(of).sum()
    }

    /// Bytes that the store takes where it is kept.
    pub fn size_bytes(&self) -> u64 {
        self.backend.size_bytes()
    }

    /// Bytes still free where it is kept, if that has a bound.
    pub fn free_bytes(&self) -> Option<u64> {
        self.backend.free_bytes()
    }

    /// Bytes free on the disk, and inside the backend's files, which do not shrink when batches go; `None` where that is not known.
    pub fn room_bytes(&self) -> Option<u64> {
        let slack = space::slack_bytes(&*self.backend, self.batch_bytes());
        self.backend.free_bytes().map(|free| free.saturating_add(slack))
    }

    /// Why a commit of a few small events would be refused now for want of room; `None` where it would not.
    pub fn why_full(&self) -> Option<WhyFull> {
        space::why_full(&*self.backend, &self.options, (space::SMALL_COMMIT_BYTES, 0), || self.batch_bytes())
    }

    /// Whether the backend holds what it should not; the reason. To be shown to people.
    pub fn alarm(&self) -> Option<String> {
        self.backend.alarm()
    }

    /// Whether [`Store::let_go_if_due`] has something to do.
    pub fn is_letting_go_due(&self) -> bool {
        self.passed_bytes.load(Ordering::Relaxed) >= LET_GO_EVERY_BYTES
    }

    /// Lets go of the memory that batches took on their way, where enough of them have passed since the last time (32 MiB): reading a log from end to
    /// end would keep hundreds of megabytes of it in sled's page cache. Takes some ten milliseconds then: not for the one who commits.
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be read.
    pub fn let_go_if_due(&self) -> Result<(), StoreFailed> {
        self.check()?;
        let passed = self.passed_bytes.load(Ordering::Relaxed);
        let is_mine = || self.passed_bytes.compare_exchange(passed, 0, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if passed < LET_GO_EVERY_BYTES || !is_mine() {
            return Ok(());
        }
        self.backend.let_go().map_err(|e| self.fail(&e))
    }

    /// Lets go of what the system keeps of the store's files in memory, as far as it was synced: for who has stored much that is not soon read.
    pub fn let_go_of_cached(&self) {
        self.backend.let_go_of_cached();
    }

    /// Notes that batches went through memory, so that it is let go of.
    fn passed(&self, bytes: usize) {
        self.passed_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Why the store stopped, if it did.
    pub fn failure(&self) -> Option<StoreFailed> {
        self.failed.get().cloned()
    }

    fn partition(&self, id: PartitionId) -> Option<Arc<Partition>> {
        self.partitions.read().get(&id).cloned()
    }

    fn check(&self) -> Result<(), StoreFailed> {
        self.failed.get().map_or(Ok(()), |f| Err(f.clone()))
    }

    /// Stops the store; the first reason stays.
    fn fail(&self, error: &BackendError) -> StoreFailed {
        self.stop(&error.to_string())
    }

    fn stop(&self, reason: &str) -> StoreFailed {
        self.failed.get_or_init(|| StoreFailed(reason.into())).clone()
    }
}
