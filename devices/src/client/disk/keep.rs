//! The task that makes the buffer on disk durable from time to time.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::Sync;
use crate::client::shared::Shared;

/// The shortest time between syncs.
const SYNC_EVERY_MIN: Duration = Duration::from_millis(10);
/// How often positions are written where nothing is synced from time to time.
const POSITIONS_EVERY: Duration = Duration::from_millis(100);

/// Runs until it is aborted, or the buffer is closed.
pub(in crate::client) async fn keep(shared: Arc<Shared>) {
    let every = match shared.config.disk.as_ref().map(|disk| disk.sync) {
        Some(Sync::Every(every)) => every.max(SYNC_EVERY_MIN),
        _ => POSITIONS_EVERY,
    };
    loop {
        tokio::time::sleep(every).await;
        let Some(due) = shared.outbox(|outbox| outbox.store().map(|store| store.due(true))) else { return };
        let done = tokio::task::spawn_blocking(|| due.run()).await;
        if let Ok(Err(error)) = done {
            shared.counts.sync_failures.fetch_add(1, Relaxed);
            tracing::warn!(device = shared.config.device, %error, "the buffer could not be synced");
        }
    }
}
