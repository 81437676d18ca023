//! Writes to the store through the event log, as often as it takes: a full disk is waited out.

use std::time::Duration;

use openraft::{AnyError, StorageError, StorageIOError};

use super::book::Book;
use crate::event_log::{AppendError, CommitFailed, EventLog, OpenCommit, Ticket, fits_state};
use crate::transport::NodeId;

/// How long to wait before a full store is tried again.
const FULL_RETRY: Duration = Duration::from_millis(250);
/// How often a commit is tried again that was refused for what another room had put into it, and after which time.
const REFUSED_TRIES_MAX: u32 = 20;
const REFUSED_RETRY: Duration = Duration::from_millis(50);
/// Bytes of one commit of many entries, more or less.
pub(super) const COMMIT_BYTES: usize = 512 << 10;

/// One entry of a small named tree; `None` deletes it.
pub(super) type Put = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// An entry is larger than the store takes.
    #[error("an entry of {0} bytes is larger than the store takes")]
    TooLarge(usize),
    /// The log takes nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It did not become durable.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// The catalog is being closed.
    #[error("the catalog is being closed")]
    Closing,
}

impl WriteError {
    /// Why it may go better later: the store is full.
    pub(super) fn full(&self) -> Option<&CommitFailed> {
        match self {
            Self::Append(AppendError::Refused(why)) | Self::Commit(why) => Some(why),
            Self::Append(_) | Self::TooLarge(_) | Self::Closing => None,
        }
        .filter(|why| matches!(why, CommitFailed::Full(_)))
    }

    /// Whether it may go better in another commit: the store did not take what was in this one, which others had written to as well.
    fn is_of_this_commit(&self) -> bool {
        matches!(self, Self::Commit(CommitFailed::Refused(_)))
    }
}

