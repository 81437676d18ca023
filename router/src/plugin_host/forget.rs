//! Where a removed plugin stood is forgotten: deployed again it is new, and what it had not read holds back nothing.
//!
//! Nodes that follow a life learn from its commits that a cursor is at 0, as if nothing had been read. That it is gone is found by each node itself,
//! where a life has no record of the plugin: at a start, and when a plugin is removed.

use sled_data::{CopyState, OriginId, ReadError};

use super::registry::PLUGINS_TREE;
use super::round::READER;
use crate::event_log::{CommitFailed, EventLog};

/// Cursors that one commit moves.
const MOVED_MAX: usize = 1_000;

/// Why it is kept still. It is tried again at the next start.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForgetError {
    /// Others cannot be told.
    #[error(transparent)]
    Told(#[from] CommitFailed),
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] ReadError),
}

/// Forgets where plugins stood that this node, or one that it follows, has no record of. Not while one is deployed or removed. Blocks on the disk.
pub(super) fn forget_removed(log: &EventLog) -> Result<(), ForgetError> {
    let store = log.store();
    let own = store.origin();
    // One that is on its way may have its cursors before its records.
    let is_whole = |life: OriginId| {
        let mut followed = store.followed().into_iter();
        life == own || followed.any(|(of, at)| of == life && at.copy == CopyState::Whole)
    };
    for life in store.followed().into_iter().map(|(life, _)| life).chain([own]) {
        for reader in store.readers_of(life)? {
            let Some(plugin) = reader.strip_prefix(READER) else { continue };
            // What cannot be read is not forgotten.
            let has_none =
                || store.state_get_of(life, PLUGINS_TREE, plugin.as_bytes()).is_ok_and(|found| found.is_none());
            let is_gone = || is_whole(life) && has_none();
            if life == own && is_gone() {
                tell(log, &reader)?;
            }
            store.forget_reader_if(life, &reader, &is_gone).map_err(ReadError::from)?;
        }
    }
    Ok(())
}

/// Moves a reader's cursors back, for those who follow this node.
fn tell(log: &EventLog, reader: &str) -> Result<(), ForgetError> {
    let cursors = log.store().cursors(reader)?;
    let moved: Vec<_> = cursors.into_iter().filter(|(_, next)| *next > 0).map(|(id, _)| id).collect();
    for some in moved.chunks(MOVED_MAX) {
        let ticket = {
            let mut open = log.lock();
            some.iter().for_each(|id| open.move_cursor(reader, *id, 0));
            open.ticket()
        };
        log.durable_blocking(ticket)?;
    }
    Ok(())
}
