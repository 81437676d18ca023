//! Commands that go to another node, where their device is, and those that come from one.
//!
//! A command is with one node at a time. The step `moving` is durable before the other node is asked, so that nobody
//! offers it here from then on, a crash included; `moved` says that the other one has it, `stays` that it has not. What
//! becomes of it there is read from that node's steps.

use std::sync::Arc;

use devices::command::{
    Answer, CommandId, EARLIER_NODES, Input, OriginHex, State, Status, Step, StepEvent, Verdict, Why, WhyCode,
};
use sled_data::OriginId;

use super::effect::{Effect, Ended};
use super::{AnswerError, Answered, Now, Table};
use crate::commands::down::is_at_site;
use crate::commands::entry::{Away, Entry};

/// Time before a command is offered again to the node that has not taken it, in milliseconds.
const RETRY_AFTER_MS: u64 = 500;

/// How many commands, and bytes of them, can be handed over at once.
#[derive(Debug, Clone, Copy)]
pub struct Room {
    /// Commands.
    pub count: usize,
    /// Bytes.
    pub bytes: usize,
}

/// Whether other nodes may say something of a command that has not ended.
pub(super) fn is_shared(entry: &Entry) -> bool {
    entry.away.is_some() || entry.queued.taken.is_some()
}

impl Table {
    /// Whether other nodes may say something of commands here.
    pub fn has_shared(&self) -> bool {
        self.shared > 0
    }

    /// Commands of which it is not known whether another node has them, at most `max`.
    pub fn unsure(&self, max: usize) -> Vec<CommandId> {
        self.unsure.iter().take(max).copied().collect()
    }

    /// Gives commands of a device that wait here to the node that writes `to`, the urgent ones first, as far as there is
    /// room; those that it was. Once this is durable, that node can be asked.
    pub fn hand_over(&mut self, device: &str, to: OriginId, room: &mut Room, now: Now) -> Vec<CommandId> {
        let Some(known) = self.devices.get(device) else { return Vec::new() };
        let waiting = [true, false].into_iter().flat_map(|urgent| known.lane(urgent).queue.values());
        let mut given = Vec::new();
        for id in waiting.copied() {
            let Some(bytes) = self.get(id).map(Entry::bytes) else { continue };
            if room.count == 0 || room.bytes < bytes {
                break;
            }
            (room.count, room.bytes) = (room.count - 1, room.bytes - bytes);
            given.push(id);
        }
        for id in &given {
            let term = self.get(*id).map_or(0, |entry| entry.term) + 1;
            self.append(*id, now, Step::Moving { to: OriginHex(to.0), term });
            self.set_away(*id, Some(Away { to, term, is_sure: false }));
        }
        given
    }

    /// Whether there are more of a device than were given.
    pub fn waits(&self, device: &str) -> bool {
        self.devices.get(device).is_some_and(super::Device::waits)
    }

    /// The node `to` says that it has a command that was handed over to it. What one says who is asked no more is late.
    pub fn moved(&mut self, id: CommandId, to: OriginId, now: Now) {
        let asked = self.get(id).and_then(|entry| entry.away).filter(|away| !away.is_sure && away.to == to);
        let Some(away) = asked else { return };
        if self.get(id).is_some_and(|entry| entry.progress.state().is_outcome()) {
            return;
        }
        self.append(id, now, Step::Moved { to: OriginHex(away.to.0), term: away.term });
        self.set_away(id, Some(Away { is_sure: true, ..away }));
    }

    /// The node `to`, which a command was to be handed over to, has not taken it, and will not.
    pub fn stays(&mut self, id: CommandId, to: OriginId, now: Now) {
        let is_asked = |entry: &&Entry| entry.away.is_some_and(|away| !away.is_sure && away.to == to);
        let Some(entry) = self.get(id).filter(is_asked) else { return };
        if entry.progress.state().is_outcome() {
            return;
        }
        let device = Arc::clone(&entry.device);
        self.append(id, now, Step::Stays);
        self.set_away(id, None);
        self.end_if_called_off(id, now);
        self.rested.insert((now.steady + RETRY_AFTER_MS, device));
    }

