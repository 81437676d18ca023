//! What is known of replication: who follows what how far, and what was refused; for the quorum, for people, for metrics.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use sled_data::{CommitNumber, OriginId};

use crate::transport::NodeId;

/// Moments of this node's own log that are remembered, to say how far a follower is behind.
const MOMENTS_MAX: usize = 4_096;
/// Refusals that are remembered.
const TROUBLES_MAX: usize = 64;

/// Troubles of one kind are told again after this: their texts may say what another node chose.
const SAME_AGAIN_MS: i64 = 10_000;

/// How a followed origin stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Following {
    /// Commits come from this node.
    Commits(NodeId),
    /// A copy comes from this node.
    Copy(NodeId),
    /// The copy here differs from what was sent: nothing more is taken until people have looked.
    Stopped(String),
}

/// One who follows an origin from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Follower {
    /// The newest commit that it has synced.
    pub synced: CommitNumber,
    /// Whether its stream is open.
    pub is_here: bool,
}

/// How far a follower is behind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Lag {
    /// Commits.
    pub commits: u64,
    /// Events.
    pub events: u64,
    /// Bytes of records, uncompressed.
    pub bytes: u64,
    /// Since it last had all, in milliseconds.
    pub ms: u64,
}

/// Something that people should know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trouble {
    /// When, in milliseconds since 1970.
    pub at_ms: i64,
    /// What a program goes by.
    pub code: &'static str,
    /// What happened, to what, and what to do.
    pub text: String,
}

/// The log of this node as it stood at one moment.
#[derive(Debug, Clone, Copy)]
struct Moment {
    commit: CommitNumber,
    events: u64,
    bytes: u64,
    at: Duration,
}

#[derive(Default)]
struct Pages {
    followers: BTreeMap<(OriginId, NodeId), Follower>,
    /// How often each of them came.
    visits: BTreeMap<(OriginId, NodeId), u64>,
    following: BTreeMap<OriginId, Following>,
    moments: VecDeque<Moment>,
    troubles: VecDeque<Trouble>,
}

/// A stream of one who follows. While it is kept, the follower is here.
#[must_use]
pub struct Visit {
    book: Arc<Book>,
    origin: OriginId,
    node: NodeId,
    number: u64,
}

impl Drop for Visit {
    fn drop(&mut self) {
        self.book.went(self.origin, self.node, self.number);
    }
}

/// The book.
#[derive(Default)]
pub struct Book {
    pages: Mutex<Pages>,
}

impl Book {
    /// A node began to follow an origin from here; it has gone when the visit is dropped, however the stream ended.
    pub fn came(self: &Arc<Self>, origin: OriginId, node: NodeId, synced: CommitNumber) -> Visit {
        let mut pages = self.pages.lock();
        pages.followers.insert((origin, node), Follower { synced, is_here: true });
        let visit = pages.visits.entry((origin, node)).or_default();
        *visit += 1;
        Visit { book: Arc::clone(self), origin, node, number: *visit }
    }

    /// It has synced up to a commit.
    pub fn synced(&self, origin: OriginId, node: NodeId, commit: CommitNumber) {
        if let Some(follower) = self.pages.lock().followers.get_mut(&(origin, node)) {
            follower.synced = commit.max(follower.synced);
        }
    }

    /// Its stream has ended; not that one which it may have opened since.
    fn went(&self, origin: OriginId, node: NodeId, visit: u64) {
        let mut pages = self.pages.lock();
        if pages.visits.get(&(origin, node)) == Some(&visit)
            && let Some(follower) = pages.followers.get_mut(&(origin, node))
        {
            follower.is_here = false;
        }
    }

    /// Who follows an origin from here, now or earlier in this run.
    pub fn followers(&self, origin: OriginId) -> Vec<(NodeId, Follower)> {
        let pages = self.pages.lock();
        let all = pages.followers.iter().filter(|((of, _), _)| *of == origin);
        all.map(|((_, node), follower)| (*node, *follower)).collect()
    }

    /// How far one has synced an origin that it follows from here, now or earlier in this run; 0 where it does not.
    pub fn synced_at(&self, origin: OriginId, node: NodeId) -> CommitNumber {
        self.pages.lock().followers.get(&(origin, node)).map_or(CommitNumber(0), |follower| follower.synced)
    }

    /// Notes how this node follows an origin; `None`: not now. One that was stopped stays so.
    pub fn set_following(&self, origin: OriginId, following: Option<Following>) {
        let mut pages = self.pages.lock();
        if matches!(pages.following.get(&origin), Some(Following::Stopped(_))) {
            return;
        }
        match following {
            Some(following) => pages.following.insert(origin, following),
            None => pages.following.remove(&origin),
        };
    }

    /// How this node follows each origin.
    pub fn following(&self) -> BTreeMap<OriginId, Following> {
        self.pages.lock().following.clone()
    }

