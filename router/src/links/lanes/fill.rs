//! Lanes that skip what comes behind them, and lanes that fill what was skipped.

use std::sync::Arc;

use sled_data::{Hole, HoleWhy, LinkedPart, Offset};

use super::{Lane, Lanes};
use crate::event_log::PartitionLog;

impl Lanes {
    /// Carries a partition from `to` on, ahead of what lies from `from` up to there: first upstream is told of the open hole.
    pub fn add_ahead(&mut self, log: Arc<PartitionLog>, (from, to): (Offset, Offset), drop_after_ms: u64) {
        self.put(Lane { skip_to: to, ..Lane::new(log, from, drop_after_ms) });
    }

    /// Carries what lies from an offset up to before `to`, where upstream has the rest. A partition that `has_ended` gets no more: what is
    /// missing of it before `to` is told as a gap.
    pub fn add_fill(
        &mut self,
        log: Arc<PartitionLog>,
        (from, to): (Offset, Offset),
        drop_after_ms: u64,
        has_ended: bool,
    ) {
        self.put(Lane { fill_to: Some(to), has_ended, ..Lane::new(log, from, drop_after_ms) });
    }
}

impl Lane {
    /// Up to where it may be read now.
    pub(super) fn readable_to(&self) -> Offset {
        let end = if self.has_ended { Offset::MAX } else { self.log.visible_end() };
        self.fill_to.map_or(end, |to| to.min(end))
    }

    /// Puts the open hole into the window, where it is to be told.
    pub(super) fn skip(&mut self) {
        if self.next < self.skip_to {
            self.hole(self.skip_to, HoleWhy::Later);
        }
    }

    /// Puts a gap into the window where a fill comes no further: the partition ends before `fill_to`, or a batch reaches over it, which is of
    /// another log than what upstream has there.
    pub(super) fn end_fill(&mut self, found_batches: bool) {
        if let Some(to) = self.fill_to
            && to == self.limit
            && self.next < to
            && (found_batches || self.has_ended)
        {
            self.hole(to, HoleWhy::Damage);
        }
    }

    pub(super) fn hole(&mut self, to: Offset, why: HoleWhy) {
        self.window.push_back(LinkedPart::Hole(self.log.id(), Hole { from: self.next, to, why, at_ms: 0 }));
        self.next = to;
    }
}
