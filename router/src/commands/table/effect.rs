//! What the table wants to be done, and the clocks that it is told.

use std::sync::Arc;

use devices::command::{CommandId, State, StepEvent, Why, WhyCode};

use crate::commands::entry::Entry;

/// The node's clocks at one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Now {
    /// The steady clock, in milliseconds: what deadlines run on.
    pub steady: u64,
    /// The wall clock, in milliseconds since 1970: what events say.
    pub wall: u64,
}

/// What is to be done, in this order.
#[derive(Debug, Clone, PartialEq)]
pub enum Effect {
    /// Append a step to the device's key.
    Append(Arc<str>, StepEvent),
    /// Store the command, soon: its steps are in the log.
    Save(CommandId),
    /// It is forgotten; delete it from the store where it was stored.
    Forget(CommandId, bool),
    /// Hand it to a session, after what precedes is in the open commit.
    Offer(CommandId, u64),
    /// Take it back from a session that has not written it yet, before anything is handed over: its successor comes.
    Withdraw(CommandId, u64),
    /// Ask the guards about it; what they say of an urgent one is not waited for.
    Ask(CommandId),
    /// It has ended: write down how.
    Ended(Box<Ended>),
}

/// How a command ended; all that is to be written down, as it may be forgotten at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    /// The command.
    pub id: CommandId,
    /// Its device.
    pub device: Arc<str>,
    /// What was to be done.
    pub name: String,
    /// Who sent it.
    pub issued_by: String,
    /// When it was submitted, in milliseconds since 1970.
    pub at_ms: u64,
    /// How it ended.
    pub outcome: State,
    /// Why, where the device did not say so.
    pub code: Option<WhyCode>,
    /// The guard that would have kept it back, as far as that is known by then: it is urgent.
    pub overridden: Option<Box<Why>>,
    /// The job that it was part of.
    pub job: Option<CommandId>,
    /// Whether another node has said so, and written it down.
    pub is_elsewhere: bool,
}

impl Ended {
    /// How a command that has ended did.
    pub(super) fn of(entry: &Entry) -> Self {
        Self {
            id: entry.id,
            device: Arc::clone(&entry.device),
            name: entry.queued.name.clone(),
            issued_by: entry.queued.issued_by.clone(),
            at_ms: entry.at_ms,
            outcome: entry.progress.state(),
            code: entry.why.as_ref().map(|why| why.code),
            overridden: entry.overridden.clone(),
            job: entry.queued.job,
            is_elsewhere: false,
        }
    }
}
