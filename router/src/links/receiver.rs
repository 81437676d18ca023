//! Stores what one stream of a link brings, and tells what is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{
    FollowError, Hole, HoleWhy, LINKED_PARTITIONS_OF_LINK_MAX, Linked, LinkedError, LinkedPart, Offset, OriginId,
    PartitionId, TopicId,
};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::admit::{check, may_come, stand};
use super::adopt::counts;
use super::begin::Stand;
use super::book::Shared;
use super::budget::{Budget, is_large};
use super::counted::Counted;
use super::down_desk::{Held as Desked, Line, bring_down, heard};
use super::later::{LiesAhead, lies_ahead};
use super::topics::Listed;
use super::unpack::{Unpacking, is_packed};
use super::wire::{Answer, FRAME_BYTES_MAX, OURS_TOPIC, Parts, Refused, Said, WireError};
use super::within::{Out, Told, Within, tell_all};
use crate::event_log::{EventLog, Held, LinkFailed, Topic};
use crate::transport::{FrameReceiver, FrameSender, NodeId, StreamError};

/// Answers that wait for other nodes of the site, or to be taken; then no more is read.
const UNTOLD_MAX: usize = 256;
/// How long a frame may take to come whole, and how many bytes a second more of it.
const BODY_WAIT: Duration = Duration::from_secs(120);
const BODY_BYTES_PER_S_MIN: usize = 256;
/// The same for a large one while another waits for room: few of them take all that links have.
const WANTED_WAIT: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(120) };
const WANTED_BYTES_PER_S_MIN: usize = if cfg!(test) { 24 << 20 } else { 64 << 10 };
/// How long it waits when the store is full, before it tries again.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// Origins that one link may offer.
const OFFERS_MAX: usize = 4_096;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// The edge ended it.
    #[error("the edge ended it")]
    ByEdge,
    /// What came cannot be read, or does not belong there. Nothing of it is stored.
    #[error("what came cannot be taken: {0}")]
    Wrong(String),
    /// The partitions are not where they were: the edge asks anew when it comes again.
    #[error("{0}; it goes on from where the partition ends here")]
    Again(String),
    /// The store here failed, or the node is stopping.
    #[error("{0}")]
    Store(String),
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// What lies ahead of the ends of partitions, and where they end.
type Stands = (Vec<(PartitionId, LiesAhead)>, Vec<(PartitionId, Stand)>);

/// One stream of a link.
pub struct Receiver {
    /// The log that it goes into.
    pub log: Arc<EventLog>,
    /// The link's id.
    pub link: u64,
    /// The gateway.
    pub node: NodeId,
    /// What the link is called here.
    pub name: String,
    /// This site.
    pub site: u64,
    /// What is known of the link.
    pub page: Shared,
    /// The memory that what comes may take.
    pub budget: Budget,
    /// The site's other nodes, where it is an edge that is heard.
    pub within: Option<Arc<Within>>,
    /// What may come, where it comes down.
    pub(super) listed: Option<Listed>,
    /// Whether what is live may come ahead of what was missed.
    pub takes_ahead: bool,
}

/// What was offered and taken on a stream.
#[derive(Default)]
pub(super) struct Open {
    origins: BTreeMap<OriginId, Linked>,
    /// How many partitions each has here.
    topics: BTreeMap<TopicId, u32>,
    /// Partitions that were asked for, and that have nothing here.
    new: BTreeSet<PartitionId>,
    unpacking: Unpacking,
}

impl Open {
    /// Whether a partition is of an origin and a topic that were taken.
    fn is_taken(&self, id: PartitionId) -> bool {
        let is_of = |partitions: &u32| id.index < *partitions;
        self.origins.contains_key(&id.origin) && self.topics.get(&id.topic).is_some_and(is_of)
    }

    /// Whether an origin was offered and taken.
    pub(super) fn has(&self, origin: OriginId) -> bool {
        self.origins.contains_key(&origin)
    }

