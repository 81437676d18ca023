//! Submissions: room, keys, and the table after a restart.

use std::collections::HashSet;

use devices::command::{CommandId, DELIVER_WITHIN_MAX_MS, Input, Queued, Repeat, State, Step, StepEvent, Why, WhyCode};

use super::{Effect, Now, Table};
use crate::commands::config::{Config, Overflow};
use crate::commands::down::site_of;
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
        table.forget_oldest();
        table
    }

    /// The table is complete. What was under way to a session returns: sessions do not outlive the node.
    /// `refuses_repeats` says of which devices it is known that they refuse what they have done.
    pub fn resume(&mut self, refuses_repeats: impl Fn(&str) -> bool, now: Now) {
        self.bound_deadlines(now);
        self.refuse_twins(now);
        self.end_taken(now);
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
        self.end_superseded(now);
        self.devices.values_mut().for_each(|device| device.resting = None);
        self.rested.clear();
    }

    /// Those that wait, in their order.
    fn waiting(&self) -> Vec<CommandId> {
        let waiting = self.entries().filter(|entry| entry.waits_here());
        let mut waiting: Vec<_> = waiting.map(|entry| (entry.order, entry.id)).collect();
        waiting.sort_unstable();
        waiting.into_iter().map(|(_, id)| id).collect()
    }

    /// A crash may have come between a submission and the step that refuses it as the second of its key.
    fn refuse_twins(&mut self, now: Now) {
        for id in self.waiting() {
            let key = self.get(id).and_then(|entry| entry.queued.idempotency_key.as_deref());
            let first = key.and_then(|key| self.by_key(key)).map(|entry| entry.id);
            if let Some(first) = first.filter(|first| *first != id) {
                self.refuse(id, Why::by(WhyCode::DuplicateKey, first.to_string()), now);
            }
        }
    }

    /// A crash may have come between the taking over of a command that must not be sent again and its end.
    fn end_taken(&mut self, now: Now) {
        for id in self.waiting() {
            self.end_if_over(id, now);
            self.end_if_called_off(id, now);
        }
    }

    /// Ends a command that came from a lost node, where it must not be sent again and may have arrived.
    fn end_if_over(&mut self, id: CommandId, now: Now) {
        let Some(entry) = self.get(id) else { return };
        let Some(taken) = entry.queued.taken.as_deref().filter(|taken| taken.is_over) else { return };
        let mut why = Why::by(WhyCode::NotRepeatable, taken.from.to_string());
        if let Some(site) = site_of(&entry.device) {
            if entry.queued.repeat == Repeat::Safe {
                why.code = WhyCode::NodeLost;
            }
            why.text =
                format!("the node that had it is lost, and no gateway of {site} is known that alone may have got it");
        }
        self.end_queued(id, Input::Refused, why, now);
    }

    /// A crash may have come between a submission and the steps of those that it takes the place of.
    fn end_superseded(&mut self, now: Now) {
        for id in self.waiting() {
            let Some(entry) = self.get(id) else { continue };
            let newer = self.devices.get(&entry.device).and_then(|device| device.newer_than(entry));
            if let Some(newer) = newer {
                self.end_queued(id, Input::Superseded, Why::by(WhyCode::Superseded, newer.to_string()), now);
            }
        }
    }

    /// Takes over from the table before it, of the same life, until when commands must be delivered: what was counted
    /// on the steady clock is right, whatever has become of the wall clock since.
    pub fn keep_times(&mut self, before: &Self) {
        for entry in self.entries.values_mut() {
            let Some(known) = before.get(entry.id) else { continue };
            let deadline = entry.deadline();
            entry.deliver_by = entry.deliver_by.min(known.deliver_by);
            let kept = entry.deadline();
            if deadline != kept {
                deadline.map(|at| self.deadlines.remove(&(at, entry.id)));
                kept.map(|at| self.deadlines.insert((at, entry.id)));
            }
        }
    }

    /// No command has more time left than it was given, nor than the wall clock says: that may have been set while the
    /// node was down, and the stored times are those of the life that stored them.
    fn bound_deadlines(&mut self, now: Now) {
        for entry in self.entries.values_mut() {
            let before = entry.deadline();
            let given = entry.queued.deliver_by_ms.saturating_sub(entry.at_ms).min(DELIVER_WITHIN_MAX_MS);
            let left = entry.queued.deliver_by_ms.saturating_sub(now.wall).min(given);
            entry.deliver_by = entry.deliver_by.min(now.steady + left);
            entry.execute_by = entry.execute_by.min(now.steady + entry.execution_timeout_ms());
            let after = entry.deadline();
            if before != after {
                before.map(|at| self.deadlines.remove(&(at, entry.id)));
                after.map(|at| self.deadlines.insert((at, entry.id)));
            }
        }
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
        self.submitted(device, StepEvent::queued(id, at_ms, queued), now);
    }

    /// The same, as it was read: one that was handed over to another node may come back from it.
    pub fn submitted(&mut self, device: &str, event: StepEvent, now: Now) {
        let StepEvent { id, at_ms, n, step, .. } = event;
        let Step::Queued(queued) = step else { return };
        if self.entries.contains_key(&id) {
            let term = queued.taken.as_ref().map(|taken| taken.term);
            if !self.comes_back(id, term) {
                return self.has_anew(id, term);
            }
            self.remove_away(id);
        }
        let mut entry = self.admit(device, id, at_ms, *queued, now);
        entry.steps = n;
        let (bytes, urgent) = (entry.bytes(), entry.queued.urgent);
        let twin = entry.queued.idempotency_key.as_deref().and_then(|key| self.by_key(key)).map(|entry| entry.id);
        if self.config.overflow == Overflow::DropOldest {
            self.make_room(device, bytes, urgent, now);
        }
        let has_room = self.has_room(device, bytes, urgent);
        let redrives = entry.queued.redrives;
        let newer = self.newer_than_taken(&entry);
        let is_away = entry.away.is_some();
        self.insert(entry);
        self.effects.push(Effect::Save(id));
        self.end_if_over(id, now);
        if is_away {
            // How it ends is the gateway's to say, which has it or has not.
            self.supersede(id, now);
        } else if let Some(newer) = newer {
            self.end_queued(id, Input::Superseded, Why::by(WhyCode::Superseded, newer.to_string()), now);
        } else if let Some(twin) = twin {
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
        // From another node, where its device had it: it has all of its time again.
        entry.execute_by = now.steady + entry.execution_timeout_ms();
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
        if device.has_many_keys() {
            let keys = device.may_wait().filter_map(|id| self.entries.get(id)?.queued.supersede.clone());
            let kept: HashSet<String> = keys.collect();
            device.keep_keys(&kept);
        }
        let device = &*device;
        let older = device.lane(false).queue.values().chain(device.lane(true).queue.values());
        let has_key = |entry: &Entry| entry.queued.supersede.as_ref() == Some(&key);
        let same = |other: &&CommandId| **other != id && self.entries.get(*other).is_some_and(|entry| has_key(entry));
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
            entry.why = Some(Box::new(why.clone()));
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
