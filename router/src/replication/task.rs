//! Replication as it runs: looks at who is there, follows what the plan says, tells the log what its quorum is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{CommitNumber, CopyState, OriginId};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::book::{Book, Following, Trouble};
use super::choose::{Running, Unknown};
use super::claims::Claims;
use super::follower::{Ended, Follower};
use super::held::Held;
use super::holdings::Holdings;
use super::lacking::Lacking;
use super::peers::{PeerState, Peers};
use super::plan::{Holder, Known, wanted, writer_instead};
use super::progress::Progress;
use super::same::{Point, decode_question, encode_answer};
use super::source::{self, Source};
use super::wire::RefusedCode;
use super::{Config, STREAM_FOLLOW};
use crate::event_log::{Act, EventLog, Outliver};
use crate::transport::{FrameReceiver, FrameSender, NodeId, StreamError};

/// How often it looks, besides when somebody comes or goes.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often others are asked what they hold, while a node is not heard, or one has not said it yet.
const ASK_EVERY: Duration = Duration::from_secs(2);
/// The same while all are heard and have said it: one may have had more of a lost node's log from another since.
const ASK_AGAIN_EVERY: Duration = Duration::from_secs(30);
/// For how long after one came or went it is as while one is not heard: some have more than others of what one that
/// goes wrote last, and the site's list may have forgotten it already.
const SETTLES: Duration = Duration::from_secs(10);
/// The first pause before an origin is followed again whose stream has ended; each one is twice as long.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(100);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// A stream that stood for so long begins with the first pause again when it ends.
const STOOD: Duration = Duration::from_secs(30);

/// Who votes besides this node, and how many of them an event of a `quorum` topic needs.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Voters {
    /// The others.
    pub others: Vec<NodeId>,
    /// How many of them must have synced it; 0: this node's own sync is enough.
    pub needed: usize,
}

impl Voters {
    /// Nobody knows yet who votes: nothing has a quorum.
    pub fn unknown() -> Self {
        Self { others: Vec::new(), needed: usize::MAX }
    }

    /// The voters of a site of these members, `me` among them or not. Where one alone votes of several, one other node
    /// must have an event all the same: a quorum is never one disk then.
    pub fn of(me: NodeId, voters: &[NodeId], members: &[NodeId]) -> Self {
        if voters.len() < 2 && members.len() > 1 {
            return Self { others: members.iter().copied().filter(|node| *node != me).collect(), needed: 1 };
        }
        let others: Vec<NodeId> = voters.iter().copied().filter(|node| *node != me).collect();
        // The majority of all voters, this node counted where it is one of them.
        let majority = voters.len() / 2 + usize::from(!voters.is_empty());
        let own = usize::from(voters.contains(&me));
        Self { needed: majority.saturating_sub(own), others }
    }
}

/// What the site's list says of its nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    /// Who votes.
    pub voters: Voters,
    /// Who writes which life, as far as they have said it to the site.
    pub writers: BTreeMap<OriginId, NodeId>,
}

/// Replication of one node.
pub struct Replication {
    pub(super) log: Arc<EventLog>,
    pub(super) peers: Arc<Peers>,
    pub(super) book: Arc<Book>,
    source: Source,
    config: Config,
    pub(super) listed: watch::Receiver<Listed>,
    pub(super) running: Mutex<BTreeMap<OriginId, Running>>,
    pub(super) held: Held,
    pub(super) claims: Mutex<Claims>,
    lacking: Mutex<Lacking>,
    pub(super) unknown: Mutex<Unknown>,
    /// Turns are counted from then on.
    pub(super) started: Instant,
    /// Rises when this node's own log was found to be older than what others have of it.
    outlived: watch::Sender<bool>,
}

impl Replication {
    /// Not yet running.
    pub fn new(
        log: Arc<EventLog>,
        peers: Arc<Peers>,
        book: Arc<Book>,
        config: Config,
        listed: watch::Receiver<Listed>,
    ) -> Arc<Self> {
        let live_percent = config.catch_up_live_percent;
        let source = Source { log: Arc::clone(&log), book: Arc::clone(&book), live_percent };
        Arc::new(Self {
            log,
            peers,
            book,
            source,
            config,
            listed,
            running: Mutex::default(),
            held: Held::default(),
            claims: Mutex::default(),
            lacking: Mutex::default(),
            unknown: Mutex::default(),
            started: Instant::now(),
            outlived: watch::Sender::new(false),
        })
    }

    /// Becomes true when others have more of this node's own log than it has: the node must stop, and begins a new life
    /// when it is started again.
    pub fn outlived(&self) -> watch::Receiver<bool> {
        self.outlived.subscribe()
    }

