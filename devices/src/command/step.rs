//! The events of a command's life, as JSON on the internal topic of commands.
//!
//! One object a step: `{"v":1,"id":"…","at_ms":…,"step":"queued",…}`. The event's key is the device.
//! Fields that a reader does not know are skipped; a meaning that changes raises `v`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Cause, CommandId, OriginHex, Payload, Refusal, State, Status, Taken};

/// The version that is written.
pub const STEP_VERSION: u8 = 1;

/// One step of one command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StepEvent {
    v: u8,
    /// The command.
    pub id: CommandId,
    /// When it happened: the node's wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// The step's number within its command: 0 for `queued`, then rising by one.
    #[serde(default)]
    pub n: u32,
    /// What happened.
    #[serde(flatten)]
    pub step: Step,
}

/// What happened to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// It was submitted.
    Queued(Box<Queued>),
    /// A guard gave it another payload.
    Rewritten(Rewritten),
    /// A guard would have kept it back; it is urgent and goes all the same. Comes at any time, behind the outcome too.
    GuardOverridden(Why),
    /// A session of the device took it.
    Sent {
        /// The session.
        session: u64,
        /// The session's MQTT client id.
        #[serde(default)]
        client: String,
        /// How often it has been sent, from 1.
        attempt: u32,
    },
    /// The session ended before the device confirmed: it is queued again.
    Returned {
        /// The session.
        session: u64,
        /// It was never written to the connection: the device cannot have it.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        unsent: bool,
    },
    /// The device confirmed its receipt.
    Delivered {
        /// The session.
        session: u64,
    },
    /// The device said that it will do it.
    Accepted(Answer),
    /// The device said how far it is.
    InProgress(Answer),
    /// Outcome: done.
    Succeeded(Answer),
    /// Outcome: tried and not done.
    Failed(Answer),
    /// Outcome: refused by the device.
    Rejected(Answer),
    /// An answer that does not count.
    AnswerRefused {
        /// The session that it came through.
        session: u64,
        /// What it said.
        status: Status,
        /// Why it does not count.
        code: Refusal,
    },
    /// It is being handed over to the node that its device is connected to: that one may have it from now on.
    Moving {
        /// The life that the node writes.
        to: OriginHex,
        /// The term under which it has it there.
        term: u64,
    },
    /// That node has it: it alone says how it ended.
    Moved {
        /// The life that the node writes.
        to: OriginHex,
        /// The term under which it has it there.
        term: u64,
    },
    /// That node has not taken it: it waits here.
    Stays,
    /// Somebody calls it off, and a gateway of a linked site has it, or may have it: that one is asked.
    CallingOff {
        /// Who.
        by: String,
    },
    /// The gateway has not called it off: it goes on.
    NotCalledOff {
        /// Why.
        code: Refusal,
    },
    /// Outcome: never sent in time.
    Expired,
    /// Outcome: sent, and nobody knows whether it arrived.
    Unknown(Why),
    /// Outcome: it arrived and was not done in time.
    TimedOut,
    /// Outcome: the node would not send it.
    Refused(Why),
    /// Outcome: called off before it was sent.
    Cancelled(Why),
    /// Outcome: a newer one took its place.
    Superseded(Why),
}

impl Step {
    /// How the command ended with this step; `None` where it did not, or had before.
    pub fn outcome(&self) -> Option<State> {
        match self {
            Self::Succeeded(answer) => (!answer.late).then_some(State::Succeeded),
            Self::Failed(answer) => (!answer.late).then_some(State::Failed),
            Self::Rejected(answer) => (!answer.late).then_some(State::Rejected),
            Self::Expired => Some(State::Expired),
            Self::Unknown(_) => Some(State::Unknown),
            Self::TimedOut => Some(State::TimedOut),
            Self::Refused(_) => Some(State::Refused),
            Self::Cancelled(_) => Some(State::Cancelled),
            Self::Superseded(_) => Some(State::Superseded),
            _ => None,
        }
    }
}

/// Why a command ended without the device's word: a code for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum WhyCode {
    /// Too many commands, or bytes of commands, were pending.
    NoRoom,
    /// A newer one took its room.
    Overflow,
    /// A guard forbade it.
    Denied,
    /// A guard did not answer, which forbids it as well.
    GuardFailed,
    /// It must not be repeated, and the connection ended before the device confirmed.
    NotRepeatable,
    /// It was sent as often as it may be.
    DeliveriesExhausted,
    /// Somebody called it off.
    Cancelled,
    /// A newer command with its key took its place.
    Superseded,
    /// Another command has its idempotency key.
    DuplicateKey,
    /// The device did not confirm in the time that it had.
    Unconfirmed,
    /// Its time for delivery passed after it had been sent and had come back.
    Expired,
    /// It is larger than the device's client takes.
    TooLarge,
    /// Another node had it last, which is lost.
    NodeLost,
    /// The linked site that its device is at does not take it.
    LinkRefused,
}

impl WhyCode {
    /// The code as it is written.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRoom => "no-room",
            Self::Overflow => "overflow",
            Self::TooLarge => "too-large",
            Self::Denied => "denied",
            Self::GuardFailed => "guard-failed",
            Self::NotRepeatable => "not-repeatable",
            Self::DeliveriesExhausted => "deliveries-exhausted",
            Self::Cancelled => "cancelled",
            Self::Superseded => "superseded",
            Self::DuplicateKey => "duplicate-key",
            Self::Unconfirmed => "unconfirmed",
            Self::Expired => "expired",
            Self::NodeLost => "node-lost",
            Self::LinkRefused => "link-refused",
        }
    }
}

