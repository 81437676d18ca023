//! Stores what one frame brings of partitions, all of it or nothing, and waits where the store is full.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use sled_data::{FollowError, Hole, HoleWhy, Linked, LinkedError, LinkedPart, OriginId, PartitionId};
use tokio::time::sleep;

use super::super::admit::check;
use super::super::counted::Counted;
use super::super::knows_ahead::KnowsAhead;
use super::super::refused::fits_to;
use super::super::wire::{ANOTHER_LOG, Parts, Refused, Said};
use super::{Ended, Open, Receiver, blocking};
use crate::event_log::{Comes, Held, LinkFailed};

/// How long it waits when the store is full, before it tries again.
pub(in crate::links) const FULL_WAIT: Duration = Duration::from_secs(1);

impl Receiver {
    /// Stores what came; of which partitions it is.
    pub(super) async fn store(
        &self,
        open: &Open,
        parts: Parts,
        (frame, held): (&[u8], &Held),
    ) -> Result<BTreeSet<PartitionId>, Ended> {
        let Parts { origin, mut parts, .. } = parts;
        let Some(linked) = open.origins.get(&origin) else {
            return Err(Ended::Wrong(format!("events of origin {origin}, which was not taken")));
        };
        self.date(&mut parts);
        let counted = Counted::of(self.log.store(), &parts);
        let ids = self.judge_parts(open, &parts)?;
        // What no reader could read here stops none. The connection may be cut meanwhile: the memory is held until this has ended.
        let kept = Arc::clone(held);
        let (sound, checked, _) = blocking(move || (check(&parts), parts, kept)).await?;
        sound.map_err(Ended::Wrong)?;
        self.take_in(origin, linked, checked, (frame, held)).await?;
        if self.log.store().is_letting_go_due() {
            let log = Arc::clone(&self.log);
            let let_go = blocking(move || log.store().let_go_if_due()).await?;
            let_go.map_err(|error| Ended::Store(error.to_string()))?;
        }
        self.log.note_linked(origin, self.within.is_some() || self.listed.is_some());
        if let Some(within) = &self.within {
            within.note_brought(origin);
        }
        let mut page = self.page.lock();
        page.events += counted.events;
        page.bytes += counted.bytes;
        page.again += counted.again;
        Ok(ids)
    }

    /// Of which partitions it is, all of which were taken; people are told of holes.
    fn judge_parts(&self, open: &Open, parts: &[LinkedPart]) -> Result<BTreeSet<PartitionId>, Ended> {
        let mut ids = BTreeSet::new();
        for part in parts {
            let id = part.partition();
            ids.insert(id);
            match part {
                LinkedPart::Batch(_) => {}
                LinkedPart::Hole(id, hole) if hole.why == HoleWhy::Later => self.skips(*id, *hole)?,
                LinkedPart::Hole(id, hole) if hole.why == HoleWhy::Deadline => {
                    tracing::info!(link = self.name, partition = %id, from = hole.from, to = hole.to,
                        "events do not come: they were older than their deadline");
                }
                LinkedPart::Hole(id, hole) => {
                    tracing::warn!(link = self.name, partition = %id, from = hole.from, to = hole.to, why = ?hole.why,
                        "events do not come: they were gone where they came from");
                }
            }
            match open.topics.get(&id.topic) {
                None => return Err(Ended::Wrong(format!("events of topic {}, which was not taken", id.topic))),
                Some(partitions) if id.index >= *partitions => {
                    return Err(Ended::Wrong(format!("events of {id}, of a topic that has {partitions} partitions")));
                }
                Some(_) => {}
            }
        }
        Ok(ids)
    }

    /// Puts it into the log, as often as it takes where the store is full.
    async fn take_in(
        &self,
        origin: OriginId,
        linked: &Linked,
        mut parts: Vec<LinkedPart>,
        (frame, held): (&[u8], &Held),
    ) -> Result<(), Ended> {
        loop {
            match self.log.take_linked_held(origin, linked.clone(), parts, (self.comes, Arc::clone(held))).await {
                Ok(()) => return Ok(()),
                Err(LinkFailed::Store(LinkedError::Store(FollowError::Full))) => {
                    sleep(FULL_WAIT).await;
                    parts = self.parts_again(frame)?;
                }
                Err(LinkFailed::Store(LinkedError::Clearing(id))) => {
                    let log = Arc::clone(&self.log);
                    let cleared = blocking(move || log.store().clear_dropped(id)).await?;
                    cleared.map_err(|error| Ended::Store(error.to_string()))?;
                    parts = self.parts_again(frame)?;
                }
                Err(LinkFailed::Store(LinkedError::Differs { partition, .. })) if self.listed.is_some() => {
                    return Err(Ended::Wrong(format!("other events of {partition} than those that are here")));
                }
                Err(LinkFailed::Store(error @ (LinkedError::NotNext { .. } | LinkedError::Differs { .. }))) => {
                    self.settle((origin, linked), &error, (frame, held)).await?;
                    return Err(Ended::Again(error.to_string()));
                }
                Err(LinkFailed::Store(error @ LinkedError::Store(FollowError::Failed(_)))) => {
                    return Err(Ended::Store(error.to_string()));
                }
                Err(LinkFailed::Store(error)) => return Err(Ended::Wrong(error.to_string())),
                Err(error @ (LinkFailed::Sync(_) | LinkFailed::Closing)) => {
                    return Err(Ended::Store(error.to_string()));
                }
            }
        }
    }

