//! Upstream's end of a link: what it takes, and what it says of that.

use std::collections::{BTreeMap, BTreeSet};

use edgeway::links::{Answer, Parts, Refused, Said, check_parts, may_come, stand};
use sled_data::{Hole, HoleWhy, Linked, LinkedError, LinkedPart, OriginId, PartitionId, TopicId, TopicInfo};

use super::{Running, Session, World};
use crate::chain::bug::Bug;

/// What was offered and taken in a session.
#[derive(Default)]
pub struct Receiving {
    origins: BTreeMap<OriginId, Linked>,
    topics: BTreeSet<TopicId>,
    /// The newest round that is in the store, and not said to be.
    written: Option<u64>,
}

impl World {
    /// One turn of the receiver; false when the session ends.
    pub fn receive(&mut self, number: usize, upstream: &mut Running, session: &mut Session) -> bool {
        let count = session.up.len().min(1 + self.random.place(6));
        for frame in session.up.drain(..count).collect::<Vec<_>>() {
            if !self.take_frame(number, upstream, session, &frame) {
                return false;
            }
        }
        if session.is_spoilt {
            return !session.up.is_empty();
        }
        let Receiving { origins, written, .. } = &mut session.receiving;
        if !self.is_calm && !self.random.chance(400) {
            return true;
        }
        upstream.store.sync().expect("it syncs");
        let come = upstream.store.partitions().into_iter().filter(|id| origins.contains_key(&id.origin));
        for id in come.collect::<Vec<_>>() {
            upstream.show(id, upstream.store.end_offset(id));
        }
        session.down.extend(written.take().map(|number| Answer::Stored(number).encode()));
        true
    }

    fn take_frame(&mut self, number: usize, upstream: &mut Running, session: &mut Session, frame: &[u8]) -> bool {
        let Session { receiving, down, .. } = session;
        match Said::decode(frame) {
            Ok(Said::Offer(origin, path)) => self.judge(number, upstream, session, origin, path),
            Ok(Said::Topic(info)) => {
                let id = info.id;
                match adopt(number, upstream, info) || self.has(Bug::LoopIsTaken) {
                    true => drop(receiving.topics.insert(id)),
                    false => down.push_back(Answer::Refused(Refused::new(0, id.0, "ours-topic", "")).encode()),
                }
            }
            Ok(Said::Where(ids)) => {
                let known = |id: &PartitionId| {
                    receiving.origins.contains_key(&id.origin) && receiving.topics.contains(&id.topic)
                };
                upstream.store.sync().expect("it syncs");
                let stands = ids.into_iter().filter(known).map(|id| (id, stand(&upstream.store, id)));
                down.push_back(Answer::Stands(stands.collect()).encode());
            }
            Ok(Said::Parts(parts)) => return self.take_parts(upstream, session, parts),
            Ok(Said::Hello(_) | Said::Behind(_) | Said::Answered(..) | Said::Ended(_)) | Err(_) => return false,
        }
        true
    }

    fn judge(&mut self, number: usize, upstream: &Running, session: &mut Session, origin: OriginId, path: Vec<u64>) {
        let id = self.sites[self.links[number].to].id;
        let site = if self.has(Bug::LoopIsTaken) { u64::MAX } else { id };
        match may_come(&upstream.store, origin, &path, site, number as u64 + 1) {
            Ok(()) => {
                let linked = Linked { link: number as u64 + 1, hlc: 0, path };
                session.receiving.origins.insert(origin, linked);
            }
            Err(refused) => session.down.push_back(Answer::Refused(refused).encode()),
        }
    }

    fn take_parts(&mut self, upstream: &mut Running, session: &mut Session, parts: Parts) -> bool {
        let Parts { number, origin, mut parts } = parts;
        let Some(linked) = session.receiving.origins.get(&origin) else { return false };
        if check_parts(&parts).is_err() {
            return false;
        }
        loop {
            match upstream.store.take_linked(origin, linked, &parts) {
                Ok(()) => break,
                Err(LinkedError::NotNext { partition, end, found }) if self.has(Bug::TakesWhatIsNotNext) => {
                    bridge(&mut parts, partition, Hole { from: end, to: found, why: HoleWhy::Retention, at_ms: 1 });
                }
                Err(LinkedError::NotNext { .. }) => {
                    self.history.met.insert("it is not next");
                    return false;
                }
                Err(_) => return false,
            }
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

/// Puts a hole before what is not next.
fn bridge(parts: &mut Vec<LinkedPart>, partition: PartitionId, hole: Hole) {
    let begins = |part: &LinkedPart| match part {
        LinkedPart::Batch(batch) => batch.envelope().partition == partition && batch.base_offset() == hole.to,
        LinkedPart::Hole(id, other) => *id == partition && other.from == hole.to,
    };
    let place = parts.iter().position(begins).unwrap_or(0);
    parts.insert(place, LinkedPart::Hole(partition, hole));
}
