//! The log of changes that are not in the state yet, and a little more: in tree `raft`, through the event log.

use std::fmt::Debug;
use std::ops::{Bound, RangeBounds};
use std::sync::Arc;

use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{Entry, LogId, LogState, OptionalSend, RaftLogReader, StorageError, Vote};

use super::Types;
use super::book::{Book, Ends};
use super::snapshot::APPLIED;
use super::stored::{AppliedV1, EntryV1, LogIdV1, PayloadV1, RolesV1, VoteV1, decode, encode};
use super::writer::{Put, commit, fatal};
use crate::event_log::EventLog;
use crate::transport::NodeId;

/// The small named tree of the consensus.
pub(super) const RAFT_TREE: &str = "raft";
/// Whom this node has given its vote.
pub(super) const VOTE: &[u8] = b"vote";
/// The last entry that was cut off.
pub(super) const PURGED: &[u8] = b"purged";
/// What the key of an entry begins with; its number follows, eight bytes, the highest first.
pub(super) const LOG: &[u8] = b"log/";
/// Entries read at once.
const READ_MAX: usize = 64;
/// Bytes of entries that are sent at once, unless one alone has more.
const SENT_BYTES: usize = 48 << 10;

/// The log, for openraft.
#[derive(Clone)]
pub(super) struct LogStore {
    pub(super) book: Arc<Book>,
}

/// The key of an entry.
pub(super) fn log_key(index: u64) -> Vec<u8> {
    [LOG, &index.to_be_bytes()].concat()
}

/// The entries from `from` on, before `to`, at most `max`.
pub(super) fn read(log: &EventLog, from: u64, to: u64, max: usize) -> Result<Vec<EntryV1>, String> {
    let mut found = Vec::new();
    let mut next = from;
    while next < to && found.len() < max {
        let after = next.checked_sub(1).map(log_key);
        let page = log
            .state_scan(RAFT_TREE, LOG, after.as_deref(), READ_MAX.min(max - found.len()))
            .map_err(|error| error.to_string())?;
        let Some((last, _)) = page.last() else { break };
        next = index_of(last).ok_or("a key of the log is damaged")?.saturating_add(1);
        for (key, value) in &page {
            if index_of(key).is_none_or(|index| index >= to) {
                return Ok(found);
            }
            let entry = decode(value).ok_or("an entry of the log is damaged or of a newer edgeway")?;
            found.push(entry);
        }
    }
    Ok(found)
}

fn index_of(key: &[u8]) -> Option<u64> {
    key.strip_prefix(LOG)?.try_into().ok().map(u64::from_be_bytes)
}

/// What is stored under a key, if anything is.
pub(super) fn stored<T: for<'a> serde::Deserialize<'a>>(log: &EventLog, key: &[u8]) -> Result<Option<T>, String> {
    let damaged = || format!("entry {} is damaged or of a newer edgeway", String::from_utf8_lossy(key));
    let value = log.state_get(RAFT_TREE, key).map_err(|error| error.to_string())?;
    value.map(|value| decode(&value).ok_or_else(damaged)).transpose()
}

/// Finds the ends of the stored log.
pub(super) fn find_ends(log: &EventLog) -> Result<Ends, String> {
    let purged: Option<LogIdV1> = stored(log, PURGED)?;
    let mut last = purged;
    loop {
        let page = read(log, last.map_or(0, |last| last.index + 1), u64::MAX, READ_MAX)?;
        match page.last() {
            Some(entry) => last = Some(entry.id),
            None => return Ok(Ends { purged, last }),
        }
    }
}

/// The roles that count: the newest in the log, agreed on or not yet, and those of the state where there are none.
pub(super) fn newest_roles(log: &EventLog) -> Result<RolesV1, String> {
    let applied: AppliedV1 = stored(log, APPLIED)?.unwrap_or_default();
    let behind = read(log, applied.last.map_or(0, |last| last.index + 1), u64::MAX, usize::MAX)?;
    let roles = |entry: EntryV1| match entry.payload {
        PayloadV1::Roles(roles) => Some(roles),
        PayloadV1::Blank | PayloadV1::Proposal(_) => None,
    };
    Ok(behind.into_iter().rev().find_map(roles).unwrap_or(applied.roles))
}

/// Deletes entries.
pub(super) fn deleted(indexes: std::ops::RangeInclusive<u64>) -> impl Iterator<Item = Put> {
    indexes.map(|index| (RAFT_TREE, log_key(index), None))
}

