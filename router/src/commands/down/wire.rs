//! What a headquarters and a gateway of a linked site say to each other of commands (pure): a version byte, then postcard. The link
//! carries it and does not look into it.

use devices::command::{
    Answer as Said, CODE_BYTES_MAX, CommandId, PAYLOAD_BYTES_MAX, Payload, State, TEXT_BYTES_MAX, Why, WhyCode,
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::super::table::SiteEnd;

/// The version byte before each.
const VERSION: u8 = 1;
/// The version byte before a question that calls commands off, and before its answer.
pub(in crate::commands) const VERSION_CALL_OFF: u8 = 2;
/// Commands that a gateway is asked to take, or to call off, at once.
pub const ASKED_MAX: usize = 64;
/// Ends that are told at once.
pub(super) const TOLD_MAX: usize = 64;
/// Longest code and text of a refusal, bytes.
const REFUSAL_BYTES_MAX: usize = 256;

/// A command, as it is handed to a gateway. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct GivenV1 {
    pub(super) id: [u8; 16],
    pub(super) device: String,
    pub(super) name: String,
    pub(super) payload: Vec<u8>,
    /// How long it has been on its way since it was submitted, in milliseconds.
    pub(super) age_ms: u64,
    /// How long it may be delivered yet, in milliseconds.
    pub(super) left_ms: u64,
    /// How long ago this gateway was asked first, in milliseconds; `None`: it is asked for the first time.
    pub(super) asked_ms: Option<u64>,
    pub(super) execution_timeout_ms: u64,
    pub(super) urgent: bool,
    pub(super) supersede: Option<String>,
    pub(super) never_repeat: bool,
    pub(super) deliveries_max: Option<u32>,
    pub(super) issued_by: String,
}

/// What became of one that was handed over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) enum Answer {
    /// The gateway has it, and will say how it ends.
    Taken,
    /// It does not take it.
    Refused {
        /// For programs.
        code: String,
        /// For people.
        text: String,
    },
    /// It came too late: it was never there before.
    TooLate,
    /// The gateway's store was set back since it was asked first: it may have been done.
    Lost,
}

/// What became of one that is called off. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) enum CalledOffV2 {
    /// It has ended.
    Ended(EndedV1),
    /// It goes on: the code of why.
    Not(String),
    /// A site behind that one has it, which is asked: the end will be told.
    Asked,
    /// The gateway knows nothing of it.
    NotKnown,
    /// It cannot say at this moment.
    Later,
}

/// How one ended. The words are those of the steps, so that a newer one is no reason to read none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct EndedV1 {
    pub(super) id: [u8; 16],
    pub(super) outcome: String,
    pub(super) why: Option<(String, String, String)>,
    pub(super) answer: Option<SaidV1>,
}

/// What the device answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::commands) struct SaidV1 {
    payload: Vec<u8>,
    percent: Option<u8>,
    code: String,
    text: String,
    left_out_bytes: Option<u64>,
}

pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    encode_as(VERSION, value)
}

/// Reads one; `None` where it is of another version, damaged, or too long.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    decode_as(VERSION, bytes)
}

pub(super) fn encode_as<T: Serialize>(version: u8, value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![version]).unwrap_or_default()
}

/// The same of a version.
pub(super) fn decode_as<T: DeserializeOwned>(version: u8, bytes: &[u8]) -> Option<T> {
    match bytes.split_first()? {
        (first, body) if *first == version => match postcard::take_from_bytes(body).ok()? {
            (value, []) => Some(value),
            _ => None,
        },
        _ => None,
    }
}

/// Reads what a gateway answers, one for each command that it was asked about; fewer where the rest is not known.
pub(in crate::commands) fn decode_answers(bytes: &[u8]) -> Vec<Answer> {
    let mut answers: Vec<Answer> = decode(bytes).unwrap_or_default();
    for answer in &mut answers {
        if let Answer::Refused { code, text } = answer {
            cut(code, REFUSAL_BYTES_MAX);
            cut(text, REFUSAL_BYTES_MAX);
        }
    }
    answers
}

/// Cuts a text to so many bytes.
pub(super) fn cut(text: &mut String, bytes_max: usize) {
    text.truncate(text.floor_char_boundary(bytes_max));
}

impl EndedV1 {
    /// How a command ended.
    pub(super) fn new(id: CommandId, outcome: State, why: Option<&Why>, answer: Option<&Said>) -> Self {
        let why = why.map(|why| (why.code.as_str().to_owned(), why.by.clone(), why.text.clone()));
        let answer = answer.map(|answer| SaidV1 {
            payload: answer.payload.0.clone(),
            percent: answer.percent,
            code: answer.code.clone(),
            text: answer.text.clone(),
            left_out_bytes: answer.left_out_bytes,
        });
        Self { id: *id.as_bytes(), outcome: outcome.as_str().to_owned(), why, answer }
    }

