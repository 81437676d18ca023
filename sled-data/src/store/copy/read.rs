//! Reading a copy at its source, in a fixed order: the head's partitions one by one, all cursors, all state.

use std::ops::ControlFlow;

use super::{CopyExtent, CopyHead, CopyPart};
use crate::backend::{Direction, Span};
use crate::batch::Envelope;
use crate::ids::{Offset, OriginId, PARTITION_ID_BYTES, PartitionId};
use crate::store::commit_stream::last_hlc;
use crate::store::read::{ReadError, View};
use crate::store::values::{CopyV1, CursorV1, ValueError, read, read_raw};
use crate::store::walk::walk;
use crate::store::{CursorMove, Store, keys};

/// Most parts that one call reads.
const PARTS_MAX: usize = 16_384;
/// How often a partition is read anew because a trim went by.
const TRIES_MAX: u32 = 8;
/// Bytes of batches that are read for a digest before memory is let go of, where that is due.
const DIGEST_STEP_BYTES: usize = 4 << 20;

/// How far the reading of a copy has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CopyPosition(Place);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Place {
    /// In the head's partitions, by their place there; from this offset on in the first, unless nothing of it was read.
    Partitions(usize, Option<Offset>),
    /// In the cursors, after this key.
    Cursors(Vec<u8>),
    /// In the state, after this key.
    State(Vec<u8>),
}

/// Parts while there is room for them.
struct Parts {
    parts: Vec<CopyPart>,
    bytes: usize,
    bytes_max: usize,
}

impl Parts {
    fn is_full(&self) -> bool {
        self.bytes >= self.bytes_max || self.parts.len() >= PARTS_MAX
    }

    fn push(&mut self, part: CopyPart) {
        self.bytes += part.bytes();
        self.parts.push(part);
    }
}

impl Store {
    /// Where a copy of an origin, own or followed, that begins now will end. Of an own life that has ended there are events alone: its
    /// cursors and state went on into the next.
    ///
    /// # Errors
    /// [`ReadError::NotWhole`] where what is held of a followed origin is not whole, or nothing is; else what failed.
    pub fn copy_head(&self, origin: OriginId) -> Result<CopyHead, ReadError> {
        self.check()?;
        self.check_whole(origin)?;
        // Commits and trims wait meanwhile.
        let _writer = self.writer.lock();
        let commit = self.last_commit_of(origin);
        if self.synced_commit_of(origin) < commit {
            self.sync().map_err(|e| e.0)?;
        }
        let hlc = match self.streams.read().followed.get(&origin) {
            Some(stream) => stream.record.hlc,
            None => self.meta_read(|meta| {
                last_hlc(meta, origin, commit).map_err(|e| ReadError::DamagedMeta {
                    what: format!("the record of commit {commit}"),
                    reason: e.to_string(),
                })
            })?,
        };
        let ids = self.partitions().into_iter().filter(|id| id.origin == origin);
        let extent = |partition| {
            let extent = self.partition(partition)?.extent();
            let (start, end, digest) = (extent.start, extent.end, extent.digest);
            (end > 0).then_some(CopyExtent { partition, start, end, digest })
        };
        let ended = self.has_ended(origin);
        Ok(CopyHead { origin, commit, hlc, ended, partitions: ids.filter_map(extent).collect() })
    }

