//! The table of commands: pure. Inputs are what was read, what sessions say and the time; outputs are effects.
//!
//! Rules: a device's commands are offered in the order of the log, a few at a time; a device that is away holds
//! back nobody; who refused a command a moment ago is not asked again at once; a command is never offered after
//! its `deliver_by`; ended commands stay up to a bound, then the oldest is forgotten.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use devices::command::{
    ANSWER_WITHIN_DEFAULT_MS, ANSWER_WITHIN_MAX_MS, Answer, CommandId, DELIVER_WITHIN_MAX_MS, Input, PAYLOAD_BYTES_MAX,
    Payload, Progress, Queued, RECIPIENTS_MAX, Refusal, State, Status, Step, StepEvent, Verdict,
};

use super::config::Config;
use super::entry::Entry;

/// Time before a command is offered again to the session that let it fall, in milliseconds.
const RETRY_AFTER_MS: u64 = 100;

/// The node's clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The steady clock, in milliseconds: what deadlines run on.
    pub steady: u64,
    /// The wall clock, in milliseconds since 1970: what events say.
    pub wall: u64,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append a step to the device's key.
    Append(Arc<str>, StepEvent),
    /// Store the command as it is now.
    Save(CommandId),
    /// Delete it from the store.
    Forget(CommandId),
    /// Hand it to a session, after what precedes is in the open commit.
    Offer(CommandId, u64),
}

/// An answer as it was read.
#[derive(Debug, Clone, Copy)]
pub struct Answered<'a> {
    /// The device that the MQTT topic names.
    pub device: &'a str,
    /// The command that it names.
    pub id: CommandId,
    /// The status that it names.
    pub status: Status,
    /// The session that it came through.
    pub session: u64,
    /// That session's client id.
    pub client: &'a str,
    /// The result.
    pub payload: &'a [u8],
}

/// Why an answer changed nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AnswerError {
    /// There is no such command for that device, or it is forgotten.
    NoCommand,
    /// The state machine refuses it.
    Refused(Refusal),
}

#[derive(Debug, Default)]
struct Device {
    /// Commands that wait for a session, by their order.
    queue: BTreeMap<u64, CommandId>,
    in_flight: usize,
    pending: usize,
    /// The session that let a command fall, and until when it is not asked again.
    resting: Option<(u64, u64)>,
}

impl Device {
    fn rests(&self, session: u64, now: Now) -> bool {
        self.resting.is_some_and(|(number, until)| number == session && until > now.steady)
    }
}

/// Every command that the node knows of.
#[derive(Debug)]
pub struct Table {
    config: Config,
    entries: HashMap<CommandId, Entry>,
    devices: BTreeMap<Arc<str>, Device>,
    deadlines: BTreeSet<(u64, CommandId)>,
    /// When devices that let a command fall are to be asked again.
    rested: BTreeSet<(u64, Arc<str>)>,
    /// Devices whose queue or window has changed.
    wanting: BTreeSet<Arc<str>>,
    ended: VecDeque<CommandId>,
    pending_bytes: usize,
    ended_bytes: usize,
    next_order: u64,
    effects: Vec<Effect>,
}

impl Table {
    /// An empty table.
    pub fn new(config: Config) -> Self {
        Self {
            config,
            entries: HashMap::new(),
            devices: BTreeMap::new(),
            deadlines: BTreeSet::new(),
            rested: BTreeSet::new(),
            wanting: BTreeSet::new(),
            ended: VecDeque::new(),
            pending_bytes: 0,
            ended_bytes: 0,
            next_order: 0,
            effects: Vec::new(),
        }
    }

    /// A table of what the store held. What was under way to a session returns: sessions do not outlive the node.
    pub fn restore(config: Config, stored: Vec<Entry>, now: Now) -> Self {
        let mut table = Self::new(config);
        let mut stored = stored;
        stored.sort_by_key(|entry| entry.order);
        for entry in stored {
            let sent_to = entry.progress.session().filter(|_| entry.progress.state() == State::Sent);
            let id = entry.id;
            table.next_order = table.next_order.max(entry.order + 1);
            table.insert(entry);
            if let Some(session) = sent_to {
                table.dropped(id, session, now);
            }
        }
        table.devices.values_mut().for_each(|device| device.resting = None);
        table.rested.clear();
        table
    }

    /// One command.
    pub fn get(&self, id: CommandId) -> Option<&Entry> {
        self.entries.get(&id)
    }

