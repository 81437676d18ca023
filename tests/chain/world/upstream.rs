//! Upstream's end of a link: what it takes, and what it says of that.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use edgeway::links::{Answer, Parts, Refused, Said, check_parts, fits_to, lies_ahead, stand};
use sled_data::{Hole, HoleWhy, Linked, LinkedError, LinkedPart, Offset, OriginId, PartitionId, TopicId, TopicInfo};

use super::{Link, Running, Session, World};
use crate::chain::bug::Bug;

/// What was offered and taken in a session.
#[derive(Default)]
pub struct Receiving {
    origins: BTreeMap<OriginId, Linked>,
    topics: BTreeSet<TopicId>,
    /// The newest round that is in the store, and not said to be.
    written: Option<u64>,
    /// How often parts ahead had been dropped of what was asked for.
    drops: BTreeMap<PartitionId, u64>,
    /// Since when the edge waits for what the site's other node has, or is to have.
    waits_since: Option<u64>,
}

/// How long an edge waits for that.
const WAIT_MS: u64 = 10_000;

/// What an edge waits for.
#[derive(PartialEq, Eq)]
enum Wait {
    /// For nothing.
    No,
    /// For what the other node has more of; then it is told how it is here.
    Level,
    /// For the other node to have what is here; then it is sent there.
    Quorum,
}

impl World {
    /// One turn of the receiver; false when the session ends.
    pub fn receive(&mut self, number: usize, upstream: &mut Running, session: &mut Session) -> bool {
        let count = session.up.len().min(1 + self.random.place(6));
        for _ in 0..count {
            let Some(frame) = session.up.pop_front() else { break };
            let wait = self.to_wait_for(number, upstream, &frame);
            let since = *session.receiving.waits_since.get_or_insert(self.now);
            match wait {
                Wait::No => {}
                _ if since + WAIT_MS >= self.now => {
                    session.up.push_front(frame);
                    self.history.met.insert("an edge waits");
                    break;
                }
                Wait::Level => {}
                Wait::Quorum => return false,
            }
            session.receiving.waits_since = None;
            if !self.take_frame(number, upstream, session, &frame) {
                return false;
            }
        }
        if session.is_spoilt {
            return !session.up.is_empty();
        }
        let origins = &session.receiving.origins;
        if !self.is_calm && !self.random.chance(400) {
            return true;
        }
        upstream.store.sync().expect("it syncs");
        let come = upstream.store.partitions().into_iter().filter(|id| origins.contains_key(&id.origin));
        for id in come.collect::<Vec<_>>() {
            upstream.show(id, upstream.store.end_offset(id));
        }
        let asks = self.has_quorum && self.links[number].within.is_none() && !self.has(Bug::ToldBeforeQuorum);
        let come = upstream.store.partitions().into_iter().filter(|id| origins.contains_key(&id.origin));
        if asks && !self.other_has(number, upstream, come) {
            return true;
        }
        session.down.extend(session.receiving.written.take().map(|number| Answer::Stored(number).encode()));
        true
    }

    /// The site's other node, where a link may stand to either.
    fn other_node(&self, number: usize) -> Option<&Running> {
        let Link { to, nodes, .. } = &self.links[number];
        let other = nodes.iter().find(|node| *node != to)?;
        self.sites[*other].running.as_ref()
    }

    /// Whether the other node has synced all that is here of partitions.
    fn other_has(&self, number: usize, upstream: &Running, ids: impl IntoIterator<Item = PartitionId>) -> bool {
        let other = self.other_node(number);
        ids.into_iter().all(|id| other.is_some_and(|other| other.end(id) >= upstream.store.end_offset(id)))
    }

    /// What an edge waits for that asks where partitions end.
    fn to_wait_for(&self, number: usize, upstream: &Running, frame: &[u8]) -> Wait {
        let Ok(Said::Where(ids)) = Said::decode(frame) else { return Wait::No };
        if self.links[number].nodes.len() == 1 {
            return Wait::No;
        }
        let is_connected = self.links.iter().any(|link| link.within.is_some() && link.cut_until <= self.now);
        let other = self.other_node(number).filter(|_| is_connected);
        let is_ahead = |id: &PartitionId| other.is_some_and(|other| other.end(*id) > upstream.store.end_offset(*id));
        if ids.iter().any(is_ahead) {
            return Wait::Level;
        }
        let asks = self.has_quorum && !self.has(Bug::ToldBeforeQuorum);
        if asks && !self.other_has(number, upstream, ids) { Wait::Quorum } else { Wait::No }
    }

