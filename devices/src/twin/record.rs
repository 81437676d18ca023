//! A twin as it is kept and stored, and the one place where a change of it is decided.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::change::Act;
use super::document::{Document, DocumentError};
use super::merge::{delta, merge};

/// The small named tree of twins; its key is the device's name.
pub const TWINS_TREE: &str = "twins";
/// The version byte before a stored twin.
pub const RECORD_VERSION: u8 = 1;

/// One of a twin's documents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Half {
    /// What people and plugins want.
    Desired,
    /// What the device says.
    Reported,
}

/// One half with its history's end.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Side {
    /// Rises by one with each change; 0 before the first.
    pub version: u64,
    /// When it changed last: the node's wall clock, milliseconds since 1970.
    pub at_ms: u64,
    /// Who changed it.
    pub by: String,
    /// The document as compact JSON.
    pub json: String,
}

impl Default for Side {
    fn default() -> Self {
        Self { version: 0, at_ms: 0, by: String::new(), json: "{}".to_owned() }
    }
}

impl Side {
    /// The document.
    pub fn document(&self) -> Document {
        // It was one when it was accepted.
        Document::parse(self.json.as_bytes()).unwrap_or_default()
    }
}

/// Both halves' versions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Versions {
    /// The desired half's.
    pub desired: u64,
    /// The reported half's.
    pub reported: u64,
}

/// A device's twin.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twin {
    /// What people and plugins want.
    pub desired: Side,
    /// What the device says.
    pub reported: Side,
}

/// Why a change was not accepted.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum Refusal {
    /// It was meant for another version.
    #[error("the version is {found}, not {expected}; read it again and decide anew")]
    Version {
        /// The version that it was meant for.
        expected: u64,
        /// The version as it is.
        found: u64,
    },
    /// The document or what would come of it cannot be.
    #[error(transparent)]
    Document(#[from] DocumentError),
    /// The user property of a version is no number.
    #[error("the version {0:?} is not a number; send decimal digits alone")]
    Number(String),
    /// There are as many twins, or as many bytes of them, as may be.
    #[error("the node keeps as many twins as it may; delete some, or raise [twins] twins_max and bytes_max")]
    NoRoom,
    /// There is nothing to be deleted.
    #[error("the device has no twin")]
    NoTwin,
}

impl Refusal {
    /// A word that programs may rely on.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Version { .. } => "version_conflict",
            Self::Document(DocumentError::TooLarge { .. }) => "too_large",
            Self::Document(_) => "bad_document",
            Self::Number(_) => "bad_version",
            Self::NoRoom => "too_many_twins",
            Self::NoTwin => "no_twin",
        }
    }
}

impl Twin {
    /// The half.
    pub fn half(&self, half: Half) -> &Side {
        match half {
            Half::Desired => &self.desired,
            Half::Reported => &self.reported,
        }
    }

    /// Both versions.
    pub fn versions(&self) -> Versions {
        Versions { desired: self.desired.version, reported: self.reported.version }
    }

    /// What is desired and not yet reported.
    pub fn delta(&self) -> Map<String, Value> {
        delta(&self.desired.document(), &self.reported.document())
    }

    /// Whether there is a delta.
    pub fn differs(&self) -> bool {
        self.desired.json != self.reported.json && !self.delta().is_empty()
    }

    /// What it counts against the bound of bytes.
    pub fn bytes(&self) -> usize {
        self.desired.json.len() + self.desired.by.len() + self.reported.json.len() + self.reported.by.len()
    }

    /// The twin after a patch or a replacement, and its half's version; `None` in place of the version where that
    /// changes nothing, so that the version stays. A replacement's members that are null are left out.
    ///
    /// # Errors
    /// Why it is not accepted; a deletion is [`Refusal::NoTwin`], as nothing comes after it.
    pub fn after(
        &self,
        act: &Act,
        if_version: Option<u64>,
        at_ms: u64,
        who: &str,
    ) -> Result<(Self, Option<u64>), Refusal> {
        let (half, from, patch) = match act {
            Act::Patched { half, patch, .. } => (*half, self.half(*half).document(), patch),
            Act::Replaced { half, document, .. } => (*half, Document::default(), document),
            Act::Deleted => return Err(Refusal::NoTwin),
        };
        let side = self.half(half);
        check_version(if_version, side.version)?;
        let json = merge(&from, patch)?.to_json();
        if json == side.json && side.version > 0 {
            return Ok((self.clone(), None));
        }
        let version = side.version + 1;
        let side = Side { version, at_ms, by: who.to_owned(), json };
        let mut after = self.clone();
        match half {
            Half::Desired => after.desired = side,
            Half::Reported => after.reported = side,
        }
        Ok((after, Some(version)))
    }