    /// All commands, in no order.
    pub fn entries(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    /// How many have not ended.
    pub fn pending(&self) -> usize {
        self.entries.len() - self.ended.len()
    }

    /// Takes what is to be done.
    pub fn take_effects(&mut self) -> Vec<Effect> {
        std::mem::take(&mut self.effects)
    }

    /// Whether there is room for another command of this size to this device.
    pub fn has_room(&self, device: &str, bytes: usize) -> bool {
        let of_device = self.devices.get(device).map_or(0, |device| device.pending);
        self.pending() < self.config.pending_max
            && of_device < self.config.pending_per_device_max
            && self.pending_bytes + bytes <= self.config.pending_bytes_max
    }

    /// A submitted command was read from the log. One that is known already is left alone.
    pub fn queued(&mut self, device: &str, id: CommandId, at_ms: u64, queued: Queued, now: Now) {
        if self.entries.contains_key(&id) {
            return;
        }
        let left = queued.deliver_by_ms.saturating_sub(now.wall.max(at_ms)).min(DELIVER_WITHIN_MAX_MS);
        let entry = Entry {
            id,
            device: device.into(),
            at_ms,
            queued,
            order: self.next_order,
            progress: Progress::default(),
            recipients: Vec::new(),
            deliver_by: now.steady + left,
            answer_by: 0,
            result: None,
        };
        self.next_order += 1;
        let has_room = self.has_room(device, entry.bytes());
        self.insert(entry);
        self.effects.push(Effect::Save(id));
        if !has_room {
            self.step(id, Input::NoRoom, now, |_| Step::Refused);
        }
    }

    /// Devices that want a session, each with the command that is next: those whose queue or window has changed
    /// since the last call, or `all` of them (when sessions have come or gone).
    pub fn take_wanting(&mut self, all: bool) -> Vec<(Arc<str>, CommandId)> {
        let wanting = std::mem::take(&mut self.wanting);
        let next = |name: &Arc<str>| {
            let device =
                self.devices.get(name).filter(|device| device.in_flight < self.config.in_flight_per_device_max)?;
            let (_, id) = device.queue.first_key_value()?;
            Some((Arc::clone(name), *id))
        };
        match all {
            true => self.devices.keys().filter_map(next).collect(),
            false => wanting.iter().filter_map(next).collect(),
        }
    }

    /// A session can take the device's commands: those that the window has room for are offered to it.
    pub fn available(&mut self, device: &str, session: u64, client: &Arc<str>, now: Now) {
        loop {
            let Some(known) = self.devices.get(device) else { return };
            if known.rests(session, now) || known.in_flight >= self.config.in_flight_per_device_max {
                return;
            }
            let Some((_, &id)) = known.queue.first_key_value() else { return };
            if let Some(entry) = self.entries.get_mut(&id) {
                entry.recipients.retain(|(number, _)| *number != session);
                if entry.recipients.len() >= RECIPIENTS_MAX {
                    entry.recipients.remove(0);
                }
                entry.recipients.push((session, Arc::clone(client)));
            }
            self.step(id, Input::Sent(session), now, |entry| Step::Sent {
                session,
                attempt: entry.progress.attempts(),
            });
            self.effects.push(Effect::Offer(id, session));
        }
    }

    /// A session let a command fall, or ended before the device confirmed.
    pub fn dropped(&mut self, id: CommandId, session: u64, now: Now) {
        let verdict = self.step(id, Input::Dropped(session), now, |_| Step::Returned { session });
        let name = self.entries.get(&id).map(|entry| Arc::clone(&entry.device));
        if let (Some(Verdict::Move(_)), Some(name)) = (verdict, name)
            && let Some(device) = self.devices.get_mut(&name)
        {
            let until = now.steady + RETRY_AFTER_MS;
            device.resting = Some((session, until));
            self.rested.insert((until, name));
        }
    }

    /// The device confirmed its receipt.
    pub fn delivered(&mut self, id: CommandId, session: u64, now: Now) {
        self.step(id, Input::Delivered(session), now, |_| Step::Delivered { session });
    }

    /// A device's answer was read from the log.
    ///
    /// # Errors
    /// When it does not count.
    pub fn answered(&mut self, answer: Answered<'_>, now: Now) -> Result<(), AnswerError> {
        let entry = self.entries.get(&answer.id).filter(|entry| *entry.device == *answer.device);
        let speaks_for = entry.ok_or(AnswerError::NoCommand)?.speaks_for(answer.session, answer.client);
        let fits = answer.payload.len() <= PAYLOAD_BYTES_MAX;
        let kept = Answer {
            session: answer.session,
            payload: Payload(if fits { answer.payload.to_vec() } else { Vec::new() }),
            left_out_bytes: (!fits).then_some(answer.payload.len() as u64),
            late: false,
        };
        let result = kept.payload.0.clone();
        let input = Input::Answered(speaks_for, answer.status);
        let verdict = self.step(answer.id, input, now, |entry| {
            let late = matches!(entry.progress.state(), State::Unknown | State::TimedOut);
            step_of(answer.status, Answer { late, ..kept })
        });
        match verdict {
            Some(Verdict::Refuse(refusal)) => Err(AnswerError::Refused(refusal)),
            Some(Verdict::Move(_) | Verdict::Late(_)) => {
                self.set_result(answer.id, result);
                Ok(())
            }
            Some(Verdict::Nothing) | None => Err(AnswerError::NoCommand),
        }
    }

    /// The time has come this far.
    pub fn tick(&mut self, now: Now) {
        while self.rested.first().is_some_and(|(until, _)| *until <= now.steady) {
            self.wanting.extend(self.rested.pop_first().map(|(_, name)| name));
        }
        while let Some(&(deadline, id)) = self.deadlines.first().filter(|(deadline, _)| *deadline <= now.steady) {
            self.deadlines.remove(&(deadline, id));
            let Some(entry) = self.entries.get(&id) else { continue };
            let input = match entry.progress.state() {
                State::Queued => Input::DeliverByPassed,
                _ => Input::AnswerByPassed,
            };
            self.step(id, input, now, |entry| match entry.progress.state() {
                State::Expired => Step::Expired,
                State::TimedOut => Step::TimedOut,
                _ => Step::Unknown,
            });
        }
    }

    /// When the clock has work next, on the steady clock.
    pub fn next_deadline(&self) -> Option<u64> {
        let deadline = self.deadlines.first().map(|(deadline, _)| *deadline);
        let rested = self.rested.first().map(|(until, _)| *until);
        deadline.into_iter().chain(rested).min()
    }

    /// Runs the machine on one command, keeps the indexes right, and appends the step that `step` makes of it.
    fn step(&mut self, id: CommandId, input: Input, now: Now, step: impl FnOnce(&Entry) -> Step) -> Option<Verdict> {
        let entry = self.entries.get_mut(&id)?;
        let (before, deadline) = (entry.progress.state(), entry.deadline());
        let verdict = entry.progress.apply(input);
        if !matches!(verdict, Verdict::Move(_) | Verdict::Late(_)) {
            return Some(verdict);
        }
        let within = entry.queued.answer_within_ms.unwrap_or(ANSWER_WITHIN_DEFAULT_MS).min(ANSWER_WITHIN_MAX_MS);
        entry.answer_by = now.steady + within;
        let event = StepEvent::new(id, now.wall, step(entry));
        self.effects.push(Effect::Append(Arc::clone(&entry.device), event));
        self.effects.push(Effect::Save(id));
        let after = entry.progress.state();
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, id));
        }
        if let Some(deadline) = entry.deadline() {
            self.deadlines.insert((deadline, id));
        }
        self.reindex(id, before, after);
        Some(verdict)
    }

    fn reindex(&mut self, id: CommandId, before: State, after: State) {
        if before.is_outcome() {
            return;
        }
        let Some(entry) = self.entries.get(&id) else { return };
        let (order, bytes, name) = (entry.order, entry.bytes(), Arc::clone(&entry.device));
        let device = self.devices.entry(Arc::clone(&name)).or_default();
        if after == State::Queued {
            device.queue.insert(order, id);
        } else {
            device.queue.remove(&order);
        }
        device.in_flight -= usize::from(before == State::Sent);
        device.in_flight += usize::from(after == State::Sent);
        if !device.queue.is_empty() {
            self.wanting.insert(Arc::clone(&name));
        }
        if after.is_outcome() {
            device.pending -= 1;
            if device.pending == 0 {
                self.devices.remove(&name);
            }
            self.pending_bytes -= bytes;
            self.ended_bytes += bytes;
            self.ended.push_back(id);
            self.forget_oldest();
        }
    }

    fn forget_oldest(&mut self) {
        while self.ended.len() > self.config.ended_max || self.ended_bytes > self.config.ended_bytes_max {
            let Some(id) = self.ended.pop_front() else { return };
            if let Some(entry) = self.entries.remove(&id) {
                self.ended_bytes -= entry.bytes();
            }
            self.effects.push(Effect::Forget(id));
        }
    }

    fn set_result(&mut self, id: CommandId, result: Vec<u8>) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        let before = entry.bytes();
        entry.result = Some(result);
        let after = entry.bytes();
        let bytes = match entry.progress.state().is_outcome() {
            true => &mut self.ended_bytes,
            false => &mut self.pending_bytes,
        };
        *bytes = *bytes - before + after;
        self.forget_oldest();
    }

    fn insert(&mut self, entry: Entry) {
        let (id, state, bytes) = (entry.id, entry.progress.state(), entry.bytes());
        if let Some(deadline) = entry.deadline() {
            self.deadlines.insert((deadline, id));
        }
        if state.is_outcome() {
            self.ended_bytes += bytes;
            self.ended.push_back(id);
        } else {
            self.pending_bytes += bytes;
            let device = self.devices.entry(Arc::clone(&entry.device)).or_default();
            device.pending += 1;
            device.in_flight += usize::from(state == State::Sent);
            if state == State::Queued {
                device.queue.insert(entry.order, id);
                self.wanting.insert(Arc::clone(&entry.device));
            }
        }
        self.entries.insert(id, entry);
    }
}

fn step_of(status: Status, answer: Answer) -> Step {
    match status {
        Status::Accepted => Step::Accepted(answer),
        Status::InProgress => Step::InProgress(answer),
        Status::Succeeded => Step::Succeeded(answer),
        Status::Failed => Step::Failed(answer),
        Status::Rejected => Step::Rejected(answer),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
