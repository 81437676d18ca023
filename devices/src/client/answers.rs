//! Commands on the device: handlers, answers, and the refusal to do a command twice.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use bytes::Bytes;

use super::shared::Shared;
use super::terms::Terms;
use crate::command::{CommandId, Status, TEXT_BYTES_MAX, is_code};

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
            None => call.reject_because("unknown-command", "", "no such command"),
        }
    }
}

/// What a device says of a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) status: Status,
    /// A percentage or a reason code, where there is one.
    pub(super) detail: String,
    /// The reason, for people.
    pub(super) text: String,
    pub(super) payload: Bytes,
}

impl Said {
    fn new(status: Status, payload: impl Into<Bytes>) -> Self {
        Self { status, detail: String::new(), text: String::new(), payload: payload.into() }
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
    /// On which terms it comes. Work that waits for something should look again whether it is expired.
    pub terms: Terms,
    shared: Arc<Shared>,
    answered: bool,
}

impl Call {
    pub(super) fn new(id: CommandId, name: &str, payload: Bytes, terms: Terms, shared: Arc<Shared>) -> Self {
        Self { id, name: name.into(), payload, terms, shared, answered: false }
    }

    /// Says that it will be done.
    pub fn accept(&self) {
        self.shared.answer(self.id, Said::new(Status::Accepted, Bytes::new()));
    }

    /// Says how far it is.
    pub fn progress(&self, payload: impl Into<Bytes>) {
        self.shared.answer(self.id, Said::new(Status::InProgress, payload));
    }

    /// Says how far it is in percent, and whatever else there is to say.
    pub fn progress_percent(&self, percent: u8, payload: impl Into<Bytes>) {
        let detail = percent.min(100).to_string();
        self.shared.answer(self.id, Said { detail, ..Said::new(Status::InProgress, payload) });
    }

    /// Done.
    pub fn succeed(self, payload: impl Into<Bytes>) {
        self.end(Said::new(Status::Succeeded, payload));
    }

    /// Tried and not done.
    pub fn fail(self, payload: impl Into<Bytes>) {
        self.end(Said::new(Status::Failed, payload));
    }

    /// Tried and not done, for a reason: a code for programs (a-z, 0-9, `-` and `_`, at most 64 bytes; another is left
    /// out) and a text for people (cut to [`TEXT_BYTES_MAX`] bytes).
    pub fn fail_because(self, code: &str, text: &str, payload: impl Into<Bytes>) {
        self.end(because(Status::Failed, code, text, payload));
    }

    /// Refused.
    pub fn reject(self, payload: impl Into<Bytes>) {
        self.end(Said::new(Status::Rejected, payload));
    }

    /// Refused, for a reason: as [`Self::fail_because`].
    pub fn reject_because(self, code: &str, text: &str, payload: impl Into<Bytes>) {
        self.end(because(Status::Rejected, code, text, payload));
    }

    fn end(mut self, said: Said) {
        self.answered = true;
        self.shared.answer(self.id, said);
    }
}

fn because(status: Status, code: &str, text: &str, payload: impl Into<Bytes>) -> Said {
    let detail = if is_code(code) { code.to_owned() } else { String::new() };
    let text = text[..text.floor_char_boundary(TEXT_BYTES_MAX)].to_owned();
    Said { detail, text, ..Said::new(status, payload) }
}

impl Drop for Call {
    fn drop(&mut self) {
        if !self.answered {
            let said = because(Status::Failed, "no-answer", "", "the handler gave no answer");
            self.shared.answer(self.id, said);
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
    Ended(Said),
    /// It cannot be written down that it is begun, so that it must not be.
    NotRecorded(Said),
}

/// The commands seen lately and how they ended; on disk as well, where the client has one.
#[derive(Default)]
pub(super) struct Memory {
    seen: HashMap<CommandId, Option<Said>>,
    order: VecDeque<CommandId>,
    #[cfg(feature = "disk")]
    file: Option<super::disk::DoneFile>,
}

impl Memory {
    /// What the folder of the buffer on disk remembers. What was begun and has no end was interrupted.
    #[cfg(feature = "disk")]
    pub(super) fn open(folder: &std::path::Path) -> Result<Self, super::disk::DiskError> {
        let (file, entries) = super::disk::DoneFile::open(folder)?;
        let mut memory = Self::default();
        for (id, ended) in entries {
            if !memory.seen.contains_key(&id) {
                memory.remember(id);
            }
            let ended = ended.unwrap_or_else(super::disk::Ended::interrupted);
            memory.seen.insert(id, Some(Said::from(ended)));
        }
        memory.file = Some(file);
        Ok(memory)
    }

    /// Notes an arriving command, forgetting the oldest beyond the bound.
    pub(super) fn arrive(&mut self, id: CommandId) -> Known {
        match self.seen.get(&id) {
            Some(None) => return Known::Running,
            Some(Some(said)) => return Known::Ended(said.clone()),
            None => {}
        }
        if let Err(error) = self.write_begun(id) {
            tracing::error!(command = %id, %error, "a command is rejected: that it is begun cannot be written down");
            let text = "the device cannot write down that it begins";
            return Known::NotRecorded(because(Status::Rejected, "not-recorded", text, Bytes::new()));
        }
        self.remember(id);
        Known::New
    }

    fn remember(&mut self, id: CommandId) {
        if self.order.len() >= REMEMBERED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.seen.remove(&oldest);
        }
        self.order.push_back(id);
        self.seen.insert(id, None);
    }

    /// Notes how a command ended.
    pub(super) fn end(&mut self, id: CommandId, said: &Said) {
        let Some(known) = self.seen.get_mut(&id) else { return };
        *known = Some(said.clone());
        self.write_end(id, said);
    }
}

#[cfg(feature = "disk")]
impl Memory {
    fn write_begun(&mut self, id: CommandId) -> std::io::Result<()> {
        let Some(file) = &mut self.file else { return Ok(()) };
        if file.is_due(2 * REMEMBERED_MAX) {
            let ended: Vec<_> = self.order.iter().map(|id| (*id, self.seen.get(id).cloned().flatten())).collect();
            let ended: Vec<_> = ended.into_iter().map(|(id, said)| (id, said.map(super::disk::Ended::from))).collect();
            file.rewrite(ended.iter().map(|(id, ended)| (*id, ended.as_ref())))?;
        }
        file.begun(id)
    }