    /// Another node has taken a command up under a higher term: it is that node's. What is under way to a session here,
    /// or with its device, stays.
    pub fn taken_up(&mut self, id: CommandId, by: OriginId, term: u64, now: Now) {
        let Some(entry) = self.get(id).filter(|entry| !entry.progress.state().is_outcome()) else { return };
        match entry.away {
            Some(away) if (!away.is_sure && term >= away.term) || term > away.term => {
                self.append(id, now, Step::Moved { to: OriginHex(by.0), term });
                self.set_away(id, Some(Away { to: by, term, is_sure: true }));
            }
            None if entry.waits_here() && term > entry.term => {
                self.append(id, now, Step::Moved { to: OriginHex(by.0), term });
                self.set_away(id, Some(Away { to: by, term, is_sure: true }));
            }
            _ => {}
        }
    }

    /// The same command of a plugin was derived at two nodes, as one has done work of the other that it did not know to
    /// be done: that of the lesser life gives way, where it waits.
    fn derived_twice(&mut self, id: CommandId, (own, from): (OriginId, OriginId), now: Now) {
        let Some(entry) = self.get(id).filter(|entry| entry.waits_here() && entry.queued.cause.is_some()) else {
            return;
        };
        let term = entry.term;
        if own < from && entry.queued.taken.is_none() {
            self.append(id, now, Step::Moved { to: OriginHex(from.0), term });
            self.set_away(id, Some(Away { to: from, term, is_sure: true }));
        }
    }

    /// A step that another node has written, which may have a command that is known here; `own` is this node's life.
    pub fn heard(&mut self, own: OriginId, from: OriginId, device: &str, event: &StepEvent, now: Now) {
        let Some(entry) = self.get(event.id).filter(|entry| *entry.device == *device) else { return };
        if let Step::Queued(queued) = &event.step {
            match queued.taken.as_ref().map(|taken| taken.term) {
                Some(term) => self.taken_up(event.id, from, term, now),
                None => self.derived_twice(event.id, (own, from), now),
            }
            return;
        }
        let answer = match &event.step {
            Step::Succeeded(answer) | Step::Failed(answer) | Step::Rejected(answer) => Some(answer),
            _ => None,
        };
        match (entry.away, event.step.outcome()) {
            (Some(_), Some(outcome)) => self.ended_elsewhere(event.id, outcome, answer, now),
            (None, Some(outcome)) if entry.queued.taken.is_some() => {
                let status = Status::ALL.into_iter().find(|status| status.state() == outcome);
                if let (Some(status), Some(answer)) = (status, answer) {
                    self.answered_before(event.id, status, answer, now);
                }
            }
            _ => {}
        }
    }

    /// Whether an answer that came in at another node counts here; one that does not is not even noted.
    pub fn would_count(&self, id: CommandId, session: u64, status: Status) -> bool {
        let judged = |entry: &Entry| entry.progress.judge(Input::Answered(session, status));
        self.get(id).is_some_and(|entry| matches!(judged(entry), Verdict::Move(_) | Verdict::Late(_)))
    }

    /// The node that had a command before has its device's answer: it counts as one that came in here.
    fn answered_before(&mut self, id: CommandId, status: Status, answer: &Answer, now: Now) {
        if !self.would_count(id, EARLIER_NODES, status) {
            return;
        }
        let Some(device) = self.get(id).map(|entry| Arc::clone(&entry.device)) else { return };
        let answered = Answered {
            device: &device,
            id,
            status,
            percent: answer.percent,
            code: &answer.code,
            text: &answer.text,
            session: EARLIER_NODES,
            client: &device,
            payload: &answer.payload.0,
        };
        match self.answered(answered, now) {
            Ok(()) | Err(AnswerError::Elsewhere | AnswerError::NoCommand | AnswerError::Refused(_)) => {}
        }
    }

    /// A command that another node has ended there. Nothing is appended: the outcome is that node's.
    fn ended_elsewhere(&mut self, id: CommandId, outcome: State, answer: Option<&Answer>, now: Now) {
        let is_new = self.advance(id, Input::Elsewhere(outcome), now).is_some_and(|verdict| verdict.moved());
        if !is_new {
            return;
        }
        if let Some(answer) = answer {
            self.change(id, |entry| {
                entry.result = Some(Box::new(answer.clone()));
                entry.answered = Status::ALL.into_iter().find(|status| status.state() == outcome);
            });
        }
        if let Some(entry) = self.entries.get_mut(&id) {
            entry.changed_ms = now.wall;
        }
        self.effects.push(Effect::Save(id));
        let ended = self.get(id).map(|entry| Ended { is_elsewhere: true, ..Ended::of(entry) });
        self.effects.extend(ended.map(|ended| Effect::Ended(Box::new(ended))));
        self.forget_oldest();
    }

