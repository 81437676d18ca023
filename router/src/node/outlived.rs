//! The end of a life that others have more of than its store: noted for the next start, then carried out.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use sled_data::{Store, SyncError};

use super::site::SITE_FOLDER;

/// The file that says that others had more of the node's log than its store, within its folder.
const OUTLIVED_FILE: &str = "outlived";

/// Why a life is not known to be ended: it is of the same life at the next start, where nothing else went wrong.
#[derive(Debug, thiserror::Error)]
pub enum NotEnded {
    /// It could not be noted; the life was not touched.
    #[error("it cannot be noted that the store is older than it was: {0}; see that the data folder can be written")]
    Note(#[from] io::Error),
    /// The store.
    #[error("the store's life could not be ended in order: {0}")]
    Store(#[from] SyncError),
}

/// Ends the life of a store. In a site it is noted before that: a node that began a new life and did not know why would go on in the
/// consensus with votes that are older than those it gave.
///
/// # Errors
/// Why it was not ended.
pub fn end_life(store: &Store, data: &Path, has_others: bool) -> Result<(), NotEnded> {
    if has_others {
        note(data)?;
    }
    Ok(store.end_life("others have more of this node's log")?)
}

/// Notes it; durable on return.
fn note(data: &Path) -> io::Result<()> {
    File::create(path(data))?.sync_all()?;
    File::open(data.join(SITE_FOLDER))?.sync_all()
}

/// Whether that was noted.
pub fn was_outlived(data: &Path) -> bool {
    path(data).exists()
}

/// It was gone by.
pub fn forget(data: &Path) {
    match fs::remove_file(path(data)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            tracing::warn!(%error, path = %path(data).display(), "the file is gone by again at the next start");
        }
        _ => {}
    }
}

fn path(data: &Path) -> PathBuf {
    data.join(SITE_FOLDER).join(OUTLIVED_FILE)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use sled_data::{MemoryBackend, Options};

    use super::*;

    #[test]
    fn a_life_is_ended_once_that_is_noted() {
        let backend = MemoryBackend::new();
        let open = || Store::on(Arc::new(backend.clone()), Options::default()).unwrap().0;
        let data = tempfile::tempdir().unwrap();
        let store = open();
        let life = store.origin();
        // There is no folder to note it in.
        assert!(matches!(end_life(&store, data.path(), true), Err(NotEnded::Note(_))));
        store.close().unwrap();
        let store = open();
        assert_eq!(store.origin(), life, "it goes on, and is ended when it can be noted");
        fs::create_dir(data.path().join(SITE_FOLDER)).unwrap();
        end_life(&store, data.path(), true).unwrap();
        assert!(was_outlived(data.path()));
        assert_ne!(open().origin(), life);
        forget(data.path());
        forget(data.path());
        assert!(!was_outlived(data.path()));
    }

    #[test]
    fn one_that_is_alone_has_nothing_to_note() {
        let backend = MemoryBackend::new();
        let (store, _) = Store::on(Arc::new(backend.clone()), Options::default()).unwrap();
        let data = tempfile::tempdir().unwrap();
        end_life(&store, data.path(), false).unwrap();
        assert!(!was_outlived(data.path()));
        let (again, _) = Store::on(Arc::new(backend), Options::default()).unwrap();
        assert_ne!(again.origin(), store.origin());
    }
}
