//! Clients: numbered events to local and quorum topics, at any node.

use sled_data::TopicId;

use super::World;
use crate::site::bug::Bug;
use crate::site::catalog::{NAMES, PARTITIONS, config};
use crate::site::history::{Fact, Refusal};
use crate::site::node::{Pending, Running};
use sled_data::{Durability, TopicInfo};

/// Events that wait for a commit at most; more are refused.
pub const OPEN_MAX: usize = 12;

impl World {
    pub(super) fn publish(&mut self, at: usize, run: &mut Running) {
        let share = if self.is_calm { 0 } else { 250 };
        while run.open.len() < OPEN_MAX && self.random.chance(share) {
            let name = NAMES[self.random.place(NAMES.len())];
            self.publish_one(at, run, name);
        }
    }

    fn publish_one(&mut self, at: usize, run: &mut Running, name: &str) {
        let node = self.nodes[at].id;
        self.next_event += 1;
        let event = self.next_event;
        let is_quorum = config(name).durability == Durability::Quorum;
        let Some(topic) = self.ensure_topic(at, run, name) else {
            self.history.note(Fact::Refused { node, event, why: Refusal::NotStored });
            return;
        };
        if is_quorum && !run.in_reach && !self.has(Bug::ReachIgnored) {
            self.history.note(Fact::Refused { node, event, why: Refusal::NoQuorum });
            return;
        }
        let index = u32::try_from(self.random.below(u64::from(PARTITIONS))).unwrap();
        let round = run.rounds;
        run.open.push(Pending { event, topic, index, is_quorum, round });
        self.history.note(Fact::Appended { node, event, in_reach: run.in_reach, is_quorum });
    }

    /// The topic of that name, made where there is none.
    fn ensure_topic(&mut self, at: usize, run: &mut Running, name: &str) -> Option<TopicId> {
        if let Some(topic) = run.store.topics().into_iter().find(|topic| topic.name == name) {
            return Some(topic.id);
        }
        let mut info = self.nodes[at].catalog.topic(name);
        if self.has(Bug::RandomTopicIds) {
            info = TopicInfo { id: TopicId(self.random.next()), ..info };
        }
        let made = run.store.create_topic_as(info);
        self.nodes[at].note_disk(run);
        if run.store.failure().is_some() {
            run.failed = Some("its store failed");
        }
        made.ok().map(|topic| topic.id)
    }
}
