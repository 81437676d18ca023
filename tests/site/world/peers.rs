//! Who hears whom, and what a node learns by that.

use std::collections::BTreeMap;

use edgeway::replication::{Holder, Known};
use edgeway::transport::NodeId;

use sled_data::{TopicError, TopicInfo};

use super::World;
use crate::site::bug::Bug;
use crate::site::network::Beat;
use crate::site::node::{Heard, Running};

/// Time between two beats, in milliseconds.
const BEAT_MS: u64 = 60;
/// Silence after which a node counts as gone.
pub(super) const SILENCE_MS: u64 = 300;

impl World {
    /// Whether two nodes are connected: both run, there is a link, and each knows the other as one of the site.
    pub(super) fn is_connected(&self, a: usize, b: u64) -> bool {
        let here = &self.nodes[a];
        let Some(there) = self.at(b).map(|at| &self.nodes[at]) else { return false };
        // The one that asks is running: it is out of its place while it is asked.
        there.running.is_some()
            && self.network.hears(here.id, b)
            && here.catalog.members.contains(&b)
            && there.catalog.members.contains(&here.id)
    }

    /// What people set comes to a node that is with the majority of the voters.
    pub(super) fn learn(&mut self, at: usize, run: &mut Running) {
        if self.nodes[at].catalog.version < self.catalog.version && self.reaches_majority(at) {
            self.nodes[at].catalog = self.catalog.clone();
        }
        self.delete_topics(at, run);
        self.adopt_strangers(at, run);
    }

    pub(super) fn reaches_majority(&self, at: usize) -> bool {
        let here = self.nodes[at].id;
        let voters = self.catalog.voters();
        let heard = voters.iter().filter(|voter| {
            let runs = self.at(**voter).is_some_and(|at| self.nodes[at].running.is_some());
            **voter == here || runs && self.network.hears(here, **voter)
        });
        heard.count() > voters.len() / 2
    }

    fn delete_topics(&mut self, at: usize, run: &mut Running) {
        if self.nodes[at].catalog.deleted.is_empty() {
            return;
        }
        let held = run.store.partitions().into_iter().map(|id| id.topic);
        let known = run.store.topics().into_iter().map(|topic| topic.id);
        let mut gone: Vec<_> = held.chain(known).filter(|id| self.nodes[at].catalog.deleted.contains(id)).collect();
        gone.sort_unstable();
        gone.dedup();
        for id in gone {
            match run.store.delete_topic(id) {
                Ok(()) => {
                    run.visible.retain(|partition, _| partition.topic != id);
                    run.cursors.retain(|cursor| cursor.partition.topic != id);
                }
                Err(_) if run.store.failure().is_some() => run.failed = Some("its store failed"),
                Err(_) => {}
            }
        }
        self.nodes[at].note_disk(run);
    }

    fn adopt_strangers(&mut self, at: usize, run: &mut Running) {
        for (_, info) in std::mem::take(&mut run.strangers) {
            self.adopt(at, run, info);
        }
    }

    /// Makes a topic as another node has it, unless it is here or was deleted; one whose name is taken is made when that
    /// is free. False where it cannot be made.
    pub(super) fn adopt(&mut self, at: usize, run: &mut Running, info: TopicInfo) -> bool {
        let is_known = run.store.topics().iter().any(|known| known.id == info.id);
        if is_known || self.nodes[at].catalog.deleted.contains(&info.id) {
            return true;
        }
        let made = run.store.create_topic_as(info.clone());
        self.nodes[at].note_disk(run);
        match made {
            Ok(_) => true,
            Err(TopicError::Exists(_)) => {
                run.strangers.insert(info.id, info);
                true
            }
            Err(TopicError::Failed(_)) => {
                run.failed = Some("its store failed");
                false
            }
            Err(_) => false,
        }
    }

    pub(super) fn beat(&mut self, at: usize, run: &mut Running) {
        let now = self.history.time;
        if run.next_beat > now {
            return;
        }
        run.next_beat = now + BEAT_MS;
        let from = self.nodes[at].id;
        let holder = run.holder(self.nodes[at].ended);
        for to in self.nodes[at].catalog.members.clone() {
            if to != from && self.is_connected(at, to) {
                self.network.beat(now, Beat { from, to, holder: holder.clone() }, self.is_calm, &mut self.random);
            }
        }
    }

    pub(super) fn hear(&mut self) {
        let now = self.history.time;
        for Beat { from, to, holder } in self.network.arrived_beats(now) {
            let Some(at) = self.at(to) else { continue };
            let Some(mut run) = self.nodes[at].running.take() else { continue };
            let is_twin = holder.own == Some(run.store.origin());
            run.heard.insert(from, Heard { at: now, holder });
            // Two nodes write one life: one of them was copied, and the one with the larger id begins anew.
            if is_twin && to > from && !self.has(Bug::TwinsGoOn) {
                self.end_life(at, &mut run, "another node writes it");
            }
            match run.failed.take() {
                Some(why) => self.go_down(at, run, why),
                None => self.nodes[at].running = Some(run),
            }
        }
    }

    /// The nodes that are heard, each with what it said last.
    pub(super) fn heard(&self, at: usize, run: &Running) -> BTreeMap<NodeId, Holder> {
        let now = self.history.time;
        let recent = run.heard.iter().filter(|(id, heard)| {
            heard.at + SILENCE_MS >= now && self.nodes[at].catalog.members.contains(id) && self.is_connected(at, **id)
        });
        recent.map(|(id, heard)| (NodeId(*id), heard.holder.clone())).collect()
    }

    pub(super) fn known(&self, at: usize, run: &Running) -> Known {
        let here = run.holder(self.nodes[at].ended).holds;
        let of_nodes = run.store.followed().into_iter().filter(|(_, followed)| followed.node != 0);
        Known {
            own: Some(run.store.origin()),
            holders: self.heard(at, run),
            here,
            writers: of_nodes.map(|(origin, followed)| (origin, NodeId(followed.node))).collect(),
            stopped: run.stopped.clone(),
        }
    }
}