    /// The copy's parts after a position, at first `None`: about `bytes_max` together, but at least one; and the position to go on from, `None`
    /// at the end. Of each partition only batches from the follower's end on, as `ends` tells it. All that is returned is synced. The copy is whole
    /// with the commit that [`Store::synced_commit_of`] tells after the last call.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] where a batch cannot be read, [`ReadError::NotWhole`] as with [`Store::copy_head`], and where the life has ended
    /// since then.
    pub fn copy_parts(
        &self,
        head: &CopyHead,
        after: Option<&CopyPosition>,
        ends: &dyn Fn(PartitionId) -> Offset,
        bytes_max: usize,
    ) -> Result<(Vec<CopyPart>, Option<CopyPosition>), ReadError> {
        self.check_whole(head.origin)?;
        if head.ended != self.has_ended(head.origin) {
            return Err(ReadError::NotWhole(head.origin));
        }
        let mut parts = Parts { parts: Vec::new(), bytes: 0, bytes_max: bytes_max.max(1) };
        let mut place = Some(after.map_or(Place::Partitions(0, None), |position| position.0.clone()));
        let mut small = false;
        while let Some(at) = place.clone()
            && !parts.is_full()
        {
            small |= !matches!(at, Place::Partitions(..));
            let step = match at {
                Place::Partitions(index, from) => self.copy_partition(head, index, from, ends, &mut parts).map(Some),
                Place::Cursors(after) => self.copy_cursors(head.origin, after, &mut parts).map(Some),
                Place::State(after) => self.copy_state(head.origin, after, &mut parts),
            };
            match step {
                Ok(next) => place = next,
                // Told to who goes on from there.
                Err(_) if !parts.parts.is_empty() => break,
                Err(e) => return Err(e),
            }
        }
        self.check_whole(head.origin)?;
        self.passed(parts.bytes);
        if small {
            self.sync_what_was_seen(head.origin)?;
        }
        Ok((parts.parts, place.map(CopyPosition)))
    }

    /// Cursors and state may be of commits that are not synced, or are just being written.
    fn sync_what_was_seen(&self, origin: OriginId) -> Result<(), ReadError> {
        drop(self.writer.lock());
        if self.synced_commit_of(origin) < self.last_commit_of(origin) {
            self.sync().map_err(|e| e.0)?;
        }
        Ok(())
    }

    /// Whether an origin is an own life that has ended.
    fn has_ended(&self, origin: OriginId) -> bool {
        origin != self.origin && !self.follows(origin)
    }

    /// Whether a copy can be taken from here. Of a followed origin of which no commit was applied nothing is known.
    fn check_whole(&self, origin: OriginId) -> Result<(), ReadError> {
        let whole = match self.streams.read().followed.get(&origin) {
            Some(stream) => stream.record.copy == CopyV1::Whole && stream.record.commit > 0,
            None => origin == self.origin || self.partitions.read().keys().any(|id| id.origin == origin),
        };
        if whole { Ok(()) } else { Err(ReadError::NotWhole(origin)) }
    }

    fn copy_partition(
        &self,
        head: &CopyHead,
        index: usize,
        from: Option<Offset>,
        ends: &dyn Fn(PartitionId) -> Offset,
        parts: &mut Parts,
    ) -> Result<Place, ReadError> {
        let Some(extent) = head.partitions.get(index) else {
            return Ok(Place::Cursors(Vec::new()));
        };
        let CopyExtent { partition, end, digest, .. } = *extent;
        let (begun, mut tries) = (parts.parts.len(), 0);
        let from = match from {
            Some(from) => from,
            None => {
                let from = ends(partition);
                self.say_before(extent, from, parts);
                from
            }
        };
        let read = loop {
            match self.copy_events(extent, from, parts) {
                Err(ReadError::Trimmed { .. }) if tries < TRIES_MAX => tries += 1,
                other => break other,
            }
        };
        // What was read before it failed is sent, and the next step fails at once.
        let read = match (read, next_of(&parts.parts[begun..])) {
            (Err(_), Some(next)) => Some(next),
            (read, _) => read?,
        };
        match read {
            Some(next) if next < end => return Ok(Place::Partitions(index, Some(next))),
            Some(_) => parts.push(CopyPart::End { partition, end, digest }),
            None => parts.push(CopyPart::Gone { partition, end, digest }),
        }
        Ok(Place::Partitions(index + 1, None))
    }

