//! Submissions: room, keys, and the table after a restart.

use devices::command::{CommandId, DELIVER_WITHIN_MAX_MS, Input, Queued, State, Step, Why, WhyCode};

use super::{Effect, Now, Table};
use crate::commands::config::{Config, Overflow};
use crate::commands::entry::Entry;

/// What urgent commands may pass the bounds by: one part in so many.
const URGENT_PART: usize = 10;

impl Table {
    /// A table of what the store held. What follows in the log is to be replayed, and [`Self::resume`] called then.
    pub fn restore(config: Config, mut stored: Vec<Entry>) -> Self {
        let mut table = Self::new(config);
        stored.sort_by_key(|entry| entry.order);
        for entry in stored {
            table.next_order = table.next_order.max(entry.order + 1);
            table.insert(entry);
        }
        table
    }

    /// The table is complete. What was under way to a session returns: sessions do not outlive the node.
    /// `refuses_repeats` says of which devices it is known that they refuse what they have done.
    pub fn resume(&mut self, refuses_repeats: impl Fn(&str) -> bool, now: Now) {
        for entry in self.entries.values().filter(|entry| was_taken(entry)) {
            if let Some(device) = self.devices.get_mut(&entry.device) {
                device.note_newest(entry);
            }
        }
        let sent = self.entries().filter(|entry| entry.progress.state() == State::Sent);
        let mut sent: Vec<_> =
            sent.filter_map(|entry| Some((entry.order, entry.id, entry.progress.session()?))).collect();
        sent.sort_unstable();
        for (_, id, session) in sent {
            let refuses = self.get(id).is_some_and(|entry| refuses_repeats(&entry.device));
            self.dropped(id, session, refuses, now);
        }
        self.devices.values_mut().for_each(|device| device.resting = None);
        self.rested.clear();
    }

    /// Whether there is room for another command of this size to this device.
    pub fn has_room(&self, device: &str, bytes: usize, urgent: bool) -> bool {
        let more = |bound: usize| if urgent { bound + bound / URGENT_PART + 1 } else { bound };
        self.pending() < more(self.config.pending_max)
            && self.pending_bytes + bytes <= more(self.config.pending_bytes_max)
            && self.device_has_room(device, bytes, urgent)
    }

    fn device_has_room(&self, device: &str, bytes: usize, urgent: bool) -> bool {
        let more = |bound: usize| if urgent { bound + bound / URGENT_PART + 1 } else { bound };
        self.devices.get(device).is_none_or(|device| {
            device.pending < more(self.config.pending_per_device_max)
                && device.bytes + bytes <= more(self.config.pending_bytes_per_device_max)
        })
    }

    /// Whether a submission would find room, be it by the overflow rule.
    pub fn would_take(&self, device: &str, bytes: usize, urgent: bool) -> bool {
        self.has_room(device, bytes, urgent)
            || (self.config.overflow == Overflow::DropOldest
                && self.devices.get(device).is_some_and(|device| device.oldest().is_some()))
    }

    /// A submitted command was read from the log. One that is known already is left alone.
    pub fn queued(&mut self, device: &str, id: CommandId, at_ms: u64, queued: Queued, now: Now) {
        if self.entries.contains_key(&id) {
            return;
        }
        let entry = self.admit(device, id, at_ms, queued, now);
        let (bytes, urgent) = (entry.bytes(), entry.queued.urgent);
        let twin = entry.queued.idempotency_key.as_deref().and_then(|key| self.by_key(key)).map(|entry| entry.id);
        if self.config.overflow == Overflow::DropOldest {
            self.make_room(device, bytes, urgent, now);
        }
        let has_room = self.has_room(device, bytes, urgent);
        let redrives = entry.queued.redrives;
        self.insert(entry);
        self.effects.push(Effect::Save(id));
        if let Some(twin) = twin {
            self.refuse(id, Why::by(WhyCode::DuplicateKey, twin.to_string()), now);
        } else if has_room {
            self.supersede(id, now);
        } else {
            self.refuse(id, Why::code(WhyCode::NoRoom), now);
        }
        if let Some(old) = redrives {
            self.change(old, |entry| entry.redriven_as = Some(id));
            self.effects.push(Effect::Save(old));
        }
    }

    pub(super) fn admit(&mut self, device: &str, id: CommandId, at_ms: u64, queued: Queued, now: Now) -> Entry {
        let left = queued.deliver_by_ms.saturating_sub(now.wall.max(at_ms)).min(DELIVER_WITHIN_MAX_MS);
        let mut entry = Entry::new(device, id, at_ms, queued, now.steady + left);
        entry.order = self.next_order;
        self.next_order += 1;
        entry
    }

    /// Gives up the device's oldest that wait until a command fits.
    fn make_room(&mut self, device: &str, bytes: usize, urgent: bool, now: Now) {
        while !self.device_has_room(device, bytes, urgent) {
            let Some(oldest) = self.devices.get(device).and_then(|device| device.oldest()) else { return };
            self.refuse(oldest, Why::code(WhyCode::Overflow), now);
        }
    }

    /// The command that a new one takes the place of ends, where it waits.
    fn supersede(&mut self, id: CommandId, now: Now) {
        let Some(entry) = self.entries.get(&id) else { return };
        let Some(key) = entry.queued.supersede.clone() else { return };
        let Some(device) = self.devices.get_mut(&entry.device) else { return };
        device.note_newest(entry);
        let device = &*device;
        let older = device.lane(false).queue.values().chain(device.lane(true).queue.values());
        let has_key = |entry: &Box<Entry>| entry.queued.supersede.as_ref() == Some(&key);
        let same = |other: &&CommandId| **other != id && self.entries.get(*other).is_some_and(has_key);
        // All but the newest have gone this way before, so that there is one at most, and those that came back.
        let older: Vec<CommandId> = older.filter(same).copied().collect();
        for old in older {
            let why = Why::by(WhyCode::Superseded, id.to_string());
            self.end_queued(old, Input::Superseded, why, now);
        }
    }

    /// The node will not send a command.
    pub(super) fn refuse(&mut self, id: CommandId, why: Why, now: Now) {
        self.end_queued(id, Input::Refused, why, now);
    }

    /// Ends a command that waits, by an input that says how.
    pub(super) fn end_queued(&mut self, id: CommandId, input: Input, why: Why, now: Now) {
        self.step(id, input, now, |entry| {
            entry.why = Some(why.clone());
            match entry.progress.state() {
                State::Cancelled => Step::Cancelled(why),
                State::Superseded => Step::Superseded(why),
                State::Refused => Step::Refused(why),
                _ => Step::Unknown(why),
            }
        });
    }
}

/// Whether a command ever waited for its device: then it takes the place of older ones with its key.
fn was_taken(entry: &Entry) -> bool {
    let code = entry.why.as_ref().map(|why| why.code);
    !matches!(code, Some(WhyCode::NoRoom | WhyCode::DuplicateKey))
}
