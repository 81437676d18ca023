//! Whether enough nodes have what this node's lives before the present one have left.
//!
//! Of an event of a `quorum` topic that an earlier life stored, the other nodes may have nothing: that life ended before its quorum was there.
//! So nothing of it is acknowledged, where it comes again, until enough of them say that they have all of that life. What the present life
//! appends does not wait for it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use sled_data::{CommitNumber, OriginId};

use super::{CommitFailed, EventLog, Wake};

/// The lives that not enough nodes are known to have.
#[derive(Default)]
pub(super) struct Inherited {
    state: Mutex<State>,
    /// Whether there are any; read without the lock.
    waits: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Each with its last commit.
    lives: BTreeMap<OriginId, CommitNumber>,
    since: Option<Instant>,
    waiters: Vec<Arc<Wake>>,
    /// Whoever waits was told that it takes too long.
    is_late: bool,
}

/// Whether `needed` of these have a life up to its last commit (pure).
fn has_quorum(needed: usize, held: impl Iterator<Item = CommitNumber>, last: CommitNumber) -> bool {
    held.filter(|held| *held >= last).count() >= needed
}

impl Inherited {
    /// Whether there is a life that waits.
    pub(super) fn waits(&self) -> bool {
        self.waits.load(Ordering::Acquire)
    }

    /// Has these wait, each up to its last commit.
    pub(super) fn begin(&self, lives: impl IntoIterator<Item = (OriginId, CommitNumber)>) {
        let mut state = self.state.lock();
        state.lives.extend(lives);
        state.since = Some(Instant::now());
        self.waits.store(!state.lives.is_empty(), Ordering::Release);
    }

    /// How what they left stands with its quorum: `None`: it waits.
    pub(super) fn of(&self) -> Option<Result<(), CommitFailed>> {
        if !self.waits() {
            return Some(Ok(()));
        }
        let state = self.state.lock();
        match (state.lives.len(), state.is_late) {
            (0, _) => Some(Ok(())),
            (_, false) => None,
            (count, true) => Some(Err(CommitFailed::Unreplicated(format!(
                "it was stored before this node was started, and too few other nodes have {count} earlier lives of it"
            )))),
        }
    }

    /// Has `wake` rung when they have their quorum; false where nothing waits.
    pub(super) fn ring_when(&self, wake: &Arc<Wake>) -> bool {
        let mut state = self.state.lock();
        let waits = !state.lives.is_empty() && !state.is_late;
        // One that comes with many resends waits once.
        if waits && !state.waiters.last().is_some_and(|last| Arc::ptr_eq(last, wake)) {
            state.waiters.push(Arc::clone(wake));
        }
        waits
    }

    /// Notes what others have; who waits for nothing any more.
    fn settle(&self, has_quorum: impl Fn(OriginId, CommitNumber) -> bool) -> Vec<Arc<Wake>> {
        let mut state = self.state.lock();
        state.lives.retain(|life, last| !has_quorum(*life, *last));
        if !state.lives.is_empty() {
            return Vec::new();
        }
        self.waits.store(false, Ordering::Release);
        std::mem::take(&mut state.waiters)
    }

    /// Who has waited for longer than `wait_max`.
    pub(super) fn late(&self, wait_max: Duration) -> Vec<Arc<Wake>> {
        let mut state = self.state.lock();
        let is_late = !state.lives.is_empty() && state.since.is_some_and(|since| since.elapsed() > wait_max);
        state.is_late |= is_late;
        if is_late { std::mem::take(&mut state.waiters) } else { Vec::new() }
    }
}

impl EventLog {
    /// Whether not enough nodes are known to have a life of this node's that has ended.
    pub fn awaits_quorum_of(&self, life: OriginId) -> bool {
        self.quorum.inherited().waits() && self.quorum.inherited().state.lock().lives.contains_key(&life)
    }

