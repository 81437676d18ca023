//! What other nodes of the site have changed: noted on the committer's thread, taken by the room's task.

use std::collections::BTreeSet;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use devices::twin::TWINS_TREE;
use sled_data::{FollowedCommit, OriginId, ReadError as StoreError};

use super::{Inner, Twins};
use crate::event_log::{Committed, Observer};

/// Twins that wait to be read; beyond that all are read anew.
const WAITING_MAX: usize = 20_000;
/// Twins that one round reads.
const ROUND_MAX: usize = 1_000;

/// Which nodes' twins have changed.
#[derive(Default)]
pub(super) struct Others {
    waiting: BTreeSet<(OriginId, Vec<u8>)>,
    /// More than is remembered.
    all: bool,
}

/// What a round has heard.
#[derive(Default)]
pub(super) struct HeardOf {
    /// Something is other than it was.
    pub(super) merged: bool,
    /// There is more than one round takes.
    pub(super) more: bool,
}

impl Twins {
    /// The lives whose twins count as other nodes'. Not those that a node has gone on with in a later one, this node's own among them: nobody writes them any
    /// more, and a twin that was deleted since would come back from there when the mark of that is too old.
    pub(super) fn others(&self) -> Vec<OriginId> {
        let carried_on = self.log.followed_lives().carried_on;
        let mut others = self.log.others();
        others.retain(|origin| !self.log.is_ended(*origin) && !carried_on.contains(origin));
        others
    }

    fn note_others(&self, commits: &[FollowedCommit]) {
        let mut others = self.others.lock();
        let before = others.waiting.len();
        for commit in commits {
            // What a node stores no more is over by another's word, which comes as well.
            let changed = commit.record.state.iter().filter(|write| write.tree == TWINS_TREE && write.value.is_some());
            others.waiting.extend(changed.map(|write| (commit.origin, write.key.clone())));
        }
        if others.waiting.len() > WAITING_MAX {
            others.waiting.clear();
            others.all = true;
        }
        if others.all || others.waiting.len() > before {
            self.reports.arrived.notify_one();
        }
    }

    /// Takes what other nodes have changed into the table; devices are told what follows for them.
    pub(super) fn take_others(&self, inner: &mut Inner) -> Result<HeardOf, StoreError> {
        let (taken, more) = {
            let mut others = self.others.lock();
            if std::mem::take(&mut others.all) {
                inner.is_stale = true;
                return Ok(HeardOf { merged: true, more: true });
            }
            let mut taken = Vec::new();
            while taken.len() < ROUND_MAX {
                let Some(next) = others.waiting.pop_first() else { break };
                taken.push(next);
            }
            (taken, !others.waiting.is_empty())
        };
        let mut merged = false;
        let others = if taken.is_empty() { Vec::new() } else { self.others() };
        for (origin, key) in taken.into_iter().filter(|(origin, _)| others.contains(origin)) {
            let Some(value) = self.log.store().state_get_of(origin, TWINS_TREE, &key)? else { continue };
            let Some((device, other)) = self.decode(&key, &value) else { continue };
            let Some(changed) = inner.table.merge(&device, &other) else { continue };
            self.stats.merged.fetch_add(1, Relaxed);
            merged = true;
            let differs = inner.table.differing().contains(&device);
            if changed.desired || !differs {
                // Another document may have the version that the device was told already.
                inner.courier.settled(&device);
            }
            if differs {
                inner.courier.due(&device);
            }
        }
        Ok(HeardOf { merged, more })
    }
}

/// Takes note for the room, as long as there is one.
pub(super) struct Onlooker(pub(super) Weak<Twins>);

impl Observer for Onlooker {
    fn committed(&self, _: &Arc<Committed>) {}

    fn is_listening(&self) -> bool {
        false
    }

    fn followed(&self, commits: &[FollowedCommit]) {
        if let Some(room) = self.0.upgrade() {
            room.note_others(commits);
        }
    }

    fn copied(&self, _: OriginId) {
        if let Some(room) = self.0.upgrade() {
            room.others.lock().all = true;
            room.reports.arrived.notify_one();
        }
    }
}
