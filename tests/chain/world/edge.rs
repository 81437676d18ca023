//! The edge's end of a link: what it says of what it has, how it goes on, and what it sends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use edgeway::event_log::PartitionLog;
use edgeway::links::{
    Answer, Begin, Fill, Lanes, LiesAhead, Mine, Moment, Page, Parts, Refused, Round, Said, Stand, Way, begin, judge,
    judge_ahead, live_from, mine, shown_ahead, skip_to, waits, way,
};
use sled_data::{HoleWhy, LinkedPart, Offset, OriginId, PartitionId};

use super::{DROP_AFTER_MS, Running, Session, World};
use crate::chain::bug::Bug;
use crate::chain::history::Dropped;

/// Bytes of a round, and bytes that are sent and not said to be stored.
const ROUND_BYTES: usize = 400;
const UNDER_WAY_BYTES_MAX: usize = 2_000;
/// Bytes of the newest events that go before what was missed.
const NEWEST_BYTES: usize = 300;
/// What is met where a partition is skipped while so many parts of it lie ahead.
const SKIPPED: [&str; 4] = ["goes on ahead", "a second outage", "a third outage", "more outages"];
/// How long what was refused, or is further upstream, is left alone.
const ASK_AGAIN_MS: u64 = 60_000;

/// What one session has come to.
#[derive(Default)]
pub struct Sending {
    lanes: Lanes,
    /// What was missed, and comes behind what is newer: behind which parts, and how far these are stored upstream, is on the page.
    fills: Lanes,
    page: Page,
    aheads: BTreeMap<PartitionId, Vec<LiesAhead>>,
    offered: BTreeSet<OriginId>,
    topics: BTreeSet<u64>,
    asked: BTreeMap<PartitionId, Option<u64>>,
    under_way: VecDeque<(u64, usize, BTreeMap<PartitionId, Offset>, bool)>,
    number: u64,
}

impl World {
    /// One turn of the sender; false when the session ends.
    pub fn send(&mut self, number: usize, edge: &mut Running, session: &mut Session) -> bool {
        let count = session.down.len().min(1 + self.random.place(4));
        for frame in session.down.drain(..count).collect::<Vec<_>>() {
            let Ok(answer) = Answer::decode(&frame) else { return false };
            if !self.hear(number, edge, session, answer) {
                return false;
            }
        }
        self.discover(number, edge, session);
        self.send_rounds(number, edge, session)
    }

    fn discover(&mut self, number: usize, edge: &Running, session: &mut Session) {
        let (now, id) = (self.now, self.sites[self.links[number].from].id);
        let within = self.links[number].within;
        let Session { sending, up, .. } = session;
        sending.asked.retain(|_, until| until.is_none_or(|until| until > now));
        let mut new = Vec::new();
        for (partition, log) in &edge.logs {
            let linked = edge.store.linked_origin(partition.origin);
            let is_meant = self.is_meant(number, log.topic(), linked.as_ref());
            if log.visible_end() == 0 || sending.asked.contains_key(partition) || !is_meant {
                continue;
            }
            if sending.offered.insert(partition.origin) {
                // It does not leave the site on its way to the other node.
                let own = Some(id).filter(|_| within.is_none());
                let path = linked.map(|linked| linked.path).unwrap_or_default().into_iter().chain(own).collect();
                up.push_back(Said::Offer(partition.origin, path).encode());
            }
            if sending.topics.insert(partition.topic.0) {
                let mut topic = edge.store.topics().into_iter().find(|topic| topic.id == partition.topic);
                if let (Some(_), Some(topic)) = (within, &mut topic) {
                    topic.name = topic.name.split_once('/').map(|(_, name)| name.to_owned()).unwrap_or_default();
                }
                up.extend(topic.map(|topic| Said::Topic(topic).encode()));
            }
            sending.asked.insert(*partition, None);
            new.push(*partition);
        }
        if !new.is_empty() {
            up.push_back(Said::Where(new).encode());
        }
    }

