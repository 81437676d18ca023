//! Finding events by time and by key.

use super::Store;
use super::linked::hole_at;
use super::read::{ReadError, View};
use crate::batch::StoredBatch;
use crate::ids::{Offset, PartitionId};

/// How often a search begins anew because a trim went by.
const TRIES_MAX: u32 = 8;
/// Bytes of batches that are looked through for a key before memory is let go of, where that is due.
const KEY_STEP_BYTES: usize = 4 << 20;

/// What a step of the search for a key has come to.
struct KeyStep {
    found: Option<(Offset, StoredBatch)>,
    /// What lies before this was not looked at; `None` where nothing does.
    before: Option<Offset>,
    bytes: usize,
}

impl Store {
    /// The offset from which on events are at or after `ms` (Unix milliseconds); the end where there is none.
    ///
    /// Batches are searched by halving on their largest timestamps. Where those never fall, the answer is the first event at or after
    /// `ms`. Clocks lie: where they fall, the answer is an event at or after `ms` in a batch before which one was older, not always the first.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when a batch that the search meets cannot be read.
    pub fn offset_at_time(&self, id: PartitionId, ms: i64) -> Result<Offset, ReadError> {
        let mut tries = 0;
        loop {
            match self.view(id, |view| offset_at_time(&view, ms)) {
                Err(ReadError::Trimmed { .. }) if tries < TRIES_MAX => tries += 1,
                other => return Ok(other?.unwrap_or(0)),
            }
        }
    }

    /// As [`Store::offset_at_time`], of the partition and what lies ahead of its end.
    ///
    /// # Errors
    /// Those of [`Store::offset_at_time`].
    pub fn newest_at_time(&self, id: PartitionId, ms: i64) -> Result<Offset, ReadError> {
        let parts = self.parts_ahead(id);
        let mut found = self.offset_at_time(id, ms)?;
        let mut end = self.end_offset(id);
        for part in parts.iter() {
            if found < end || part.from < end {
                break;
            }
            (found, end) = (self.view_ahead(id, *part, |view| offset_at_time(&view, ms))?.unwrap_or(found), part.end);
        }
        Ok(found)
    }

    /// Where the first batch from `from` on begins whose hybrid clock is at least `hlc`; the end where there is none. Within an origin that
    /// clock only rises.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when a batch that the search meets cannot be read, [`ReadError::Trimmed`] when one went meanwhile.
    pub fn offset_at_clock(&self, id: PartitionId, from: Offset, hlc: u64) -> Result<Offset, ReadError> {
        let found = self.view(id, |view| {
            let batch = first_batch(&view, from, &|batch| batch.envelope().hlc >= hlc)?;
            Ok(batch.map_or(view.end, |batch| batch.base_offset()))
        })?;
        Ok(found.unwrap_or(from).max(from))
    }

    /// The newest event with this key before `before`, and the batch that holds it, be it ahead of the end. Reads the partition backwards, at
    /// worst all of it.
    ///
    /// # Errors
    /// [`ReadError::Damaged`] when a batch on the way cannot be read.
    pub fn latest_by_key(
        &self,
        id: PartitionId,
        key: &[u8],
        before: Offset,
    ) -> Result<Option<(Offset, StoredBatch)>, ReadError> {
        for part in self.parts_ahead(id).iter().rev().filter(|part| before > part.from) {
            let step = |before| self.view_ahead(id, *part, |view| key_step(&view, key, before));
            if let Some(found) = self.in_steps(before, &step)? {
                return Ok(Some(found));
            }
        }
        match self.in_steps(before, &|before| self.view(id, |view| key_step(&view, key, before))) {
            Err(ReadError::Trimmed { .. }) => Ok(None),
            other => other,
        }
    }

    /// Looks on backwards until it is found or nothing is left; memory is let go of between the steps.
    fn in_steps(
        &self,
        before: Offset,
        step: &dyn Fn(Offset) -> Result<Option<KeyStep>, ReadError>,
    ) -> Result<Option<(Offset, StoredBatch)>, ReadError> {
        let mut next = Some(before);
        while let Some(before) = next {
            let Some(looked) = step(before)? else { return Ok(None) };
            self.passed(looked.bytes);
            self.let_go_if_due()?;
            if looked.found.is_some() {
                return Ok(looked.found);
            }
            next = looked.before;
        }
        Ok(None)
    }
}

fn offset_at_time(view: &View<'_>, ms: i64) -> Result<Offset, ReadError> {
    let Some(batch) = first_batch(view, view.start, &|batch| batch.max_timestamp_ms() >= ms)? else {
        return Ok(view.end);
    };
    let records = batch.decompress().map_err(|e| view.damaged(batch.base_offset(), e))?;
    let first = records.iter().find(|r| r.timestamp_ms >= ms);
    Ok(first.map_or(batch.base_offset(), |r| records.offset_of(&r)).max(view.start))
}

/// The first batch from an offset on that has reached something, found by halving: those behind it have too.
fn first_batch(
    view: &View<'_>,
    from: Offset,
    has_reached: &dyn Fn(&StoredBatch) -> bool,
) -> Result<Option<StoredBatch>, ReadError> {
    let (mut low, mut high) = (view.start.max(from), view.end);
    let mut found = None;
    while low < high {
        let middle = low + (high - low) / 2;
        if let Some(hole) = hole_at(&view.holes, middle) {
            // The half above it first; where that has not reached it, what lies below has not either.
            match view.batch_at(hole.to) {
                _ if hole.to >= high => high = hole.from.max(low),
                Ok(batch) if !has_reached(&batch) => low = batch.next_offset(),
                Ok(batch) => {
                    high = hole.from.max(low);
                    found = Some(batch);
                }
                Err(error) => return Err(error),
            }
            continue;
        }
        let batch = view.batch_at(middle)?;
        if has_reached(&batch) {
            high = batch.base_offset();
            found = Some(batch);
        } else {
            low = batch.next_offset();
        }
    }
    Ok(found)
}

fn key_step(view: &View<'_>, key: &[u8], before: Offset) -> Result<KeyStep, ReadError> {
    let (mut before, mut bytes) = (before.min(view.end), 0);
    while before > view.start {
        if bytes >= KEY_STEP_BYTES {
            return Ok(KeyStep { found: None, before: Some(before), bytes });
        }
        if let Some(hole) = hole_at(&view.holes, before - 1) {
            before = hole.from;
            continue;
        }
        let batch = view.batch_at(before - 1)?;
        bytes += batch.bytes().len();
        let records = batch.decompress().map_err(|e| view.damaged(batch.base_offset(), e))?;
        let newest = records
            .iter()
            .filter(|r| r.key == Some(key))
            .map(|r| records.offset_of(&r))
            .take_while(|offset| *offset < before)
            .last();
        match newest {
            Some(offset) if offset >= view.start => {
                return Ok(KeyStep { found: Some((offset, batch)), before: None, bytes });
            }
            _ => before = batch.base_offset(),
        }
    }
    Ok(KeyStep { found: None, before: None, bytes })
}