impl LogStore {
    async fn commit(&self, puts: Vec<Put>) -> Result<(), StorageError<NodeId>> {
        commit(&self.book, &puts, |_| {}).await.map_err(fatal)
    }
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        let from = match range.start_bound() {
            Bound::Included(from) => *from,
            Bound::Excluded(from) => from.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(to) => to.saturating_add(1),
            Bound::Excluded(to) => *to,
            Bound::Unbounded => u64::MAX,
        };
        let entries = read(&self.book.log, from, to, usize::MAX).map_err(fatal)?;
        Ok(entries.into_iter().map(Entry::from).collect())
    }

    async fn limited_get_log_entries(&mut self, from: u64, to: u64) -> Result<Vec<Entry<Types>>, StorageError<NodeId>> {
        let entries = read(&self.book.log, from, to, READ_MAX).map_err(fatal)?;
        let mut bytes = 0;
        let fits = |(at, entry): &(usize, EntryV1)| {
            bytes += encode(entry).len();
            *at == 0 || bytes <= SENT_BYTES
        };
        Ok(entries.into_iter().enumerate().take_while(fits).map(|(_, entry)| entry.into()).collect())
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError<NodeId>> {
        let ends = *self.book.ends.lock();
        Ok(LogState { last_purged_log_id: ends.purged.map(LogId::from), last_log_id: ends.last.map(LogId::from) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<NodeId>) -> Result<(), StorageError<NodeId>> {
        let vote = encode(&VoteV1::from(*vote));
        self.commit(vec![(RAFT_TREE, VOTE.to_vec(), Some(vote))]).await
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<NodeId>>, StorageError<NodeId>> {
        let vote = stored::<VoteV1>(&self.book.log, VOTE).map_err(fatal)?;
        let is_alone = newest_roles(&self.book.log).map_err(fatal)?.is_alone(self.book.me);
        // openraft has one that led go on at once, in the term in which it did. Its disk may be an older image than it was: what came into its
        // log then would have the term and the number of what others have, and they would say that they have it. So it has to be elected.
        let leads_on = |vote: &VoteV1| vote.leader != self.book.me || is_alone;
        Ok(vote.map(|vote| VoteV1 { is_won: vote.is_won && leads_on(&vote), ..vote }.into()))
    }

    async fn append<I>(&mut self, entries: I, done: LogFlushed<Types>) -> Result<(), StorageError<NodeId>>
    where
        I: IntoIterator<Item = Entry<Types>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let entries: Vec<EntryV1> = entries.into_iter().map(EntryV1::from).collect();
        let put = |entry: &EntryV1| (RAFT_TREE, log_key(entry.id.index), Some(encode(entry)));
        let puts = entries.iter().map(put).collect();
        self.commit(puts).await?;
        if let Some(entry) = entries.last() {
            self.book.ends.lock().last = Some(entry.id);
        }
        done.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, from: LogId<NodeId>) -> Result<(), StorageError<NodeId>> {
        let ends = *self.book.ends.lock();
        let Some(last) = ends.last.filter(|last| last.index >= from.index) else { return Ok(()) };
        let before = from.index.checked_sub(1);
        let before = before.map(|before| read(&self.book.log, before, from.index, 1)).transpose().map_err(fatal)?;
        self.commit(deleted(from.index..=last.index).collect()).await?;
        let before = before.and_then(|entries| entries.first().map(|entry| entry.id));
        self.book.ends.lock().last = before.or(ends.purged);
        Ok(())
    }

    async fn purge(&mut self, up_to: LogId<NodeId>) -> Result<(), StorageError<NodeId>> {
        let up_to = LogIdV1::from(up_to);
        let before = {
            let mut ends = self.book.ends.lock();
            let before = *ends;
            ends.purged = Some(up_to);
            ends.last = ends.last.filter(|last| last.index > up_to.index).or(Some(up_to));
            before
        };
        // A state that is being installed cuts the log itself, in the commit that makes it whole.
        if up_to.index > self.book.applied_index() {
            return Ok(());
        }
        let first = before.purged.map_or(0, |purged| purged.index + 1);
        let last = before.last.map_or(0, |last| last.index.min(up_to.index));
        let mut puts: Vec<Put> = deleted(first..=last).collect();
        puts.push((RAFT_TREE, PURGED.to_vec(), Some(encode(&up_to))));
        self.commit(puts).await
    }
}
