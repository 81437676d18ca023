//! Submitting a command: checked, appended, durable.

use std::time::Duration;

use devices::command::{
    ANSWER_WITHIN_MAX_MS, CommandId, DELIVER_WITHIN_DEFAULT_MS, DELIVER_WITHIN_MAX_MS, NameError, PAYLOAD_BYTES_MAX,
    Payload, Queued, Step, StepEvent, check_command_name, check_device_name,
};

use super::Commands;
use crate::event_log::{AppendError, CommitFailed, NO_HEADERS, NewEvent};

/// How long a submission waits until the room's task has read it, so that it can be looked up at once.
const LISTED_WITHIN: Duration = Duration::from_secs(1);

/// A command as people send it.
#[derive(Debug, Clone)]
pub struct NewCommand {
    /// The device that it is for.
    pub device: String,
    /// What to do.
    pub name: String,
    /// What it is to be done with.
    pub payload: Vec<u8>,
    /// How long it may take until it is delivered, in milliseconds; absent: one minute.
    pub deliver_within_ms: Option<u64>,
    /// How long the device may take for its answer, in milliseconds; absent: one minute.
    pub answer_within_ms: Option<u64>,
    /// Who sends it: `cli`, `api`.
    pub issued_by: String,
}

/// Why a command was not taken.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    /// The device's name cannot be in an MQTT topic.
    #[error("device {name:?}: {why}")]
    Device {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// The command's name cannot be in an MQTT topic.
    #[error("command {name:?}: {why}")]
    Name {
        /// What was given.
        name: String,
        /// What is wrong with it.
        why: NameError,
    },
    /// The payload is over the bound.
    #[error("the payload has {bytes} bytes, the bound is {PAYLOAD_BYTES_MAX}")]
    PayloadTooLarge {
        /// Its size.
        bytes: usize,
    },
    /// A time that is nothing, or over its bound.
    #[error("{what} is between 1 and {max_ms} ms")]
    Time {
        /// Which.
        what: &'static str,
        /// The bound.
        max_ms: u64,
    },
    /// Too many commands are pending.
    #[error("too many commands are pending, in all or for this device; wait until some have ended")]
    Full,
    /// No random number for the id.
    #[error("the system gives no random numbers: {0}")]
    Random(getrandom::Error),
    /// The log did not take it.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// It did not become durable.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
}

impl NewCommand {
    fn check(&self) -> Result<(), SubmitError> {
        check_device_name(&self.device).map_err(|why| SubmitError::Device { name: self.device.clone(), why })?;
        check_command_name(&self.name).map_err(|why| SubmitError::Name { name: self.name.clone(), why })?;
        if self.payload.len() > PAYLOAD_BYTES_MAX {
            return Err(SubmitError::PayloadTooLarge { bytes: self.payload.len() });
        }
        let times = [
            ("the time for delivery", self.deliver_within_ms, DELIVER_WITHIN_MAX_MS),
            ("the time for the answer", self.answer_within_ms, ANSWER_WITHIN_MAX_MS),
        ];
        for (what, given, max_ms) in times {
            if given.is_some_and(|ms| ms == 0 || ms > max_ms) {
                return Err(SubmitError::Time { what, max_ms });
            }
        }
        Ok(())
    }
}

impl Commands {
    /// Submits a command; when this returns, it is durable and (the room's task running) listed.
    ///
    /// # Errors
    /// When it breaks a bound, or the log does not take it: then it was not submitted.
    pub async fn submit(&self, command: NewCommand) -> Result<CommandId, SubmitError> {
        command.check()?;
        let bytes = command.device.len() + command.name.len() + command.payload.len();
        if !self.table.lock().has_room(&command.device, bytes) {
            return Err(SubmitError::Full);
        }
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(SubmitError::Random)?;
        let now = self.now();
        let id = CommandId::v7(now.wall, random);
        let queued = Queued {
            name: command.name,
            payload: Payload(command.payload),
            deliver_by_ms: now.wall + command.deliver_within_ms.unwrap_or(DELIVER_WITHIN_DEFAULT_MS),
            answer_within_ms: command.answer_within_ms,
            issued_by: command.issued_by,
            cause: None,
        };
        let value = StepEvent::new(id, now.wall, Step::Queued(queued)).encode();
        let event = NewEvent {
            timestamp_ms: i64::try_from(now.wall).unwrap_or(i64::MAX),
            key: Some(command.device.as_bytes()),
            value: Some(&value),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: true,
        };
        let mut changed = self.changed.subscribe();
        let ticket = {
            let mut open = self.log.lock();
            open.append_keyed(&self.commands, &event)?;
            open.ticket()
        };
        self.log.durable(ticket).await?;
        let listed = async { while self.table.lock().get(id).is_none() && changed.changed().await.is_ok() {} };
        // It is durable: should the task be slow, it is listed a little later.
        let _ = tokio::time::timeout(LISTED_WITHIN, listed).await;
        Ok(id)
    }
}