    /// Notes how far this node's own log is.
    pub fn moment(&self, commit: CommitNumber, events: u64, bytes: u64, at: Duration) {
        let mut pages = self.pages.lock();
        if pages.moments.back().is_some_and(|last| last.commit >= commit) {
            return;
        }
        if pages.moments.len() == MOMENTS_MAX {
            // Older moments become sparse: every second of the older half goes.
            let mut number = 0;
            pages.moments.retain(|_| {
                number += 1;
                number > MOMENTS_MAX / 2 || number % 2 == 0
            });
        }
        pages.moments.push_back(Moment { commit, events, bytes, at });
    }

    /// How far behind the newest moment one is that has all up to `commit`.
    pub fn lag(&self, commit: CommitNumber, now: Duration) -> Lag {
        let pages = self.pages.lock();
        let Some(newest) = pages.moments.back() else { return Lag::default() };
        if commit >= newest.commit {
            return Lag::default();
        }
        let after = pages.moments.partition_point(|moment| moment.commit <= commit);
        let had = after.checked_sub(1).and_then(|at| pages.moments.get(at));
        let missed = pages.moments.get(after).unwrap_or(newest);
        Lag {
            commits: newest.commit.0 - commit.0,
            events: newest.events - had.map_or(0, |had| had.events),
            bytes: newest.bytes - had.map_or(0, |had| had.bytes),
            ms: u64::try_from(now.saturating_sub(missed.at).as_millis()).unwrap_or(u64::MAX),
        }
    }

    /// Remembers something that people should know; false where it was the last thing already.
    pub fn trouble(&self, trouble: Trouble) -> bool {
        let mut pages = self.pages.lock();
        let is_known = |known: &Trouble| {
            let is_soon = trouble.at_ms.saturating_sub(known.at_ms) < SAME_AGAIN_MS;
            known.code == trouble.code && (known.text == trouble.text || is_soon)
        };
        if pages.troubles.iter().any(is_known) {
            return false;
        }
        if pages.troubles.len() == TROUBLES_MAX {
            pages.troubles.pop_front();
        }
        pages.troubles.push_back(trouble);
        true
    }

    /// What people should know, the oldest first.
    pub fn troubles(&self) -> Vec<Trouble> {
        self.pages.lock().troubles.iter().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_follower_is_here_as_long_as_its_newest_stream() {
        let book = Arc::new(Book::default());
        let (origin, node) = (OriginId(1), NodeId(2));
        let is_here = || book.followers(origin).iter().any(|(_, follower)| follower.is_here);
        let first = book.came(origin, node, CommitNumber(3));
        let second = book.came(origin, node, CommitNumber(4));
        drop(first);
        assert!(is_here(), "it has come again meanwhile");
        drop(second);
        assert!(!is_here());
    }

    #[test]
    fn lag_is_told_in_commits_events_bytes_and_time() {
        let book = Book::default();
        assert_eq!(book.lag(CommitNumber(0), Duration::ZERO), Lag::default());
        for n in 1..=10_u64 {
            book.moment(CommitNumber(n), n * 100, n * 1_000, Duration::from_secs(n));
        }
        let now = Duration::from_secs(12);
        assert_eq!(book.lag(CommitNumber(10), now), Lag::default());
        assert_eq!(book.lag(CommitNumber(7), now), Lag { commits: 3, events: 300, bytes: 3_000, ms: 4_000 });
        assert_eq!(book.lag(CommitNumber(0), now), Lag { commits: 10, events: 1_000, bytes: 10_000, ms: 11_000 });
    }

    #[test]
    fn moments_are_bounded_and_reach_back() {
        let book = Book::default();
        let count = 20 * MOMENTS_MAX as u64;
        for n in 1..=count {
            book.moment(CommitNumber(n), n, n, Duration::from_millis(n));
        }
        assert!(book.pages.lock().moments.len() <= MOMENTS_MAX);
        let lag = book.lag(CommitNumber(count - 100), Duration::from_millis(count));
        assert_eq!(lag.events, 100);
    }

    #[test]
    fn a_copy_that_differs_stays_stopped() {
        let book = Book::default();
        book.set_following(OriginId(1), Some(Following::Commits(NodeId(2))));
        book.set_following(OriginId(1), Some(Following::Stopped("differs".into())));
        book.set_following(OriginId(1), None);
        assert_eq!(book.following()[&OriginId(1)], Following::Stopped("differs".into()));
    }

    #[test]
    fn what_is_known_is_told_once() {
        let book = Book::default();
        let trouble = Trouble { at_ms: 1, code: "copied", text: "two nodes".into() };
        assert!(book.trouble(trouble.clone()));
        assert!(!book.trouble(Trouble { at_ms: 2, ..trouble }));
        assert_eq!(book.troubles().len(), 1);
    }
}
