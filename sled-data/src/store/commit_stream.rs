//! The commit stream: one numbered record a commit, kept up to a bound, for those who follow this store.

use std::collections::VecDeque;
use std::ops::ControlFlow;

use super::Store;
use super::commit::{Commit, CursorMove, StateWrite, Touched};
use super::keys;
use super::open::{OpenError, Options};
use super::read::ReadError;
use super::recover::refuse;
use super::values::{
    AppendedV1, Bytes, CommitV1, CursorMoveV1, PartitionIdV1, StateWriteV1, ValueError, decode, read_raw, write,
    write_raw,
};
use crate::backend::{Direction, Group, Span, Tree};
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId, TopicId};

/// Payload bytes of a commit record's part; a longer record is stored in parts.
const PART_BYTES_MAX: usize = 32 << 10;

/// One commit as its followers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CommitRecord {
    /// Its number.
    pub number: CommitNumber,
    /// Its hybrid logical clock.
    pub hlc: u64,
    /// What it appended, a partition each.
    pub appended: Vec<Appended>,
    /// Cursors it moved.
    pub cursors: Vec<CursorMove>,
    /// State it wrote.
    pub state: Vec<StateWrite>,
}

/// What a commit appended to one partition.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct Appended {
    /// The partition.
    pub partition: PartitionId,
    /// Offset of its first event.
    pub base_offset: Offset,
    /// Number of its events.
    pub count: u64,
    /// The partition's running digest after it.
    pub digest: u64,
}

/// Which commit records there are, by number and bytes.
#[derive(Debug, Default)]
pub(super) struct KeptRecords {
    last: CommitNumber,
    /// Bytes and parts of each, the oldest first.
    sizes: VecDeque<(u32, u16)>,
    bytes: u64,
}

/// Most records that one commit removes.
const TRIM_RECORDS_MAX: usize = 4;

