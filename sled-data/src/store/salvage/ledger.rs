//! One partition's account: what was appended where, and what is missing between.

use super::report::{MissingRange, SALVAGE_RANGES_MAX, SalvagedPartition, SalvagedRun};
use crate::ids::{Offset, PartitionId};

/// The account of one partition; batches and damages come in order of their offsets.
pub(super) struct Ledger {
    account: SalvagedPartition,
    /// The next offset that nothing was said of; none before the first.
    at: Option<Offset>,
    /// Damaged offsets that no sound batch has covered yet.
    damaged: Vec<(Offset, Offset)>,
}

impl Ledger {
    /// An empty account; `extent` is the partition's start and end as they were last recorded.
    pub(super) fn new(partition: PartitionId, extent: Option<(Offset, Offset)>) -> Ledger {
        let (start, end) = extent.unzip();
        let account = SalvagedPartition {
            partition,
            start,
            end,
            batches: 0,
            events: 0,
            runs: Vec::new(),
            missing: Vec::new(),
            unlisted: 0,
        };
        Ledger { account, at: start, damaged: Vec::new() }
    }

    pub(super) fn partition(&self) -> PartitionId {
        self.account.partition
    }

    /// A batch of the offsets `base` up to before `next` was appended at `new_base`.
    pub(super) fn batch(&mut self, base: Offset, next: Offset, new_base: Offset) {
        self.close_gap(base);
        self.at = Some(self.at.unwrap_or(0).max(next));
        self.account.batches += 1;
        self.account.events += next - base;
        if let Some(run) = self.account.runs.last_mut()
            && run.to == base
            && run.new_from + (run.to - run.from) == new_base
        {
            run.to = next;
        } else if self.account.runs.len() < SALVAGE_RANGES_MAX {
            self.account.runs.push(SalvagedRun { from: base, to: next, new_from: new_base });
        } else {
            self.account.unlisted += 1;
        }
    }

    /// An envelope announced the offsets `from` up to before `to`, and the rest of the batch is not sound.
    pub(super) fn damaged(&mut self, from: Offset, to: Offset) {
        if let Some(last) = self.damaged.last_mut()
            && from <= last.1
        {
            last.1 = last.1.max(to);
        } else if self.damaged.len() < SALVAGE_RANGES_MAX {
            self.damaged.push((from, to));
        } else {
            self.account.unlisted += 1;
        }
    }

    /// The account, once nothing more comes.
    pub(super) fn end(mut self) -> SalvagedPartition {
        let damaged_end = self.damaged.iter().map(|(_, to)| *to).max();
        if let Some(end) = self.account.end.max(damaged_end) {
            self.close_gap(end);
        }
        self.account
    }

    /// Tells what is missing before `to`.
    fn close_gap(&mut self, to: Offset) {
        let first = self.damaged.first().map_or(to, |(from, _)| to.min(*from));
        let mut at = self.at.unwrap_or(first);
        for (from, end) in std::mem::take(&mut self.damaged) {
            if from >= to {
                self.damaged.push((from, end));
                continue;
            }
            let (from, end_here) = (from.max(at), end.min(to));
            if from < end_here {
                self.missing(at, from, false);
                self.missing(from, end_here, true);
                at = end_here;
            }
            if end > to {
                self.damaged.push((to, end));
            }
        }
        self.missing(at, to, false);
        self.at = Some(at.max(to));
    }

    fn missing(&mut self, from: Offset, to: Offset, damaged: bool) {
        if from >= to {
            return;
        }
        if self.account.missing.len() < SALVAGE_RANGES_MAX {
            self.account.missing.push(MissingRange { from, to, damaged });
        } else {
            self.account.unlisted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{OriginId, TopicId};

    enum Said {
        Batch(Offset, Offset),
        Damaged(Offset, Offset),
    }
    use Said::{Batch, Damaged};

    #[test]
    fn what_is_missing_is_told_once_and_what_was_trimmed_is_not() {
        let id = PartitionId { origin: OriginId(1), topic: TopicId(2), index: 0 };
        type Case = (Option<(u64, u64)>, &'static [Said], &'static [(u64, u64, bool)]);
        let cases: [Case; 10] = [
            (None, &[Batch(5, 8), Batch(8, 9)], &[]),
            (None, &[Batch(5, 8), Batch(10, 12)], &[(8, 10, false)]),
            (Some((0, 20)), &[Batch(5, 8)], &[(0, 5, false), (8, 20, false)]),
            (Some((6, 8)), &[Batch(2, 3), Batch(5, 8)], &[]),
            (
                None,
                &[Damaged(1, 3), Batch(5, 8), Damaged(9, 10)],
                &[(1, 3, true), (3, 5, false), (8, 9, false), (9, 10, true)],
            ),
            (None, &[Batch(0, 4), Damaged(1, 3), Batch(4, 8)], &[]),
            (None, &[Batch(0, 4), Damaged(3, 6), Damaged(6, 7), Batch(8, 9)], &[(4, 7, true), (7, 8, false)]),
            (Some((0, 9)), &[], &[(0, 9, false)]),
            (Some((0, 9)), &[Damaged(0, 9)], &[(0, 9, true)]),
            (Some((3, 3)), &[Damaged(0, 2)], &[]),
        ];
        for (number, (extent, said, expected)) in cases.iter().enumerate() {
            let mut ledger = Ledger::new(id, *extent);
            for word in *said {
                match word {
                    Batch(from, to) => ledger.batch(*from, *to, *from),
                    Damaged(from, to) => ledger.damaged(*from, *to),
                }
            }
            let told: Vec<_> = ledger.end().missing.iter().map(|m| (m.from, m.to, m.damaged)).collect();
            assert_eq!(told, *expected, "case {number}");
        }
    }

    #[test]
    fn runs_are_joined_where_both_numbers_follow() {
        let id = PartitionId { origin: OriginId(1), topic: TopicId(2), index: 0 };
        let mut ledger = Ledger::new(id, None);
        for (from, to, new) in [(10, 12, 0), (12, 15, 2), (20, 21, 5), (21, 22, 9)] {
            ledger.batch(from, to, new);
        }
        let account = ledger.end();
        let runs: Vec<_> = account.runs.iter().map(|run| (run.from, run.to, run.new_from)).collect();
        assert_eq!(runs, [(10, 15, 0), (20, 21, 5), (21, 22, 9)]);
        assert_eq!((account.batches, account.events), (4, 7));
    }
}