    /// Runs until it is told to stop.
    pub async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) {
        let mut states = self.peers.watch();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let (mut asked_at, mut asking) = (None, None::<JoinHandle<()>>);
        let (mut connected, mut settled_at) = (Vec::new(), Instant::now());
        loop {
            tokio::select! {
                _ = look.tick() => {}
                changed = states.changed() => if changed.is_err() { break },
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
            let peers = states.borrow_and_update().clone();
            let here: Vec<NodeId> = peers.iter().filter(|peer| peer.is_connected).map(|peer| peer.node).collect();
            if here != connected {
                (connected, settled_at, asked_at) = (here, Instant::now() + SETTLES, None);
            }
            let is_settled = self.held.all_have_said(&peers) && settled_at <= Instant::now();
            let every = if is_settled { ASK_AGAIN_EVERY } else { ASK_EVERY };
            let is_due = asked_at.is_none_or(|asked: Instant| asked.elapsed() >= every);
            if is_due && asking.as_ref().is_none_or(JoinHandle::is_finished) {
                asked_at = Some(Instant::now());
                asking = Some(tokio::spawn(Arc::clone(&self).ask_holdings(Arc::clone(&peers))));
            }
            self.look(&peers);
        }
        asking.inspect(JoinHandle::abort);
        for running in std::mem::take(&mut *self.running.lock()).into_values() {
            running.task.inspect(JoinHandle::abort);
        }
    }

    /// One look at who is there.
    fn look(self: &Arc<Self>, peers: &[PeerState]) {
        self.end_finished();
        self.look_at_claims();
        let known = self.known(peers);
        let wanted = wanted(&known);
        self.end_unwanted(&wanted);
        self.begin_wanted(&known, wanted);
        self.tell_quorum(peers);
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        origin: OriginId,
        node: NodeId,
        is_writer: bool,
        came: Arc<Progress>,
    ) -> JoinHandle<Ended> {
        let (peers, log, book) = (Arc::clone(&self.peers), Arc::clone(&self.log), Arc::clone(&self.book));
        let live_percent = self.config.catch_up_live_percent;
        tokio::spawn(async move {
            match peers.open(node, STREAM_FOLLOW).await {
                Ok((out, from)) => {
                    let follower = Follower { log, book, origin, node, is_writer, live_percent, came };
                    follower.run(out, from).await
                }
                // It went between the look and this.
                Err(_) => Ended::BySource,
            }
        })
    }

    /// Sees to streams that have ended.
    fn end_finished(&self) {
        let mut ended = Vec::new();
        for (origin, running) in self.running.lock().iter_mut() {
            let Some(task) = running.task.take_if(|task| task.is_finished()) else { continue };
            let (pause, next) = pauses(running.pause, running.began.elapsed());
            (running.not_before, running.pause) = (Instant::now() + pause, next);
            ended.push((*origin, running.node, task));
        }
        for (origin, node, task) in ended {
            // It is finished: this does not wait.
            let Some(Ok(ended)) = futures_now(task) else { continue };
            self.book.set_following(origin, None);
            self.note_end(origin, node, &ended);
        }
    }

    fn note_end(&self, origin: OriginId, node: NodeId, ended: &Ended) {
        if matches!(ended, Ended::Full | Ended::Busy | Ended::Store(_)) {
            self.claims.lock().is_not_to_blame(origin, node);
        }
        match ended {
            Ended::Stream(error @ StreamError::TooLong { .. }) => {
                self.trouble("stream-refused", format!("a commit stream of origin {origin} from node {node}: {error}"));
            }
            Ended::Stream(_) | Ended::BySource | Ended::Busy | Ended::Full => {
                tracing::debug!(%origin, %node, %ended, "a commit stream ended; it is opened again");
            }
            Ended::Different(text) => {
                self.book.set_following(origin, Some(Following::Stopped(text.clone())));
                self.trouble("copy-differs", format!(
                    "the copy of origin {origin} here differs from what node {node} sent, and is followed no more: {text}; \
                     find out which of the two is right, then remove the wrong node and let it join anew"
                ));
            }
            Ended::Lacking(text) => {
                if self.lacking.lock().refused(origin, self.log.clock().monotonic()) {
                    self.trouble("copy-lacks", format!(
                        "the log of origin {origin} is not followed from node {node}, as the copy of it there lacks what is here: {text}. It is tried \
                         again, and what was to be taken over of that log waits for it; where `edgeway store verify` says that node {node} has lost \
                         events, take it out with `edgeway node remove` and let it join anew"
                    ));
                }
                tracing::warn!(%origin, %node, text, "a copy is not taken for now; the stream is opened again");
            }
            Ended::Refused(refused) if refused.code == RefusedCode::Forked => {
                self.trouble("source-forked", format!("node {node} does not have what it wrote: {}", refused.text));
            }
            Ended::Refused(refused) => {
                tracing::debug!(%origin, %node, text = refused.text, "a commit stream was refused");
            }
            Ended::Wrong(text) => {
                self.trouble("stream-refused", format!("a commit stream of origin {origin} from node {node}: {text}"));
            }
            Ended::Store(text) => tracing::error!(%origin, %node, text, "a commit stream cannot be stored"),
        }
    }

    /// Remembers it, says it loudly and writes it down, once.
    pub fn trouble(&self, code: &'static str, text: String) {
        let at_ms = self.log.clock().wall_ms();
        if !self.book.trouble(Trouble { at_ms, code, text: text.clone() }) {
            return;
        }
        tracing::error!(code, "{text}");
        let act = Act { who: "node", act: "site.trouble", what: code, outcome: code, detail: text.into() };
        if let Err(error) = self.log.audit(act) {
            tracing::warn!(%error, code, "it is not in the audit");
        }
    }

    fn known(&self, peers: &[PeerState]) -> Known {
        let (writers, mut believed) = (self.writers(), self.believed(peers));
        let mut holder = |peer: &PeerState| Holder {
            own: peer.known.as_ref().and_then(|known| self.own_of(peer.node, OriginId(known.origin), &writers)),
            holds: believed.remove(&peer.node).unwrap_or_default(),
        };
        let following = self.book.following();
        let stopped = following.iter().filter(|(_, how)| matches!(how, Following::Stopped(_)));
        Known {
            own: Some(self.log.store().origin()),
            holders: peers.iter().filter(|peer| peer.is_connected).map(|peer| (peer.node, holder(peer))).collect(),
            here: self.here(),
            writers,
            stopped: stopped.map(|(origin, _)| *origin).collect(),
        }
    }

    /// Who writes which life: as the site's list says, and else as it was followed here.
    pub(super) fn writers(&self) -> BTreeMap<OriginId, NodeId> {
        let followed = self.log.store().followed().into_iter().filter(|(_, followed)| followed.node != 0);
        let mut writers: BTreeMap<_, _> = followed.map(|(origin, followed)| (origin, NodeId(followed.node))).collect();
        writers.extend(&self.listed.borrow().writers);
        writers
    }

    /// The life that a node says it writes; `None` where another one does.
    fn own_of(&self, node: NodeId, claimed: OriginId, writers: &BTreeMap<OriginId, NodeId>) -> Option<OriginId> {
        let Some(writer) = writer_instead(node, claimed, writers) else { return Some(claimed) };
        self.trouble("origin-claimed", format!(
            "node {node} says that it writes origin {claimed}, which is written by node {writer}: its data folder was copied, or it is not \
             what it seems; nothing of that origin is taken from it as its writer. Stop it, wipe its data folder and let it join as a new node"
        ));
        None
    }

    pub(super) fn here(&self) -> BTreeMap<OriginId, CommitNumber> {
        let followed = self.log.store().followed().into_iter().map(|(origin, followed)| (origin, followed.synced));
        // Of a life before, a copy that has all of it is taken, once enough have it. One that lacks some of it has that from here first.
        let ended = self.log.lives_to_tell().into_iter().map(|(life, last)| {
            let all_but = u64::from(!self.log.awaits_quorum_of(life));
            (life, CommitNumber(last.0.saturating_sub(all_but)))
        });
        // Nobody has anything of these to give.
        followed.chain(ended).chain(self.log.spent_lives()).collect()
    }

    /// The same of copies that are whole: what others may have from here.
    fn whole_here(&self) -> BTreeMap<OriginId, CommitNumber> {
        let all = self.log.store().followed().into_iter();
        let whole = all.filter(|(_, followed)| followed.copy == CopyState::Whole);
        whole.map(|(origin, followed)| (origin, followed.synced)).collect()
    }

    /// How far this node has synced each origin that is whole here.
    pub fn held_here(&self) -> BTreeMap<OriginId, CommitNumber> {
        self.whole_here()
    }

    /// What the others hold, as they said when they were asked last.
    pub fn held_by_others(&self) -> &Held {
        &self.held
    }

    /// What this node holds of others' origins and of its lives before, for who asks.
    pub fn holdings(&self) -> Vec<u8> {
        let mut holds = self.whole_here();
        holds.extend(self.log.lives_to_tell());
        Holdings(holds).encode()
    }

    /// Says, for who asks, which of these logs are here up to a commit, and the same. Nothing is said where the question cannot be read.
    pub async fn same_here(&self, question: &[u8]) -> Vec<u8> {
        let Some(points) = decode_question(question) else { return Vec::new() };
        let log = Arc::clone(&self.log);
        let look = move || {
            let is_here = |point: &Point| {
                point.is_in(log.store()).unwrap_or_else(|error| {
                    tracing::warn!(%error, origin = %point.origin, "whether a log is here is not known: it cannot be read");
                    false
                })
            };
            encode_answer(points.iter().map(is_here).collect())
        };
        tokio::task::spawn_blocking(look).await.unwrap_or_default()
    }

    /// Serves one that follows.
    pub async fn serve_follower(&self, node: NodeId, out: FrameSender, from: FrameReceiver) {
        match self.source.serve(node, out, from).await {
            Ok(()) | Err(source::Ended::Stream(_) | source::Ended::Stopping) => {}
            Err(source::Ended::Outlived { text }) => self.is_outlived(node, text).await,
            Err(ended) => self.trouble("follower-refused", format!("node {node} is not served: {ended}")),
        }
    }

    /// Another node has more of this node's own log than is here, or says so.
    async fn is_outlived(&self, node: NodeId, text: String) {
        let may_end = match self.log.may_end_life(Outliver::Site) {
            Ok(true) => {
                self.log.note_end_of_life(Outliver::Site).await.map(|()| true).map_err(|error| error.to_string())
            }
            may_end => may_end.map_err(|error| error.to_string()),
        };
        match may_end {
            Ok(true) => {
                self.trouble("outlived", format!("{text}; this node ends its life and begins a new one when it is started again"));
                self.outlived.send_replace(true);
            }
            Ok(false) => self.trouble("outlived-again", format!(
                "{text}; a life of this node was ended for that within a day, so this one goes on: find out what node {node} has, and remove \
                 the wrong node"
            )),
            Err(error) => tracing::error!(error, text, "it cannot be told whether this node's life may be ended"),
        }
    }

    fn tell_quorum(&self, peers: &[PeerState]) {
        let voters = self.listed.borrow().voters.clone();
        let others: Vec<u64> = voters.others.iter().map(|node| node.0).collect();
        self.log.set_replicas(&others, voters.needed);
        let followers = self.book.followers(self.log.store().origin());
        let follows = |node: &NodeId| followers.iter().any(|(follower, state)| follower == node && state.is_here);
        let is_heard = |node: &NodeId| peers.iter().any(|peer| peer.node == *node && peer.is_connected);
        let heard = voters.others.iter().filter(|node| is_heard(node) && follows(node)).count();
        self.log.set_quorum_in_reach(heard >= voters.needed);
        self.log.settle_lives(|life, node| {
            let node = NodeId(node);
            self.held.synced_at(node, life).max(self.book.synced_at(life, node))
        });
        self.log.tell_late(self.config.quorum_wait());
    }
}

