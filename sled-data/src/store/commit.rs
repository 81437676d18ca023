//! Committing: batches into their partitions' trees, then one atomic group that makes them count.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::commit_stream::{put_v1, record_v1};
use super::kept::KeptRecords;
use super::keys::{self, Owner};
use super::partition::{Partition, remove_batches};
use super::recover::Draw;
use super::ship::encode_shipped;
use super::space;
use super::values::{CursorV1, HeaderV1, PartitionV1, write, write_raw};
use super::{
    COMMIT_BATCH_BYTES_MAX, COMMIT_STATE_BYTES_MAX, NAME_BYTES_MAX, STATE_KEY_BYTES_MAX, STATE_VALUE_BYTES_MAX, Store,
    StoreFailed,
};
use crate::backend::{BackendError, Group};
use crate::batch::{RECORD_BYTES_MAX, SealedBatch, each_value, values_of};
use crate::ids::{CommitNumber, Offset, PartitionId};

/// What becomes durable together or not at all.
#[derive(Clone, Debug, Default)]
pub struct Commit {
    /// Its hybrid logical clock.
    pub hlc: u64,
    /// Batches, in order; several for one partition follow one another.
    pub appends: Vec<SealedBatch>,
    /// Cursors to move.
    pub cursors: Vec<CursorMove>,
    /// State to write.
    pub state: Vec<StateWrite>,
}

/// A reader's cursor moves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CursorMove {
    /// The reader's name.
    pub reader: String,
    /// The partition it reads.
    pub partition: PartitionId,
    /// The offset it reads next.
    pub next: Offset,
}

/// A value of a named state tree is written or removed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateWrite {
    /// The tree's name.
    pub tree: String,
    /// The key.
    pub key: Vec<u8>,
    /// The value; `None` removes the key.
    pub value: Option<Vec<u8>>,
}

