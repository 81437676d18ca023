//! What happened in a run, as somebody who sees everything would write it down.

use std::collections::BTreeMap;

use devices::command::{CommandId, Queued, State, Step, StepEvent};

use crate::simulation::history::Traits;

/// One thing that happened. Nodes are named by their places.
#[derive(Debug, Clone, PartialEq)]
pub enum Fact {
    /// It was appended, and is not durable yet.
    Submitted { node: usize, id: CommandId },
    /// Its source was told that it is safe.
    Promised(CommandId),
    /// A step became durable at a node, whose log has the command under this term then.
    Step { node: usize, device: String, event: StepEvent, term: u64 },
    /// A node hands a command to a session. `given`: a survivor had taken it up, durably, before the node was started, and the node can
    /// know it.
    Offered { node: usize, id: CommandId, given: bool },
    /// It was written to a connection.
    Written { node: usize, id: CommandId },
    /// A device began to do it.
    Executed { id: CommandId, device: usize },
    /// The site decided who takes up what a lost node has left.
    TakenOver { lost: usize, by: usize, term: u64 },
    /// A node has taken up, durably, what another has left.
    TakenUp { lost: usize, by: usize, term: u64 },
    /// A node that was silent is heard by another.
    Heard { node: usize },
    /// A node was started.
    Up { node: usize },
    /// A node died.
    Down { node: usize },
    /// What happened around a node.
    Weather { node: usize, what: &'static str },
    /// What readers are shown of a command at a node, at the end; nothing where it is not known there.
    Shown { node: usize, id: CommandId, state: Option<State> },
    /// Commands that have not ended at a node, at the end.
    Left { node: usize, count: usize },
}

/// How a log says that a command ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub term: u64,
    pub node: usize,
    pub state: State,
    pub step: Step,
}

/// A run.
#[derive(Debug, Default)]
pub struct History {
    pub facts: Vec<(u64, Fact)>,
    pub devices: Vec<Traits>,
    /// The true time in milliseconds since 1970.
    pub time: u64,
}

impl History {
    pub fn note(&mut self, fact: Fact) {
        self.facts.push((self.time, fact));
    }

    /// All steps that became durable: the node, the term of its log and the step.
    pub fn steps(&self) -> impl Iterator<Item = (u64, usize, u64, &StepEvent)> {
        self.facts.iter().filter_map(|(at, fact)| match fact {
            Fact::Step { node, event, term, .. } => Some((*at, *node, *term, event)),
            _ => None,
        })
    }

    /// All submissions that became durable.
    pub fn submissions(&self) -> BTreeMap<CommandId, &Queued> {
        let queued = self.steps().filter_map(|(_, _, _, event)| match &event.step {
            Step::Queued(queued) if queued.taken.is_none() => Some((event.id, &**queued)),
            _ => None,
        });
        queued.collect()
    }

    /// How commands ended, by all logs, the highest term last.
    pub fn outcomes(&self) -> BTreeMap<CommandId, Vec<Outcome>> {
        let mut found: BTreeMap<CommandId, Vec<Outcome>> = BTreeMap::new();
        for (_, node, term, event) in self.steps() {
            if let Some(state) = event.step.outcome() {
                let outcome = Outcome { term, node, state, step: event.step.clone() };
                found.entry(event.id).or_default().push(outcome);
            }
        }
        found.values_mut().for_each(|all| all.sort_by_key(|outcome| outcome.term));
        found
    }

    /// When a device began to do a command, each time.
    pub fn executions(&self) -> impl Iterator<Item = (CommandId, usize)> {
        self.facts.iter().filter_map(|(_, fact)| match fact {
            Fact::Executed { id, device } => Some((*id, *device)),
            _ => None,
        })
    }

    /// What happened to one command, for whoever looks for a bug.
    pub fn story(&self, id: CommandId) -> String {
        let about = self.facts.iter().filter(|(_, fact)| match fact {
            Fact::Submitted { id: of, .. } | Fact::Promised(of) | Fact::Offered { id: of, .. } => *of == id,
            Fact::Written { id: of, .. } | Fact::Executed { id: of, .. } | Fact::Shown { id: of, .. } => *of == id,
            Fact::Step { event, .. } => event.id == id,
            _ => true,
        });
        about.map(|(at, fact)| format!("  {at} {fact:?}\n")).collect()
    }
}
