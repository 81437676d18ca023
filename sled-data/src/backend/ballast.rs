//! Many tiny pages whose only use is to be read: reading them has sled let go of large ones.
//!
//! sled's page cache has 256 parts, by the page's number. A part looks at its bound only after 64 accesses, and never lets go of the page that was
//! used last, however large. A page of batches has half a megabyte and is used once or twice when a partition is read from end to end: a reader
//! far behind brings in gigabytes before the cache looks, and hundreds of megabytes stay for good. So this tree has at least one small page in
//! nearly every part, and reads each more than 64 times: the part looks, and what is large goes.

use std::sync::Arc;

use super::{BackendError, Tree};

/// Parts of sled's page cache, and accesses after which one of them looks at its bound.
const CACHE_PARTS: u64 = 256;
const ACCESSES_A_LOOK: u64 = 64;
/// Entries of a page that was filled in order: sled splits a leaf of more than 16 in the middle.
const ENTRIES_A_PAGE: u64 = 8;
/// Entries: one page for each part, and some more, as other trees may take a number between.
const ENTRIES: u64 = (CACHE_PARTS + 32) * ENTRIES_A_PAGE;
/// How often each entry is read by one sweep: together more than a page needs for a look.
const READS: u64 = ACCESSES_A_LOOK / ENTRIES_A_PAGE + 1;

/// The tree.
pub(super) struct Ballast(Arc<dyn Tree>);

impl Ballast {
    /// Takes the tree, and fills it where it is not full yet.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub(super) fn new(tree: Arc<dyn Tree>) -> Result<Ballast, BackendError> {
        let key = |number: u64| number.to_be_bytes();
        if tree.get(&key(ENTRIES - 1))?.is_none() {
            (0..ENTRIES).try_for_each(|number| tree.insert(&key(number), &[]))?;
        }
        Ok(Ballast(tree))
    }

    /// Reads all of it, page by page. Takes some ten milliseconds of one core.
    ///
    /// # Errors
    /// Any [`BackendError`].
    pub(super) fn sweep(&self) -> Result<(), BackendError> {
        for page in 0..ENTRIES / ENTRIES_A_PAGE {
            for read in 0..READS * ENTRIES_A_PAGE {
                self.0.get(&(page * ENTRIES_A_PAGE + read % ENTRIES_A_PAGE).to_be_bytes())?;
            }
        }
        Ok(())
    }
}