/// Writes entries in one commit, with all that `tell` appends to it. Durable on return.
///
/// # Errors
/// When the store failed, or closes. A full one is waited for.
pub(super) async fn commit(
    book: &Book,
    puts: &[Put],
    tell: impl Fn(&mut OpenCommit<'_>) + Send + Sync,
) -> Result<(), WriteError> {
    let mut tries = 0;
    loop {
        let written = match begin(&book.log, puts, &tell) {
            Ok(ticket) => book.log.durable(ticket).await.map_err(WriteError::from),
            Err(error) => Err(error),
        };
        if written.as_ref().is_err_and(WriteError::is_of_this_commit) && tries < REFUSED_TRIES_MAX {
            tries += 1;
            tokio::time::sleep(REFUSED_RETRY).await;
            continue;
        }
        let full = written.as_ref().err().and_then(WriteError::full).cloned();
        let is_full = full.is_some();
        book.set_stalled(full);
        match is_full {
            false => return written,
            true if book.is_closing() => return Err(WriteError::Closing),
            true => tokio::time::sleep(FULL_RETRY).await,
        }
    }
}

/// Writes entries and waits for them, on a thread that may wait.
///
/// # Errors
/// When the store is full, failed, or closes.
pub(super) fn commit_blocking(log: &EventLog, puts: &[Put]) -> Result<(), WriteError> {
    commit_blocking_with(log, puts, &|_: &mut OpenCommit<'_>| {})
}

/// The same with all that `tell` appends to it.
///
/// # Errors
/// As [`commit_blocking`].
pub(super) fn commit_blocking_with(
    log: &EventLog,
    puts: &[Put],
    tell: &dyn Fn(&mut OpenCommit<'_>),
) -> Result<(), WriteError> {
    let mut tries = 0;
    loop {
        let ticket = begin(log, puts, tell)?;
        let written = log.durable_blocking(ticket).map_err(WriteError::from);
        if !written.as_ref().is_err_and(WriteError::is_of_this_commit) || tries == REFUSED_TRIES_MAX {
            return written;
        }
        tries += 1;
        std::thread::sleep(REFUSED_RETRY);
    }
}

fn begin(log: &EventLog, puts: &[Put], tell: &dyn Fn(&mut OpenCommit<'_>)) -> Result<Ticket, WriteError> {
    let bytes = |(_, _, value): &Put| value.as_ref().map_or(0, Vec::len);
    if let Some(large) = puts.iter().find(|(_, key, value)| !fits_state(key, value.as_deref().unwrap_or_default())) {
        return Err(WriteError::TooLarge(bytes(large)));
    }
    let mut open = log.lock();
    open.check(0)?;
    tell(&mut open);
    for (tree, key, value) in puts {
        open.put_state(tree, key, value.as_deref());
    }
    Ok(open.ticket())
}

/// Cuts many entries into commits of a bounded size.
pub(super) fn in_commits(puts: Vec<Put>) -> Vec<Vec<Put>> {
    let mut commits: Vec<Vec<Put>> = Vec::new();
    let mut bytes = COMMIT_BYTES;
    for put in puts {
        if bytes >= COMMIT_BYTES {
            commits.push(Vec::new());
            bytes = 0;
        }
        bytes += put.1.len() + put.2.as_ref().map_or(0, Vec::len);
        if let Some(commit) = commits.last_mut() {
            commit.push(put);
        }
    }
    commits
}

/// As openraft is told that it must stop.
pub(super) fn fatal(error: impl std::fmt::Display) -> StorageError<NodeId> {
    StorageIOError::write(AnyError::error(error)).into()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn what_another_room_has_put_into_the_commit_does_not_end_the_consensus() {
        let (store, recovered) = sled_data::Store::on(
            std::sync::Arc::new(sled_data::MemoryBackend::new()),
            sled_data::Options { seed: Some(3), ..Default::default() },
        )
        .unwrap();
        let clock = std::sync::Arc::new(crate::clock::Clock::starting_after(recovered.last_hlc));
        let log = EventLog::open(std::sync::Arc::new(store), clock, crate::event_log::Config::default()).unwrap();
        let topic = log.ensure_topic("a", None).unwrap();
        let id = topic.partition(0).unwrap().id();
        // Another room spoils commits, as long as it may.
        let (spoils, begun) = (std::sync::atomic::AtomicBool::new(true), std::sync::Barrier::new(2));
        std::thread::scope(|scope| {
            let spoiler = scope.spawn(|| {
                let mut refused = 0;
                while refused == 0 || spoils.load(std::sync::atomic::Ordering::Relaxed) {
                    let ticket = {
                        let mut open = log.lock();
                        open.move_cursor("reader", id, u64::MAX);
                        open.ticket()
                    };
                    let is_refused = log.durable_blocking(ticket).is_err();
                    refused += u32::from(is_refused);
                    if is_refused && refused == 1 {
                        begun.wait();
                    }
                    if refused == 10 {
                        return refused;
                    }
                }
                refused
            });
            let put: Put = ("tree", b"key".to_vec(), Some(b"value".to_vec()));
            begun.wait();
            commit_blocking(&log, &[put]).unwrap();
            spoils.store(false, std::sync::atomic::Ordering::Relaxed);
            assert!(spoiler.join().unwrap() > 0);
        });
        assert_eq!(log.state_get("tree", b"key").unwrap().unwrap(), b"value");
        // What the store never takes is given up.
        let cursor = |open: &mut OpenCommit<'_>| open.move_cursor("reader", id, u64::MAX);
        let ticket = begin(&log, &[], &cursor).unwrap();
        let refused = WriteError::from(log.durable_blocking(ticket).unwrap_err());
        assert!(refused.is_of_this_commit() && refused.full().is_none(), "{refused}");
        log.close();
    }

    #[test]
    fn many_entries_are_cut_into_commits() {
        let put = |bytes: usize| -> Put { ("t", vec![0; 8], Some(vec![0; bytes])) };
        let sizes = |puts: Vec<Put>| in_commits(puts).iter().map(Vec::len).collect::<Vec<_>>();
        assert!(sizes(Vec::new()).is_empty());
        assert_eq!(sizes(vec![put(1), put(2)]), [2]);
        assert_eq!(sizes((0..30).map(|_| put(50 << 10)).collect()), [11, 11, 8]);
    }
}
