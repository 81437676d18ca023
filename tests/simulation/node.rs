//! The node: the product's table of commands, and around it what the room's task does, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devices::command::{CommandId, Refusal};
use edgeway::commands::unstored::{Portion, Unstored};
use edgeway::commands::{AnswerError, Config, Effect, Now, Table, record};
use edgeway::security::Judgement;
use sled_data::PartitionId;

use super::bug::Bug;
use super::disk::{Disk, Logged};
use super::history::{Fact, History};
use super::session::{Fate, Report, Session, Shipped};
use crate::seeded::random::Random;

mod reading;

/// What a round does once its commit is durable.
#[derive(Debug, Default)]
pub struct Round {
    ticket: Option<usize>,
    withdrawn: Vec<(CommandId, u64)>,
    offers: Vec<(u64, Shipped)>,
    questions: Vec<CommandId>,
}

/// What reaches the task besides the log.
#[derive(Debug, Default)]
pub struct Mail {
    pub reports: Vec<Report>,
    pub judgements: Vec<(CommandId, Judgement)>,
    pub cancels: Vec<CommandId>,
}

/// The clocks of one life.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    pub started: u64,
    pub started_wall: u64,
}

impl Clock {
    pub fn steady(&self, time: u64) -> u64 {
        self.started_wall + (time - self.started)
    }
}

/// One life of the node.
pub struct Node {
    pub table: Table,
    config: Config,
    pub clock: Clock,
    unstored: Unstored,
    next_step: usize,
    next_answer: usize,
    answers_moved: bool,
    pub mail: Mail,
    pub sessions: BTreeMap<u64, Session>,
    /// Devices whose sessions have come since the last look.
    pub arrivals: BTreeSet<String>,
    pub questions: Vec<CommandId>,
    pub is_guarded: bool,
    waiting: Option<Round>,
    /// When it tries again after a failure.
    pub retry_at: Option<u64>,
    /// Submissions that were noted as read.
    read: BTreeSet<CommandId>,
    /// Outcomes that were noted.
    known_ends: BTreeSet<CommandId>,
    /// What was ever offered: for a planted bug.
    offered: Vec<(String, Shipped)>,
    bug: Option<Bug>,
}

fn partition() -> PartitionId {
    PartitionId::from_bytes(&[1; 20]).unwrap()
}

/// What the node knows of its devices, by name: whether they refuse what they have done.
pub type Directory = BTreeMap<String, bool>;

impl Node {
    /// A node that starts on what is durable.
    pub fn start(disk: &Disk, clock: Clock, now: Now, config: Config, directory: &Directory, bug: Option<Bug>) -> Node {
        let mut node = Node {
            table: Table::new(config.clone()),
            config,
            clock,
            unstored: Unstored::default(),
            next_step: 0,
            next_answer: 0,
            answers_moved: false,
            mail: Mail::default(),
            sessions: BTreeMap::new(),
            arrivals: BTreeSet::new(),
            questions: Vec::new(),
            is_guarded: false,
            waiting: None,
            retry_at: None,
            read: BTreeSet::new(),
            known_ends: BTreeSet::new(),
            offered: Vec::new(),
            bug,
        };
        node.rebuild(disk, directory, now);
        node
    }

    /// Table, cursors and what is unstored, as the store and the log have them.
    pub fn rebuild(&mut self, disk: &Disk, directory: &Directory, now: Now) {
        let stored = disk.stored.iter().filter_map(|(id, value)| record::decode(id.as_bytes(), value));
        let mut table = Table::restore(self.config.clone(), stored.collect());
        for logged in &disk.steps[disk.cursor..] {
            let is_sent = matches!(logged.event.step, devices::command::Step::Sent { .. });
            if !(is_sent && self.bug == Some(Bug::ReplayForgetsSent)) {
                table.replay(&logged.device, logged.event.clone(), now);
            }
        }
        table.keep_times(&self.table);
        table.resume(|device| directory.get(device).copied().unwrap_or_default(), now);
        table.all_came();
        self.table = table;
        (self.next_step, self.next_answer) = (disk.steps.len(), disk.answers_cursor);
        (self.unstored, self.answers_moved) = (Unstored::default(), false);
        self.retry_at = None;
    }

    /// Whether a round waits for its commit.
    pub fn waits(&self) -> bool {
        self.waiting.is_some()
    }

    /// The first half of a round: what is new goes through the table into the open commit. `between` happens while it
    /// does so.
    #[expect(clippy::too_many_arguments, reason = "a round touches all that there is")]
    pub fn decide(
        &mut self,
        disk: &mut Disk,
        directory: &Directory,
        now: Now,
        is_full: bool,
        random: &mut Random,
        history: &mut History,
        between: impl FnOnce(&mut Node, &mut Random, &mut History),
    ) {
        for device in std::mem::take(&mut self.arrivals) {
            self.table.session_came(&device);
        }
        self.take_news(directory, now);
        self.take_new(disk, now);
        if self.bug != Some(Bug::NoTick) {
            self.table.tick(now);
        }
        self.find_sessions(directory, now, |node| between(node, random, history));
        let effects = self.table.take_effects();
        if is_full {
            // The commit is refused: all that was decided is void.
            self.retry_at = Some(history.time + 1_000);
            return;
        }
        let ticket = self.record(disk, &effects, now);
        let mut round = Round { ticket, ..Round::default() };
        for effect in &effects {
            match effect {
                Effect::Withdraw(id, session) => round.withdrawn.push((*id, *session)),
                Effect::Ask(id) => round.questions.push(*id),
                Effect::Offer(id, session) => self.note_offer(*id, *session, &mut round, history),
                _ => {}
            }
        }
        if self.bug == Some(Bug::OffersBeforeDurable) {
            self.hand_over(std::mem::take(&mut round.offers), random, history);
        }
        self.waiting = Some(round);
    }

