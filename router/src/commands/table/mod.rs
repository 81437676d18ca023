//! The table of commands: pure. Inputs are what was read, what sessions and guards say, and the time; outputs are
//! effects.
//!
//! Rules: a device's commands are offered in the order of the log, a few at a time; urgent ones overtake the others;
//! a device that is away holds back nobody; who let a command fall a moment ago is not asked again at once; a command
//! is never offered after its `deliver_by`; ended commands stay up to a bound, then the oldest is forgotten.
//!
//! `intake` takes submissions, `dispatch` hands commands to sessions, `answers` takes what devices say, `ends` what
//! the clock, people and newer commands end; `away` is about commands that go to other nodes or come from them, `at_sites` about those that go to a linked site; `replay` repeats the node's own steps after a restart; `device` is one
//! device's queues; this file keeps the indexes.

mod answers;
mod at_sites;
mod away;
mod crowd;
mod device;
mod dispatch;
mod effect;
mod ends;
mod hash;
mod intake;
mod replay;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use devices::command::{CommandId, Input, State, Step, StepEvent, Verdict};

use super::config::Config;
use super::down::is_at_site;
use super::entry::Entry;
use crowd::Crowds;
use device::Device;
use hash::ById;

pub use answers::{AnswerError, Answered};
pub use at_sites::SiteEnd;
pub use away::Room;
pub use dispatch::{Guarded, Receiver};
pub use effect::{Effect, Ended, Now};
pub use ends::{CancelError, ENDED_AT_ONCE_MAX};

/// Every command that the node knows of.
#[derive(Debug)]
pub struct Table {
    config: Config,
    entries: ById<Box<Entry>>,
    /// Devices with commands that have not ended.
    devices: BTreeMap<Arc<str>, Device>,
    deadlines: BTreeSet<(u64, CommandId)>,
    /// When devices that let a command fall are to be asked again.
    rested: BTreeSet<(u64, Arc<str>)>,
    /// Devices whose queue or window has changed.
    wanting: BTreeSet<Arc<str>>,
    crowds: Crowds,
    /// All commands, in the order of their submission.
    by_order: BTreeMap<u64, CommandId>,
    /// Commands by the key under which they were submitted.
    by_key: HashMap<String, CommandId>,
    ended: VecDeque<CommandId>,
    pending_bytes: usize,
    ended_bytes: usize,
    /// Commands that guards think about.
    asked: usize,
    /// Commands that other nodes may have, and have not said so.
    unsure: BTreeSet<CommandId>,
    /// Commands that were handed to a gateway of a linked site and have not ended.
    at_sites: at_sites::AtSites,
    /// Commands that have not ended and that other nodes may have, or have had: their words are read.
    shared: usize,
    next_order: u64,
    effects: Vec<Effect>,
}

