//! All of it together: nodes, their logs, the ways between them, devices, what the site decides, and the weather.

mod calm;
mod decided;
mod devices;
mod questions;
mod weather;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;

use ::devices::command::{CommandId, Step};
use devices::Link;
use edgeway::commands::Now;

use super::bug::Bug;
use super::history::{Fact, History};
use super::log::{Commit, Log};
use super::node::{Around, Node};
use crate::seeded::random::Random;
use crate::simulation;
use crate::simulation::device::Device;
use decided::Decided;
use questions::Question;

/// Steps in bad weather.
const STEPS: usize = 400;
/// The longest time between two steps, in milliseconds.
const STEP_MS: u64 = 40;
/// Milliseconds since 1970 at the beginning.
const BEGIN_MS: u64 = 1_000_000_000;
/// Nodes of the site.
const NODES: usize = 3;
/// Commits that a node may lack of another; beyond, it takes a copy.
const RECORDS_MAX: usize = 6;
/// Devices.
const DEVICES: usize = 3;

/// A machine: what is on its disk, and the life of the node on it.
#[derive(Default)]
struct Machine {
    log: Log,
    node: Option<Node>,
    /// When it is started again.
    starts_at: u64,
    next_session: u64,
    /// By how much its wall clock is wrong.
    skew: i64,
    is_full: bool,
    is_slow: bool,
    /// Others that were heard since it was started.
    heard_always: BTreeSet<usize>,
}

/// A submission that its source has not been told to be safe.
struct Submission {
    node: usize,
    ticket: usize,
    id: CommandId,
}

/// A run's state.
pub struct World {
    random: Random,
    history: History,
    bug: Option<Bug>,
    machines: Vec<Machine>,
    /// Ways that are broken, the smaller place first.
    broken: BTreeSet<(usize, usize)>,
    devices: Vec<Device>,
    /// Connections by the number that the device knows: the node, and the session there.
    links: BTreeMap<u64, Link>,
    next_link: u64,
    questions: Vec<Question>,
    next_question: u64,
    decided: BTreeMap<usize, Decided>,
    /// Since when a node is not heard by the others.
    silent_since: [Option<u64>; NODES],
    submissions: Vec<Submission>,
    ids: Vec<CommandId>,
    lives: u64,
    /// The term of each command in each log: as it has it, and as it is handing it over.
    terms: BTreeMap<(usize, CommandId), (u64, Option<u64>)>,
    /// What devices and sessions note.
    seen: simulation::history::History,
    is_calm: bool,
}