impl KeptRecords {
    /// Finds the records of `origin`.
    pub(super) fn load(meta: &dyn Tree, origin: OriginId) -> Result<KeptRecords, OpenError> {
        let mut kept = KeptRecords::default();
        let from = keys::commit(origin, CommitNumber(0), 0);
        let to = keys::commit(origin, CommitNumber(u64::MAX), u16::MAX);
        let mut gap = false;
        meta.scan(Span::between(&from, &to), Direction::Forward, &mut |key, value| {
            let Some((_, number, part)) = keys::commit_of(key) else {
                return ControlFlow::Continue(());
            };
            let size = value.len() as u32;
            kept.bytes += u64::from(size);
            match kept.sizes.back_mut() {
                Some(last) if part > 0 && number == kept.last => *last = (last.0 + size, last.1 + 1),
                Some(_) if number != kept.last.next() => gap = true,
                _ => kept.sizes.push_back((size, 1)),
            }
            kept.last = number;
            if gap { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        })?;
        if gap {
            return Err(OpenError::Damaged(format!("commit records are missing before {}", kept.last)));
        }
        Ok(kept)
    }

    pub(super) fn last(&self) -> CommitNumber {
        self.last
    }

    /// The oldest that is kept; the next one where none is.
    pub(super) fn first(&self) -> CommitNumber {
        CommitNumber(self.last.0 + 1 - self.sizes.len() as u64)
    }

    /// Removes, in `group`, the oldest records while there are too many; how many that are. The newest always stays.
    pub(super) fn trim(&self, origin: OriginId, options: &Options, adding: u32, group: &mut Group) -> usize {
        let mut bytes = self.bytes + u64::from(adding);
        let mut trimmed = 0;
        for (size, parts) in self.sizes.iter().take(TRIM_RECORDS_MAX) {
            let number = self.sizes.len() + 1 - trimmed;
            if number <= options.commit_records_max && bytes <= options.commit_record_bytes_max {
                break;
            }
            let commit = CommitNumber(self.first().0 + trimmed as u64);
            for part in 0..*parts {
                group.remove(&keys::commit(origin, commit, part));
            }
            bytes -= u64::from(*size);
            trimmed += 1;
        }
        trimmed
    }

    /// Takes note that a record was written and the oldest `trimmed` removed.
    pub(super) fn apply(&mut self, number: CommitNumber, added: u32, trimmed: usize) {
        let removed: u64 = self.sizes.drain(..trimmed).map(|(size, _)| u64::from(size)).sum();
        self.bytes = self.bytes + u64::from(added) - removed;
        self.sizes.push_back((added, added.div_ceil(PART_BYTES_MAX as u32 + 5).max(1) as u16));
        self.last = number;
    }
}

/// Adds a commit's record to `group`; its stored bytes.
pub(super) fn put_record(
    origin: OriginId,
    number: CommitNumber,
    commit: &Commit,
    touched: &[Touched],
    group: &mut Group,
    value: &mut Vec<u8>,
) -> u32 {
    let record = CommitV1 {
        hlc: commit.hlc,
        appended: touched
            .iter()
            .map(|t| AppendedV1 {
                partition: to_v1(t.partition.id),
                base_offset: t.before.end,
                count: t.after.end - t.before.end,
                digest: t.after.digest,
            })
            .collect(),
        cursors: commit
            .cursors
            .iter()
            .map(|c| CursorMoveV1 { reader: &c.reader, partition: to_v1(c.partition), next: c.next })
            .collect(),
        state: commit
            .state
            .iter()
            .map(|s| StateWriteV1 { tree: &s.tree, key: Bytes(&s.key), value: s.value.as_deref().map(Bytes) })
            .collect(),
    };
    let key = keys::commit(origin, number, 0);
    write(&key, &record, value);
    if value.len() <= PART_BYTES_MAX + 5 {
        group.put(&key, value);
        return value.len() as u32;
    }
    let payload = value.split_off(5);
    let mut bytes = 0;
    for (part, payload) in payload.chunks(PART_BYTES_MAX).enumerate() {
        let key = keys::commit(origin, number, part as u16);
        write_raw(&key, value, |out| out.extend_from_slice(payload));
        group.put(&key, value);
        bytes += value.len() as u32;
    }
    bytes
}

fn to_v1(id: PartitionId) -> PartitionIdV1 {
    PartitionIdV1 { origin: id.origin.0, topic: id.topic.0, index: id.index }
}

fn from_v1(id: PartitionIdV1) -> PartitionId {
    PartitionId { origin: OriginId(id.origin), topic: TopicId(id.topic), index: id.index }
}

fn to_record(number: CommitNumber, payload: &[u8]) -> Result<CommitRecord, ValueError> {
    let record: CommitV1<'_> = decode(payload)?;
    Ok(CommitRecord {
        number,
        hlc: record.hlc,
        appended: record
            .appended
            .iter()
            .map(|a| Appended {
                partition: from_v1(a.partition),
                base_offset: a.base_offset,
                count: a.count,
                digest: a.digest,
            })
            .collect(),
        cursors: record
            .cursors
            .iter()
            .map(|c| CursorMove { reader: c.reader.to_owned(), partition: from_v1(c.partition), next: c.next })
            .collect(),
        state: record
            .state
            .iter()
            .map(|s| StateWrite {
                tree: s.tree.to_owned(),
                key: s.key.0.to_vec(),
                value: s.value.map(|v| v.0.to_vec()),
            })
            .collect(),
    })
}

/// Reads up to `max` records from `from` on; parts are joined.
fn read_records(
    meta: &dyn Tree,
    origin: OriginId,
    from: CommitNumber,
    max: usize,
) -> Result<Vec<CommitRecord>, ReadError> {
    let mut records = Vec::new();
    let mut open: Option<(CommitNumber, Vec<u8>)> = None;
    let mut bad = None;
    let from = keys::commit(origin, from, 0);
    let to = keys::commit(origin, CommitNumber(u64::MAX), u16::MAX);
    let mut close = |open: &mut Option<(CommitNumber, Vec<u8>)>, bad: &mut Option<_>| {
        if let Some((number, payload)) = open.take() {
            match to_record(number, &payload) {
                Ok(record) => records.push(record),
                Err(e) => *bad = Some((number, e)),
            }
        }
        records.len()
    };
    meta.scan(Span::between(&from, &to), Direction::Forward, &mut |key, value| {
        let Some((_, number, part)) = keys::commit_of(key) else {
            return ControlFlow::Continue(());
        };
        if part == 0 && close(&mut open, &mut bad) >= max {
            return ControlFlow::Break(());
        }
        match (read_raw(key, value), &mut open) {
            (Ok(payload), None) => open = Some((number, payload.to_vec())),
            (Ok(payload), Some((_, joined))) => joined.extend_from_slice(payload),
            (Err(e), _) => bad = Some((number, e)),
        }
        if bad.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if bad.is_none() {
        close(&mut open, &mut bad);
    }
    match bad {
        Some((number, e)) if records.is_empty() => {
            Err(ReadError::DamagedMeta { what: format!("the record of commit {number}"), reason: e.to_string() })
        }
        _ => Ok(records),
    }
}

/// The hybrid clock of the newest commit record.
pub(super) fn last_hlc(meta: &dyn Tree, origin: OriginId, last: CommitNumber) -> Result<u64, OpenError> {
    if last == CommitNumber(0) {
        return Ok(0);
    }
    match read_records(meta, origin, last, 1) {
        Ok(records) => Ok(records.first().map_or(0, |r| r.hlc)),
        Err(ReadError::DamagedMeta { what, reason }) => Err(OpenError::Damaged(format!("{what}: {reason}"))),
        Err(e) => Err(OpenError::Io(e.to_string())),
    }
    .and_then(|hlc| {
        let key = keys::commit(origin, last, 0);
        match meta.get(&key)? {
            Some(value) => read_raw(&key, &value).map(|_| hlc).map_err(|e| refuse("the newest commit's record", e)),
            None => Ok(hlc),
        }
    })
}

impl Store {
    /// The oldest commit whose record is kept; the next commit where none is.
    pub fn first_kept_commit(&self) -> CommitNumber {
        self.writer.lock().kept.first()
    }

    /// Records of this life's commits from `from` on, at most `max`, durable or not (see [`Store::synced_commit`]).
    ///
    /// # Errors
    /// [`ReadError::CommitsTrimmed`] when `from` is older than what is kept, [`ReadError::DamagedMeta`] for a damaged record.
    pub fn commits(&self, from: CommitNumber, max: usize) -> Result<Vec<CommitRecord>, ReadError> {
        let from = from.max(CommitNumber(1));
        let first = self.first_kept_commit();
        if from < first {
            return Err(ReadError::CommitsTrimmed { first });
        }
        if max == 0 {
            return Ok(Vec::new());
        }
        self.meta_read(|meta| read_records(meta, self.origin, from, max))
    }
}
