//! The event log's counters.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::CommitFailed;

/// Upper bounds of the sync-time histogram, in microseconds; one more bucket takes the rest.
pub const SYNC_BUCKETS_US: [u64; 12] =
    [100, 200, 300, 500, 1_000, 2_000, 5_000, 10_000, 25_000, 50_000, 100_000, 1_000_000];

/// Plain counters, read by the metrics' face.
#[derive(Debug, Default)]
pub struct Stats {
    /// Commits that became durable.
    pub commits: AtomicU64,
    /// Events in them.
    pub events: AtomicU64,
    /// Batches in them.
    pub batches: AtomicU64,
    /// Bytes of records, uncompressed.
    pub record_bytes: AtomicU64,
    /// Commits refused because the store was full.
    pub refused_full: AtomicU64,
    /// Commits refused because the store failed.
    pub refused_failed: AtomicU64,
    /// Microseconds that these commits took, to write and to sync.
    pub commit_us: AtomicU64,
    /// Microseconds spent in write and sync, all together: for the node's own commits, and for others' where none of its own went with them.
    pub sync_us: AtomicU64,
    /// How many of these syncs took up to each bound of [`SYNC_BUCKETS_US`].
    pub sync_buckets: [AtomicU64; SYNC_BUCKETS_US.len() + 1],
}

impl Stats {
    pub(super) fn refused(&self, why: &CommitFailed) {
        let counter = match why {
            CommitFailed::Full(_) => &self.refused_full,
            CommitFailed::Failed(_) | CommitFailed::Refused(_) | CommitFailed::Unreplicated(_) => &self.refused_failed,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn committed(&self, events: u64, batches: u64, record_bytes: u64, took: Duration) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        self.events.fetch_add(events, Ordering::Relaxed);
        self.batches.fetch_add(batches, Ordering::Relaxed);
        self.record_bytes.fetch_add(record_bytes, Ordering::Relaxed);
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.commit_us.fetch_add(us, Ordering::Relaxed);
        self.synced(took);
    }

    /// Something was written and synced, in so long.
    pub(super) fn synced(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        let bucket = SYNC_BUCKETS_US.partition_point(|bound| *bound < us);
        self.sync_us.fetch_add(us, Ordering::Relaxed);
        if let Some(count) = self.sync_buckets.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }
}