/// Runs one seed to its end.
pub fn run(seed: u64, bug: Option<Bug>) -> History {
    let mut world = World::new(seed, bug);
    for _ in 0..STEPS {
        world.history.time += world.random.below(STEP_MS);
        world.weather();
        world.step();
    }
    world.calm();
    world.history
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut random = Random::new(seed);
        let mut devices: Vec<Device> = (0..DEVICES).map(|number| Device::new(number, &mut random)).collect();
        for device in &mut devices {
            // A device is found at other nodes by its own name alone.
            device.clients.truncate(1);
            device.clients[0].id = device.name.clone();
        }
        let machines = (0..NODES).map(|_| Machine {
            skew: i64::try_from(random.below(4_000)).unwrap() - 2_000,
            next_session: 1,
            ..Machine::default()
        });
        let machines = machines.collect();
        let history =
            History { devices: devices.iter().map(Device::traits).collect(), time: BEGIN_MS, ..History::default() };
        World {
            random,
            history,
            bug,
            machines,
            broken: BTreeSet::new(),
            devices,
            links: BTreeMap::new(),
            next_link: 1,
            questions: Vec::new(),
            next_question: 0,
            decided: BTreeMap::new(),
            silent_since: [None; NODES],
            submissions: Vec::new(),
            ids: Vec::new(),
            lives: 0,
            terms: BTreeMap::new(),
            seen: simulation::history::History::default(),
            is_calm: false,
        }
    }

    fn now(&self, place: usize) -> Now {
        let wall = self.history.time.saturating_add_signed(self.machines[place].skew);
        Now { steady: self.history.time, wall }
    }

    fn hears(&self, a: usize, b: usize) -> bool {
        let is_up = |place: usize| self.machines[place].node.is_some();
        a != b && is_up(a) && is_up(b) && !self.broken.contains(&(a.min(b), a.max(b)))
    }

    fn step(&mut self) {
        for place in 0..NODES {
            if self.machines[place].node.is_none() && self.machines[place].starts_at <= self.history.time {
                self.start(place);
            }
        }
        self.listen();
        self.decide();
        self.connect();
        self.move_messages();
        self.work();
        self.ship();
        self.carry_questions();
        for place in 0..NODES {
            self.step_node(place);
        }
        self.note_seen();
    }

    fn start(&mut self, place: usize) {
        self.lives += 1;
        let (now, time) = (self.now(place), self.history.time);
        self.machines[place].heard_always = (0..NODES).collect();
        let around = self.around(place);
        let mut node = Node::start(place, self.lives, &self.machines[place].log, &around, now, time, self.bug);
        for other in (0..NODES).filter(|other| *other != place) {
            for logged in &self.machines[other].log.own.steps {
                if let Step::Queued(queued) = &logged.event.step
                    && let Some(taken) = &queued.taken
                {
                    node.given.insert(logged.event.id, (taken.term, other));
                }
            }
        }
        let machine = &mut self.machines[place];
        // Sessions do not outlive the node.
        let gone: Vec<_> = machine.log.own.presence.iter().filter(|(_, (_, here))| *here).map(|(of, _)| *of).collect();
        for device in gone {
            machine.log.open.presence.push((device, time, false));
            machine.log.ticket();
        }
        machine.node = Some(node);
        self.history.note(Fact::Up { node: place });
    }

    /// The power goes: of what was not synced the first part stays.
    fn kill(&mut self, place: usize, down_ms: u64) {
        if self.machines[place].node.take().is_none() {
            return;
        }
        let keep = self.random.place(self.machines[place].log.unsynced() + 1);
        for commit in self.machines[place].log.crash(keep) {
            self.note_durable(place, &commit);
        }
        self.machines[place].log.restart();
        self.submissions.retain(|submission| submission.node != place);
        self.machines[place].starts_at = self.history.time + down_ms;
        self.links.retain(|_, link| link.node != place);
        self.history.note(Fact::Down { node: place });
    }

    fn listen(&mut self) {
        for place in 0..NODES {
            let heard: BTreeSet<usize> = (0..NODES).filter(|other| self.hears(place, *other)).collect();
            let machine = &mut self.machines[place];
            machine.heard_always.retain(|other| heard.contains(other));
        }
    }

    fn step_node(&mut self, place: usize) {
        let (now, around) = (self.now(place), self.around(place));
        let Some(mut node) = self.machines[place].node.take() else { return };
        node.stand(self.arrived(place, &node), &self.machines[place].log, now);
        for (lost, decided) in &self.decided {
            let is_mine = decided.by == place && !decided.has_returned && !decided.hears_lost;
            let machine = &mut self.machines[place];
            if is_mine && !machine.is_full && machine.log.held(*lost) >= decided.from_commit {
                node.take_up(*lost, decided.term, &mut machine.log, &around, now);
            }
        }
        if self.is_calm || self.random.chance(800) {
            let is_full = self.machines[place].is_full;
            node.round(&mut self.machines[place].log, &around, now, is_full, &mut self.history);
        }
        self.machines[place].node = Some(node);
        self.take_asks(place);
        self.sync(place);
    }

    fn sync(&mut self, place: usize) {
        let share = if self.machines[place].is_slow { 15 } else { 500 };
        if self.machines[place].log.syncs() && (self.is_calm || self.random.chance(share)) {
            while let Some(commit) = self.machines[place].log.sync() {
                self.note_durable(place, &commit);
            }
        }
        let log = &mut self.machines[place].log;
        if !log.syncs() {
            log.close();
        }
        let log = &self.machines[place].log;
        let told = self.submissions.extract_if(.., |one| one.node == place && log.is_durable(one.ticket));
        let told: Vec<CommandId> = told.map(|one| one.id).collect();
        told.into_iter().for_each(|id| self.history.note(Fact::Promised(id)));
    }

    fn note_durable(&mut self, place: usize, commit: &Rc<Commit>) {
        for logged in &commit.steps {
            let (term, going) = self.terms.entry((place, logged.event.id)).or_default();
            match &logged.event.step {
                // One that it has already is the same under a higher term.
                Step::Queued(queued) => {
                    let taken = queued.taken.as_ref().map_or(0, |taken| taken.term);
                    if going.is_none_or(|going| taken > going) {
                        (*term, *going) = (taken.max(*term), None);
                    }
                }
                // One of a lower term was decided before it was taken once more.
                Step::Moving { term: to, .. } | Step::Moved { term: to, .. } if to >= term => *going = Some(*to),
                Step::Stays => *term = going.take().unwrap_or(0).max(*term),
                _ => {}
            }
            let (device, event, term) = (logged.device.clone(), logged.event.clone(), *term);
            self.history.note(Fact::Step { node: place, device, event, term });
        }
        if let Some((lost, term)) = commit.mark {
            self.history.note(Fact::TakenUp { lost, by: place, term });
        }
        for answer in &commit.answers {
            let number = answer.session;
            if let Some(session) = self.machines[place].node.as_mut().and_then(|node| node.sessions.get_mut(&number)) {
                session.acknowledge_answer(self.history.time, answer.tag);
            }
        }
    }

    /// What a node knows of what is around it.
    fn around(&self, place: usize) -> Around {
        let log = &self.machines[place].log;
        let refuses = self.devices.iter().map(|device| (device.name.clone(), device.refuses_repeats())).collect();
        let away = (0..DEVICES).filter_map(|device| {
            let claims = log.copies.iter().filter_map(|(other, image)| {
                let (at, is_here) = image.presence.get(&device)?;
                Some((*at, *other, *is_here))
            });
            let (at, other, is_here) = claims.max()?;
            let own = log.own.presence.get(&device).map(|(own, _)| (*own, place));
            let is_newest = own.is_none_or(|own| (at, other) > own);
            let is_there = is_here && is_newest && self.hears(place, other);
            is_there.then(|| (self.devices[device].name.clone(), other))
        });
        let heard_always = self.machines[place].heard_always.clone();
        Around { away: away.collect(), refuses, heard_always }
    }

    /// Everybody gets what others have written, from whoever has it.
    fn ship(&mut self) {
        for to in 0..NODES {
            for of in (0..NODES).filter(|of| *of != to) {
                if self.is_calm || self.random.chance(500) {
                    self.machines[to].log.show(of);
                }
                let has = self.machines[to].log.applied(of);
                let holds = |from: usize| match from == of {
                    true => self.machines[of].log.durable.len(),
                    false => self.machines[from].log.held(of),
                };
                let from = (0..NODES).filter(|from| self.hears(to, *from)).max_by_key(|from| holds(*from));
                let Some(until) = from.map(holds).filter(|until| *until > has) else { continue };
                if !(self.is_calm || self.random.chance(200)) {
                    continue;
                }
                self.follow(to, of, (has, until));
            }
        }
    }

    /// A node gets commits of another; a copy where it lacks many, which takes its time.
    fn follow(&mut self, to: usize, of: usize, (has, until): (usize, usize)) {
        let copy = self.machines[to].log.copying.get(&of).copied();
        if copy.is_none() && until - has > RECORDS_MAX && has > 0 && !self.is_calm {
            self.machines[to].log.copying.insert(of, until);
            self.history.note(Fact::Weather { node: to, what: "a copy begins" });
            return;
        }
        let count = match copy {
            Some(_) if !(self.is_calm || self.random.chance(200)) => return,
            Some(end) => end - has,
            None if self.is_calm => usize::MAX,
            None => 1 + self.random.place(6),
        };
        self.machines[to].log.copying.remove(&of);
        let commits: Vec<Rc<Commit>> = self.machines[of].log.durable[has..].iter().take(count).cloned().collect();
        let machine = &mut self.machines[to];
        let image = machine.log.copies.entry(of).or_default();
        for commit in commits.iter().take(until.max(copy.unwrap_or(0)) - has) {
            image.apply(commit);
            let Some(node) = &mut machine.node else { continue };
            node.arrivals.extend(commit.presence.iter().map(|(device, ..)| self.devices[*device].name.clone()));
        }
    }
}
