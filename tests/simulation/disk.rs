//! The node's log and store: commits that become durable one after another, and what a crash leaves of them.

use std::collections::{BTreeMap, VecDeque};

use devices::command::{CommandId, Status, StepEvent};

/// An answer in the log.
#[derive(Debug, Clone)]
pub struct Answer {
    pub device: String,
    pub id: CommandId,
    pub status: Status,
    pub payload: &'static [u8],
    pub session: u64,
    pub client: String,
    /// The device's number for it, by which it is acknowledged.
    pub tag: u64,
}

/// A step in the log.
#[derive(Debug, Clone)]
pub struct Logged {
    pub device: String,
    pub event: StepEvent,
    /// The room wrote it itself.
    pub is_own: bool,
}

/// What becomes durable together.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub steps: Vec<Logged>,
    pub answers: Vec<Answer>,
    pub put: Vec<(CommandId, Vec<u8>)>,
    pub delete: Vec<CommandId>,
    pub cursor: Option<usize>,
    pub answers_cursor: Option<usize>,
}

/// The disk, and the commits that are on their way to it.
#[derive(Debug, Default)]
pub struct Disk {
    /// The durable log of steps.
    pub steps: Vec<Logged>,
    /// The durable log of answers.
    pub answers: Vec<Answer>,
    pub stored: BTreeMap<CommandId, Vec<u8>>,
    pub cursor: usize,
    pub answers_cursor: usize,
    /// How many commits are durable.
    applied: u64,
    closed: VecDeque<Commit>,
    pub open: Commit,
    is_open_used: bool,
}

impl Disk {
    /// The number of the open commit, which is to be waited for.
    pub fn ticket(&mut self) -> u64 {
        self.is_open_used = true;
        self.applied + self.closed.len() as u64 + 1
    }

    pub fn is_durable(&self, ticket: u64) -> bool {
        ticket <= self.applied
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
    pub fn sync(&mut self) -> Option<Commit> {
        let commit = self.closed.pop_front()?;
        self.apply(&commit);
        Some(commit)
    }

    fn apply(&mut self, commit: &Commit) {
        self.applied += 1;
        self.steps.extend(commit.steps.iter().cloned());
        self.answers.extend(commit.answers.iter().cloned());
        self.stored.extend(commit.put.iter().cloned());
        for id in &commit.delete {
            self.stored.remove(id);
        }
        self.cursor = commit.cursor.unwrap_or(self.cursor);
        self.answers_cursor = commit.answers_cursor.unwrap_or(self.answers_cursor);
    }

    /// The power goes: of the closed commits the first `keep` had reached the disk.
    pub fn crash(&mut self, keep: usize) -> Vec<Commit> {
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