    fn hear(&mut self, number: usize, edge: &mut Running, session: &mut Session, answer: Answer) -> bool {
        let sending = &mut session.sending;
        match answer {
            Answer::Welcome(..) | Answer::Asked(..) | Answer::Known(_) | Answer::Due(_) | Answer::Renewed(..) => false,
            Answer::Ahead(_) => false,
            Answer::AllAhead(aheads) => {
                sending.aheads = aheads.into_iter().collect();
                true
            }
            Answer::Stored(stored) => {
                while let Some((_, _, ends, is_fill)) = sending.under_way.pop_front_if(|(sent, ..)| *sent <= stored) {
                    for (id, end) in ends {
                        self.note_stored(number, edge, sending, (id, end, is_fill));
                    }
                }
                true
            }
            Answer::Refused(refused) => {
                self.refused(sending, &refused);
                true
            }
            Answer::Stands(stands) => {
                let judged = self.judge_ends(number, edge, &stands, &sending.aheads);
                let mut all = stands.into_iter().zip(judged);
                all.all(|((id, stand), begin)| self.go_on_with(number, edge, sending, id, (stand, begin)))
            }
        }
    }

    /// What is ahead of an open hole counts as stored when the hole is full.
    fn note_stored(
        &self,
        number: usize,
        edge: &mut Running,
        sending: &mut Sending,
        (id, end, is_fill): (PartitionId, Offset, bool),
    ) {
        let Sending { page, fills, .. } = sending;
        match is_fill {
            true => page.filled_up_to(id, end),
            false => page.stored_up_to(id, end),
        }
        let is_ahead = page.ahead.contains_key(&id);
        if is_fill && !is_ahead {
            fills.remove(id);
        }
        let counts = is_ahead && !is_fill && self.has(Bug::CountsWhatIsAhead);
        let stored = page.stored.get(&id).copied().filter(|_| !counts).unwrap_or(end);
        edge.stored.insert((number, id), stored);
    }

    fn refused(&mut self, sending: &mut Sending, refused: &Refused) {
        if refused.code == "loop" {
            self.history.met.insert("loop");
        }
        let is_of = |id: &PartitionId| match refused.topic {
            0 => id.origin.0 == refused.origin,
            topic => id.topic.0 == topic,
        };
        let again = self.now + ASK_AGAIN_MS;
        sending.asked.iter_mut().filter(|(id, _)| is_of(id)).for_each(|(_, until)| *until = Some(again));
        sending.offered.remove(&OriginId(refused.origin));
        sending.topics.remove(&refused.topic);
        sending.lanes.keep(|id| !is_of(&id));
        sending.fills.keep(|id| !is_of(&id));
    }

    /// How partitions go on.
    fn judge_ends(
        &mut self,
        number: usize,
        edge: &Running,
        stands: &[(PartitionId, Stand)],
        aheads: &BTreeMap<PartitionId, Vec<LiesAhead>>,
    ) -> Vec<Begin> {
        let place = format!("link {number}");
        let shown = shown_ahead(&edge.store, stands, aheads);
        let begins: Vec<Begin> = if self.has(Bug::ForkIsForgotten) {
            stands.iter().map(|(id, stand)| begin(stand, &mine(&edge.store, *id, stand))).collect()
        } else {
            let now_ms = i64::try_from(self.now).unwrap();
            let judged = judge(&edge.store, &place, stands.to_vec(), shown.clone(), now_ms).expect("it can be noted");
            judged.into_iter().map(|(.., begin)| begin).collect()
        };
        let judged: Vec<_> = stands.iter().zip(&begins).map(|((id, stand), begin)| (*id, *stand, *begin)).collect();
        self.note_what_is_seen(number, edge, &judged, shown);
        begins
    }

