//! What an edge keeps by the name that a link has here goes with the link: another one may have that name next, to another site.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;

use sled_data::{ReadError, Store, StoreFailed, SyncError};

use super::ahead_note;
use super::dial::READER;
use super::folder::{self, FolderError};
use crate::event_log::{CommitFailed, EventLog};

/// Why what was kept is kept still. It is tried again at the next start.
#[derive(Debug, thiserror::Error)]
pub enum ForgetError {
    /// The entries could not be removed.
    #[error(transparent)]
    Entries(#[from] CommitFailed),
    /// The cursors, or what was noted by its name, could not be removed.
    #[error(transparent)]
    Cursors(#[from] StoreFailed),
    /// It is not durable.
    #[error(transparent)]
    Sync(#[from] SyncError),
    /// The node is stopping.
    #[error("the node is stopping")]
    Stopping,
}

/// What a link's other end is called where it is noted that an origin is another one there; `link` is the id of what it brings down, made of
/// the CA. No link is called so. Earlier programs look under the link's name here: what is noted is so there as well, and goes with the link.
pub(super) fn place(link: u64) -> String {
    format!("ca:{link:016x}")
}

/// Forgets how far the link of a name was. It must not run. Durable on return.
///
/// # Errors
/// When the store refuses; some may be gone.
pub(super) async fn forget(log: &Arc<EventLog>, name: &str) -> Result<(), ForgetError> {
    let (log_of, name_of) = (Arc::clone(log), name.to_owned());
    let removed = tokio::task::spawn_blocking(move || ahead_note::remove(&log_of, &name_of)).await;
    // What the link's task had noted last is in the same commit, or in one before it.
    log.durable(removed.map_err(|_| ForgetError::Stopping)?).await?;
    let (log, reader, name) = (Arc::clone(log), format!("{READER}{name}"), name.to_owned());
    let removed = tokio::task::spawn_blocking(move || {
        log.store().forget_reader(&reader)?;
        log.store().forget_apart(&name)?;
        log.store().sync().map(drop).map_err(ForgetError::from)
    });
    removed.await.map_err(|_| ForgetError::Stopping)?
}

/// Forgets what was left of links that have no folder: a crash came between. What is not forgotten durably is found at the next start. Blocks on the disk.
///
/// # Errors
/// When the folder of links cannot be read.
pub(super) fn forget_gone(log: &EventLog, data: &Path) -> Result<(), FolderError> {
    let known: BTreeSet<String> = folder::folders(data)?.into_iter().collect();
    let readers = log.store().readers().unwrap_or_default();
    let mut names: BTreeSet<String> =
        readers.iter().filter_map(|reader| reader.strip_prefix(READER)).map(str::to_owned).collect();
    names.extend(ahead_note::names(log));
    for name in names.difference(&known) {
        ahead_note::remove(log, name);
        let forgotten = log.store().forget_reader(&format!("{READER}{name}"));
        match forgotten.and_then(|()| log.store().forget_apart(name)) {
            Ok(()) => tracing::info!(link = name, "what was kept of a link that was removed is forgotten"),
            Err(error) => tracing::warn!(link = name, %error, "what was kept of a link that was removed stays"),
        }
    }
    Ok(())
}

/// Forgets where the links of other nodes of the site stand, as their commits have brought it here: a link is its node's own, and no other one goes on with
/// it. Of a link that stands it comes again; of one that was removed nobody else tells. Blocks on the disk.
///
/// # Errors
/// When the store cannot be read or written.
pub(super) fn forget_of_others(store: &Store) -> Result<(), ReadError> {
    for (origin, _) in store.followed() {
        let readers = store.readers_of(origin)?;
        for reader in readers.iter().filter(|reader| reader.starts_with(READER)) {
            store.forget_reader_of(origin, reader)?;
        }
    }
    Ok(())
}
