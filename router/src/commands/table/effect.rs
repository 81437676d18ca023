//! What the table wants to be done, and the clocks that it is told.

use std::sync::Arc;

use devices::command::{CommandId, StepEvent};

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
    Ended(CommandId),
}
