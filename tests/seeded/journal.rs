//! A log on a disk, and the commits that are on their way to it: they become durable one after another, and a crash leaves the first of them.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};

/// What durable commits come to.
pub trait Keeps<C> {
    /// What others are told of a commit that is durable.
    type Told;

    /// A commit is durable.
    fn keep(&mut self, commit: C) -> Self::Told;
}

/// The log: it shows what is durable.
#[derive(Debug, Default)]
pub struct Journal<K, C> {
    kept: K,
    /// How many commits are durable.
    durable: usize,
    closed: VecDeque<C>,
    pub open: C,
    is_open_used: bool,
}

impl<C: Default, K: Keeps<C>> Journal<K, C> {
    /// The number of the open commit, which is to be waited for.
    pub fn ticket(&mut self) -> usize {
        self.is_open_used = true;
        self.durable + self.closed.len() + 1
    }

    pub fn is_durable(&self, ticket: usize) -> bool {
        ticket <= self.durable
    }

    /// Whether a sync runs.
    pub fn syncs(&self) -> bool {
        !self.closed.is_empty()
    }

    /// Closes the open commit, for the next sync.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.is_open_used) {
            self.closed.push_back(std::mem::take(&mut self.open));
        }
    }

    /// The next closed commit is durable.
    pub fn sync(&mut self) -> Option<K::Told> {
        let commit = self.closed.pop_front()?;
        self.durable += 1;
        Some(self.kept.keep(commit))
    }

    /// The power goes: of the closed commits the first `keep` had reached the disk.
    pub fn crash(&mut self, keep: usize) -> Vec<K::Told> {
        self.close();
        let mut kept = Vec::new();
        for _ in 0..keep.min(self.closed.len()) {
            kept.extend(self.sync());
        }
        self.closed.clear();
        kept
    }

    /// Commits that a crash may leave.
    pub fn unsynced(&self) -> usize {
        self.closed.len() + usize::from(self.is_open_used)
    }
}

impl<K, C> Deref for Journal<K, C> {
    type Target = K;

    fn deref(&self) -> &K {
        &self.kept
    }
}

impl<K, C> DerefMut for Journal<K, C> {
    fn deref_mut(&mut self) -> &mut K {
        &mut self.kept
    }
}
