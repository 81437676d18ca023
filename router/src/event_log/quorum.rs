//! Acknowledgement by quorum: which commits enough nodes have synced, and what is shown to readers then.
//!
//! A commit with a batch of a `quorum` topic waits here after its own sync. `reached` is the decision, and pure.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sled_data::CommitNumber;

use super::committer::Placed;
use super::inherited::Inherited;
use super::{CommitFailed, EventLog, Ticket, Wake};

/// Bytes of records that may wait for their quorum; beyond that it counts as out of reach.
const WAITING_BYTES_MAX: usize = 32 << 20;
/// How often it is said whether the others keep up, at most.
const SAY_EVERY: Duration = Duration::from_secs(60);

/// What waits for its quorum.
struct Waiting {
    number: u64,
    commit: CommitNumber,
    since: Instant,
    placed: Vec<Placed>,
    bytes: usize,
    waiters: Vec<Arc<Wake>>,
    /// Whoever waits for it was told that it takes too long.
    is_late: bool,
}

/// What the nodes of the site have synced of this node's commits.
#[derive(Default)]
struct State {
    /// How many other nodes must have synced a commit.
    needed: usize,
    /// The other voters, and how far each has synced.
    synced: BTreeMap<u64, CommitNumber>,
    waiting: VecDeque<Waiting>,
    bytes: usize,
    /// How long what is appended waits before that is too long, as it was told last.
    wait_max: Duration,
    /// Whether the others are behind, as it was said last, and when.
    said: Option<(bool, Instant)>,
}

/// Which commits enough nodes have synced.
pub(super) struct Quorum {
    state: Mutex<State>,
    /// How many commits wait; read without the lock.
    waiting: AtomicUsize,
    /// Bytes of records that wait.
    bytes: AtomicUsize,
    /// Enough nodes are heard.
    is_heard: AtomicBool,
    /// What has waited longest waits for too long: who follows is that far behind.
    is_behind: AtomicBool,
    /// What earlier lives have left.
    inherited: Inherited,
    notify: tokio::sync::Notify,
}

impl Default for Quorum {
    fn default() -> Self {
        Self {
            state: Mutex::default(),
            waiting: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            // A node alone is a quorum.
            is_heard: AtomicBool::new(true),
            is_behind: AtomicBool::new(false),
            inherited: Inherited::default(),
            notify: tokio::sync::Notify::new(),
        }
    }
}

/// The newest commit that `needed` of the others have synced; `None` bounds nothing.
pub fn reached(needed: usize, synced: &BTreeMap<u64, CommitNumber>) -> Option<CommitNumber> {
    if needed == 0 {
        return None;
    }
    let mut numbers: Vec<CommitNumber> = synced.values().copied().collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Some(numbers.get(needed - 1).copied().unwrap_or_default())
}

/// Whether `needed` of the others are as far as this one, or further: of those that are equally far the first ones by their ids are waited for.
/// One that does not count for the quorum is always spare.
pub fn is_spare(node: u64, needed: usize, synced: &BTreeMap<u64, CommitNumber>) -> bool {
    let Some(has) = synced.get(&node) else { return true };
    let before = synced.iter().filter(|(other, far)| (far, node) > (&has, **other)).count();
    needed > 0 && before >= needed
}

impl State {
    /// Whether the first in the queue has its quorum.
    fn is_first_reached(&self) -> bool {
        let reached = reached(self.needed, &self.synced);
        self.waiting.front().is_some_and(|first| reached.is_none_or(|reached| first.commit <= reached))
    }

    /// Whether the others are too far behind: what has waited longest is late. Where they were, they are until it has waited for half as long: under steady
    /// overload refusals would come and go with each commit.
    fn is_behind(&self, was_behind: bool) -> bool {
        let is_behind = |first: &Waiting| first.is_late || was_behind && first.since.elapsed() >= self.wait_max / 2;
        self.waiting.front().is_some_and(is_behind)
    }