    /// Takes no more of an origin until it is offered again; whether it was taken.
    pub(super) fn forget(&mut self, origin: OriginId) -> bool {
        self.origins.remove(&origin).is_some()
    }
}

impl Receiver {
    /// Takes what comes until something ends it. The greeting was heard.
    pub(super) async fn run(&self, out: FrameSender, mut from: FrameReceiver, asks: Option<Desked>) -> Ended {
        let (tell, told) = mpsc::channel(UNTOLD_MAX);
        let out = Out::new(out);
        let line = asks.as_ref().map(|held| Arc::clone(&held.line));
        let ended = tokio::select! {
            ended = self.take(&tell, &mut from, line.as_ref()) => ended,
            ended = tell_all(self.within.as_ref(), told, &out) => ended,
            // It waits for no quorum.
            Err(ended) = bring_down(&out, asks) => Err(ended),
        };
        ended.err().unwrap_or(Ended::ByEdge)
    }

    async fn take(
        &self,
        tell: &mpsc::Sender<Told>,
        from: &mut FrameReceiver,
        line: Option<&Arc<Line>>,
    ) -> Result<(), Ended> {
        let mut open = Open::default();
        while let Some(length) = from.receive_length(FRAME_BYTES_MAX).await? {
            if let Some(listed) = &self.listed {
                listed.turn(length).await;
            }
            // Held until the frame is stored, and no longer: answers are not always taken at once.
            let Some(held) = self.budget.take(length).await else { return Ok(()) };
            let frame = receive_body(from, length, &self.budget).await?;
            self.page.lock().last_contact_ms = Some(self.log.clock().wall_ms());
            // A few bytes may become millions.
            let unpacked = if is_packed(&frame) { self.budget.unpack().await } else { None };
            let (frame, held) = match open.unpacking.plain(frame, (held, unpacked)).await {
                Err(error @ WireError::Differs) => {
                    self.page.lock().takes_plain = true;
                    return Err(Ended::Again(error.to_string()));
                }
                plain => plain?,
            };
            let held: Held = Arc::new(held);
            let all = match Said::decode(&frame)? {
                Said::Answered(number, said) => heard(line, said, |line, said| line.answered(number, said))?,
                Said::Ended(said) => heard(line, said, Line::ended)?,
                said => self.hear(&mut open, said, &frame, &held).await?,
            };
            drop((frame, held));
            for told in all {
                if tell.send(told).await.is_err() {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Does what was said, in `frame`; what is to be answered. `held` is the memory that the frame may take.
    pub(super) async fn hear(
        &self,
        open: &mut Open,
        said: Said,
        frame: &[u8],
        held: &Held,
    ) -> Result<Vec<Told>, Ended> {
        match said {
            Said::Hello(_) => Err(Ended::Wrong("a second greeting".to_owned())),
            Said::Whose(..) => Err(Ended::Wrong("whose it is, which its certificate says".to_owned())),
            Said::Renew(_) => Err(Ended::Wrong("a public key among events".to_owned())),
            Said::Answered(..) | Said::Ended(_) => Err(Ended::Wrong("an answer that nobody asked for".to_owned())),
            Said::Offer(origin, path) => Ok(self.refuse(self.judge(open, origin, path).err())),
            Said::Topic(info) => {
                let (id, partitions) = (info.id, info.config.partitions);
                if let Some(Err(refused)) = self.listed.as_ref().map(|listed| listed.may.judge_topic(id, &info.name)) {
                    return Ok(self.refuse(Some(refused)));
                }
                let adopted = self.adopt(info).await?;
                let judge = |topic: Arc<Topic>| match &self.listed {
                    Some(listed) => listed.may.judge_here(id, topic.name()).map(|()| topic),
                    None => Ok(topic),
                };
                match adopted.and_then(judge) {
                    Ok(topic) if topic.partitions() != partitions => {
                        return Ok(self.refuse(Some(counts(&topic, partitions))));
                    }
                    Ok(topic) => drop(open.topics.insert(id, topic.partitions())),
                    Err(refused) => return Ok(self.refuse(Some(refused))),
                }
                Ok(Vec::new())
            }
            Said::Where(ids) => {
                let mut known: Vec<_> = ids.into_iter().filter(|id| open.is_taken(*id)).collect();
                let mut told = self.refuse(self.leave_out(open, &mut known));
                if let Some(within) = &self.within {
                    within.level(self.link, &known).await?;
                }
                let (aheads, stands) = self.stands(known).await?;
                let ends = self.to_await(stands.iter().map(|(id, stand)| (*id, stand.end)));
                if self.takes_ahead {
                    told.push(Told::after(BTreeMap::new(), Answer::Ahead(aheads)));
                }
                told.push(Told::after(ends, Answer::Stands(stands)));
                Ok(told)
            }
            Said::Parts(parts) => {
                let number = parts.number;
                let ids = self.store(open, parts, (frame, held)).await?;
                // What lies ahead is told to be stored, and counts when all before it is: then others have it too.
                let ends: Vec<_> = ids.into_iter().map(|id| (id, self.log.store().end_offset(id))).collect();
                Ok(vec![Told::after(self.to_await(ends.into_iter()), Answer::Stored(number))])
            }
            Said::Behind(behind) => {
                self.page.lock().hear(self.node, behind);
                Ok(Vec::new())
            }
        }
    }

    /// Of ends of partitions those that other nodes of the site must have before the edge is told of them.
    fn to_await(&self, ends: impl Iterator<Item = (PartitionId, Offset)>) -> BTreeMap<PartitionId, Offset> {
        self.within.as_ref().map(|within| within.to_await(ends)).unwrap_or_default()
    }

    fn judge(&self, open: &mut Open, origin: OriginId, path: Vec<u64>) -> Result<(), Refused> {
        if open.origins.len() >= OFFERS_MAX && !open.origins.contains_key(&origin) {
            return Err(Refused::new(origin.0, 0, "too-many", "the link offers more origins than one link may"));
        }
        may_come(self.log.store(), origin, &path, self.site, self.link)?;
        if let Some(listed) = &self.listed {
            listed.may.judge_path(origin, &path)?;
        }
        open.origins.insert(origin, Linked { link: self.link, hlc: 0, path });
        Ok(())
    }

    fn refuse(&self, all: impl IntoIterator<Item = Refused>) -> Vec<Told> {
        let told = |refused: Refused| {
            if refused.code != OURS_TOPIC && self.page.lock().refuse(&refused.text) {
                tracing::warn!(link = self.name, code = refused.code, "{}", refused.text);
                if let Some(listed) = &self.listed {
                    listed.audit(&self.log, &refused.text);
                }
            }
            Told::after(BTreeMap::new(), Answer::Refused(refused))
        };
        all.into_iter().map(told).collect()
    }

    /// Leaves out partitions that would be too many of this link; what is said of their topics.
    fn leave_out(&self, open: &mut Open, ids: &mut Vec<PartitionId>) -> Vec<Refused> {
        let store = self.log.store();
        let has_nothing = |id: &PartitionId| store.reach(*id).end == 0;
        let new: Vec<PartitionId> =
            ids.iter().copied().filter(|id| !open.new.contains(id) && has_nothing(id)).collect();
        if new.is_empty() {
            return Vec::new();
        }
        open.new.retain(has_nothing);
        let free = LINKED_PARTITIONS_OF_LINK_MAX.saturating_sub(store.partitions_of_link(self.link) + open.new.len());
        let over: BTreeSet<PartitionId> = new.iter().copied().skip(free).collect();
        open.new.extend(new.into_iter().take(free));
        ids.retain(|id| !over.contains(id));
        let topics: BTreeSet<TopicId> = over.into_iter().map(|id| id.topic).collect();
        let refused = |topic: TopicId| {
            let text = format!(
                "link {} has {LINKED_PARTITIONS_OF_LINK_MAX} partitions here, as many as one link may: topic {topic} does not come whole",
                self.name
            );
            Refused::new(0, topic.0, "too-many", text)
        };
        topics.into_iter().map(refused).collect()
    }

    /// Where partitions end, all of it synced.
    async fn stands(&self, ids: Vec<PartitionId>) -> Result<Stands, Ended> {
        let log = Arc::clone(&self.log);
        let read = move || {
            // In this order: what is stored in between is not told.
            let ahead = |id: &PartitionId| lies_ahead(log.store(), *id).map(|ahead| (*id, ahead));
            let aheads = ids.iter().filter_map(ahead).collect();
            let stands = ids.into_iter().map(|id| (id, stand(log.store(), id))).collect();
            log.store().sync().map_err(|error| error.to_string())?;
            Ok::<_, String>((aheads, stands))
        };
        blocking(read).await?.map_err(Ended::Store)
    }

    /// Stores what came; of which partitions it is.
    async fn store(
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
        let mut ids = BTreeSet::new();
        for part in &parts {
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
        // What no reader could read here stops none. The connection may be cut meanwhile: the memory is held until this has ended.
        let kept = Arc::clone(held);
        let (sound, checked, _) = blocking(move || (check(&parts), parts, kept)).await?;
        sound.map_err(Ended::Wrong)?;
        parts = checked;
        loop {
            match self.log.take_linked_held(origin, linked.clone(), parts, Arc::clone(held)).await {
                Ok(()) => break,
                Err(LinkFailed::Store(LinkedError::Store(FollowError::Full))) => {
                    sleep(FULL_WAIT).await;
                    // What was tried is gone; the frame has it still.
                    let Said::Parts(again) = Said::decode(frame)? else { return Err(Ended::ByEdge) };
                    parts = again.parts;
                    self.date(&mut parts);
                }
                Err(LinkFailed::Store(LinkedError::Differs { partition, .. })) if self.listed.is_some() => {
                    return Err(Ended::Wrong(format!("other events of {partition} than those that are here")));
                }
                Err(LinkFailed::Store(error @ (LinkedError::NotNext { .. } | LinkedError::Differs { .. }))) => {
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

    /// What is live is to come ahead of what was missed.
    fn skips(&self, id: PartitionId, hole: Hole) -> Result<(), Ended> {
        if !self.takes_ahead {
            return Err(Ended::Wrong(format!("an open hole of {id}, without having said that it knows of such")));
        }
        tracing::info!(link = self.name, partition = %id, from = hole.from, to = hole.to, "what was missed comes behind what is live");
        Ok(())
    }
}

impl Receiver {
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

/// The rest of a frame whose length has come, and for which the budget has room.
pub(super) async fn receive_body(from: &mut FrameReceiver, length: usize, budget: &Budget) -> Result<Vec<u8>, Ended> {
    let yields = async {
        sleep(WANTED_WAIT + Duration::from_secs((length / WANTED_BYTES_PER_S_MIN) as u64)).await;
        budget.is_wanted().await;
    };
    tokio::select! {
        body = timeout(body_wait(length), from.receive_body(length)) => match body {
            Ok(body) => Ok(body?),
            Err(_) => Err(Ended::Again(format!("a frame of {length} bytes did not come in time"))),
        },
        () = yields, if is_large(length) => {
            Err(Ended::Again(format!("a frame of {length} bytes takes long, and others wait for the room that it has")))
        }
    }
}

/// How long the rest of a frame may take once its length has come.
pub(super) fn body_wait(length: usize) -> Duration {
    BODY_WAIT + Duration::from_secs((length / BODY_BYTES_PER_S_MIN) as u64)
}

pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Ended> {
    tokio::task::spawn_blocking(work).await.map_err(|_| Ended::Store("the node is stopping".to_owned()))
}

const _: () = assert!(FRAME_BYTES_MAX > sled_data::EVENT_BYTES_MAX);
