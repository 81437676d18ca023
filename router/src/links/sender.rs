//! The edge's side of one stream of a link: sends what there is of one priority. `offer` says what there is, `hear` what
//! upstream answers.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{Offset, OriginId, PartitionId};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::book::{Lag, Shared};
use super::class::Priority;
use super::config::LinkConfig;
use super::down_taker::Taker;
use super::forget;
use super::gate::Gate;
use super::lanes::{Lanes, Moment, Round};
use super::later::HeardAhead;
use super::left::Left;
use super::meter::Brought;
use super::pack::{self, Packer};
use super::renewal::Due;
use super::topics::{Flow, UNDER_WAY_OF_DOWN_BYTES_MAX};
use super::waiting::measure;
use super::wire::{Parts, Said, WireError};
use crate::event_log::EventLog;
use crate::transport::{FrameReceiver, FrameSender, StreamError};

/// Bytes of batches in one frame, unless a commit or an event is larger; a slow link has smaller ones.
const ROUND_BYTES_MAX: usize = 512 << 10;
const ROUND_BYTES_MIN: usize = 16 << 10;
/// A frame that is stored sooner than this lets the next ones be larger, one that takes longer than that smaller: a link that
/// is cut often brings whole frames over all the same.
const ROUND_SHORT: Duration = Duration::from_millis(500);
const ROUND_LONG: Duration = Duration::from_secs(3);
/// Bytes of frames of each priority that are sent and not yet said to be stored.
const UNDER_WAY_BYTES_MAX: [usize; Priority::ALL.len()] = [2 << 20, 8 << 20, 4 << 20];
/// Of a link with a rate, no more is under way than it takes so many seconds to send.
const UNDER_WAY_SECONDS: usize = 4;
/// How often it looks for partitions that are new.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often it says how far upstream is behind; and on a link of at most so many bytes a second.
const SAY_EVERY: Duration = Duration::from_secs(1);
const SAY_EVERY_THIN: Duration = Duration::from_secs(5);
const THIN_BYTES_PER_S_MAX: u64 = 50_000;

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

/// What the streams of one connection share.
pub struct Session {
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
    /// What they pass before they send.
    pub gate: Gate,
    /// When upstream is to be asked for a new certificate.
    pub due: Due,
    /// What other nodes of the site write: they send it themselves, as long as they can.
    pub left: Mutex<Left>,
    /// Partitions whose live part goes before what was missed, and up to where that is to come: at the turn of `low`.
    pub fills: Mutex<BTreeMap<PartitionId, Offset>>,
    /// What upstream brings down.
    pub down: Taker,
    /// Which way it goes.
    pub flow: Flow,
}

impl Session {
    /// What the other end is called where it is noted that an origin is another one there: an edge's link may be removed, and its name be that of a link to
    /// another site.
    pub(super) fn place(&self) -> String {
        self.config.brings_down_as.map_or_else(|| self.name.clone(), forget::place)
    }
}

/// The sender of one priority.
pub struct Sender {
    pub(super) session: Arc<Session>,
    pub(super) priority: Priority,
    is_first: bool,
    pub(super) open: Mutex<Open>,
    pub(super) lanes: Arc<Mutex<Lanes>>,
    packer: Arc<Mutex<Option<Packer>>>,
    heard: Notify,
}

/// What a round brings, where its partitions end with it, and its bytes on the wire.
type Frame = (Brought, BTreeMap<PartitionId, Offset>, Vec<u8>);

/// A round that is under way.
pub(super) struct UnderWay {
    pub(super) number: u64,
    pub(super) brought: Brought,
    pub(super) ends: BTreeMap<PartitionId, Offset>,
    since: Instant,
}

/// Where a partition ends upstream was asked.
#[derive(Debug, Default)]
pub(super) struct Ask {
    /// Whether the answer has come: there is one.
    is_answered: bool,
    /// Until when that holds, where it does not go on now.
    pub(super) until: Option<Instant>,
}

