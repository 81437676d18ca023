//! Offers another node of the site what links have brought here, and sends what it does not have.
//!
//! What an edge brings here is sent at once. Of the rest the other node is sent what it has stood still behind in: whoever it comes to
//! first sends it, so that one copy crosses the site.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{LinkedPart, Offset, OriginId, PartitionId};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until};

use super::Within;
use super::gaps::Gaps;
use super::receiver::AGAIN;
use crate::event_log::{Act, PartitionLog, SITE_SEPARATOR};
use crate::links::begin::{Begin, Stand};
use crate::links::judge::judge;
use crate::links::lanes::{Lanes, Round};
use crate::links::left::Left;
use crate::links::sender::{Ended, blocking};
use crate::links::wire::{Answer, PARTITIONS_MAX, Parts, Refused, Said};
use crate::transport::{FrameReceiver, FrameSender, NodeId};

/// Bytes of batches in one frame, unless a commit or an event is larger.
const ROUND_BYTES_MAX: usize = 256 << 10;
/// Bytes of frames that are sent and not yet said to be stored.
const UNDER_WAY_BYTES_MAX: usize = 4 << 20;
/// How often it looks for partitions that are new.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long it waits where the other node's end was passed meanwhile, or is ahead.
const AGAIN_AFTER: Duration = if cfg!(test) { Duration::from_millis(200) } else { Duration::from_secs(2) };
/// How long what was refused, or is not the same there, is left alone; and until what was not answered is asked again.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// How long the other node must have stood still behind in an origin that no edge brings here.
const LEFT_AFTER: Duration = if cfg!(test) { Duration::from_millis(400) } else { Duration::from_secs(10) };
/// Bytes of an answer.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Why a partition that was asked for does not go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Hold {
    /// Until then, whatever comes: it was refused, is not the same there, or is not answered yet.
    Until(Instant),
    /// Until then, unless it is to go at once: perhaps another node sends it.
    Left(Instant),
}

impl Hold {
    /// This one, or what it was held for until then, where that is longer: what was under way behind something that is wrong is refused as to be
    /// asked for again soon, and changes nothing.
    fn or_later(self, held: Option<Hold>) -> Hold {
        match (self, held) {
            (Hold::Until(again), Some(Hold::Until(until))) => Hold::Until(again.max(until)),
            _ => self,
        }
    }
}

/// A frame under way: its number, bytes, and where its partitions end with it.
type UnderWay = (u64, usize, BTreeMap<PartitionId, Offset>);

/// What the stream has come to.
#[derive(Default)]
pub(super) struct Open {
    /// The link that is spoken of.
    whose: Option<(u64, String)>,
    offered: BTreeSet<(u64, OriginId)>,
    topics: BTreeSet<(u64, u64)>,
    /// Partitions that were asked for, whether the answer has come, and why they do not go.
    pub(super) asked: BTreeMap<PartitionId, (bool, Option<Hold>)>,
    under_way: VecDeque<UnderWay>,
    number: u64,
    told: BTreeSet<PartitionId>,
}

/// What goes to one other node.
pub(super) struct Sender {
    pub(super) within: Arc<Within>,
    pub(super) to: NodeId,
    pub(super) open: Mutex<Open>,
    pub(super) lanes: Arc<Mutex<Lanes>>,
    left: Mutex<Left>,
    pub(super) gaps: Mutex<Gaps>,
    heard: Notify,
}

impl Sender {
    pub(super) fn new(within: &Arc<Within>, to: NodeId) -> Self {
        Self {
            within: Arc::clone(within),
            to,
            open: Mutex::default(),
            lanes: Arc::default(),
            left: Mutex::default(),
            gaps: Mutex::default(),
            heard: Notify::new(),
        }
    }

    /// Sends until something ends it. Greetings were exchanged.
    pub(super) async fn run(&self, mut out: FrameSender, mut from: FrameReceiver) -> Ended {
        let ended = tokio::select! {
            ended = self.hear_all(&mut from) => ended,
            ended = self.send_all(&mut out) => ended,
        };
        self.within.forget_known(self.to);
        ended.err().unwrap_or(Ended::ByOther)
    }

    async fn send_all(&self, out: &mut FrameSender) -> Result<(), Ended> {
        let mut shown = self.within.log.watch();
        let mut look_at = Instant::now();
        loop {
            tokio::select! {
                // Before all else, lest a backlog keeps it from being looked.
                biased;
                () = sleep_until(look_at) => {
                    self.discover(out).await?;
                    look_at = Instant::now() + LOOK_EVERY;
                }
                // A site without links has no lanes, and is not woken by each commit.
                changed = shown.changed(), if self.has_lanes() => {
                    changed.map_err(|_| Ended::Store("the node is stopping".to_owned()))?;
                }
                () = self.heard.notified() => {}
            }
            shown.borrow_and_update();
            while Instant::now() < look_at && self.send_round(out).await? {}
        }
    }

