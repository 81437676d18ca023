//! A command's identity: a UUID, drawn for people and computed from the cause for plugins.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use thiserror::Error;

/// A command's id: 16 bytes, written as a UUID. Ids sort by the millisecond they were made for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct CommandId([u8; 16]);

/// What made a plugin send a command: the `index`-th command of one call for one event.
///
/// The same cause gives the same id, so that a call that is run again cannot command twice.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Cause {
    /// The plugin's name.
    pub plugin: String,
    /// The source event's topic.
    pub topic: String,
    /// The origin (life) whose log holds the source event.
    pub origin: u64,
    /// The source event's partition.
    pub partition: u32,
    /// The source event's offset.
    pub offset: u64,
    /// The command's number among those that this event caused, from 0.
    pub index: u32,
}

/// A text that is not a UUID of 36 characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("a command id is a UUID such as 01893f6e-7a2b-7c3d-8e4f-0123456789ab")]
pub struct ParseIdError;

impl CommandId {
    /// A UUID v7 (RFC 9562, 5.7) of a time in milliseconds since 1970 and ten random bytes.
    pub fn v7(unix_ms: u64, random: [u8; 10]) -> Self {
        Self::assemble(unix_ms, random, 7)
    }

    /// A UUID v8 (RFC 9562, 5.8) that is a function of the cause alone.
    ///
    /// `cause_ms` is the source event's timestamp, so that such ids sort among those of [`Self::v7`];
    /// the rest is a digest of the cause's fields.
    pub fn of_cause(cause_ms: u64, cause: &Cause) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"edgeway command 1\0");
        for text in [&cause.plugin, &cause.topic] {
            digest.update((text.len() as u64).to_be_bytes());
            digest.update(text.as_bytes());
        }
        digest.update(cause.origin.to_be_bytes());
        digest.update(cause.partition.to_be_bytes());
        digest.update(cause.offset.to_be_bytes());
        digest.update(cause.index.to_be_bytes());
        let digest = digest.finalize();
        let mut tail = [0; 10];
        tail.copy_from_slice(&digest[..10]);
        Self::assemble(cause_ms, tail, 8)
    }

    /// A UUID v8 that is a function of a job and of a target's place in it, from 0: the job's milliseconds, a digest of
    /// the job's id, and the place in the last four bytes, so that a job's commands sort by their places.
    pub fn of_job(job: Self, index: u32) -> Self {
        let mut digest = Sha256::new();
        digest.update(b"edgeway job 1\0");
        digest.update(job.0);
        let digest = digest.finalize();
        let mut tail = [0; 10];
        tail[..6].copy_from_slice(&digest[..6]);
        tail[6..].copy_from_slice(&index.to_be_bytes());
        Self::assemble(job.unix_ms(), tail, 8)
    }

    /// The place that this id has among the commands of `job`; `None` where it is none of them.
    pub fn index_in(self, job: Self) -> Option<u32> {
        let [.., a, b, c, d] = self.0;
        let index = u32::from_be_bytes([a, b, c, d]);
        (Self::of_job(job, index) == self).then_some(index)
    }

    fn assemble(unix_ms: u64, tail: [u8; 10], version: u8) -> Self {
        let mut bytes = [0; 16];
        bytes[..6].copy_from_slice(&unix_ms.to_be_bytes()[2..]);
        bytes[6..].copy_from_slice(&tail);
        bytes[6] = (version << 4) | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        Self(bytes)
    }

    /// The id of 16 bytes, such as MQTT 5 correlation data.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The 16 bytes.
    pub fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// The milliseconds since 1970 that the id was made for.
    pub fn unix_ms(&self) -> u64 {
        let [a, b, c, d, e, f, ..] = self.0;
        u64::from_be_bytes([0, 0, a, b, c, d, e, f])
    }
}

impl fmt::Display for CommandId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            if matches!(index, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write!(f, "{byte:02x}")?;
        }
        Ok(())
    }
}

impl FromStr for CommandId {
    type Err = ParseIdError;

