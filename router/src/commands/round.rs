//! One round's decisions: news, the log, the clock, sessions; one commit.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use devices::command::{CommandId, asks_for, command_topic};
use sled_data::OriginId;
use tokio::sync::oneshot;

use super::Commands;
use super::down::{SiteEnded, site_of};
use super::guards::question;
use super::jobs::{JobReply, JobRequest};
use super::mail::{CancelAct, Cancelled, Fate, News, Report};
use super::move_on::Batch;
use super::read::Refused;
use super::table::{CancelError, Effect, Now, Receiver, Table};
use crate::event_log::{AppendError, CommitFailed, ReadError, Ticket};
use crate::security::Asked;
use crate::sessions::{Offer, SessionHandle};

/// Why a round failed: the table is then rebuilt from what is stored.
#[derive(Debug, thiserror::Error)]
pub(super) enum RoundError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Append(#[from] AppendError),
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

/// What a round does once its commit is durable.
pub(super) struct Round {
    /// The commit; none where there was nothing to write.
    pub(super) ticket: Option<Ticket>,
    /// What is taken back from sessions before they get anything.
    pub(super) withdrawn: Vec<(SessionHandle, CommandId)>,
    pub(super) offers: Vec<(SessionHandle, Offer)>,
    /// What other nodes are asked to take.
    pub(super) batches: Vec<Batch>,
    pub(super) questions: Vec<Asked>,
    pub(super) refused: Vec<Refused>,
    pub(super) replies: Vec<CancelReply>,
    pub(super) job_replies: Vec<(oneshot::Sender<JobReply>, JobReply)>,
    /// Gateways that are to be told that their word is durable.
    pub(super) heard_below: Vec<oneshot::Sender<()>>,
}

/// The answer to a call-off, and who waits for it.
type CancelReply = (oneshot::Sender<Cancelled>, Cancelled);

/// Something of each of some devices.
type OfDevices<T> = Vec<(Arc<str>, T)>;

impl Commands {
    /// The round's decisions, in the open commit; `None` when there is nothing to do.
    pub(super) fn decide(&self) -> Result<Option<Round>, RoundError> {
        let mut table = self.table.lock();
        let now = self.now();
        let (mut acts, mut heard_below) = (Vec::new(), Vec::new());
        let (mut replies, mut asked, _) = self.take_news(&mut table, &mut acts, &mut heard_below, now);
        let refused = self.take_new(&mut table, now)?;
        self.take_others(&mut table, now)?;
        let is_held = self.held_until().is_some();
        let (mut found, mut away) = (Vec::new(), Vec::new());
        if !is_held {
            table.tick(now);
            (found, away) = self.find_sessions(&mut table, now);
        }
        // What a session reported before its successor came is taken before that one gets anything: else a command
        // could overtake one that is on its way back.
        let (more_replies, more_asked, has_more) = self.take_news(&mut table, &mut acts, &mut heard_below, now);
        replies.extend(more_replies);
        asked.extend(more_asked);
        if has_more {
            found.drain(..).for_each(|(device, _)| table.session_came(&device));
            away.drain(..).for_each(|(device, _)| table.session_came(&device));
        }
        let job_replies = self.answer_jobs(asked, now);
        self.call_off_jobs(&mut table, now);
        let handles = self.offer_to(&mut table, found, now);
        let batches = if is_held { Vec::new() } else { self.hand_on(&mut table, away, now) };
        let mut effects = table.take_effects();
        let jobs = self.work_jobs(&mut table, &mut effects, now)?;
        let moved = !self.reading.lock().answers_moved.is_empty();
        let is_due = self.unstored.lock().due_ms().is_some_and(|due| due <= now.steady);
        let is_due = is_due || self.down.sites.lock().has_changed();
        let is_idle = effects.is_empty() && !moved && !is_due && jobs.is_empty() && batches.is_empty();
        if is_idle && replies.is_empty() && job_replies.is_empty() && heard_below.is_empty() {
            return Ok(None);
        }
        let ticket = self.record(&mut table, &effects, &acts, &jobs, now)?;
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
        Ok(Some(Round { ticket, withdrawn, offers, batches, questions, refused, replies, job_replies, heard_below }))
    }

    /// Takes the mail: the answers to call-offs, what is asked of jobs, and whether there are more reports.
    fn take_news(
        &self,
        table: &mut Table,
        acts: &mut Vec<CancelAct>,
        heard_below: &mut Vec<oneshot::Sender<()>>,
        now: Now,
    ) -> (Vec<CancelReply>, Vec<JobRequest>, bool) {
        let (News { reports, judgements, cancels, job_requests, moves, sites, links_changed, ended_below }, has_more) =
            self.mail.take();
        if links_changed {
            table.sites_changed();
        }
        for (site, gateway) in sites {
            table.site_came(&site);
            table.ask_all_again(gateway);
            self.movers.lock().ask_now();
        }
        for SiteEnded { gateway, ends, reply } in ended_below {
            ends.into_iter().for_each(|(id, end)| table.ended_at_site(id, gateway, end, now));
            heard_below.push(reply);
        }
        moves.into_iter().for_each(|moves| self.take_moves(table, moves, now));
        for Report { id, session, fate } in reports {
            match fate {
                Fate::Acked => table.delivered(id, session, now),
                Fate::Unsent => table.unsent(id, session, now),
                Fate::TooLarge => table.too_large(id, session, now),
                Fate::Dropped => {
                    let refuses = table.get(id).is_some_and(|entry| self.refuses_repeats(&entry.device));
                    table.dropped(id, session, refuses, now);
                }
            }
        }
        for (id, judgement) in judgements {
            table.judged(id, judgement, now);
        }
        let replies = cancels.into_iter().map(|cancel| {
            let ended = table.cancel(cancel.id, &cancel.by, now);
            if ended == Err(CancelError::Asked) {
                self.movers.lock().ask_now();
            }
            acts.push(CancelAct { id: cancel.id, by: cancel.by, ended });
            (cancel.reply, ended)
        });
        let replies = replies.collect();
        (replies, job_requests, has_more)
    }

    /// Finds the sessions of devices that want one, and the nodes of those that are at another.
    fn find_sessions(&self, table: &mut Table, now: Now) -> (OfDevices<SessionHandle>, OfDevices<OriginId>) {
        let (mut found, mut away) = (Vec::new(), Vec::new());
        let mut ways: BTreeMap<String, Option<OriginId>> = BTreeMap::new();
        for (device, id) in table.take_wanting() {
            if let Some(site) = site_of(&device) {
                let way = match ways.get(site) {
                    Some(way) => *way,
                    None => *ways.entry(site.to_owned()).or_insert(self.way_to(table, site, now)),
                };
                away.extend(way.map(|to| (device, to)));
                continue;
            }
            let Some(entry) = table.get(id) else { continue };
            let topic = command_topic(&device, id, &entry.queued.name);
            match self.sessions.find_receiver(&topic, |filter| asks_for(filter, &topic)) {
                Some(handle) => found.push((device, handle)),
                None => away.extend(self.away_at(&device).map(|to| (device, to))),
            }
        }
        (found, away)
    }

    /// Lets the table hand commands to the sessions that were found.
    fn offer_to(&self, table: &mut Table, found: OfDevices<SessionHandle>, now: Now) -> HashMap<u64, SessionHandle> {
        let guard = self.guard.on_duty();
        let guarded = |device: &str, name: &str| guard.is_some_and(|guard| guard.wants(device, name));
        let mut handles: HashMap<u64, (SessionHandle, [usize; 2])> = HashMap::new();
        for (device, handle) in found {
            let (handle, room) = handles.entry(handle.number()).or_insert_with(|| {
                let room = handle.room();
                (handle, room)
            });
            let mut receiver = Receiver { session: handle.number(), client: handle.client_id(), room: *room };
            table.available(&device, &mut receiver, &guarded, now);
            *room = receiver.room;
        }
        handles.into_iter().map(|(number, (handle, _))| (number, handle)).collect()
    }
}
