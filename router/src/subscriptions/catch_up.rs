//! A subscriber that fell behind, or was away, reads what it is owed from the log.

use std::sync::Arc;

use super::queue::Subscriber;
use super::segment::{Segment, SegmentBuilder};
use crate::event_log::{EventLog, ReadError};

/// Bytes read at once for a subscriber that is behind.
const READ_BYTES_MAX: usize = 256 << 10;

impl Subscriber {
    /// The next segment for it: what is queued, else what it is owed from the log, else `None`.
    ///
    /// # Errors
    /// When the log cannot be read; the span that could not be read is given up, and named in the log.
    pub fn next_segment(&self, log: &EventLog) -> Result<Option<Arc<Segment>>, ReadError> {
        loop {
            if let Some(segment) = self.pop() {
                return Ok(Some(segment));
            }
            let Some((partition, position)) = self.next_owed() else { return Ok(None) };
            let batches = log.read(partition, position.next, READ_BYTES_MAX).inspect_err(|error| {
                tracing::error!(%error, ?partition, from = position.next, to = position.end, "a subscriber misses events");
                self.has_had(partition, position.end);
            })?;
            let Some(last) = batches.last().map(|batch| batch.next_offset()) else {
                // Retention has taken all that was owed.
                self.has_had(partition, position.end);
                continue;
            };
            let topic = log.partition(partition)?.topic().clone();
            let mut builder = SegmentBuilder::new(false);
            for batch in batches {
                builder.add(&topic, batch, position.next);
            }
            self.has_had(partition, last);
            return Ok(Some(Arc::new(builder.build())));
        }
    }
}

impl Subscriber {
    /// One event of the log as a segment, for sending it again; `None` where it cannot be read any more.
    pub fn event(&self, log: &EventLog, id: sled_data::PartitionId, offset: sled_data::Offset) -> Option<Segment> {
        let batch = log.read(id, offset, 1).ok()?.into_iter().next()?;
        let topic = log.partition(id).ok()?.topic().clone();
        let mut builder = SegmentBuilder::new(false);
        (batch.base_offset() <= offset && offset < batch.next_offset()).then(|| builder.add(&topic, batch, offset))?;
        Some(builder.build())
    }
}
