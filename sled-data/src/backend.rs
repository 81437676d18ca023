//! What the store asks of whatever keeps its bytes: named ordered trees, atomic groups, sync.
//!
//! Two implementations: sled, and memory that can lose, tear and fail. Everything about logs is written once above this trait.

mod ballast;
mod group_bytes;
mod memory;
mod raw_read;
mod sled_trees;

use std::ops::ControlFlow;
use std::sync::Arc;

pub use memory::{Faults, MemoryBackend};
pub(crate) use raw_read::read_or_zeros;
pub(crate) use sled_trees::TAIL_FILE;
pub use sled_trees::{SledBackend, SledConfig};

/// Why a backend did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum BackendError {
    /// No room; nothing was written, and later writes may succeed.
    #[error("no space left for the store")]
    Full,
    /// Reading or writing failed; what was written last may or may not be there.
    #[error("the store's input or output failed: {0}")]
    Io(String),
    /// What is stored cannot be made sense of.
    #[error("the store's files are damaged: {0}")]
    Damaged(String),
    /// Another process has the store open.
    #[error("the store is in use by another process")]
    InUse,
    /// A newer version of this program wrote it.
    #[error("the store's files have format {found}, this program knows formats up to {known}: start the newer edgeway")]
    Newer {
        /// The format found.
        found: u8,
        /// The newest known.
        known: u8,
    },
}

/// Which way a scan walks.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the smallest key up.
    Forward,
    /// From the largest key down.
    Back,
}

/// Keys from `from` (inclusive) up to `to` (exclusive; `None` is no bound).
#[derive(Copy, Clone, Debug)]
pub struct Span<'a> {
    /// First key of the span.
    pub from: &'a [u8],
    /// Where it ends.
    pub to: Option<&'a [u8]>,
}

impl<'a> Span<'a> {
    /// Every key.
    pub const ALL: Span<'static> = Span { from: &[], to: None };

    /// From `from` to the end.
    pub fn from(from: &'a [u8]) -> Span<'a> {
        Span { from, to: None }
    }

    /// From `from` to before `to`.
    pub fn between(from: &'a [u8], to: &'a [u8]) -> Span<'a> {
        Span { from, to: Some(to) }
    }
}

/// What a scan shows its keys and values to; it may stop the walk.
pub type Visit<'a> = dyn FnMut(&[u8], &[u8]) -> ControlFlow<()> + 'a;

/// How far a store was synced: the life, and its newest durable commit.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// The life.
    pub origin: u64,
    /// The commit.
    pub commit: u64,
}

/// Named trees that are kept.
pub trait Backend: Send + Sync {
    /// Opens a tree, making it when it is not there.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn tree(&self, name: &[u8]) -> Result<Arc<dyn Tree>, BackendError>;

    /// The same for a tree of a log: its keys begin with an offset, and nearly each that comes lies past all that are there.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn log_tree(&self, name: &[u8]) -> Result<Arc<dyn Tree>, BackendError> {
        self.tree(name)
    }

    /// Names of all trees.
    fn tree_names(&self) -> Vec<Vec<u8>>;

    /// Removes a tree with all it holds.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn drop_tree(&self, name: &[u8]) -> Result<(), BackendError>;

    /// Makes everything written before the call survive a power cut.
    ///
    /// # Errors
    /// Any [`BackendError`]; nothing is known of the last writes then.
    fn sync(&self) -> Result<(), BackendError>;

    /// Bytes it takes where it is kept.
    fn size_bytes(&self) -> u64;

    /// Bytes still free where it is kept; `None` where there is no such number.
    fn free_bytes(&self) -> Option<u64>;

    /// Notes, beside the trees and without making it durable, how far the store was synced.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn set_mark(&self, mark: Mark) -> Result<(), BackendError>;

    /// Makes the last note durable.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn sync_mark(&self) -> Result<(), BackendError>;

    /// The last note that can be read, if there is one. It may be older than the trees; newer only if synced writes were lost.
    fn mark(&self) -> Option<Mark>;

    /// The store was found to be what it was: lets go of what was kept of it before it was opened, for the case that it is not.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn accept(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Nothing is written any more: lets go of what the next opening would do again. Durable with the next sync.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn settle(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Lets go of what reading and writing have brought into memory, as far as it can. Takes its time: not for the one who commits.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn let_go(&self) -> Result<(), BackendError> {
        Ok(())
    }

    /// Lets go of what the system keeps of its files in memory, of all that was synced, where the system does that.
    fn let_go_of_cached(&self) {}

    /// Whether it holds something that it should not (files that are never synced); the reason.
    fn alarm(&self) -> Option<String>;
}

/// One ordered map of bytes. Writes of one thread are kept in order: after a power cut a later one is there only with all earlier ones.
pub trait Tree: Send + Sync {
    /// Says which keys get their values next, which have `value_bytes` together, so that room can be made for all of them at once. Until then
    /// each may be there with an empty value, and stays so when its value does not come.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn announce(&self, keys: &[Vec<u8>], value_bytes: usize) -> Result<(), BackendError>;

    /// Writes a value.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn insert(&self, key: &[u8], value: &[u8]) -> Result<(), BackendError>;

    /// Removes a key, which need not be there.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn remove(&self, key: &[u8]) -> Result<(), BackendError>;

    /// Removes keys whose values have `value_bytes` together. Cut short, it may leave some of them with empty values.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn remove_all(&self, keys: &[Vec<u8>], value_bytes: usize) -> Result<(), BackendError> {
        let _ = value_bytes;
        keys.iter().try_for_each(|key| self.remove(key))
    }

    /// Does all writes of a group or, after a power cut, none.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn apply(&self, group: &Group) -> Result<(), BackendError>;

    /// The value of a key.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn get(&self, key: &[u8]) -> Result<Option<Vec<u8>>, BackendError>;

    /// Shows keys and values of a span, in order, until `visit` breaks.
    ///
    /// # Errors
    /// Any [`BackendError`].
    fn scan(&self, span: Span<'_>, direction: Direction, visit: &mut Visit<'_>) -> Result<(), BackendError>;
}

/// Writes to one tree that happen together; its buffers are kept when it is cleared.
#[derive(Clone, Debug, Default)]
pub struct Group {
    bytes: Vec<u8>,
    writes: Vec<Write>,
}

#[derive(Copy, Clone, Debug)]
struct Write {
    start: usize,
    key_end: usize,
    end: usize,
    remove: bool,
}

impl Group {
    /// An empty group.
    pub const fn new() -> Group {
        Group { bytes: Vec::new(), writes: Vec::new() }
    }

    /// Removes all writes and keeps the buffers.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.writes.clear();
    }

    /// Writes a value.
    pub fn put(&mut self, key: &[u8], value: &[u8]) {
        self.add(key, value, false);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &[u8]) {
        self.add(key, &[], true);
    }

    fn add(&mut self, key: &[u8], value: &[u8], remove: bool) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(key);
        self.bytes.extend_from_slice(value);
        self.writes.push(Write { start, key_end: start + key.len(), end: self.bytes.len(), remove });
    }

    /// Bytes of keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes.len()
    }

    /// Keys and values in order; no value is a removal.
    pub fn iter(&self) -> impl Iterator<Item = (&[u8], Option<&[u8]>)> + Clone {
        self.writes.iter().map(|w| {
            let value = &self.bytes[w.key_end..w.end];
            (&self.bytes[w.start..w.key_end], (!w.remove).then_some(value))
        })
    }
}
