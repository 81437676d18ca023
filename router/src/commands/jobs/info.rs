//! Jobs as the API and the CLI show them.

use devices::command::{CommandId, Payload, Repeat, State};
use serde::{Deserialize, Serialize};

use super::job::Job;
use super::terms::{AbortAbove, JobState};

/// How many commands ended how.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Outcomes {
    /// Done.
    pub succeeded: u32,
    /// Tried and not done.
    pub failed: u32,
    /// The device refused.
    pub rejected: u32,
    /// Never sent in time.
    pub expired: u32,
    /// Sent, and nobody knows whether it arrived.
    pub unknown: u32,
    /// Arrived, and the device did not say in time how it ended.
    #[serde(rename = "timed-out")]
    pub timed_out: u32,
    /// The node would not send it.
    pub refused: u32,
    /// Called off.
    pub cancelled: u32,
    /// A newer one took its place.
    pub superseded: u32,
}

impl Outcomes {
    pub(super) fn of(job: &Job) -> Self {
        let [succeeded, failed, rejected, expired, unknown, timed_out, refused, cancelled, superseded] = job.counts;
        Self { succeeded, failed, rejected, expired, unknown, timed_out, refused, cancelled, superseded }
    }

    /// How many commands ended.
    pub fn total(&self) -> u32 {
        let sent = self.succeeded + self.failed + self.rejected + self.unknown + self.timed_out;
        sent + self.expired + self.refused + self.cancelled + self.superseded
    }
}

/// A job as the API and the CLI show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobInfo {
    /// Its id.
    pub id: CommandId,
    /// Where it is.
    pub state: JobState,
    /// Whether nothing will change any more: its submitted commands have ended as well.
    pub ended: bool,
    /// The filter that chose the devices.
    #[serde(rename = "where")]
    pub filter: String,
    /// What each is to do.
    pub name: String,
    /// What it is to be done with.
    #[serde(flatten)]
    pub payload: Payload,
    /// Who started it.
    pub issued_by: String,
    /// When it was started, in milliseconds since 1970.
    pub at_ms: u64,
    /// When it came to where it is, in milliseconds since 1970.
    pub changed_ms: u64,
    /// Who brought it there; `job`: it did itself.
    pub changed_by: String,
    /// Commands a second.
    pub rate: u32,
    /// How many may end otherwise than succeeded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub abort_above: Option<AbortAbove>,
    /// How many devices were chosen.
    pub total: u32,
    /// How many of them have been sent their command, or have it waiting.
    pub submitted: u32,
    /// How many commands ended how.
    pub outcomes: Outcomes,
    /// How long each may take until it is delivered, from when it is submitted, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliver_within_ms: Option<u64>,
    /// How long a device may take, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub execution_timeout_ms: Option<u64>,
    /// Whether the commands overtake others.
    pub urgent: bool,
    /// Whether they may be sent again.
    pub repeat: Repeat,
    /// The key that the job was started with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
}

impl From<&Job> for JobInfo {
    fn from(job: &Job) -> Self {
        let (given, moving, command) = (&job.given, &job.moving, &job.given.command);
        Self {
            id: given.id,
            state: moving.state,
            ended: job.has_ended(),
            filter: given.filter.clone(),
            name: command.name.clone(),
            payload: Payload(command.payload.clone()),
            issued_by: command.issued_by.clone(),
            at_ms: given.at_ms,
            changed_ms: moving.changed_ms,
            changed_by: moving.by.clone(),
            rate: given.rate,
            abort_above: given.abort_above,
            total: given.total,
            submitted: moving.next,
            outcomes: Outcomes::of(job),
            deliver_within_ms: command.deliver_within_ms,
            execution_timeout_ms: command.execution_timeout_ms,
            urgent: command.urgent,
            repeat: command.repeat,
            idempotency_key: command.idempotency_key.clone(),
        }
    }
}

/// What became of one device of a job.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDevice {
    /// The device.
    pub device: String,
    /// Its command; null: not submitted.
    pub command: Option<CommandId>,
    /// Where its command is; null: not submitted.
    pub state: Option<State>,
}

/// One page of a job's devices, in the order in which they have their turn.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct JobDevices {
    /// The devices.
    pub devices: Vec<JobDevice>,
    /// Give this as `after` to have the next page; null on the last.
    pub next: Option<u32>,
}