    /// Begins with a partition where it ends upstream; false when this life ends.
    fn go_on_with(
        &mut self,
        number: usize,
        edge: &mut Running,
        sending: &mut Sending,
        id: PartitionId,
        (stand, mut judged): (Stand, Begin),
    ) -> bool {
        let Some(log) = edge.logs.get(&id).filter(|_| sending.asked.contains_key(&id)) else { return true };
        if self.has(Bug::ForkIsSent) && judged != Begin::From(stand.end) {
            judged = Begin::From(stand.end.min(log.visible_end()));
        }
        match judged {
            Begin::From(from) => {
                let is_down = self.links[number].down.is_some();
                let bug = if is_down { Bug::GoesOnDownWhereItWas } else { Bug::GoesOnWhereItWas };
                let was = self.links[number].sent.get(&id).copied().filter(|_| self.has(bug));
                let from = was.unwrap_or(from).max(from);
                let drops = id.topic.0 % 100 == 1 && self.links[number].drops;
                let drop_after_ms = if drops { DROP_AFTER_MS } else { 0 };
                let log = Arc::clone(log);
                let goes_on = self.begin(number, edge, sending, (log, drop_after_ms), from);
                sending.page.stored.insert(id, from.min(stand.end));
                edge.stored.insert((number, id), from.min(stand.end));
                goes_on || self.end_life(number, edge, &format!("{id} lies ahead of {stand:?}"))
            }
            // Its word ends no life of its upstream.
            Begin::Ahead | Begin::Forked if id.origin == edge.store.origin() && self.links[number].down.is_some() => {
                self.history.met.insert("the edge has more of its upstream");
                sending.asked.insert(id, Some(self.now + ASK_AGAIN_MS));
                true
            }
            Begin::Ahead | Begin::Forked if id.origin == edge.store.origin() => {
                self.end_life(number, edge, &format!("{judged:?} {id} {stand:?}"))
            }
            other => {
                if other == Begin::Forked {
                    self.history.met.insert("forked");
                }
                sending.asked.insert(id, Some(self.now + ASK_AGAIN_MS));
                true
            }
        }
    }

    /// Notes which origins are seen to be others there, and where partitions of the rest go on that are not seen to be the same.
    fn note_what_is_seen(
        &mut self,
        number: usize,
        edge: &Running,
        judged: &[(PartitionId, Stand, Begin)],
        shown: BTreeSet<OriginId>,
    ) {
        let shows = |(id, _, begin): &&(PartitionId, Stand, Begin)| {
            *begin == Begin::Forked || *begin == Begin::Ahead && edge.store.linked_origin(id.origin).is_none()
        };
        let others = judged.iter().filter(shows).map(|(id, ..)| id.origin).chain(shown);
        self.history.seen_apart.extend(others.map(|origin| (number, origin)));
        for (id, stand, _) in judged.iter().filter(|(.., begin)| matches!(begin, Begin::From(_))) {
            let as_if_apart = begin(stand, &Mine { is_apart: true, ..mine(&edge.store, *id, stand) });
            if as_if_apart == Begin::Doubtful && !self.history.seen_apart.contains(&(number, id.origin)) {
                let of_partition = self.history.unseen.entry(*id).or_default();
                *of_partition.entry(stand.end).or_insert(true) &= stand.hlc != 0;
            }
        }
    }

    /// Begins with a partition that ends at `from` upstream; false where what lies ahead of that says that this life ends.
    fn begin(
        &mut self,
        number: usize,
        edge: &Running,
        sending: &mut Sending,
        (log, drop_after_ms): (Arc<PartitionLog>, u64),
        from: Offset,
    ) -> bool {
        let id = log.id();
        let place = format!("link {number}");
        let ahead = sending.aheads.get(&id).into_iter().flatten();
        let ahead: Vec<_> = ahead.map(|ahead| judge_ahead(&edge.store, &place, id, *ahead)).collect();
        let may_skip = self.links[number].newest && self.links[number].within.is_none();
        let live = live_from(from, &ahead);
        let waits = || waits(&edge.store, id, (live, log.visible_end()), self.now as i64, NEWEST_BYTES);
        let skips_to = if may_skip { waits().and_then(|waits| skip_to(&waits)) } else { None };
        sending.page.ahead.remove(&id);
        sending.fills.remove(id);
        match way(from, &ahead, skips_to) {
            Way::Skips { from, to } => {
                self.history.met.insert("goes on ahead");
                sending.lanes.add_ahead(Arc::clone(&log), (from, to), drop_after_ms);
                sending.fills.add_fill(log, from, Fill::up_to(to, &[]), drop_after_ms);
                sending.page.ahead.insert(id, vec![(to, to)]);
            }
            Way::Ahead { from, mut parts, skip_to } if may_skip => {
                self.history.met.insert("goes on ahead again");
                if let Some(to) = skip_to {
                    self.history.met.insert(SKIPPED[parts.len().min(SKIPPED.len() - 1)]);
                    sending.lanes.add_ahead(Arc::clone(&log), (live, to), drop_after_ms);
                    parts.push((to, to));
                } else {
                    sending.lanes.add(Arc::clone(&log), live, drop_after_ms);
                }
                let to = parts.last().map_or(live, |(to, _)| *to);
                sending.fills.add_fill(log, from, Fill::up_to(to, &parts), drop_after_ms);
                sending.page.ahead.insert(id, parts);
            }
            Way::FillsAlone { .. } if id.origin == edge.store.origin() => return false,
            Way::FillsAlone { from, parts, place, is_same, is_forked } => {
                let has_ended = edge.store.linked_origin(id.origin).is_none();
                if has_ended {
                    self.history.met.insert("fills up to another log");
                    let begins = parts.get(place).filter(|_| !is_same).map(|(begins, _)| *begins);
                    self.history.parted.entry(id).or_default().extend(begins);
                }
                if !has_ended || place + 1 < parts.len() {
                    sending.asked.insert(id, Some(self.now + ASK_AGAIN_MS));
                }
                if has_ended || !is_forked {
                    let (from, fill) = Fill::alone(from, &parts, place, (is_same, has_ended));
                    sending.lanes.add_fill(log, from, fill, drop_after_ms);
                }
                // Where the gaps behind that part go first, what lies before it is not on its way yet.
                if has_ended && place + 1 < parts.len() {
                    sending.page.ahead.insert(id, parts.into_iter().take(place + 1).collect());
                }
            }
            Way::InOrder(from) | Way::Ahead { from, .. } => sending.lanes.add(log, from, drop_after_ms),
        }
        true
    }

