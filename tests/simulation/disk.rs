//! The node's log and store: commits that become durable one after another, and what a crash leaves of them.

use std::collections::BTreeMap;

use devices::command::{CommandId, Status, StepEvent};
use edgeway::commands::Answered;

use crate::seeded::journal::{Journal, Keeps};

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

impl Answer {
    /// The answer, as one of this session and client.
    pub fn of<'a>(&'a self, session: u64, client: &'a str) -> Answered<'a> {
        let Answer { device, id, status, payload, .. } = self;
        let (code, text) = ("", "");
        Answered { device, id: *id, status: *status, percent: None, code, text, session, client, payload }
    }
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
pub type Disk = Journal<Kept, Commit>;

/// What is durable.
#[derive(Debug, Default)]
pub struct Kept {
    /// The durable log of steps.
    pub steps: Vec<Logged>,
    /// The durable log of answers.
    pub answers: Vec<Answer>,
    pub stored: BTreeMap<CommandId, Vec<u8>>,
    pub cursor: usize,
    pub answers_cursor: usize,
}

impl Keeps<Commit> for Kept {
    type Told = Commit;

    fn keep(&mut self, commit: Commit) -> Commit {
        self.steps.extend(commit.steps.iter().cloned());
        self.answers.extend(commit.answers.iter().cloned());
        self.stored.extend(commit.put.iter().cloned());
        for id in &commit.delete {
            self.stored.remove(id);
        }
        self.cursor = commit.cursor.unwrap_or(self.cursor);
        self.answers_cursor = commit.answers_cursor.unwrap_or(self.answers_cursor);
        commit
    }
}
