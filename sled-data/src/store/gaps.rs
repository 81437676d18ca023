//! Gaps: events of a followed origin that its source had let go before they came here. Each is kept with the commits that told it.

use std::ops::ControlFlow;

use super::Store;
use super::follow::Gap;
use super::keys;
use super::read::ReadError;
use super::values::{GapV1, read, write};
use crate::backend::{BackendError, Direction, Group, Span};
use crate::ids::{Offset, PartitionId};

/// Gaps of one partition that are kept; the oldest go first.
pub const GAPS_MAX: usize = 64;

/// Why events are not here.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum GapCause {
    /// Retention had taken them at the source before they came here.
    Retention,
    /// They were gone at the source before anything of the partition was kept here.
    Beginning,
}

impl GapCause {
    /// What a program goes by.
    pub fn name(self) -> &'static str {
        match self {
            GapCause::Retention => "source-retention",
            GapCause::Beginning => "before-copy",
        }
    }
}

/// A gap that is kept.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub struct KeptGap {
    /// The first offset that is missing.
    pub from: Offset,
    /// The first offset after them.
    pub to: Offset,
    /// Why.
    pub cause: GapCause,
    /// Hybrid clock of the commit with which it was told.
    pub hlc: u64,
}

impl Store {
    /// The gaps of a partition, the oldest first.
    ///
    /// # Errors
    /// [`ReadError::DamagedMeta`] where one cannot be read; else what failed.
    pub fn gaps(&self, id: PartitionId) -> Result<Vec<KeptGap>, ReadError> {
        let mut found = Ok(Vec::new());
        self.meta_read(|meta| {
            let prefix = keys::gaps(id);
            let to = keys::after_prefix(&prefix);
            Ok(meta.scan(Span { from: &prefix, to: to.as_deref() }, Direction::Forward, &mut |key, value| {
                let (Some(from), Ok(gaps)) = (keys::gap_of(key), &mut found) else { return ControlFlow::Break(()) };
                match read::<GapV1>(key, value) {
                    Ok(GapV1 { to, cause, hlc }) => {
                        let cause = if cause == 0 { GapCause::Retention } else { GapCause::Beginning };
                        gaps.push(KeptGap { from, to, cause, hlc });
                        ControlFlow::Continue(())
                    }
                    Err(error) => {
                        let what = keys::describe(key);
                        found = Err(ReadError::DamagedMeta { what, reason: error.to_string() });
                        ControlFlow::Break(())
                    }
                }
            })?)
        })?;
        found
    }

    /// Adds gaps to `group`, and takes out the oldest of a partition that has too many. One that goes on where the last one ended becomes part of
    /// it: what retention took between two visits comes commit by commit.
    pub(super) fn put_gaps(
        &self,
        gaps: &[Gap],
        hlc: u64,
        group: &mut Group,
        value: &mut Vec<u8>,
    ) -> Result<(), BackendError> {
        let mut joined: Vec<Gap> = Vec::new();
        for gap in gaps {
            match joined.iter_mut().find(|known| known.partition == gap.partition && known.to == gap.from) {
                Some(known) => known.to = gap.to,
                None => joined.push(*gap),
            }
        }
        for Gap { partition, from, to } in joined.iter().copied() {
            let kept = self.gap_keys(partition)?;
            let from = self.gap_that_ends_at(&kept, from)?.unwrap_or(from);
            let key = keys::gap(partition, from);
            write(&key, &GapV1 { to, cause: u8::from(from == 0), hlc }, value);
            group.put(&key, value);
            let new = joined.iter().filter(|gap| gap.partition == partition).count();
            let too_many = (kept.len() + new).saturating_sub(GAPS_MAX);
            kept.iter().take(too_many).filter(|old| **old != key).for_each(|old| group.remove(old));
        }
        Ok(())
    }

    /// Where the newest of these gaps begins, if it ends at `end`.
    fn gap_that_ends_at(&self, kept: &[Vec<u8>], end: Offset) -> Result<Option<Offset>, BackendError> {
        let Some(key) = kept.last() else { return Ok(None) };
        let value = self.meta.get(key)?;
        let gap = value.and_then(|value| read::<GapV1>(key, &value).ok());
        Ok(keys::gap_of(key).filter(|_| gap.is_some_and(|gap| gap.to == end)))
    }

    /// Takes the gaps of a partition that goes out, in `group`.
    pub(super) fn remove_gaps(&self, id: PartitionId, group: &mut Group) -> Result<(), BackendError> {
        self.gap_keys(id)?.iter().for_each(|key| group.remove(key));
        Ok(())
    }

    fn gap_keys(&self, id: PartitionId) -> Result<Vec<Vec<u8>>, BackendError> {
        let prefix = keys::gaps(id);
        let (to, mut found) = (keys::after_prefix(&prefix), Vec::new());
        self.meta.scan(Span { from: &prefix, to: to.as_deref() }, Direction::Forward, &mut |key, _| {
            found.push(key.to_vec());
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}
