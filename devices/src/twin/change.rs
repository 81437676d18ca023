//! The events of twins, as JSON on internal topics: changes that were accepted, and what plugins wish.
//!
//! A change: `{"v":1,"at_ms":…,"who":"device:pump-7","act":"patched","half":"reported","version":4,"patch":{…}}`. The
//! event's key is the device. Fields that a reader does not know are skipped; a meaning that changes raises `v`.

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;

use super::document::Document;
use super::record::Half;
use crate::command::Cause;

/// The version that is written.
pub const CHANGE_VERSION: u8 = 1;

/// A change of one twin that was accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Change {
    v: u8,
    /// When: the node's wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// Who made it: `device:pump-7` (with the client id), `cli`, `api`, `plugin:threshold-alarm`.
    pub who: String,
    /// What it is.
    #[serde(flatten)]
    pub act: Act,
}

/// What is done to a twin.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "act", rename_all = "kebab-case")]
pub enum Act {
    /// A half was patched.
    Patched {
        /// Which.
        half: Half,
        /// Its version after that.
        version: u64,
        /// The merge patch.
        patch: Document,
    },
    /// A half was replaced.
    Replaced {
        /// Which.
        half: Half,
        /// Its version after that.
        version: u64,
        /// What it is now.
        document: Document,
    },
    /// The twin was deleted; a later one begins with version 1.
    Deleted,
}

impl Act {
    /// The same with the version that came of it.
    #[must_use]
    pub fn with_version(self, version: u64) -> Self {
        match self {
            Self::Patched { half, patch, .. } => Self::Patched { half, version, patch },
            Self::Replaced { half, document, .. } => Self::Replaced { half, version, document },
            Self::Deleted => Self::Deleted,
        }
    }
}

/// What a plugin wants a device to be: read by the room of twins, applied once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wish {
    v: u8,
    /// When: the node's wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// Who: `plugin:threshold-alarm`.
    pub who: String,
    /// The merge patch of what is desired, or all of it.
    pub document: Document,
    /// Whether it is all of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub replace: bool,
    /// The desired version that it is meant for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub if_version: Option<u64>,
    /// What made the plugin wish it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<Cause>,
}

/// Why bytes are no such event.
#[derive(Debug, Error)]
pub enum DecodeError {
    /// Not JSON, or not of this shape.
    #[error("not an event of a twin: {0}")]
    Json(#[from] serde_json::Error),
    /// Written by a newer release.
    #[error("an event of version {0}; this release reads up to {CHANGE_VERSION}")]
    Version(u8),
}

impl Change {
    /// A change of the version that is written.
    pub fn new(at_ms: u64, who: &str, act: Act) -> Self {
        Self { v: CHANGE_VERSION, at_ms, who: who.to_owned(), act }
    }

    /// The event's value.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads an event's value.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

impl Wish {
    /// A wish of the version that is written.
    pub fn new(at_ms: u64, who: &str, document: Document) -> Self {
        let who = who.to_owned();
        Self { v: CHANGE_VERSION, at_ms, who, document, replace: false, if_version: None, cause: None }
    }

    /// What is to be done.
    pub fn act(&self) -> Act {
        let document = self.document.clone();
        match self.replace {
            true => Act::Replaced { half: Half::Desired, version: 0, document },
            false => Act::Patched { half: Half::Desired, version: 0, patch: document },
        }
    }

    /// The event's value.
    pub fn encode(&self) -> Vec<u8> {
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Reads an event's value.
    ///
    /// # Errors
    /// Why it is none.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        decode(bytes)
    }
}

fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, DecodeError> {
    #[derive(Deserialize)]
    struct Version {
        v: u8,
    }
    let Version { v } = serde_json::from_slice(bytes)?;
    if v > CHANGE_VERSION {
        return Err(DecodeError::Version(v));
    }
    Ok(serde_json::from_slice(bytes)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(json: &str) -> Document {
        Document::parse(json.as_bytes()).unwrap()
    }

    #[test]
    fn changes_are_golden_and_come_back() {
        let patch = Act::Patched { half: Half::Reported, version: 4, patch: document(r#"{"b":null,"a":1}"#) };
        let whole = Act::Replaced { half: Half::Desired, version: 5, document: document("{}") };
        let cases = [
            (patch, r#""act":"patched","half":"reported","version":4,"patch":{"a":1,"b":null}"#),
            (whole, r#""act":"replaced","half":"desired","version":5,"document":{}"#),
            (Act::Deleted, r#""act":"deleted""#),
        ];
        for (act, golden) in cases {
            let change = Change::new(1_000, "device:pump-7", act);
            let golden = format!(r#"{{"v":1,"at_ms":1000,"who":"device:pump-7",{golden}}}"#);
            assert_eq!(String::from_utf8(change.encode()).unwrap(), golden);
            assert_eq!(Change::decode(golden.as_bytes()).unwrap(), change);
        }
    }

    #[test]
    fn wishes_are_golden_and_come_back() {
        let mut wish = Wish::new(7, "plugin:p", document(r#"{"a":1}"#));
        let golden = r#"{"v":1,"at_ms":7,"who":"plugin:p","document":{"a":1}}"#;
        assert_eq!(String::from_utf8(wish.encode()).unwrap(), golden);
        assert_eq!(Wish::decode(golden.as_bytes()).unwrap(), wish);
        (wish.replace, wish.if_version) = (true, Some(3));
        let cause = Cause { plugin: "p".into(), topic: "t".into(), origin: 1, partition: 2, offset: 3, index: 0 };
        wish.cause = Some(cause);
        let golden = r#"{"v":1,"at_ms":7,"who":"plugin:p","document":{"a":1},"replace":true,"if_version":3,"cause":{"plugin":"p","topic":"t","origin":1,"partition":2,"offset":3,"index":0}}"#;
        assert_eq!(String::from_utf8(wish.encode()).unwrap(), golden);
        assert_eq!(Wish::decode(golden.as_bytes()).unwrap(), wish);
        assert!(matches!(wish.act(), Act::Replaced { half: Half::Desired, .. }));
    }

    #[test]
    fn other_values_are_refused() {
        assert!(matches!(Change::decode(br#"{"v":2,"what":"ever"}"#), Err(DecodeError::Version(2))));
        for json in ["", "{}", r#"{"v":1,"at_ms":1,"who":"x","act":"forgotten"}"#] {
            assert!(Change::decode(json.as_bytes()).is_err(), "{json}");
            assert!(Wish::decode(json.as_bytes()).is_err(), "{json}");
        }
        let deep =
            format!(r#"{{"v":1,"at_ms":1,"who":"x","document":{}}}"#, "{\"a\":".repeat(17) + "1" + &"}".repeat(17));
        assert!(Wish::decode(deep.as_bytes()).is_err());
    }
}
