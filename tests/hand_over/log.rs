//! A node's log and store: commits that become durable one after another, what a crash leaves, and what others have of them.

use std::collections::BTreeMap;
use std::rc::Rc;

use devices::command::CommandId;
use sled_data::{CommitNumber, CopyState, Followed, OriginId, PartitionId, TopicId};

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
    /// How many steps and answers of the others may be read.
    pub shown: BTreeMap<usize, (usize, usize)>,
    /// Copies of others' logs that are being taken, and where each ends.
    pub copying: BTreeMap<usize, usize>,
}

impl Kept {
    /// It starts again after a crash: a copy is begun anew; what was stored is shown.
    pub fn restart(&mut self) {
        self.copying.clear();
        let all: Vec<usize> = self.copies.keys().copied().collect();
        all.into_iter().for_each(|of| self.show(of));
    }

    /// How many commits of another it has, whole; none while a copy is taken.
    pub fn held(&self, of: usize) -> usize {
        if self.copying.contains_key(&of) { 0 } else { self.applied(of) }
    }

    /// How many commits of another were applied.
    pub fn applied(&self, of: usize) -> usize {
        self.copies.get(&of).map_or(0, |image| image.commits)
    }

    /// What is followed of another, as the store tells it.
    pub fn followed(&self, of: usize) -> Followed {
        let copy = self.copying.get(&of);
        let number = |commits: usize| CommitNumber(commits as u64);
        Followed {
            commit: number(copy.copied().unwrap_or_else(|| self.applied(of))),
            synced: number(self.held(of)),
            hlc: 0,
            node: 0,
            copy: if copy.is_some() { CopyState::Taking } else { CopyState::Whole },
        }
    }

    /// All that is here of another may be read.
    pub fn show(&mut self, of: usize) {
        if let Some(image) = self.copies.get(&of) {
            self.shown.insert(of, (image.steps.len(), image.answers.len()));
        }
    }

    /// Where others' steps and answers end, of those that are whole.
    pub fn ends(&self) -> Vec<(PartitionId, u64)> {
        let whole = self.copies.iter().filter(|(of, _)| !self.copying.contains_key(of));
        let ends = whole.flat_map(|(of, image)| {
            [(commands_of(*of), image.steps.len() as u64), (answers_of(*of), image.answers.len() as u64)]
        });
        ends.collect()
    }

    /// Up to where a partition of another may be read.
    pub fn visible_end(&self, id: PartitionId) -> u64 {
        let of = node_of(id.origin);
        let (steps, answers) = self.shown.get(&of).copied().unwrap_or_default();
        if id == commands_of(of) { steps as u64 } else { answers as u64 }
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