    /// Whether it is to be said (pure): it is news, and the last news was long ago.
    fn is_to_say(&self, is_behind: bool, now: Instant) -> bool {
        match self.said {
            Some((said, at)) => said != is_behind && now.saturating_duration_since(at) >= SAY_EVERY,
            None => is_behind,
        }
    }
}

impl Quorum {
    /// Whether an event of a `quorum` topic may be appended now.
    pub(super) fn is_in_reach(&self) -> bool {
        let is_kept_up_with = !self.is_behind.load(Ordering::Acquire);
        let has_room = self.bytes.load(Ordering::Acquire) < WAITING_BYTES_MAX;
        self.is_heard.load(Ordering::Acquire) && is_kept_up_with && has_room
    }

    /// Notes whether what has waited longest waits for too long.
    fn note_behind(&self, state: &mut State) {
        let is_behind = state.is_behind(self.is_behind.load(Ordering::Acquire));
        self.is_behind.store(is_behind, Ordering::Release);
        let now = Instant::now();
        if !state.is_to_say(is_behind, now) {
            return;
        }
        state.said = Some((is_behind, now));
        match is_behind {
            true => tracing::warn!(
                needed = state.needed,
                "the site's nodes that are heard are too far behind: events of quorum topics are refused until they have what waits"
            ),
            false => tracing::info!("enough of the site's nodes have kept up for quorum topics"),
        }
    }

    /// Changes what is known; whether anything has its quorum then.
    fn change(&self, change: impl FnOnce(&mut State)) -> bool {
        let mut state = self.state.lock();
        change(&mut state);
        state.is_first_reached()
    }

    /// What the first in the queue has to show, where it has its quorum. It stays in the queue until it was shown.
    fn next_reached(&self) -> Option<(Vec<Placed>, Vec<Arc<Wake>>)> {
        let mut state = self.state.lock();
        if !state.is_first_reached() {
            return None;
        }
        let first = state.waiting.front_mut()?;
        Some((std::mem::take(&mut first.placed), std::mem::take(&mut first.waiters)))
    }

    /// The first in the queue was shown.
    fn shown(&self) {
        let mut state = self.state.lock();
        if let Some(first) = state.waiting.pop_front() {
            state.bytes -= first.bytes;
            self.bytes.store(state.bytes, Ordering::Release);
        }
        self.waiting.store(state.waiting.len(), Ordering::Release);
        self.note_behind(&mut state);
    }

    /// Whether this node's sync alone is enough.
    pub(super) fn is_alone(&self) -> bool {
        self.state.lock().needed == 0
    }

    /// Whether commits wait that are not shown yet.
    pub(super) fn has_waiting(&self) -> bool {
        self.waiting.load(Ordering::Acquire) > 0
    }

    /// Keeps a synced commit until it has its quorum. Called before the commit is settled.
    pub(super) fn add(&self, ticket: Ticket, commit: CommitNumber, placed: Vec<Placed>, waiters: Vec<Arc<Wake>>) {
        let bytes = placed.iter().map(Placed::record_bytes).sum();
        let mut state = self.state.lock();
        state.bytes += bytes;
        let waiting =
            Waiting { number: ticket.number(), commit, since: Instant::now(), placed, bytes, waiters, is_late: false };
        state.waiting.push_back(waiting);
        self.bytes.store(state.bytes, Ordering::Release);
        self.waiting.store(state.waiting.len(), Ordering::Release);
    }

    /// How a commit that is durable here stands with its quorum: `None`: it waits.
    fn of(&self, ticket: Ticket) -> Option<Result<(), CommitFailed>> {
        match self.of_commit(ticket.number()) {
            Some(Ok(())) if ticket.awaits_lives() => self.inherited.of(),
            outcome => outcome,
        }
    }

