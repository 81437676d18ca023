//! All of it together: a node, its disk, links and devices, and the weather.

use devices::command::Status;
use edgeway::commands::{Config, Now, Overflow};

use super::bug::Bug;
use super::device::Device;
use super::disk::{Answer, Commit, Disk};
use super::history::{Fact, History};
use super::node::{Clock, Directory, Node};
use super::session::{Session, Up};
use super::source::{Sources, WITHIN_MAX_MS, judge};
use crate::seeded::random::Random;

mod weather;

/// Steps in bad weather.
const STEPS: usize = 500;
/// The longest time between two steps, in milliseconds.
const STEP_MS: u64 = 40;
/// Good weather at the end: everything has the time that it may take, and some more.
const CALM_MS: u64 = 2 * WITHIN_MAX_MS + 2_000;
const DEVICES: usize = 3;
/// Milliseconds since 1970 at the beginning.
const BEGIN_MS: u64 = 1_000_000_000;

/// A run's state.
pub struct World {
    random: Random,
    history: History,
    bug: Option<Bug>,
    config: Config,
    disk: Disk,
    node: Option<Node>,
    devices: Vec<Device>,
    directory: Directory,
    sources: Sources,
    /// By how much the node's wall clock is wrong.
    wall_skew: i64,
    next_session: u64,
    is_full: bool,
    has_guards: bool,
    is_calm: bool,
}

