//! One device's commands: two queues, what is under way, what guards said, and the newest of each supersede key.

use std::collections::{BTreeMap, HashMap, HashSet};

use devices::command::{CommandId, State};

use super::effect::Now;
use crate::commands::entry::Entry;

/// Keys of ended commands that a device remembers besides two for each pending one.
const NEWEST_SPARE: usize = 64;

/// What guards have said of a command that waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ask {
    /// They think about it.
    Asked,
    /// It may go until this moment of the steady clock; then they are asked again.
    Allowed(u64),
}

/// Commands of one urgency.
#[derive(Debug, Default)]
pub(super) struct Lane {
    /// Those that wait for a session, by their order.
    pub(super) queue: BTreeMap<u64, CommandId>,
    /// Those that are under way without the device's confirmation, by their order.
    pub(super) in_flight: BTreeMap<u64, CommandId>,
}

/// One device with commands that have not ended.
#[derive(Debug, Default)]
pub(super) struct Device {
    lanes: [Lane; 2],
    /// Commands that have not ended.
    pub(super) pending: usize,
    /// Their bytes.
    pub(super) bytes: usize,
    /// The newest command of each supersede key, with its order; at most two for each pending command, and
    /// [`NEWEST_SPARE`].
    newest: HashMap<String, (u64, CommandId)>,
    asks: HashMap<u64, Ask>,
    /// The session that let a command fall, and until when it is not asked again.
    pub(super) resting: Option<(u64, u64)>,
}

impl Device {
    pub(super) fn lane(&self, urgent: bool) -> &Lane {
        &self.lanes[usize::from(urgent)]
    }

    pub(super) fn rests(&self, session: u64, now: Now) -> bool {
        self.resting.is_some_and(|(number, until)| number == session && until > now.steady)
    }

    /// Whether something waits.
    pub(super) fn waits(&self) -> bool {
        self.lanes.iter().any(|lane| !lane.queue.is_empty())
    }

    /// The next command that there is room for: an urgent one first.
    pub(super) fn next(&self, window: usize) -> Option<CommandId> {
        let open = self.lanes.iter().rev().filter(|lane| lane.in_flight.len() < window);
        open.filter_map(|lane| lane.queue.first_key_value()).map(|(_, id)| *id).next()
    }

    /// The oldest that waits and is not urgent.
    pub(super) fn oldest(&self) -> Option<CommandId> {
        self.lanes[0].queue.first_key_value().map(|(_, id)| *id)
    }

    pub(super) fn insert(&mut self, entry: &Entry, bytes: usize) {
        self.pending += 1;
        self.bytes += bytes;
        let lane = &mut self.lanes[usize::from(entry.queued.urgent)];
        match entry.progress.state() {
            State::Queued if entry.away.is_none() => {
                lane.queue.insert(entry.order, entry.id);
            }
            State::Sent => {
                lane.in_flight.insert(entry.order, entry.id);
            }
            _ => {}
        }
    }

    /// A command gets another place; what guards said of it is not kept.
    pub(super) fn set_order(&mut self, entry: &Entry, order: u64) {
        let lane = &mut self.lanes[usize::from(entry.queued.urgent)];
        for places in [&mut lane.queue, &mut lane.in_flight] {
            if let Some(id) = places.remove(&entry.order) {
                places.insert(order, id);
            }
        }
    }

    /// Notes a command that was taken as its key's newest, if it is.
    pub(super) fn note_newest(&mut self, entry: &Entry) {
        let Some(key) = &entry.queued.supersede else { return };
        if self.newest.get(key).is_none_or(|(order, _)| *order < entry.order) {
            self.newest.insert(key.clone(), (entry.order, entry.id));
        }
    }

    /// Whether keys of ended commands are to be forgotten.
    pub(super) fn has_many_keys(&self) -> bool {
        self.newest.len() > 2 * self.pending + NEWEST_SPARE
    }

    /// Commands that wait, or may come to wait again.
    pub(super) fn may_wait(&self) -> impl Iterator<Item = &CommandId> {
        self.lanes.iter().flat_map(|lane| lane.queue.values().chain(lane.in_flight.values()))
    }

    /// Forgets the keys that are not among these.
    pub(super) fn keep_keys(&mut self, kept: &HashSet<String>) {
        self.newest.retain(|key, _| kept.contains(key));
    }

    /// The newer command of the same key, where there is one.
    pub(super) fn newer_than(&self, entry: &Entry) -> Option<CommandId> {
        let (order, id) = *self.newest.get(entry.queued.supersede.as_ref()?)?;
        (order > entry.order).then_some(id)
    }

    /// A command went from one state to another.
    pub(super) fn moved(&mut self, entry: &Entry, before: State, after: State) {
        let lane = &mut self.lanes[usize::from(entry.queued.urgent)];
        if after == State::Queued {
            lane.queue.insert(entry.order, entry.id);
        } else {
            lane.queue.remove(&entry.order);
        }
        if before == State::Sent {
            lane.in_flight.remove(&entry.order);
        }
        if after == State::Sent {
            lane.in_flight.insert(entry.order, entry.id);
        }
    }

    /// A command goes to another node, or is back from it; whether guards are still thinking about it.
    pub(super) fn set_away(&mut self, entry: &Entry) -> bool {
        let lane = &mut self.lanes[usize::from(entry.queued.urgent)];
        if entry.away.is_none() {
            lane.queue.insert(entry.order, entry.id);
            return false;
        }
        lane.queue.remove(&entry.order);
        self.asks.remove(&entry.order) == Some(Ask::Asked)
    }

    pub(super) fn remove(&mut self, bytes: usize) {
        self.pending -= 1;
        self.bytes -= bytes;
    }

    /// What guards have said of the command of that order.
    pub(super) fn ask(&self, order: u64) -> Option<Ask> {
        self.asks.get(&order).copied()
    }

    pub(super) fn set_ask(&mut self, order: u64, ask: Ask) {
        self.asks.insert(order, ask);
    }

    /// Forgets what guards said of a command that does not wait any more; whether they are still thinking.
    pub(super) fn forget_ask(&mut self, order: u64, after: State) -> bool {
        after != State::Queued && self.asks.remove(&order) == Some(Ask::Asked)
    }
}