    fn from_str(text: &str) -> Result<Self, ParseIdError> {
        let text: &[u8; 36] = text.as_bytes().try_into().map_err(|_| ParseIdError)?;
        let mut bytes = [0u8; 16];
        let mut nibble = 0;
        for (index, character) in text.iter().enumerate() {
            if matches!(index, 8 | 13 | 18 | 23) {
                if *character != b'-' {
                    return Err(ParseIdError);
                }
                continue;
            }
            let value = char::from(*character).to_digit(16).ok_or(ParseIdError)?;
            bytes[nibble / 2] = (bytes[nibble / 2] << 4) | value as u8;
            nibble += 1;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for CommandId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for CommandId {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cause() -> Cause {
        Cause {
            plugin: "threshold-alarm".into(),
            topic: "telemetry".into(),
            origin: 7,
            partition: 3,
            offset: 42,
            index: 0,
        }
    }

    #[test]
    fn v7_has_the_layout_of_the_rfc() {
        // The example of RFC 9562, appendix A.6.
        let random = [0x0c, 0xc3, 0x18, 0xc4, 0xdc, 0x0c, 0x0c, 0x07, 0x39, 0x8f];
        let id = CommandId::v7(0x017f_22e2_79b0, random);
        assert_eq!(id.to_string(), "017f22e2-79b0-7cc3-98c4-dc0c0c07398f");
        assert_eq!(id.unix_ms(), 0x017f_22e2_79b0);
    }

    #[test]
    fn a_cause_gives_one_golden_id() {
        let id = CommandId::of_cause(1_700_000_000_000, &cause());
        assert_eq!(id.to_string(), GOLDEN);
        assert_eq!(id.unix_ms(), 1_700_000_000_000);
    }

    /// Computed by another program from the description of [`CommandId::of_cause`].
    const GOLDEN: &str = "018bcfe5-6800-8abf-8994-37ffd996a5a1";

    #[test]
    fn every_field_of_the_cause_counts() {
        let edits: [fn(&mut Cause); 7] = [
            |_| {},
            |c| c.plugin.push('x'),
            |c| c.topic.push('x'),
            |c| c.origin += 1,
            |c| c.partition += 1,
            |c| c.offset += 1,
            |c| c.index += 1,
        ];
        let ids: std::collections::BTreeSet<_> = edits
            .iter()
            .map(|edit| {
                let mut cause = cause();
                edit(&mut cause);
                CommandId::of_cause(1, &cause)
            })
            .collect();
        assert_eq!(ids.len(), edits.len());
        let mut moved = cause();
        moved.plugin = "threshold-alarmt".into();
        moved.topic = "elemetry".into();
        assert!(!ids.contains(&CommandId::of_cause(1, &moved)));
    }

    #[test]
    fn a_job_and_a_place_give_one_golden_id() {
        let job = CommandId::v7(0x017f_22e2_79b0, [9; 10]);
        let ids: Vec<CommandId> = [0, 1, 99_999, u32::MAX].map(|index| CommandId::of_job(job, index)).into();
        assert_eq!(ids[2].to_string(), JOB_GOLDEN);
        assert!(ids.is_sorted());
        for (id, index) in ids.iter().zip([0, 1, 99_999, u32::MAX]) {
            assert_eq!((id.index_in(job), id.unix_ms()), (Some(index), job.unix_ms()));
        }
        let other = CommandId::v7(0x017f_22e2_79b0, [8; 10]);
        assert_eq!((ids[1].index_in(other), job.index_in(job)), (None, None));
    }

    /// Computed by another program from the description of [`CommandId::of_job`].
    const JOB_GOLDEN: &str = "017f22e2-79b0-85f4-b7ef-4b590001869f";

    #[test]
    fn text_and_bytes_come_back() {
        let id = CommandId::v7(1, [9; 10]);
        assert_eq!(id.to_string().parse(), Ok(id));
        assert_eq!(id.to_string().to_uppercase().parse(), Ok(id));
        assert_eq!(CommandId::from_bytes(*id.as_bytes()), id);
    }

    #[test]
    fn other_texts_are_refused() {
        let good = CommandId::v7(1, [9; 10]).to_string();
        let cases = [
            String::new(),
            good.replace('-', ""),
            format!("{good}0"),
            good.replacen('-', "0", 1),
            good.replacen('0', "g", 1),
            good.replacen('0', "é", 1),
            format!("{{{}}}", &good[1..35]),
        ];
        for case in cases {
            assert_eq!(case.parse::<CommandId>(), Err(ParseIdError), "{case}");
        }
    }
}
