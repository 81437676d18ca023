//! What the buffer's tests drive it with: publishes by name, a window, the fates as they were told.

use std::sync::{Arc, Mutex};

use bytes::Bytes;

use super::*;
use crate::client::config::Overflow;

type Fates = Arc<Mutex<Vec<(u32, Fate)>>>;

pub(in crate::client) const ACKED: Fate = Fate::Acked { repeated: false };
pub(in crate::client) const AGAIN: Fate = Fate::Acked { repeated: true };

/// A connection that takes so many at once and keeps what it took.
pub(in crate::client) struct Window {
    pub(in crate::client) most: usize,
    pub(in crate::client) packet_ids: bool,
    pub(in crate::client) paused: Vec<Lane>,
    pub(in crate::client) taken: Vec<(u32, Number)>,
}

impl Way for Window {
    fn has_room(&self, lane: Lane, under_way: usize) -> bool {
        under_way < self.most && !self.paused.contains(&lane)
    }

    fn has_packet_ids(&self) -> bool {
        self.packet_ids
    }

    fn publish(&mut self, entry: &Entry) -> bool {
        self.taken.push((name(entry), entry.number));
        true
    }
}

pub(in crate::client) fn name(entry: &Entry) -> u32 {
    String::from_utf8(entry.payload.to_vec()).unwrap().parse().unwrap()
}

pub(in crate::client) struct Bench {
    pub(in crate::client) outbox: Outbox,
    fates: Fates,
    pub(in crate::client) window: Window,
}

impl Bench {
    pub(in crate::client) fn new(publishes_max: usize, bytes_max: usize, overflow: Overflow) -> Self {
        let limits = Buffer { publishes_max, bytes_max, overflow };
        Self::of(Outbox::new(limits, 7, None))
    }

    pub(in crate::client) fn of(outbox: Outbox) -> Self {
        let window = Window { most: 3, packet_ids: true, paused: Vec::new(), taken: Vec::new() };
        Self { outbox, fates: Fates::default(), window }
    }

    pub(in crate::client) fn push_as(
        &mut self,
        n: u32,
        qos: Qos,
        priority: Priority,
        answer: bool,
    ) -> Result<(), NotTaken> {
        let done = self.note(n);
        let result = self.outbox.push(New {
            lane: priority.lane(),
            qos,
            topic: "t".into(),
            payload: Bytes::from(n.to_string()),
            timestamp_ms: 0,
            properties: Vec::new(),
            answer,
            done,
        });
        self.tell();
        result
    }

    /// Notes a publish's fate.
    pub(in crate::client) fn note(&self, n: u32) -> Done {
        let fates = self.fates.clone();
        Done::Call(Box::new(move |fate| fates.lock().unwrap().push((n, fate))))
    }

    pub(in crate::client) fn push(&mut self, n: u32) -> Result<(), NotTaken> {
        self.push_as(n, Qos::AtLeastOnce, Priority::Normal, false)
    }

    pub(in crate::client) fn tell(&mut self) {
        self.outbox.take_ended().into_iter().for_each(|ended| ended.done.tell(ended.fate));
    }

    /// Hands over what the window takes; gives the names.
    pub(in crate::client) fn handed(&mut self) -> Vec<u32> {
        self.window.taken.clear();
        while self.outbox.hand_over(&mut self.window) {}
        self.window.taken.iter().map(|(name, _)| *name).collect()
    }

    pub(in crate::client) fn fates(&mut self) -> Vec<(u32, Fate)> {
        self.tell();
        std::mem::take(&mut *self.fates.lock().unwrap())
    }
}
