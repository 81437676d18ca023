//! Sessions that are kept for clients that are away: stored, restored, forgotten in time.

use std::sync::Arc;

use super::kept::{KEPT_TREE, KeptRecord};
use super::registry::{Ends, Entry, Sessions, Slot};
use crate::event_log::OpenCommit;

impl Sessions {
    /// Stores a session that will be kept, while it is connected, so that a crash finds it. `begun`: first offsets
    /// of what its connection took from its queue and has not sent whole.
    pub fn store_live(
        &self,
        open: &mut OpenCommit<'_>,
        entry: &Entry,
        state: Vec<u8>,
        begun: &[(sled_data::PartitionId, u64)],
    ) {
        let mut record = KeptRecord { live: true, ..self.record(entry, state, None) };
        record.set_positions(&self.log, &entry.seat.subscriber, begun);
        put_record(open, &entry.client_id, &record);
    }

    /// Removes what is stored of a session that ends with its connection.
    pub fn forget_stored(&self, entry: &Entry) {
        self.log.lock().put_state(KEPT_TREE, entry.client_id.as_bytes(), None);
    }

    pub(super) fn record(&self, entry: &Entry, state: Vec<u8>, keep_s: Option<u32>) -> KeptRecord {
        let now_ms = self.steady_ms();
        let expires_at_ms = keep_s.map(|seconds| now_ms.saturating_add(i64::from(seconds) * 1_000));
        let filters = entry.seat.filters.lock().list().to_vec();
        KeptRecord { state, filters, expires_at_ms, positions: Vec::new(), begun: entry.begun, live: false }
    }

    /// The clock by which kept sessions end: a wall clock that is set ends none of them.
    pub(super) fn steady_ms(&self) -> i64 {
        i64::try_from(self.log.clock().steady_ms()).unwrap_or(i64::MAX)
    }

    /// By how much the clock by which a session ends that is kept here is ahead of that one, in milliseconds; `None`: it is that one. What a process before has
    /// stored ends by the wall clock, where that was wrong when this process began and is right by now.
    pub(super) fn own_ahead_ms(&self, ends: Ends) -> Option<i64> {
        ends.is_earlier.then(|| self.log.clock().earlier_ahead_ms())
    }

    /// Whether the time of a session that is kept here is over.
    pub(super) fn is_over(&self, record: &KeptRecord, ends: Ends) -> bool {
        let now_ms = self.steady_ms();
        let ahead_ms = self.own_ahead_ms(ends).unwrap_or(0);
        record.is_expired(now_ms.saturating_add(ahead_ms)) || ends.latest_ms.is_some_and(|at_ms| at_ms <= now_ms)
    }

    /// A session whose client is away, and which was found at the start, ends at this time of the door's clock at the latest: what is stored was written by a
    /// clock that was ahead.
    pub fn ends_at_latest(&self, client_id: &str, at_ms: u64) {
        if let Some(Slot::Kept { ends, .. }) = self.slots.lock().get_mut(client_id) {
            ends.latest_ms = Some(i64::try_from(at_ms).unwrap_or(i64::MAX));
        }
    }

    /// Forgets kept sessions whose time has come; call it now and then.
    pub fn expire(&self) {
        let mut slots = self.slots.lock();
        slots.retain(|client_id, slot| match slot {
            Slot::Kept { seat, record, ends } if self.is_over(record, *ends) => {
                self.give_up(client_id, seat);
                false
            }
            _ => true,
        });
    }

    /// The doors' states of all sessions whose clients are away, and when each began.
    pub fn kept_states(&self) -> Vec<(Arc<str>, Vec<u8>, u64)> {
        let slots = self.slots.lock();
        let kept = slots.iter().filter_map(|(client_id, slot)| match slot {
            Slot::Kept { record, .. } => Some((Arc::clone(client_id), record.state.clone(), record.begun)),
            Slot::Live(_) => None,
        });
        kept.collect()
    }

    /// The door's state of a session whose client is away.
    pub fn kept_state(&self, client_id: &str) -> Option<Vec<u8>> {
        match self.slots.lock().get(client_id)? {
            Slot::Kept { record, .. } => Some(record.state.clone()),
            Slot::Live(_) => None,
        }
    }

    /// Replaces the door's state of a session whose client is away, in the store as well, and says when it ends (`None`: never by itself) where that is not
    /// stored: the door knows that by a moment less exactly, and by which clock it is would be forgotten.
    pub fn set_kept_state(&self, client_id: &str, state: Vec<u8>, expires_at_ms: Option<i64>) {
        let mut slots = self.slots.lock();
        let Some(Slot::Kept { record, ends, .. }) = slots.get_mut(client_id) else { return };
        let has_end_now = record.expires_at_ms.is_none() && expires_at_ms.is_some();
        if has_end_now {
            (record.expires_at_ms, *ends) = (expires_at_ms, Ends::default());
        }
        if has_end_now || record.state != state {
            record.state = state;
            put_record(&mut self.log.lock(), client_id, record);
        }
    }

    /// The sessions that the store kept.
    pub(super) fn load_kept(&self) {
        let mut after: Option<Vec<u8>> = None;
        let mut loaded = 0;
        while loaded < self.config.kept_max {
            let Ok(entries) = self.log.state_scan(KEPT_TREE, &[], after.as_deref(), 1_000) else { return };
            let Some((last, _)) = entries.last() else { return };
            after = Some(last.clone());
            loaded += entries.len();
            for (key, value) in &entries {
                let Ok(client_id) = std::str::from_utf8(key) else { continue };
                let Some(record) = KeptRecord::decode(value) else {
                    tracing::warn!(client_id, "a kept session of an unknown version is left out");
                    continue;
                };
                self.restore(client_id, record);
            }
        }
    }

    fn restore(&self, client_id: &str, record: KeptRecord) {
        let seat = self.seat_of(&record);
        self.slots
            .lock()
            .insert(client_id.into(), Slot::Kept { seat, record, ends: Ends { is_earlier: true, latest_ms: None } });
    }
}

/// A session too large to be stored is kept in memory alone: rather none after a crash than an earlier state of it.
pub(super) fn put_record(open: &mut OpenCommit<'_>, client_id: &str, record: &KeptRecord) {
    if !open.put_state(KEPT_TREE, client_id.as_bytes(), Some(&record.encode())) {
        open.put_state(KEPT_TREE, client_id.as_bytes(), None);
    }
}