    fn of_commit(&self, number: u64) -> Option<Result<(), CommitFailed>> {
        if self.waiting.load(Ordering::Acquire) == 0 {
            return Some(Ok(()));
        }
        let state = self.state.lock();
        let at = state.waiting.binary_search_by_key(&number, |waiting| waiting.number).ok();
        match at.and_then(|at| state.waiting.get(at)) {
            None => Some(Ok(())),
            Some(waiting) if waiting.is_late => {
                let text = format!("{} of {} other nodes must have it", state.needed, state.synced.len());
                Some(Err(CommitFailed::Unreplicated(text)))
            }
            Some(_) => None,
        }
    }

    /// Has `wake` rung when what the ticket stands for has its quorum, perhaps before as well; false where it does not wait.
    pub(super) fn ring_when(&self, ticket: Ticket, wake: &Arc<Wake>) -> bool {
        let lives_wait = ticket.awaits_lives() && self.inherited.ring_when(wake);
        self.ring_when_commit(ticket.number(), wake) || lives_wait
    }

    fn ring_when_commit(&self, number: u64, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        let at = state.waiting.binary_search_by_key(&number, |waiting| waiting.number).ok();
        match at.and_then(|at| state.waiting.get_mut(at)) {
            Some(waiting) if !waiting.is_late => {
                waiting.waiters.push(Arc::clone(wake));
                true
            }
            _ => false,
        }
    }

    pub(super) fn inherited(&self) -> &Inherited {
        &self.inherited
    }

    /// Wakes those who waited.
    pub(super) fn tell(&self, woken: &[Arc<Wake>]) {
        woken.iter().for_each(|wake| wake.ring(Wake::SETTLED));
        self.notify.notify_waiters();
    }
}

impl EventLog {
    /// Says that the node is in a site whose nodes are not known yet: nothing has a quorum until they are, nor has what
    /// was stored before this start, in an earlier life as well. To be called before a door is open.
    pub fn await_replicas(&self) {
        self.quorum.state.lock().needed = usize::MAX;
        self.quorum.is_heard.store(false, Ordering::Release);
        let last = self.store.last_commit();
        if last > CommitNumber(0) {
            self.quorum.add(Ticket::of(0), last, Vec::new(), Vec::new());
        }
        self.quorum.inherited.begin(self.store.ended_lives());
    }

    /// What an event of a `quorum` topic that was stored at an unknown time waits for; `None`: nothing waits.
    pub fn quorum_barrier(&self) -> Option<Ticket> {
        let lives_wait = self.quorum.inherited.waits();
        if !self.quorum.has_waiting() && !lives_wait {
            return None;
        }
        let state = self.quorum.state.lock();
        let newest = state.waiting.back().map(|newest| newest.number).or(lives_wait.then_some(0));
        newest.map(|number| Ticket::of(number).with_quorum(true).with_lives(lives_wait))
    }

    /// Who the other voters of the site are, and how many of them must have synced a commit for a quorum.
    pub fn set_replicas(&self, others: &[u64], needed: usize) {
        self.move_quorum(|state| {
            state.needed = needed;
            state.synced.retain(|node, _| others.contains(node));
            for node in others {
                state.synced.entry(*node).or_default();
            }
        });
    }

    /// How many other nodes must have synced something for a quorum, and of which.
    pub fn replicas(&self) -> (usize, Vec<u64>) {
        let state = self.quorum.state.lock();
        (state.needed, state.synced.keys().copied().collect())
    }

    /// Notes how far another node has synced this node's commits.
    pub fn follower_synced(&self, node: u64, commit: CommitNumber) {
        self.move_quorum(|state| {
            if let Some(synced) = state.synced.get_mut(&node) {
                *synced = commit.max(*synced);
            }
        });
    }

    /// Whether enough nodes are heard; where not, events of `quorum` topics are refused.
    pub fn set_quorum_in_reach(&self, is_heard: bool) {
        match (self.quorum.is_heard.swap(is_heard, Ordering::AcqRel), is_heard) {
            (true, false) => {
                tracing::warn!("too few of the site's nodes are heard: events of quorum topics are refused")
            }
            (false, true) => {
                tracing::info!("enough of the site's nodes are heard for quorum topics");
                self.quorum.notify.notify_waiters();
            }
            _ => {}
        }
    }