    /// What is not here any more may have gone there as well: should it come again, it is said anew. So is what was not answered.
    fn forget_others(&self, all: &[(u64, Arc<PartitionLog>)], here: &BTreeSet<PartitionId>) {
        let origins: BTreeSet<(u64, OriginId)> = all.iter().map(|(link, of)| (*link, of.id().origin)).collect();
        let topics: BTreeSet<(u64, u64)> = all.iter().map(|(link, of)| (*link, of.id().topic.0)).collect();
        let now = Instant::now();
        let mut open = self.open.lock();
        let is_silent = |(is_told, hold): &(bool, Option<Hold>)| {
            !is_told && matches!(hold, Some(Hold::Until(until)) if *until <= now)
        };
        let silent = || open.asked.iter().filter(|(_, asked)| is_silent(asked)).map(|(id, _)| *id);
        let (of, about): (BTreeSet<OriginId>, BTreeSet<u64>) = silent().map(|id| (id.origin, id.topic.0)).unzip();
        open.offered.retain(|offered| origins.contains(offered) && !of.contains(&offered.1));
        open.topics.retain(|topic| topics.contains(topic) && !about.contains(&topic.1));
        self.gaps.lock().keep(here);
        self.left.lock().keep(here);
        self.within.keep_known(self.to, here);
    }

    /// Offers what is new, and lets go of what was deleted.
    async fn discover(&self, out: &mut FrameSender) -> Result<(), Ended> {
        let all = self.offered();
        let here: BTreeSet<PartitionId> = all.iter().map(|(_, partition)| partition.id()).collect();
        self.lanes.lock().keep(|id| here.contains(&id));
        self.forget_others(&all, &here);
        let now = Instant::now();
        self.open.lock().asked.retain(|id, (_, hold)| {
            here.contains(id)
                && match hold {
                    None => true,
                    Some(Hold::Until(until)) => *until > now,
                    Some(Hold::Left(until)) => *until > now && !self.within.sends_at_once(self.to, id.origin),
                }
        });
        self.leave_to_others();
        let mut new: BTreeMap<(u64, String), Vec<Arc<PartitionLog>>> = BTreeMap::new();
        for (link, partition) in all {
            let (id, end) = (partition.id(), partition.visible_end());
            if !self.open.lock().asked.contains_key(&id) && !self.left.lock().is_level(id, end) {
                let site = partition.topic().split(SITE_SEPARATOR).next().unwrap_or_default().to_owned();
                new.entry((link, site)).or_default().push(partition);
            }
        }
        for (whose, partitions) in new {
            for some in partitions.chunks(PARTITIONS_MAX) {
                for said in self.introduce(&whose, some) {
                    out.send_frame(&said.encode()).await?;
                }
            }
        }
        Ok(())
    }

    /// What links have brought here and that has events, with its link. Of a link that was removed what has none left is forgotten soon, and
    /// so not offered.
    fn offered(&self) -> Vec<(u64, Arc<PartitionLog>)> {
        let Within { log, records, .. } = &*self.within;
        let linked: BTreeMap<OriginId, u64> =
            log.store().linked().into_iter().map(|(origin, linked)| (origin, linked.link)).collect();
        if linked.is_empty() {
            return Vec::new();
        }
        let links: BTreeSet<u64> = linked.values().copied().collect();
        let is_removed = |link: &u64| records.of(*link).is_some_and(|record| record.is_revoked);
        let removed: BTreeSet<u64> = links.into_iter().filter(is_removed).collect();
        let is_kept = |id: PartitionId| {
            let reach = log.store().reach(id);
            reach.start < reach.end
        };
        let offered = |partition: Arc<PartitionLog>| {
            let link = *linked.get(&partition.id().origin)?;
            let may = partition.visible_end() > 0 && (!removed.contains(&link) || is_kept(partition.id()));
            may.then_some((link, partition))
        };
        log.all_partitions().into_iter().filter_map(offered).collect()
    }

    /// What no edge brings here any more, and was sent to its end, is left to the node that it comes to.
    fn leave_to_others(&self) {
        let (mut open, mut lanes) = (self.open.lock(), self.lanes.lock());
        let is_left = |id: &&PartitionId| !self.within.sends_at_once(self.to, id.origin);
        let sent: Vec<PartitionId> = open.asked.keys().filter(is_left).copied().collect();
        for id in sent {
            let is_stored = !open.under_way.iter().any(|(.., ends)| ends.contains_key(&id));
            if let Some(end) = lanes.given_all(id).filter(|_| is_stored) {
                lanes.remove(id);
                self.left.lock().level(id, end);
                open.asked.remove(&id);
            }
        }
    }

