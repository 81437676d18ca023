//! A subscriber that fell behind, or was away, reads what it is owed from the log.

use std::sync::Arc;

use super::queue::Subscriber;
use super::segment::{Segment, SegmentBuilder};
use crate::event_log::{EventLog, ReadError};

/// Bytes read at once for a subscriber that is behind.
const READ_BYTES_MAX: usize = 256 << 10;

impl Subscriber {
    /// The next segment for it: what is queued, else what it is owed from the log, else `None`. A span that cannot
    /// be read is given up, and named in the log.
    pub fn next_segment(&self, log: &EventLog) -> Option<Arc<Segment>> {
        loop {
            if let Some(segment) = self.pop() {
                return Some(segment);
            }
            let (partition, position) = self.next_owed()?;
            match read(log, partition, position.next, position.end) {
                Ok(Some((segment, next))) => {
                    self.has_had(partition, next);
                    return Some(Arc::new(segment));
                }
                // Retention has taken all that was owed.
                Ok(None) => {}
                Err(error) => {
                    tracing::error!(%error, ?partition, from = position.next, to = position.end, "a subscriber misses events");
                }
            }
            self.has_had(partition, position.end);
        }
    }

    /// One event of the log as a segment, for sending it again; `None` where it cannot be read any more.
    pub fn event(&self, log: &EventLog, id: sled_data::PartitionId, offset: sled_data::Offset) -> Option<Segment> {
        let batch = log.read(id, offset, 1).ok()?.into_iter().next()?;
        let topic = log.partition(id).ok()?.topic().clone();
        let mut builder = SegmentBuilder::new(false);
        builder.add(&topic, batch, offset..offset + 1);
        Some(builder.build())
    }
}

/// Reads from a span, and never past its end: what follows comes, or came, another way. With the segment comes the
/// offset after it.
fn read(
    log: &EventLog,
    partition: sled_data::PartitionId,
    from: sled_data::Offset,
    to: sled_data::Offset,
) -> Result<Option<(Segment, sled_data::Offset)>, ReadError> {
    let batches = log.read(partition, from, READ_BYTES_MAX)?;
    let topic = log.partition(partition)?.topic().clone();
    let mut builder = SegmentBuilder::new(false);
    let mut next = None;
    for batch in batches.into_iter().take_while(|batch| batch.base_offset() < to) {
        next = Some(batch.next_offset().min(to));
        builder.add(&topic, batch, from..to);
    }
    Ok(next.map(|next| (builder.build(), next)))
}
