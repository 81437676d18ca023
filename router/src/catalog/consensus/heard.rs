//! Which nodes were heard lately.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use crate::catalog::member::MEMBERS_MAX;
use crate::transport::NodeId;

/// Nodes that are remembered; the one that was silent for longest goes first.
const HEARD_MAX: usize = 2 * MEMBERS_MAX;

/// When each node was heard last.
#[derive(Debug, Default)]
pub(super) struct Heard {
    last: Mutex<BTreeMap<NodeId, Instant>>,
}

impl Heard {
    /// The node has spoken or answered now.
    pub(super) fn note(&self, node: NodeId) {
        self.note_at(node, Instant::now());
    }

    /// The same for `at`.
    pub(super) fn note_at(&self, node: NodeId, at: Instant) {
        let mut last = self.last.lock();
        if last.len() >= HEARD_MAX && !last.contains_key(&node) {
            let stalest = last.iter().min_by_key(|(_, at)| **at).map(|(node, _)| *node);
            stalest.map(|node| last.remove(&node));
        }
        last.insert(node, at);
    }

    /// Who was heard within the last `within`.
    pub(super) fn lately(&self, within: Duration) -> BTreeSet<NodeId> {
        let last = self.last.lock();
        last.iter().filter(|(_, at)| at.elapsed() < within).map(|(node, _)| *node).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_was_silent_for_longest_is_forgotten() {
        let heard = Heard::default();
        for node in 0..HEARD_MAX as u64 + 1 {
            heard.note(NodeId(node));
        }
        let lately = heard.lately(Duration::from_secs(60));
        assert!(lately.len() == HEARD_MAX && !lately.contains(&NodeId(0)));
        assert!(heard.lately(Duration::ZERO).is_empty());
    }
}
