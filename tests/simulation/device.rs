//! Devices: strict ones that remember, forgetful ones, slow ones; with clocks that are right or not.

use std::collections::{BTreeMap, VecDeque};

use devices::command::{CommandId, Status};

use super::bug::Bug;
use super::history::{Fact, History, Traits};
use super::session::{Down, Shipped, Up};
use crate::seeded::random::Random;

/// What kind of device it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It remembers what it has done, over its restarts.
    Strict,
    /// It remembers until it restarts.
    Forgetful,
    /// As strict, and it takes long, or does not say how it ended.
    Slow,
}

/// One of its connections.
#[derive(Debug, Clone)]
pub struct Client {
    pub id: String,
    /// The session, as far as the device knows.
    pub session: Option<u64>,
}

#[derive(Debug)]
struct Work {
    id: CommandId,
    client: usize,
    due: u64,
    left: Vec<Status>,
}

#[derive(Debug)]
struct Said {
    tag: u64,
    client: usize,
    id: CommandId,
    status: Status,
    sent_over: Option<u64>,
}

/// A device.
#[derive(Debug)]
pub struct Device {
    pub name: String,
    pub kind: Kind,
    pub clients: Vec<Client>,
    /// By how much its clock is wrong.
    skew: i64,
    checks_time: bool,
    memory: BTreeMap<CommandId, Option<Status>>,
    work: Vec<Work>,
    /// Answers that the node has not acknowledged: they are sent again over the next connection.
    said: VecDeque<Said>,
    next_tag: u64,
}

impl Device {
    pub fn new(number: usize, random: &mut Random) -> Device {
        let name = format!("device-{number}");
        let kind = [Kind::Strict, Kind::Forgetful, Kind::Slow][number % 3];
        let clients = if random.chance(300) { 2 } else { 1 };
        let client = |n| Client { id: format!("{name}-{n}"), session: None };
        let skew = if random.chance(500) { 0 } else { i64::try_from(random.below(8_000)).unwrap() - 4_000 };
        Device {
            clients: (0..clients).map(client).collect(),
            kind,
            skew,
            checks_time: random.chance(500),
            memory: BTreeMap::new(),
            work: Vec::new(),
            said: VecDeque::new(),
            next_tag: 1_000 * number as u64,
            name,
        }
    }

    pub fn traits(&self) -> Traits {
        Traits {
            is_strict: self.refuses_repeats(),
            is_punctual: self.checks_time && self.skew == 0,
            is_single: self.clients.len() == 1,
        }
    }

    pub fn refuses_repeats(&self) -> bool {
        self.kind != Kind::Forgetful
    }

    /// It loses its power for a moment: its connections, its work, and what it does not keep.
    pub fn restart(&mut self) {
        self.clients.iter_mut().for_each(|client| client.session = None);
        self.work.clear();
        if self.kind == Kind::Forgetful {
            self.memory.clear();
            self.said.clear();
        }
    }

    /// Something came over a connection; what it says at once.
    pub fn take(
        &mut self,
        number: usize,
        client: usize,
        down: Down,
        bug: Option<Bug>,
        random: &mut Random,
        history: &mut History,
    ) -> Option<Up> {
        match down {
            Down::AnswerAcked(tag) => {
                self.said.retain(|said| said.tag != tag);
                None
            }
            Down::Command(shipped) => {
                let id = shipped.id;
                self.command(number, client, &shipped, bug, random, history);
                Some(Up::Received(id))
            }
        }
    }

    fn command(
        &mut self,
        number: usize,
        client: usize,
        shipped: &Shipped,
        bug: Option<Bug>,
        random: &mut Random,
        history: &mut History,
    ) {
        let id = shipped.id;
        if let Some(known) = self.memory.get(&id).filter(|_| bug != Some(Bug::DeviceRepeats)) {
            if let Some(status) = *known {
                self.say(client, id, status);
            }
            return;
        }
        let clock = history.time.saturating_add_signed(self.skew);
        if self.checks_time && clock > shipped.deliver_by_ms {
            self.memory.insert(id, Some(Status::Rejected));
            return self.say(client, id, Status::Rejected);
        }
        history.note(Fact::Executed { id, device: number });
        self.memory.insert(id, None);
        let last = if random.chance(800) { Status::Succeeded } else { Status::Failed };
        let mut left = vec![Status::Accepted, Status::InProgress, Status::InProgress];
        left.truncate(random.place(4));
        left.push(last);
        left.reverse();
        let due = history.time + self.pace(random);
        self.work.push(Work { id, client, due, left });
    }

    fn pace(&self, random: &mut Random) -> u64 {
        if self.kind == Kind::Slow { random.below(3_000) } else { random.below(200) }
    }

    fn say(&mut self, client: usize, id: CommandId, status: Status) {
        self.next_tag += 1;
        self.said.push_back(Said { tag: self.next_tag, client, id, status, sent_over: None });
    }

    /// Time passes: work goes on. What it sends, each over which session.
    pub fn tick(&mut self, now: u64, random: &mut Random) -> Vec<(u64, Up)> {
        let mut due: Vec<Work> = self.work.extract_if(.., |work| work.due <= now).collect();
        for work in &mut due {
            let Some(status) = work.left.pop() else { continue };
            self.say(work.client, work.id, status);
            if status.is_final() {
                self.memory.insert(work.id, Some(status));
                // Some devices say it twice, or think better of it.
                if random.chance(100) {
                    self.say(work.client, work.id, Status::Failed);
                }
            }
            work.due = now + self.pace(random);
        }
        due.retain(|work| !work.left.is_empty());
        self.work.append(&mut due);
        let mut sent = Vec::new();
        for said in &mut self.said {
            let session = self.clients[said.client].session;
            if let Some(number) = session.filter(|_| said.sent_over != session) {
                said.sent_over = session;
                sent.push((number, Up::Answer { id: said.id, status: said.status, payload: b"true", tag: said.tag }));
            }
        }
        sent
    }
}
