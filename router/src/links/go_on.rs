//! How one stream of a link goes on with partitions, where upstream has said how far it has them.

use std::sync::Arc;
use std::time::Duration;

use sled_data::{Offset, PARTS_AHEAD_MAX, PartitionId};
use tokio::time::Instant;

use super::begin::{Begin, Stand};
use super::class::Priority;
use super::hear::ASK_AGAIN;
use super::judge::{judge, note_by_name, read_aheads, shown_by};
use super::lanes::Fill;
use super::later::{AheadJudged, HeardAhead, NEWEST_BYTES_MAX, Way, live_from, skip_to, waits, way};
use super::sender::{Ended, Open, Sender, blocking};
use crate::event_log::{EventLog, PartitionLog};

/// How long upstream must have stood still behind in an origin of another node of the site before this one sends it.
const LEFT_AFTER: Duration = if cfg!(test) { Duration::from_millis(400) } else { Duration::from_secs(10) };

/// What upstream has of a partition, judged by what is here.
struct Judged {
    id: PartitionId,
    /// Where it ends upstream.
    end: Offset,
    begin: Begin,
    /// What lies ahead of that there, in order.
    aheads: Vec<AheadJudged>,
    /// Where it goes on, if what was missed is to come behind.
    skip_to: Option<Offset>,
}

impl Judged {
    fn of(
        log: &EventLog,
        (id, end, begin): (PartitionId, Offset, Begin),
        aheads: Vec<AheadJudged>,
        may_skip: bool,
    ) -> Self {
        let skip_to = if may_skip {
            let to = log.visible_end(id);
            let waits = waits(log.store(), id, (live_from(end, &aheads), to), log.clock().wall_ms(), NEWEST_BYTES_MAX);
            waits.and_then(|waits| skip_to(&waits))
        } else {
            None
        };
        Self { id, end, begin, aheads, skip_to }
    }
}

impl Sender {
    /// Begins with partitions where they end upstream. Judging reads the store, and beginning sends: upstream says when once
    /// for each time that it was asked.
    pub(super) async fn go_on(&self, stands: Vec<(PartitionId, Stand)>) -> Result<(), Ended> {
        let (stands, aheads) = {
            let mut open = self.open.lock();
            (open.awaited(stands), open.aheads.take())
        };
        if stands.is_empty() {
            return Ok(());
        }
        // One that says nothing knows of none.
        let HeardAhead { parts: aheads, parts_max } = aheads.unwrap_or_default();
        let others = self.session.sent_by_others();
        let may_skip = |id: PartitionId| {
            // What others write has no live part here.
            let partition = self.session.log.partition(id).ok().filter(|_| !others.contains(&id.origin));
            !self.fills(id) && partition.is_some_and(|found| self.session.config.is_newest_first(found.topic()))
        };
        let skips: Vec<_> = stands.iter().map(|(id, _)| may_skip(*id)).collect();
        let (log, place, name) = (Arc::clone(&self.session.log), self.session.place(), self.session.name.clone());
        let judged = blocking(move || {
            let store = log.store();
            let aheads = read_aheads(store, &stands, &aheads);
            let judged = judge(store, &place, stands, shown_by(store, &aheads), log.clock().wall_ms());
            let judged = judged.map_err(|error| error.to_string())?;
            let origins = judged.iter().map(|(id, ..)| id.origin).collect();
            note_by_name(store, (place.as_str(), name.as_str()), &origins).map_err(|error| error.to_string())?;
            let with = |(at, may_skip): ((PartitionId, _, _), _)| {
                let aheads = aheads.get(&at.0).map(Vec::as_slice).unwrap_or_default();
                let is_apart = !aheads.is_empty() && store.is_apart(at.0.origin, &place);
                Judged::of(&log, at, aheads.iter().map(|read| read.judged(is_apart)).collect(), may_skip)
            };
            Ok(judged.into_iter().zip(skips).map(with).collect::<Vec<_>>())
        });
        let mut judged = judged.await?;
        if parts_max < PARTS_AHEAD_MAX {
            self.tell_in_order(&mut judged, parts_max);
        }
        let claims = self.go_on_by(judged);
        for (id, end) in claims {
            self.end_life(id, end).await?;
        }
        Ok(())
    }

