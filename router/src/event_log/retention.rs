//! Retention: what is older than its topic keeps, or more than it keeps, goes, a bounded amount a pass.

use std::collections::HashSet;

use sled_data::{BackendError, Offset, PartitionId, ReadError, Wait};

use super::EventLog;

/// Stored batches that one pass may remove.
const BATCHES_PER_PASS_MAX: u64 = 2_000;

/// What one pass did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct RetentionPass {
    /// Whether there is more to do at once.
    pub more: bool,
    /// What went although somebody needed it: the partition, from where on he did, and up to where it went.
    pub needed: Vec<(PartitionId, Offset, Offset)>,
}

impl EventLog {
    /// One pass over all topics; `wait` says who still needs what, and for how long that counts. Blocks on the disk: not for a task.
    pub fn apply_retention(&self, wait: &Wait<'_>) -> RetentionPass {
        self.apply_retention_by(self.clock.wall_ms(), wait)
    }

    /// The same by another clock than this node's: age is judged as if it were `now_ms`, in milliseconds since 1970.
    pub fn apply_retention_by(&self, now_ms: i64, wait: &Wait<'_>) -> RetentionPass {
        // It may have been refused when the log was opened, as the store was full.
        self.note_ended_lives();
        let Wait { floor, bytes_max, ms_max, .. } = *wait;
        let defaults = self.topic_defaults();
        let unknown = (defaults.retention_ms, defaults.retention_bytes);
        let wait = &Wait { floor, bytes_max, ms_max, own: &self.ended, unknown };
        match self.store.apply_retention(now_ms, BATCHES_PER_PASS_MAX, wait) {
            Ok(trimmed) => {
                self.forget_dropped(&trimmed.dropped);
                if trimmed.batches > 0 {
                    tracing::info!(batches = trimmed.batches, "retention removed batches");
                }
                if let Err(error) = self.show_closed(&trimmed.closed) {
                    tracing::error!(%error, "what retention has given up cannot be shown");
                }
                let needed = |(id, from, to): &(PartitionId, Offset, Offset)| {
                    let floor = (wait.floor)(*id).max(*from);
                    (floor < *to).then_some((*id, floor, *to))
                };
                RetentionPass { more: trimmed.more, needed: trimmed.ranges.iter().filter_map(needed).collect() }
            }
            // A full store is a trouble that people see already.
            Err(ReadError::Backend(error @ BackendError::Full)) => {
                tracing::debug!(%error, "retention could not trim the store");
                RetentionPass::default()
            }
            Err(error) => {
                tracing::warn!(%error, "retention could not trim the store; it is tried again with the next pass");
                RetentionPass::default()
            }
        }
    }

    /// Partitions of ended lives that the store has no more are gone here too: who reads them has come to their end, and moves no cursor in them.
    fn forget_dropped(&self, dropped: &[PartitionId]) {
        if dropped.is_empty() {
            return;
        }
        // One that has come back from another node meanwhile stays. Looked at under the lock, so that one that comes now is added anew.
        let mut partitions = self.partitions.write();
        let here: HashSet<PartitionId> = self.store.partitions().into_iter().collect();
        dropped.iter().filter(|id| !here.contains(*id)).for_each(|id| drop(partitions.remove(id)));
        drop(partitions);
        self.turned();
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use sled_data::{MemoryBackend, TopicConfig};

    use super::super::tests::open_on;
    use super::super::{Config, NO_HEADERS, NewEvent, Ticket, Topic};
    use super::*;

    /// Appends an event, and moves cursors in the same commit.
    fn append(log: &EventLog, topic: &Topic, cursors: &[(PartitionId, Offset)]) -> Ticket {
        let headers = &NO_HEADERS;
        let event =
            NewEvent { timestamp_ms: 1, key: None, value: Some(b"v"), headers, extra: headers, fanned_out: false };
        let mut open = log.lock();
        open.append(topic, 0, &event).unwrap();
        cursors.iter().for_each(|(id, next)| open.move_cursor("reader", *id, *next));
        open.ticket()
    }

    #[test]
    fn age_is_judged_by_the_clock_that_is_given() {
        let log = open_on(&Arc::new(MemoryBackend::new()), Config::default());
        let config = TopicConfig { partitions: 1, retention_ms: Some(60_000), ..TopicConfig::default() };
        let topic = log.ensure_topic("readings", Some(config)).unwrap();
        log.durable_blocking(append(&log, &topic, &[])).unwrap();
        let (own, wait) = (topic.partition(0).unwrap().id(), Wait::for_ever(&|_| Offset::MAX));
        log.apply_retention(&wait);
        log.apply_retention_by(0, &wait);
        assert_eq!(log.start_offset(own), 0);
        log.apply_retention_by(log.clock().wall_ms() + 120_000, &wait);
        assert_eq!(log.start_offset(own), 1);
        log.close();
    }

    #[test]
    fn what_an_ended_life_has_left_goes_from_the_log_too_and_who_was_reading_it_holds_up_nobody() {
        let backend = Arc::new(MemoryBackend::new());
        let log = open_on(&backend, Config::default());
        let config = TopicConfig { partitions: 1, retention_ms: Some(0), ..TopicConfig::default() };
        let topic = log.ensure_topic("readings", Some(config)).unwrap();
        log.durable_blocking(append(&log, &topic, &[])).unwrap();
        log.close();
        log.store().end_life("as after a kill").unwrap();
        drop(log);
        let log = open_on(&backend, Config::default());
        let topic = log.topic("readings").unwrap();
        let left = log.ended_partitions(&topic)[0].id();
        let (own, turns) = (topic.partition(0).unwrap().id(), log.partition_turns());
        // Somebody is yet to be told what has gone.
        log.apply_retention(&Wait { ms_max: 0, ..Wait::for_ever(&|_| 0) });
        assert_eq!((log.start_offset(left), log.visible_end(left)), (1, 1));
        log.apply_retention(&Wait::for_ever(&|_| Offset::MAX));
        log.durable_blocking(append(&log, &topic, &[(left, 1), (own, 1)])).unwrap();
        assert_eq!((log.cursor("reader", left).unwrap(), log.cursor("reader", own).unwrap()), (None, Some(1)));
        assert!(log.ended_partitions(&topic).is_empty());
        assert_eq!((log.visible_end(left), log.visible_end(own)), (0, 1));
        assert!(log.partition_turns() > turns + 1);
        log.close();
    }
}
