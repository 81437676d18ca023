//! What all parts of the catalog share: all that is set, up to where it has come, and who waits for what.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::{Mutex, RwLock};
use tokio::sync::{oneshot, watch};

use super::heard::Heard;
use super::reach::Reach;
use super::snapshot::Incoming;
use super::stored::{AppliedV1, LogIdV1};
use super::timing::Timing;
use super::touch::Touch;
use crate::catalog::Config;
use crate::catalog::change::Applied;
use crate::catalog::member::Member;
use crate::catalog::refusal::Refusal;
use crate::catalog::roles;
use crate::catalog::state::State;
use crate::event_log::{CommitFailed, EventLog, Topic};
use crate::transport::NodeId;

/// All that is set, and up to where it has come: always of one change.
#[derive(Debug, Clone, Default)]
pub(in crate::catalog) struct Held {
    pub(in crate::catalog) state: Arc<State>,
    pub(super) applied: AppliedV1,
}

/// The ends of the log.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Ends {
    /// The last entry that was cut off.
    pub(super) purged: Option<LogIdV1>,
    /// The last entry; the last that was cut off where there is none.
    pub(super) last: Option<LogIdV1>,
}

/// How a change was judged; it is in the audit already.
pub(super) type Verdict = Result<Applied, Refusal>;

/// This node's change that waits for being judged.
struct Waiting {
    number: u64,
    verdict: oneshot::Sender<Verdict>,
}

/// What all parts of the catalog share.
pub(in crate::catalog) struct Book {
    pub(in crate::catalog) me: NodeId,
    pub(in crate::catalog) log: Arc<EventLog>,
    pub(in crate::catalog) topic: Arc<Topic>,
    pub(in crate::catalog) config: Config,
    pub(in crate::catalog) timing: Timing,
    /// The highest level that this node knows.
    pub(in crate::catalog) level_max: u16,
    held: RwLock<Held>,
    waiting: Mutex<Option<Waiting>>,
    members: watch::Sender<Arc<Vec<Member>>>,
    changed: watch::Sender<u64>,
    pub(super) ends: Mutex<Ends>,
    pub(super) heard: Heard,
    /// Who followed this node as the leader, by when it was asked.
    pub(super) followed: Heard,
    pub(super) touch: Mutex<Touch>,
    pub(super) reach: Mutex<Reach>,
    /// The state that a leader is sending.
    pub(super) incoming: tokio::sync::Mutex<Option<Incoming>>,
    /// The group that this node takes part in; 0: none yet.
    group: AtomicU64,
    closing: AtomicBool,
    /// Why what is to be written waits: the store is full.
    stalled: Mutex<Option<CommitFailed>>,
}

impl Book {
    pub(in crate::catalog) fn new(
        me: NodeId,
        log: Arc<EventLog>,
        topic: Arc<Topic>,
        config: Config,
        (timing, level_max): (Timing, u16),
    ) -> Self {
        Self {
            me,
            log,
            topic,
            config,
            timing,
            level_max,
            held: RwLock::default(),
            waiting: Mutex::default(),
            members: watch::Sender::default(),
            changed: watch::Sender::default(),
            ends: Mutex::default(),
            heard: Heard::default(),
            followed: Heard::default(),
            touch: Mutex::new(Touch::new(Instant::now())),
            reach: Mutex::default(),
            incoming: tokio::sync::Mutex::default(),
            group: AtomicU64::new(0),
            closing: AtomicBool::new(false),
            stalled: Mutex::default(),
        }
    }

    /// Asks something of what is set.
    pub(in crate::catalog) fn ask<T>(&self, question: impl FnOnce(&State) -> T) -> T {
        question(&self.held.read().state)
    }

    pub(super) fn held(&self) -> Held {
        self.held.read().clone()
    }

    pub(super) fn applied(&self) -> AppliedV1 {
        self.held.read().applied.clone()
    }

    /// The number of the last change that is in the state.
    pub(super) fn applied_index(&self) -> u64 {
        self.held.read().applied.index()
    }

    /// The newest number of a node's proposals that was judged; 0 where there was none.
    pub(super) fn proposed(&self, node: NodeId) -> u64 {
        self.held.read().applied.proposed.get(&node).copied().unwrap_or(0)
    }

    /// Takes over what is durable now, and tells all who watch.
    pub(super) fn take(&self, change: impl FnOnce(&mut Held)) {
        let (members, index) = {
            let mut held = self.held.write();
            change(&mut held);
            let members: Vec<Member> = held.state.members().map(|member| Member::clone(member)).collect();
            (members, held.applied.index())
        };
        self.members.send_if_modified(|before| {
            let is_new = **before != members;
            if is_new {
                *before = Arc::new(members);
            }
            is_new
        });
        self.changed.send_replace(index);
    }

    pub(in crate::catalog) fn members(&self) -> watch::Receiver<Arc<Vec<Member>>> {
        self.members.subscribe()
    }

    pub(in crate::catalog) fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// Waits for this node's change of that number to be judged; one at a time.
    pub(super) fn expect(&self, number: u64) -> oneshot::Receiver<Verdict> {
        let (verdict, judged) = oneshot::channel();
        *self.waiting.lock() = Some(Waiting { number, verdict });
        judged
    }

    /// This node's change of that number was judged.
    pub(super) fn judged(&self, number: u64, verdict: Verdict) {
        let mut waiting = self.waiting.lock();
        if waiting.as_ref().is_some_and(|waiting| waiting.number == number)
            && let Some(waiting) = waiting.take()
        {
            // Who does not wait any more was told that it is not known.
            let _ = waiting.verdict.send(verdict);
        }
    }

    /// All of this node's changes up to that number were judged, and how will not be known here.
    pub(super) fn judged_elsewhere(&self, up_to: u64) {
        let number = self.waiting.lock().as_ref().map(|waiting| waiting.number);
        if let Some(number) = number.filter(|number| *number <= up_to) {
            self.judged(number, Err(Refusal::UnknownOutcome));
        }
    }

    /// The voters that were not heard lately, where those who were are no majority.
    pub(super) fn missing(&self, voters: &[BTreeSet<NodeId>]) -> Option<Vec<NodeId>> {
        let heard = self.heard.lately(self.timing.fresh());
        let is_there = |node: NodeId| node == self.me || heard.contains(&node);
        if roles::is_majority(voters, is_there) {
            return None;
        }
        let all: BTreeSet<NodeId> = voters.iter().flatten().copied().collect();
        Some(all.into_iter().filter(|node| !is_there(*node)).collect())
    }

    /// What people call a node; its id where they do not.
    pub(super) fn name(&self, node: NodeId) -> String {
        self.ask(|state| state.member(node).map(|member| member.name.clone())).unwrap_or_else(|| node.to_string())
    }

    pub(super) fn group(&self) -> u64 {
        self.group.load(Ordering::Acquire)
    }

    pub(super) fn set_group(&self, group: u64) {
        self.group.store(group, Ordering::Release);
    }

    /// Why what is to be written waits, while it does.
    pub(super) fn stalled(&self) -> Option<CommitFailed> {
        self.stalled.lock().clone()
    }

    pub(super) fn set_stalled(&self, why: Option<CommitFailed>) {
        *self.stalled.lock() = why;
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Acquire)
    }

    pub(super) fn set_closing(&self, is_closing: bool) {
        self.closing.store(is_closing, Ordering::Release);
    }
}