    /// Says that upstream cannot take what is live before what was missed, where it would be sent and more parts would lie ahead there than so many.
    fn tell_in_order(&self, judged: &mut [Judged], parts_max: usize) {
        let over = judged.iter_mut().filter(|judged| judged.aheads.len() >= parts_max);
        let skips = over.filter_map(|judged| judged.skip_to.take()).count();
        let text = "the upstream node's program is older: what was missed goes before what is live; upgrade it";
        if skips > 0 && self.session.page.lock().refuse(text) {
            tracing::warn!(link = self.session.name, "{text}");
        }
    }

    /// Begins with what can be gone on with; where upstream says that it has more of the life that lives.
    fn go_on_by(&self, judged: Vec<Judged>) -> Vec<(PartitionId, Offset)> {
        let others = self.session.sent_by_others();
        let mut claims = Vec::new();
        let mut open = self.open.lock();
        for Judged { id, end, begin, aheads, skip_to } in judged {
            // It may have been let go of meanwhile, or be full.
            if !open.asked.contains_key(&id) || !self.brings(id) {
                continue;
            }
            let is_living = id.origin == self.session.log.store().origin();
            match begin {
                Begin::From(from) if self.fills(id) => self.fill(&mut open, id, from, &aheads),
                Begin::From(from) if others.contains(&id.origin) => {
                    self.begin_left(&mut open, id, (from, live_from(end, &aheads)));
                }
                Begin::From(from) => match way(from, &aheads, skip_to) {
                    Way::FillsAlone { parts, place, .. } if is_living => {
                        open.hold(id, Instant::now() + ASK_AGAIN);
                        claims.push((id, parts.get(place).map_or(from, |(_, end)| *end)));
                    }
                    way => self.begin(&mut open, id, way),
                },
                Begin::Ahead | Begin::Forked if is_living => {
                    open.hold(id, Instant::now() + ASK_AGAIN);
                    claims.push((id, end));
                }
                Begin::Ahead => open.hold(id, Instant::now() + ASK_AGAIN),
                Begin::Forked => {
                    open.hold(id, Instant::now() + ASK_AGAIN);
                    self.forked(id, end);
                }
                Begin::Doubtful => {
                    open.hold(id, Instant::now() + ASK_AGAIN);
                    self.doubtful(id, end);
                }
            }
        }
        claims
    }

    /// Begins with what another node of the site writes, where that is left.
    fn begin_left(&self, open: &mut Open, id: PartitionId, (from, live): (Offset, Offset)) {
        let session = &self.session;
        // It may have been deleted.
        let Ok(partition) = session.log.partition(id) else { return };
        let (here, now) = (partition.visible_end(), session.log.clock().monotonic());
        if session.left.lock().look(id, (from, live), here, now, LEFT_AFTER) {
            session.page.lock().left.insert(id);
            self.in_order(partition, from);
        } else {
            open.hold(id, Instant::now() + LEFT_AFTER);
        }
        self.note(id, from, Vec::new());
    }

