//! The edge's side of a link's stream: says what there is, hears where it ends upstream, and sends what comes after.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{Offset, OriginId, PartitionId};
use tokio::time::Instant;

use super::begin::{Begin, Stand, begin};
use super::book::{Lag, Shared};
use super::config::LinkConfig;
use super::lanes::{Lanes, Round};
use super::left::Left;
use super::lives;
use super::pace::Pace;
use super::waiting::{carried, measure, mine};
use super::wire::{Answer, OURS_TOPIC, PARTITIONS_MAX, Parts, Refused, Said, WireError};
use crate::event_log::{Act, EventLog, PartitionLog};
use crate::transport::{FrameReceiver, FrameSender, StreamError};

/// Bytes of one frame, unless a commit or an event is larger; less where the link has a rate: what it sends in a second.
const ROUND_BYTES: usize = 512 << 10;
/// The least of it.
const ROUND_BYTES_MIN: usize = 16 << 10;
/// Bytes that are sent and not yet said to be stored.
const UNDER_WAY_BYTES_MAX: usize = 8 << 20;
/// Of a link with a rate, no more is under way than it takes so many seconds to send: answers are heard in between.
const UNDER_WAY_SECONDS: usize = 4;
/// How often it looks for partitions that are new.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long it holds still before what was refused, or is further upstream, is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long upstream must have stood still behind in an origin of another node of the site before this one sends it.
const LEFT_AFTER: Duration = if cfg!(test) { Duration::from_millis(400) } else { Duration::from_secs(10) };
/// How often it says how far upstream is behind.
const SAY_EVERY: Duration = Duration::from_secs(1);
/// Bytes of a frame from upstream.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Why a stream ended.
#[derive(Debug, thiserror::Error)]
pub enum Ended {
    /// The stream.
    #[error(transparent)]
    Stream(#[from] StreamError),
    /// Upstream ended it.
    #[error("the other side ended it")]
    ByOther,
    /// What was said cannot be.
    #[error("the other side said {0}")]
    Wrong(String),
    /// The store here cannot be read, or the node is stopping.
    #[error("{0}")]
    Store(String),
    /// Upstream has more of this node's own log than the node has, or something else.
    #[error("{0}")]
    Outlived(String),
}

impl From<WireError> for Ended {
    fn from(error: WireError) -> Self {
        Self::Wrong(error.to_string())
    }
}

/// One link's sender.
pub struct Sender {
    /// The log that is read.
    pub log: Arc<EventLog>,
    /// What the link is called here.
    pub name: String,
    /// What it carries.
    pub config: LinkConfig,
    /// This site.
    pub site: u64,
    /// What is known of the link.
    pub page: Shared,
}

/// A round that is under way.
struct UnderWay {
    number: u64,
    bytes: usize,
    events: u64,
    ends: BTreeMap<PartitionId, Offset>,
}

/// What one stream has come to.
#[derive(Default)]
struct Open {
    lanes: Arc<Mutex<Lanes>>,
    offered: BTreeSet<OriginId>,
    topics: BTreeSet<u64>,
    /// Partitions that were asked for; until when that holds, where they do not go on now.
    asked: BTreeMap<PartitionId, Option<Instant>>,
    under_way: VecDeque<UnderWay>,
    under_way_bytes: usize,
    number: u64,
    pace: Option<Pace>,
    /// What other nodes of the site write: they send it themselves, as long as they can.
    left: Left,
}

impl Sender {
    /// Sends until something ends it. Greetings were exchanged.
    pub async fn run(&self, mut out: FrameSender, mut from: FrameReceiver) -> Ended {
        self.serve(&mut out, &mut from).await.err().unwrap_or(Ended::ByOther)
    }

