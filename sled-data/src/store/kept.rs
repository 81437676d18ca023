//! Which commit records of an origin are kept: the newest ones, up to bounds of number and bytes.

use std::collections::{BTreeMap, VecDeque};
use std::ops::ControlFlow;

use super::commit_stream::PART_BYTES_MAX;
use super::keys;
use super::open::{OpenError, Options};
use crate::backend::{Direction, Group, Span, Tree};
use crate::ids::{CommitNumber, OriginId};

/// Which commit records there are, by number and bytes.
#[derive(Debug, Default)]
pub(super) struct KeptRecords {
    last: CommitNumber,
    /// Bytes and parts of each, the oldest first.
    sizes: VecDeque<(u32, u16)>,
    bytes: u64,
    /// From where on they are kept for longer, for each who needs them.
    held: BTreeMap<u64, CommitNumber>,
}

/// Most who need records for longer at once; those of further ones go with the others.
pub const HOLDS_MAX: usize = 256;

/// How many times as many records are kept while they are held.
const HELD_TIMES: usize = 4;
/// Most records that are removed for each one written.
const TRIM_RECORDS_MAX: usize = 4;

impl KeptRecords {
    /// None, of a stream that has come to `last`.
    pub(super) fn none(last: CommitNumber) -> KeptRecords {
        KeptRecords { last, ..KeptRecords::default() }
    }

    /// Finds the records of `origin`, whose newest commit is `last` where there are none.
    pub(super) fn load(meta: &dyn Tree, origin: OriginId, last: CommitNumber) -> Result<KeptRecords, OpenError> {
        let mut kept = KeptRecords::none(last);
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

    /// How many are kept.
    pub(super) fn count(&self) -> usize {
        self.sizes.len()
    }

    /// The bytes of those that are kept.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// Keeps those from `from` on for longer, for `who`; `None` ends that.
    pub(super) fn hold(&mut self, who: u64, from: Option<CommitNumber>) {
        match from {
            Some(from) if self.held.len() < HOLDS_MAX => drop(self.held.insert(who, from)),
            Some(_) => {}
            None => drop(self.held.remove(&who)),
        }
    }

    /// Whether one of these is kept for longer.
    fn is_held(&self, commit: u64) -> bool {
        self.held.values().any(|from| commit >= from.0)
    }

    /// How many are kept besides the newest; none where they are to be kept for longer.
    pub(super) fn older(&self) -> usize {
        if !self.held.is_empty() { 0 } else { self.sizes.len().saturating_sub(1) }
    }

    /// Removes, in `group`, the oldest records while there are too many besides those of `added` bytes each, which the group writes; how many
    /// that are. Those added stay.
    pub(super) fn trim(&self, origin: OriginId, options: &Options, added: &[u32], group: &mut Group) -> usize {
        let mut bytes = self.bytes + sum(added);
        let mut trimmed = 0;
        for (size, parts) in self.sizes.iter().take(TRIM_RECORDS_MAX * added.len()) {
            let number = self.sizes.len() + added.len() - trimmed;
            let times = if self.is_held(self.first().0 + trimmed as u64) { HELD_TIMES } else { 1 };
            let number_max = options.commit_records_max.saturating_mul(times);
            let bytes_max = options.commit_record_bytes_max.saturating_mul(times as u64);
            if number <= number_max && bytes <= bytes_max {
                break;
            }
            self.remove(origin, trimmed, *parts, group);
            bytes -= u64::from(*size);
            trimmed += 1;
        }
        trimmed
    }

    /// Removes, in `group`, the oldest records, at most `max`; how many that are.
    pub(super) fn forget(&self, origin: OriginId, max: usize, group: &mut Group) -> usize {
        for (at, (_, parts)) in self.sizes.iter().take(max).enumerate() {
            self.remove(origin, at, *parts, group);
        }
        self.sizes.len().min(max)
    }

    fn remove(&self, origin: OriginId, at: usize, parts: u16, group: &mut Group) {
        let commit = CommitNumber(self.first().0 + at as u64);
        for part in 0..parts {
            group.remove(&keys::commit(origin, commit, part));
        }
    }

    /// Takes note that records of `added` bytes each were written after the last, and the oldest `trimmed` removed.
    pub(super) fn apply(&mut self, added: &[u32], trimmed: usize) {
        let removed: u64 = self.sizes.drain(..trimmed).map(|(size, _)| u64::from(size)).sum();
        self.bytes = self.bytes + sum(added) - removed;
        for size in added {
            self.sizes.push_back((*size, size.div_ceil(PART_BYTES_MAX as u32 + 5).max(1) as u16));
        }
        self.last.0 += added.len() as u64;
    }
}

fn sum(added: &[u32]) -> u64 {
    added.iter().copied().map(u64::from).sum()
}
