//! Retention: what is older than its topic keeps, or more than it keeps, goes, a bounded amount a pass.

use sled_data::{Offset, PartitionId};

use super::EventLog;

/// Stored batches that one pass may remove.
const BATCHES_PER_PASS_MAX: u64 = 2_000;

impl EventLog {
    /// One pass over all topics; whether there is more to do at once. `floor` says up to where nobody needs a
    /// partition any more. Blocks on the disk: not for a task.
    pub fn apply_retention(&self, floor: &dyn Fn(PartitionId) -> Offset) -> bool {
        let now_ms = self.clock.wall_ms();
        match self.store.apply_retention(now_ms, BATCHES_PER_PASS_MAX, floor) {
            Ok(trimmed) => {
                if trimmed.batches > 0 {
                    tracing::info!(batches = trimmed.batches, "retention removed batches");
                }
                trimmed.more
            }
            Err(error) => {
                tracing::warn!(%error, "retention could not trim the store; it is tried again with the next pass");
                false
            }
        }
    }
}
