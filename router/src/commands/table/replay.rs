//! The node's own steps, read again after a restart: the table becomes what it was.

use std::sync::Arc;

use devices::command::{Answer, CommandId, Input, OriginHex, Queued, State, Status, Step, StepEvent};
use sled_data::OriginId;

use super::{Effect, Now, SiteEnd, Table};
use crate::commands::entry::Away;

impl Table {
    /// A step was read that this node wrote before it was restarted. A submission is taken as it was then; a step that
    /// the stored command has made already changes nothing.
    pub fn replay(&mut self, device: &str, event: StepEvent, now: Now) {
        match event.step {
            Step::Queued(queued) => self.replay_queued(device, (event.id, event.n), event.at_ms, *queued, now),
            step => {
                let Some(entry) = self.entries.get_mut(&event.id).filter(|entry| entry.steps < event.n) else { return };
                entry.steps = event.n;
                entry.changed_ms = event.at_ms;
                // Time that has passed since counts.
                let passed = now.wall.saturating_sub(event.at_ms);
                let then = Now { steady: now.steady.saturating_sub(passed), wall: event.at_ms };
                self.replay_step(event.id, step, then);
                self.effects.push(Effect::Save(event.id));
            }
        }
    }

    fn replay_queued(&mut self, device: &str, (id, n): (CommandId, u32), at_ms: u64, queued: Queued, now: Now) {
        if self.comes_back(id, queued.taken.as_ref().map(|taken| taken.term)) {
            self.remove_away(id);
        } else if self.entries.contains_key(&id) {
            self.has_anew(id, queued.taken.as_ref().map(|taken| taken.term));
            return self.move_behind(id);
        }
        let mut entry = self.admit(device, id, at_ms, queued, now);
        entry.steps = n;
        let redrives = entry.queued.redrives;
        self.insert(entry);
        self.effects.push(Effect::Save(id));
        if let Some(old) = redrives {
            self.change(old, |entry| entry.redriven_as = Some(id));
            self.effects.push(Effect::Save(old));
        }
    }

    /// A stored command whose submission is read again stands behind all that were read before it: an older one may not
    /// be stored yet, and is read again as well.
    fn move_behind(&mut self, id: CommandId) {
        let Some(entry) = self.entries.get_mut(&id) else { return };
        if let Some(device) = self.devices.get_mut(&entry.device) {
            device.set_order(entry, self.next_order);
        }
        self.by_order.remove(&entry.order);
        self.by_order.insert(self.next_order, entry.id);
        entry.order = self.next_order;
        self.next_order += 1;
        self.effects.push(Effect::Save(id));
    }

    fn replay_step(&mut self, id: CommandId, step: Step, then: Now) {
        let Some(entry) = self.entries.get(&id) else { return };
        if entry.away.is_some()
            && let Some(end) = SiteEnd::of(&step)
        {
            return self.replay_elsewhere(id, end, then);
        }
        let session = entry.progress.session().unwrap_or_default();
        let given_up = match entry.progress.state() {
            State::Sent => Input::Lost(session),
            _ => Input::DeliverByPassed,
        };
        let why = match &step {
            Step::Unknown(why) | Step::Refused(why) | Step::Cancelled(why) | Step::Superseded(why) => Some(why.clone()),
            _ => None,
        };
        let input = match step {
            Step::Queued(_) => return,
            Step::AnswerRefused { .. } => {
                return self.change(id, |entry| entry.answers_refused = entry.answers_refused.saturating_add(1));
            }
            Step::GuardOverridden(why) => return self.change(id, |entry| entry.overridden = Some(Box::new(why))),
            Step::Rewritten(rewritten) => return self.change(id, |entry| entry.rewrite(&rewritten.payload.0)),
            Step::Sent { session, client, .. } => {
                self.change(id, |entry| entry.add_recipient(session, &Arc::from(client)));
                Input::Sent(session)
            }
            Step::Returned { session, unsent: true } => {
                self.change(id, |entry| entry.recipients.retain(|(number, _)| *number != session));
                Input::Unsent(session)
            }
            Step::Returned { session, unsent: false } => Input::Dropped(session),
            Step::Moving { to, term } => return self.replay_away(id, Some((to, term, false))),
            Step::Moved { to, term } => return self.replay_away(id, Some((to, term, true))),
            Step::Stays => return self.replay_away(id, None),
            Step::CallingOff { by } => return self.set_called_off(id, Some(by.into())),
            Step::NotCalledOff { .. } => return self.set_called_off(id, None),
            Step::Delivered { session } => Input::Delivered(session),
            Step::Accepted(answer) => return self.replay_answer(id, session, Status::Accepted, answer, then),
            Step::InProgress(answer) => return self.replay_answer(id, session, Status::InProgress, answer, then),
            Step::Succeeded(answer) => return self.replay_answer(id, session, Status::Succeeded, answer, then),
            Step::Failed(answer) => return self.replay_answer(id, session, Status::Failed, answer, then),
            Step::Rejected(answer) => return self.replay_answer(id, session, Status::Rejected, answer, then),
            Step::Expired => Input::DeliverByPassed,
            Step::TimedOut => Input::ExecutionTimedOut,
            Step::Unknown(_) => given_up,
            Step::Refused(_) => Input::Refused,
            Step::Cancelled(_) => Input::Cancelled,
            Step::Superseded(_) => Input::Superseded,
        };
        self.advance(id, input, then);
        self.change(id, |entry| entry.why = why.map(Box::new).or(entry.why.take()));
        self.forget_oldest();
    }

    fn replay_away(&mut self, id: CommandId, away: Option<(OriginHex, u64, bool)>) {
        let has = self.entries.get(&id).map_or(0, |entry| entry.term);
        if away.is_some_and(|(_, term, _)| term < has) {
            // It was taken once more before this was decided, which came into the log behind.
            return;
        }
        self.set_away(id, away.map(|(to, term, is_sure)| Away { to: OriginId(to.0), term, is_sure }));
    }

    fn replay_elsewhere(&mut self, id: CommandId, end: SiteEnd, then: Now) {
        self.advance(id, Input::Elsewhere(end.outcome), then);
        self.change(id, |entry| end.put(entry));
        self.forget_oldest();
    }

    fn replay_answer(&mut self, id: CommandId, session: u64, status: Status, answer: Answer, then: Now) {
        self.advance(id, Input::Answered(session, status), then);
        self.change(id, |entry| (entry.result, entry.answered) = (Some(Box::new(answer)), Some(status)));
        self.forget_oldest();
    }
}