    /// Nothing was heard of a command for longer than the node that has it can need.
    pub(super) fn lost_elsewhere(&mut self, id: CommandId, to: OriginId, now: Now) {
        let why = Why::by(WhyCode::NodeLost, to.to_string());
        self.step(id, Input::Elsewhere(State::Unknown), now, |entry| {
            entry.why = Some(Box::new(why.clone()));
            Step::Unknown(why)
        });
    }

    /// Says where a command is, and keeps the indexes right.
    pub(super) fn set_away(&mut self, id: CommandId, away: Option<Away>) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.progress.state() == State::Queued) else {
            return;
        };
        let (deadline, was_shared) = (entry.deadline(), is_shared(entry));
        self.at_sites.set(entry, None);
        self.at_sites.set(entry, away);
        if let (Some(before), None) = (entry.away, away) {
            // A question of that term may be on its way still: the next one has a higher term.
            entry.term = entry.term.max(before.term);
        }
        entry.away = away;
        let next = entry.deadline();
        if deadline != next {
            deadline.map(|at| self.deadlines.remove(&(at, id)));
            next.map(|at| self.deadlines.insert((at, id)));
        }
        self.shared = self.shared - usize::from(was_shared) + usize::from(is_shared(entry));
        match away {
            Some(away) if !away.is_sure && !is_at_site(&entry.device) => self.unsure.insert(id),
            _ => self.unsure.remove(&id),
        };
        let was_asked = self.devices.get_mut(&entry.device).is_some_and(|device| device.set_away(entry));
        if was_asked {
            self.asked -= 1;
            self.room_for_question();
        }
    }

    /// Whether a submission is one that was handed over to another node and comes back, under a higher term.
    pub fn comes_back(&self, id: CommandId, taken_term: Option<u64>) -> bool {
        let Some(entry) = self.get(id).filter(|entry| entry.progress.state() == State::Queued) else { return false };
        entry.away.is_some_and(|away| taken_term.is_some_and(|term| term > away.term))
    }

    /// A command that is here was taken once more, as it was on its way into the table when its node was found to be lost: it is the same, under
    /// the higher term, which others have read.
    pub(super) fn has_anew(&mut self, id: CommandId, taken_term: Option<u64>) {
        let Some(entry) = self.entries.get_mut(&id).filter(|entry| entry.away.is_none()) else { return };
        if let Some(term) = taken_term.filter(|term| *term > entry.term && !entry.progress.state().is_outcome()) {
            entry.term = term;
            self.effects.push(Effect::Save(id));
        }
    }

    /// Forgets a command that is away: it comes back as another node has it.
    pub(super) fn remove_away(&mut self, id: CommandId) {
        let Some(entry) = self.entries.remove(&id) else { return };
        entry.deadline().map(|at| self.deadlines.remove(&(at, id)));
        self.by_order.remove(&entry.order);
        self.unsure.remove(&id);
        self.at_sites.set(&entry, None);
        self.shared -= usize::from(is_shared(&entry));
        let bytes = entry.bytes();
        self.pending_bytes -= bytes;
        if let Some(key) = entry.queued.idempotency_key.as_deref()
            && self.by_key.get(key) == Some(&id)
        {
            self.by_key.remove(key);
        }
        if let Some(device) = self.devices.get_mut(&entry.device) {
            device.remove(bytes);
            if device.pending == 0 {
                self.devices.remove(&entry.device);
                self.wanting.remove(&entry.device);
            }
        }
    }

    /// The newer command of the same device and supersede key than one that comes from another node, which may be known
    /// here for longer.
    pub(super) fn newer_than_taken(&self, entry: &Entry) -> Option<CommandId> {
        entry.queued.taken.as_ref()?;
        let key = entry.queued.supersede.as_ref()?;
        let waiting = self.devices.get(&entry.device).into_iter().flat_map(super::Device::may_wait);
        let known = waiting.chain(&self.ended).filter_map(|id| self.get(*id));
        let same = known.filter(|other| other.device == entry.device && other.queued.supersede.as_ref() == Some(key));
        same.filter(|other| other.at_ms > entry.at_ms).map(|other| other.id).next()
    }
}
