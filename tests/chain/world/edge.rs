//! The edge's end of a link: what it says of what it has, how it goes on, and what it sends.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use edgeway::links::{Answer, Begin, Lanes, Moment, Parts, Refused, Round, Said, Stand, begin, judge, mine};
use sled_data::{HoleWhy, LinkedPart, Offset, OriginId, PartitionId};

use super::{DROP_AFTER_MS, Running, Session, World};
use crate::chain::bug::Bug;
use crate::chain::history::Dropped;

/// Bytes of a round, and bytes that are sent and not said to be stored.
const ROUND_BYTES: usize = 400;
const UNDER_WAY_BYTES_MAX: usize = 2_000;
/// How long what was refused, or is further upstream, is left alone.
const ASK_AGAIN_MS: u64 = 60_000;

/// What one session has come to.
#[derive(Default)]
pub struct Sending {
    lanes: Lanes,
    offered: BTreeSet<OriginId>,
    topics: BTreeSet<u64>,
    asked: BTreeMap<PartitionId, Option<u64>>,
    under_way: VecDeque<(u64, usize, BTreeMap<PartitionId, Offset>)>,
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
            // A site's nodes have what each other writes by another way.
            let is_meant = within.is_none() || linked.is_some() && !self.has(Bug::KeptByOneNode);
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
            Answer::Stored(stored) => {
                while let Some((_, _, ends)) = sending.under_way.pop_front_if(|(sent, ..)| *sent <= stored) {
                    edge.stored.extend(ends.into_iter().map(|(id, end)| ((number, id), end)));
                }
                true
            }
            Answer::Refused(refused) => {
                self.refused(sending, &refused);
                true
            }
            Answer::Stands(stands) => {
                let judged = self.judge_ends(number, edge, &stands);
                let mut all = stands.into_iter().zip(judged);
                all.all(|((id, stand), begin)| self.go_on_with(number, edge, sending, id, (stand, begin)))
            }
        }
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
    }

    /// How partitions go on.
    fn judge_ends(&self, number: usize, edge: &Running, stands: &[(PartitionId, Stand)]) -> Vec<Begin> {
        if self.has(Bug::ForkIsForgotten) {
            return stands.iter().map(|(id, stand)| begin(stand, &mine(&edge.store, *id, stand))).collect();
        }
        let now_ms = i64::try_from(self.now).unwrap();
        let judged = judge(&edge.store, &format!("link {number}"), stands.to_vec(), now_ms).expect("it can be noted");
        judged.into_iter().map(|(.., begin)| begin).collect()
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
                let was = self.links[number].sent.get(&id).copied().filter(|_| self.has(Bug::GoesOnWhereItWas));
                let from = was.unwrap_or(from).max(from);
                let drops = id.topic.0 % 100 == 1 && self.links[number].drops;
                sending.lanes.add(Arc::clone(log), from, if drops { DROP_AFTER_MS } else { 0 });
                edge.stored.insert((number, id), from.min(stand.end));
                true
            }
            Begin::Ahead | Begin::Forked if id.origin == edge.store.origin() => {
                let site = &self.sites[self.links[number].from];
                self.history.tell(self.now, format!("site {}: {judged:?} {id} {stand:?}", self.links[number].from));
                self.history.ended.push((id.origin, site.was_set_back));
                edge.store.end_life("upstream has more").expect("it syncs");
                false
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
            let under_way: usize = sending.under_way.iter().map(|(_, bytes, _)| bytes).sum();
            if under_way >= UNDER_WAY_BYTES_MAX || (!self.is_calm && self.random.chance(200)) {
                return true;
            }
            sending.lanes.at(self.moment(edge));
            let round = match sending.lanes.next_round(&edge.store, ROUND_BYTES, &|| edge.shown) {
                Ok(Some(round)) => round,
                Ok(None) => return true,
                Err(_) => return false,
            };
            sending.number += 1;
            let Round { origin, mut parts, bytes, ends, .. } = round;
            self.note_dropped(&parts);
            if self.has(Bug::GapNotTold) {
                parts.retain(|part| matches!(part, LinkedPart::Batch(_)));
            }
            self.links[number].sent.extend(ends.iter().map(|(id, end)| (*id, *end)));
            sending.under_way.push_back((sending.number, bytes, ends));
            up.push_back(Said::Parts(Parts { number: sending.number, origin, parts }).encode());
        }
    }
}