    /// Begins with what feeds this node, or is its own.
    fn begin(&self, open: &mut Open, id: PartitionId, way: Way) {
        let session = &self.session;
        let Ok(partition) = session.log.partition(id) else { return };
        let drop_after_ms = session.config.drop_after_ms(partition.topic());
        match way {
            Way::InOrder(from) => {
                session.fills.lock().remove(&id);
                self.in_order(partition, from);
                self.note(id, from, Vec::new());
            }
            Way::Skips { from, to } => {
                // What is being filled already goes on so.
                let to = *session.fills.lock().entry(id).or_insert(to);
                match from < to {
                    true => {
                        self.lanes.lock().add_ahead(partition, (from, to), drop_after_ms);
                        self.note(id, from, vec![(to, to)]);
                    }
                    false => self.begin(open, id, Way::InOrder(from)),
                }
            }
            Way::Ahead { from, mut parts, skip_to } if session.config.is_newest_first(partition.topic()) => {
                let Some((mut to, live)) = parts.last().copied() else { return };
                let mut fills = session.fills.lock();
                // What is being filled already goes on so.
                let begun = fills.get(&id).copied().filter(|begun| live < *begun);
                if let Some(skip_to) = begun.or(skip_to) {
                    self.lanes.lock().add_ahead(partition, (live, skip_to), drop_after_ms);
                    parts.push((skip_to, skip_to));
                    to = skip_to;
                } else {
                    self.in_order(partition, live);
                }
                fills.insert(id, to);
                drop(fills);
                self.note(id, from, parts);
            }
            // Upstream leaves out what it has ahead.
            Way::Ahead { from, .. } => self.begin(open, id, Way::InOrder(from)),
            Way::FillsAlone { from, parts, place, is_same, is_forked } => {
                let has_ended = session.log.store().linked_origin(id.origin).is_none();
                // What a link brings here may be behind itself, and come yet; of what has ended the gaps behind that part go first.
                if !has_ended || place + 1 < parts.len() {
                    open.hold(id, Instant::now() + ASK_AGAIN);
                }
                if has_ended || !is_forked {
                    let (from, fill) = Fill::alone(from, &parts, place, (is_same, has_ended));
                    self.lanes.lock().add_fill(partition, from, fill, drop_after_ms);
                }
                if is_forked || has_ended && !is_same {
                    self.forked(id, parts.get(place).map_or(from, |(to, _)| *to));
                }
                // Where the gaps behind that part go first, what lies before it is not on its way yet.
                let gaps_first = has_ended && place + 1 < parts.len();
                let ahead = if gaps_first { parts.into_iter().take(place + 1).collect() } else { Vec::new() };
                self.note(id, from, ahead);
            }
        }
    }

    fn in_order(&self, partition: Arc<PartitionLog>, from: Offset) {
        let drop_after_ms = self.session.config.drop_after_ms(partition.topic());
        self.lanes.lock().add(partition, from, drop_after_ms);
    }

    /// Notes up to where a partition is stored upstream, and what of it is there ahead.
    fn note(&self, id: PartitionId, end: Offset, ahead: Vec<(Offset, Offset)>) {
        let mut page = self.session.page.lock();
        page.stored.insert(id, end);
        match ahead.is_empty() {
            false => drop(page.ahead.insert(id, ahead)),
            true => drop(page.ahead.remove(&id)),
        }
    }

    /// Whether this stream brings something of a partition.
    fn brings(&self, id: PartitionId) -> bool {
        let partition = self.session.log.partition(id);
        let is_own = partition.is_ok_and(|found| self.session.config.priority(found.topic()) == self.priority);
        is_own || self.fills(id)
    }

    /// Whether this stream brings what was missed of a partition whose live part goes in another one.
    pub(super) fn fills(&self, id: PartitionId) -> bool {
        self.priority == Priority::Low && self.session.fills.lock().contains_key(&id)
    }

    /// Begins with what was missed.
    fn fill(&self, open: &mut Open, id: PartitionId, from: Offset, aheads: &[AheadJudged]) {
        let session = &self.session;
        let Ok(partition) = session.log.partition(id) else { return };
        let begun = session.fills.lock().get(&id).copied();
        let parts: Vec<_> = aheads.iter().map(|judged| (judged.ahead.from, judged.ahead.end)).collect();
        // What is live may have been skipped again since upstream has said what lies ahead.
        match parts.last().map(|(to, _)| *to).max(begun).filter(|to| from < *to) {
            Some(to) => {
                let drop_after_ms = session.config.drop_after_ms(partition.topic());
                self.lanes.lock().add_fill(partition, from, Fill::up_to(to, &parts), drop_after_ms);
            }
            None => self.filled(open, id, from),
        }
    }

    /// Notes up to where a partition is filled. When it is full, its own stream has all that follows.
    pub(super) fn filled(&self, open: &mut Open, id: PartitionId, end: Offset) {
        self.session.page.lock().filled_up_to(id, end);
        let is_full = self.session.fills.lock().get(&id).is_some_and(|to| *to <= end);
        if is_full {
            self.session.fills.lock().remove(&id);
            open.asked.remove(&id);
            self.lanes.lock().remove(id);
        } else if self.lanes.lock().has_filled(id) && !open.is_on_its_way(id) {
            // What is live was skipped again since this stream has asked: it asks anew, and fills the rest of the hole.
            open.asked.remove(&id);
        }
    }
}
