//! What is known of replication: who follows what how far, and what was refused; for the quorum, for people, for metrics.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use parking_lot::Mutex;
use sled_data::{CommitNumber, OriginId};

use crate::transport::NodeId;

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

#[derive(Default)]
struct Pages {
    followers: BTreeMap<(OriginId, NodeId), Follower>,
    /// How often each of them came.
    visits: BTreeMap<(OriginId, NodeId), u64>,
    following: BTreeMap<OriginId, Following>,
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
