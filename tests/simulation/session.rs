//! One session of the node and the connection behind it: mailbox, window, what is on its way, and what is lost.

use std::collections::VecDeque;

use devices::command::{CommandId, Status};

use super::bug::Bug;
use super::history::{Fact, History};
use crate::seeded::random::Random;

/// Offers that wait in one mailbox at most, and as many urgent ones.
const MAILBOX_MAX: usize = 1;
/// Messages written and not acknowledged.
const WINDOW: usize = 4;

/// A command on its way to a device.
#[derive(Debug, Clone)]
pub struct Shipped {
    pub id: CommandId,
    pub urgent: bool,
    /// When it is worthless, on the node's steady clock.
    pub expires: u64,
    /// The same as the device is told: wall clock.
    pub deliver_by_ms: u64,
}

/// What a session tells the room, as `Fate` does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Acked,
    Dropped,
    Unsent,
}

/// A report for the room's mail.
pub type Report = (CommandId, u64, Fate);

/// From the node to the device.
#[derive(Debug, Clone)]
pub enum Down {
    Command(Shipped),
    /// The node has the device's answer durably.
    AnswerAcked(u64),
}

/// From the device to the node.
#[derive(Debug, Clone)]
pub enum Up {
    Received(CommandId),
    Answer { id: CommandId, status: Status, payload: &'static [u8], tag: u64 },
}

/// A session and its connection.
#[derive(Debug)]
pub struct Session {
    pub number: u64,
    pub client: String,
    /// The device whose commands it takes.
    pub device: usize,
    mailbox: [VecDeque<Shipped>; 2],
    unacked: Vec<CommandId>,
    /// What is on its way, in lanes that may overtake each other; one where `has_lanes` is not set.
    down: [VecDeque<(u64, Down)>; 2],
    up: [VecDeque<(u64, Up)>; 2],
    has_lanes: bool,
    /// The connection is broken, whoever has noticed.
    pub is_cut: bool,
}

impl Session {
    pub fn new(number: u64, client: &str, device: usize, has_lanes: bool) -> Session {
        Session {
            number,
            client: client.to_owned(),
            device,
            mailbox: Default::default(),
            unacked: Vec::new(),
            down: Default::default(),
            up: Default::default(),
            has_lanes,
            is_cut: false,
        }
    }

    /// Takes an offer, or reports that it does not.
    pub fn offer(&mut self, shipped: Shipped, reports: &mut Vec<Report>) -> bool {
        let lane = &mut self.mailbox[usize::from(shipped.urgent)];
        if lane.len() >= MAILBOX_MAX {
            reports.push((shipped.id, self.number, Fate::Unsent));
            return false;
        }
        lane.push_back(shipped);
        true
    }

    /// Gives back an offer that still waits.
    pub fn withdraw(&mut self, id: CommandId, reports: &mut Vec<Report>) {
        for lane in &mut self.mailbox {
            if let Some(place) = lane.iter().position(|shipped| shipped.id == id) {
                lane.remove(place);
                reports.push((id, self.number, Fate::Unsent));
            }
        }
    }

    /// Writes one offer to the connection, an urgent one first.
    pub fn write(&mut self, steady: u64, bug: Option<Bug>, reports: &mut Vec<Report>, history: &mut History) {
        if self.unacked.len() >= WINDOW {
            return;
        }
        let first = usize::from(bug != Some(Bug::UrgentLast));
        let taken = self.mailbox[first].pop_front().or_else(|| self.mailbox[1 - first].pop_front());
        let Some(shipped) = taken else { return };
        if shipped.expires <= steady && bug != Some(Bug::SessionIgnoresExpiry) {
            reports.push((shipped.id, self.number, Fate::Unsent));
            return;
        }
        let id = shipped.id;
        let overtook = self.mailbox[1].front().map(|urgent| urgent.id).filter(|_| !shipped.urgent);
        history.note(Fact::Written { id, session: self.number, overtook });
        self.unacked.push(id);
        self.send(history.time, Down::Command(shipped));
    }

    fn send(&mut self, now: u64, down: Down) {
        let is_command = matches!(down, Down::Command(_));
        if !self.is_cut {
            self.down[usize::from(self.has_lanes && is_command)].push_back((now, down));
        }
    }

    pub fn acknowledge_answer(&mut self, now: u64, tag: u64) {
        self.send(now, Down::AnswerAcked(tag));
    }

    /// The device sends something.
    pub fn say(&mut self, now: u64, up: Up) {
        let is_answer = matches!(up, Up::Answer { .. });
        if !self.is_cut {
            self.up[usize::from(self.has_lanes && is_answer)].push_back((now, up));
        }
    }

    /// What reaches the device now; some of what is on its way, each lane in order.
    pub fn arrive_down(&mut self, now: u64, random: &mut Random) -> Vec<Down> {
        self.down.iter_mut().flat_map(|lane| arrive(lane, now, random)).collect()
    }

    /// What reaches the node now.
    pub fn arrive_up(&mut self, now: u64, random: &mut Random) -> Vec<Up> {
        self.up.iter_mut().flat_map(|lane| arrive(lane, now, random)).collect()
    }

    /// The device has confirmed; the report where it is one.
    pub fn received(&mut self, id: CommandId, reports: &mut Vec<Report>) {
        if let Some(place) = self.unacked.iter().position(|unacked| *unacked == id) {
            self.unacked.remove(place);
            reports.push((id, self.number, Fate::Acked));
        }
    }

    /// The connection breaks: what is on its way is lost.
    pub fn cut(&mut self) {
        self.is_cut = true;
        self.down.iter_mut().for_each(VecDeque::clear);
        self.up.iter_mut().for_each(VecDeque::clear);
    }

    /// The node has noticed: what was not confirmed goes back, in no order, and what was not written behind it.
    pub fn end(mut self, bug: Option<Bug>, random: &mut Random) -> Vec<Report> {
        random.shuffle(&mut self.unacked);
        let fate = if bug == Some(Bug::WrittenIsUnsent) { Fate::Unsent } else { Fate::Dropped };
        let mut reports: Vec<Report> = self.unacked.iter().map(|id| (*id, self.number, fate)).collect();
        let waiting = self.mailbox[1].iter().chain(&self.mailbox[0]);
        reports.extend(waiting.map(|shipped| (shipped.id, self.number, Fate::Unsent)));
        reports
    }
}

/// Takes a random number of those that were sent before now.
fn arrive<T>(lane: &mut VecDeque<(u64, T)>, now: u64, random: &mut Random) -> Vec<T> {
    let mut arrived = Vec::new();
    while random.chance(800)
        && let Some((_, thing)) = lane.pop_front_if(|(at, _)| *at < now)
    {
        arrived.push(thing);
    }
    arrived
}
