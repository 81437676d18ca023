//! Calling commands off, and sending dead letters again.

use std::sync::Arc;

use devices::command::{CommandId, EXECUTION_TIMEOUT_MAX_MS, Repeat, State};
use serde_json::json;
use tokio::sync::oneshot;

use super::mail::Cancel;
use super::table::CancelError;
use super::{Commands, NewCommand, SubmitError};
use crate::event_log::Act;

/// Why a command was not called off.
#[derive(Debug, thiserror::Error)]
pub enum CallOffError {
    /// The command cannot be called off, or there is none.
    #[error(transparent)]
    Command(#[from] CancelError),
    /// Too many call-offs wait.
    #[error("too many commands are being called off; try again in a moment")]
    Busy,
    /// It could not be recorded.
    #[error("the call-off could not be recorded; look at the node's log and try again")]
    Lost,
}

/// Why a dead letter was not sent again.
#[derive(Debug, thiserror::Error)]
pub enum RedriveError {
    /// There is no such command.
    #[error("there is no command {0}; ended commands are forgotten in time")]
    NoCommand(CommandId),
    /// It has not ended, or the device said how it ended.
    #[error("command {id} is {state}; only expired, unknown, timed-out and refused commands are sent again", state = state.as_str())]
    NotDead {
        /// The command.
        id: CommandId,
        /// Where it is.
        state: State,
    },
    /// It was sent again before.
    #[error("command {id} was sent again already, as {again}; --force sends it once more")]
    Again {
        /// The command.
        id: CommandId,
        /// What it was sent again as.
        again: CommandId,
    },
    /// It must not be repeated, and may have arrived.
    #[error("command {0} must not be repeated, and the device may have done it; --force sends it all the same")]
    NotRepeatable(CommandId),
    /// It is being sent again at this moment.
    #[error("command {0} is being sent again at this moment; look at it in a moment")]
    Busy(CommandId),
    /// It was not taken.
    #[error(transparent)]
    Submit(#[from] SubmitError),
}

impl RedriveError {
    /// The code that is written down.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoCommand(_) => "no-command",
            Self::NotDead { .. } => "not-dead",
            Self::Again { .. } => "already-redriven",
            Self::NotRepeatable(_) => "not-repeatable",
            Self::Busy(_) => "busy",
            Self::Submit(error) => error.code(),
        }
    }
}

impl Commands {
    /// Calls a command off that has not been sent; durable when this returns, with the act. What it ended as:
    /// `cancelled`, or `unknown` where it had been sent before and came back.
    ///
    /// # Errors
    /// When its device has it or may have it, when it has ended, or when nothing could be recorded.
    pub async fn cancel(&self, id: CommandId, by: &str) -> Result<State, CallOffError> {
        let (reply, answer) = oneshot::channel();
        if !self.mail.cancel(Cancel { id, by: by.to_owned(), reply }) {
            let what = id.to_string();
            self.audit(Act { who: by, act: "command.cancel", what: &what, outcome: "busy", detail: json!(null) });
            return Err(CallOffError::Busy);
        }
        Ok(answer.await.map_err(|_| CallOffError::Lost)??)
    }

    /// Sends a command again that ended without the device's word, as a new one. `deliver_within_ms` and `force` as the
    /// person says who asks. Once begun it goes on although the caller goes away.
    ///
    /// # Errors
    /// When it is no dead letter, or it may have been done and must not be repeated and `force` is not set.
    pub async fn redrive(
        self: &Arc<Self>,
        id: CommandId,
        deliver_within_ms: Option<u64>,
        force: bool,
        by: &str,
    ) -> Result<CommandId, RedriveError> {
        let (room, by) = (Arc::clone(self), by.to_owned());
        let redriven = tokio::spawn(async move {
            let new = room.redrive_once(id, deliver_within_ms, force, &by).await;
            let (what, outcome) = (id.to_string(), new.as_ref().map_or_else(RedriveError::code, |_| "done"));
            room.audit(Act { who: &by, act: "command.redrive", what: &what, outcome, detail: json!(null) });
            new
        });
        redriven.await.unwrap_or(Err(RedriveError::Busy(id)))
    }

    async fn redrive_once(
        &self,
        id: CommandId,
        deliver_within_ms: Option<u64>,
        force: bool,
        by: &str,
    ) -> Result<CommandId, RedriveError> {
        // Two at once would both find that it was not sent again yet.
        if !self.redriving.lock().insert(id) {
            return Err(RedriveError::Busy(id));
        }
        let submitted = match self.redriven(id, deliver_within_ms, force, by) {
            Ok(new) => self.submit_once(new).await.map_err(RedriveError::from),
            Err(error) => Err(error),
        };
        self.redriving.lock().remove(&id);
        Ok(submitted?.id)
    }

    fn redriven(
        &self,
        id: CommandId,
        deliver_within_ms: Option<u64>,
        force: bool,
        by: &str,
    ) -> Result<NewCommand, RedriveError> {
        let table = self.table.lock();
        let entry = table.get(id).ok_or(RedriveError::NoCommand(id))?;
        let state = entry.progress.state();
        if !entry.is_dead_letter() {
            return Err(RedriveError::NotDead { id, state });
        }
        if let Some(again) = entry.redriven_as.filter(|_| !force) {
            return Err(RedriveError::Again { id, again });
        }
        let may_be_done = matches!(state, State::Unknown | State::TimedOut);
        if may_be_done && entry.queued.repeat == Repeat::Never && !force {
            return Err(RedriveError::NotRepeatable(id));
        }
        let queued = &entry.queued;
        Ok(NewCommand {
            payload: entry.submitted_payload().to_vec(),
            deliver_within_ms,
            execution_timeout_ms: queued.execution_timeout_ms.map(|ms| ms.min(EXECUTION_TIMEOUT_MAX_MS)),
            urgent: queued.urgent,
            supersede: queued.supersede.clone(),
            repeat: queued.repeat,
            deliveries_max: queued.deliveries_max,
            redrives: Some(id),
            allow_unknown: true,
            ..NewCommand::new(&entry.device, &queued.name, by)
        })
    }

    /// Writes an act down; that it could not be is in the program's log.
    pub(super) fn audit(&self, act: Act<'_>) {
        let (who, what) = (act.who.to_owned(), act.what.to_owned());
        if let Err(error) = self.log.audit(act) {
            tracing::warn!(%error, who, what, "an act could not be recorded");
        }
    }
}