/// How long a stream that stood for so long is waited for now, and the next time.
fn pauses(pause: Duration, stood: Duration) -> (Duration, Duration) {
    let pause = if stood >= STOOD { PAUSE_MIN } else { pause };
    (pause, (pause * 2).min(PAUSE_MAX))
}

/// The result of a task that has finished.
fn futures_now<T>(task: JoinHandle<T>) -> Option<Result<T, tokio::task::JoinError>> {
    let mut task = std::pin::pin!(task);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match task.as_mut().poll(&mut context) {
        std::task::Poll::Ready(result) => Some(result),
        std::task::Poll::Pending => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_streams_end_and_are_short_again_after_one_that_stood() {
        let mut pause = PAUSE_MIN;
        for _ in 0..10 {
            let (now, next) = pauses(pause, Duration::from_secs(1));
            assert!(now == pause && next >= now && next <= PAUSE_MAX);
            pause = next;
        }
        assert_eq!(pause, PAUSE_MAX);
        assert_eq!(pauses(pause, STOOD), (PAUSE_MIN, PAUSE_MIN * 2));
    }

    #[test]
    fn a_majority_counts_this_node_where_it_votes() {
        let nodes = |numbers: &[u64]| numbers.iter().map(|n| NodeId(*n)).collect::<Vec<_>>();
        // voters, how many others are needed by voter 1, by a learner 9
        let cases = [(&[1][..], 0, 1), (&[1, 2, 3], 1, 2), (&[1, 2, 3, 4, 5], 2, 3), (&[], 0, 0)];
        for (voters, by_voter, by_learner) in cases {
            assert_eq!(Voters::of(NodeId(1), &nodes(voters), &nodes(voters)).needed, by_voter, "{voters:?}");
            assert_eq!(Voters::of(NodeId(9), &nodes(voters), &nodes(voters)).needed, by_learner, "{voters:?}");
        }
        assert_eq!(Voters::of(NodeId(2), &nodes(&[1, 2, 3]), &nodes(&[1, 2, 3])).others, nodes(&[1, 3]));
        let two = Voters::of(NodeId(1), &nodes(&[1]), &nodes(&[1, 2]));
        assert_eq!(two, Voters { others: nodes(&[2]), needed: 1 });
    }
}