    async fn serve(&self, out: &mut FrameSender, from: &mut FrameReceiver) -> Result<(), Ended> {
        let rate = self.config.rate_bytes_max;
        let pace = (rate > 0).then(|| Pace::new(rate, self.log.clock().monotonic()));
        let mut open = Open { pace, ..Open::default() };
        let mut shown = self.log.watch();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut said_at, mut said) = (Instant::now(), Lag::default());
        loop {
            tokio::select! {
                frame = from.receive_frame(ANSWER_BYTES_MAX) => {
                    let Some(frame) = frame? else { return Ok(()) };
                    self.hear(&mut open, Answer::decode(&frame)?).await?;
                }
                _ = look.tick() => self.discover(&mut open, out).await?,
                changed = shown.changed() => changed.map_err(|_| Ended::Store("the node is stopping".to_owned()))?,
            }
            shown.borrow_and_update();
            self.send_all(&mut open, out).await?;
            if said_at.elapsed() >= SAY_EVERY {
                let lag = self.measure().await?;
                if lag != said {
                    out.send_frame(&Said::Behind(lag).encode()).await?;
                }
                (said_at, said) = (Instant::now(), lag);
            }
        }
    }

    /// Sends what there is, up to the bound of what may be under way.
    async fn send_all(&self, open: &mut Open, out: &mut FrameSender) -> Result<(), Ended> {
        let rate = usize::try_from(self.config.rate_bytes_max).unwrap_or(usize::MAX);
        let under_way_max = if rate == 0 {
            UNDER_WAY_BYTES_MAX
        } else {
            UNDER_WAY_BYTES_MAX.min(rate.saturating_mul(UNDER_WAY_SECONDS))
        };
        while open.under_way_bytes < under_way_max {
            let Some(round) = self.next_round(open).await? else { break };
            open.number += 1;
            let Round { origin, parts, bytes, ends, events, .. } = round;
            let number = open.number;
            open.under_way.push_back(UnderWay { number, bytes, events, ends });
            open.under_way_bytes += bytes;
            let frame = Said::Parts(Parts { number, origin, parts }).encode();
            match &mut open.pace {
                Some(pace) => {
                    let clock = self.log.clock();
                    out.send_frame_slowly(&frame, pace.piece(), |bytes| pace.wait(clock.monotonic(), bytes)).await?;
                }
                None => out.send_frame(&frame).await?,
            }
        }
        Ok(())
    }

    async fn next_round(&self, open: &Open) -> Result<Option<Round>, Ended> {
        let (log, lanes) = (Arc::clone(&self.log), Arc::clone(&open.lanes));
        let bytes = match usize::try_from(self.config.rate_bytes_max) {
            Ok(0) | Err(_) => ROUND_BYTES,
            Ok(rate) => rate.clamp(ROUND_BYTES_MIN, ROUND_BYTES),
        };
        blocking(move || {
            let shown = log.watch();
            let round = lanes.lock().next_round(log.store(), bytes, &|| *shown.borrow());
            let round = round.map_err(|error| error.to_string())?;
            if round.as_ref().is_some_and(|round| round.must_sync) {
                // Nothing that a power cut could take back here is sent.
                log.store().sync().map_err(|error| error.to_string())?;
            }
            log.store().let_go_if_due().map_err(|error| error.to_string())?;
            Ok(round)
        })
        .await
    }

    /// Offers what is new, and lets go of what was deleted.
    async fn discover(&self, open: &mut Open, out: &mut FrameSender) -> Result<(), Ended> {
        let all = self.carried();
        let here: BTreeSet<PartitionId> = all.iter().map(|partition| partition.id()).collect();
        open.lanes.lock().keep(|id| here.contains(&id));
        self.page.lock().stored.retain(|id, _| here.contains(id));
        open.asked.retain(|id, until| here.contains(id) && until.is_none_or(|until| until > Instant::now()));
        self.leave_to_others(open);
        let is_new = |partition: &Arc<PartitionLog>| {
            let (id, end) = (partition.id(), partition.visible_end());
            !open.asked.contains_key(&id) && !open.left.is_level(id, end)
        };
        let new: Vec<_> = all.into_iter().filter(is_new).collect();
        for some in new.chunks(PARTITIONS_MAX) {
            for partition in some {
                let id = partition.id();
                if open.offered.insert(id.origin) {
                    out.send_frame(&Said::Offer(id.origin, self.path(id.origin)).encode()).await?;
                }
                if open.topics.insert(id.topic.0)
                    && let Some(topic) = self.log.topic_by_id(id.topic)
                {
                    let mut info = topic.info().clone();
                    info.name = format!("{}{}", self.config.prefix, info.name);
                    out.send_frame(&Said::Topic(info).encode()).await?;
                }
                open.asked.insert(id, None);
            }
            let ids = some.iter().map(|partition| partition.id()).collect();
            out.send_frame(&Said::Where(ids).encode()).await?;
        }
        Ok(())
    }