    fn take_frame(&mut self, number: usize, upstream: &mut Running, session: &mut Session, frame: &[u8]) -> bool {
        let Session { receiving, down, .. } = session;
        match Said::decode(frame) {
            Ok(Said::Offer(origin, path)) => self.judge(number, upstream, session, origin, path),
            Ok(Said::Topic(info)) => {
                let id = info.id;
                match self.take_topic(number, upstream, info) {
                    Ok(()) => drop(receiving.topics.insert(id)),
                    Err(refused) => down.push_back(Answer::Refused(refused).encode()),
                }
            }
            Ok(Said::Where(ids)) => {
                let known = |id: &PartitionId| {
                    receiving.origins.contains_key(&id.origin) && receiving.topics.contains(&id.topic)
                };
                upstream.store.sync().expect("it syncs");
                let mut ids: Vec<PartitionId> = ids.into_iter().filter(known).collect();
                let goes_ahead = self.is_from_edge(number);
                if let Some(refused) = upstream.refused.get(&number) {
                    let now = Duration::from_millis(self.now);
                    let is_out = |id: &PartitionId| refused.is_left_out(*id, upstream.store.end_offset(*id), now);
                    let said = |id: &PartitionId| Answer::Refused(Refused::new(0, id.topic.0, "another-log", ""));
                    down.extend(ids.iter().filter(|id| is_out(id)).map(|id| said(id).encode()));
                    ids.retain(|id| !is_out(id));
                }
                let mut has_dropped = |id: &PartitionId| {
                    let drops = upstream.store.dropped_ahead(*id);
                    *receiving.drops.entry(*id).or_insert(drops) != drops
                };
                let is_dropped = ids.iter().filter(|id| has_dropped(id)).count() > 0;
                if is_dropped && goes_ahead && !self.has(Bug::DropIsNotTold) {
                    return false;
                }
                let ahead = |id: &PartitionId| (*id, lies_ahead(&upstream.store, *id));
                if goes_ahead {
                    let aheads = ids.iter().map(ahead).filter(|(_, parts)| !parts.is_empty());
                    down.push_back(Answer::AllAhead(aheads.collect()).encode());
                }
                let stands = ids.into_iter().map(|id| (id, stand(&upstream.store, id)));
                down.push_back(Answer::Stands(stands.collect()).encode());
            }
            Ok(Said::Parts(parts)) => {
                if self.links[number].down.is_some() {
                    self.history.met.insert("topics come down");
                }
                return self.take_parts(number, upstream, session, parts);
            }
            Ok(
                Said::Hello(_)
                | Said::Behind(_)
                | Said::Answered(..)
                | Said::Ended(_)
                | Said::Whose(..)
                | Said::Renew(_),
            )
            | Err(_) => return false,
        }
        true
    }

    fn is_from_edge(&self, link: usize) -> bool {
        self.links[link].within.is_none() && self.links[link].down.is_none()
    }

    /// What does not fit again and again is settled, as the product does.
    fn settle(
        &mut self,
        link: usize,
        upstream: &mut Running,
        (origin, linked): (OriginId, &Linked),
        (id, fits_to): (PartitionId, Offset),
        mut parts: Vec<LinkedPart>,
    ) {
        let (end, now) = (upstream.store.end_offset(id), Duration::from_millis(self.now));
        let is_due = upstream.refused.entry(link).or_default().refuse(id, (end, fits_to), now);
        if !is_due || upstream.store.ahead(id).is_none() {
            return;
        }
        self.history.met.insert("it is settled");
        parts.retain(|part| part.partition() != id || part.end() < fits_to);
        // What else is wrong is refused again.
        let _ = upstream.store.take_linked(origin, linked, &parts);
        let ahead = upstream.store.ahead(id).map(|part| part.from);
        upstream.store.close_ahead(id, HoleWhy::Damage, 1).expect("it can be written");
        self.history.parted.entry(id).or_default().extend(ahead);
        upstream.refused.entry(link).or_default().settle(id, String::new());
    }

    fn take_topic(&self, number: usize, upstream: &Running, info: TopicInfo) -> Result<(), Refused> {
        let id = info.id;
        self.may_be_brought(number, id, &info.name, None)?;
        let is_adopted = adopt(self.links[number].within.unwrap_or(number), upstream, info);
        if !is_adopted && !self.has(Bug::LoopIsTaken) {
            return Err(Refused::new(0, id.0, "ours-topic", ""));
        }
        let here = upstream.store.topics().into_iter().find(|topic| topic.id == id);
        here.map_or(Ok(()), |here| self.may_be_brought(number, id, "", Some(&here.name)))
    }

