//! What is stored of a session that outlives its connection, and of one that outlives the process.

use serde::{Deserialize, Serialize};
use sled_data::{OriginId, PartitionId, TopicId};

use crate::event_log::{EventLog, Topic};
use crate::subscriptions::{Position, Subscriber};

/// The small named tree of kept sessions; its key is the client id.
pub const KEPT_TREE: &str = "sessions";
/// The version byte before a stored record.
const VERSION: u8 = 2;
/// The version before it, which does not say when the session began.
const VERSION_1: u8 = 1;

/// A kept session as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct KeptRecord {
    /// The door's own state of the session, opaque here.
    pub state: Vec<u8>,
    /// Its subscriptions' filters.
    pub filters: Vec<String>,
    /// When it ends, by its node's [`crate::clock::Clock::steady_ms`]; `None`: never by itself.
    pub expires_at_ms: Option<i64>,
    /// For each partition (origin, topic id, number): the first offset that it may not have had.
    pub positions: Vec<(u64, u64, u32, u64)>,
    /// The hybrid clock at which its client came last, by which the newest of several nodes' is found; 0 in a record
    /// of version 1, which is older than all.
    pub begun: u64,
    /// Whether its client was connected when this was written: there may be more of it at its node.
    pub live: bool,
}

/// Version 1 of the record.
#[derive(Deserialize)]
struct KeptRecordV1 {
    state: Vec<u8>,
    filters: Vec<String>,
    expires_at_ms: Option<i64>,
    positions: Vec<(u64, u64, u32, u64)>,
}

impl KeptRecord {
    /// As it is stored: a version byte, then postcard.
    pub fn encode(&self) -> Vec<u8> {
        postcard::to_extend(self, vec![VERSION]).unwrap_or_default()
    }

    /// Reads a stored record; `None` where its version or its bytes are not known.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&VERSION, body) => postcard::from_bytes(body).ok(),
            (&VERSION_1, body) => {
                let KeptRecordV1 { state, filters, expires_at_ms, positions } = postcard::from_bytes(body).ok()?;
                Some(Self { state, filters, expires_at_ms, positions, begun: 0, live: false })
            }
            _ => None,
        }
    }

    /// Whether its time is over.
    pub fn is_expired(&self, now_ms: i64) -> bool {
        self.expires_at_ms.is_some_and(|at| at <= now_ms)
    }

    /// Notes where a subscriber stands in every partition: at what it has not had, else at the end of what
    /// subscribers were handed. `begun` are first offsets of what its connection is in the middle of. What is not
    /// named stands at 0.
    pub(super) fn set_positions(&mut self, log: &EventLog, subscriber: &Subscriber, begun: &[(PartitionId, u64)]) {
        // The ends come first: what is handed out meanwhile is then owed twice rather than never.
        let mut positions: std::collections::BTreeMap<PartitionId, u64> = log
            .topics()
            .iter()
            .filter(|topic| is_offered(topic))
            .flat_map(|topic| log.partitions_of(topic))
            .map(|partition| (partition.id(), partition.handed_end()))
            .collect();
        for (partition, position) in subscriber.outstanding() {
            positions.insert(partition, position.next);
        }
        for (partition, next) in begun {
            positions.entry(*partition).and_modify(|position| *position = (*position).min(*next));
        }
        positions.retain(|_, next| *next > 0);
        self.positions = positions.into_iter().map(|(id, next)| (id.origin.0, id.topic.0, id.index, next)).collect();
    }

    /// Owes a subscriber everything from the stored positions to the visible ends, and all of topics made since.
    pub(super) fn owe(&self, log: &EventLog, subscriber: &Subscriber) {
        for topic in log.topics().iter().filter(|topic| is_offered(topic)) {
            for partition in log.partitions_of(topic) {
                let next = self.position(partition.id()).unwrap_or(0);
                let end = partition.visible_end();
                if next < end {
                    subscriber.owe(partition.id(), Position { next, end });
                }
            }
        }
    }

    fn position(&self, id: PartitionId) -> Option<u64> {
        // They were written in the order of their ids.
        let at = self.positions.binary_search_by_key(&id, |(origin, topic, index, _)| PartitionId {
            origin: OriginId(*origin),
            topic: TopicId(*topic),
            index: *index,
        });
        at.ok().and_then(|at| self.positions.get(at)).map(|entry| entry.3)
    }
}

/// Whether a topic's events are offered to subscribers. Another site's are not: two sites use the same MQTT topics.
fn is_offered(topic: &Topic) -> bool {
    !topic.is_internal() && !topic.is_linked()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stored_record_has_these_bytes() {
        let record = KeptRecord {
            state: vec![7],
            filters: vec!["a".into()],
            expires_at_ms: Some(1),
            positions: vec![(1, 2, 3, 4)],
            begun: 5,
            live: true,
        };
        let golden = [2, 1, 7, 1, 1, b'a', 1, 2, 1, 1, 2, 3, 4, 5, 1];
        assert_eq!(record.encode(), golden);
        assert_eq!(KeptRecord::decode(&golden), Some(record.clone()));
        let version_1 = [1, 1, 7, 1, 1, b'a', 1, 2, 1, 1, 2, 3, 4];
        assert_eq!(KeptRecord::decode(&version_1), Some(KeptRecord { begun: 0, live: false, ..record }));
        assert_eq!(KeptRecord::decode(&[9]), None);
    }
}
