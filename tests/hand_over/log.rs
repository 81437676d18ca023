//! A node's log and store: commits that become durable one after another, what a crash leaves, and what others have of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use devices::command::CommandId;
use sled_data::{OriginId, PartitionId, TopicId};

use crate::seeded::journal::{Journal, Keeps};
use crate::simulation::disk::{Answer, Logged};

/// What becomes durable together.
#[derive(Debug, Clone, Default)]
pub struct Commit {
    pub steps: Vec<Logged>,
    pub answers: Vec<Answer>,
    /// Devices that came or went.
    pub presence: Vec<(usize, u64, bool)>,
    pub put: Vec<(CommandId, Vec<u8>)>,
    pub delete: Vec<CommandId>,
    pub cursors: Vec<(PartitionId, u64)>,
    /// The node whose commands are taken up with it, and under which term.
    pub mark: Option<(usize, u64)>,
}

/// What the commits of one node come to.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub commits: usize,
    pub steps: Vec<Logged>,
    pub answers: Vec<Answer>,
    /// When it was seen last that a device came (or went), by device.
    pub presence: BTreeMap<usize, (u64, bool)>,
    pub stored: BTreeMap<CommandId, Vec<u8>>,
    pub cursors: BTreeMap<PartitionId, u64>,
    pub marks: BTreeMap<usize, u64>,
}

impl Image {
    pub fn apply(&mut self, commit: &Commit) {
        self.commits += 1;
        self.steps.extend(commit.steps.iter().cloned());
        self.answers.extend(commit.answers.iter().cloned());
        for (device, at, is_here) in &commit.presence {
            self.presence.insert(*device, (*at, *is_here));
        }
        self.stored.extend(commit.put.iter().cloned());
        for id in &commit.delete {
            self.stored.remove(id);
        }
        self.cursors.extend(commit.cursors.iter().copied());
        self.marks.extend(commit.mark);
    }

    pub fn cursor(&self, id: PartitionId) -> usize {
        usize::try_from(self.cursors.get(&id).copied().unwrap_or(0)).unwrap()
    }
}

/// The steps of commands of a node.
pub fn commands_of(node: usize) -> PartitionId {
    PartitionId { origin: origin(node), topic: TopicId(1), index: 0 }
}

/// The answers that came in at a node.
pub fn answers_of(node: usize) -> PartitionId {
    PartitionId { origin: origin(node), topic: TopicId(2), index: 0 }
}

/// The life that a node writes.
pub fn origin(node: usize) -> OriginId {
    OriginId(100 + node as u64)
}

/// The node that writes a life.
pub fn node_of(origin: OriginId) -> usize {
    usize::try_from(origin.0 - 100).unwrap()
}

/// A node's disk, with what it follows, and the commits that are on their way to it.
pub type Log = Journal<Kept, Commit>;

/// What a node has.
#[derive(Debug, Default)]
pub struct Kept {
    /// What is durable of its own.
    pub own: Image,
    /// The same as it is shipped.
    pub durable: Vec<Rc<Commit>>,
    /// What it has of the others.
    pub copies: BTreeMap<usize, Image>,
}

impl Kept {
    /// How many commits of another it has.
    pub fn held(&self, of: usize) -> usize {
        self.copies.get(&of).map_or(0, |image| image.commits)
    }
}

impl Keeps<Commit> for Kept {
    type Told = Rc<Commit>;

    fn keep(&mut self, commit: Commit) -> Rc<Commit> {
        let commit = Rc::new(commit);
        self.own.apply(&commit);
        self.durable.push(Rc::clone(&commit));
        commit
    }
}
