//! What waits at a site: batches as its log has them, made before the clock runs.

use sled_data::{
    Compression, HLC_LOGICAL_BITS, HeaderBlock, OpenBatch, OriginId, PartitionId, SealInfo, Sealer, TopicId,
};

use super::wire::Partition;
use crate::bench::payload::{Numbers, PAYLOAD_BYTES, Payload};

/// Different readings, which come again and again.
const READINGS: usize = 4_096;
/// Bytes that a reading takes in a batch, about: its key and its record's head besides.
const EVENT_BYTES: usize = PAYLOAD_BYTES + 32;
/// Who measured.
const KEY: &[u8] = b"dev-1";

/// A sealed batch.
#[derive(Debug)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub events: u64,
}

/// Makes batches of readings.
pub struct Maker {
    readings: Vec<u8>,
    sealer: Sealer,
    /// When the first of them was measured, Unix milliseconds.
    since_ms: i64,
}

impl Maker {
    pub fn new(since_ms: i64) -> Maker {
        let mut numbers = Numbers::new(1);
        let mut readings = Vec::with_capacity(READINGS * PAYLOAD_BYTES);
        for seq in 0..READINGS {
            Payload::Reading.write(&mut readings, "dev-1", seq as u64, &mut numbers);
        }
        Maker { readings, sealer: Sealer::new(), since_ms }
    }

    /// So many readings of a partition, from its beginning; batches are as full as a log's under load.
    pub fn backlog(&mut self, partition: Partition, events: u64) -> Vec<Batch> {
        let mut batches = Vec::new();
        let mut from = 0;
        while from < events {
            let batch = self.batch(partition, from, events - from);
            from += batch.events;
            batches.push(batch);
        }
        batches
    }

    /// One batch of at most so many readings from an offset on.
    pub fn batch(&mut self, (origin, topic, index): Partition, from: u64, most: u64) -> Batch {
        let mut open = OpenBatch::new();
        let headers = HeaderBlock::new();
        while u64::from(open.count()) < most && open.has_room(EVENT_BYTES) {
            let offset = from + u64::from(open.count());
            let at = offset as usize % READINGS * PAYLOAD_BYTES;
            let reading = self.readings.get(at..at + PAYLOAD_BYTES);
            // A reading is far below the bound of an event.
            let _ = open.push(self.since_ms + offset as i64, Some(KEY), reading, &headers);
        }
        let info = SealInfo {
            partition: PartitionId { origin: OriginId(origin), topic: TopicId(topic), index },
            base_offset: from,
            hlc: (self.since_ms as u64 + from) << HLC_LOGICAL_BITS,
            compression: Compression::Lz4,
            hops: 0,
            term: 0,
            flags: 0,
        };
        let sealed = open.seal(info, &mut self.sealer);
        Batch { bytes: sealed.bytes().to_vec(), events: u64::from(open.count()) }
    }
}

#[cfg(test)]
mod tests {
    use sled_data::StoredBatch;

    use super::*;

    #[test]
    fn a_backlog_is_dense_and_can_be_read() {
        let mut maker = Maker::new(1_700_000_000_000);
        let batches = maker.backlog((5, 7, 1), 5_000);
        assert!(batches.len() > 5, "several batches");
        let mut end = 0;
        for batch in batches {
            assert!(batch.bytes.len() < sled_data::BATCH_BYTES_MAX);
            let stored = StoredBatch::decode(batch.bytes).expect("its checksums");
            assert_eq!(stored.base_offset(), end);
            let records = stored.decompress().expect("its records");
            assert!(records.digest_fits());
            assert_eq!(records.iter().count() as u64, batch.events);
            end = stored.next_offset();
        }
        assert_eq!(end, 5_000);
        assert_eq!(maker.batch((5, 7, 1), 5_000, 1).events, 1);
        assert!(maker.backlog((5, 7, 1), 0).is_empty());
    }
}
