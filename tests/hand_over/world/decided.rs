//! What the site decides of nodes that are silent: who takes up what they have left; and when a node that is back may go on.

use edgeway::node::{Arrived, arrived};
use sled_data::{CommitNumber, CopyState, Followed};

use super::*;
use crate::hand_over::log::origin;

/// How long a node is not heard before another one takes over, in milliseconds.
const SILENT_MS: u64 = 2_000;
/// After which time a node that is not heard is not waited for, in milliseconds.
const LEVEL_MS: u64 = 4_000;

/// A decision about a node.
pub struct Decided {
    pub term: u64,
    pub by: usize,
    pub from_commit: usize,
    pub has_returned: bool,
    /// Whether who takes over hears it.
    pub hears_lost: bool,
}

impl World {
    pub(super) fn decide(&mut self) {
        for lost in 0..NODES {
            let others: Vec<usize> = (0..NODES).filter(|other| *other != lost).collect();
            let is_heard = others.iter().any(|other| self.hears(lost, *other));
            let has_majority = self.hears(others[0], others[1]);
            if let Some(decided) = self.decided.get(&lost) {
                let (by, hears) = (decided.by, self.hears(decided.by, lost));
                let decided = self.decided.get_mut(&lost);
                decided.into_iter().for_each(|decided| {
                    decided.hears_lost = hears;
                    decided.has_returned |= is_heard && has_majority;
                    debug_assert!(by != lost);
                });
            }
            match (is_heard, has_majority) {
                (true, _) => {
                    if self.silent_since[lost].take().is_some() {
                        self.history.note(Fact::Heard { node: lost });
                    }
                }
                (false, true) => self.take_over(lost, &others),
                (false, false) => {}
            }
        }
    }

    fn take_over(&mut self, lost: usize, others: &[usize]) {
        let since = *self.silent_since[lost].get_or_insert(self.history.time);
        let open = self.decided.get(&lost);
        let is_open = open.is_some_and(|decided| !decided.has_returned);
        if self.history.time < since + SILENT_MS || is_open {
            return;
        }
        let term = open.map_or(1, |decided| decided.term + 2);
        let held = |node: &usize| self.machines[*node].log.held(lost);
        let Some(by) = others.iter().copied().max_by_key(|node| (held(node), usize::MAX - node)) else { return };
        let decided = Decided { term, by, from_commit: held(&by), has_returned: false, hears_lost: false };
        self.decided.insert(lost, decided);
        self.history.note(Fact::TakenOver { lost, by, term });
    }

    /// How far what the others have written is at a node; `None` while one has not said it. Who is not heard for long is not waited for.
    pub(super) fn arrived(&self, place: usize, node: &Node) -> Option<Arrived> {
        let is_long = self.history.time >= node.up_at + LEVEL_MS;
        let mut needed = BTreeMap::new();
        for other in (0..NODES).filter(|other| *other != place) {
            let is_up = self.machines[other].node.is_some();
            match is_up && !self.broken.contains(&(place.min(other), place.max(other))) {
                true => drop(needed.insert(origin(other), CommitNumber(self.machines[other].log.durable.len() as u64))),
                false if is_long => {}
                false => return None,
            }
        }
        let followed = |other: usize| {
            let mut followed = self.machines[place].log.followed(other);
            if self.bug == Some(Bug::CopyCountsByItsHead) {
                followed = Followed { synced: followed.commit, copy: CopyState::Whole, ..followed };
            }
            (origin(other), followed)
        };
        let followed: Vec<_> = (0..NODES).filter(|other| *other != place).map(followed).collect();
        Some(arrived(&needed, &followed))
    }
}
