//! A payload inside JSON: readable where it is text, base64 where it is not.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// The bytes of a command's or an answer's payload.
///
/// In JSON this is a field `payload` when the bytes are UTF-8 without control characters (tab and
/// line ends aside, so that escapes cannot blow it up), else a field `payload_base64`. Use it with
/// `#[serde(flatten)]`. Empty bytes are written as no field at all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Fields", into = "Fields")]
pub struct Payload(pub Vec<u8>);

#[derive(Clone, Default, Serialize, Deserialize)]
struct Fields {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

fn is_plain(text: &str) -> bool {
    !text.chars().any(|c| c.is_control() && !matches!(c, '\t' | '\n' | '\r'))
}

impl From<Payload> for Fields {
    fn from(payload: Payload) -> Self {
        match String::from_utf8(payload.0) {
            Ok(text) if text.is_empty() => Self::default(),
            Ok(text) if is_plain(&text) => Self { payload: Some(text), payload_base64: None },
            Ok(text) => Self::base64(text.as_bytes()),
            Err(error) => Self::base64(error.as_bytes()),
        }
    }
}

impl Fields {
    fn base64(bytes: &[u8]) -> Self {
        Self { payload: None, payload_base64: Some(STANDARD.encode(bytes)) }
    }
}

impl TryFrom<Fields> for Payload {
    type Error = String;

    fn try_from(fields: Fields) -> Result<Self, String> {
        match (fields.payload, fields.payload_base64) {
            (None, None) => Ok(Self::default()),
            (Some(text), None) => Ok(Self(text.into_bytes())),
            (None, Some(text)) => STANDARD.decode(text).map(Self).map_err(|error| format!("payload_base64: {error}")),
            (Some(_), Some(_)) => Err("payload and payload_base64 exclude each other".into()),
        }
    }
}

impl<T: Into<Vec<u8>>> From<T> for Payload {
    fn from(bytes: T) -> Self {
        Self(bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_golden_and_comes_back() {
        let cases: [(&[u8], &str); 5] = [
            (b"", "{}"),
            (br#"{"to":5}"#, r#"{"payload":"{\"to\":5}"}"#),
            ("21 °C\n".as_bytes(), r#"{"payload":"21 °C\n"}"#),
            (b"\x00\x01", r#"{"payload_base64":"AAE="}"#),
            (b"\xff\xfe\xfd", r#"{"payload_base64":"//79"}"#),
        ];
        for (bytes, json) in cases {
            let payload = Payload(bytes.to_vec());
            assert_eq!(serde_json::to_string(&payload).unwrap(), json);
            assert_eq!(serde_json::from_str::<Payload>(json).unwrap(), payload);
        }
    }

    #[test]
    fn broken_fields_are_refused() {
        for json in [r#"{"payload":"a","payload_base64":"AAE="}"#, r#"{"payload_base64":"?"}"#, r#"{"payload":5}"#] {
            assert!(serde_json::from_str::<Payload>(json).is_err(), "{json}");
        }
    }
}
