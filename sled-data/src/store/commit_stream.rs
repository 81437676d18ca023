//! The commit stream: one numbered record a commit, kept up to a bound, for those who follow this store.

use std::ops::ControlFlow;

use super::Store;
use super::commit::{Commit, CursorMove, StateWrite, Touched};
use super::keys;
use super::open::OpenError;
use super::read::ReadError;
use super::recover::refuse;
use super::values::{
    AppendedV1, Bytes, CommitV1, CursorMoveV1, PartitionIdV1, StateWriteV1, ValueError, decode, read_raw, write,
    write_raw,
};
use crate::backend::{Direction, Group, Span, Tree};
use crate::ids::{CommitNumber, Offset, OriginId, PartitionId, TopicId};

/// Payload bytes of a commit record's part; a longer record is stored in parts.
pub(super) const PART_BYTES_MAX: usize = 32 << 10;

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

/// The record of a commit.
pub(super) fn record_v1<'a>(commit: &'a Commit, touched: &[Touched]) -> CommitV1<'a> {
    let appended = |t: &Touched| AppendedV1 {
        partition: to_v1(t.partition.id),
        base_offset: t.before.end,
        count: t.after.end - t.before.end,
        digest: t.after.digest,
    };
    CommitV1 {
        hlc: commit.hlc,
        appended: touched.iter().map(appended).collect(),
        cursors: commit.cursors.iter().map(cursor_v1).collect(),
        state: commit.state.iter().map(state_v1).collect(),
    }
}

/// Adds a record to `group`, in parts where it is long; its stored bytes.
pub(super) fn put_v1(
    origin: OriginId,
    number: CommitNumber,
    record: &CommitV1<'_>,
    group: &mut Group,
    value: &mut Vec<u8>,
) -> u32 {
    let key = keys::commit(origin, number, 0);
    write(&key, record, value);
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

pub(super) fn to_v1(id: PartitionId) -> PartitionIdV1 {
    PartitionIdV1 { origin: id.origin.0, topic: id.topic.0, index: id.index }
}

pub(super) fn from_v1(id: PartitionIdV1) -> PartitionId {
    PartitionId { origin: OriginId(id.origin), topic: TopicId(id.topic), index: id.index }
}

/// A record as it is stored.
pub(super) fn as_v1(record: &CommitRecord) -> CommitV1<'_> {
    let appended = |a: &Appended| AppendedV1 {
        partition: to_v1(a.partition),
        base_offset: a.base_offset,
        count: a.count,
        digest: a.digest,
    };
    CommitV1 {
        hlc: record.hlc,
        appended: record.appended.iter().map(appended).collect(),
        cursors: record.cursors.iter().map(cursor_v1).collect(),
        state: record.state.iter().map(state_v1).collect(),
    }
}

fn cursor_v1(cursor: &CursorMove) -> CursorMoveV1<'_> {
    CursorMoveV1 { reader: &cursor.reader, partition: to_v1(cursor.partition), next: cursor.next }
}

fn state_v1(state: &StateWrite) -> StateWriteV1<'_> {
    StateWriteV1 { tree: &state.tree, key: Bytes(&state.key), value: state.value.as_deref().map(Bytes) }
}

/// Reads a record's payload, whose parts are joined.
pub(super) fn to_record(number: CommitNumber, payload: &[u8]) -> Result<CommitRecord, ValueError> {
    let record: CommitV1<'_> = decode(payload)?;
    let appended = |a: &AppendedV1| Appended {
        partition: from_v1(a.partition),
        base_offset: a.base_offset,
        count: a.count,
        digest: a.digest,
    };
    let cursor = |c: &CursorMoveV1<'_>| CursorMove {
        reader: c.reader.to_owned(),
        partition: from_v1(c.partition),
        next: c.next,
    };
    let state = |s: &StateWriteV1<'_>| StateWrite {
        tree: s.tree.to_owned(),
        key: s.key.0.to_vec(),
        value: s.value.map(|v| v.0.to_vec()),
    };
    Ok(CommitRecord {
        number,
        hlc: record.hlc,
        appended: record.appended.iter().map(appended).collect(),
        cursors: record.cursors.iter().map(cursor).collect(),
        state: record.state.iter().map(state).collect(),
    })
}

/// Shows the records of `origin` from `from` on, each with the bytes of its payload, until `visit` breaks. What lies before a damaged one
/// is shown; the error is for who reads from there.
pub(super) fn walk_records(
    meta: &dyn Tree,
    origin: OriginId,
    from: CommitNumber,
    visit: &mut dyn FnMut(CommitRecord, usize) -> ControlFlow<()>,
) -> Result<(), ReadError> {
    let mut open: Option<(CommitNumber, Vec<u8>)> = None;
    let mut bad = None;
    let (mut shown, mut stopped) = (0_u64, false);
    let mut close = |(number, payload): (CommitNumber, Vec<u8>)| match to_record(number, &payload) {
        Ok(record) => {
            shown += 1;
            visit(record, payload.len())
        }
        Err(e) => {
            bad = Some((number, e));
            ControlFlow::Break(())
        }
    };
    let from = keys::commit(origin, from, 0);
    let to = keys::commit(origin, CommitNumber(u64::MAX), u16::MAX);
    let mut unreadable = None;
    meta.scan(Span::between(&from, &to), Direction::Forward, &mut |key, value| {
        let Some((_, number, part)) = keys::commit_of(key) else {
            return ControlFlow::Continue(());
        };
        if part == 0
            && let Some(whole) = open.take()
            && close(whole).is_break()
        {
            stopped = true;
            return ControlFlow::Break(());
        }
        match (read_raw(key, value), &mut open) {
            (Ok(payload), None) => open = Some((number, payload.to_vec())),
            (Ok(payload), Some((_, joined))) => joined.extend_from_slice(payload),
            (Err(e), _) => {
                unreadable = Some((number, e));
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    })?;
    // A part that is damaged takes its record with it, not the one before.
    let whole = open.filter(|(number, _)| unreadable.is_none_or(|(bad, _)| bad != *number));
    if let (false, Some(whole)) = (stopped, whole) {
        let _ = close(whole);
    }
    match bad.or(unreadable) {
        Some((number, e)) if shown == 0 => {
            Err(ReadError::DamagedMeta { what: format!("the record of commit {number}"), reason: e.to_string() })
        }
        _ => Ok(()),
    }
}

/// Reads up to `max` records from `from` on.
fn read_records(
    meta: &dyn Tree,
    origin: OriginId,
    from: CommitNumber,
    max: usize,
) -> Result<Vec<CommitRecord>, ReadError> {
    let mut records = Vec::new();
    walk_records(meta, origin, from, &mut |record, _| {
        records.push(record);
        if records.len() < max { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    Ok(records)
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
        // One that is being written is not whole yet.
        if max == 0 || from > self.last_commit() {
            return Ok(Vec::new());
        }
        self.meta_read(|meta| read_records(meta, self.origin, from, max))
    }

    /// The hybrid clock of a commit of an origin, own or followed; `None` where its record is not kept.
    ///
    /// # Errors
    /// [`ReadError::DamagedMeta`] for a damaged record, and what reading may meet.
    pub fn clock_of(&self, origin: OriginId, commit: CommitNumber) -> Result<Option<u64>, ReadError> {
        let records = self.meta_read(|meta| read_records(meta, origin, commit, 1))?;
        Ok(records.first().filter(|record| record.number == commit).map(|record| record.hlc))
    }
}