    /// As it is stored: a version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        let record = RecordV1 { desired: self.desired.clone(), reported: self.reported.clone() };
        postcard::to_extend(&record, vec![RECORD_VERSION]).unwrap_or_default()
    }

    /// Reads a stored twin; `None` where its version or bytes are not known.
    pub fn decode(value: &[u8]) -> Option<Self> {
        let (&RECORD_VERSION, body) = value.split_first()? else { return None };
        let RecordV1 { desired, reported } = postcard::from_bytes(body).ok()?;
        Some(Self { desired, reported })
    }
}

/// Whether a change that is meant for a version finds it.
pub(super) fn check_version(expected: Option<u64>, found: u64) -> Result<(), Refusal> {
    match expected {
        Some(expected) if expected != found => Err(Refusal::Version { expected, found }),
        _ => Ok(()),
    }
}

/// Version 1 of a stored twin. Frozen, and [`Side`] with it: another shape is another version.
#[derive(Serialize, Deserialize)]
struct RecordV1 {
    desired: Side,
    reported: Side,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn document(json: &str) -> Document {
        Document::parse(json.as_bytes()).unwrap()
    }

    fn patch(half: Half, json: &str) -> Act {
        Act::Patched { half, version: 0, patch: document(json) }
    }

    fn twin() -> Twin {
        let act = patch(Half::Desired, r#"{"a":1}"#);
        let (twin, version) = Twin::default().after(&act, None, 300, "cli").unwrap();
        assert_eq!(version, Some(1));
        twin.after(&patch(Half::Reported, "{}"), Some(0), 2, "device:d").unwrap().0
    }

    #[test]
    fn a_stored_twin_has_these_bytes() {
        let mut golden = vec![1];
        golden.extend_from_slice(b"\x01\xac\x02\x03cli\x07{\"a\":1}");
        golden.extend_from_slice(b"\x01\x02\x08device:d\x02{}");
        assert_eq!(twin().encode(), golden);
        assert_eq!(Twin::decode(&golden), Some(twin()));
        assert_eq!(Twin::decode(&[&[2], &golden[1..]].concat()), None);
        for cut in 0..golden.len() {
            assert_eq!(Twin::decode(&golden[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn versions_rise_by_one_with_what_changes_something() {
        let twin = twin();
        assert_eq!(twin.versions(), Versions { desired: 1, reported: 1 });
        let (same, version) = twin.after(&patch(Half::Desired, r#"{"a":1}"#), Some(1), 9, "x").unwrap();
        assert_eq!((same, version), (twin.clone(), None));
        let whole = Act::Replaced { half: Half::Desired, version: 0, document: document(r#"{"b":2,"c":null}"#) };
        let (next, version) = twin.after(&whole, Some(1), 9, "x").unwrap();
        assert_eq!((version, next.desired.json.as_str(), next.desired.by.as_str()), (Some(2), r#"{"b":2}"#, "x"));
        assert_eq!(next.reported, twin.reported);
        assert!(next.differs());
    }

    #[test]
    fn refusals_have_codes() {
        let twin = twin();
        let refused = |act: &Act, if_version| twin.after(act, if_version, 0, "x").unwrap_err().code();
        assert_eq!(refused(&patch(Half::Reported, "{}"), Some(0)), "version_conflict");
        assert_eq!(refused(&patch(Half::Reported, "{}"), Some(2)), "version_conflict");
        assert_eq!(refused(&Act::Deleted, None), "no_twin");
        let half = format!("{{\"b\":\"{}\"}}", "x".repeat(16_375));
        assert_eq!(refused(&patch(Half::Desired, &half), None), "too_large");
        assert_eq!(Refusal::from(DocumentError::NotObject).code(), "bad_document");
    }
}
