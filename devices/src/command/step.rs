//! The events of a command's life, as JSON on the internal topic of commands.
//!
//! One object a step: `{"v":1,"id":"…","at_ms":…,"step":"queued",…}`. The event's key is the device.
//! Fields that a reader does not know are skipped; a meaning that changes raises `v`.

use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::{Cause, CommandId, Payload};

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
    /// What happened.
    #[serde(flatten)]
    pub step: Step,
}

/// What happened to a command.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "step", rename_all = "kebab-case")]
pub enum Step {
    /// It was submitted.
    Queued(Queued),
    /// A session of the device took it.
    Sent {
        /// The session.
        session: u64,
        /// How often it has been sent, from 1.
        attempt: u32,
    },
    /// The session ended before the device confirmed: it is queued again.
    Returned {
        /// The session.
        session: u64,
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
    /// Outcome: never sent in time.
    Expired,
    /// Outcome: sent, and nobody knows whether it arrived.
    Unknown,
    /// Outcome: it arrived and was not answered in time.
    TimedOut,
    /// Outcome: the node had no room for another command to the device.
    Refused,
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
    /// How long the device may take for its answer after its last sign of life; absent: the default.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer_within_ms: Option<u64>,
    /// Who sent it: `plugin:threshold-alarm`, `cli`, `api`.
    pub issued_by: String,
    /// What made a plugin send it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// What the device answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The session that the answer came through.
    pub session: u64,
    /// The result.
    #[serde(flatten)]
    pub payload: Payload,
    /// The size of a result over the bound, which is left out here and is found in the answer's event.
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
    /// A step of the version that is written.
    pub fn new(id: CommandId, at_ms: u64, step: Step) -> Self {
        Self { v: STEP_VERSION, id, at_ms, step }
    }

    /// The event's value.
    pub fn encode(&self) -> Vec<u8> {
        // A struct of strings and numbers always becomes JSON; were it not so, a reader would
        // refuse the empty value.
        serde_json::to_vec(self).unwrap_or_default()
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
            name: "cool".into(),
            payload: br#"{"to":5}"#.to_vec().into(),
            deliver_by_ms: 61_000,
            answer_within_ms: None,
            issued_by: "plugin:threshold-alarm".into(),
            cause: Some(Cause {
                plugin: "threshold-alarm".into(),
                topic: "telemetry".into(),
                origin: u64::MAX,
                partition: 1,
                offset: 9,
                index: 0,
            }),
        }
    }

    fn answer(payload: &[u8]) -> Answer {
        Answer { session: 3, payload: payload.to_vec().into(), left_out_bytes: None, late: false }
    }

    fn cases() -> Vec<(Step, &'static str)> {
        vec![
            (
                Step::Queued(queued()),
                r#""step":"queued","name":"cool","payload":"{\"to\":5}","deliver_by_ms":61000,"issued_by":"plugin:threshold-alarm","cause":{"plugin":"threshold-alarm","topic":"telemetry","origin":18446744073709551615,"partition":1,"offset":9,"index":0}"#,
            ),
            (
                Step::Queued(Queued {
                    payload: vec![0xff].into(),
                    cause: None,
                    issued_by: "cli".into(),
                    answer_within_ms: Some(5),
                    ..queued()
                }),
                r#""step":"queued","name":"cool","payload_base64":"/w==","deliver_by_ms":61000,"answer_within_ms":5,"issued_by":"cli""#,
            ),
            (Step::Sent { session: 3, attempt: 1 }, r#""step":"sent","session":3,"attempt":1"#),
            (Step::Returned { session: 3 }, r#""step":"returned","session":3"#),
            (Step::Delivered { session: 3 }, r#""step":"delivered","session":3"#),
            (Step::Accepted(answer(b"")), r#""step":"accepted","session":3"#),
            (Step::InProgress(answer(b"40 %")), r#""step":"in-progress","session":3,"payload":"40 %""#),
            (
                Step::Succeeded(Answer { late: true, ..answer(b"ok") }),
                r#""step":"succeeded","session":3,"payload":"ok","late":true"#,
            ),
            (
                Step::Failed(Answer { left_out_bytes: Some(20_000), ..answer(b"") }),
                r#""step":"failed","session":3,"left_out_bytes":20000"#,
            ),
            (Step::Rejected(answer(&[0])), r#""step":"rejected","session":3,"payload_base64":"AA==""#),
            (Step::Expired, r#""step":"expired""#),
            (Step::Unknown, r#""step":"unknown""#),
            (Step::TimedOut, r#""step":"timed-out""#),
            (Step::Refused, r#""step":"refused""#),
        ]
    }

    #[test]
    fn every_step_is_golden_and_comes_back() {
        for (step, golden) in cases() {
            let event = StepEvent::new(ID.parse().unwrap(), 1000, step);
            let golden = format!(r#"{{"v":1,"id":"{ID}","at_ms":1000,{golden}}}"#);
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