    fn write_end(&mut self, id: CommandId, said: &Said) {
        let Some(file) = &mut self.file else { return };
        if let Err(error) = file.ended(id, &said.clone().into()) {
            tracing::warn!(command = %id, %error, "how a command ended is not on disk: after a restart it counts as interrupted");
        }
    }
}

#[cfg(feature = "disk")]
impl From<super::disk::Ended> for Said {
    fn from(ended: super::disk::Ended) -> Self {
        let status = ended.status();
        Self { status, detail: ended.detail, text: ended.text, payload: ended.payload.into() }
    }
}

#[cfg(feature = "disk")]
impl From<Said> for super::disk::Ended {
    fn from(said: Said) -> Self {
        let place = Status::ALL.iter().position(|status| *status == said.status).unwrap_or_default();
        let status = u8::try_from(place).unwrap_or_default();
        Self { status, detail: said.detail, text: said.text, payload: said.payload.to_vec() }
    }
}

#[cfg(not(feature = "disk"))]
impl Memory {
    #[expect(clippy::unnecessary_wraps, clippy::unused_self, reason = "as with a disk")]
    fn write_begun(&mut self, _id: CommandId) -> std::io::Result<()> {
        Ok(())
    }

    #[expect(clippy::unused_self, reason = "as with a disk")]
    fn write_end(&mut self, _id: CommandId, _said: &Said) {}
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
        let said = because(Status::Failed, "stuck", "it is stuck", "no");
        memory.end(id, &said);
        assert_eq!(memory.arrive(id), Known::Ended(said));
        let long = because(Status::Failed, "stuck", &"\u{20ac}".repeat(40_000), "no");
        assert_eq!(long.text.len(), TEXT_BYTES_MAX - 1, "cut between characters");
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

    #[cfg(feature = "disk")]
    #[test]
    fn a_restart_remembers_what_was_begun_and_how_it_ended() {
        let folder = tempfile::tempdir().unwrap();
        let id = |n: usize| CommandId::v7(n as u64, [0; 10]);
        let mut memory = Memory::open(folder.path()).unwrap();
        let said = because(Status::Succeeded, "", "", "ok");
        for n in 0..3 * REMEMBERED_MAX {
            assert_eq!(memory.arrive(id(n)), Known::New);
            memory.end(id(n), &said);
        }
        let last = id(3 * REMEMBERED_MAX);
        memory.arrive(last);
        drop(memory);
        let mut memory = Memory::open(folder.path()).unwrap();
        assert_eq!(memory.arrive(id(3 * REMEMBERED_MAX - 1)), Known::Ended(said));
        let Known::Ended(interrupted) = memory.arrive(last) else { panic!("it was begun") };
        assert_eq!((interrupted.status, interrupted.detail.as_str()), (Status::Failed, "interrupted"));
        assert_eq!(memory.order.len(), REMEMBERED_MAX);
    }
}
