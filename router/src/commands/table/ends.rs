//! What ends a command besides its device: the clock and people.

use std::sync::Arc;

use devices::command::{CommandId, Input, Refusal, State, Step, Verdict, Why, WhyCode};

use super::{Now, Table};

/// Commands that the clock ends at once at most: they are in one commit.
pub const ENDED_AT_ONCE_MAX: usize = 2_000;

/// Why a command was not called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CancelError {
    /// There is no such command, or it is forgotten.
    #[error("there is no such command; ended commands are forgotten in time")]
    NoCommand,
    /// Its device has it, or may have it, or it has ended.
    #[error("it cannot be called off: {0}")]
    Refused(Refusal),
    /// The linked site that has it is asked, and will say how it ended.
    #[error("the site that has it is asked to call it off, and has not answered yet")]
    Asked,
}

impl Table {
    /// Somebody calls a command off.
    ///
    /// # Errors
    /// When it is not queued any more; nothing changes then. A gateway of a linked site that may have it is to be asked.
    pub fn cancel(&mut self, id: CommandId, by: &str, now: Now) -> Result<State, CancelError> {
        let entry = self.get(id).ok_or(CancelError::NoCommand)?;
        if entry.away.is_some() && !entry.progress.state().is_outcome() {
            return Err(self.call_off_elsewhere(id, by, now));
        }
        if let Verdict::Refuse(refusal) = entry.progress.judge(Input::Cancelled) {
            return Err(CancelError::Refused(refusal));
        }
        self.end_queued(id, Input::Cancelled, Why::by(WhyCode::Cancelled, by), now);
        self.get(id).map(|entry| entry.progress.state()).ok_or(CancelError::NoCommand)
    }

    /// The time has come this far. At most [`ENDED_AT_ONCE_MAX`] commands end; the next deadline says whether there are
    /// more.
    pub fn tick(&mut self, now: Now) {
        while self.rested.first().is_some_and(|(until, _)| *until <= now.steady) {
            let rested = self.rested.pop_first().map(|(_, name)| name);
            self.wanting.extend(rested.filter(|name: &Arc<str>| self.devices.contains_key(name)));
        }
        for _ in 0..ENDED_AT_ONCE_MAX {
            let due = self.deadlines.first().filter(|(deadline, _)| *deadline <= now.steady);
            let Some(&(deadline, id)) = due else { return };
            self.deadlines.remove(&(deadline, id));
            let Some(entry) = self.get(id) else { continue };
            if let Some(away) = entry.away {
                self.lost_elsewhere(id, away.to, now);
                continue;
            }
            let (input, code) = match entry.progress.state() {
                State::Queued => (Input::DeliverByPassed, WhyCode::Expired),
                _ => (Input::ExecutionTimedOut, WhyCode::Unconfirmed),
            };
            self.step(id, input, now, |entry| match entry.progress.state() {
                State::Expired => Step::Expired,
                State::TimedOut => Step::TimedOut,
                _ => {
                    entry.why = Some(Box::new(Why::code(code)));
                    Step::Unknown(Why::code(code))
                }
            });
        }
    }
}
