//! Bad weather: what breaks, who submits and calls off in it, and who lies.

use super::*;

impl World {
    fn kill_node(&mut self) {
        if self.node.take().is_none() {
            return;
        }
        let keep = self.random.place(self.disk.unsynced() + 1);
        for commit in self.disk.crash(keep) {
            self.note_durable(commit, None);
        }
        self.sources.node_died();
        self.history.note(Fact::NodeDied);
        if self.random.chance(300) {
            self.step_wall_clock();
        }
    }

    fn step_wall_clock(&mut self) {
        self.wall_skew = i64::try_from(self.random.below(40_000)).unwrap() - 20_000;
        self.history.note(Fact::WallStep);
    }

    pub(super) fn weather(&mut self) {
        if self.random.chance(8) {
            self.kill_node();
        }
        if self.random.chance(3) {
            self.step_wall_clock();
        }
        if self.random.chance(if self.is_full { 100 } else { 4 }) {
            self.is_full = !self.is_full;
        }
        if self.random.chance(20) {
            let number = self.random.place(DEVICES);
            self.devices[number].restart();
        }
        let wall = self.wall();
        let Some(mut node) = self.node.take() else { return };
        if self.random.chance(40) {
            let number = self.random.place(node.sessions.len());
            if let Some(session) = node.sessions.values_mut().nth(number) {
                session.cut();
            }
        }
        let known = self.sources.ids.len();
        if !self.is_full {
            for _ in 0..if self.random.chance(30) { 5 } else { self.random.below(2) } {
                self.sources.submit(DEVICES, &node, &mut self.disk, wall, &mut self.random);
            }
            if self.random.chance(100) {
                self.sources.try_again(&node, &mut self.disk, wall, &mut self.random);
            }
            if self.random.chance(40) {
                self.lie(&mut node);
            }
        }
        for id in &self.sources.ids[known..] {
            self.history.note(Fact::Submitted(*id));
        }
        if self.random.chance(40) {
            node.mail.cancels.extend(self.sources.recent(&mut self.random));
        }
        node.is_guarded = self.has_guards && !self.random.chance(20);
        self.node = Some(node);
    }

    /// Somebody answers for a device: through another session, or in another device's name.
    fn lie(&mut self, node: &mut Node) {
        let Some(id) = self.sources.recent(&mut self.random) else { return };
        let Some(device) = node.table.get(id).map(|entry| entry.device.to_string()) else { return };
        let status = Status::ALL[self.random.place(5)];
        let (device, session) = match self.random.below(2) {
            0 => (device, self.next_session),
            _ => ("stranger".to_owned(), self.next_session.saturating_sub(1)),
        };
        let client = "stranger".to_owned();
        self.disk.open.answers.push(Answer { device, id, status, payload: b"forged", session, client, tag: 0 });
        self.disk.ticket();
        self.next_session += 1;
        self.history.note(Fact::Forged(id));
    }
}
