//! One round: news, the log, the clock, sessions and other nodes; one commit; and what follows when that is durable.

use edgeway::commands::unstored::Portion;
use edgeway::commands::{Effect, Receiver};

use super::super::log::{Log, answers_of, commands_of};
use super::*;
use crate::simulation::disk::Logged;

impl Node {
    /// A step of the task; what it finds in its surroundings is in `around`.
    pub fn round(&mut self, log: &mut Log, around: &Around, now: Now, is_full: bool, history: &mut History) {
        match self.retry_at {
            Some(at) if at > history.time => return,
            Some(_) => return self.start_over(log, around, now),
            None => {}
        }
        self.complete(log, history);
        if self.waiting.is_some() {
            return;
        }
        let (effects, batches) = self.decide(log, around, now, history);
        if is_full {
            // The commit is refused: all that was decided is void.
            self.retry_at = Some(history.time + 1_000);
            return;
        }
        let ticket = self.record(log, &effects, now);
        let mut round = Round { ticket, batches, ..Round::default() };
        for effect in &effects {
            match effect {
                Effect::Withdraw(id, session) => round.withdrawn.push((*id, *session)),
                Effect::Offer(id, session) => self.note_offer(*id, *session, around, &mut round, history),
                _ => {}
            }
        }
        if self.has(Bug::AsksBeforeDurable) {
            self.asks.append(&mut round.batches);
        }
        self.waiting = Some(round);
    }

    fn decide(&mut self, log: &Log, around: &Around, now: Now, history: &mut History) -> (Vec<Effect>, Vec<Batch>) {
        for device in std::mem::take(&mut self.arrivals) {
            self.table.session_came(&device);
        }
        self.take_news(around, now);
        self.take_new(log, now);
        self.take_others(log, now);
        let is_held = self.standing.held_until(now.steady).is_some();
        let (mut found, mut away) = (Vec::new(), Vec::new());
        if is_held {
            history.note(Fact::Weather { node: self.place, what: "it holds back" });
        } else {
            self.table.tick(now);
            (found, away) = self.find_sessions(around);
        }
        self.take_news(around, now);
        for (device, (number, client)) in found {
            // As if there were always room: what does not fit then is what a session lets fall.
            let mut receiver = Receiver { session: number, client: &client, room: [usize::MAX; 2] };
            self.table.available(&device, &mut receiver, &|_, _| false, now);
        }
        let batches = if is_held { Vec::new() } else { self.hand_on(away, now) };
        (self.table.take_effects(), batches)
    }

    fn note_offer(&self, id: CommandId, session: u64, around: &Around, round: &mut Round, history: &mut History) {
        let Some(entry) = self.table.get(id) else { return };
        let given =
            self.given.get(&id).is_some_and(|(term, by)| *term > entry.term && around.heard_always.contains(by));
        history.note(Fact::Offered { node: self.place, id, given });
        let (urgent, expires, deliver_by_ms) = (entry.queued.urgent, entry.deliver_by, entry.queued.deliver_by_ms);
        round.offers.push((session, Shipped { id, urgent, expires, deliver_by_ms }));
    }

    fn take_news(&mut self, around: &Around, now: Now) {
        let mail = std::mem::take(&mut self.mail);
        for (batch, answer) in mail.moves {
            self.take_moves(&batch, answer, now);
        }
        for (id, session, fate) in mail.reports {
            match fate {
                Fate::Acked => self.table.delivered(id, session, now),
                Fate::Unsent => self.table.unsent(id, session, now),
                Fate::Dropped => {
                    let refuses = self.table.get(id).is_some_and(|entry| around.refuses(&entry.device));
                    self.table.dropped(id, session, refuses, now);
                }
            }
        }
        for id in mail.cancels {
            let _ = self.table.cancel(id, "cli", now);
        }
    }

    /// Puts steps, cursors and a part of what is to be stored into the open commit, if there are any.
    fn record(&mut self, log: &mut Log, effects: &[Effect], now: Now) -> Option<usize> {
        let mut wrote = false;
        for effect in effects {
            match effect {
                Effect::Append(device, event) => {
                    wrote = true;
                    log.open.steps.push(Logged { device: device.to_string(), event: event.clone(), is_own: true });
                }
                Effect::Save(id) => self.unstored.save(*id),
                Effect::Forget(id, is_stored) => self.unstored.forget(*id, *is_stored),
                Effect::Ended(_) | Effect::Ask(_) | Effect::Offer(..) | Effect::Withdraw(..) => {}
            }
        }
        let mut positions = vec![(commands_of(self.place), self.next_step as u64)];
        for (other, (steps, answers)) in &self.others {
            positions.extend([(commands_of(*other), *steps as u64), (answers_of(*other), *answers as u64)]);
        }
        self.unstored.turn(now.steady, || positions);
        let portion = self.unstored.portion(|_| 100);
        wrote |= portion != Portion::default() || self.answers_moved;
        for id in portion.put {
            if let Some(entry) = self.table.get(id) {
                log.open.put.push((id, record::encode(entry)));
                self.table.set_stored(id);
            }
        }
        log.open.delete.extend(portion.delete);
        log.open.cursors.extend(portion.cursor.into_iter().flatten());
        if std::mem::take(&mut self.answers_moved) {
            log.open.cursors.push((answers_of(self.place), self.next_answer as u64));
        }
        wrote.then(|| log.ticket())
    }

    /// The second half: what follows once the commit is durable.
    fn complete(&mut self, log: &Log, history: &mut History) {
        let is_durable = |round: &mut Round| round.ticket.is_none_or(|ticket| log.is_durable(ticket));
        let Some(round) = self.waiting.take_if(is_durable) else { return };
        for (id, number) in round.withdrawn {
            if let Some(session) = self.sessions.get_mut(&number) {
                session.withdraw(id, &mut self.mail.reports);
            }
        }
        let mut full = BTreeSet::new();
        for (number, shipped) in round.offers {
            let Some(session) = self.sessions.get_mut(&number).filter(|_| !full.contains(&number)) else {
                self.mail.reports.push((shipped.id, number, Fate::Unsent));
                continue;
            };
            if !session.offer(shipped, &mut self.mail.reports) {
                full.insert(number);
            }
        }
        if !round.batches.is_empty() {
            history.note(Fact::Weather { node: self.place, what: "it asks" });
        }
        self.asks.extend(round.batches);
    }
}