    /// Says what the digest is where the follower's events end, so that it sees a fork before it adds to one. Damage is told by who reads on.
    fn say_before(&self, head: &CopyExtent, from: Offset, parts: &mut Parts) {
        let start = self.start_offset(head.partition);
        if from > 0
            && (start..head.end).contains(&from)
            && let Ok(Some(digest)) = self.digest_before(head, from)
        {
            parts.push(CopyPart::Jump { partition: head.partition, to: from, digest });
        }
    }

    /// Adds a partition's batches from `from` on while there is room, and before them where they begin, if some are gone; the offset after them.
    /// `None` where the partition is gone.
    fn copy_events(&self, head: &CopyExtent, from: Offset, parts: &mut Parts) -> Result<Option<Offset>, ReadError> {
        let (id, at) = (head.partition, goes_on_at(parts, head, from));
        let start = self.start_offset(id);
        if at < start {
            let to = start.min(head.end);
            if let Some(digest) = self.digest_before(head, to)? {
                parts.push(CopyPart::Jump { partition: id, to, digest });
            }
        }
        self.view(id, |view| copy_batches(&view, head, from, parts))
    }

    /// The partition's running digest before `at`: the head's without the batches between. They may be all that there are, so they are read in steps,
    /// and memory is let go of between these. `None` where the partition is gone.
    fn digest_before(&self, head: &CopyExtent, at: Offset) -> Result<Option<u64>, ReadError> {
        let (mut next, mut digest) = (at, head.digest);
        while next < head.end {
            let step = self.view(head.partition, |view| digest_step(&view, next, head.end))?;
            let Some(Step { to, digest: added, bytes }) = step else { return Ok(None) };
            (next, digest) = (to, digest.wrapping_sub(added));
            self.passed(bytes);
            self.let_go_if_due()?;
        }
        Ok(Some(digest))
    }

    fn copy_cursors(&self, origin: OriginId, after: Vec<u8>, parts: &mut Parts) -> Result<Place, ReadError> {
        let prefix = keys::all_cursors(self.owner(origin));
        let name_at = prefix.bytes().len();
        let more = self.copy_small(prefix.bytes(), after, parts, |key, value| {
            let split = key.len().checked_sub(PARTITION_ID_BYTES + 1).filter(|split| *split > name_at);
            let split = split.ok_or(ValueError::Form)?;
            let reader = std::str::from_utf8(&key[name_at..split]).map_err(|_| ValueError::Form)?.to_owned();
            let partition = PartitionId::from_bytes(&key[split + 1..]).ok_or(ValueError::Form)?;
            let next = read::<CursorV1>(key, value)?.next;
            Ok(CopyPart::Cursor(CursorMove { reader, partition, next }))
        })?;
        Ok(more.map_or(Place::State(Vec::new()), Place::Cursors))
    }

    fn copy_state(&self, origin: OriginId, after: Vec<u8>, parts: &mut Parts) -> Result<Option<Place>, ReadError> {
        let prefix = keys::all_state(self.owner(origin));
        let name_at = prefix.bytes().len();
        let more = self.copy_small(prefix.bytes(), after, parts, |key, value| {
            let named = &key[name_at..];
            let split = named.iter().position(|byte| *byte == 0).ok_or(ValueError::Form)?;
            let tree = std::str::from_utf8(&named[..split]).map_err(|_| ValueError::Form)?.to_owned();
            let (key, value) = (named[split + 1..].to_vec(), read_raw(key, value)?.to_vec());
            Ok(CopyPart::State { tree, key, value })
        })?;
        Ok(more.map(Place::State))
    }

