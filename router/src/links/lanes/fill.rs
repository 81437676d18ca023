//! Lanes that skip what comes behind them, and lanes that fill what was skipped.

use std::sync::Arc;

use sled_data::{Hole, HoleWhy, LinkedPart, Offset, PartitionId};

use super::{Lane, Lanes};
use crate::event_log::PartitionLog;

/// Up to where a lane goes that fills what was skipped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fill {
    /// Up to before which offset: upstream has what follows.
    to: Offset,
    /// What upstream has before that, in order, each from its first offset to before its last: it is passed over.
    there: Vec<(Offset, Offset)>,
    /// Up to where what is here goes. What lies behind that, and before `to`, upstream is told as a gap: it goes on there from another log.
    same_to: Offset,
    /// Whether the partition gets no more: what is missing of it before `to` is told as a gap.
    has_ended: bool,
}

impl Fill {
    /// Of a partition that goes on, up to before an offset, but for what of these parts lies before that.
    pub fn up_to(to: Offset, parts: &[(Offset, Offset)]) -> Self {
        let there = parts.iter().copied().filter(|(from, _)| *from < to).collect();
        Self { to, there, same_to: to, has_ended: false }
    }

    /// Of a partition that ends at `from` upstream, where the part at a place is not the same there: where it begins, and how it fills what lies before that
    /// one. Of one that gets no more what lies behind it goes first, as gaps: those parts are of another log than what is here. Where all
    /// before that part is not what it goes on from (`is_same`), it is not known from which batch on the two are not the same, and a gap takes the place
    /// of the last one.
    pub fn alone(
        from: Offset,
        parts: &[(Offset, Offset)],
        place: usize,
        (is_same, has_ended): (bool, bool),
    ) -> (Offset, Self) {
        let (begins, ends) = parts.get(place).copied().unwrap_or((from, from));
        let last = parts.last().map_or(begins, |(last, _)| *last);
        match has_ended {
            false => (from, Self::up_to(begins, parts)),
            true if begins < last => (ends, Self { same_to: ends, has_ended, ..Self::up_to(last, parts) }),
            true => {
                let same_to = if is_same { begins } else { begins.saturating_sub(1) };
                (from, Self { same_to, has_ended, ..Self::up_to(begins, parts) })
            }
        }
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

    /// Whether a partition is carried up to where upstream has the rest, and all before that was given.
    pub fn has_filled(&self, id: PartitionId) -> bool {
        let lane = self.streams.get(&id.origin).and_then(|stream| stream.lanes.get(&id));
        let is_given = |lane: &Lane, fill: &Fill| lane.window.is_empty() && fill.to <= lane.next;
        lane.is_some_and(|lane| lane.fill.as_ref().is_some_and(|fill| is_given(lane, fill)))
    }
}

impl Lane {
    /// Up to where it may be read now.
    pub(super) fn readable_to(&self) -> Offset {
        let visible = || self.log.visible_end();
        self.fill.as_ref().map_or_else(visible, |fill| if fill.has_ended { fill.to } else { fill.to.min(visible()) })
    }

    /// Where the hole ends that a fill is in: at what upstream has behind it.
    pub(super) fn hole_to(&self) -> Option<Offset> {
        let fill = self.fill.as_ref()?;
        let next = fill.there.iter().map(|(from, _)| *from).find(|from| *from > self.next);
        Some(next.unwrap_or(fill.to))
    }

    /// Up to where what is here goes into the hole that a fill is in, batches and gaps: no further than both are the same.
    pub(super) fn same_to(&self) -> Option<Offset> {
        let same_to = self.fill.as_ref()?.same_to;
        Some(self.hole_to()?.min(same_to))
    }

    /// Up to where batches of it may go.
    pub(super) fn batches_to(&self) -> Offset {
        self.limit.min(self.same_to().unwrap_or(self.limit))
    }

    /// Puts the open hole into the window, where it is to be told; passes over what upstream has; puts a gap into the window in the place of what is not
    /// known to be the same.
    pub(super) fn skip(&mut self) {
        if self.next < self.skip_to {
            self.hole(self.skip_to, HoleWhy::Later);
        }
        while let Some(fill) = self.fill.as_ref().filter(|fill| self.next < fill.to) {
            let there = fill.there.iter().find(|(from, to)| (*from..*to).contains(&self.next));
            match (there.copied(), self.hole_to()) {
                (Some((_, to)), _) => self.next = to,
                (None, Some(to)) if self.next >= fill.same_to => self.hole(to, HoleWhy::Damage),
                _ => return,
            }
        }
    }

    /// Puts a gap into the window where a fill comes no further: the partition ends before what upstream has, or a batch reaches over where that begins,
    /// and is of another log.
    pub(super) fn end_fill(&mut self, found_batches: bool) {
        let has_ended = self.fill.as_ref().is_some_and(|fill| fill.has_ended);
        if let Some(to) = self.hole_to().filter(|to| self.next < *to && *to <= self.limit)
            && (found_batches || has_ended)
        {
            self.hole(to, HoleWhy::Damage);
        }
    }

    pub(super) fn hole(&mut self, to: Offset, why: HoleWhy) {
        self.window.push_back(LinkedPart::Hole(self.log.id(), Hole { from: self.next, to, why, at_ms: 0 }));
        self.next = to;
    }
}