    /// What another node of the site writes, and this one has sent to its end, is left to that node again.
    fn leave_to_others(&self, open: &mut Open) {
        let others: BTreeSet<OriginId> = self.log.others().into_iter().collect();
        let mut lanes = open.lanes.lock();
        let sent: Vec<PartitionId> = open.asked.keys().filter(|id| others.contains(&id.origin)).copied().collect();
        for id in sent {
            let is_stored = !open.under_way.iter().any(|round| round.ends.contains_key(&id));
            if let Some(end) = lanes.given_all(id).filter(|_| is_stored) {
                lanes.remove(id);
                open.left.level(id, end);
                open.asked.remove(&id);
            }
        }
    }

    /// The partitions that the link carries and that have events.
    fn carried(&self) -> Vec<Arc<PartitionLog>> {
        carried(&self.log, &self.config)
    }

    /// The sites that an origin has passed when it comes from here.
    fn path(&self, origin: OriginId) -> Vec<u64> {
        let mut path = self.log.store().linked_origin(origin).map(|linked| linked.path).unwrap_or_default();
        path.push(self.site);
        path
    }

    async fn hear(&self, open: &mut Open, answer: Answer) -> Result<(), Ended> {
        self.page.lock().last_contact_ms = Some(self.log.clock().wall_ms());
        match answer {
            Answer::Welcome(_) => Err(Ended::Wrong("welcome twice".to_owned())),
            Answer::Stored(number) => {
                if number > open.number {
                    return Err(Ended::Wrong("that it has stored what was not sent".to_owned()));
                }
                while let Some(done) = open.under_way.pop_front_if(|done| done.number <= number) {
                    open.under_way_bytes -= done.bytes;
                    let mut page = self.page.lock();
                    page.events += done.events;
                    page.bytes += done.bytes as u64;
                    page.stored.extend(done.ends);
                }
                Ok(())
            }
            Answer::Refused(refused) => {
                self.refused(open, &refused);
                Ok(())
            }
            Answer::Stands(stands) => self.go_on(open, stands).await,
        }
    }

    /// What is not taken is asked again later.
    fn refused(&self, open: &mut Open, refused: &Refused) {
        if refused.code != OURS_TOPIC && self.page.lock().refuse(&refused.text) {
            tracing::warn!(link = self.name, code = refused.code, "upstream: {}", refused.text);
        }
        let is_of = |id: &PartitionId| match refused.topic {
            0 => id.origin.0 == refused.origin,
            topic => id.topic.0 == topic,
        };
        let again = Instant::now() + ASK_AGAIN;
        open.asked.iter_mut().filter(|(id, _)| is_of(id)).for_each(|(_, until)| *until = Some(again));
        open.offered.remove(&OriginId(refused.origin));
        open.topics.remove(&refused.topic);
        open.lanes.lock().keep(|id| !is_of(&id));
    }

