//! What happened in a run, as somebody who sees everything would write it down.

use std::collections::BTreeMap;

use devices::command::{CommandId, Queued, State, Step, StepEvent};

/// One thing that happened.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// It was appended, and is not durable yet.
    Submitted(CommandId),
    /// The source was told that its command is safe.
    Promised(CommandId),
    /// The node has read a submission for the first time in its life.
    Read(CommandId),
    /// A step became durable.
    Step { device: String, event: StepEvent },
    /// The node offered a command to a session; with the urgent one that waited for the same device and had room.
    Offered { id: CommandId, session: u64, overtook: Option<CommandId> },
    /// A session wrote a command to its connection; with an urgent one in the same mailbox.
    Written { id: CommandId, session: u64, overtook: Option<CommandId> },
    /// A device began to do a command.
    Executed { id: CommandId, device: usize },
    /// The node has this outcome of a command, durably.
    Outcome { id: CommandId, state: State },
    /// An answer that nobody should believe was appended.
    Forged(CommandId),
    /// The node began a life.
    NodeUp,
    /// The node died.
    NodeDied,
    /// The node's wall clock was set.
    WallStep,
    /// The node took its table from the store while it ran.
    StartedOver,
    /// Whether commands are left that have not ended, at the end of the run.
    Left(usize),
}

/// What is known of a device from the beginning.
#[derive(Debug, Clone)]
pub struct Traits {
    /// It remembers over its restarts what it has done, and does nothing twice.
    pub is_strict: bool,
    /// Its clock is right, and it does nothing whose time is over.
    pub is_punctual: bool,
    /// It has one connection at a time.
    pub is_single: bool,
}

/// A run.
#[derive(Debug, Default)]
pub struct History {
    pub facts: Vec<(u64, Fact)>,
    pub devices: Vec<Traits>,
    /// Whether the node forgets ended commands soon.
    pub forgets: bool,
    /// The true time, in milliseconds since 1970.
    pub time: u64,
}

impl History {
    pub fn note(&mut self, fact: Fact) {
        self.facts.push((self.time, fact));
    }

    /// All submissions that became durable, in the order of the log: who for, and what.
    pub fn submissions(&self) -> Vec<(CommandId, &str, &Queued, u64)> {
        let mut seen = BTreeMap::new();
        let queued = self.facts.iter().filter_map(|(_, fact)| match fact {
            Fact::Step { device, event } => match &event.step {
                Step::Queued(queued) => Some((event.id, device.as_str(), &**queued, event.at_ms)),
                _ => None,
            },
            _ => None,
        });
        queued.filter(|(id, ..)| seen.insert(*id, ()).is_none()).collect()
    }

    /// How commands ended: all steps in the log that say so.
    pub fn outcomes(&self) -> BTreeMap<CommandId, Vec<&Step>> {
        let mut found: BTreeMap<CommandId, Vec<&Step>> = BTreeMap::new();
        for (_, fact) in &self.facts {
            if let Fact::Step { event, .. } = fact
                && outcome_of(&event.step).is_some()
            {
                found.entry(event.id).or_default().push(&event.step);
            }
        }
        found
    }

    /// When a device began to do a command, each time, in order.
    pub fn executions(&self) -> Vec<(u64, CommandId, usize)> {
        let executed = self.facts.iter().filter_map(|(at, fact)| match fact {
            Fact::Executed { id, device } => Some((*at, *id, *device)),
            _ => None,
        });
        executed.collect()
    }

    /// Whether the node's wall clock was set between a command's submission and a moment.
    pub fn clock_was_set(&self, id: CommandId, until: u64) -> bool {
        let since = self.facts.iter().position(|(_, fact)| *fact == Fact::Submitted(id)).unwrap_or(0);
        self.facts[since..].iter().any(|(at, fact)| *at <= until && *fact == Fact::WallStep)
    }

    /// What happened to one command, for whoever looks for a bug.
    pub fn story(&self, id: CommandId) -> String {
        let about = self.facts.iter().filter(|(_, fact)| match fact {
            Fact::Submitted(of) | Fact::Promised(of) | Fact::Forged(of) | Fact::Read(of) => *of == id,
            Fact::Step { event, .. } => event.id == id,
            Fact::Offered { id: of, .. } | Fact::Written { id: of, .. } => *of == id,
            Fact::Executed { id: of, .. } | Fact::Outcome { id: of, .. } => *of == id,
            _ => true,
        });
        about.map(|(at, fact)| format!("  {at} {fact:?}\n")).collect()
    }
}

/// The outcome that a step is, where it is one.
pub fn outcome_of(step: &Step) -> Option<State> {
    match step {
        Step::Succeeded(answer) => (!answer.late).then_some(State::Succeeded),
        Step::Failed(answer) => (!answer.late).then_some(State::Failed),
        Step::Rejected(answer) => (!answer.late).then_some(State::Rejected),
        Step::Expired => Some(State::Expired),
        Step::Unknown(_) => Some(State::Unknown),
        Step::TimedOut => Some(State::TimedOut),
        Step::Refused(_) => Some(State::Refused),
        Step::Cancelled(_) => Some(State::Cancelled),
        Step::Superseded(_) => Some(State::Superseded),
        _ => None,
    }
}
