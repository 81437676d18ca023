//! Between the table and the store: one commit of all that was decided, and the table as the store has it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use devices::twin::{Refusal, StoredTwin, TWINS_TREE};
use serde_json::{Value, json};

use super::read::{Reading, Source};
use super::table::{Accepted, Table};
use super::{Inner, OpenError, READER, Twins};
use crate::event_log::{Act, AppendError, NO_HEADERS, NewEvent, Ticket};

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
            Err(_) => {
                inner.is_stale = true;
                // The room reads what is stored again, lest the table shows what was refused.
                self.reports.arrived.notify_one();
            }
        }
        recorded
    }

    fn record_all(&self, inner: &mut Inner, outcomes: Vec<Outcome>) -> Result<Ticket, RecordError> {
        let pending = inner.table.take_pending();
        let twins: Vec<(&Arc<str>, Option<Vec<u8>>)> =
            pending.saved.iter().map(|device| (device, inner.table.stored(device))).collect();
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

    pub(super) fn decode(&self, key: &[u8], value: &[u8]) -> Option<(Arc<str>, StoredTwin)> {
        let device = std::str::from_utf8(key).ok();
        let found = device.and_then(|device| Some((device.into(), StoredTwin::decode(value)?)));
        if found.is_none() {
            self.stats.unreadable.fetch_add(1, Relaxed);
            tracing::warn!("a stored twin of an unknown version is left out");
        }
        found
    }

    fn is_fresh(&self, inner: &Inner) -> bool {
        !inner.is_stale && self.log.lock().failures() == inner.failures
    }

    /// Reads the table and the cursors from the store. What is under way to sessions stays so.
    pub(super) fn rebuild(&self, inner: &mut Inner) -> Result<(), OpenError> {
        let failures = self.log.lock().failures();
        let (own, mut stored) = (self.log.origin(), Vec::new());
        self.log.state_walk_of(own, TWINS_TREE, |key, value| stored.extend(self.decode(key, value)))?;
        let lives = self.log.ended_lives().iter().chain([&own]).map(|life| life.0).collect();
        let mut table = Table::restore(self.config.clone(), lives, stored);
        for origin in self.others() {
            self.log.state_walk_of(origin, TWINS_TREE, |key, value| {
                if let Some((device, twin)) = self.decode(key, value) {
                    table.merge(&device, &twin);
                }
            })?;
        }
        let mut reading = Vec::new();
        for (topic, source) in self.sources.iter().zip([Source::Reports, Source::Wishes]) {
            // What is unread of ended lives of this store comes first.
            for partition in self.log.ended_partitions(topic).iter().chain(topic.all_partitions()) {
                let id = partition.id();
                let next = self.log.cursor(READER, id)?.unwrap_or(0);
                if id.origin == own || next < partition.visible_end() {
                    reading.push(Reading { source, id, next });
                }
            }
        }
        inner.table = table;
        // What is in the table now is durable.
        inner.newest = None;
        (inner.reading, inner.failures, inner.is_stale) = (reading, failures, false);
        Ok(())
    }
}
