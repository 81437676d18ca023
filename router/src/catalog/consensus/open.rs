//! Finds out, at the start, what the store holds of the consensus, and founds a group where there is none.

use std::sync::Arc;

use super::answer::GROUP;
use super::group::{self, ME};
use super::log_store::{find_ends, stored};
use super::snapshot::{APPLIED, installing, leftovers, replace, scan};
use super::stored::AppliedV1;
use super::writer::{WriteError, commit_blocking, commit_blocking_with, in_commits};
use super::{Book, Founder};
use crate::catalog::state::State;
use crate::catalog::write::Write;
use crate::catalog::{CATALOG_TREE, tell};
use crate::event_log::{EventLog, OpenCommit, Topic};
use crate::transport::NodeId;

/// What is to be done in the store before this node takes part.
pub(in crate::catalog) struct Plan {
    pub(in crate::catalog) me: NodeId,
    /// Where there is no group, this node founds one; `None`: it waits to be let in.
    founder: Option<Founder>,
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

/// Why the store cannot be made ready.
#[derive(Debug, thiserror::Error)]
pub(super) enum PrepareError {
    /// Nothing can be written.
    #[error(transparent)]
    Write(#[from] WriteError),
    /// Nothing can be read or drawn.
    #[error("{0}")]
    Other(String),
}

impl From<String> for PrepareError {
    fn from(why: String) -> Self {
        Self::Other(why)
    }
}

/// Finds out which node this is, and what is to be done.
///
/// # Errors
/// [`OpenError`].
pub(in crate::catalog) fn plan(
    log: &EventLog,
    me: Option<NodeId>,
    founder: Option<&Founder>,
    is_restored: bool,
) -> Result<Plan, OpenError> {
    let mut stored_me: Option<NodeId> = stored(log, ME).map_err(OpenError::Store)?;
    if founder.is_none() && me.is_some() && stored_me.is_some() && stored_me != me {
        // It joins another site, under a new id.
        group::forget(log, is_restored).map_err(OpenError::Store)?;
        stored_me = None;
    } else if is_restored {
        // It may have voted, and have had changes, that its store does not know of.
        group::forget(log, true).map_err(OpenError::Store)?;
    }
    let me = match (stored_me, me) {
        (Some(stored), Some(me)) if stored != me => return Err(OpenError::OtherNode { stored, me }),
        (Some(stored), _) => stored,
        (None, Some(me)) => me,
        (None, None) => NodeId(group::draw().map_err(OpenError::Store)?),
    };
    Ok(Plan { me, founder: founder.cloned() })
}

impl Plan {
    /// Makes the store ready, and the book says what it holds. `false`: the store is full, and what is set can be read
    /// alone; it is to be tried again.
    ///
    /// # Errors
    /// What cannot be read or written.
    pub(in crate::catalog) fn make(&self, book: &Book) -> Result<bool, String> {
        let prepared = self.prepare((&book.log, &book.topic), book.level_max);
        let full = match &prepared {
            Err(PrepareError::Write(error)) => error.full().cloned(),
            Err(PrepareError::Other(_)) | Ok(()) => None,
        };
        let is_ready = full.is_none();
        book.set_stalled(full);
        if is_ready {
            prepared.map_err(|error| error.to_string())?;
        }
        fill(book)?;
        Ok(is_ready)
    }

    fn prepare(&self, (log, topic): (&EventLog, &Topic), level: u16) -> Result<(), PrepareError> {
        finish_install(log, topic)?;
        let has_begun = stored::<AppliedV1>(log, APPLIED)?.is_some();
        if let Some(founder) = self.founder.as_ref().filter(|_| !has_begun) {
            let state = load(log)?;
            if group::may_found(log, self.me, &state)? {
                return group::found(log, (self.me, level), founder, &state);
            }
        }
        match stored::<NodeId>(log, ME)? {
            Some(_) => Ok(()),
            None => group::name_me(log, self.me),
        }
    }
}

/// Ends what a crash has left of a state that was being installed. The changes that led to it are told of by nobody here, and that is told.
fn finish_install(log: &EventLog, topic: &Topic) -> Result<(), PrepareError> {
    let span = (applied(log)?.index(), installing(log)?.map_or(0, |applied| applied.index()));
    let mut commits = replace(log)?;
    let Some(last) = commits.pop() else {
        let left = in_commits(leftovers(log)?);
        return Ok(left.iter().try_for_each(|puts| commit_blocking(log, puts))?);
    };
    commits.iter().try_for_each(|puts| commit_blocking(log, puts))?;
    let gap = tell::gap(log.clock().wall_ms(), span);
    let tell = |open: &mut OpenCommit<'_>| {
        if let Err(error) = gap.write(open, topic) {
            tracing::warn!(%error, act = gap.act, "a gap in what is told of changes is not told of");
        }
    };
    Ok(commit_blocking_with(log, &last, &tell)?)
}

/// Up to where the stored state has come.
fn applied(log: &EventLog) -> Result<AppliedV1, String> {
    Ok(stored(log, APPLIED)?.unwrap_or_default())
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

/// Puts what the store holds into the book.
pub(super) fn fill(book: &Book) -> Result<(), String> {
    let log = &book.log;
    let applied = applied(log)?;
    let group: Option<u64> = stored(log, GROUP)?;
    let state = load(log)?;
    *book.ends.lock() = find_ends(log)?;
    book.set_group(group.unwrap_or(0));
    book.take(|held| {
        held.state = Arc::new(state);
        held.applied = applied;
    });
    Ok(())
}
