//! What each life wrote, as somebody who sees everything knows it.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;

use sled_data::{CommitNumber, CursorMove, OriginId, PartitionId, StateWrite};

/// A number that stands for bytes.
pub fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// A batch of a commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    pub partition: PartitionId,
    pub base: u64,
    /// The events' numbers.
    pub events: Vec<u64>,
    /// What stands for its bytes.
    pub bytes: u64,
}

/// A commit.
#[derive(Debug, Clone, PartialEq)]
pub struct Written {
    pub hlc: u64,
    pub pieces: Vec<Piece>,
    pub cursors: Vec<CursorMove>,
    pub state: Vec<StateWrite>,
}

/// Cursors and state at one commit.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Small {
    pub cursors: BTreeMap<(String, PartitionId), u64>,
    pub state: BTreeMap<(String, Vec<u8>), Vec<u8>>,
}

impl Small {
    fn apply(&mut self, commit: &Written) {
        for cursor in &commit.cursors {
            self.cursors.insert((cursor.reader.clone(), cursor.partition), cursor.next);
        }
        for write in &commit.state {
            let key = (write.tree.clone(), write.key.clone());
            match &write.value {
                Some(value) => self.state.insert(key, value.clone()),
                None => self.state.remove(&key),
            };
        }
    }
}

/// A life, or one of several that have the same origin, because a store was copied or set back.
#[derive(Debug, Clone)]
pub struct Life {
    pub origin: OriginId,
    /// The node that writes it.
    pub node: u64,
    /// Cursors and state before its first commit.
    pub base: Small,
    pub commits: Vec<Arc<Written>>,
}

impl Life {
    /// Cursors and state as they are with that commit.
    pub fn small_at(&self, commit: CommitNumber) -> Small {
        let mut small = self.base.clone();
        let count = usize::try_from(commit.0).unwrap().min(self.commits.len());
        self.commits[..count].iter().for_each(|commit| small.apply(commit));
        small
    }

    /// All batches up to a commit, by partition.
    pub fn pieces_at(&self, commit: CommitNumber) -> BTreeMap<PartitionId, Vec<&Piece>> {
        let count = usize::try_from(commit.0).unwrap().min(self.commits.len());
        let mut pieces: BTreeMap<PartitionId, Vec<&Piece>> = BTreeMap::new();
        for piece in self.commits[..count].iter().flat_map(|commit| &commit.pieces) {
            pieces.entry(piece.partition).or_default().push(piece);
        }
        pieces
    }
}