    /// This life ends, as upstream has more of it or something else; always false.
    fn end_life(&mut self, number: usize, edge: &Running, why: &str) -> bool {
        let from = self.links[number].from;
        self.history.tell(self.now, format!("site {from}: {why}"));
        self.history.ended.push((edge.store.origin(), self.sites[from].was_set_back));
        edge.store.end_life("upstream has more").expect("it syncs");
        false
    }

    fn moment(&self, edge: &Running) -> Moment {
        let (began, began_after) = edge.began;
        match self.has(Bug::DropsWhatIsYoung) {
            true => Moment { wall_ms: self.now + 86_400_000, up_ms: u64::MAX, began_after },
            false => Moment { wall_ms: self.now, up_ms: self.now - began, began_after },
        }
    }

    fn note_dropped(&mut self, parts: &[LinkedPart]) {
        for part in parts {
            let LinkedPart::Hole(partition, hole) = part else { continue };
            if hole.why == HoleWhy::Deadline {
                self.history.met.insert("too old");
                let (from, to) = (hole.from, hole.to);
                self.history.dropped.push(Dropped { partition: *partition, from, to, at: self.now });
            }
        }
    }

    fn send_rounds(&mut self, number: usize, edge: &Running, session: &mut Session) -> bool {
        let Session { sending, up, .. } = session;
        loop {
            let under_way: usize = sending.under_way.iter().map(|(_, bytes, ..)| bytes).sum();
            if under_way >= UNDER_WAY_BYTES_MAX || (!self.is_calm && self.random.chance(200)) {
                return true;
            }
            // Where nothing is skipped nothing is drawn, and all is as it would be without.
            let has_fills = !sending.fills.is_empty();
            let fills_first = has_fills && self.random.chance(250);
            let moment = self.moment(edge);
            let mut next = |is_fill: bool| {
                let lanes = if is_fill { &mut sending.fills } else { &mut sending.lanes };
                lanes.at(moment);
                let round = lanes.next_round(&edge.store, ROUND_BYTES, &|| edge.shown);
                round.map(|round| round.map(|round| (round, is_fill)))
            };
            let found = match next(fills_first) {
                Ok(None) if has_fills => next(!fills_first),
                found => found,
            };
            let (round, is_fill) = match found {
                Ok(Some(found)) => found,
                Ok(None) => return true,
                Err(_) => return false,
            };
            sending.number += 1;
            let Round { origin, mut parts, bytes, ends, .. } = round;
            self.note_dropped(&parts);
            let bug = if self.links[number].down.is_some() { Bug::GapBelowNotTold } else { Bug::GapNotTold };
            if self.has(bug) {
                let is_told = |part: &LinkedPart| match part {
                    LinkedPart::Batch(_) => true,
                    LinkedPart::Hole(_, hole) => hole.why == HoleWhy::Later,
                };
                parts.retain(is_told);
            }
            self.links[number].sent.extend(ends.iter().map(|(id, end)| (*id, *end)));
            sending.under_way.push_back((sending.number, bytes, ends, is_fill));
            up.push_back(Said::Parts(Parts { number: sending.number, origin, parts }).encode());
        }
    }
}
