//! One command as the room keeps it, in memory and in the store.

use std::sync::Arc;

use devices::command::{Cause, CommandId, Payload, Progress, Queued, State};
use serde::{Deserialize, Serialize};

/// The small named tree of commands; its key is the command id's 16 bytes.
pub const COMMANDS_TREE: &str = "commands";
/// The version byte before a stored command.
const VERSION: u8 = 1;

/// One command and how far it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// Its id.
    pub id: CommandId,
    /// The device that it is for.
    pub device: Arc<str>,
    /// When it was submitted, wall clock, in milliseconds since 1970.
    pub at_ms: u64,
    /// What was submitted.
    pub queued: Queued,
    /// Its place among all commands of this node: the order of a device's commands.
    pub order: u64,
    /// How far it is.
    pub progress: Progress,
    /// Who got it: session number and client id, the newest last.
    pub recipients: Vec<(u64, Arc<str>)>,
    /// Until when it must be delivered, on the node's steady clock, in milliseconds.
    pub deliver_by: u64,
    /// Until when the device must answer or give another sign of life, once it was sent.
    pub answer_by: u64,
    /// What the device answered last.
    pub result: Option<Vec<u8>>,
}

impl Entry {
    /// When the clock ends it, as far as it is now; `None` when it has ended.
    pub fn deadline(&self) -> Option<u64> {
        match self.progress.state() {
            State::Queued => Some(self.deliver_by),
            state if state.is_outcome() => None,
            _ => Some(self.answer_by),
        }
    }

    /// What it counts against the bound of bytes.
    pub fn bytes(&self) -> usize {
        self.device.len()
            + self.queued.name.len()
            + self.queued.payload.0.len()
            + self.result.as_ref().map_or(0, Vec::len)
    }

    /// The recipient that an answer speaks for: the session itself, or an earlier one of the same client, as a
    /// device that lost its connection answers over the next.
    pub fn speaks_for(&self, session: u64, client: &str) -> u64 {
        let is_known = self.recipients.iter().any(|(number, _)| *number == session);
        let earlier = self.recipients.iter().rev().find(|(number, id)| *number < session && **id == *client);
        match earlier {
            Some((number, _)) if !is_known => *number,
            _ => session,
        }
    }

    /// As it is stored: a version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        let record = RecordV1 {
            device: self.device.to_string(),
            at_ms: self.at_ms,
            name: self.queued.name.clone(),
            payload: self.queued.payload.0.clone(),
            deliver_by_ms: self.queued.deliver_by_ms,
            answer_within_ms: self.queued.answer_within_ms,
            issued_by: self.queued.issued_by.clone(),
            cause: self.queued.cause.clone(),
            order: self.order,
            progress: self.progress.clone(),
            recipients: self.recipients.iter().map(|(number, client)| (*number, client.to_string())).collect(),
            deliver_by: self.deliver_by,
            answer_by: self.answer_by,
            result: self.result.clone(),
        };
        postcard::to_extend(&record, vec![VERSION]).unwrap_or_default()
    }

    /// Reads a stored command; `None` where its key, version or bytes are not known.
    pub fn decode(key: &[u8], value: &[u8]) -> Option<Self> {
        let id = CommandId::from_bytes(key.try_into().ok()?);
        let (&VERSION, body) = value.split_first()? else { return None };
        let record: RecordV1 = postcard::from_bytes(body).ok()?;
        Some(Self {
            id,
            device: record.device.into(),
            at_ms: record.at_ms,
            queued: Queued {
                name: record.name,
                payload: Payload(record.payload),
                deliver_by_ms: record.deliver_by_ms,
                answer_within_ms: record.answer_within_ms,
                issued_by: record.issued_by,
                cause: record.cause,
            },
            order: record.order,
            progress: record.progress,
            recipients: record.recipients.into_iter().map(|(number, client)| (number, client.into())).collect(),
            deliver_by: record.deliver_by,
            answer_by: record.answer_by,
            result: record.result,
        })
    }
}

/// Version 1 of a stored command. Frozen: another shape is another version.
#[derive(Serialize, Deserialize)]
struct RecordV1 {
    device: String,
    at_ms: u64,
    name: String,
    payload: Vec<u8>,
    deliver_by_ms: u64,
    answer_within_ms: Option<u64>,
    issued_by: String,
    cause: Option<Cause>,
    order: u64,
    progress: Progress,
    recipients: Vec<(u64, String)>,
    deliver_by: u64,
    answer_by: u64,
    result: Option<Vec<u8>>,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use devices::command::{Input, Status};

    use super::*;

    fn entry() -> Entry {
        let mut progress = Progress::default();
        progress.apply(Input::Sent(5));
        Entry {
            id: CommandId::from_bytes([9; 16]),
            device: "d".into(),
            at_ms: 1,
            queued: Queued {
                name: "c".into(),
                payload: vec![0xff].into(),
                deliver_by_ms: 2,
                answer_within_ms: Some(3),
                issued_by: "i".into(),
                cause: Some(Cause {
                    plugin: "p".into(),
                    topic: "t".into(),
                    origin: 1,
                    partition: 2,
                    offset: 3,
                    index: 4,
                }),
            },
            order: 4,
            progress,
            recipients: vec![(5, "m".into())],
            deliver_by: 6,
            answer_by: 7,
            result: Some(vec![8]),
        }
    }

    #[test]
    fn a_stored_command_has_these_bytes() {
        let golden = [
            1, 1, b'd', 1, 1, b'c', 1, 0xff, 2, 1, 3, 1, b'i', 1, 1, b'p', 1, b't', 1, 2, 3, 4,
            4, // what was submitted
            1, 1, 5, 1, 0, // sent; recipients; attempts; not answered late
            1, 5, 1, b'm', 6, 7, 1, 1, 8,
        ];
        assert_eq!(entry().encode(), golden);
        assert_eq!(Entry::decode(&[9; 16], &golden), Some(entry()));
    }

    #[test]
    fn other_bytes_are_not_taken_for_a_command() {
        let stored = entry().encode();
        assert_eq!(Entry::decode(&[9; 15], &stored), None);
        assert_eq!(Entry::decode(&[9; 16], &[]), None);
        assert_eq!(Entry::decode(&[9; 16], &[&[2], &stored[1..]].concat()), None);
        for cut in 0..stored.len() {
            assert_eq!(Entry::decode(&[9; 16], &stored[..cut]), None, "cut at {cut}");
        }
    }

    #[test]
    fn a_later_session_of_the_same_client_speaks_for_the_one_that_got_it() {
        let entry = entry();
        for (session, client, speaks_for) in [(5, "m", 5), (9, "m", 5), (9, "other", 9), (4, "m", 4), (5, "other", 5)] {
            assert_eq!(entry.speaks_for(session, client), speaks_for, "{session} {client}");
        }
    }

    #[test]
    fn the_clock_that_counts_follows_the_state() {
        let mut entry = entry();
        assert_eq!(entry.deadline(), Some(7));
        entry.progress.apply(Input::Dropped(5));
        assert_eq!(entry.deadline(), Some(6));
        entry.progress.apply(Input::Answered(5, Status::Failed));
        assert_eq!(entry.deadline(), None);
    }
}
