//! Between the table and the store: one commit of all that was decided, and the table as the store has it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use devices::twin::{Refusal, TWINS_TREE, Twin};
use serde_json::{Value, json};

use super::read::{Reading, Source};
use super::table::{Accepted, Table};
use super::{Inner, OpenError, READER, Twins};
use crate::event_log::{Act, AppendError, NO_HEADERS, NewEvent, Ticket};

/// Stored twins read at once when the table is rebuilt.
const RESTORE_TWINS_MAX: usize = 200;

/// Why nothing was recorded.
#[derive(Debug, thiserror::Error)]
pub(super) enum RecordError {
    /// Commits have failed since the table was read, so that it may be ahead of the store.
    #[error("the twins in memory are older than the last failure of the store")]
    Stale,
    /// The log takes nothing.
    #[error(transparent)]
    Append(#[from] AppendError),
}

/// What became of a request of a person or a plugin, for the audit.
pub(super) struct Outcome {
    who: String,
    act: &'static str,
    device: String,
    outcome: &'static str,
    detail: Value,
}

impl Outcome {
    pub(super) fn of(who: &str, act: &'static str, device: &str, what: &Result<Accepted, Refusal>) -> Self {
        let (outcome, detail) = match what {
            Ok(accepted) => ("done", json!({"desired_version": accepted.versions.desired})),
            Err(refusal) => (refusal.code(), Value::Null),
        };
        Self { who: who.to_owned(), act, device: device.to_owned(), outcome, detail }
    }

    pub(super) fn act(&self) -> Act<'_> {
        let Self { who, act, device, outcome, detail } = self;
        Act { who, act, what: device, outcome, detail: detail.clone() }
    }
}

impl Twins {
    /// Puts what is pending, the cursors and the audit into the open commit, all or nothing.
    ///
    /// # Errors
    /// Why nothing was recorded; the table must be rebuilt then, which is noted.
    pub(super) fn record(&self, inner: &mut Inner, outcomes: Vec<Outcome>) -> Result<Ticket, RecordError> {
        let recorded = self.record_all(inner, outcomes);
        match &recorded {
            Ok(ticket) => inner.newest = Some(*ticket),
            Err(_) => inner.is_stale = true,
        }
        recorded
    }

    fn record_all(&self, inner: &mut Inner, outcomes: Vec<Outcome>) -> Result<Ticket, RecordError> {
        let pending = inner.table.take_pending();
        let twins: Vec<(&Arc<str>, Option<Vec<u8>>)> =
            pending.saved.iter().map(|device| (device, inner.table.get(device).map(Twin::encode))).collect();
        let values: Vec<Vec<u8>> = pending.changes.iter().map(|(_, change)| change.encode()).collect();
        let mut open = self.log.lock();
        if open.failures() != inner.failures {
            return Err(RecordError::Stale);
        }
        // Nothing is refused after this, so that a part cannot stay behind.
        open.check(values.iter().map(Vec::len).max().unwrap_or(0))?;
        open.check_topic(&self.changes)?;
        for ((device, change), value) in pending.changes.iter().zip(&values) {
            let event = NewEvent {
                timestamp_ms: i64::try_from(change.at_ms).unwrap_or(i64::MAX),
                key: Some(device.as_bytes()),
                value: Some(value),
                headers: &NO_HEADERS,
                extra: &NO_HEADERS,
                fanned_out: true,
            };
            open.append_keyed(&self.changes, &event)?;
        }
        for (device, twin) in twins {
            open.put_state(TWINS_TREE, device.as_bytes(), twin.as_deref());
        }
        for place in &inner.reading {
            open.move_cursor(READER, place.id, place.next);
        }
        for outcome in &outcomes {
            if let Err(error) = open.audit(outcome.act()) {
                tracing::error!(%error, "an act on a twin is not in the audit");
            }
        }
        Ok(open.ticket())
    }

    /// Makes sure that the table is as the store has it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub(super) async fn refresh(&self) -> Result<(), OpenError> {
        loop {
            let newest = {
                let inner = self.inner.lock();
                if self.is_fresh(&inner) {
                    return Ok(());
                }
                inner.newest
            };
            if let Some(ticket) = newest {
                // However it ended: what is stored after it is all there is.
                let _ = self.log.durable(ticket).await;
            }
            let mut inner = self.inner.lock();
            if inner.newest == newest && !self.is_fresh(&inner) {
                self.stats.rebuilt.fetch_add(1, Relaxed);
                self.rebuild(&mut inner)?;
            }
        }
    }

    fn is_fresh(&self, inner: &Inner) -> bool {
        !inner.is_stale && self.log.lock().failures() == inner.failures
    }

    /// Reads the table and the cursors from the store. What is under way to sessions stays so.
    pub(super) fn rebuild(&self, inner: &mut Inner) -> Result<(), OpenError> {
        let failures = self.log.lock().failures();
        let mut stored: Vec<(Arc<str>, Twin)> = Vec::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.log.state_scan(TWINS_TREE, &[], after.as_deref(), RESTORE_TWINS_MAX)?;
            let Some((last, _)) = page.last() else { break };
            after = Some(last.clone());
            for (key, value) in &page {
                match (std::str::from_utf8(key), Twin::decode(value)) {
                    (Ok(device), Some(twin)) => stored.push((device.into(), twin)),
                    _ => {
                        self.stats.unreadable.fetch_add(1, Relaxed);
                        tracing::warn!("a stored twin of an unknown version is left out");
                    }
                }
            }
        }
        let mut reading = Vec::new();
        for (topic, source) in self.sources.iter().zip([Source::Reports, Source::Wishes]) {
            for id in topic.all_partitions().iter().map(|partition| partition.id()) {
                reading.push(Reading { source, id, next: self.log.cursor(READER, id)?.unwrap_or(0) });
            }
        }
        inner.table = Table::restore(self.config.clone(), stored);
        // What is in the table now is durable.
        inner.newest = None;
        (inner.reading, inner.failures, inner.is_stale) = (reading, failures, false);
        Ok(())
    }
}