    /// Waits until enough nodes are heard, `wait` at most; whether they are.
    pub async fn await_quorum_heard(&self, wait: Duration) -> bool {
        let heard = async {
            loop {
                let told = self.quorum.notify.notified();
                if self.quorum_is_heard() {
                    return;
                }
                told.await;
            }
        };
        tokio::time::timeout(wait, heard).await.is_ok()
    }

    /// The newest own commit that a quorum has.
    pub fn quorum_commit(&self) -> CommitNumber {
        let state = self.quorum.state.lock();
        let synced = self.store.synced_commit();
        reached(state.needed, &state.synced).map_or(synced, |reached| reached.min(synced))
    }

    /// Whether enough other nodes are as far as this one, or further, so that no acknowledgement waits for it. Of those that are
    /// equally far the first ones by their ids are waited for.
    pub fn is_spare(&self, node: u64) -> bool {
        let state = self.quorum.state.lock();
        is_spare(node, state.needed, &state.synced)
    }

    /// Bytes of records that wait for their quorum.
    pub fn quorum_bytes(&self) -> usize {
        self.quorum.bytes.load(Ordering::Acquire)
    }

    /// Whether enough nodes are heard for a quorum, however far they are.
    pub fn quorum_is_heard(&self) -> bool {
        self.quorum.is_heard.load(Ordering::Acquire)
    }

    /// Whether events of `quorum` topics are taken: enough nodes are heard, and they are not so far behind that what was
    /// taken before waits for too long.
    pub fn quorum_in_reach(&self) -> bool {
        self.quorum.is_in_reach()
    }

    /// Tells those who have waited for a quorum longer than `wait_max` that it takes too long; until that has its quorum,
    /// events of `quorum` topics are refused. Call it a few times a second.
    pub fn tell_late(&self, wait_max: Duration) {
        let mut told = self.quorum.inherited.late(wait_max);
        let mut state = self.quorum.state.lock();
        state.wait_max = wait_max;
        for waiting in state.waiting.iter_mut().take_while(|waiting| waiting.since.elapsed() > wait_max) {
            waiting.is_late = true;
            told.append(&mut waiting.waiters);
        }
        self.quorum.note_behind(&mut state);
        drop(state);
        if !told.is_empty() {
            self.quorum.tell(&told);
        }
    }

    /// Shows what has its quorum already.
    pub(super) fn show_what_is_reached(&self) {
        self.move_quorum(|_| {});
    }

    fn move_quorum(&self, change: impl FnOnce(&mut State)) {
        if !self.quorum.change(change) {
            return;
        }
        // Shown in order, and before anybody is told that they are acknowledged. Always locked before the state, which
        // is never held while anything is shown.
        let _showing = self.showing.lock();
        let mut waiters = Vec::new();
        while let Some((placed, woken)) = self.quorum.next_reached() {
            self.show_placed(placed);
            self.quorum.shown();
            waiters.extend(woken);
        }
        self.quorum.tell(&waiters);
    }

    /// Whether what the ticket stands for may be acknowledged: durable here and, where a `quorum` topic was appended
    /// to, on enough other nodes. `None` while it waits; an error where it was refused, or waits for too long.
    pub fn acknowledged(&self, ticket: Ticket) -> Option<Result<(), CommitFailed>> {
        match self.outcome(ticket) {
            Some(Ok(())) if ticket.awaits_quorum() => self.quorum.of(ticket),
            outcome => outcome,
        }
    }

    /// Waits until what the ticket stands for may be acknowledged.
    ///
    /// # Errors
    /// As [`Self::acknowledged`].
    pub async fn replicated(&self, ticket: Ticket) -> Result<(), CommitFailed> {
        self.durable(ticket).await?;
        loop {
            let moved = self.quorum.notify.notified();
            if let Some(outcome) = self.acknowledged(ticket) {
                return outcome;
            }
            moved.await;
        }
    }
}

#[cfg(test)]
mod tests;