    /// What is said of partitions of one link that were not asked for.
    fn introduce(&self, whose: &(u64, String), partitions: &[Arc<PartitionLog>]) -> Vec<Said> {
        let mut open = self.open.lock();
        let mut said: Vec<Said> = open.speak_of(whose).into_iter().collect();
        let log = &self.within.log;
        for partition in partitions {
            let id = partition.id();
            if open.offered.insert((whose.0, id.origin)) {
                let path = log.store().linked_origin(id.origin).map(|linked| linked.path);
                said.push(Said::Offer(id.origin, path.unwrap_or_default()));
            }
            if open.topics.insert((whose.0, id.topic.0))
                && let Some(topic) = log.topic_by_id(id.topic)
            {
                let mut info = topic.info().clone();
                // The other node puts the link's name before it.
                info.name = info.name.split_once(SITE_SEPARATOR).map(|(_, name)| name.to_owned()).unwrap_or(info.name);
                said.push(Said::Topic(info));
            }
            open.asked.insert(id, (false, Some(Hold::Until(Instant::now() + ASK_AGAIN))));
        }
        said.push(Said::Where(partitions.iter().map(|partition| partition.id()).collect()));
        said
    }

    fn has_lanes(&self) -> bool {
        !self.lanes.lock().is_empty()
    }

    /// Sends the next frame, where there is one and it may be under way; whether it did.
    async fn send_round(&self, out: &mut FrameSender) -> Result<bool, Ended> {
        if !self.has_lanes() {
            return Ok(false);
        }
        if self.open.lock().under_way.iter().map(|(_, bytes, _)| bytes).sum::<usize>() >= UNDER_WAY_BYTES_MAX {
            return Ok(false);
        }
        let (log, lanes) = (Arc::clone(&self.within.log), Arc::clone(&self.lanes));
        lanes.lock().prefer(self.within.wanted_by(self.to));
        let round = blocking(move || {
            let shown = log.watch();
            let round = lanes.lock().next_round(log.store(), ROUND_BYTES_MAX, &|| *shown.borrow());
            log.store().let_go_if_due().map_err(|error| error.to_string())?;
            round.map_err(|error| error.to_string())
        });
        let Some(round) = round.await? else { return Ok(false) };
        if self.holds_back(&round).await {
            return Ok(true);
        }
        let Round { origin, parts, ends, .. } = round;
        let Some(whose) = self.whose(origin, &parts) else { return Ok(true) };
        let (spoken_of, frame) = {
            let mut open = self.open.lock();
            open.number += 1;
            let (spoken_of, number) = (open.speak_of(&whose), open.number);
            let frame = Parts { number, origin, parts }.encode();
            open.under_way.push_back((number, frame.len(), ends));
            (spoken_of, frame)
        };
        if let Some(said) = spoken_of {
            out.send_frame(&said.encode()).await?;
        }
        out.send_frame(&frame).await?;
        Ok(true)
    }

    /// The link of what comes next; `None` where it was forgotten meanwhile.
    fn whose(&self, origin: OriginId, parts: &[LinkedPart]) -> Option<(u64, String)> {
        let log = &self.within.log;
        let link = log.store().linked_origin(origin)?.link;
        let topic = log.topic_by_id(parts.first()?.partition().topic)?;
        Some((link, topic.name().split(SITE_SEPARATOR).next()?.to_owned()))
    }

    async fn hear_all(&self, from: &mut FrameReceiver) -> Result<(), Ended> {
        while let Some(frame) = from.receive_frame(ANSWER_BYTES_MAX).await? {
            match Answer::decode(&frame)? {
                Answer::Welcome(..) => return Err(Ended::Wrong("welcome twice".to_owned())),
                Answer::Stored(number) => self.stored(number)?,
                Answer::Refused(refused) => self.refused(&refused),
                Answer::Stands(stands) => self.go_on(stands).await?,
                Answer::Ahead(_) | Answer::AllAhead(_) => {
                    return Err(Ended::Wrong("of what lies ahead, which goes to no other node".to_owned()));
                }
                Answer::Due(_) | Answer::Renewed(..) => {
                    return Err(Ended::Wrong("of certificates, which a site's own nodes do not renew so".to_owned()));
                }
                Answer::Asked(..) | Answer::Known(_) => {
                    return Err(Ended::Wrong("of commands, which go to an edge alone".to_owned()));
                }
            }
            self.heard.notify_one();
        }
        Ok(())
    }