    /// The same, as it counts here; `None` where it is none, or what it holds is over the bounds.
    pub(super) fn end(self) -> Option<(CommandId, SiteEnd)> {
        let outcome = State::from_name(&self.outcome).filter(|state| state.is_outcome())?;
        let why = self.why.map(|(code, mut by, mut text)| {
            cut(&mut by, TEXT_BYTES_MAX);
            cut(&mut text, TEXT_BYTES_MAX);
            let known = serde_json::from_value(serde_json::Value::String(code)).ok();
            Why { code: known.unwrap_or(WhyCode::LinkRefused), by, text }
        });
        let answer = match self.answer {
            Some(said) if said.payload.len() > PAYLOAD_BYTES_MAX => return None,
            Some(mut said) => {
                cut(&mut said.code, CODE_BYTES_MAX);
                cut(&mut said.text, TEXT_BYTES_MAX);
                let SaidV1 { payload, percent, code, text, left_out_bytes } = said;
                Some(Said { session: 0, payload: Payload(payload), percent, code, text, left_out_bytes, late: false })
            }
            None => None,
        };
        Some((CommandId::from_bytes(self.id), SiteEnd { outcome, answer, why }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_answers_and_ends_have_these_bytes() {
        let given = GivenV1 {
            id: [7; 16],
            device: "d".into(),
            name: "n".into(),
            payload: vec![9],
            age_ms: 1,
            left_ms: 2,
            asked_ms: Some(3),
            execution_timeout_ms: 4,
            urgent: true,
            supersede: None,
            never_repeat: false,
            deliveries_max: None,
            issued_by: "cli".into(),
        };
        let golden = [&[1, 1][..], &[7; 16], b"\x01d\x01n\x01\x09\x01\x02\x01\x03\x04\x01\x00\x00\x00\x03cli"].concat();
        assert_eq!(encode(&vec![given.clone()]), golden);
        assert_eq!(decode(&golden), Some(vec![given]));
        let answers =
            vec![Answer::Taken, Answer::Refused { code: "c".into(), text: "t".into() }, Answer::TooLate, Answer::Lost];
        assert_eq!(encode(&answers), b"\x01\x04\x00\x01\x01c\x01t\x02\x03");
        assert_eq!(decode_answers(&encode(&answers)), answers);
        assert_eq!(decode_answers(&[2, 0]), []);
        let not = [CalledOffV2::Not("n".into()), CalledOffV2::Asked, CalledOffV2::NotKnown, CalledOffV2::Later];
        assert_eq!(encode_as(VERSION_CALL_OFF, &not.to_vec()), b"\x02\x04\x01\x01n\x02\x03\x04");
        assert_eq!(decode_as(VERSION_CALL_OFF, b"\x02\x04\x01\x01n\x02\x03\x04"), Some(not.to_vec()));
        let asked = vec![([7_u8; 16], "cli".to_owned())];
        assert_eq!(encode_as(VERSION_CALL_OFF, &asked), [&[2, 1][..], &[7; 16], b"\x03cli"].concat());
        let why = Why { code: WhyCode::Denied, by: "g".into(), text: "h".into() };
        let said = Said { payload: Payload(vec![8]), percent: Some(4), code: "x".into(), ..Said::default() };
        let ended = EndedV1::new(CommandId::from_bytes([6; 16]), State::Failed, Some(&why), Some(&said));
        let golden =
            [&[1][..], &[6; 16], b"\x06failed\x01\x06denied\x01g\x01h\x01\x01\x08\x01\x04\x01x\x00\x00"].concat();
        assert_eq!(encode(&ended), golden);
        let end = SiteEnd { outcome: State::Failed, answer: Some(said), why: Some(why) };
        assert_eq!(ended.end(), Some((CommandId::from_bytes([6; 16]), end)));
    }

    #[test]
    fn what_a_gateway_may_not_say_is_not_taken() {
        let ended = |outcome: &str| EndedV1 { id: [1; 16], outcome: outcome.into(), why: None, answer: None };
        for (outcome, counts) in
            [("succeeded", true), ("expired", true), ("queued", false), ("sent", false), ("", false)]
        {
            assert_eq!(ended(outcome).end().is_some(), counts, "{outcome}");
        }
        let large = SaidV1 {
            payload: vec![0; PAYLOAD_BYTES_MAX + 1],
            percent: None,
            code: String::new(),
            text: String::new(),
            left_out_bytes: None,
        };
        assert!(EndedV1 { answer: Some(large), ..ended("failed") }.end().is_none());
        let newer = EndedV1 { why: Some(("newer".into(), String::new(), "x".repeat(999))), ..ended("refused") };
        let (_, end) = newer.end().unwrap();
        let why = end.why.unwrap();
        assert_eq!((why.code, why.text.len()), (WhyCode::LinkRefused, TEXT_BYTES_MAX));
    }
}
