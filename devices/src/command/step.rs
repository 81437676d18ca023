//! The events of a command's life, as JSON on the internal topic of commands.
//!
//! One object a step: `{"v":1,"id":"…","at_ms":…,"step":"queued",…}`. The event's key is the device.
//! Fields that a reader does not know are skipped; a meaning that changes raises `v`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Cause, CommandId, Payload, Refusal, Status};

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
        }
    }
}

/// Why a command ended without the device's word.
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
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const ID: &str = "017f22e2-79b0-7cc3-98c4-dc0c0c07398f";

    fn queued() -> Queued {
        Queued {
            cause: Some(Box::new(Cause {
                plugin: "threshold-alarm".into(),
                topic: "telemetry".into(),
                origin: u64::MAX,
                partition: 1,
                offset: 9,
                index: 0,
            })),
            ..Queued::new("cool", br#"{"to":5}"#.to_vec(), 61_000, "plugin:threshold-alarm")
        }
    }

    fn with_everything() -> Queued {
        Queued {
            cause: None,
            execution_timeout_ms: Some(5),
            urgent: true,
            supersede: Some("set-point".into()),
            idempotency_key: Some("k1".into()),
            repeat: Repeat::Never,
            deliveries_max: Some(3),
            job: Some(ID.parse().unwrap()),
            redrives: Some(ID.parse().unwrap()),
            ..Queued::new("cool", vec![0xff], 61_000, "cli")
        }
    }

    fn answer(payload: &[u8]) -> Answer {
        Answer { session: 3, payload: payload.to_vec().into(), ..Answer::default() }
    }

    fn submissions() -> Vec<(Step, String)> {
        vec![
            (
                Step::Queued(Box::new(queued())),
                r#""step":"queued","name":"cool","payload":"{\"to\":5}","deliver_by_ms":61000,"issued_by":"plugin:threshold-alarm","cause":{"plugin":"threshold-alarm","topic":"telemetry","origin":18446744073709551615,"partition":1,"offset":9,"index":0}"#.into(),
            ),
            (
                Step::Queued(Box::new(with_everything())),
                format!(
                    r#""step":"queued","name":"cool","payload_base64":"/w==","deliver_by_ms":61000,"execution_timeout_ms":5,"urgent":true,"supersede":"set-point","idempotency_key":"k1","repeat":"never","deliveries_max":3,"issued_by":"cli","job":"{ID}","redrives":"{ID}""#
                ),
            ),
        ]
    }

    fn cases() -> Vec<(Step, &'static str)> {
        let why = Why { code: WhyCode::Denied, by: "valve-guard".into(), text: "pressure".into() };
        vec![
            (
                Step::Rewritten(Rewritten { by: "g".into(), payload: b"5".to_vec().into() }),
                r#""step":"rewritten","by":"g","payload":"5""#,
            ),
            (
                Step::Sent { session: 3, client: "c".into(), attempt: 1 },
                r#""step":"sent","session":3,"client":"c","attempt":1"#,
            ),
            (Step::Returned { session: 3, unsent: false }, r#""step":"returned","session":3"#),
            (Step::Returned { session: 3, unsent: true }, r#""step":"returned","session":3,"unsent":true"#),
            (Step::Delivered { session: 3 }, r#""step":"delivered","session":3"#),
            (Step::Accepted(answer(b"")), r#""step":"accepted","session":3"#),
            (
                Step::InProgress(Answer { percent: Some(40), ..answer(b"") }),
                r#""step":"in-progress","session":3,"percent":40"#,
            ),
            (
                Step::Succeeded(Answer { late: true, ..answer(b"ok") }),
                r#""step":"succeeded","session":3,"payload":"ok","late":true"#,
            ),
            (
                Step::Failed(Answer { left_out_bytes: Some(20_000), ..answer(b"") }),
                r#""step":"failed","session":3,"left_out_bytes":20000"#,
            ),
            (
                Step::Rejected(Answer { code: "stuck".into(), text: "it is stuck".into(), ..answer(&[0]) }),
                r#""step":"rejected","session":3,"payload_base64":"AA==","code":"stuck","text":"it is stuck""#,
            ),
            (
                Step::AnswerRefused { session: 3, status: Status::Failed, code: Refusal::SecondAnswer },
                r#""step":"answer-refused","session":3,"status":"failed","code":"second-answer""#,
            ),
            (Step::Expired, r#""step":"expired""#),
            (Step::Unknown(Why::code(WhyCode::Unconfirmed)), r#""step":"unknown","code":"unconfirmed""#),
            (Step::TimedOut, r#""step":"timed-out""#),
            (Step::Refused(why), r#""step":"refused","code":"denied","by":"valve-guard","text":"pressure""#),
            (
                Step::Cancelled(Why::by(WhyCode::Cancelled, "cli")),
                r#""step":"cancelled","code":"cancelled","by":"cli""#,
            ),
            (Step::Superseded(Why::code(WhyCode::Superseded)), r#""step":"superseded","code":"superseded""#),
        ]
    }

    #[test]
    fn every_step_is_golden_and_comes_back() {
        let steps = cases().into_iter().map(|(step, golden)| (step, golden.to_owned()));
        for (step, golden) in steps.chain(submissions()) {
            let event = StepEvent::new(ID.parse().unwrap(), 1000, 2, step);
            let golden = format!(r#"{{"v":1,"id":"{ID}","at_ms":1000,"n":2,{golden}}}"#);
            assert_eq!(String::from_utf8(event.encode()).unwrap(), golden);
            assert_eq!(StepEvent::decode(golden.as_bytes()).unwrap(), event);
        }
    }

    #[test]
    fn fields_of_a_later_release_are_skipped() {
        let json = format!(r#"{{"v":1,"id":"{ID}","at_ms":1,"step":"expired","why":"late"}}"#);
        assert_eq!(StepEvent::decode(json.as_bytes()).unwrap().step, Step::Expired);
    }

    #[test]
    fn every_code_is_written_as_it_is_shown() {
        use WhyCode::*;
        let codes = [
            NoRoom,
            Overflow,
            TooLarge,
            Denied,
            GuardFailed,
            NotRepeatable,
            DeliveriesExhausted,
            Cancelled,
            Superseded,
            DuplicateKey,
            Unconfirmed,
            Expired,
        ];
        for code in codes {
            assert_eq!(serde_json::to_value(code).unwrap(), code.as_str());
        }
    }

    #[test]
    fn other_values_are_refused() {
        let newer = format!(r#"{{"v":2,"id":"{ID}","what":"ever"}}"#);
        assert!(matches!(StepEvent::decode(newer.as_bytes()), Err(DecodeStepError::Version(2))));
        for json in [
            String::new(),
            "{}".into(),
            format!(r#"{{"v":1,"id":"{ID}","at_ms":1,"step":"forgotten"}}"#),
            r#"{"v":1,"id":"x","at_ms":1,"step":"expired"}"#.into(),
            format!(r#"{{"v":1,"id":"{ID}","at_ms":1,"step":"sent","session":-1,"attempt":1}}"#),
        ] {
            assert!(StepEvent::decode(json.as_bytes()).is_err(), "{json}");
        }
    }
}