    fn stored(&self, number: u64) -> Result<(), Ended> {
        let mut open = self.open.lock();
        if number > open.number {
            return Err(Ended::Wrong("that it has stored what was not sent".to_owned()));
        }
        while let Some((.., ends)) = open.under_way.pop_front_if(|(sent, ..)| *sent <= number) {
            self.within.note_known(self.to, ends);
        }
        Ok(())
    }

    fn refused(&self, refused: &Refused) {
        tracing::debug!(node = %self.to, code = refused.code, "{}", refused.text);
        let is_of = |id: &PartitionId| match refused.topic {
            0 => id.origin.0 == refused.origin,
            topic => id.topic.0 == topic,
        };
        let wait = if refused.code == AGAIN { AGAIN_AFTER } else { ASK_AGAIN };
        let again = Hold::Until(Instant::now() + wait);
        let mut open = self.open.lock();
        for (is_told, hold) in open.asked.iter_mut().filter(|(id, _)| is_of(id)).map(|(_, asked)| asked) {
            *hold = Some(if *is_told { again.or_later(*hold) } else { again });
        }
        open.offered.retain(|(_, origin)| origin.0 != refused.origin);
        // What is on its way of it is not stored there, nor said to be.
        open.under_way.retain(|(.., ends)| ends.keys().all(|id| id.origin.0 != refused.origin));
        open.topics.retain(|(_, topic)| *topic != refused.topic);
        self.lanes.lock().keep(|id| !is_of(&id));
    }

    /// Begins with partitions where they end there, those alone that were asked for.
    async fn go_on(&self, mut stands: Vec<(PartitionId, Stand)>) -> Result<(), Ended> {
        {
            let mut open = self.open.lock();
            stands.retain(|(id, _)| {
                open.asked.get_mut(id).is_some_and(|asked| {
                    let is_first = !asked.0;
                    if is_first {
                        *asked = (true, None);
                    }
                    is_first
                })
            });
        }
        let (log, place) = (Arc::clone(&self.within.log), format!("node {}", self.to));
        let judged = blocking(move || {
            let shown = BTreeSet::new();
            judge(log.store(), &place, stands, shown, log.clock().wall_ms()).map_err(|error| error.to_string())
        });
        let judged = judged.await?;
        // What is something else there is no copy of what is here.
        let same = judged.iter().filter(|(.., begin)| matches!(begin, Begin::From(_)));
        self.within.note_known(self.to, same.map(|(id, end, _)| (*id, *end)));
        for (id, begin) in judged.into_iter().map(|(id, _, begin)| (id, begin)) {
            self.begin(id, begin);
        }
        Ok(())
    }

    fn begin(&self, id: PartitionId, begin: Begin) {
        let log = &self.within.log;
        let Ok(partition) = log.partition(id) else { return };
        let mut open = self.open.lock();
        let (at_once, now) = (self.within.sends_at_once(self.to, id.origin), log.clock().monotonic());
        match begin {
            Begin::From(from) => {
                let is_left = self.left.lock().look(id, (from, from), partition.visible_end(), now, LEFT_AFTER);
                match at_once || is_left {
                    true => self.lanes.lock().add(partition, from, 0),
                    false => open.hold(id, Hold::Left(Instant::now() + LEFT_AFTER)),
                }
            }
            // It may be judged when what is there has come here.
            Begin::Ahead => open.hold(id, Hold::Until(Instant::now() + AGAIN_AFTER)),
            Begin::Forked | Begin::Doubtful => {
                open.hold(id, Hold::Until(Instant::now() + ASK_AGAIN));
                if open.told.insert(id) {
                    self.tell_forked(id);
                }
            }
        }
    }

    /// Says loudly that two nodes have something else, and writes it down.
    fn tell_forked(&self, id: PartitionId) {
        let text = format!(
            "{id}, which a link brought, is not the same here as at node {}: its writer was restored or copied, and each node was \
             sent another part. Nothing of it goes from here to there",
            self.to
        );
        tracing::error!("{text}");
        let (what, outcome) = (id.origin.to_string(), "link.differs");
        let act = Act { who: "node", act: "link.differs", what: &what, outcome, detail: text.into() };
        if let Err(error) = self.within.log.audit(act) {
            tracing::warn!(%error, "it is not in the audit");
        }
    }
}

impl Open {
    /// What is said before what belongs to a link, unless that is spoken of.
    fn speak_of(&mut self, whose: &(u64, String)) -> Option<Said> {
        if self.whose.as_ref() == Some(whose) {
            return None;
        }
        self.whose = Some(whose.clone());
        Some(Said::Whose(whose.0, whose.1.clone()))
    }

    pub(super) fn hold(&mut self, id: PartitionId, hold: Hold) {
        if let Some((_, held)) = self.asked.get_mut(&id) {
            *held = Some(hold);
        }
    }
}
