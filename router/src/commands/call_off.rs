//! Calling commands off, and sending dead letters again.

use std::sync::Arc;
use std::time::Duration;

use devices::command::{CommandId, EXECUTION_TIMEOUT_MAX_MS, Refusal, Repeat, State, WhyCode};
use serde_json::json;
use tokio::sync::oneshot;

use super::mail::Cancel;
use super::table::CancelError;
use super::{Commands, NewCommand, SubmitError, called_elsewhere as elsewhere};
use crate::event_log::Act;

/// How long a linked site's word about a call-off is waited for; it may come later.
const ANSWER_WAIT: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(5) };

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
    /// `cancelled`, or `unknown` where it had been sent before and came back. One that another node of the site has is called off
    /// there. One that is at a linked site is called off there as well, which may take until the link stands again.
    ///
    /// # Errors
    /// When its device has it or may have it, when it has ended, when nothing could be recorded; and when its site has not
    /// answered yet.
    pub async fn cancel(&self, id: CommandId, by: &str) -> Result<State, CallOffError> {
        if let Some(told) = self.cancel_elsewhere(id, by).await {
            return told;
        }
        self.cancel_here(id, by).await
    }

    async fn cancel_here(&self, id: CommandId, by: &str) -> Result<State, CallOffError> {
        match self.cancel_now(id, by).await {
            Err(CallOffError::Command(CancelError::Asked)) => {}
            told => return told,
        }
        let answered = self.durably(|| self.called_off(id));
        let told = tokio::time::timeout(ANSWER_WAIT, answered).await.unwrap_or(Err(CancelError::Asked));
        Ok(told?)
    }

    /// What has become of a call-off that a gateway is asked for; `None`: nothing yet.
    fn called_off(&self, id: CommandId) -> Option<Result<State, CancelError>> {
        let table = self.table.lock();
        let Some(entry) = table.get(id) else { return Some(Err(CancelError::NoCommand)) };
        let is_cancelled = entry.why.as_ref().is_some_and(|why| why.code == WhyCode::Cancelled);
        match entry.progress.state() {
            ended if ended.is_outcome() && is_cancelled => Some(Ok(ended)),
            ended if ended.is_outcome() => Some(Err(CancelError::Refused(Refusal::AlreadyEnded))),
            _ if entry.called_off.is_none() => Some(Err(CancelError::Refused(Refusal::AlreadySent))),
            _ => None,
        }
    }

    /// Calls a command off that another node of the site has; `None`: none of those that answer has it.
    async fn cancel_elsewhere(&self, id: CommandId, by: &str) -> Option<Result<State, CallOffError>> {
        let forward = self.forward.get()?;
        let mut others = self.log.others();
        match self.table.lock().get(id).map(|entry| entry.away) {
            Some(Some(away)) if others.contains(&away.to) => others.retain(|origin| *origin == away.to),
            Some(_) => return None,
            None => {}
        }
        let request = elsewhere::request(id, by);
        for origin in others {
            let answer = forward.submit_and_wait(origin, request.clone()).await;
            if let Some(told) = answer.ok().and_then(|answer| elsewhere::decode(&answer)) {
                return Some(told.map_err(CallOffError::Command));
            }
        }
        None
    }

    /// Another node calls a command off that this one may have.
    pub(super) async fn cancel_for_another(&self, request: &[u8]) -> Vec<u8> {
        let Some((id, by)) = elsewhere::asked(request) else { return Vec::new() };
        let others = self.log.others();
        let is_here = |entry: &super::Entry| entry.away.is_none_or(|away| !others.contains(&away.to));
        let has_it = self.table.lock().get(id).is_some_and(is_here);
        let told = if has_it { Some(self.cancel_here(id, &by).await) } else { None };
        match told {
            Some(Ok(state)) => elsewhere::encode(Ok(state)),
            Some(Err(CallOffError::Command(error))) => elsewhere::encode(Err(error)),
            Some(Err(_)) | None => Vec::new(),
        }
    }

    /// Calls a command off, without waiting for a linked site.
    pub(super) async fn cancel_now(&self, id: CommandId, by: &str) -> Result<State, CallOffError> {
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