/// What one stream has come to.
pub(super) struct Open {
    pub(super) offered: BTreeSet<OriginId>,
    pub(super) topics: BTreeSet<u64>,
    /// What upstream has said that lies ahead, until it says where the same partitions end; `None`: it does not know of such.
    pub(super) aheads: Option<HeardAhead>,
    /// Partitions that were asked for.
    pub(super) asked: BTreeMap<PartitionId, Ask>,
    pub(super) under_way: VecDeque<UnderWay>,
    under_way_bytes: usize,
    pub(super) number: u64,
    round_bytes: usize,
    /// A frame that was made and is not sent yet.
    made: Option<Frame>,
}

impl Default for Open {
    fn default() -> Self {
        Self {
            offered: BTreeSet::new(),
            topics: BTreeSet::new(),
            aheads: None,
            asked: BTreeMap::new(),
            under_way: VecDeque::new(),
            under_way_bytes: 0,
            number: 0,
            round_bytes: ROUND_BYTES_MIN,
            made: None,
        }
    }
}

impl Open {
    /// Notes that a round is sent.
    pub(super) fn sent(&mut self, brought: Brought, ends: BTreeMap<PartitionId, Offset>) {
        self.number += 1;
        self.under_way_bytes += brought.sent_bytes as usize;
        let (number, since) = (self.number, Instant::now());
        self.under_way.push_back(UnderWay { number, brought, ends, since });
    }

    /// Those of upstream's answers that are awaited, each once: what it says unasked drives nothing here.
    pub(super) fn awaited<T>(&mut self, answers: Vec<(PartitionId, T)>) -> Vec<(PartitionId, T)> {
        let mut is_awaited = |(id, _): &(PartitionId, T)| {
            self.asked.get_mut(id).is_some_and(|ask| !std::mem::replace(&mut ask.is_answered, true))
        };
        answers.into_iter().filter(|answer| is_awaited(answer)).collect()
    }

    /// Asks no more before then.
    pub(super) fn hold(&mut self, id: PartitionId, until: Instant) {
        if let Some(ask) = self.asked.get_mut(&id) {
            ask.until = Some(until);
        }
    }

    /// Whether something of a partition is on its way: sent and not said to be stored, or made.
    pub(super) fn is_on_its_way(&self, id: PartitionId) -> bool {
        let sent = self.under_way.iter().any(|round| round.ends.contains_key(&id));
        sent || self.made.as_ref().is_some_and(|(_, ends, _)| ends.contains_key(&id))
    }

    /// The next round that upstream has stored, of those up to a number.
    pub(super) fn done(&mut self, number: u64, now: Instant) -> Option<UnderWay> {
        let done = self.under_way.pop_front_if(|done| done.number <= number)?;
        self.under_way_bytes -= done.brought.sent_bytes as usize;
        let took = now.saturating_duration_since(done.since);
        if took < ROUND_SHORT {
            self.round_bytes = (self.round_bytes * 2).min(ROUND_BYTES_MAX);
        } else if took > ROUND_LONG {
            self.round_bytes = (self.round_bytes / 2).max(ROUND_BYTES_MIN);
        }
        Some(done)
    }
}

impl Sender {
    /// The sender of a priority; the first one of a connection tells how far upstream is behind. `dictionary` is the newest
    /// that upstream knows.
    pub fn new(session: &Arc<Session>, priority: Priority, is_first: bool, dictionary: u8) -> Self {
        if is_first {
            session.page.lock().left.clear();
        }
        let lanes = Lanes::after(Arc::clone(&session.page.lock().newest));
        let lanes = if session.is_down() { lanes.narrow() } else { lanes };
        let packs = session.config.compresses() && dictionary >= pack::DICTIONARY;
        let packer = if packs { Packer::new(session.config.rate()) } else { None };
        Self {
            session: Arc::clone(session),
            priority,
            is_first,
            open: Mutex::default(),
            lanes: Arc::new(Mutex::new(lanes)),
            packer: Arc::new(Mutex::new(packer)),
            heard: Notify::new(),
        }
    }