    /// Notes what does not fit. An edge that judges as this program does sends it no more; an older one does, at each connection. So after some times what fits
    /// of the frame is taken, and the hole that the rest was to fill is given up: the edge is told to be further on than it thought, and judges that.
    async fn settle(
        &self,
        (origin, linked): (OriginId, &Linked),
        error: &LinkedError,
        (frame, held): (&[u8], &Held),
    ) -> Result<(), Ended> {
        // What comes down is told, and what another node of the site brings is refused there.
        let (Some((id, fits_to)), Comes::ByLink, None) = (fits_to(error), self.comes, &self.listed) else {
            return Ok(());
        };
        let (end, now) = (self.log.store().end_offset(id), self.log.clock().monotonic());
        let is_due = self.page.lock().refused.refuse(id, (end, fits_to), now);
        if !is_due || self.log.store().ahead(id).is_none() {
            return Ok(());
        }
        let mut fits = self.parts_again(frame)?;
        fits.retain(|part| part.partition() != id || part.end() < fits_to);
        let taken = self.log.take_linked_held(origin, linked.clone(), fits, (self.comes, Arc::clone(held))).await;
        if let Err(error) = taken {
            tracing::debug!(link = self.name, partition = %id, %error, "what came with what does not fit is not taken");
        }
        let (log, from) = (Arc::clone(&self.log), self.log.store().end_offset(id));
        let closed = blocking(move || log.close_ahead(&[id], HoleWhy::Damage)).await?;
        closed.map_err(|error| Ended::Store(error.to_string()))?;
        let text = format!(
            "{id}: what was to come from {from} on is of another log than what is here behind it, and came again and again; it is a gap now \
             (damage). The edge's program is older: upgrade it"
        );
        tracing::error!(link = self.name, "{text}");
        self.page.lock().refused.settle(id, text);
        Ok(())
    }

    /// Leaves out partitions of which what comes does not fit, again and again, where nothing can be given up; what is said of them, and of those
    /// that were settled.
    pub(super) fn leave_out_what_differs(&self, ids: &mut Vec<PartitionId>) -> Vec<Refused> {
        let (store, now) = (self.log.store(), self.log.clock().monotonic());
        let page = self.page.lock();
        let mut said = Vec::new();
        ids.retain(|id| {
            let is_left_out = page.refused.is_left_out(*id, store.end_offset(*id), now);
            if is_left_out {
                let text = format!(
                    "{id}: what comes of it does not fit what is here, again and again, and it is left out for ten minutes: upgrade the \
                     edge's program"
                );
                said.push(Refused::new(0, id.topic.0, ANOTHER_LOG, text));
            } else if let Some(text) = page.refused.settled(*id) {
                // Of neither an origin nor a topic: it is told, and all goes on.
                said.push(Refused::new(0, 0, ANOTHER_LOG, text));
            }
            !is_left_out
        });
        said
    }

    /// What was tried is gone; the frame has it still.
    fn parts_again(&self, frame: &[u8]) -> Result<Vec<LinkedPart>, Ended> {
        let Said::Parts(Parts { mut parts, .. }) = Said::decode(frame)? else { return Err(Ended::ByEdge) };
        self.date(&mut parts);
        Ok(parts)
    }

    /// What is live is to come ahead of what was missed.
    fn skips(&self, id: PartitionId, hole: Hole) -> Result<(), Ended> {
        if self.knows_ahead == KnowsAhead::Nothing {
            return Err(Ended::Wrong(format!("an open hole of {id}, without having said that it knows of such")));
        }
        tracing::info!(link = self.name, partition = %id, from = hole.from, to = hole.to, "what was missed comes behind what is live");
        Ok(())
    }

    /// Notes on holes when they were heard of.
    fn date(&self, parts: &mut [LinkedPart]) {
        let now_ms = self.log.clock().wall_ms();
        for part in parts {
            if let LinkedPart::Hole(_, hole) = part {
                hole.at_ms = now_ms;
            }
        }
    }
}
