//! The MQTT topics of twins, and what is written to a device; the same over `edgeway/1`.
//!
//! - from the device: `edgeway/twin/{device}/reported` (a merge patch of the reported document),
//!   `edgeway/twin/{device}/reported/{version}` (the same, only where the reported version is this one) and
//!   `edgeway/twin/{device}/get` (asks for the whole twin);
//! - to the device: `edgeway/twin/{device}/delta/{version}`, `edgeway/twin/{device}/state` and
//!   `edgeway/twin/{device}/refused`.

use serde::Serialize;
use serde_json::{Map, Value};
use thiserror::Error;

use super::record::{Refusal, Twin};
use crate::command::{NameError, check_device_name};

/// What every topic of a twin begins with.
pub const PREFIX: &str = "edgeway/twin/";

/// What a device says of a twin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromDevice<'a> {
    /// A patch of what is reported.
    Reported {
        /// The device.
        device: &'a str,
        /// The reported version that it is meant for, where the topic says one.
        if_version: Option<u64>,
    },
    /// It asks for the whole twin.
    Get {
        /// The device.
        device: &'a str,
    },
}

impl<'a> FromDevice<'a> {
    /// The device.
    pub fn device(&self) -> &'a str {
        match *self {
            Self::Reported { device, .. } | Self::Get { device } => device,
        }
    }
}

/// What is said to a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToDevice<'a> {
    /// What it still has to do.
    Delta {
        /// The device.
        device: &'a str,
        /// The desired version.
        version: u64,
    },
    /// The whole twin.
    State {
        /// The device.
        device: &'a str,
    },
    /// Why its last report was not taken.
    Refused {
        /// The device.
        device: &'a str,
    },
}

/// Why an MQTT topic is none of a twin's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TopicError {
    /// Another prefix or other levels.
    #[error("not a topic of this kind")]
    Shape,
    /// The device's name is bad.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The last level is no number of 64 bits in plain decimal digits.
    #[error("the version is not a number")]
    Version,
}

/// Reads a topic that a device publishes to.
pub fn parse_from_device(topic: &str) -> Result<FromDevice<'_>, TopicError> {
    let (device, rest) = split(topic)?;
    match rest {
        ("reported", None) => Ok(FromDevice::Reported { device, if_version: None }),
        ("reported", Some(version)) => {
            Ok(FromDevice::Reported { device, if_version: Some(parse_version(version).ok_or(TopicError::Version)?) })
        }
        ("get", None) => Ok(FromDevice::Get { device }),
        _ => Err(TopicError::Shape),
    }
}

/// Reads a topic that a device is told by.
pub fn parse_to_device(topic: &str) -> Result<ToDevice<'_>, TopicError> {
    let (device, rest) = split(topic)?;
    match rest {
        ("delta", Some(version)) => {
            Ok(ToDevice::Delta { device, version: parse_version(version).ok_or(TopicError::Version)? })
        }
        ("state", None) => Ok(ToDevice::State { device }),
        ("refused", None) => Ok(ToDevice::Refused { device }),
        _ => Err(TopicError::Shape),
    }
}

fn split(topic: &str) -> Result<(&str, (&str, Option<&str>)), TopicError> {
    let rest = topic.strip_prefix(PREFIX).ok_or(TopicError::Shape)?;
    let mut levels = rest.split('/');
    let (Some(device), Some(what), last, None) = (levels.next(), levels.next(), levels.next(), levels.next()) else {
        return Err(TopicError::Shape);
    };
    check_device_name(device)?;
    Ok((device, (what, last)))
}

/// A version as topics and properties write it: decimal digits without a sign or leading zeros.
pub fn parse_version(text: &str) -> Option<u64> {
    let is_plain = text.bytes().all(|byte| byte.is_ascii_digit()) && (text.len() == 1 || !text.starts_with('0'));
    is_plain.then(|| text.parse().ok()).flatten()
}

/// The topic that a device reports to.
pub fn report_topic(device: &str) -> String {
    format!("{PREFIX}{device}/reported")
}

/// The topic that a device reports to where its report counts for one reported version alone.
pub fn report_topic_if(device: &str, version: u64) -> String {
    format!("{PREFIX}{device}/reported/{version}")
}

/// The topic by which a device asks for its twin.
pub fn get_topic(device: &str) -> String {
    format!("{PREFIX}{device}/get")
}

/// The topic of a delta; `version` is the desired one.
pub fn delta_topic(device: &str, version: u64) -> String {
    format!("{PREFIX}{device}/delta/{version}")
}

/// The topic of the whole twin.
pub fn state_topic(device: &str) -> String {
    format!("{PREFIX}{device}/state")
}

/// The topic of a refusal.
pub fn refused_topic(device: &str) -> String {
    format!("{PREFIX}{device}/refused")
}

/// What a device subscribes to for all of it.
pub fn subscriptions_of(device: &str) -> String {
    format!("{PREFIX}{device}/#")
}

/// Whether a filter asks for twins by name: it begins with `edgeway/twin/` and matches the topic. One that merely
/// matches everything belongs to somebody who looks on.
pub fn takes(filter: &str, topic: &str) -> bool {
    let (Some(filter), Some(topic)) = (filter.strip_prefix(PREFIX), topic.strip_prefix(PREFIX)) else { return false };
    let (mut wanted, mut found) = (filter.split('/'), topic.split('/'));
    loop {
        match (wanted.next(), found.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(_)) => {}
            (Some(level), Some(name)) if level == name => {}
            _ => return false,
        }
    }
}

/// A delta's payload: `{"version":7,"delta":{"interval_s":30}}`.
pub fn delta_message(version: u64, delta: &Map<String, Value>) -> String {
    #[derive(Serialize)]
    struct Message<'a> {
        version: u64,
        delta: &'a Map<String, Value>,
    }
    json(&Message { version, delta })
}

/// The whole twin: `{"desired":{"version":7,"state":{…}},"reported":{"version":3,"state":{…}}}`. A device that has no
/// twin yet gets versions 0 and empty states.
pub fn state_message(twin: Option<&Twin>) -> String {
    #[derive(Serialize)]
    struct Side {
        version: u64,
        state: Value,
    }
    #[derive(Serialize)]
    struct Message {
        desired: Side,
        reported: Side,
    }
    let none = Twin::default();
    let twin = twin.unwrap_or(&none);
    let side = |side: &super::record::Side| Side {
        version: side.version,
        state: serde_json::from_str(&side.json).unwrap_or_default(),
    };
    json(&Message { desired: side(&twin.desired), reported: side(&twin.reported) })
}

/// A refusal: `{"code":"version_conflict","text":"…","version":3}`; `version` is the reported one as it is.
pub fn refused_message(refusal: &Refusal, version: u64) -> String {
    #[derive(Serialize)]
    struct Message<'a> {
        code: &'a str,
        text: String,
        version: u64,
    }
    json(&Message { code: refusal.code(), text: refusal.to_string(), version })
}

fn json(message: &impl Serialize) -> String {
    // Structs of strings and numbers always become JSON.
    serde_json::to_string(message).unwrap_or_default()
}

#[cfg(test)]
#[path = "wire_tests.rs"]
mod tests;
