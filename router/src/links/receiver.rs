//! Stores what one stream of a link brings, and tells what is stored.

pub(super) mod storing;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use sled_data::{LINKED_PARTITIONS_OF_LINK_MAX, Linked, Offset, OriginId, PartitionId, TopicId};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};

use super::admit::{may_come, stand};
use super::adopt::counts;
use super::begin::Stand;
use super::book::Shared;
use super::budget::{Budget, is_large};
use super::down_desk::{Held as Desked, Line, bring_down, heard};
use super::knows_ahead::{Drops, KnowsAhead};
use super::later::{LiesAhead, lies_ahead};
use super::topics::Listed;
use super::unpack::{Unpacking, is_packed};
use super::wire::{Answer, FRAME_BYTES_MAX, OURS_TOPIC, Refused, Said, WireError};
use super::within::{Out, Told, Within, tell_all};
use crate::event_log::{Comes, EventLog, Held, Topic};
use crate::transport::{FrameReceiver, FrameSender, NodeId, StreamError};

/// Answers that wait for other nodes of the site, or to be taken; then no more is read.
const UNTOLD_MAX: usize = 256;
/// How long a frame may take to come whole, and how many bytes a second more of it.
const BODY_WAIT: Duration = Duration::from_secs(120);
const BODY_BYTES_PER_S_MIN: usize = 256;
/// The same for a large one while another waits for room: few of them take all that links have.
const WANTED_WAIT: Duration = if cfg!(test) { Duration::from_secs(1) } else { Duration::from_secs(120) };
const WANTED_BYTES_PER_S_MIN: usize = if cfg!(test) { 24 << 20 } else { 64 << 10 };
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
type Stands = (Vec<(PartitionId, Vec<LiesAhead>)>, Vec<(PartitionId, Stand)>);

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
    pub knows_ahead: KnowsAhead,
    /// What of it was dropped, for all streams of the connection.
    pub drops: Arc<Drops>,
    /// Whether a link brings it here, or another node of the site.
    pub comes: Comes,
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
                told.extend(self.refuse(self.leave_out_what_differs(&mut known)));
                if let Some(within) = &self.within {
                    within.level(self.link, &known).await?;
                }
                known.iter().for_each(|id| self.drops.note(self.log.store(), *id));
                let (aheads, stands) = self.stands(known).await?;
                self.check_drops(stands.iter().map(|(id, _)| id))?;
                let ends = self.to_await(stands.iter().map(|(id, stand)| (*id, stand.end)));
                told.extend(self.knows_ahead.tells(aheads).map(|answer| Told::after(BTreeMap::new(), answer)));
                told.push(Told::after(ends, Answer::Stands(stands)));
                Ok(told)
            }
            Said::Parts(parts) => {
                let number = parts.number;
                let ids = self.store(open, parts, (frame, held)).await?;
                self.check_drops(ids.iter())?;
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

    /// Whether what the edge was told that lies ahead of these partitions is there, or was filled up to.
    fn check_drops<'a>(&self, ids: impl Iterator<Item = &'a PartitionId>) -> Result<(), Ended> {
        match self.drops.changed(self.log.store(), ids) {
            // Another node of the site counts nothing by it.
            Some(id) if self.comes == Comes::ByLink => Err(Ended::Again(format!(
                "what lay ahead of {id} is there no more, or what was to come before it was given up"
            ))),
            _ => Ok(()),
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
            let aheads = ids.iter().map(|id| (*id, lies_ahead(log.store(), *id)));
            let aheads = aheads.filter(|(_, parts)| !parts.is_empty()).collect();
            let stands = ids.into_iter().map(|id| (id, stand(log.store(), id))).collect();
            log.store().sync().map_err(|error| error.to_string())?;
            Ok::<_, String>((aheads, stands))
        };
        blocking(read).await?.map_err(Ended::Store)
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
