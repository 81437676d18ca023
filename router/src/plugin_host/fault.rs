//! Why a call of a plugin did not succeed.

/// What went wrong, by what is to be done about it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// The guest stopped itself: `unreachable`, a panic, a wrong access.
    #[error("trap: {0}")]
    Trap(String),
    /// The call took too long.
    #[error("the call took longer than {0} ms")]
    Deadline(u32),
    /// The guest asked for more memory than it may have.
    #[error("more memory than {0} MiB asked for ({1})")]
    Memory(u32, String),
    /// The guest answered with an error.
    #[error("{0}")]
    Failed(String),
    /// The guest wanted what it was not granted, or passed a bound.
    #[error("{0}")]
    Denied(String),
    /// The plugin cannot be started: no event is at fault.
    #[error("the plugin cannot be started: {0}")]
    Start(String),
    /// The store failed under the plugin: no event is at fault.
    #[error("the store failed: {0}")]
    Store(String),
    /// The plugin is being stopped.
    #[error("the plugin is being stopped")]
    Stopped,
}

impl Fault {
    /// Whether an event of the batch may be at fault, so that smaller batches
    /// are worth trying.
    #[must_use]
    pub fn by_event(&self) -> bool {
        !matches!(self, Fault::Start(_) | Fault::Store(_) | Fault::Stopped)
    }

    /// Whether the guest was stopped rather than answered.
    #[must_use]
    pub fn is_trap(&self) -> bool {
        matches!(self, Fault::Trap(_) | Fault::Deadline(_) | Fault::Memory(..))
    }
}