/// Runs one seed to its end.
pub fn run(seed: u64, bug: Option<Bug>) -> History {
    let mut world = World::new(seed, bug);
    world.start_node();
    for _ in 0..STEPS {
        world.history.time += world.random.below(STEP_MS);
        world.step();
    }
    world.calm();
    world.history
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut random = Random::new(seed);
        let forgets = random.chance(300);
        let config = Config {
            pending_per_device_max: 12,
            in_flight_per_device_max: 3,
            deliveries_max: 4,
            ended_max: if forgets { 6 } else { 10_000 },
            overflow: if random.chance(300) { Overflow::DropOldest } else { Overflow::RefuseNewest },
            ..Config::default()
        };
        let devices: Vec<Device> = (0..DEVICES).map(|number| Device::new(number, &mut random)).collect();
        let traits = devices.iter().map(Device::traits).collect();
        let history = History { devices: traits, forgets, time: BEGIN_MS, ..History::default() };
        World {
            directory: devices.iter().map(|device| (device.name.clone(), device.refuses_repeats())).collect(),
            has_guards: random.chance(400),
            random,
            history,
            bug,
            config,
            disk: Disk::default(),
            node: None,
            devices,
            sources: Sources::default(),
            wall_skew: 0,
            next_session: 1,
            is_full: false,
            is_calm: false,
        }
    }

    fn wall(&self) -> u64 {
        self.history.time.saturating_add_signed(self.wall_skew)
    }

    fn now(&self, clock: Clock) -> Now {
        Now { steady: clock.steady(self.history.time), wall: self.wall() }
    }

    fn start_node(&mut self) {
        let clock = Clock { started: self.history.time, started_wall: self.wall() };
        let node = Node::start(&self.disk, clock, self.now(clock), self.config.clone(), &self.directory, self.bug);
        self.node = Some(node);
        self.history.note(Fact::NodeUp);
    }

    fn note_durable(&mut self, commit: Commit, node: Option<&mut Node>) {
        for logged in commit.steps {
            self.history.note(Fact::Step { device: logged.device, event: logged.event });
        }
        let Some(node) = node else { return };
        for answer in commit.answers {
            if let Some(session) = node.sessions.get_mut(&answer.session) {
                session.acknowledge_answer(self.history.time, answer.tag);
            }
        }
    }

    fn step(&mut self) {
        if self.is_calm {
            self.is_full = false;
        } else {
            self.weather();
        }
        let Some(mut node) = self.node.take() else {
            if self.is_calm || self.random.chance(100) {
                self.start_node();
            }
            return;
        };
        self.connect(&mut node);
        self.move_messages(&mut node);
        self.work(&mut node);
        self.judge_some(&mut node);
        self.sync(&mut node);
        self.round(&mut node);
        self.node = Some(node);
    }

    /// Devices that know that they are not connected connect, and the node notices which connections are broken.
    fn connect(&mut self, node: &mut Node) {
        let broken: Vec<u64> = node.sessions.values().filter(|session| session.is_cut).map(|s| s.number).collect();
        for number in broken {
            if self.is_calm || self.random.chance(150) {
                self.end_session(node, number);
            }
        }
        for number in 0..self.devices.len() {
            for client in 0..self.devices[number].clients.len() {
                let known = self.devices[number].clients[client].session;
                let is_alive = known.is_some_and(|s| node.sessions.get(&s).is_some_and(|session| !session.is_cut));
                if !is_alive && (self.is_calm || self.random.chance(150)) {
                    let bound = if client == 0 { 500 } else { 200 };
                    self.devices[number].clients[client].session = None;
                    if self.is_calm || self.random.chance(bound) {
                        let took = take_over(node, &mut self.devices[number], client, self.bug, &mut self.random);
                        self.come(node, number, client);
                        debug_assert!(took < 2, "one session of a client at most");
                    }
                }
            }
        }
    }

    fn end_session(&mut self, node: &mut Node, number: u64) {
        if let Some(session) = node.sessions.remove(&number) {
            node.mail.reports.extend(session.end(self.bug, &mut self.random));
        }
    }

    fn come(&mut self, node: &mut Node, number: usize, client: usize) {
        let device = &mut self.devices[number];
        let has_lanes = number.is_multiple_of(2);
        let session = Session::new(self.next_session, &device.clients[client].id, number, has_lanes);
        device.clients[client].session = Some(self.next_session);
        node.sessions.insert(self.next_session, session);
        self.next_session += 1;
        node.came(&device.name);
    }

    fn move_messages(&mut self, node: &mut Node) {
        let now = self.history.time;
        let steady = node.clock.steady(now);
        for session in node.sessions.values_mut() {
            while self.random.chance(700) {
                let before = node.mail.reports.len();
                session.write(steady, self.bug, &mut node.mail.reports, &mut self.history);
                if before == node.mail.reports.len() && self.random.chance(300) {
                    break;
                }
            }
            for up in session.arrive_up(now, &mut self.random) {
                match up {
                    Up::Received(id) => session.received(id, &mut node.mail.reports),
                    Up::Answer { id, status, payload, tag } if !self.is_full => {
                        let device = self.devices[session.device].name.clone();
                        let (session, client) = (session.number, session.client.clone());
                        self.disk.open.answers.push(Answer { device, id, status, payload, session, client, tag });
                        self.disk.ticket();
                    }
                    // A node that cannot take it closes the connection.
                    Up::Answer { .. } => session.cut(),
                }
            }
            let device = &mut self.devices[session.device];
            let client = device.clients.iter().position(|client| client.session == Some(session.number));
            for down in session.arrive_down(now, &mut self.random) {
                let Some(client) = client else { continue };
                let (bug, random, history) = (self.bug, &mut self.random, &mut self.history);
                let said = device.take(session.device, client, down, bug, random, history);
                said.into_iter().for_each(|up| session.say(now, up));
            }
        }
    }

    fn work(&mut self, node: &mut Node) {
        for device in &mut self.devices {
            for (number, up) in device.tick(self.history.time, &mut self.random) {
                if let Some(session) = node.sessions.get_mut(&number) {
                    session.say(self.history.time, up);
                }
            }
        }
    }

    fn judge_some(&mut self, node: &mut Node) {
        let share = if self.is_calm { 1_000 } else { 300 };
        let judged: Vec<_> = node.questions.extract_if(.., |_| self.random.chance(share)).collect();
        node.mail.judgements.extend(judged.into_iter().map(|id| (id, judge(&mut self.random))));
    }

    fn sync(&mut self, node: &mut Node) {
        if self.disk.syncs() && (self.is_calm || self.random.chance(500)) {
            while let Some(commit) = self.disk.sync() {
                self.note_durable(commit, Some(node));
            }
        }
        if !self.disk.syncs() {
            self.disk.close();
        }
        let is_early = self.bug == Some(Bug::PromisedBeforeDurable);
        for id in self.sources.told(|ticket| is_early || self.disk.is_durable(ticket)) {
            self.history.note(Fact::Promised(id));
        }
    }

    fn round(&mut self, node: &mut Node) {
        let now = self.now(node.clock);
        match node.retry_at {
            Some(at) if at > self.history.time => return,
            Some(_) => return node.start_over(&self.disk, &self.directory, now, &mut self.history),
            None => {}
        }
        node.complete(&self.disk, &mut self.random, &mut self.history);
        if node.waits() || !(self.is_calm || self.random.chance(800)) {
            return;
        }
        let (devices, next_session, bug, is_calm) = (&mut self.devices, &mut self.next_session, self.bug, self.is_calm);
        let between = |node: &mut Node, random: &mut Random, _: &mut History| {
            if !is_calm && random.chance(100) {
                hop(node, devices, next_session, bug, random);
            }
        };
        let (disk, directory) = (&mut self.disk, &self.directory);
        node.decide(disk, directory, now, self.is_full, &mut self.random, &mut self.history, between);
    }

    /// Good weather: nothing fails any more, and all that is left comes to its end.
    fn calm(&mut self) {
        self.is_calm = true;
        let end = self.history.time + CALM_MS;
        while self.history.time < end {
            self.history.time += STEP_MS;
            self.step();
        }
        let left = self.node.as_ref().map_or(usize::MAX, |node| node.table.pending());
        self.history.note(Fact::Left(left));
    }
}

/// The earlier session of a client ends before its new one begins; how many there were.
fn take_over(node: &mut Node, device: &mut Device, client: usize, bug: Option<Bug>, random: &mut Random) -> usize {
    let id = &device.clients[client].id;
    let earlier: Vec<u64> = node.sessions.values().filter(|s| s.client == *id).map(|s| s.number).collect();
    for number in &earlier {
        if let Some(session) = node.sessions.remove(number) {
            node.mail.reports.extend(session.end(bug, random));
        }
    }
    earlier.len()
}

/// A device loses its connection and has the next one at once, while the room is in the middle of a round.
fn hop(node: &mut Node, devices: &mut [Device], next_session: &mut u64, bug: Option<Bug>, random: &mut Random) {
    let number = random.place(devices.len());
    let Some(session) = devices[number].clients[0].session else { return };
    if let Some(session) = node.sessions.get_mut(&session) {
        session.cut();
    }
    take_over(node, &mut devices[number], 0, bug, random);
    let device = &mut devices[number];
    let new = Session::new(*next_session, &device.clients[0].id, number, number.is_multiple_of(2));
    device.clients[0].session = Some(*next_session);
    node.sessions.insert(*next_session, new);
    *next_session += 1;
    node.came(&device.name);
}
