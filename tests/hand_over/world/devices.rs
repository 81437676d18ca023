//! Devices and their connections: they go from node to node, and a node notices late that one has gone.

use super::*;
use crate::simulation::disk::Answer;
use crate::simulation::session::{Session, Up};

/// A connection.
#[derive(Debug, Clone, Copy)]
pub struct Link {
    pub node: usize,
    pub session: u64,
}

impl World {
    /// Devices that know that they are not connected connect somewhere, and nodes notice which connections are broken.
    pub(super) fn connect(&mut self) {
        for place in 0..NODES {
            let Some(node) = &self.machines[place].node else { continue };
            let broken: Vec<u64> = node.sessions.values().filter(|session| session.is_cut).map(|s| s.number).collect();
            for number in broken {
                if self.is_calm || self.random.chance(150) {
                    self.end_session(place, number);
                }
            }
        }
        for device in 0..DEVICES {
            let known = self.devices[device].clients[0].session;
            let is_alive = known.and_then(|link| self.links.get(&link)).is_some_and(|link| {
                let node = self.machines[link.node].node.as_ref();
                node.and_then(|node| node.sessions.get(&link.session)).is_some_and(|session| !session.is_cut)
            });
            if !is_alive && (self.is_calm || self.random.chance(150)) {
                self.devices[device].clients[0].session = None;
                let place = self.random.place(NODES);
                if self.machines[place].node.is_some() && (self.is_calm || self.random.chance(500)) {
                    self.come(device, place);
                }
            }
        }
    }

    fn end_session(&mut self, place: usize, number: u64) {
        let time = self.history.time;
        let machine = &mut self.machines[place];
        let Some(node) = &mut machine.node else { return };
        let Some(session) = node.sessions.remove(&number) else { return };
        let device = session.device;
        node.mail.reports.extend(session.end(None, &mut self.random));
        if !node.sessions.values().any(|other| other.device == device) {
            // What it records is of the session, which began before.
            let at = machine.log.own.presence.get(&device).map_or(time, |(at, _)| *at);
            machine.log.open.presence.push((device, at, false));
            machine.log.ticket();
        }
    }

    fn come(&mut self, device: usize, place: usize) {
        let name = self.devices[device].name.clone();
        let earlier = self.machines[place].node.as_ref().map(|node| {
            let same = node.sessions.values().filter(|session| session.device == device);
            same.map(|session| session.number).collect::<Vec<u64>>()
        });
        earlier.into_iter().flatten().for_each(|number| self.end_session(place, number));
        let machine = &mut self.machines[place];
        let Some(node) = &mut machine.node else { return };
        let number = machine.next_session;
        machine.next_session += 1;
        node.sessions.insert(number, Session::new(number, &name, device, device.is_multiple_of(2)));
        node.arrivals.insert(name);
        machine.log.open.presence.push((device, self.history.time, true));
        machine.log.ticket();
        self.links.insert(self.next_link, Link { node: place, session: number });
        self.devices[device].clients[0].session = Some(self.next_link);
        self.next_link += 1;
    }

    pub(super) fn move_messages(&mut self) {
        let now = self.history.time;
        self.seen.time = now;
        for place in 0..NODES {
            let is_full = self.machines[place].is_full;
            let machine = &mut self.machines[place];
            let Some(node) = &mut machine.node else { continue };
            for session in node.sessions.values_mut() {
                while self.random.chance(700) {
                    let before = self.seen.facts.len();
                    session.write(now, None, &mut node.mail.reports, &mut self.seen);
                    for (_, fact) in self.seen.facts.split_off(before) {
                        if let simulation::history::Fact::Written { id, .. } = fact {
                            self.history.note(Fact::Written { node: place, id });
                        }
                    }
                }
                for up in session.arrive_up(now, &mut self.random) {
                    match up {
                        Up::Received(id) => session.received(id, &mut node.mail.reports),
                        Up::Answer { id, status, payload, tag } if !is_full => {
                            let device = self.devices[session.device].name.clone();
                            let (session, client) = (session.number, session.client.clone());
                            let answer = Answer { device, id, status, payload, session, client, tag };
                            machine.log.open.answers.push(answer);
                            machine.log.ticket();
                        }
                        // A node that cannot take it closes the connection.
                        Up::Answer { .. } => session.cut(),
                    }
                }
                let device = &mut self.devices[session.device];
                let link = device.clients[0].session.and_then(|link| self.links.get(&link));
                let is_this = link.is_some_and(|link| (link.node, link.session) == (place, session.number));
                for down in session.arrive_down(now, &mut self.random) {
                    if is_this {
                        let said = device.take(session.device, 0, down, None, &mut self.random, &mut self.seen);
                        said.into_iter().for_each(|up| session.say(now, up));
                    }
                }
            }
        }
    }

    pub(super) fn work(&mut self) {
        for device in &mut self.devices {
            for (link, up) in device.tick(self.history.time, &mut self.random) {
                let Some(link) = self.links.get(&link) else { continue };
                let node = self.machines[link.node].node.as_mut();
                if let Some(session) = node.and_then(|node| node.sessions.get_mut(&link.session)) {
                    session.say(self.history.time, up);
                }
            }
        }
    }

    /// What devices noted.
    pub(super) fn note_seen(&mut self) {
        for (_, fact) in std::mem::take(&mut self.seen.facts) {
            if let simulation::history::Fact::Executed { id, device } = fact {
                self.history.note(Fact::Executed { id, device });
            }
        }
    }
}
