//! Good weather at the end: nothing fails any more, and all comes to rest.

use sled_data::{CommitNumber, CopyState, OriginId};

use super::World;
use crate::site::history::Fact;

/// Steps until all must have come to rest.
const STEPS_MAX: usize = 500;
/// Steps after which it is seen whether all is at rest.
const LOOK_STEPS: usize = 4;
/// Steps after which people look again.
const PEOPLE_STEPS: usize = 60;

impl World {
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.network.broken.clear();
        for at in 0..self.nodes.len() {
            self.heal_disk(at);
            self.people_look(at);
            let now = self.history.time;
            self.nodes[at].starts_at = self.nodes[at].starts_at.min(now);
            self.look(at);
        }
        for number in 1..=STEPS_MAX {
            self.step();
            if number % PEOPLE_STEPS == 0 {
                // One that is wiped comes back at the end.
                (0..self.nodes.len()).rev().for_each(|at| self.people_give_up(at));
            }
            if number % LOOK_STEPS == 0 && self.is_at_rest() {
                break;
            }
        }
        let members = self.nodes.iter().filter_map(|node| Some((node.id, node.running.as_ref()?.store.origin())));
        let members = members.collect();
        self.history.note(Fact::Members(members));
        for at in 0..self.nodes.len() {
            self.look(at);
            self.note_topics(at);
        }
    }

    fn note_topics(&mut self, at: usize) {
        let Some(run) = &self.nodes[at].running else { return };
        let topics = run.store.topics().into_iter().map(|topic| (topic.name, topic.id)).collect();
        self.history.note(Fact::Topics { node: self.nodes[at].id, topics });
    }

    /// Whether every node holds every other's life whole, and nothing waits.
    fn is_at_rest(&self) -> bool {
        let own = |at: usize| -> Option<(OriginId, CommitNumber)> {
            let run = self.nodes[at].running.as_ref()?;
            Some((run.store.origin(), run.store.last_commit()))
        };
        let count = self.nodes.len();
        (0..count).all(|at| {
            let Some(run) = &self.nodes[at].running else { return false };
            let is_followed = run.stopped.is_empty();
            let is_idle = run.round.is_none() && run.queue.is_empty() && run.open.is_empty() && run.waiting.is_empty();
            let holds = |other: usize| match own(other) {
                None => false,
                Some(_) if other == at => true,
                Some((origin, last)) => run.store.followed().iter().any(|(of, followed)| {
                    *of == origin && followed.copy == CopyState::Whole && followed.synced == last
                }),
            };
            let has_all = (0..count).all(holds);
            let levels = edgeway::replication::wanted(&self.known(at, run));
            let live: Vec<OriginId> = (0..count).filter_map(own).map(|(origin, _)| origin).collect();
            let is_level = levels.keys().all(|origin| live.contains(origin));
            is_idle && is_followed && has_all && is_level && run.state.is_empty() && self.has_read_all(run)
        })
    }

    fn has_read_all(&self, run: &crate::site::node::Running) -> bool {
        run.store.partitions().into_iter().all(|id| {
            let cursor = run.store.cursor(super::reader::READER, id).ok().flatten().unwrap_or(0);
            run.visible.get(&id).is_none_or(|end| cursor >= *end)
        })
    }
}
