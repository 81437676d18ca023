//! Commands as the API and the CLI show them, and which of them are asked for.

use devices::command::{Answer, Cause, CommandId, OriginHex, Payload, Repeat, State, Status, Why};
use serde::Serialize;

use super::entry::Entry;
use super::table::Now;

/// A command as the API and the CLI show it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CommandInfo {
    /// Its id.
    pub id: CommandId,
    /// The device that it is for.
    pub device: String,
    /// What to do.
    pub name: String,
    /// What it is to be done with.
    #[serde(flatten)]
    pub payload: Payload,
    /// Where it is.
    pub state: State,
    /// Who sent it.
    pub issued_by: String,
    /// When it was submitted, in milliseconds since 1970.
    pub at_ms: u64,
    /// When it came to where it is, in milliseconds since 1970.
    pub changed_ms: u64,
    /// Until when it must be delivered, in milliseconds since 1970.
    pub deliver_by_ms: u64,
    /// How long the device may take, in milliseconds.
    pub execution_timeout_ms: u64,
    /// Until when the device must say how it ended, in milliseconds since 1970, where it has the command and has not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub execute_by_ms: Option<u64>,
    /// Whether it overtakes others.
    pub urgent: bool,
    /// Whether it may be sent again.
    pub repeat: Repeat,
    /// How often it was handed to a session.
    pub attempts: u32,
    /// How often it may be; absent: the node's bound.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deliveries_max: Option<u32>,
    /// What it is superseded by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub supersede: Option<String>,
    /// The key that it was submitted with.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What the device answered last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub result: Option<ResultInfo>,
    /// Why it ended, where the device did not say so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub why: Option<Why>,
    /// The guard that would have kept it back, had it not been urgent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub overridden: Option<Why>,
    /// Answers that did not count.
    #[serde(skip_serializing_if = "is_zero")]
    pub answers_refused: u32,
    /// What made a plugin send it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
    /// The job that it is part of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<CommandId>,
    /// The command that it was sent again for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redrives: Option<CommandId>,
    /// The command that it was sent again as.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub redriven_as: Option<CommandId>,
    /// The life of the node that it was handed over to, or the id of the linked site's gateway, which alone says how it ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub moved_to: Option<OriginHex>,
    /// Whether that one has not said yet that it has it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_doubt: bool,
    /// Who calls it off, where that gateway has not said how it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub called_off_by: Option<String>,
    /// How far it is at the linked site, as that has told last.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at_site: Option<AtSite>,
}

/// How far a command is at a linked site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AtSite {
    /// Where it is there.
    pub state: State,
    /// How often it was handed to a session.
    pub attempts: u32,
    /// How far the device is, 0 to 100.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// Whether the device is connected there.
    pub device_connected: bool,
}

/// What a device answered last.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ResultInfo {
    /// With which status; absent where it was stored by an older release.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// The answer.
    #[serde(flatten)]
    pub answer: Answer,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl CommandInfo {
    /// A command as it is now.
    pub(super) fn at(entry: &Entry, now: Now) -> Self {
        let queued = &entry.queued;
        let is_with_device = entry.progress.state().is_with_device();
        // Deadlines run on the steady clock.
        let execute_by_ms = is_with_device.then(|| (now.wall + entry.execute_by).saturating_sub(now.steady));
        Self {
            id: entry.id,
            device: entry.device.to_string(),
            name: queued.name.clone(),
            payload: queued.payload.clone(),
            state: entry.progress.state(),
            issued_by: queued.issued_by.clone(),
            at_ms: entry.at_ms,
            changed_ms: entry.changed_ms,
            deliver_by_ms: queued.deliver_by_ms,
            execution_timeout_ms: entry.execution_timeout_ms(),
            urgent: queued.urgent,
            repeat: queued.repeat,
            execute_by_ms,
            attempts: entry.progress.attempts(),
            deliveries_max: queued.deliveries_max,
            supersede: queued.supersede.clone(),
            idempotency_key: queued.idempotency_key.clone(),
            result: entry.result.as_deref().map(|answer| ResultInfo { status: entry.answered, answer: answer.clone() }),
            why: entry.why.as_deref().cloned(),
            overridden: entry.overridden.as_deref().cloned(),
            answers_refused: entry.answers_refused,
            cause: queued.cause.as_deref().cloned(),
            job: queued.job,
            redrives: queued.redrives,
            redriven_as: entry.redriven_as,
            moved_to: entry.away.map(|away| OriginHex(away.to.0)),
            in_doubt: !entry.progress.state().is_outcome() && entry.away.is_some_and(|away| !away.is_sure),
            called_off_by: (!entry.progress.state().is_outcome())
                .then(|| entry.called_off.as_deref().map(str::to_owned))
                .flatten(),
            at_site: None,
        }
    }
}

/// Which commands are asked for.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Of this device alone.
    pub device: Option<String>,
    /// In this state alone.
    pub state: Option<State>,
    /// `true`: those that have ended; `false`: those that have not.
    pub ended: Option<bool>,
    /// Those that ended without the device's word alone.
    pub dead: bool,
    /// Of this job alone.
    pub job: Option<CommandId>,
}

impl Filter {
    pub(super) fn takes(&self, entry: &Entry) -> bool {
        let state = entry.progress.state();
        self.device.as_deref().is_none_or(|device| device == &*entry.device)
            && self.state.is_none_or(|wanted| wanted == state)
            && self.ended.is_none_or(|wanted| wanted == state.is_outcome())
            && (!self.dead || entry.is_dead_letter())
            && self.job.is_none_or(|job| entry.queued.job == Some(job))
    }
}
