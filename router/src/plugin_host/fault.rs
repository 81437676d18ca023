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
    /// Its functions have other types than the node's: no event is at fault.
    #[error("the plugin speaks another version of the interface: {0}")]
    Interface(String),
    /// The store failed under the plugin: no event is at fault.
    #[error("the store failed: {0}")]
    Store(String),
    /// The plugin is being stopped.
    #[error("the plugin is being stopped")]
    Stopped,
}

/// Where a component cannot be linked or called as its types are not the node's: which differ.
pub fn other_types(error: &wasmtime::Error) -> Option<String> {
    let text = error.root_cause().to_string();
    let differs = text.starts_with("expected ") && text.contains(" found ");
    (differs && !error.is::<wasmtime::Trap>()).then_some(text)
}

impl Fault {
    /// Whether an event of the batch may be at fault, so that smaller batches
    /// are worth trying.
    #[must_use]
    pub fn by_event(&self) -> bool {
        !matches!(self, Fault::Start(_) | Fault::Interface(_) | Fault::Store(_) | Fault::Stopped)
    }

    /// Whether the guest was stopped rather than answered.
    #[must_use]
    pub fn is_trap(&self) -> bool {
        matches!(self, Fault::Trap(_) | Fault::Deadline(_) | Fault::Memory(..))
    }
}
