//! Which commands have changed since they were stored, and from where the log must be read again after a restart.
//!
//! The steps in the log are the truth; the stored commands are a short cut, so that a restart need not read the log
//! from its beginning. Commands are stored a little later than they change: most have ended by then and are written
//! once. Changes are gathered for a while (an epoch); when all commands of an epoch are stored, the reader's cursor
//! moves to where reading stood at the epoch's end. What changed later is in the log behind that cursor.

use std::collections::{HashSet, VecDeque};

use devices::command::CommandId;
use sled_data::PartitionId;

/// Where reading stands in each partition.
pub type Positions = Vec<(PartitionId, u64)>;

/// How long changes are gathered before they are stored, in milliseconds.
const EPOCH_MS: u64 = 1_000;
/// Commands stored, and deleted, with one commit at most: each costs the store ten microseconds, which others wait for.
const STORED_MAX: usize = 32;
/// Time between two commits that store some, in milliseconds: most commits are not held up at all. A backlog of a
/// million takes minutes, in which a restart reads more of the log instead.
const STORED_EVERY_MS: u64 = 5;
/// Bytes stored with one commit, about, at most.
const STORED_BYTES_MAX: usize = 256 * 1024;

struct Epoch {
    until: Positions,
    ids: Vec<CommandId>,
}

/// What is to be stored.
#[derive(Default)]
pub struct Unstored {
    closed: VecDeque<Epoch>,
    open: Vec<CommandId>,
    opened_ms: u64,
    now_ms: u64,
    /// When some were stored last.
    stored_ms: u64,
    /// All ids of all epochs, each in one of them; at most as many as there are commands.
    waiting: HashSet<CommandId>,
    /// Stored commands to be deleted.
    deleted: Vec<CommandId>,
}

/// What one commit stores.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Portion {
    /// Commands to be written in their newest state.
    pub put: Vec<CommandId>,
    /// Commands to be deleted.
    pub delete: Vec<CommandId>,
    /// Where the cursor can move.
    pub cursor: Option<Positions>,
}

impl Unstored {
    /// A command has changed.
    pub fn save(&mut self, id: CommandId) {
        if self.waiting.insert(id) {
            self.open.push(id);
        }
    }

    /// A command is forgotten.
    pub fn forget(&mut self, id: CommandId, is_stored: bool) {
        self.waiting.remove(&id);
        if is_stored {
            self.deleted.push(id);
        }
    }

    /// Ends the epoch when its time is up: `positions` is where reading stands.
    pub fn turn(&mut self, steady_ms: u64, positions: impl FnOnce() -> Positions) {
        self.now_ms = steady_ms;
        if self.opened_ms == 0 {
            self.opened_ms = steady_ms;
        }
        if steady_ms.saturating_sub(self.opened_ms) >= EPOCH_MS && !self.open.is_empty() {
            let ids = std::mem::take(&mut self.open);
            self.closed.push_back(Epoch { until: positions(), ids });
            self.opened_ms = steady_ms;
        }
    }

    /// When there is something to store next, on the steady clock: now, or when the epoch ends.
    pub fn due_ms(&self) -> Option<u64> {
        match (self.closed.is_empty() && self.deleted.is_empty(), self.open.is_empty()) {
            (false, _) => Some(self.stored_ms + STORED_EVERY_MS),
            (true, false) => Some(self.opened_ms + EPOCH_MS),
            (true, true) => None,
        }
    }

    /// What the next commit stores, nothing where one did a moment ago; `bytes_of` says how large a command is.
    pub fn portion(&mut self, bytes_of: impl Fn(CommandId) -> usize) -> Portion {
        if self.now_ms < self.stored_ms + STORED_EVERY_MS {
            return Portion::default();
        }
        let deleted = self.deleted.split_off(self.deleted.len().saturating_sub(STORED_MAX));
        let mut portion = Portion { delete: deleted, ..Portion::default() };
        let (mut room, mut bytes) = (STORED_MAX, 0);
        while let Some(epoch) = self.closed.front_mut() {
            while room > 0
                && bytes < STORED_BYTES_MAX
                && let Some(id) = epoch.ids.pop()
            {
                if self.waiting.remove(&id) {
                    portion.put.push(id);
                    room -= 1;
                    bytes += bytes_of(id);
                }
            }
            if !epoch.ids.is_empty() {
                break;
            }
            portion.cursor = self.closed.pop_front().map(|epoch| epoch.until);
        }
        if portion != Portion::default() {
            self.stored_ms = self.now_ms;
        }
        portion
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u64) -> CommandId {
        CommandId::v7(n, [0; 10])
    }

    fn positions(next: u64) -> Positions {
        vec![(PartitionId::from_bytes(&[1; 20]).unwrap(), next)]
    }

    #[test]
    fn the_cursor_follows_what_is_stored() {
        let mut unstored = Unstored::default();
        unstored.turn(10, || positions(0));
        unstored.save(id(1));
        unstored.save(id(1));
        assert_eq!(unstored.portion(|_| 100), Portion::default(), "the epoch has not ended");
        assert_eq!(unstored.due_ms(), Some(10 + EPOCH_MS));
        unstored.turn(10 + EPOCH_MS, || positions(5));
        unstored.save(id(2));
        unstored.save(id(1));
        let first = unstored.portion(|_| 100);
        assert_eq!((first.put, first.cursor), (vec![id(1)], Some(positions(5))), "once, in its newest state");
        unstored.turn(20 + 2 * EPOCH_MS, || positions(9));
        unstored.forget(id(2), false);
        assert_eq!(unstored.portion(|_| 100), Portion { cursor: Some(positions(9)), ..Portion::default() });
        assert_eq!(unstored.due_ms(), None);
    }

    #[test]
    fn a_commit_stores_a_part_and_the_cursor_waits() {
        let mut unstored = Unstored::default();
        unstored.turn(1, || positions(0));
        (0..100).for_each(|n| unstored.save(id(n)));
        unstored.turn(1 + EPOCH_MS, || positions(7));
        let mut put = 0;
        for round in 0.. {
            unstored.turn(1 + EPOCH_MS + round * STORED_EVERY_MS, || positions(7));
            let portion = unstored.portion(|_| 100);
            put += portion.put.len();
            assert!(portion.put.len() <= STORED_MAX);
            assert_eq!(unstored.portion(|_| 100), Portion::default(), "not again at once");
            if portion.cursor.is_some() {
                assert_eq!((put, round), (100, 3));
                break;
            }
        }
    }

    #[test]
    fn what_was_stored_is_deleted_when_it_is_forgotten() {
        let mut unstored = Unstored::default();
        unstored.forget(id(1), true);
        unstored.forget(id(2), false);
        unstored.turn(100, || positions(0));
        assert_eq!(unstored.portion(|_| 100).delete, [id(1)]);
        assert_eq!(unstored.due_ms(), None);
    }

    #[test]
    fn a_commit_stores_a_bounded_number_of_bytes() {
        let mut unstored = Unstored::default();
        unstored.turn(1, || positions(0));
        (0..100_000).for_each(|n| unstored.save(id(n)));
        unstored.turn(1 + EPOCH_MS, || positions(7));
        assert_eq!(unstored.portion(|_| 1).put.len(), STORED_MAX);
        unstored.turn(100 + EPOCH_MS, || positions(7));
        assert_eq!(unstored.portion(|_| STORED_BYTES_MAX / 4).put.len(), 4);
    }
}
