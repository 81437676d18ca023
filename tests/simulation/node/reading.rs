//! The node's readers and writers: what it takes from the log, whom it finds, and what it puts into the commit.

use edgeway::commands::Receiver;

use super::*;

impl Node {
    /// Reads what is durable and new.
    pub(super) fn take_new(&mut self, disk: &Disk, now: Now) {
        for logged in &disk.steps[self.next_step..] {
            if let devices::command::Step::Queued(queued) = &logged.event.step
                && !logged.is_own
            {
                self.supersede_by_hand(&logged.device, queued, now);
                let mut queued = (**queued).clone();
                if self.bug == Some(Bug::SupersedeMissesReturned) {
                    queued.supersede = None;
                }
                self.table.queued(&logged.device, logged.event.id, logged.event.at_ms, queued, now);
            }
        }
        self.next_step = disk.steps.len();
        for answer in &disk.answers[self.next_answer..] {
            self.answers_moved = true;
            let entry = self.table.get(answer.id);
            let newest = entry.and_then(|entry| entry.recipients.last().cloned());
            let stands_for = newest.filter(|_| self.bug == Some(Bug::AnyRecipient));
            let (session, client) =
                stands_for.map_or((answer.session, answer.client.clone()), |(n, client)| (n, client.to_string()));
            let taken: Result<(), AnswerError> = self.table.answered(answer.of(session, &client), now);
            debug_assert!(taken != Err(AnswerError::Refused(Refusal::AlreadySent)));
        }
        self.next_answer = disk.answers.len();
    }

    /// For a planted bug: what waits at this moment is superseded, and nothing later.
    fn supersede_by_hand(&mut self, device: &str, queued: &devices::command::Queued, now: Now) {
        if self.bug != Some(Bug::SupersedeMissesReturned) || queued.supersede.is_none() {
            return;
        }
        let waits = |entry: &&edgeway::commands::Entry| {
            *entry.device == *device && entry.queued.name == queued.name && entry.progress.attempts() == 0
        };
        let mut older: Vec<CommandId> = self.table.entries().filter(waits).map(|entry| entry.id).collect();
        older.sort_unstable();
        for id in older {
            let _ = self.table.cancel(id, "newer", now);
        }
    }

    /// Finds the newest session of each device that wants one. What its predecessors reported before it came is taken
    /// first, as the room does.
    pub(super) fn find_sessions(&mut self, directory: &Directory, now: Now, between: impl FnOnce(&mut Node)) {
        between(self);
        let wanting = self.table.take_wanting();
        let newest = |name: &str, node: &Node| {
            let found = node.sessions.values().rev().find(|session| directory_name(session) == name);
            found.map(|session| (session.number, Arc::<str>::from(session.client.as_str())))
        };
        let found: Vec<_> =
            wanting.iter().filter_map(|(name, _)| newest(name, self).map(|found| (Arc::clone(name), found))).collect();
        if self.bug != Some(Bug::SuccessorBeforeNews) {
            self.take_news(directory, now);
        }
        for (name, (number, client)) in found {
            // As if there were always room: what does not fit then is what a session lets fall.
            let mut receiver = Receiver { session: number, client: &client, room: [usize::MAX; 2] };
            let is_guarded = self.is_guarded;
            self.table.available(&name, &mut receiver, &|_, _| is_guarded, now);
        }
    }

    /// Puts steps, cursors and a part of what is to be stored into the open commit, if there are any.
    pub(super) fn record(&mut self, disk: &mut Disk, effects: &[Effect], now: Now) -> Option<usize> {
        let mut wrote = false;
        for effect in effects {
            match effect {
                Effect::Append(device, event) => {
                    wrote = true;
                    let ends = super::super::history::outcome_of(&event.step).is_some();
                    if !(ends && self.bug == Some(Bug::OutcomeNotAppended)) {
                        let logged = Logged { device: device.to_string(), event: event.clone(), is_own: true };
                        disk.open.steps.push(logged);
                    }
                }
                Effect::Save(id) => self.unstored.save(*id),
                Effect::Forget(id, is_stored) => self.unstored.forget(*id, *is_stored),
                Effect::Ended(_) | Effect::Ask(_) | Effect::Offer(..) | Effect::Withdraw(..) => {}
            }
        }
        let positions = vec![(partition(), self.next_step as u64)];
        self.unstored.turn(now.steady, || positions.clone());
        let mut portion = self.unstored.portion(|_| 100);
        if self.bug == Some(Bug::CursorRunsAhead) && portion.cursor.is_some() {
            portion.cursor = Some(positions);
        }
        wrote |= portion != Portion::default() || self.answers_moved;
        for id in portion.put {
            if let Some(entry) = self.table.get(id) {
                disk.open.put.push((id, record::encode(entry)));
                self.table.set_stored(id);
            }
        }
        disk.open.delete.extend(portion.delete);
        if let Some((_, next)) = portion.cursor.into_iter().flatten().next() {
            disk.open.cursor = Some(usize::try_from(next).unwrap());
        }
        if std::mem::take(&mut self.answers_moved) {
            disk.open.answers_cursor = Some(self.next_answer);
        }
        wrote.then(|| disk.ticket())
    }

    /// A session that takes one not takes none of those behind it. It may write meanwhile.
    pub(super) fn hand_over(&mut self, offers: Vec<(u64, Shipped)>, random: &mut Random, history: &mut History) {
        let steady = self.clock.steady(history.time);
        let mut full = BTreeSet::new();
        for (number, shipped) in offers {
            let refused = full.contains(&number) && self.bug != Some(Bug::FullSessionTakesOn);
            let Some(session) = self.sessions.get_mut(&number).filter(|_| !refused) else {
                self.mail.reports.push((shipped.id, number, Fate::Unsent));
                continue;
            };
            if !session.offer(shipped, &mut self.mail.reports) {
                full.insert(number);
            }
            if random.chance(300) {
                session.write(steady, self.bug, &mut self.mail.reports, history);
            }
        }
    }
}

/// The name of the device that a session takes commands of.
fn directory_name(session: &Session) -> String {
    format!("device-{}", session.device)
}