/// Why a command ended without the device's word, or would have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Why {
    /// The code.
    pub code: WhyCode,
    /// Who: a guard, whoever called it off, or the id of the command that took its place.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub by: String,
    /// For people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
}

impl Why {
    /// A code and nothing else to say.
    pub fn code(code: WhyCode) -> Self {
        Self { code, by: String::new(), text: String::new() }
    }

    /// A code and who it comes from.
    pub fn by(code: WhyCode, by: impl Into<String>) -> Self {
        Self { code, by: by.into(), text: String::new() }
    }
}

/// Another payload than the one that was submitted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rewritten {
    /// The guard that says so.
    pub by: String,
    /// The payload.
    #[serde(flatten)]
    pub payload: Payload,
}

/// Whether a command may be sent again after a send that was not confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Repeat {
    /// Doing it twice does no harm, or the device refuses what it has done.
    #[default]
    Safe,
    /// Not unless the device is known to refuse repeats: rather an unknown end.
    Never,
}

impl Repeat {
    fn is_safe(&self) -> bool {
        *self == Self::Safe
    }
}

/// A submitted command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Queued {
    /// What to do.
    pub name: String,
    /// What it is to be done with.
    #[serde(flatten)]
    pub payload: Payload,
    /// Until when it must be delivered: wall clock, milliseconds since 1970.
    pub deliver_by_ms: u64,
    /// How long the device may take from its receipt to the end; absent: the default.
    #[serde(default, skip_serializing_if = "Option::is_none", alias = "answer_within_ms")]
    pub execution_timeout_ms: Option<u64>,
    /// It overtakes what waits for the device, and no guard holds it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub urgent: bool,
    /// It takes the place of the device's queued commands with the same key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersede: Option<String>,
    /// The key under which it was submitted: the same key again is the same command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Whether it may be sent again.
    #[serde(default, skip_serializing_if = "Repeat::is_safe")]
    pub repeat: Repeat,
    /// How often it may be sent; absent: the node's bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries_max: Option<u32>,
    /// Who sent it: `plugin:threshold-alarm`, `cli`, `api`.
    pub issued_by: String,
    /// What made a plugin send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Box<Cause>>,
    /// The job that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub job: Option<CommandId>,
    /// The command that it is sent again for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrives: Option<CommandId>,
    /// What is known of it from the node that had it before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub taken: Option<Box<Taken>>,
}

impl Queued {
    /// A command with everything that may be left out left out.
    pub fn new(name: &str, payload: Vec<u8>, deliver_by_ms: u64, issued_by: &str) -> Self {
        Self {
            name: name.to_owned(),
            payload: Payload(payload),
            deliver_by_ms,
            execution_timeout_ms: None,
            urgent: false,
            supersede: None,
            idempotency_key: None,
            repeat: Repeat::Safe,
            deliveries_max: None,
            issued_by: issued_by.to_owned(),
            cause: None,
            job: None,
            redrives: None,
            taken: None,
        }
    }

    /// Whether two submissions ask for the same but for their payloads: what an idempotency key stands for. Times are
    /// left out, as a second try is made later.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.name == other.name
            && self.urgent == other.urgent
            && self.supersede == other.supersede
            && self.repeat == other.repeat
    }
}

/// What the device answered.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The session that it came through.
    pub session: u64,
    /// The result.
    #[serde(flatten)]
    pub payload: Payload,
    /// How far it is, 0 to 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub percent: Option<u8>,
    /// The device's reason, for programs.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub code: String,
    /// The device's reason, for people.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub text: String,
    /// The result was larger than the bound, so many bytes; it stands in the log of answers and in the answer's event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out_bytes: Option<u64>,
    /// Whether it came after the outcome, which it does not change.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub late: bool,
}

/// Why bytes are no step event.
#[derive(Debug, Error)]
pub enum DecodeStepError {
    /// Not JSON, or not of this shape.
    #[error("not a step of a command: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a newer release.
    #[error("a step of version {0}; this release reads up to {STEP_VERSION}")]
    Version(u8),
}

impl StepEvent {
    /// A step of the version that is written; the `n`-th of its command.
    pub fn new(id: CommandId, at_ms: u64, n: u32, step: Step) -> Self {
        Self { v: STEP_VERSION, id, at_ms, n, step }
    }

    /// The first step: the submission.
    pub fn queued(id: CommandId, at_ms: u64, queued: Queued) -> Self {
        Self::new(id, at_ms, 0, Step::Queued(Box::new(queued)))
    }

    /// The event's value.
    pub fn encode(&self) -> Vec<u8> {
        let mut value = Vec::new();
        self.encode_into(&mut value);
        value
    }

    /// The same into a buffer, which is emptied before.
    pub fn encode_into(&self, value: &mut Vec<u8>) {
        value.clear();
        // A struct of strings and numbers always becomes JSON; were it not so, a reader would
        // refuse what there is of it.
        let _ = serde_json::to_writer(value, self);
    }

    /// Reads an event's value.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeStepError> {
        #[derive(Deserialize)]
        struct Version {
            v: u8,
        }
        let Version { v } = serde_json::from_slice(bytes)?;
        if v > STEP_VERSION {
            return Err(DecodeStepError::Version(v));
        }
        Ok(serde_json::from_slice(bytes)?)
    }
}

#[cfg(test)]
#[path = "step_tests.rs"]
mod tests;
