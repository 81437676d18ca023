//! Good weather at the end: nothing fails any more, and all that is left comes to its end.

use super::*;
use edgeway::commands::{is_outranked, record};

/// The longest that anything may take: the times of a command, and that after which a node's word is waited for no more.
const CALM_MS: u64 = 100_000;
/// Steps of this time where little is left to happen.
const LONG_STEP_MS: u64 = 500;
/// So long nothing is left to end: what has ended is stored by then everywhere.
const REST_MS: u64 = 4_000;
/// After this time there is little left.
const SOON_MS: u64 = 15_000;

impl World {
    pub(super) fn calm(&mut self) {
        self.is_calm = true;
        self.broken.clear();
        for machine in &mut self.machines {
            machine.is_full = false;
            machine.starts_at = machine.starts_at.min(self.history.time);
        }
        let begun = self.history.time;
        let mut rests_since = begun;
        while self.history.time < begun + CALM_MS {
            let is_late = self.history.time > begun + SOON_MS;
            self.history.time += if is_late { LONG_STEP_MS } else { STEP_MS };
            self.step();
            if !self.is_at_rest() {
                rests_since = self.history.time;
            }
            if self.history.time > rests_since + REST_MS {
                break;
            }
        }
        for place in 0..NODES {
            let count = self.machines[place].node.as_ref().map_or(usize::MAX, |node| node.table.pending());
            self.history.note(Fact::Left { node: place, count });
            for id in self.ids.clone() {
                let state = self.shown(place, id);
                self.history.note(Fact::Shown { node: place, id, state });
            }
        }
    }

    fn is_at_rest(&self) -> bool {
        let is_idle = |machine: &Machine| {
            let node = machine.node.as_ref();
            node.is_some_and(|node| node.table.pending() == 0) && machine.log.unsynced() == 0 && !machine.log.syncs()
        };
        let is_held = |place: usize| {
            (0..NODES)
                .filter(|of| *of != place)
                .all(|of| self.machines[place].log.held(of) == self.machines[of].log.durable.len())
        };
        self.machines.iter().all(is_idle) && (0..NODES).all(is_held) && self.questions.is_empty()
    }

    /// What readers are shown at a node.
    fn shown(&self, place: usize, id: CommandId) -> Option<::devices::command::State> {
        let machine = &self.machines[place];
        let own = machine.node.as_ref()?.table.get(id);
        let stored = machine
            .log
            .copies
            .iter()
            .filter_map(|(other, image)| Some((*other, record::decode(id.as_bytes(), image.stored.get(&id)?)?)));
        let stored = stored.max_by_key(|(other, entry)| (entry.term, *other)).map(|(_, entry)| entry);
        let shown = match (own, &stored) {
            (Some(own), Some(stored)) if is_outranked(own.into(), stored) => Some(stored),
            (Some(own), _) => Some(own),
            (None, stored) => stored.as_ref(),
        };
        shown.map(|entry| entry.progress.state())
    }
}
