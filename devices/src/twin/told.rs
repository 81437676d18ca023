//! What a device is told of its twin, read from its MQTT topic and payload.

use serde::Deserialize;

use super::document::Document;
use super::wire::{ToDevice, parse_to_device};

/// What the node says of a twin.
#[derive(Clone, Debug, PartialEq)]
pub enum Told {
    /// What is desired and not yet reported.
    Delta {
        /// The desired version. A lower one than was seen is of the past, unless the twin was deleted meanwhile.
        version: u64,
        /// What to do: a merge patch of the reported document, without nulls.
        delta: Document,
    },
    /// The whole twin, as the device asked.
    State {
        /// The desired version and document.
        desired: (u64, Document),
        /// The reported version and document.
        reported: (u64, Document),
    },
    /// Why a report was not taken.
    Refused {
        /// A word that programs may rely on: `version_conflict`, `bad_document`, `too_large`, `bad_version`,
        /// `too_many_twins`.
        code: String,
        /// The same for people.
        text: String,
        /// The reported version as it is.
        version: u64,
    },
}

#[derive(Deserialize)]
struct Delta {
    version: u64,
    delta: Document,
}

#[derive(Deserialize)]
struct State {
    desired: Side,
    reported: Side,
}

#[derive(Deserialize)]
struct Side {
    version: u64,
    state: Document,
}

#[derive(Deserialize)]
struct Refused {
    code: String,
    text: String,
    version: u64,
}

impl Told {
    /// Reads what came on a topic of this device's twin; `None` where it is another's, or cannot be read. Members that
    /// it does not know are skipped.
    pub fn read(device: &str, topic: &str, payload: &[u8]) -> Option<Self> {
        match parse_to_device(topic).ok()? {
            ToDevice::Delta { device: of, .. } if of == device => {
                let Delta { version, delta } = serde_json::from_slice(payload).ok()?;
                Some(Self::Delta { version, delta })
            }
            ToDevice::State { device: of } if of == device => {
                let State { desired, reported } = serde_json::from_slice(payload).ok()?;
                let side = |side: Side| (side.version, side.state);
                Some(Self::State { desired: side(desired), reported: side(reported) })
            }
            ToDevice::Refused { device: of } if of == device => {
                let Refused { code, text, version } = serde_json::from_slice(payload).ok()?;
                Some(Self::Refused { code, text, version })
            }
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_node_says_is_read() {
        let document = |json: &str| Document::parse(json.as_bytes()).unwrap();
        let cases = [
            (
                "delta/7",
                r#"{"version":7,"delta":{"a":1},"later":true}"#,
                Told::Delta { version: 7, delta: document(r#"{"a":1}"#) },
            ),
            (
                "state",
                r#"{"desired":{"version":7,"state":{"a":1}},"reported":{"version":0,"state":{}}}"#,
                Told::State { desired: (7, document(r#"{"a":1}"#)), reported: (0, document("{}")) },
            ),
            (
                "refused",
                r#"{"code":"too_large","text":"…","version":3}"#,
                Told::Refused { code: "too_large".into(), text: "…".into(), version: 3 },
            ),
        ];
        for (what, payload, told) in cases {
            let topic = format!("edgeway/twin/d/{what}");
            assert_eq!(Told::read("d", &topic, payload.as_bytes()), Some(told));
            assert_eq!(Told::read("e", &topic, payload.as_bytes()), None, "another's");
            assert_eq!(Told::read("d", &topic, b"{}"), None);
        }
        assert_eq!(Told::read("d", "edgeway/twin/d/reported", b"{}"), None);
    }
}
