//! Retention: what is older than its topic keeps, or more than it keeps, goes, a bounded amount a pass.

use sled_data::{Offset, PartitionId, Wait};

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
        let now_ms = self.clock.wall_ms();
        match self.store.apply_retention(now_ms, BATCHES_PER_PASS_MAX, wait) {
            Ok(trimmed) => {
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
            Err(error) => {
                tracing::warn!(%error, "retention could not trim the store; it is tried again with the next pass");
                RetentionPass::default()
            }
        }
    }
}
