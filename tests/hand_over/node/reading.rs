//! What a node takes from its own log and from those of others.

use devices::command::Step;

use super::super::log::{Log, answers_of, commands_of, origin};
use super::*;

/// Steps, and answers, that are read of a log at once.
const PIECE: usize = 3;

impl Node {
    /// Reads what is durable and new here.
    pub(super) fn take_new(&mut self, log: &Log, now: Now) {
        for logged in &log.own.steps[self.next_step..] {
            if let Step::Queued(queued) = &logged.event.step
                && !logged.is_own
            {
                self.table.submitted(&logged.device, logged.event.clone(), now);
                if queued.taken.is_some() {
                    self.desk.taken(logged.event.id);
                }
            }
        }
        self.next_step = log.own.steps.len();
        for answer in &log.own.answers[self.next_answer..] {
            self.answers_moved = true;
            // One that does not count changes nothing.
            let _ = self.table.answered(answer.of(answer.session, &answer.client), now);
        }
        self.next_answer = log.own.answers.len();
    }

    /// Reads what is new of others, a piece of each. What nobody here waits for is passed over.
    pub(super) fn take_others(&mut self, log: &Log, now: Now) {
        let is_waiting = self.table.pending() > 0 && !self.has(Bug::OthersAreNotRead);
        let is_shown = self.standing.is_shown(|id| log.visible_end(id));
        let mut has_more = false;
        for (other, image) in &log.copies {
            let cursor = (log.own.cursor(commands_of(*other)), log.own.cursor(answers_of(*other)));
            let (mut steps, mut answers) = *self.others.entry(*other).or_insert(cursor);
            let (steps_end, answers_end) = log.shown.get(other).copied().unwrap_or_default();
            let ends = (steps_end.min(steps + PIECE), answers_end.min(answers + PIECE));
            while is_waiting && steps < ends.0 {
                let logged = &image.steps[steps];
                steps += 1;
                let may_matter = match &logged.event.step {
                    _ if logged.is_own => self.table.has_shared(),
                    Step::Queued(queued) => queued.taken.is_some() || queued.cause.is_some(),
                    _ => false,
                };
                if may_matter {
                    self.table.heard(origin(self.place), origin(*other), &logged.device, &logged.event, now);
                }
            }
            while is_waiting && answers < ends.1 {
                let answer = &image.answers[answers];
                answers += 1;
                let entry = self.table.get(answer.id);
                let Some(session) = entry.and_then(|entry| entry.speaks_for_elsewhere(&answer.client)) else {
                    continue;
                };
                if self.table.would_count(answer.id, session, answer.status) {
                    let _ = self.table.answered(answer.of(session, &answer.client), now);
                }
            }
            if !is_waiting {
                (steps, answers) = (steps.max(steps_end), answers.max(answers_end));
            }
            has_more |= steps < steps_end || answers < answers_end;
            self.others.insert(*other, (steps, answers));
        }
        if is_shown && (!has_more || self.has(Bug::GoesOnAfterThePiece)) {
            self.standing.has_read();
        }
    }

    /// The newest session of each device that wants one, and the nodes of those that are elsewhere.
    #[expect(clippy::type_complexity, reason = "what is found of devices")]
    pub(super) fn find_sessions(
        &mut self,
        around: &Around,
    ) -> (Vec<(Arc<str>, (u64, Arc<str>))>, Vec<(Arc<str>, usize)>) {
        let (mut found, mut away) = (Vec::new(), Vec::new());
        for (device, _) in self.table.take_wanting() {
            let newest = self.sessions.values().rev().find(|session| *session.client == *device);
            match newest.map(|session| (session.number, Arc::<str>::from(session.client.as_str()))) {
                Some(session) => found.push((device, session)),
                None => away.extend(around.away.get(&*device).map(|to| (Arc::clone(&device), *to))),
            }
        }
        (found, away)
    }
}