    /// Adds a part for each key that begins with `prefix` and is after `after`; the last key where there may be more.
    fn copy_small(
        &self,
        prefix: &[u8],
        after: Vec<u8>,
        parts: &mut Parts,
        part: impl Fn(&[u8], &[u8]) -> Result<CopyPart, ValueError>,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let from = if after.is_empty() { prefix.to_vec() } else { [&after[..], &[0]].concat() };
        let mut last = Vec::new();
        let scanned = self.meta_scan(prefix, &from, |key, value| {
            let damaged = |e: ValueError| ReadError::DamagedMeta { what: keys::describe(key), reason: e.to_string() };
            parts.push(part(key, value).map_err(damaged)?);
            last.clear();
            last.extend_from_slice(key);
            Ok(!parts.is_full())
        });
        match scanned {
            // What was read before it failed is sent, and the next step fails at once.
            Err(_) if !last.is_empty() => Ok(Some(last)),
            Err(e) => Err(e),
            Ok(()) => Ok(parts.is_full().then_some(last).filter(|last| !last.is_empty())),
        }
    }
}

/// Where the partition goes on after these parts of it.
fn next_of(parts: &[CopyPart]) -> Option<Offset> {
    match parts.last()? {
        CopyPart::Batch(batch) => Some(batch.next_offset()),
        CopyPart::Jump { to, .. } => Some(*to),
        _ => None,
    }
}

/// Where the partition goes on behind those parts of it that were read before a trim went by.
fn goes_on_at(parts: &Parts, head: &CopyExtent, from: Offset) -> Offset {
    next_of(&parts.parts).filter(|_| is_of(parts, head.partition)).unwrap_or(from)
}

/// Adds batches from `from` on while there is room; the offset after them.
fn copy_batches(view: &View<'_>, head: &CopyExtent, from: Offset, parts: &mut Parts) -> Result<Offset, ReadError> {
    let mut at = goes_on_at(parts, head, from);
    if at < view.start.min(head.end) {
        return Err(ReadError::Trimmed { partition: head.partition, start: view.start });
    }
    // Where the follower ends inside a batch it has other events: it is sent that batch, and sees that they differ.
    if at > view.start
        && at < head.end
        && let Ok(batch) = view.batch_at(at)
    {
        at = batch.base_offset();
    }
    let (span_from, span_to) = (keys::batch(at), keys::batch(head.end));
    walk(view.tree(), Span::between(&span_from, &span_to), Direction::Forward, &mut |base, bytes| {
        if base != at || parts.is_full() {
            return ControlFlow::Break(());
        }
        // What is damaged is told by who reads from there.
        let Ok(batch) = view.decode(base, bytes) else {
            return ControlFlow::Break(());
        };
        at = batch.next_offset();
        parts.push(CopyPart::Batch(batch));
        ControlFlow::Continue(())
    })?;
    if at < head.end && !parts.is_full() {
        return Err(view.damaged(at, "events are missing"));
    }
    Ok(at)
}

/// Whether the newest part is of this partition: it was read in part before a trim went by.
fn is_of(parts: &Parts, id: PartitionId) -> bool {
    parts.parts.last().and_then(CopyPart::partition) == Some(id)
}

/// What a step of the way to a digest has come to.
struct Step {
    to: Offset,
    /// What the batches up to there add to the digest.
    digest: u64,
    bytes: usize,
}

/// Reads batches from `from` on, up to `end` or as many as one step may.
fn digest_step(view: &View<'_>, from: Offset, end: Offset) -> Result<Step, ReadError> {
    if from < view.start {
        return Err(ReadError::Trimmed { partition: view.id, start: view.start });
    }
    let mut step = Step { to: from, digest: 0, bytes: 0 };
    let (span_from, span_to) = (keys::batch(from), keys::batch(end));
    walk(view.tree(), Span::between(&span_from, &span_to), Direction::Forward, &mut |base, bytes| {
        let envelope = Envelope::at_front(&bytes).filter(|envelope| base == step.to && envelope.base_offset == base);
        let Some(envelope) = envelope else { return ControlFlow::Break(()) };
        step.to = envelope.next_offset();
        step.digest = step.digest.wrapping_add(envelope.digest);
        step.bytes += bytes.len();
        if step.bytes < DIGEST_STEP_BYTES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
    })?;
    if from < step.to && step.to <= end { Ok(step) } else { Err(view.damaged(step.to, "events are missing")) }
}
