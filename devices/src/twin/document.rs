//! A JSON object within its bounds: what a twin's halves and their patches are.

use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};
use thiserror::Error;

use super::{DEPTH_MAX, DOCUMENT_BYTES_MAX};

/// A JSON object of at most [`DOCUMENT_BYTES_MAX`] bytes and [`DEPTH_MAX`] levels. Its names are sorted, so that equal
/// documents have equal bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(transparent)]
pub struct Document(Map<String, Value>);

/// Why bytes are no document.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum DocumentError {
    /// Not JSON.
    #[error("the document is not JSON: {0}")]
    Json(String),
    /// JSON, but no object.
    #[error("the document is not a JSON object; send one such as {{\"interval_s\":30}}")]
    NotObject,
    /// Objects and arrays in one another beyond the bound.
    #[error("the document is deeper than {DEPTH_MAX} levels; flatten it")]
    TooDeep,
    /// Over the bound.
    #[error("the document has {bytes} bytes, the bound is {DOCUMENT_BYTES_MAX}; leave out what nobody needs")]
    TooLarge {
        /// Its size as compact JSON, or as it was sent.
        bytes: usize,
    },
}

impl Document {
    /// Reads a document, or a patch of one.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, DocumentError> {
        // Spaces between are no content; but nobody needs ten times as many.
        if bytes.len() > 10 * DOCUMENT_BYTES_MAX {
            return Err(DocumentError::TooLarge { bytes: bytes.len() });
        }
        let value: Value = serde_json::from_slice(bytes).map_err(|error| DocumentError::Json(error.to_string()))?;
        Self::new(value)
    }

    /// A document of a value.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn new(value: Value) -> Result<Self, DocumentError> {
        if depth(&value) > DEPTH_MAX {
            return Err(DocumentError::TooDeep);
        }
        let Value::Object(members) = value else { return Err(DocumentError::NotObject) };
        let document = Self(members);
        let bytes = document.to_json().len();
        if bytes > DOCUMENT_BYTES_MAX {
            return Err(DocumentError::TooLarge { bytes });
        }
        Ok(document)
    }

    /// As compact JSON, names in order.
    pub fn to_json(&self) -> String {
        // A tree of strings and numbers always becomes JSON.
        serde_json::to_string(&self.0).unwrap_or_default()
    }

    /// Its members.
    pub fn members(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<'de> Deserialize<'de> for Document {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(Value::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }
}

/// Levels of objects and arrays; what is read was bounded by the parser, so that this ends.
fn depth(value: &Value) -> usize {
    match value {
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_documents_have_equal_bytes() {
        let document = Document::parse(br#" {"b" : [1, {"d":null, "c":2.5}], "a":"x"} "#).unwrap();
        assert_eq!(document.to_json(), r#"{"a":"x","b":[1,{"c":2.5,"d":null}]}"#);
        assert_eq!(Document::parse(document.to_json().as_bytes()).unwrap(), document);
        assert!(Document::parse(b"{}").unwrap().is_empty());
    }

    #[test]
    fn what_is_no_document_is_refused_by_reason() {
        for bytes in [&b""[..], b"{", b"{\"a\":1e999}", b"\xff", b"{} {}", &[b'['; 1_000]] {
            assert!(matches!(Document::parse(bytes), Err(DocumentError::Json(_))), "{}", bytes.escape_ascii());
        }
        for bytes in [&b"1"[..], b"null", b"[]", b"\"{}\""] {
            assert_eq!(Document::parse(bytes), Err(DocumentError::NotObject));
        }
        let nested = |levels: usize| format!("{}1{}", "{\"a\":".repeat(levels), "}".repeat(levels));
        assert!(Document::parse(nested(DEPTH_MAX).as_bytes()).is_ok());
        assert_eq!(Document::parse(nested(DEPTH_MAX + 1).as_bytes()), Err(DocumentError::TooDeep));
    }

    #[test]
    fn the_bound_is_of_compact_json() {
        let of = |bytes: usize| format!("{{\"a\":\"{}\"}}", "x".repeat(bytes - 8));
        assert!(Document::parse(of(DOCUMENT_BYTES_MAX).as_bytes()).is_ok());
        let spaced = format!("   {}   ", of(DOCUMENT_BYTES_MAX));
        assert!(Document::parse(spaced.as_bytes()).is_ok());
        let bytes = DOCUMENT_BYTES_MAX + 1;
        assert_eq!(Document::parse(of(bytes).as_bytes()), Err(DocumentError::TooLarge { bytes }));
        let blown_up = " ".repeat(10 * DOCUMENT_BYTES_MAX + 1);
        assert!(matches!(Document::parse(blown_up.as_bytes()), Err(DocumentError::TooLarge { .. })));
    }
}
