//! The room's one task: read, decide, commit, offer.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use devices::command::{COMMAND_PREFIX, CommandId, Repeat, command_topic, refused_topic, response_topic};
use devices::headers;
use serde_json::json;
use sled_data::HeaderBlock;
use tokio::sync::{oneshot, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::guards::{ask, question};
use super::mail::{Cancelled, Fate, News, Report};
use super::read::Refused;
use super::record::{self, COMMANDS_TREE};
use super::table::{Effect, Now, Table};
use super::unstored::Portion;
use super::{Commands, Entry, READER};
use crate::event_log::{Act, AppendError, CommitFailed, NO_HEADERS, NewEvent, OpenCommit, ReadError, Ticket};
use crate::security::Asked;
use crate::sessions::{Arrived, Offer, SessionHandle};

/// Devices whose sessions have come are looked for at most this often, however many come.
const SCAN_EVERY: Duration = Duration::from_millis(5);
/// The longest sleep: clocks are looked at now and then.
const SLEEP_MAX: Duration = Duration::from_secs(60);
/// The pause after a failure before the table is rebuilt.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why a round failed: the table is then rebuilt from what is stored.
#[derive(Debug, thiserror::Error)]
enum RoundError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

/// What a round does once its commit is durable.
struct Round {
    /// The commit; none where there was nothing to write.
    ticket: Option<Ticket>,
    /// What is taken back from sessions before they get anything.
    withdrawn: Vec<(SessionHandle, CommandId)>,
    offers: Vec<(SessionHandle, Offer)>,
    questions: Vec<Asked>,
    refused: Vec<Refused>,
    replies: Vec<(oneshot::Sender<Cancelled>, Cancelled)>,
}

impl Commands {
    /// Runs until `stop` turns true or its sender is gone.
    pub async fn run(self: Arc<Self>, mut stop: watch::Receiver<bool>) {
        let mut visible = self.log.watch();
        let mut sessions = self.sessions.changes();
        let mut arrivals = u64::MAX;
        let mut scan_at = Some(Instant::now());
        let mut scanned = Instant::now();
        self.resume();
        while !*stop.borrow() {
            visible.mark_unchanged();
            if scan_at.is_some_and(|at| at <= Instant::now()) {
                sessions.mark_unchanged();
                (scan_at, scanned) = (None, Instant::now());
                self.note_arrivals(&mut arrivals);
            }
            if let Err(error) = self.round().await {
                tracing::error!(%error, "commands could not be recorded; trying again");
                sleep(RETRY_AFTER).await;
                self.start_over();
                arrivals = u64::MAX;
                scan_at = Some(Instant::now());
                continue;
            }
            let clock = sleep_until(self.wake_at().min(scan_at.unwrap_or_else(far)));
            tokio::select! {
                changed = visible.changed() => if changed.is_err() { return },
                changed = sessions.changed(), if scan_at.is_none() => {
                    if changed.is_err() { return }
                    scan_at = Some(scanned + SCAN_EVERY);
                }
                () = self.mail.arrived.notified() => {}
                () = clock => {}
                stopped = stop.changed() => if stopped.is_err() { return },
            }
        }
    }

    fn start_over(&self) {
        self.stats.rebuilt.fetch_add(1, Relaxed);
        match self.rebuild() {
            Ok(()) => self.resume(),
            Err(error) => tracing::error!(%error, "the commands could not be rebuilt"),
        }
    }

    fn wake_at(&self) -> Instant {
        let deadline = self.table.lock().next_deadline();
        let unstored = self.unstored.lock().due_ms();
        let Some(due) = deadline.into_iter().chain(unstored).min() else { return far() };
        let left = Duration::from_millis(due.saturating_sub(self.now().steady));
        Instant::now() + left.min(SLEEP_MAX)
    }

    /// Tells the table for which devices sessions have come.
    fn note_arrivals(&self, position: &mut u64) {
        let arrived = if *position == u64::MAX { Arrived::Many } else { self.sessions.arrived_since(position) };
        if *position == u64::MAX {
            *position = 0;
            self.sessions.arrived_since(position);
        }
        let mut table = self.table.lock();
        let Arrived::Filters(filters) = arrived else { return table.all_came() };
        for filter in filters {
            let device = filter.strip_prefix(COMMAND_PREFIX).and_then(|rest| rest.split('/').next());
            match device {
                Some("+" | "#") => return table.all_came(),
                Some(device) => table.session_came(device),
                None if filter.starts_with(['+', '#']) || filter.starts_with("edgeway/+") => return table.all_came(),
                None if &*filter == "edgeway/#" => return table.all_came(),
                None => {}
            }
        }
    }

    /// One round: all that is new goes through the table into one commit; what follows is done when that is durable.
    async fn round(&self) -> Result<(), RoundError> {
        let Some(round) = self.decide()? else { return Ok(()) };
        if let Some(ticket) = round.ticket {
            self.log.durable(ticket).await?;
        }
        for (handle, id) in round.withdrawn {
            handle.withdraw(id.as_bytes());
        }
        self.hand_over(round.offers);
        if let Some(guard) = self.guard.on_duty().filter(|_| !round.questions.is_empty()) {
            ask(guard, &self.mail, round.questions);
        }
        for refused in round.refused {
            self.tell(&refused);
        }
        for (reply, cancelled) in round.replies {
            // Who asked may have gone.
            let _ = reply.send(cancelled);
        }
        self.changed.send_modify(|count| *count += 1);
        Ok(())
    }

    /// The round's decisions, in the open commit; `None` when there is nothing to do.
    fn decide(&self) -> Result<Option<Round>, RoundError> {
        let mut table = self.table.lock();
        let now = self.now();
        let mut replies = self.take_news(&mut table, now);
        let refused = self.take_new(&mut table, now)?;
        table.tick(now);
        let found = self.find_sessions(&mut table);
        // What a session reported before its successor came is taken before that one gets anything: else a command
        // could overtake one that is on its way back.
        replies.extend(self.take_news(&mut table, now));
        let handles = self.offer_to(&mut table, found, now);
        let effects = table.take_effects();
        let moved = !self.reading.lock().answers_moved.is_empty();
        let is_due = self.unstored.lock().due_ms().is_some_and(|due| due <= now.steady);
        if effects.is_empty() && !moved && !is_due && replies.is_empty() {
            return Ok(None);
        }
        let ticket = self.record(&mut table, &effects, now)?;
        if ticket.is_some() {
            *self.newest.lock() = ticket;
        }
        let questions = effects.iter().filter_map(|effect| match effect {
            Effect::Ask(id) => question(&table, *id),
            _ => None,
        });
        let questions = questions.collect();
        let withdrawn = effects.iter().filter_map(|effect| match effect {
            Effect::Withdraw(id, session) => Some((handles.get(session)?.clone(), *id)),
            _ => None,
        });
        let withdrawn = withdrawn.collect();
        let offers = self.offers(&table, &effects, &handles, now);
        Ok(Some(Round { ticket, withdrawn, offers, questions, refused, replies }))
    }

    fn take_news(&self, table: &mut Table, now: Now) -> Vec<(oneshot::Sender<Cancelled>, Cancelled)> {
        let News { reports, judgements, cancels } = self.mail.take();
        for Report { id, session, fate } in reports {
            match fate {
                Fate::Acked => table.delivered(id, session, now),
                Fate::Unsent => table.unsent(id, session, now),
                Fate::Dropped => {
                    let refuses = table.get(id).is_some_and(|entry| self.refuses_repeats(&entry.device));
                    table.dropped(id, session, refuses, now);
                }
            }
        }
        for (id, judgement) in judgements {
            table.judged(id, judgement, now);
        }
        cancels.into_iter().map(|cancel| (cancel.reply, table.cancel(cancel.id, &cancel.by, now))).collect()
    }

    /// Finds the sessions of devices that want one.
    fn find_sessions(&self, table: &mut Table) -> Vec<(Arc<str>, SessionHandle)> {
        let mut found = Vec::new();
        for (device, id) in table.take_wanting() {
            let Some(entry) = table.get(id) else { continue };
            let topic = command_topic(&device, id, &entry.queued.name);
            found.extend(self.sessions.find_receiver(&topic).map(|handle| (device, handle)));
        }
        found
    }

    /// Lets the table hand commands to the sessions that were found.
    fn offer_to(
        &self,
        table: &mut Table,
        found: Vec<(Arc<str>, SessionHandle)>,
        now: Now,
    ) -> HashMap<u64, SessionHandle> {
        let guarded = self.guard.on_duty().is_some();
        let mut handles = HashMap::new();
        for (device, handle) in found {
            table.available(&device, handle.number(), handle.client_id(), guarded, now);
            handles.insert(handle.number(), handle);
        }
        handles
    }

    /// Puts steps, ends, cursors and a part of what is to be stored into the open commit, if there are any.
    fn record(&self, table: &mut Table, effects: &[Effect], now: Now) -> Result<Option<Ticket>, AppendError> {
        let mut unstored = self.unstored.lock();
        let mut reading = self.reading.lock();
        let mut open = self.log.lock();
        open.check(0)?;
        let mut own = HeaderBlock::new();
        own.push(headers::OWN_STEP, &[]);
        let mut wrote = false;
        for effect in effects {
            match effect {
                Effect::Append(device, event) => {
                    self.stats.count(&event.step);
                    let value = event.encode();
                    let new = NewEvent {
                        timestamp_ms: i64::try_from(event.at_ms).unwrap_or(i64::MAX),
                        key: Some(device.as_bytes()),
                        value: Some(&value),
                        headers: &own,
                        extra: &NO_HEADERS,
                        fanned_out: true,
                    };
                    open.append_keyed(&self.commands, &new)?;
                    wrote = true;
                }
                Effect::Save(id) => unstored.save(*id),
                Effect::Forget(id, is_stored) => unstored.forget(*id, *is_stored),
                Effect::Ended(id) => {
                    if let Some(entry) = table.get(*id) {
                        audit_end(&mut open, entry)?;
                    }
                }
                Effect::Ask(_) | Effect::Offer(..) | Effect::Withdraw(..) => {}
            }
        }
        unstored.turn(now.steady, &reading.commands);
        let portion = unstored.portion();
        wrote |= portion != Portion::default() || !reading.answers_moved.is_empty();
        for id in portion.put {
            if let Some(entry) = table.get(id) {
                open.put_state(COMMANDS_TREE, id.as_bytes(), Some(&record::encode(entry)));
                table.set_stored(id);
            }
        }
        for id in portion.delete {
            open.put_state(COMMANDS_TREE, id.as_bytes(), None);
        }
        for (partition, next) in portion.cursor.into_iter().flatten() {
            open.move_cursor(READER, partition, next);
        }
        for place in std::mem::take(&mut reading.answers_moved) {
            if let Some((partition, next)) = reading.answers.get(place) {
                open.move_cursor(READER, *partition, *next);
            }
        }
        Ok(wrote.then(|| open.ticket()))
    }

    /// The messages to sessions. What follows from them is reported to the next round.
    fn offers(
        &self,
        table: &Table,
        effects: &[Effect],
        handles: &HashMap<u64, SessionHandle>,
        now: Now,
    ) -> Vec<(SessionHandle, Offer)> {
        let mut offers = Vec::new();
        for effect in effects {
            let Effect::Offer(id, session) = *effect else { continue };
            let (Some(entry), Some(handle)) = (table.get(id), handles.get(&session)) else { continue };
            offers.push((handle.clone(), self.offer(entry, session, now)));
        }
        offers
    }

    fn offer(&self, entry: &Entry, session: u64, now: Now) -> Offer {
        let (id, mail, mut written) = (entry.id, Arc::clone(&self.mail), false);
        let topic = command_topic(&entry.device, id, &entry.queued.name);
        let mut offer = Offer::new(topic.into(), entry.queued.payload.0.as_slice().into(), move |delivery| {
            if let Some(fate) = Fate::of(delivery, &mut written) {
                mail.report(Report { id, session, fate });
            }
        });
        let left = Duration::from_millis(entry.deliver_by.saturating_sub(now.steady));
        offer.expires = Some(std::time::Instant::now() + left);
        offer.urgent = entry.queued.urgent;
        offer.response_topic = Some(response_topic(&entry.device, id).into());
        offer.correlation = Some(id.as_bytes().as_slice().into());
        offer.user = properties(entry);
        offer
    }

    /// Hands commands to their sessions. A session that takes one not takes none of those behind it, so that none
    /// overtakes it; dropping an offer reports it.
    fn hand_over(&self, offers: Vec<(SessionHandle, Offer)>) {
        let mut full = HashSet::new();
        for (handle, offer) in offers {
            if full.contains(&handle.number()) {
                continue;
            }
            self.stats.offered.fetch_add(1, Relaxed);
            if let Err(offer) = handle.offer(offer) {
                full.insert(handle.number());
                drop(offer);
            }
        }
    }

    /// Tells whoever listens for a device that an answer does not count; nothing waits for it.
    fn tell(&self, refused: &Refused) {
        let topic = refused_topic(&refused.device, refused.id, refused.code);
        if let Some(handle) = self.sessions.find_receiver(&topic) {
            let _ = handle.offer(Offer::new(topic.into(), refused.code.as_bytes().into(), |_| {}));
        }
    }
}

/// What goes with a command as MQTT 5 user properties.
fn properties(entry: &Entry) -> Vec<(&'static str, String)> {
    let mut user = vec![
        ("deliver-by", entry.queued.deliver_by_ms.to_string()),
        ("execution-timeout", entry.execution_timeout_ms().to_string()),
        ("attempt", entry.progress.attempts().to_string()),
    ];
    if entry.queued.urgent {
        user.push(("urgent", "1".to_owned()));
    }
    if entry.queued.repeat == Repeat::Never {
        user.push(("repeat", "never".to_owned()));
    }
    user
}

/// Writes down how a command ended.
fn audit_end(open: &mut OpenCommit<'_>, entry: &Entry) -> Result<(), AppendError> {
    let code = entry.why.as_ref().map(|why| why.code);
    open.audit(Act {
        who: &entry.queued.issued_by,
        act: "command.send",
        what: &entry.device,
        outcome: entry.progress.state().as_str(),
        detail: json!({"id": entry.id, "name": entry.queued.name, "at_ms": entry.at_ms, "code": code}),
    })
}

fn far() -> Instant {
    Instant::now() + SLEEP_MAX
}