    fn note_offer(&mut self, id: CommandId, session: u64, round: &mut Round, history: &mut History) {
        let Some(entry) = self.table.get(id) else { return };
        let overtook = if entry.queued.urgent { None } else { self.urgent_that_waits(&entry.device) };
        history.note(Fact::Offered { id, session, overtook });
        let shipped = Shipped {
            id,
            urgent: entry.queued.urgent,
            expires: entry.deliver_by,
            deliver_by_ms: entry.queued.deliver_by_ms,
        };
        self.offered.push((entry.device.to_string(), shipped.clone()));
        round.offers.push((session, shipped));
    }

    /// An urgent command that waits for a device though there is room for it.
    fn urgent_that_waits(&self, device: &str) -> Option<CommandId> {
        let of = |state| {
            let all = self.table.entries().filter(move |entry| *entry.device == *device && entry.queued.urgent);
            all.filter(move |entry| entry.progress.state() == state)
        };
        let has_room = of(devices::command::State::Sent).count() < self.config.in_flight_per_device_max;
        of(devices::command::State::Queued).map(|entry| entry.id).min().filter(|_| has_room)
    }

    /// The second half: what follows once the commit is durable.
    pub fn complete(&mut self, disk: &Disk, random: &mut Random, history: &mut History) {
        let Some(round) = self.waiting.take_if(|round| round.ticket.is_none_or(|ticket| disk.is_durable(ticket)))
        else {
            return;
        };
        let mut read: Vec<CommandId> =
            self.table.entries().map(|entry| entry.id).filter(|id| !self.read.contains(id)).collect();
        read.sort_unstable();
        self.read.extend(&read);
        read.into_iter().for_each(|id| history.note(Fact::Read(id)));
        for (id, number) in round.withdrawn {
            if self.bug != Some(Bug::NothingIsWithdrawn)
                && let Some(session) = self.sessions.get_mut(&number)
            {
                session.withdraw(id, &mut self.mail.reports);
            }
        }
        self.hand_over(round.offers, random, history);
        self.questions.extend(round.questions);
        let ended = self.table.entries().filter(|entry| entry.progress.state().is_outcome());
        let mut new: Vec<_> =
            ended.filter(|e| !self.known_ends.contains(&e.id)).map(|e| (e.id, e.progress.state())).collect();
        new.sort_unstable_by_key(|(id, _)| *id);
        for (id, state) in new {
            self.known_ends.insert(id);
            history.note(Fact::Outcome { id, state });
        }
    }

    /// Rounds that were not complete are void, and a failure has its pause.
    pub fn start_over(&mut self, disk: &Disk, directory: &Directory, now: Now, history: &mut History) {
        history.note(Fact::StartedOver);
        self.waiting = None;
        self.known_ends.clear();
        self.rebuild(disk, directory, now);
    }

    pub fn take_news(&mut self, directory: &Directory, now: Now) {
        let mail = std::mem::take(&mut self.mail);
        for (id, session, fate) in mail.reports {
            match fate {
                Fate::Acked => self.table.delivered(id, session, now),
                Fate::Unsent => self.table.unsent(id, session, now),
                Fate::Dropped => {
                    let refuses = self.table.get(id).and_then(|entry| directory.get(&*entry.device).copied());
                    let refuses = refuses.unwrap_or_default() || self.bug == Some(Bug::NeverIsResent);
                    self.table.dropped(id, session, refuses, now);
                }
            }
        }
        for (id, judgement) in mail.judgements {
            let is_kept_back = matches!(judgement, Judgement::Deny { .. } | Judgement::Failed { .. });
            let sent = self.offered.iter().any(|(_, shipped)| shipped.id == id);
            if is_kept_back
                && !sent
                && self.bug == Some(Bug::DeniedIsSent)
                && let Some(entry) = self.table.get(id)
            {
                let (urgent, expires) = (entry.queued.urgent, entry.deliver_by);
                let shipped = Shipped { id, urgent, expires, deliver_by_ms: entry.queued.deliver_by_ms };
                let device = entry.device.to_string();
                self.slip_in(&device, shipped);
            }
            self.table.judged(id, judgement, now);
        }
        for id in mail.cancels {
            let _ = self.table.cancel(id, "cli", now);
        }
    }

    /// For planted bugs: a command goes to a device past the table.
    fn slip_in(&mut self, device: &str, shipped: Shipped) {
        let to = self.sessions.values_mut().rev().find(|session| session.client.starts_with(device));
        if let Some(session) = to {
            session.offer(shipped, &mut Vec::new());
        }
    }

    /// A session of a device has come; a planted bug gives it what has ended.
    pub fn came(&mut self, device: &str) {
        self.arrivals.insert(device.to_owned());
        if self.bug == Some(Bug::EndedIsOffered)
            && let Some((_, shipped)) = self.offered.iter().rev().find(|(of, _)| of == device).cloned()
        {
            self.slip_in(device, shipped);
        }
    }
}
