//! How one stream of a link goes on with partitions, where upstream has said how far it has them.

use std::sync::Arc;
use std::time::Duration;

use sled_data::{Offset, PartitionId};
use tokio::time::Instant;

use super::begin::{Begin, Stand};
use super::class::Priority;
use super::hear::ASK_AGAIN;
use super::judge::{judge, shown_ahead};
use super::lanes::Fill;
use super::later::{AheadJudged, LiesAhead, NEWEST_BYTES_MAX, Way, judge_ahead, skip_to, waits, way};
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
    /// What lies ahead of that there.
    ahead: Option<AheadJudged>,
    /// Where it goes on, if what was missed is to come behind.
    skip_to: Option<Offset>,
}

impl Judged {
    fn of(
        log: &EventLog,
        (id, end, begin): (PartitionId, Offset, Begin),
        ahead: Option<AheadJudged>,
        may_skip: bool,
    ) -> Self {
        let skip_to = if may_skip {
            let to = log.visible_end(id);
            let waits = waits(log.store(), id, (end, to), log.clock().wall_ms(), NEWEST_BYTES_MAX);
            waits.and_then(|waits| skip_to(&waits))
        } else {
            None
        };
        Self { id, end, begin, ahead, skip_to }
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
        let knows_ahead = aheads.is_some();
        let aheads = aheads.unwrap_or_default();
        let others = self.session.sent_by_others();
        let may_skip = |id: PartitionId| {
            // What others write has no live part here.
            let partition = self.session.log.partition(id).ok().filter(|_| !others.contains(&id.origin));
            !self.fills(id) && partition.is_some_and(|found| self.session.config.is_newest_first(found.topic()))
        };
        let skips: Vec<_> = stands.iter().map(|(id, _)| may_skip(*id)).collect();
        let (log, place) = (Arc::clone(&self.session.log), self.session.name.clone());
        let judged = blocking(move || {
            let shown = shown_ahead(log.store(), &place, &stands, &aheads);
            let judged = judge(log.store(), &place, stands, shown, log.clock().wall_ms());
            let judged = judged.map_err(|error| error.to_string())?;
            let with = |(at, may_skip): ((PartitionId, _, _), _)| {
                let ahead = aheads.get(&at.0).map(|ahead| judge_ahead(log.store(), &place, at.0, *ahead));
                Judged::of(&log, at, ahead, may_skip)
            };
            Ok(judged.into_iter().zip(skips).map(with).collect::<Vec<_>>())
        });
        let mut judged = judged.await?;
        if !knows_ahead {
            self.tell_in_order(&mut judged);
        }
        let claims = self.go_on_by(judged);
        for (id, end) in claims {
            self.end_life(id, end).await?;
        }
        Ok(())
    }

    /// Says that upstream cannot take what is live before what was missed, where it would be sent.
    fn tell_in_order(&self, judged: &mut [Judged]) {
        let skips = judged.iter_mut().filter_map(|judged| judged.skip_to.take()).count();
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
        for Judged { id, end, begin, ahead, skip_to } in judged {
            // It may have been let go of meanwhile, or be full.
            if !open.asked.contains_key(&id) || !self.brings(id) {
                continue;
            }
            let is_living = id.origin == self.session.log.store().origin();
            match begin {
                Begin::From(from) if self.fills(id) => self.fill(&mut open, id, from, ahead.map(|judged| judged.ahead)),
                Begin::From(from) if others.contains(&id.origin) => self.begin_left(&mut open, id, from),
                Begin::From(from) => match way(from, ahead, skip_to) {
                    Way::FillsAlone { to, .. } if is_living => {
                        open.hold(id, Instant::now() + ASK_AGAIN);
                        claims.push((id, ahead.map_or(to, |judged| judged.ahead.end)));
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
    fn begin_left(&self, open: &mut Open, id: PartitionId, from: Offset) {
        let session = &self.session;
        // It may have been deleted.
        let Ok(partition) = session.log.partition(id) else { return };
        let (here, now) = (partition.visible_end(), session.log.clock().monotonic());
        if session.left.lock().look(id, from, here, now, LEFT_AFTER) {
            session.page.lock().left.insert(id);
            self.in_order(partition, from);
        } else {
            open.hold(id, Instant::now() + LEFT_AFTER);
        }
        self.note(id, from, None);
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
                self.note(id, from, None);
            }
            Way::Skips { from, to } => {
                // What is being filled already goes on so.
                let to = *session.fills.lock().entry(id).or_insert(to);
                match from < to {
                    true => {
                        self.lanes.lock().add_ahead(partition, (from, to), drop_after_ms);
                        self.note(id, from, Some((to, to)));
                    }
                    false => self.begin(open, id, Way::InOrder(from)),
                }
            }
            Way::Ahead { from, to, live } if session.config.is_newest_first(partition.topic()) => {
                session.fills.lock().insert(id, to);
                self.in_order(partition, live);
                self.note(id, from, Some((to, live)));
            }
            // Upstream leaves out what it has ahead.
            Way::Ahead { from, .. } => self.begin(open, id, Way::InOrder(from)),
            Way::FillsAlone { from, to, is_same, is_forked } => {
                let has_ended = session.log.store().linked_origin(id.origin).is_none();
                // What a link brings here may be behind itself, and come yet.
                if !has_ended {
                    open.hold(id, Instant::now() + ASK_AGAIN);
                }
                let fill = if has_ended { Fill { to, has_ended, is_same } } else { Fill::up_to(to) };
                if has_ended || !is_forked {
                    self.lanes.lock().add_fill(partition, from, fill, drop_after_ms);
                }
                if is_forked || has_ended && !is_same {
                    self.forked(id, to);
                }
                self.note(id, from, None);
            }
        }
    }

    fn in_order(&self, partition: Arc<PartitionLog>, from: Offset) {
        let drop_after_ms = self.session.config.drop_after_ms(partition.topic());
        self.lanes.lock().add(partition, from, drop_after_ms);
    }

    /// Notes up to where a partition is stored upstream, and what of it is there ahead.
    fn note(&self, id: PartitionId, end: Offset, ahead: Option<(Offset, Offset)>) {
        let mut page = self.session.page.lock();
        page.stored.insert(id, end);
        match ahead {
            Some(ahead) => drop(page.ahead.insert(id, ahead)),
            None => drop(page.ahead.remove(&id)),
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
    fn fill(&self, open: &mut Open, id: PartitionId, from: Offset, ahead: Option<LiesAhead>) {
        let session = &self.session;
        let Ok(partition) = session.log.partition(id) else { return };
        let begun = session.fills.lock().get(&id).copied();
        let to = ahead.map(|ahead| ahead.from).filter(|to| from < *to).or(begun).unwrap_or(from);
        if from < to {
            let drop_after_ms = session.config.drop_after_ms(partition.topic());
            self.lanes.lock().add_fill(partition, from, Fill::up_to(to), drop_after_ms);
        } else {
            self.filled(open, id, from);
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
        }
    }
}