    /// Notes how far each of the other voters has synced the lives of this node's that have ended, as `held` knows it. Call it a few times a
    /// second.
    pub fn settle_lives(&self, held: impl Fn(OriginId, u64) -> CommitNumber) {
        if !self.quorum.inherited().waits() {
            return;
        }
        let (needed, voters) = self.replicas();
        // Of one that retention has left nothing of nobody can have anything any more.
        let spent: BTreeSet<OriginId> =
            self.store.ended_lives_without_events().into_iter().map(|(life, _)| life).collect();
        let woken = self.quorum.inherited().settle(|life, last| {
            spent.contains(&life) || has_quorum(needed, voters.iter().map(|node| held(life, *node)), last)
        });
        if !self.quorum.inherited().waits() {
            self.quorum.tell(&woken);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use sled_data::{Durability, MemoryBackend, TopicConfig};

    use super::super::tests::open_on;
    use super::super::{Config, NO_HEADERS, NewEvent, Ticket};
    use super::*;

    #[test]
    fn a_life_has_its_quorum_where_enough_have_all_of_it() {
        for (needed, held, has) in [
            (0, &[][..], true),
            (1, &[], false),
            (1, &[4, 4], false),
            (1, &[4, 5], true),
            (2, &[9, 4, 4], false),
            (2, &[9, 4, 5], true),
            (usize::MAX, &[5, 5], false),
        ] {
            let held = held.iter().copied().map(CommitNumber);
            assert_eq!(has_quorum(needed, held.clone(), CommitNumber(5)), has, "{needed} of {held:?}");
        }
    }

    fn append(log: &Arc<EventLog>) -> Ticket {
        let config = TopicConfig { partitions: 1, durability: Durability::Quorum, ..TopicConfig::default() };
        let topic = log.ensure_topic("vital", Some(config)).unwrap();
        let headers = &NO_HEADERS;
        let event =
            NewEvent { timestamp_ms: 1, key: None, value: Some(b"v"), headers, extra: headers, fanned_out: false };
        let ticket = {
            let mut open = log.lock();
            open.append(&topic, 0, &event).unwrap();
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
        ticket
    }

    /// A log whose last life has ended with an event of a `quorum` topic that nobody was told to be stored; in a site of three.
    fn begun_anew() -> (Arc<EventLog>, OriginId) {
        let backend = Arc::new(MemoryBackend::new());
        let log = open_on(&backend, Config::default());
        log.set_replicas(&[7, 8], 1);
        let ticket = append(&log);
        assert_eq!(log.acknowledged(ticket), None);
        log.close();
        log.store().end_life("as after a kill").unwrap();
        let ended = log.origin();
        drop(log);
        let log = open_on(&backend, Config::default());
        assert_ne!(log.origin(), ended);
        log.await_replicas();
        (log, ended)
    }

    #[test]
    fn what_an_earlier_life_stored_is_acknowledged_when_enough_have_that_life() {
        let (log, ended) = begun_anew();
        let last = log.store().last_commit_of(ended);
        assert!(log.awaits_quorum_of(ended) && !log.awaits_quorum_of(log.origin()));
        let barrier = log.quorum_barrier().unwrap();
        assert_eq!(log.acknowledged(barrier), None, "who votes is not known");
        log.set_replicas(&[7, 8], 1);
        assert_eq!(log.acknowledged(barrier), None, "nobody has said anything");
        let wake = Arc::new(Wake::default());
        log.lock().ring_when(barrier, &wake);
        // One that does not vote has it, and one that votes lacks the end.
        let behind = CommitNumber(last.0 - 1);
        log.settle_lives(|_, node| if node == 9 { last } else { behind });
        assert_eq!((log.acknowledged(barrier), wake.take()), (None, 0));
        log.set_quorum_in_reach(true);
        // What is appended now has its quorum without it; both are waited for where it is not known which one it is.
        let ticket = append(&log);
        let newest = log.store().synced_commit();
        log.follower_synced(7, newest);
        assert_eq!(log.acknowledged(ticket), Some(Ok(())));
        assert_eq!(log.acknowledged(log.quorum_barrier().unwrap()), None);
        append(&log);
        let both = log.quorum_barrier().unwrap();
        log.settle_lives(|life, node| if (life, node) == (ended, 8) { last } else { behind });
        assert_eq!((log.acknowledged(barrier), wake.take()), (Some(Ok(())), Wake::SETTLED));
        assert!(!log.awaits_quorum_of(ended));
        assert_eq!(log.acknowledged(both), None);
        log.follower_synced(8, log.store().synced_commit());
        assert_eq!(log.acknowledged(both), Some(Ok(())));
        assert_eq!(log.quorum_barrier(), None);
        log.close();
    }

    #[test]
    fn who_waits_too_long_for_an_earlier_life_is_told_and_a_node_alone_does_not_wait() {
        let (log, ended) = begun_anew();
        log.set_replicas(&[7, 8], 1);
        let barrier = log.quorum_barrier().unwrap();
        let (wake, late) = (Arc::new(Wake::default()), Arc::new(Wake::default()));
        log.lock().ring_when(barrier, &wake);
        log.tell_late(Duration::from_secs(3_600));
        assert_eq!((log.acknowledged(barrier), wake.take()), (None, 0));
        log.tell_late(Duration::ZERO);
        assert!(matches!(log.acknowledged(barrier), Some(Err(CommitFailed::Unreplicated(_)))));
        log.lock().ring_when(barrier, &late);
        assert_eq!((wake.take(), late.take()), (Wake::SETTLED, Wake::SETTLED));
        assert!(log.awaits_quorum_of(ended));
        log.set_replicas(&[], 0);
        log.settle_lives(|_, _| CommitNumber(0));
        assert_eq!((log.acknowledged(barrier), log.quorum_barrier()), (Some(Ok(())), None));
        log.close();
    }

    #[test]
    fn a_life_without_events_is_told_to_nobody_and_not_waited_for() {
        let backend = Arc::new(MemoryBackend::new());
        let log = open_on(&backend, Config::default());
        let ticket = {
            let mut open = log.lock();
            open.put_state("tree", b"key", Some(b"value"));
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
        log.close();
        log.store().end_life("as after a kill").unwrap();
        let ended = log.origin();
        drop(log);
        let log = open_on(&backend, Config::default());
        log.await_replicas();
        assert!(log.store().last_commit_of(ended) > CommitNumber(0));
        assert_eq!(log.lives_to_tell(), []);
        log.set_replicas(&[7, 8], 1);
        [7, 8].into_iter().for_each(|node| log.follower_synced(node, log.store().synced_commit()));
        log.settle_lives(|_, _| CommitNumber(0));
        assert_eq!(log.quorum_barrier(), None);
        log.close();
    }

    #[test]
    fn a_life_of_which_retention_has_left_nothing_is_waited_for_no_more() {
        let (log, ended) = begun_anew();
        log.set_replicas(&[7, 8], 1);
        log.settle_lives(|_, _| CommitNumber(0));
        assert!(log.awaits_quorum_of(ended));
        let topic = log.topic("vital").unwrap();
        log.set_retention(topic.id(), Some(0), None).unwrap();
        log.apply_retention(&sled_data::Wait::for_ever(&|_| u64::MAX));
        log.settle_lives(|_, _| CommitNumber(0));
        assert!(!log.awaits_quorum_of(ended), "nobody can take it any more");
        log.close();
    }
}
