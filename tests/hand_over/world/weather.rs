//! Bad weather: what breaks, and who submits in it.

use ::devices::command::{Queued, Repeat, StepEvent};

use super::*;
use crate::simulation::disk::Logged;

/// The longest time for delivery, and for the execution, that is asked for, in milliseconds.
const WITHIN_MAX_MS: u64 = 8_000;

impl World {
    pub(super) fn weather(&mut self) {
        let place = self.random.place(NODES);
        match self.random.below(1_000) {
            0..6 => {
                let down_ms =
                    if self.random.chance(500) { 2_000 + self.random.below(5_000) } else { self.random.below(400) };
                self.kill(place, down_ms);
                self.history.note(Fact::Weather { node: place, what: "it is back" });
            }
            6..14 => {
                let other = self.random.place(NODES);
                if other != place {
                    self.broken.insert((place.min(other), place.max(other)));
                }
            }
            14..18 => {
                // One node is cut off from all others.
                self.broken
                    .extend((0..NODES).filter(|o| *o != place).map(|other| (place.min(other), place.max(other))));
            }
            18..40 => self.broken.retain(|_| self.random.chance(500)),
            40..44 => {
                self.machines[place].is_full = true;
                self.history.note(Fact::Weather { node: place, what: "its disk is full" });
            }
            44..80 => {
                let machine = &mut self.machines[place];
                let was_bad = std::mem::take(&mut machine.is_full) | std::mem::take(&mut machine.is_slow);
                if was_bad {
                    self.history.note(Fact::Weather { node: place, what: "its disk is well" });
                }
            }
            300..310 => {
                self.machines[place].is_slow = true;
                self.history.note(Fact::Weather { node: place, what: "its disk is slow" });
            }
            80..110 => self.cut(),
            110..118 => {
                let device = self.random.place(DEVICES);
                self.devices[device].restart();
            }
            118..130 => self.call_off(place),
            130..300 => self.submit(place),
            _ => {}
        }
    }

    /// A device loses its connection.
    fn cut(&mut self) {
        let device = self.random.place(DEVICES);
        let link = self.devices[device].clients[0].session.and_then(|link| self.links.get(&link).copied());
        let Some(link) = link else { return };
        if let Some(session) = self.machines[link.node].node.as_mut().and_then(|n| n.sessions.get_mut(&link.session)) {
            session.cut();
        }
    }

    fn call_off(&mut self, place: usize) {
        let from = self.ids.len().saturating_sub(6);
        let id = self.ids[from..].get(self.random.place(6)).copied();
        if let Some(node) = &mut self.machines[place].node {
            node.mail.cancels.extend(id);
        }
    }

    fn submit(&mut self, place: usize) {
        let wall = self.now(place).wall;
        let machine = &mut self.machines[place];
        if machine.node.is_none() || machine.is_full {
            return;
        }
        let device = format!("device-{}", self.random.place(DEVICES));
        let supersede = self.random.chance(150).then(|| "set".to_owned());
        let queued = Queued {
            execution_timeout_ms: Some(self.random.between(300, WITHIN_MAX_MS)),
            urgent: self.random.chance(200),
            supersede,
            repeat: if self.random.chance(500) { Repeat::Never } else { Repeat::Safe },
            ..Queued::new("do", b"x".to_vec(), wall + self.random.between(500, WITHIN_MAX_MS), "cli")
        };
        let mut tail = [0; 10];
        tail[..8].copy_from_slice(&self.random.next().to_be_bytes());
        let id = CommandId::v7(wall, tail);
        machine.log.open.steps.push(Logged { device, event: StepEvent::queued(id, wall, queued), is_own: false });
        let ticket = machine.log.ticket();
        self.submissions.push(Submission { node: place, ticket, id });
        self.ids.push(id);
        self.history.note(Fact::Submitted { node: place, id });
    }
}
