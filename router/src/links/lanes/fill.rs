//! Lanes that skip what comes behind them, and lanes that fill what was skipped.

use std::sync::Arc;

use sled_data::{Hole, HoleWhy, LinkedPart, Offset};

use super::{Lane, Lanes};
use crate::event_log::PartitionLog;

/// Up to where a lane goes that fills what was skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fill {
    /// Up to before which offset: upstream has what follows.
    pub to: Offset,
    /// Whether the partition gets no more: what is missing of it before `to` is told as a gap.
    pub has_ended: bool,
    /// Whether what upstream has there goes on from what is here. If not, both are of a life that was set back, and from some batch on not the same: a
    /// gap is told between them, in the place of the last batch.
    pub is_same: bool,
}

impl Fill {
    /// Of a partition that goes on.
    pub fn up_to(to: Offset) -> Self {
        Self { to, has_ended: false, is_same: true }
    }
}

impl Lanes {
    /// Carries a partition from `to` on, ahead of what lies from `from` up to there: first upstream is told of the open hole.
    pub fn add_ahead(&mut self, log: Arc<PartitionLog>, (from, to): (Offset, Offset), drop_after_ms: u64) {
        self.put(Lane { skip_to: to, ..Lane::new(log, from, drop_after_ms) });
    }

    /// Carries what lies from an offset up to where upstream has the rest.
    pub fn add_fill(&mut self, log: Arc<PartitionLog>, from: Offset, fill: Fill, drop_after_ms: u64) {
        self.put(Lane { fill: Some(fill), ..Lane::new(log, from, drop_after_ms) });
    }
}

impl Lane {
    /// Up to where it may be read now.
    pub(super) fn readable_to(&self) -> Offset {
        let visible = || self.log.visible_end();
        self.fill.map_or_else(visible, |fill| if fill.has_ended { fill.to } else { fill.to.min(visible()) })
    }

    /// Up to where batches of it may go.
    pub(super) fn batches_to(&self) -> Offset {
        let forked = self.fill.filter(|fill| !fill.is_same);
        forked.map_or(self.limit, |fill| self.limit.min(fill.to.saturating_sub(1)))
    }

    /// Puts the open hole into the window, where it is to be told.
    pub(super) fn skip(&mut self) {
        if self.next < self.skip_to {
            self.hole(self.skip_to, HoleWhy::Later);
        }
    }

    /// Puts a gap into the window where a fill comes no further: the partition ends before `to`, or a batch reaches over it, or to it, and is of
    /// another log than what upstream has there.
    pub(super) fn end_fill(&mut self, found_batches: bool) {
        if let Some(fill) = self.fill
            && fill.to == self.limit
            && self.next < fill.to
            && (found_batches || fill.has_ended)
        {
            self.hole(fill.to, HoleWhy::Damage);
        }
    }

    pub(super) fn hole(&mut self, to: Offset, why: HoleWhy) {
        self.window.push_back(LinkedPart::Hole(self.log.id(), Hole { from: self.next, to, why, at_ms: 0 }));
        self.next = to;
    }
}