    /// Begins with partitions where they end upstream.
    async fn go_on(&self, open: &mut Open, stands: Vec<(PartitionId, Stand)>) -> Result<(), Ended> {
        let log = Arc::clone(&self.log);
        let judged = blocking(move || {
            let judge =
                |(id, stand): (PartitionId, Stand)| (id, stand.end, begin(&stand, &mine(log.store(), id, &stand)));
            Ok(stands.into_iter().map(judge).collect::<Vec<_>>())
        });
        let judged = judged.await?;
        let others: BTreeSet<OriginId> = self.log.others().into_iter().collect();
        for (id, end, begin) in judged {
            // Upstream may say nothing of what it was not asked for.
            if !open.asked.contains_key(&id) {
                continue;
            }
            let is_living = id.origin == self.log.store().origin();
            match begin {
                Begin::From(from) => {
                    // It may have been deleted.
                    let Ok(partition) = self.log.partition(id) else { continue };
                    let (here, now) = (partition.visible_end(), self.log.clock().monotonic());
                    if others.contains(&id.origin) && !open.left.look(id, from, here, now, LEFT_AFTER) {
                        open.asked.insert(id, Some(Instant::now() + LEFT_AFTER));
                        self.page.lock().stored.insert(id, from);
                    } else {
                        open.lanes.lock().add(partition, from);
                        self.page.lock().stored.insert(id, from);
                    }
                }
                Begin::Ahead | Begin::Forked if is_living => {
                    self.end_life(id, end).await?;
                    open.asked.insert(id, Some(Instant::now() + ASK_AGAIN));
                }
                Begin::Ahead => drop(open.asked.insert(id, Some(Instant::now() + ASK_AGAIN))),
                Begin::Forked => {
                    open.asked.insert(id, Some(Instant::now() + ASK_AGAIN));
                    self.forked(id, end);
                }
            }
        }
        Ok(())
    }

    /// Upstream has more of this life: it ends, unless a link has ended one lately.
    async fn end_life(&self, id: PartitionId, end: Offset) -> Result<(), Ended> {
        let store = |error: &dyn std::fmt::Display| Ended::Store(error.to_string());
        if lives::may_end(&self.log).map_err(|error| store(&error))? {
            lives::note_end(&self.log).await.map_err(|error| store(&error))?;
            return Err(self.outlived(id, end));
        }
        let text = format!(
            "{id} ends at {end} upstream of link {}, and is not that here; a link has ended a life of this store within a day, so              this one goes on, and nothing of this partition is sent: was the store restored again, or is upstream not to be trusted?",
            self.name
        );
        if self.page.lock().refuse(&text) {
            self.tell("link.outlived-again", &text);
        }
        Ok(())
    }

    fn outlived(&self, id: PartitionId, end: Offset) -> Ended {
        let text = format!(
            "{id} ends at {end} upstream of link {}, and is not that here: this node's store was restored or copied. The \
             node ends its life and begins a new one when it is started again; what it had before is kept upstream",
            self.name
        );
        self.tell("link.outlived", &text);
        Ended::Outlived(text)
    }

    fn forked(&self, id: PartitionId, end: Offset) {
        let text = format!(
            "{id} of an earlier life is not the same here as upstream of link {}, which has it up to {end}: a store was \
             restored or copied. What is here alone is not sent; read it here with `edgeway tail`",
            self.name
        );
        if self.page.lock().refuse(&text) {
            self.tell("link.forked", &text);
        }
    }

    /// Says it loudly and writes it down.
    fn tell(&self, act: &'static str, text: &str) {
        tracing::error!(link = self.name, "{text}");
        let act = Act { who: "node", act, what: &self.name, outcome: act, detail: text.into() };
        if let Err(error) = self.log.audit(act) {
            tracing::warn!(%error, "it is not in the audit");
        }
    }

    async fn measure(&self) -> Result<Lag, Ended> {
        let (log, config, page) = (Arc::clone(&self.log), self.config.clone(), Arc::clone(&self.page));
        blocking(move || {
            let lag = measure(&log, &config, &page);
            page.lock().lag = lag;
            Ok(lag)
        })
        .await
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, Ended> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err("the node is stopping".to_owned())).map_err(Ended::Store)
}
