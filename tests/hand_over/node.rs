//! A node: the product's table of commands and its desk, and around them what the room's task does, step by step.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use devices::command::CommandId;
use edgeway::commands::unstored::Unstored;
use edgeway::commands::{Config, Desk, Judged, MoveV2, MovedV2, Now, Standing, Table, record};
use edgeway::node::Arrived;

use super::bug::Bug;
use super::history::{Fact, History};
use super::log::{Log, answers_of, commands_of};
use crate::simulation::session::{Fate, Report, Session, Shipped};

mod moving;
mod reading;
mod rounds;
mod taking_up;

/// Commands that a node is to be asked to take.
#[derive(Debug, Clone)]
pub struct Batch {
    pub to: usize,
    pub ids: Vec<CommandId>,
    pub moves: Vec<MoveV2>,
    pub is_first: bool,
}

/// What came of a question.
#[derive(Debug, Clone)]
pub enum Answer {
    Said(Vec<MovedV2>),
    Unreachable,
    Unanswered,
}

/// What a round does once its commit is durable.
#[derive(Debug, Default)]
pub struct Round {
    ticket: Option<usize>,
    withdrawn: Vec<(CommandId, u64)>,
    offers: Vec<(u64, Shipped)>,
    batches: Vec<Batch>,
}

/// What reaches the task besides the log.
#[derive(Debug, Default)]
pub struct Mail {
    pub reports: Vec<Report>,
    pub moves: Vec<(Batch, Answer)>,
    pub cancels: Vec<CommandId>,
}

/// What is under way to other nodes.
#[derive(Debug, Default)]
struct Movers {
    asked: BTreeSet<usize>,
    out: BTreeSet<usize>,
    waiting: BTreeSet<Arc<str>>,
    again_ms: u64,
}

/// A question that is answered when what it took is durable.
pub struct Reply {
    pub question: u64,
    pub judged: Vec<Judged>,
    pub said: Vec<MovedV2>,
    pub ticket: Option<usize>,
}

/// What a node knows of what is around it.
#[derive(Debug, Clone, Default)]
pub struct Around {
    /// Where devices are that are connected to another node.
    pub away: BTreeMap<String, usize>,
    /// Whether devices refuse what they have done.
    pub refuses: BTreeMap<String, bool>,
    /// Others that are heard, and have been since this node was started.
    pub heard_always: BTreeSet<usize>,
}

impl Around {
    fn refuses(&self, device: &str) -> bool {
        self.refuses.get(device).copied().unwrap_or_default()
    }
}

/// One life of a node.
pub struct Node {
    pub place: usize,
    pub number: u64,
    pub up_at: u64,
    pub table: Table,
    config: Config,
    desk: Desk,
    unstored: Unstored,
    next_step: usize,
    next_answer: usize,
    answers_moved: bool,
    /// Where others' steps and answers are read next.
    others: BTreeMap<usize, (usize, usize)>,
    pub mail: Mail,
    pub sessions: BTreeMap<u64, Session>,
    /// Devices whose sessions have come, here or elsewhere, since the last look.
    pub arrivals: BTreeSet<String>,
    waiting: Option<Round>,
    retry_at: Option<u64>,
    movers: Movers,
    /// Whether what was open is held back.
    standing: Standing,
    pub replies: Vec<Reply>,
    /// What is to be asked of others.
    pub asks: Vec<Batch>,
    /// What survivors had taken up when this life began: the term, and who.
    pub given: BTreeMap<CommandId, (u64, usize)>,
    taking_up: BTreeMap<usize, (u64, usize)>,
    bug: Option<Bug>,
}

impl Node {
    /// A node that starts on what is durable.
    pub fn start(place: usize, number: u64, log: &Log, around: &Around, now: Now, time: u64, bug: Option<Bug>) -> Node {
        let config = Config { in_flight_per_device_max: 3, deliveries_max: 4, ..Config::default() };
        let mut node = Node {
            place,
            number,
            up_at: time,
            table: Table::new(config.clone()),
            config,
            desk: Desk::default(),
            unstored: Unstored::default(),
            next_step: 0,
            next_answer: 0,
            answers_moved: false,
            others: BTreeMap::new(),
            mail: Mail::default(),
            sessions: BTreeMap::new(),
            arrivals: BTreeSet::new(),
            waiting: None,
            retry_at: None,
            movers: Movers::default(),
            standing: Standing::default(),
            replies: Vec::new(),
            asks: Vec::new(),
            given: BTreeMap::new(),
            taking_up: BTreeMap::new(),
            bug,
        };
        node.rebuild(log, around, now);
        if !log.copies.is_empty() && node.table.pending() > 0 && !node.has(Bug::GoesOnAtOnce) {
            node.standing.hold(now.steady);
        }
        node
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    /// Table, cursors and what is unstored, as the store and the log have them.
    fn rebuild(&mut self, log: &Log, around: &Around, now: Now) {
        let stored = log.own.stored.iter().filter_map(|(id, value)| record::decode(id.as_bytes(), value));
        let mut table = Table::restore(self.config.clone(), stored.collect());
        for logged in &log.own.steps[log.own.cursor(commands_of(self.place))..] {
            table.replay(&logged.device, logged.event.clone(), now);
        }
        table.keep_times(&self.table);
        self.table = table;
        (self.next_step, self.next_answer) = (log.own.steps.len(), log.own.cursor(answers_of(self.place)));
        (self.unstored, self.answers_moved) = (Unstored::default(), false);
        self.others.clear();
        self.table.resume(|device| around.refuses(device), now);
        self.table.all_came();
        self.retry_at = None;
    }

    /// A failure had its pause.
    fn start_over(&mut self, log: &Log, around: &Around, now: Now) {
        self.waiting = None;
        self.movers = Movers { asked: self.movers.out.clone(), out: self.movers.out.clone(), ..Movers::default() };
        self.rebuild(log, around, now);
        let table = &self.table;
        self.desk.end_known(|id| table.get(id).is_some());
    }

    /// How far what the others had written has come.
    pub fn stand(&mut self, arrived: Option<Arrived>, log: &Log, now: Now) {
        match arrived {
            Some(Arrived::All) => {
                self.standing.go_on(|| log.ends());
            }
            Some(Arrived::BeingCopied) => self.standing.hold_on(now.steady),
            Some(Arrived::NotYet) | None => {}
        }
    }
}