    fn judge(&mut self, number: usize, upstream: &Running, session: &mut Session, origin: OriginId, path: Vec<u64>) {
        let id = self.sites[self.links[number].to].id;
        let site = if self.has(Bug::LoopIsTaken) { u64::MAX } else { id };
        match self.may_come(number, &upstream.store, origin, &path, site) {
            Ok(()) => {
                let number = self.links[number].within.unwrap_or(number);
                let linked = Linked { link: number as u64 + 1, hlc: 0, path };
                session.receiving.origins.insert(origin, linked);
            }
            Err(refused) => session.down.push_back(Answer::Refused(refused).encode()),
        }
    }

    fn take_parts(&mut self, link: usize, upstream: &mut Running, session: &mut Session, parts: Parts) -> bool {
        let Parts { number, origin, mut parts } = parts;
        let Some(linked) = session.receiving.origins.get(&origin) else { return false };
        if check_parts(&parts).is_err() {
            return false;
        }
        if self.has(Bug::FillIsNotAtomic) {
            shrink_first(upstream, &mut parts);
        }
        loop {
            let taken = match self.links[link].within {
                None => upstream.store.take_linked(origin, linked, &parts).map(|()| false),
                Some(_) => {
                    let dropped = upstream.store.take_linked_in_order(origin, linked, &parts, 0);
                    dropped.map(|dropped| !dropped.is_empty())
                }
            };
            match taken {
                Ok(is_dropped) => {
                    if is_dropped {
                        self.history.met.insert("a part ahead is dropped");
                    }
                    break;
                }
                Err(LinkedError::NotNext { partition, end, found }) if self.has(Bug::TakesWhatIsNotNext) => {
                    bridge(&mut parts, partition, Hole { from: end, to: found, why: HoleWhy::Retention, at_ms: 1 });
                }
                Err(error) => {
                    match error {
                        LinkedError::NotNext { .. } => drop(self.history.met.insert("it is not next")),
                        LinkedError::Differs { .. } => drop(self.history.met.insert("what is here is another one")),
                        _ => {}
                    }
                    if let Some(refused) = fits_to(&error).filter(|_| self.is_from_edge(link)) {
                        self.settle(link, upstream, (origin, linked), refused, parts);
                    }
                    return false;
                }
            }
        }
        // The edge is told nothing more that it would count what was dropped by.
        let drops = &session.receiving.drops;
        let is_dropped =
            |id: &PartitionId| drops.get(id).is_some_and(|known| *known != upstream.store.dropped_ahead(*id));
        let is_edge = self.links[link].within.is_none();
        if is_edge && parts.iter().any(|part| is_dropped(&part.partition())) && !self.has(Bug::DropIsNotTold) {
            self.history.met.insert("what lay ahead is there no more");
            return false;
        }
        if self.has(Bug::StoredBeforeSync) {
            session.down.push_back(Answer::Stored(number).encode());
        } else {
            session.receiving.written = Some(number);
        }
        true
    }
}

/// Makes a topic under the link's name, as the product does; false where it is not the link's.
fn adopt(number: usize, upstream: &Running, info: TopicInfo) -> bool {
    let prefix = format!("link-{number}/");
    match upstream.store.topics().into_iter().find(|topic| topic.id == info.id) {
        Some(known) => known.name.starts_with(&prefix),
        None => {
            let name = format!("{prefix}{}", info.name);
            upstream.store.create_topic_as(TopicInfo { name, ..info }).is_ok()
        }
    }
}

/// Counts what fills an open hole before it is there.
fn shrink_first(upstream: &Running, parts: &mut Vec<LinkedPart>) {
    let fills = |part: &LinkedPart| {
        let ahead = upstream.store.ahead(part.partition())?;
        let end = upstream.store.end_offset(part.partition());
        let LinkedPart::Batch(batch) = part else { return None };
        let why = HoleWhy::Retention;
        let hole = Hole { from: end, to: batch.next_offset(), why, at_ms: 1 };
        (batch.base_offset() == end && batch.next_offset() <= ahead.from).then_some(hole)
    };
    if let Some((place, hole)) = parts.iter().enumerate().find_map(|(place, part)| Some((place, fills(part)?))) {
        let id = parts[place].partition();
        parts.insert(place, LinkedPart::Hole(id, hole));
    }
}

/// Puts a hole before what is not next.
fn bridge(parts: &mut Vec<LinkedPart>, partition: PartitionId, hole: Hole) {
    let begins = |part: &LinkedPart| match part {
        LinkedPart::Batch(batch) => batch.envelope().partition == partition && batch.base_offset() == hole.to,
        LinkedPart::Hole(id, other) => *id == partition && other.from == hole.to,
    };
    let place = parts.iter().position(begins).unwrap_or(0);
    parts.insert(place, LinkedPart::Hole(partition, hole));
}
