//! What people set of one device, its bounds, and how it is stored.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Tags that one device may have.
pub const TAGS_MAX: usize = 64;
/// Attributes that one device may have.
pub const ATTRIBUTES_MAX: usize = 64;
/// Longest name of a tag or an attribute, in bytes.
pub const NAME_BYTES_MAX: usize = 64;
/// Longest text of an attribute, in bytes.
pub const TEXT_BYTES_MAX: usize = 256;
/// What a device takes in memory besides its texts, roughly, in bytes.
const HEAD_BYTES: usize = 160;
/// What a tag or an attribute takes in memory besides its texts, roughly, in bytes.
const ENTRY_BYTES: usize = 48;
/// The version byte before a stored device.
const VERSION: u8 = 1;
/// Numbers up to here have no fraction in JSON where they have none: 2^53.
const WHOLE_MAX: f64 = 9_007_199_254_740_992.0;

/// What an attribute says. In JSON the plain value; stored and sent as [`ValueV1`].
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// Yes or no.
    Flag(bool),
    /// A number; finite.
    Number(f64),
    /// Text, at most [`TEXT_BYTES_MAX`] bytes without control characters.
    Text(String),
}

/// What people set of one device.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Device {
    /// Whether it was added by people, rather than only tagged after it was seen.
    pub enrolled: bool,
    /// When it came into the catalog, in milliseconds since 1970.
    pub added_at_ms: i64,
    /// Its tags.
    pub tags: BTreeSet<String>,
    /// Its attributes.
    pub attributes: BTreeMap<String, Value>,
    /// Whether it is known to refuse a command whose id it has seen; `None` where nobody said.
    pub refuses_repeats: Option<bool>,
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(flag) => flag.fmt(f),
            Self::Number(number) => number.fmt(f),
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if !serializer.is_human_readable() {
            return ValueV1::from(self.clone()).serialize(serializer);
        }
        match self {
            Self::Flag(flag) => serializer.serialize_bool(*flag),
            Self::Number(number) if number.fract() == 0.0 && number.abs() < WHOLE_MAX => {
                serializer.serialize_i64(*number as i64)
            }
            Self::Number(number) => serializer.serialize_f64(*number),
            Self::Text(text) => serializer.serialize_str(text),
        }
    }
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        if !deserializer.is_human_readable() {
            return ValueV1::deserialize(deserializer).map(Self::from);
        }
        Ok(match PlainValue::deserialize(deserializer)? {
            PlainValue::Flag(flag) => Self::Flag(flag),
            PlainValue::Number(number) => Self::Number(number),
            PlainValue::Text(text) => Self::Text(text),
        })
    }
}

/// A value as it is read from JSON.
#[derive(Deserialize)]
#[serde(untagged)]
enum PlainValue {
    Flag(bool),
    Number(f64),
    Text(String),
}

impl Value {
    /// What is typed: `true` and `false` are flags, what JSON takes as a number is one, all else is text. Quotes
    /// around it make it text.
    pub fn typed(text: &str) -> Self {
        let unquoted = ['"', '\''].into_iter().find_map(|quote| text.strip_prefix(quote)?.strip_suffix(quote));
        match (unquoted, text) {
            (Some(inner), _) => Self::Text(inner.to_owned()),
            (None, "true") => Self::Flag(true),
            (None, "false") => Self::Flag(false),
            (None, text) => parse_number(text).map_or_else(|| Self::Text(text.to_owned()), Self::Number),
        }
    }

    /// Whether it is within its bounds.
    pub(super) fn is_fit(&self) -> bool {
        match self {
            Self::Flag(_) => true,
            Self::Number(number) => number.is_finite(),
            Self::Text(text) => text.len() <= TEXT_BYTES_MAX && !text.chars().any(char::is_control),
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Text(text) => text.len(),
            Self::Flag(_) | Self::Number(_) => 0,
        }
    }
}

/// A number as JSON writes it: `0042` and `.5` are none.
pub(super) fn parse_number(text: &str) -> Option<f64> {
    serde_json::from_str(text).ok()
}

/// Whether it can name a tag or an attribute: what a filter takes without quotes, without `*`.
pub(super) fn is_name(text: &str) -> bool {
    let legal = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | ':' | '/' | '@');
    (1..=NAME_BYTES_MAX).contains(&text.len()) && text.chars().all(legal)
}

impl Device {
    /// What it takes in memory, roughly, in bytes.
    pub(super) fn bytes(&self, name: &str) -> usize {
        let tags: usize = self.tags.iter().map(|tag| tag.len() + ENTRY_BYTES).sum();
        let attributes = self.attributes.iter().map(|(name, value)| name.len() + value.bytes() + ENTRY_BYTES);
        HEAD_BYTES + name.len() + tags + attributes.sum::<usize>()
    }