impl Table {
    /// An empty table.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            entries: ById::default(),
            devices: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            rested: BTreeSet::new(),
            wanting: BTreeSet::new(),
            crowds: Crowds::default(),
            by_order: BTreeMap::new(),
            by_key: HashMap::new(),
            ended: VecDeque::new(),
            pending_bytes: 0,
            ended_bytes: 0,
            asked: 0,
            unsure: BTreeSet::new(),
            at_sites: at_sites::AtSites::default(),
            shared: 0,
            next_order: 0,
            effects: Vec::new(),
        }
    }

    /// One command.
    pub fn get(&self, id: CommandId) -> Option<&Entry> {
        self.entries.get(&id).map(Box::as_ref)
    }

    /// The command that was submitted under a key.
    pub fn by_key(&self, key: &str) -> Option<&Entry> {
        self.by_key.get(key).and_then(|id| self.get(*id))
    }

    /// All commands, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Entry> {
        self.by_order.values().rev().filter_map(|id| self.get(*id))
    }

    /// All commands, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values().map(Box::as_ref)
    }

    /// How many have not ended.
    pub fn pending(&self) -> usize {
        self.entries.len() - self.ended.len()
    }

    /// Whether a device has commands that have not ended.
    pub fn has_pending(&self, device: &str) -> bool {
        self.devices.contains_key(device)
    }

    /// The place that the next command gets in the order of all.
    pub fn next_order(&self) -> u64 {
        self.next_order
    }

    /// Takes what is to be done.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Notes that the store has a command in its newest state.
    pub fn set_stored(&mut self, id: CommandId) {
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.is_stored = true;
        }
    }

    /// When the clock has work next, on the steady clock.
    pub fn next_deadline(&self) -> Option<u64> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let rested = self.rested.first().map(|(until, _)| *until);
        deadline.into_iter().chain(rested).min()
    }

    /// Runs the machine on one command and appends the step that `step` makes of where it led.
    fn step(
        &mut self,
        id: CommandId,
        input: Input,
        now: Now,
        step: impl FnOnce(&mut Entry) -> Step,
    ) -> Option<Verdict> {
        let verdict = self.advance(id, input, now)?;
        if let Verdict::Move(_) | Verdict::Late(_) = verdict
            && let Some(entry) = self.entries.get_mut(&id)
        {
            let step = step(entry);
            self.append(id, now, step);
            self.settle(id);
        }
        Some(verdict)
    }

    /// Appends a step of a command and notes that it is to be stored.
    fn append(&mut self, id: CommandId, now: Now, step: Step) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        entry.steps += 1;
        entry.changed_ms = now.wall;
        let event = StepEvent::new(id, now.wall, entry.steps, step);
        self.effects.push(Effect::Append(Arc::clone(&entry.device), event));
        self.effects.push(Effect::Save(id));
    }

    /// Runs the machine on one command and keeps the indexes right.
    fn advance(&mut self, id: CommandId, input: Input, now: Now) -> Option<Verdict> {
        let entry = self.entries.get_mut(&id)?;
        let (before, deadline) = (entry.progress.state(), entry.deadline());
        let verdict = entry.progress.apply(input);
        let Verdict::Move(after) = verdict else { return Some(verdict) };
        // The clock of execution starts with the sending, and anew when the device has it.
        if after == State::Sent || (after.is_with_device() && !before.is_with_device()) {
            entry.execute_by = now.steady + entry.execution_timeout_ms();
        }
        let next = entry.deadline();
        if deadline != next {
            deadline.map(|at| self.deadlines.remove(&(at, id)));
            next.map(|at| self.deadlines.insert((at, id)));
        }
        self.reindex(id, before, after);
        Some(verdict)
    }

    fn reindex(&mut self, id: CommandId, before: State, after: State) {
        let Some(entry) = self.entries.get(&id).filter(|_| !before.is_outcome()) else { return };
        let bytes = entry.bytes();
        let Some(device) = self.devices.get_mut(&entry.device) else { return };
        device.moved(entry, before, after);
        let was_asked = device.forget_ask(entry.order, after);
        if device.waits() {
            self.wanting.insert(Arc::clone(&entry.device));
        }
        if was_asked {
            self.asked -= 1;
            let next = self.crowds.next_to_ask();
            self.wanting.extend(next.filter(|device| self.devices.contains_key(device)));
        }
        let Some(device) = self.devices.get_mut(&entry.device) else { return };
        if after.is_outcome() {
            self.unsure.remove(&id);
            self.at_sites.set(entry, None);
            self.shared -= usize::from(away::is_shared(entry));
            device.remove(bytes);
            if device.pending == 0 {
                let name = Arc::clone(&entry.device);
                self.devices.remove(&name);
                self.wanting.remove(&name);
            }
            self.pending_bytes -= bytes;
            self.ended_bytes += bytes;
            self.ended.push_back(id);
        }
    }

    /// After a step: who is newer ends what came back, and the oldest ended are forgotten.
    fn settle(&mut self, id: CommandId) {
        let ended = self.get(id).filter(|entry| entry.progress.state().is_outcome()).map(Ended::of);
        self.effects.extend(ended.map(|ended| Effect::Ended(Box::new(ended))));
        self.forget_oldest();
    }

    fn forget_oldest(&mut self) {
        while self.ended.len() > self.config.ended_max || self.ended_bytes > self.config.ended_bytes_max {
            let Some(id) = self.ended.pop_front() else { return };
            let Some(entry) = self.entries.remove(&id) else { continue };
            self.by_order.remove(&entry.order);
            self.ended_bytes -= entry.bytes();
            if let Some(key) = entry.queued.idempotency_key.as_deref()
                && self.by_key.get(key) == Some(&id)
            {
                self.by_key.remove(key);
            }
            self.effects.push(Effect::Forget(id, entry.is_stored));
        }
    }

    /// Changes what a command holds, and keeps count of its bytes.
    fn change(&mut self, id: CommandId, change: impl FnOnce(&mut Entry)) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = entry.bytes();
        change(entry);
        let after = entry.bytes();
        if entry.progress.state().is_outcome() {
            self.ended_bytes = self.ended_bytes - before + after;
        } else {
            self.pending_bytes = self.pending_bytes - before + after;
            if let Some(device) = self.devices.get_mut(&entry.device) {
                device.bytes = device.bytes - before + after;
            }
        }
    }

    fn insert(&mut self, entry: Entry) {
        let (id, state, bytes) = (entry.id, entry.progress.state(), entry.bytes());
        if let Some(deadline) = entry.deadline() {
            self.deadlines.insert((deadline, id));
        }
        if let Some(key) = &entry.queued.idempotency_key {
            self.by_key.entry(key.clone()).or_insert(id);
        }
        if state.is_outcome() {
            self.ended_bytes += bytes;
            self.ended.push_back(id);
        } else {
            self.pending_bytes += bytes;
            let device = self.devices.entry(Arc::clone(&entry.device)).or_default();
            device.insert(&entry, bytes);
            self.shared += usize::from(away::is_shared(&entry));
            self.at_sites.set(&entry, entry.away);
            if entry.away.is_some_and(|away| !away.is_sure) && !is_at_site(&entry.device) {
                self.unsure.insert(id);
            }
            if state == State::Queued {
                self.wanting.insert(Arc::clone(&entry.device));
            }
        }
        self.by_order.insert(entry.order, id);
        self.entries.insert(id, Box::new(entry));
    }
}

#[cfg(test)]
mod tests;