    /// Sends until something ends it. Greetings were exchanged.
    pub async fn run(&self, mut out: FrameSender, mut from: FrameReceiver) -> Ended {
        let ended = tokio::select! {
            ended = self.hear_all(&mut from, &self.heard) => ended,
            ended = self.send_all(&mut out) => ended,
        };
        ended.err().unwrap_or(Ended::ByOther)
    }

    async fn send_all(&self, out: &mut FrameSender) -> Result<(), Ended> {
        let mut shown = self.session.log.watch();
        let mut look_at = Instant::now();
        let (mut said_at, mut said) = (Instant::now(), Lag::default());
        let is_thin = self.session.config.rate().is_some_and(|rate| rate <= THIN_BYTES_PER_S_MAX);
        let say_every = if is_thin { SAY_EVERY_THIN } else { SAY_EVERY };
        loop {
            tokio::select! {
                // Before all else, lest a backlog keeps it from being looked.
                biased;
                () = tokio::time::sleep_until(look_at) => {
                    self.discover(out).await?;
                    look_at = Instant::now() + LOOK_EVERY;
                }
                changed = shown.changed() => changed.map_err(|_| Ended::Store("the node is stopping".to_owned()))?,
                () = self.heard.notified() => {}
            }
            shown.borrow_and_update();
            if self.is_first {
                for said in self.session.down.to_say().await {
                    self.say(out, &said).await?;
                }
            }
            self.send_what_is_there(out, look_at).await?;
            if self.is_first && said_at.elapsed() >= say_every {
                let lag = self.measure().await?;
                if lag != said {
                    self.say(out, &Said::Behind(lag)).await?;
                }
                (said_at, said) = (Instant::now(), lag);
            }
        }
    }

    /// Sends a frame, when its turn has come.
    pub(super) async fn say(&self, out: &mut FrameSender, said: &Said) -> Result<(), Ended> {
        Ok(self.session.gate.send(self.priority, out, &said.encode()).await?)
    }

    /// Sends up to the bound of what may be under way, one frame at least; no more than that where the time has come.
    async fn send_what_is_there(&self, out: &mut FrameSender, until: Instant) -> Result<(), Ended> {
        let rate = self.session.config.rate().and_then(|rate| usize::try_from(rate).ok());
        let most = if self.session.is_down() {
            UNDER_WAY_OF_DOWN_BYTES_MAX
        } else {
            UNDER_WAY_BYTES_MAX[self.priority.place()]
        };
        let most = rate.map_or(most, |rate| most.min(rate.saturating_mul(UNDER_WAY_SECONDS)));
        let made = self.open.lock().made.take();
        let mut next = if made.is_some() { made } else { self.next_frame(most).await? };
        while let Some((brought, ends, frame)) = next {
            // Its turn may be long in coming; what else there is to do is done meanwhile.
            let turn = self.session.gate.begin(self.priority, frame.len());
            if tokio::time::timeout_at(until, turn).await.is_err() {
                next = Some((brought, ends, frame));
                break;
            }
            self.open.lock().sent(brought, ends);
            self.session.page.lock().under_way += brought.sent_bytes;
            // One is made while the one before is sent: a thin line is not to wait for a slow processor.
            let send = self.session.gate.send(self.priority, out, &frame);
            let (sent, made) = tokio::join!(send, self.next_frame(most));
            sent?;
            next = made?;
            if Instant::now() >= until {
                break;
            }
        }
        // With a rate there may be more for hours; what was made goes first then.
        self.open.lock().made = next;
        Ok(())
    }