    /// As it is stored: a version byte, then postcard of [`DeviceV1`].
    pub(super) fn encode(&self) -> Vec<u8> {
        let device = DeviceV1 {
            enrolled: self.enrolled,
            added_at_ms: self.added_at_ms,
            tags: self.tags.iter().cloned().collect(),
            attributes: self.attributes.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            refuses_repeats: self.refuses_repeats,
        };
        postcard::to_extend(&device, vec![VERSION]).unwrap_or_default()
    }

    /// Reads a stored device; `None` where its version or its bytes are not known.
    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let stored: DeviceV1 = match bytes.split_first()? {
            (&VERSION, body) => postcard::from_bytes(body).ok()?,
            _ => return None,
        };
        Some(Self {
            enrolled: stored.enrolled,
            added_at_ms: stored.added_at_ms,
            tags: stored.tags.into_iter().collect(),
            attributes: stored.attributes.into_iter().collect(),
            refuses_repeats: stored.refuses_repeats,
        })
    }
}

/// A device as it is stored. Frozen: a change makes a `DeviceV2`.
#[derive(Serialize, Deserialize)]
struct DeviceV1 {
    enrolled: bool,
    added_at_ms: i64,
    tags: Vec<String>,
    attributes: Vec<(String, Value)>,
    refuses_repeats: Option<bool>,
}

/// An attribute's value as it is stored. Frozen with [`DeviceV1`].
#[derive(Serialize, Deserialize)]
enum ValueV1 {
    Text(String),
    Number(f64),
    Flag(bool),
}

impl From<Value> for ValueV1 {
    fn from(value: Value) -> Self {
        match value {
            Value::Flag(flag) => Self::Flag(flag),
            Value::Number(number) => Self::Number(number),
            Value::Text(text) => Self::Text(text),
        }
    }
}

impl From<ValueV1> for Value {
    fn from(stored: ValueV1) -> Self {
        match stored {
            ValueV1::Flag(flag) => Self::Flag(flag),
            ValueV1::Number(number) => Self::Number(number),
            ValueV1::Text(text) => Self::Text(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attributes(pairs: &[(&str, Value)]) -> BTreeMap<String, Value> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn a_stored_device_has_these_bytes() {
        let device = Device {
            enrolled: true,
            added_at_ms: 2,
            tags: ["b", "a"].map(str::to_owned).into(),
            attributes: attributes(&[
                ("n", Value::Number(1.5)),
                ("t", Value::Text("x".into())),
                ("f", Value::Flag(true)),
            ]),
            refuses_repeats: Some(false),
        };
        let golden = [
            &[1, 1, 4, 2, 1, b'a', 1, b'b', 3, 1, b'f', 2, 1, 1, b'n', 1, 0, 0, 0, 0, 0, 0, 0xf8, 0x3f][..],
            &[1, b't', 0, 1, b'x', 1, 0],
        ]
        .concat();
        assert_eq!(device.encode(), golden);
        assert_eq!(Device::decode(&golden), Some(device));
        assert_eq!(Device::decode(&Device::default().encode()), Some(Device::default()));
        assert_eq!(Device::decode(&[2, 0]), None);
        assert_eq!(Device::decode(&golden[..9]), None);
    }

    #[test]
    fn the_largest_device_is_stored() {
        let names = || (0..TAGS_MAX).map(|n| format!("{n:0>NAME_BYTES_MAX$}"));
        let text = Value::Text("x".repeat(TEXT_BYTES_MAX));
        let attributes = names().map(|name| (name, text.clone())).collect();
        let device = Device { tags: names().collect(), attributes, ..Device::default() };
        assert!(crate::event_log::fits_state(&[b'd'; 200], &device.encode()));
    }

    #[test]
    fn what_is_typed_has_a_kind() {
        let cases = [
            ("5", Value::Number(5.0)),
            ("-1.5e3", Value::Number(-1500.0)),
            ("true", Value::Flag(true)),
            ("True", Value::Text("True".into())),
            ("0042", Value::Text("0042".into())),
            ("\"5\"", Value::Text("5".into())),
            ("'", Value::Text("'".into())),
            ("inf", Value::Text("inf".into())),
            ("", Value::Text(String::new())),
        ];
        for (typed, expected) in cases {
            assert_eq!(Value::typed(typed), expected, "{typed:?}");
        }
    }

    #[test]
    fn values_are_plain_json() {
        let values = [Value::Number(5.0), Value::Number(0.5), Value::Flag(true), Value::Text("5".into())];
        let text = serde_json::to_string(&values).unwrap();
        assert_eq!(text, r#"[5,0.5,true,"5"]"#);
        assert_eq!(serde_json::from_str::<Vec<Value>>(&text).unwrap(), values);
        assert!(serde_json::from_str::<Value>("null").is_err());
    }
}
