//! What waits for its quorum, and whether one is in reach.

use edgeway::event_log::quorum_reached;
use edgeway::transport::NodeId;
use sled_data::CommitNumber;

use super::World;
use crate::site::bug::Bug;
use crate::site::history::{Fact, Place, Refusal, Support};
use crate::site::node::{Pending, Running, Waiting};

/// How long an acknowledgement waits for the quorum, in milliseconds.
const LATE_MS: u64 = 600;
/// Commits that may wait for their quorum; beyond that it counts as out of reach.
pub const WAITING_MAX: usize = 40;

impl World {
    /// Looks who has what, and acknowledges and shows what enough nodes have.
    pub(super) fn weigh(&mut self, at: usize, run: &mut Running) {
        let id = self.nodes[at].id;
        let (mut others, needed) = self.nodes[at].catalog.replicas(id);
        if self.has(Bug::LearnerCounts) {
            others = self.nodes[at].catalog.members.iter().copied().filter(|member| *member != id).collect();
        }
        run.synced.retain(|node, _| others.contains(node));
        for other in &others {
            run.synced.entry(*other).or_default();
        }
        if self.has(Bug::CountsItself) {
            run.synced.insert(id, run.store.synced_commit());
        }
        let heard = self.heard(at, run);
        let own = run.store.origin();
        let follows = |other: u64| run.serving.values().any(|serving| serving.to == other && serving.origin == own);
        let voices = others.iter().filter(|other| heard.contains_key(&NodeId(**other)) && follows(**other)).count();
        run.in_reach = voices >= needed && run.waiting.len() < WAITING_MAX;
        let reached = quorum_reached(needed, &run.synced);
        while run.waiting.front().is_some_and(|waiting| reached.is_none_or(|reached| waiting.commit <= reached)) {
            let Some(waiting) = run.waiting.pop_front() else { break };
            self.show_waited(at, run, waiting);
        }
        self.tell_late(at, run);
    }

    fn show_waited(&mut self, at: usize, run: &mut Running, waiting: Waiting) {
        for (pending, partition, offset) in waiting.events {
            let place = Place { partition, offset, commit: waiting.commit, life: self.nodes[at].life };
            self.show(at, run, &pending, place);
            if !waiting.is_late {
                self.acknowledge(at, run, &pending, place);
            }
        }
    }

    fn tell_late(&mut self, at: usize, run: &mut Running) {
        let (node, now) = (self.nodes[at].id, self.history.time);
        for waiting in run.waiting.iter_mut().filter(|waiting| !waiting.is_late && waiting.since + LATE_MS < now) {
            waiting.is_late = true;
            for (pending, ..) in &waiting.events {
                self.history.note(Fact::Refused { node, event: pending.event, why: Refusal::Late });
            }
        }
    }

    /// Who has an event, of those that must have it.
    fn support_of(&self, at: usize, pending: &Pending, place: Place) -> Support {
        let mut support = self.support(at, place.partition.origin, place.commit);
        if !pending.is_quorum {
            let id = self.nodes[at].id;
            support.asked = 1;
            support.durable.retain(|node| *node == id);
            support.lied.retain(|node| *node == id);
        }
        support
    }

    /// Shows an event of the node's own to readers.
    pub(super) fn show(&mut self, at: usize, run: &mut Running, pending: &Pending, place: Place) {
        run.show(place.partition, place.offset + 1);
        let support = self.support_of(at, pending, place);
        self.history.note(Fact::Shown { node: self.nodes[at].id, place, support });
    }

    pub(super) fn acknowledge(&mut self, at: usize, run: &Running, pending: &Pending, place: Place) {
        let support = self.support_of(at, pending, place);
        self.history.note(Fact::Acknowledged {
            node: self.nodes[at].id,
            event: pending.event,
            place,
            is_quorum: pending.is_quorum,
            rounds: run.rounds - pending.round,
            support,
        });
    }

    /// A follower has synced this node's commits up to one.
    pub(super) fn follower_synced(run: &mut Running, node: u64, commit: CommitNumber) {
        if let Some(synced) = run.synced.get_mut(&node) {
            *synced = commit.max(*synced);
        }
    }
}