    /// The next frame, if less than `most` bytes are under way.
    async fn next_frame(&self, most: usize) -> Result<Option<Frame>, Ended> {
        let (number, bytes) = {
            let open = self.open.lock();
            if open.under_way_bytes >= most {
                return Ok(None);
            }
            (open.number + 1, open.round_bytes)
        };
        if self.lanes.lock().is_empty() {
            return Ok(None);
        }
        let (log, lanes) = (Arc::clone(&self.session.log), Arc::clone(&self.lanes));
        let packer = Arc::clone(&self.packer);
        blocking(move || {
            let shown = log.watch();
            let round = {
                let mut lanes = lanes.lock();
                lanes.at(Moment::of(log.clock()));
                lanes.next_round(log.store(), bytes, &|| *shown.borrow())
            };
            let Some(round) = round.map_err(|error| error.to_string())? else { return Ok(None) };
            if round.must_sync {
                // Nothing that a power cut could take back here is sent.
                log.store().sync().map_err(|error| error.to_string())?;
            }
            log.store().let_go_if_due().map_err(|error| error.to_string())?;
            let Round { origin, parts, bytes, ends, events, record_bytes, dropped, .. } = round;
            let parts = Parts { number, origin, parts };
            let plain = parts.encode();
            let packed = packer.lock().as_mut().and_then(|packer| packer.pack(&parts, &plain));
            let frame = packed.unwrap_or(plain);
            let (dropped_events, dropped_bytes) = dropped;
            let (bytes, sent_bytes) = (bytes as u64, frame.len() as u64);
            let brought = Brought { events, bytes, record_bytes, sent_bytes, dropped_events, dropped_bytes };
            Ok(Some((brought, ends, frame)))
        })
        .await
    }

    async fn measure(&self) -> Result<Lag, Ended> {
        let session = Arc::clone(&self.session);
        blocking(move || {
            let (lags, mine) = measure(&session.log, session.carried(), &session.config, &session.page);
            let mut page = session.page.lock();
            page.wait(lags);
            // Down, what others write goes by this stream alone.
            Ok(if session.is_down() { page.lag } else { mine })
        })
        .await
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, String> + Send + 'static,
) -> Result<T, Ended> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|_| Err("the node is stopping".to_owned())).map_err(Ended::Store)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ask_has_one_answer() {
        let id = |topic| PartitionId { origin: OriginId(1), topic: sled_data::TopicId(topic), index: 0 };
        let mut open = Open::default();
        open.asked.insert(id(1), Ask::default());
        open.asked.insert(id(2), Ask::default());
        let answers = vec![(id(3), 'a'), (id(1), 'b'), (id(1), 'c')];
        assert_eq!(open.awaited(answers.clone()), [(id(1), 'b')], "unasked, and twice");
        assert_eq!(open.awaited(answers.clone()), []);
        // What is refused meanwhile is still answered, once: others of its topic may be taken.
        open.hold(id(2), Instant::now());
        assert_eq!(open.awaited(vec![(id(2), 'd'), (id(2), 'e')]), [(id(2), 'd')]);
        open.asked.insert(id(1), Ask::default());
        assert_eq!(open.awaited(answers), [(id(1), 'b')], "it was asked again");
    }

    #[test]
    fn frames_grow_while_they_are_stored_soon_and_shrink_on_a_slow_link() {
        let mut open = Open::default();
        let mut after = |ms| {
            let (number, brought) = (open.number + 1, Brought { sent_bytes: 100, ..Brought::default() });
            open.sent(brought, BTreeMap::new());
            let now = Instant::now() + Duration::from_millis(ms);
            assert!(open.done(number, now).is_some() && open.done(number, now).is_none());
            assert_eq!(open.under_way_bytes, 0);
            open.round_bytes
        };
        (0..8).for_each(|_| assert!(after(20) > ROUND_BYTES_MIN));
        assert_eq!(after(1_000), ROUND_BYTES_MAX);
        assert_eq!(after(4_000), ROUND_BYTES_MAX / 2);
        (0..8).for_each(|_| assert!(after(4_000) < ROUND_BYTES_MAX));
        assert_eq!(after(1_000), ROUND_BYTES_MIN);
    }
}
