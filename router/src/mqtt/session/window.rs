//! Messages on their way to a client at QoS 1: packet identifiers, how many may be in flight, what is acknowledged.

use std::collections::VecDeque;

use super::kept::{EventRef, KeptInflight};

/// The window of one connection, continued from an earlier one where the session was kept.
///
/// Identifiers are given out in a row, so that an entry is found by its distance from the first. A client that
/// acknowledges out of order keeps the window open at its first gap: [MQTT-4.6.0-2] has it acknowledge in order.
#[derive(Debug)]
pub struct Window {
    entries: VecDeque<Entry>,
    /// The identifier of the first entry, or of the next where there is none; 1..=65535.
    first_id: u16,
    /// Entries at most, gaps included; at most 65,534.
    capacity: usize,
    /// Entries of an earlier connection that are still to be sent again.
    waiting: usize,
}

#[derive(Copy, Clone, Debug)]
struct Entry {
    event: Option<EventRef>,
    state: State,
}

#[derive(Copy, Clone, Debug, PartialEq, Eq)]
enum State {
    Waiting,
    Sent,
    Done,
}

/// What an acknowledgement was for.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub enum Acknowledged {
    /// A message in flight, with where it came from if that was said.
    Message(Option<EventRef>),
    /// Nothing that is in flight.
    Unknown,
}

const IDS: usize = u16::MAX as usize;

fn id_after(id: u16, steps: usize) -> u16 {
    ((usize::from(id) - 1 + steps) % IDS) as u16 + 1
}

fn distance(from: u16, to: u16) -> usize {
    (usize::from(to) + IDS - usize::from(from)) % IDS
}

impl Window {
    /// An empty window of at most `capacity` messages whose first identifier is `next_id`.
    pub(super) fn new(capacity: u16, next_id: u16) -> Self {
        let capacity = usize::from(capacity).min(IDS - 1);
        Self { entries: VecDeque::new(), first_id: next_id.max(1), capacity, waiting: 0 }
    }

    /// Takes up what an earlier connection left in flight. Entries that do not form a window are dropped.
    pub(super) fn resume(capacity: u16, kept: &[KeptInflight], next_id: u16) -> Self {
        let mut window = Self::new(capacity, kept.first().map_or(next_id, |first| first.packet_id));
        for entry in kept {
            let at = distance(window.first_id, entry.packet_id);
            if entry.packet_id == 0 || at < window.entries.len() || at >= IDS - 1 {
                continue;
            }
            window.entries.resize(at, Entry { event: None, state: State::Done });
            window.entries.push_back(Entry { event: Some(entry.event), state: State::Waiting });
            window.waiting += 1;
        }
        window
    }

    /// How many new messages may be sent now. None while some of an earlier connection wait: order is kept.
    #[inline]
    pub fn free(&self) -> usize {
        if self.waiting > 0 { 0 } else { self.capacity.saturating_sub(self.entries.len()) }
    }

    /// Messages in flight or waiting to be, acknowledged ones behind a gap included.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether nothing is in flight.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Gives a message its identifier; `None` when the window is full. `event` is what a later connection will send
    /// again; a message without one is not sent again.
    #[inline]
    pub fn push(&mut self, event: Option<EventRef>) -> Option<u16> {
        if self.free() == 0 {
            return None;
        }
        let id = id_after(self.first_id, self.entries.len());
        self.entries.push_back(Entry { event, state: State::Sent });
        Some(id)
    }

    /// The next message of an earlier connection to send again, with DUP set; `None` when there is none or the
    /// client takes no more until it acknowledges.
    pub fn resend(&mut self) -> Option<(u16, EventRef)> {
        if self.waiting == 0 {
            return None;
        }
        let sent = self.entries.iter().filter(|entry| entry.state == State::Sent).count();
        if sent >= self.capacity {
            return None;
        }
        let at = self.entries.iter().position(|entry| entry.state == State::Waiting)?;
        let entry = self.entries.get_mut(at)?;
        entry.state = State::Sent;
        self.waiting -= 1;
        let event = entry.event?;
        Some((id_after(self.first_id, at), event))
    }

    /// A message of an earlier connection that can no longer be sent (expired, or gone by retention) is done with.
    pub fn abandon(&mut self, packet_id: u16) {
        self.acknowledge(packet_id);
    }

    /// Takes an acknowledgement.
    #[inline]
    pub fn acknowledge(&mut self, packet_id: u16) -> Acknowledged {
        if packet_id == 0 {
            return Acknowledged::Unknown;
        }
        let at = distance(self.first_id, packet_id);
        let Some(entry) = self.entries.get_mut(at) else {
            return Acknowledged::Unknown;
        };
        match entry.state {
            State::Done => return Acknowledged::Unknown,
            State::Waiting => self.waiting -= 1,
            State::Sent => {}
        }
        entry.state = State::Done;
        let event = entry.event;
        while self.entries.front().is_some_and(|entry| entry.state == State::Done) {
            self.entries.pop_front();
            self.first_id = id_after(self.first_id, 1);
        }
        Acknowledged::Message(event)
    }

    /// Whether a message with this identifier is in flight.
    pub fn holds(&self, packet_id: u16) -> bool {
        let entry = self.entries.get(distance(self.first_id, packet_id));
        packet_id != 0 && entry.is_some_and(|entry| entry.state != State::Done)
    }

    /// What a later connection has to send again, and the identifier after it.
    pub(super) fn kept(&self) -> (Vec<KeptInflight>, u16) {
        let unacknowledged = self.entries.iter().enumerate().filter(|(_, entry)| entry.state != State::Done);
        let kept = unacknowledged
            .filter_map(|(at, entry)| {
                entry.event.map(|event| KeptInflight { packet_id: id_after(self.first_id, at), event })
            })
            .collect();
        (kept, id_after(self.first_id, self.entries.len()))
    }
}