/// Why a commit was refused. Nothing of it is stored, and all but [`CommitError::Failed`] leave the store going.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CommitError {
    /// A batch does not begin where its partition ends.
    #[error("{partition} ends at {end}, the batch begins at {base_offset}")]
    NotDense {
        /// The partition.
        partition: PartitionId,
        /// Where it ends, with this commit's earlier batches.
        end: Offset,
        /// Where the batch begins.
        base_offset: Offset,
    },
    /// No topic of this store has the partition, or another life writes it.
    #[error("{0} is not a partition that this store writes")]
    UnknownPartition(PartitionId),
    /// A cursor would pass its partition's end.
    #[error("a cursor of {reader} would pass the end of {partition}")]
    CursorPastEnd {
        /// The reader.
        reader: String,
        /// The partition.
        partition: PartitionId,
    },
    /// A part of the commit is over a bound or has a name that cannot be stored.
    #[error("the commit's {0}")]
    Bound(&'static str),
    /// The disk's reserve or the store's byte bound would be passed.
    #[error("the store is full")]
    Full,
    /// The store has failed and must be opened again.
    #[error(transparent)]
    Failed(#[from] StoreFailed),
}

/// What the one committer at a time holds; buffers are kept.
pub(super) struct Writer {
    pub(super) header: HeaderV1,
    pub(super) kept: KeptRecords,
    pub(super) draw: Draw,
    pub(super) group: Group,
    pub(super) key: Vec<u8>,
    pub(super) value: Vec<u8>,
    touched: Vec<Touched>,
    touched_at: HashMap<PartitionId, usize>,
}

/// A partition that the commit appends to.
pub(super) struct Touched {
    pub(super) partition: Arc<Partition>,
    pub(super) before: PartitionV1,
    pub(super) after: PartitionV1,
}

impl Writer {
    pub(super) fn new(header: HeaderV1, kept: KeptRecords, draw: Draw) -> Writer {
        Writer {
            header,
            kept,
            draw,
            group: Group::new(),
            key: Vec::new(),
            value: Vec::new(),
            touched: Vec::new(),
            touched_at: HashMap::new(),
        }
    }
}

impl Store {
    /// Writes a commit, atomically; it is durable after the next [`Store::sync`], and readable at once.
    ///
    /// # Errors
    /// Any [`CommitError`]; nothing of the commit is stored then.
    pub fn commit(&self, commit: &Commit) -> Result<CommitNumber, CommitError> {
        self.commit_and_ship(commit, None)
    }

    /// As [`Store::commit`]; appends to `shipped` what [`FollowedCommit::encode`](super::FollowedCommit::encode) would make of the commit,
    /// so that what was just written need not be read for those who follow. Nothing is appended where batches of one partition do not
    /// stand together.
    ///
    /// # Errors
    /// As those of [`Store::commit`].
    pub fn commit_and_ship(&self, commit: &Commit, shipped: Option<&mut Vec<u8>>) -> Result<CommitNumber, CommitError> {
        self.check()?;
        check_bounds(commit)?;
        let mut writer = self.writer.lock();
        let writer = &mut *writer;
        let bytes: u64 = commit.appends.iter().map(|b| b.bytes().len() as u64).sum();
        if bytes > COMMIT_BATCH_BYTES_MAX as u64 {
            return Err(CommitError::Bound("batches are too large together"));
        }
        let small = small_bytes(&commit.cursors, &commit.state) as u64;
        space::check(&*self.backend, &self.options, (bytes, small), || self.batch_bytes())?;
        self.plan(commit, writer)?;
        let without = self.without_gone(commit);
        let result = self.write_commit(without.as_ref().unwrap_or(commit), writer, shipped);
        let result = result.map_err(|e| self.undo(writer, &e));
        writer.touched.clear();
        writer.touched_at.clear();
        result
    }

    /// Finds the partitions that are appended to, and where they will end.
    fn plan(&self, commit: &Commit, writer: &mut Writer) -> Result<(), CommitError> {
        writer.touched.clear();
        writer.touched_at.clear();
        for batch in &commit.appends {
            let envelope = batch.envelope();
            let id = envelope.partition;
            let at = match writer.touched_at.get(&id) {
                Some(at) => *at,
                None => {
                    let partition = self.partition_to_write(id)?;
                    let extent = partition.extent();
                    writer.touched.push(Touched { partition, before: extent, after: extent });
                    writer.touched_at.insert(id, writer.touched.len() - 1);
                    writer.touched.len() - 1
                }
            };
            let after = &mut writer.touched[at].after;
            if envelope.base_offset != after.end {
                return Err(CommitError::NotDense { partition: id, end: after.end, base_offset: envelope.base_offset });
            }
            after.end = envelope.next_offset();
            after.bytes += batch.bytes().len() as u64;
            after.digest = after.digest.wrapping_add(envelope.digest);
        }
        for cursor in &commit.cursors {
            let end = match writer.touched_at.get(&cursor.partition) {
                Some(at) => writer.touched[*at].after.end,
                None => self.end_offset(cursor.partition),
            };
            if cursor.next > end && !self.is_gone(cursor.partition) {
                return Err(CommitError::CursorPastEnd { reader: cursor.reader.clone(), partition: cursor.partition });
            }
        }
        Ok(())
    }

    /// Whether a partition that another life has written is not here: retention has dropped it, or its origin was forgotten, while its
    /// reader was at work.
    fn is_gone(&self, id: PartitionId) -> bool {
        id.origin != self.origin && self.partition(id).is_none()
    }

    /// The commit without cursors that move on in partitions that are gone, where it has any: they went with those, and hold up nobody.
    fn without_gone(&self, commit: &Commit) -> Option<Commit> {
        let is_gone = |cursor: &CursorMove| cursor.next > 0 && self.is_gone(cursor.partition);
        if !commit.cursors.iter().any(is_gone) {
            return None;
        }
        let mut without = commit.clone();
        without.cursors.retain(|cursor| !is_gone(cursor));
        Some(without)
    }

    /// The partition, made when this is its first batch.
    fn partition_to_write(&self, id: PartitionId) -> Result<Arc<Partition>, CommitError> {
        if id.origin != self.origin {
            return Err(CommitError::UnknownPartition(id));
        }
        if let Some(partition) = self.partition(id) {
            return Ok(partition);
        }
        let partitions = self.topics.read().get(&id.topic).map_or(0, |t| t.config.partitions);
        if id.index >= partitions {
            return Err(CommitError::UnknownPartition(id));
        }
        self.make_partition(id).map_err(|e| match e {
            BackendError::Full => CommitError::Full,
            e => self.fail(&e).into(),
        })
    }

    /// A partition that holds nothing yet; its first commit makes it last.
    pub(super) fn make_partition(&self, id: PartitionId) -> Result<Arc<Partition>, BackendError> {
        self.dropping.wait(id);
        let tree = self.backend.log_tree(&keys::partition_tree(id))?;
        let partition = Arc::new(Partition::new(id, tree, PartitionV1::default()));
        self.partitions.write().insert(id, partition.clone());
        Ok(partition)
    }

    fn write_commit(
        &self,
        commit: &Commit,
        writer: &mut Writer,
        shipped: Option<&mut Vec<u8>>,
    ) -> Result<CommitNumber, BackendError> {
        let appends = commit.appends.iter().filter_map(|batch| {
            let at = writer.touched_at.get(&batch.envelope().partition)?;
            Some((*at, batch.envelope().base_offset, batch.bytes()))
        });
        insert_batches(&writer.touched, appends, &mut writer.value)?;
        let Writer { group, key, value, touched, kept, .. } = writer;
        group.clear();
        for Touched { partition, after, .. } in touched.iter() {
            let key = keys::partition(partition.id);
            write(&key, after, value);
            group.put(&key, value);
        }
        put_small(Owner::Own, &commit.cursors, &commit.state, group, key, value);
        let number = kept.last().next();
        let record = record_v1(commit, touched);
        let record_bytes = put_v1(self.origin, number, &record, group, value);
        if let Some(out) = shipped.filter(|_| stand_together(&commit.appends, touched)) {
            encode_shipped(self.origin, number, &record, &commit.appends, out);
        }
        let trimmed = kept.trim(self.origin, &self.options, &[record_bytes], group);
        self.meta.apply(group)?;
        kept.apply(&[record_bytes], trimmed);
        for Touched { partition, after, .. } in touched.iter() {
            partition.set_extent(*after);
        }
        self.committed.store(number.0, Ordering::Release);
        Ok(number)
    }

    /// Takes back what a refused commit has written. Where that fails as well, or the group itself did, the store stops.
    fn undo(&self, writer: &Writer, error: &BackendError) -> CommitError {
        if !matches!(error, BackendError::Full) {
            return self.fail(error).into();
        }
        for Touched { partition, before, .. } in &writer.touched {
            if let Err(e) = remove_batches(partition.tree(), before.end, None) {
                return self.fail(&e).into();
            }
        }
        CommitError::Full
    }
}

/// Whether the batches of each partition stand together, in the order in which the partitions are in the record.
fn stand_together(appends: &[SealedBatch], touched: &[Touched]) -> bool {
    let runs = appends.chunk_by(|a, b| a.envelope().partition == b.envelope().partition);
    runs.map(|run| run.first().map(|batch| batch.envelope().partition)).eq(touched.iter().map(|t| Some(t.partition.id)))
}

/// Adds cursors and state to `group`.
pub(super) fn put_small(
    owner: Owner,
    cursors: &[CursorMove],
    state: &[StateWrite],
    group: &mut Group,
    key: &mut Vec<u8>,
    value: &mut Vec<u8>,
) {
    for cursor in cursors {
        keys::cursors(owner, &cursor.reader, key);
        key.extend_from_slice(&cursor.partition.to_bytes());
        write(key, &CursorV1 { next: cursor.next }, value);
        group.put(key, value);
    }
    for state in state {
        keys::state(owner, &state.tree, key);
        key.extend_from_slice(&state.key);
        match &state.value {
            Some(bytes) => {
                write_raw(key, value, |out| out.extend_from_slice(bytes));
                group.put(key, value);
            }
            None => group.remove(key),
        }
    }
}

/// Writes batches into their partitions' trees: of each the partition's place among those touched, the base offset, and its bytes.
pub(super) fn insert_batches<'a>(
    touched: &[Touched],
    appends: impl Iterator<Item = (usize, Offset, &'a [u8])> + Clone,
    buffer: &mut Vec<u8>,
) -> Result<(), BackendError> {
    announce(touched, appends.clone())?;
    for (at, base, batch) in appends {
        let tree = touched[at].partition.tree();
        each_value(batch, buffer, |part, bytes| match part {
            0 => tree.insert(&keys::batch(base), bytes),
            part => tree.insert(&keys::batch_part(base, part), bytes),
        })?;
    }
    Ok(())
}

/// Says to each partition's tree what comes, where that is more than one value.
fn announce<'a>(
    touched: &[Touched],
    appends: impl Iterator<Item = (usize, Offset, &'a [u8])> + Clone,
) -> Result<(), BackendError> {
    let mut coming = vec![(0, 0); touched.len()];
    for (at, _, batch) in appends.clone() {
        let (values, bytes): &mut (usize, usize) = &mut coming[at];
        *values += usize::from(values_of(batch.len()));
        *bytes += batch.len();
    }
    // One pass, however many partitions there are: this is under the writer.
    let mut keys: Vec<Vec<Vec<u8>>> = vec![Vec::new(); touched.len()];
    for (at, base, batch) in appends.filter(|(at, ..)| coming[*at].0 > 1) {
        keys[at].push(keys::batch(base).to_vec());
        keys[at].extend((1..values_of(batch.len())).map(|part| keys::batch_part(base, part).to_vec()));
    }
    let announced = touched.iter().zip(&keys).zip(&coming).filter(|((_, keys), _)| !keys.is_empty());
    for ((Touched { partition, .. }, keys), (_, bytes)) in announced {
        partition.tree().announce(keys, *bytes)?;
    }
    Ok(())
}

fn check_bounds(commit: &Commit) -> Result<(), CommitError> {
    for batch in &commit.appends {
        if batch.envelope().record_bytes as usize > RECORD_BYTES_MAX {
            return Err(CommitError::Bound("batch is too large"));
        }
        if batch.envelope().count == 0 {
            return Err(CommitError::Bound("batch is empty"));
        }
    }
    check_small(&commit.cursors, &commit.state).map_err(CommitError::Bound)
}

/// Whether a commit may move these cursors and write this state; what is wrong.
pub(super) fn check_small(cursors: &[CursorMove], state: &[StateWrite]) -> Result<(), &'static str> {
    let name_fits = |name: &str| !name.is_empty() && name.len() <= NAME_BYTES_MAX && !name.contains('\0');
    if !cursors.iter().all(|c| name_fits(&c.reader)) {
        return Err("cursor has a name that cannot be stored");
    }
    for write in state {
        let value_len = write.value.as_ref().map_or(0, Vec::len);
        if !name_fits(&write.tree) {
            return Err("state has a tree name that cannot be stored");
        }
        if write.key.len() > STATE_KEY_BYTES_MAX || value_len > STATE_VALUE_BYTES_MAX {
            return Err("state has a key or value that is too large");
        }
    }
    if small_bytes(cursors, state) > COMMIT_STATE_BYTES_MAX {
        Err("state and cursors are too large together")
    } else {
        Ok(())
    }
}

/// Bytes of cursors and state, as they are counted.
pub(super) fn small_bytes(cursors: &[CursorMove], state: &[StateWrite]) -> usize {
    let cursors: usize = cursors.iter().map(|c| c.reader.len() + 64).sum();
    let of = |write: &StateWrite| write.tree.len() + write.key.len() + write.value.as_ref().map_or(0, Vec::len) + 16;
    cursors + state.iter().map(of).sum::<usize>()
}
