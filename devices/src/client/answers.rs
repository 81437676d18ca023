//! Commands on the device: handlers, answers, and the refusal to do a command twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::shared::Shared;
use crate::command::{CommandId, Status};

/// How many command ids are remembered; an older command that comes again is taken for a new one.
pub(super) const REMEMBERED_MAX: usize = 1_024;

type Handler = Box<dyn Fn(Call) + Send + Sync>;

/// What a device does with each command, by the command's name.
#[derive(Default)]
pub struct Handlers {
    by_name: HashMap<String, Handler>,
}

impl Handlers {
    /// No handlers: such a client does not subscribe to commands.
    pub fn new() -> Self {
        Self::default()
    }

    /// Handles commands of a name. The closure runs on the connection's task and must not block;
    /// longer work takes the [`Call`] along into a task or thread and answers from there.
    #[must_use]
    pub fn on(mut self, name: &str, handler: impl Fn(Call) + Send + Sync + 'static) -> Self {
        self.by_name.insert(name.into(), Box::new(handler));
        self
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }

    /// Runs the handler, or rejects a command that has none.
    pub(super) fn run(&self, call: Call) {
        match self.by_name.get(&call.name) {
            Some(handler) => handler(call),
            None => call.reject("no such command"),
        }
    }
}

/// One command on the device, to be answered once. Dropped without an answer, it has failed.
pub struct Call {
    /// The command's id.
    pub id: CommandId,
    /// What to do.
    pub name: String,
    /// What it is to be done with.
    pub payload: Bytes,
    shared: Arc<Shared>,
    answered: bool,
}

impl Call {
    pub(super) fn new(id: CommandId, name: &str, payload: Bytes, shared: Arc<Shared>) -> Self {
        Self { id, name: name.into(), payload, shared, answered: false }
    }

    /// Says that it will be done.
    pub fn accept(&self) {
        self.shared.answer(self.id, Status::Accepted, Bytes::new());
    }

    /// Says how far it is.
    pub fn progress(&self, payload: impl Into<Bytes>) {
        self.shared.answer(self.id, Status::InProgress, payload.into());
    }

    /// Done.
    pub fn succeed(self, payload: impl Into<Bytes>) {
        self.end(Status::Succeeded, payload.into());
    }

    /// Tried and not done.
    pub fn fail(self, payload: impl Into<Bytes>) {
        self.end(Status::Failed, payload.into());
    }

    /// Refused.
    pub fn reject(self, payload: impl Into<Bytes>) {
        self.end(Status::Rejected, payload.into());
    }

    fn end(mut self, status: Status, payload: Bytes) {
        self.answered = true;
        self.shared.answer(self.id, status, payload);
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            let payload = Bytes::from_static(b"the handler gave no answer");
            self.shared.answer(self.id, Status::Failed, payload);
        }
    }
}

/// What is known of a command that arrives.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// Never seen: do it.
    New,
    /// It is being done: its answer will come.
    Running,
    /// It was done: say so again.
    Ended(Status, Bytes),
}

/// The commands seen lately and how they ended.
#[derive(Default)]
pub(super) struct Memory {
    seen: HashMap<CommandId, Option<(Status, Bytes)>>,
    order: VecDeque<CommandId>,
}

impl Memory {
    /// Notes an arriving command, forgetting the oldest beyond the bound.
    pub(super) fn arrive(&mut self, id: CommandId) -> Known {
        match self.seen.get(&id) {
            Some(None) => return Known::Running,
            Some(Some((status, payload))) => return Known::Ended(*status, payload.clone()),
            None => {}
        }
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back(id);
        self.seen.insert(id, None);
        Known::New
    }

    /// Notes how a command ended.
    pub(super) fn end(&mut self, id: CommandId, status: Status, payload: &Bytes) {
        if let Some(known) = self.seen.get_mut(&id) {
            *known = Some((status, payload.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_is_new_once() {
        let mut memory = Memory::default();
        let id = CommandId::v7(1, [1; 10]);
        assert_eq!(memory.arrive(id), Known::New);
        assert_eq!(memory.arrive(id), Known::Running);
        memory.end(id, Status::Failed, &Bytes::from_static(b"no"));
        assert_eq!(memory.arrive(id), Known::Ended(Status::Failed, Bytes::from_static(b"no")));
    }

    #[test]
    fn memory_is_bounded_and_forgets_the_oldest() {
        let mut memory = Memory::default();
        let id = |n: usize| CommandId::v7(n as u64, [0; 10]);
        for n in 0..=REMEMBERED_MAX {
            assert_eq!(memory.arrive(id(n)), Known::New);
        }
        assert_eq!(memory.seen.len(), REMEMBERED_MAX);
        assert_eq!(memory.arrive(id(1)), Known::Running);
        assert_eq!(memory.arrive(id(0)), Known::New);
    }
}
