//! Finds out, at the start, what the store holds of the consensus, and founds a group where there is none.

use std::sync::Arc;

use super::answer::GROUP;
use super::group::{self, ME};
use super::log_store::{find_ends, stored};
use super::snapshot::{APPLIED, leftovers, replace, scan};
use super::stored::AppliedV1;
use super::writer::{commit_blocking, in_commits};
use super::{Book, Founder};
use crate::catalog::CATALOG_TREE;
use crate::catalog::state::State;
use crate::catalog::write::Write;
use crate::event_log::EventLog;
use crate::transport::NodeId;

/// What the store held.
pub(in crate::catalog) struct Opened {
    pub(in crate::catalog) me: NodeId,
    state: State,
}

/// Why the store's part in the consensus cannot be had.
#[derive(Debug, thiserror::Error)]
pub(in crate::catalog) enum OpenError {
    /// The store belongs to another node.
    #[error("the store belongs to node {stored}, not to {me}")]
    OtherNode { stored: NodeId, me: NodeId },
    /// It cannot be read or written.
    #[error("{0}")]
    Store(String),
}

/// Reads what is set. `founder`: where there is no group, this node founds one; without, it waits to be let in.
///
/// # Errors
/// [`OpenError`].
pub(in crate::catalog) fn open(
    log: &EventLog,
    me: Option<NodeId>,
    founder: Option<&Founder>,
) -> Result<Opened, OpenError> {
    let mut stored_me: Option<NodeId> = stored(log, ME).map_err(OpenError::Store)?;
    if founder.is_none() && me.is_some() && stored_me.is_some() && stored_me != me {
        // It joins another site, under a new id.
        group::forget(log).map_err(OpenError::Store)?;
        stored_me = None;
    }
    let me = match (stored_me, me) {
        (Some(stored), Some(me)) if stored != me => return Err(OpenError::OtherNode { stored, me }),
        (Some(stored), _) => stored,
        (None, Some(me)) => me,
        (None, None) => NodeId(group::draw().map_err(OpenError::Store)?),
    };
    finish_install(log).map_err(OpenError::Store)?;
    let state = load(log).map_err(OpenError::Store)?;
    let has_begun = stored::<AppliedV1>(log, APPLIED).map_err(OpenError::Store)?.is_some();
    match founder {
        Some(founder) if !has_begun => {
            group::found(log, me, founder, &state).map_err(OpenError::Store)?;
            Ok(Opened { me, state: load(log).map_err(OpenError::Store)? })
        }
        _ => {
            if stored_me.is_none() {
                group::name_me(log, me).map_err(OpenError::Store)?;
            }
            Ok(Opened { me, state })
        }
    }
}

/// Ends what a crash has left of a state that was being installed.
fn finish_install(log: &EventLog) -> Result<(), String> {
    let commits = replace(log)?;
    let commits = if commits.is_empty() { in_commits(leftovers(log)?) } else { commits };
    commits.iter().try_for_each(|puts| commit_blocking(log, puts)).map_err(|error| error.to_string())
}

/// What is stored, also beyond the bounds of today's settings: nothing that was set is lost by lowering them.
fn load(log: &EventLog) -> Result<State, String> {
    let mut state = State::default();
    scan(log, CATALOG_TREE, b"", |key, value| match Write::decode(&key, &value) {
        Some(write) => state.apply(&write),
        None => tracing::warn!(
            key = %String::from_utf8_lossy(&key),
            "an entry of the catalog is of an unknown version and is left out; was a newer edgeway here?"
        ),
    })?;
    Ok(state)
}

impl Opened {
    /// Puts what the store held into the book.
    ///
    /// # Errors
    /// What cannot be read.
    pub(in crate::catalog) fn fill(self, book: &Book) -> Result<(), String> {
        let log = &book.log;
        let applied: AppliedV1 = stored(log, APPLIED)?.unwrap_or_default();
        let group: Option<u64> = stored(log, GROUP)?;
        *book.ends.lock() = find_ends(log)?;
        book.set_group(group.unwrap_or(0));
        book.take(|held| {
            held.state = Arc::new(self.state);
            held.applied = applied;
        });
        Ok(())
    }
}
