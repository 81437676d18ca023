//! Opening a store: what it may be given, what it says it found, why it may refuse.

use std::path::Path;
use std::sync::Arc;

use super::{Store, recover};
use crate::backend::{Backend, BackendError, SledBackend, SledConfig};
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId};

/// What a store is opened with. Bytes, unless a name says otherwise.
#[derive(Clone, Debug)]
pub struct Options {
    /// What sled's page cache tries to stay below.
    pub cache_bytes: u64,
    /// Free space on the disk below which commits are refused; trimming still works then.
    pub reserve_bytes: u64,
    /// Stored batches above which commits are refused; `None` sets no bound.
    pub batch_bytes_max: Option<u64>,
    /// Commit records kept, by number.
    pub commit_records_max: usize,
    /// Commit records kept, by their bytes.
    pub commit_record_bytes_max: u64,
    /// Opens a store that has lost commits known to have been synced, as a new life: what is left can be read, and nothing is numbered twice.
    pub accept_loss: bool,
    /// Draws ids from this seed instead of the system's randomness: for simulations, where a run must repeat.
    pub seed: Option<u64>,
}

impl Default for Options {
    fn default() -> Self {
        Options {
            cache_bytes: 16 << 20,
            reserve_bytes: 64 << 20,
            batch_bytes_max: None,
            commit_records_max: 65_536,
            commit_record_bytes_max: 64 << 20,
            accept_loss: false,
            seed: None,
        }
    }
}

/// What opening found and did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovered {
    /// Whether the store was made just now.
    pub new_store: bool,
    /// Whether it had been closed in order.
    pub clean: bool,
    /// The life that ended, where a new one began: acknowledged events of `memory` topics may have been lost, or more (see
    /// [`Options::accept_loss`]), or [`Store::end_life`] had said so.
    pub ended_life: Option<OriginId>,
    /// The newest commit of the present life.
    pub last_commit: CommitNumber,
    /// Hybrid clocks start above it: the newest that is stored, and a random step of up to a quarter of a second, so that the stamps of two
    /// stores of one image differ.
    pub last_hlc: u64,
    /// Batches of unfinished commits or trims that were cut off: partition, and how many stored values.
    pub cut: Vec<(PartitionId, u64)>,
    /// Trees of unfinished creations or deletions that were dropped.
    pub dropped_trees: u64,
    /// First and next offset of each partition, in order.
    pub extents: Vec<(PartitionId, Offset, Offset)>,
}

/// Why a store was not opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("the store is in use by another process")]
    InUse,
    /// A newer version of this program wrote it.
    #[error("the store has format {found}, this program knows formats up to {known}: start the newer edgeway")]
    Newer {
        /// The format found.
        found: u8,
        /// The newest known.
        known: u8,
    },
    /// Synced commits are gone: a damaged log was cut at the damage.
    #[error("the store is damaged: it ends at commit {found}, but commit {synced} had been synced")]
    Shorter {
        /// The newest commit found; 0 is none.
        found: u64,
        /// The newest commit known to have been synced.
        synced: u64,
    },
    /// It cannot be made sense of.
    #[error("the store is damaged: {0}")]
    Damaged(String),
    /// The disk is full.
    #[error("no space left to open the store")]
    Full,
    /// Reading or writing failed.
    #[error("the store cannot be opened: {0}")]
    Io(String),
}

impl From<BackendError> for OpenError {
    fn from(error: BackendError) -> OpenError {
        match error {
            BackendError::Full => OpenError::Full,
            BackendError::Io(text) => OpenError::Io(text),
            BackendError::Damaged(text) => OpenError::Damaged(text),
            BackendError::InUse => OpenError::InUse,
            BackendError::Newer { found, known } => OpenError::Newer { found, known },
        }
    }
}

impl Store {
    /// Opens or makes the store in the folder `path`, on sled.
    ///
    /// # Errors
    /// Any [`OpenError`]; nothing was changed by [`OpenError::InUse`] and [`OpenError::Newer`].
    pub fn open(path: &Path, options: Options) -> Result<(Store, Recovered), OpenError> {
        let backend = SledBackend::open(path, SledConfig { cache_bytes: options.cache_bytes })?;
        Store::on(Arc::new(backend), options)
    }

    /// Opens or makes the store on any backend.
    ///
    /// # Errors
    /// As [`Store::open`].
    pub fn on(backend: Arc<dyn Backend>, options: Options) -> Result<(Store, Recovered), OpenError> {
        recover::recover(backend, options)
    }
}
