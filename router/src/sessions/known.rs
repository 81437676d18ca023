//! Who may be connected, by what people set; and what is forgotten of a device that was removed.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sled_data::ReadError as StoreError;

use super::mailbox::Order;
use super::presence::Seen;
use super::registry::{Arrival, SessionInfo, Sessions, Slot};
use crate::catalog::Catalog;
use crate::event_log::Ticket;

/// How long the session of a removed device may take to end.
const END_WAIT: Duration = Duration::from_secs(5);

/// Why a client is not let in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TurnedAway {
    /// Only enrolled devices may connect, and it is none. Nothing but people can change that.
    #[error("the device is not enrolled, and [catalog] known_by is \"enrolment\"; `edgeway device add` enrols it")]
    NotEnrolled,
    /// There are as many sessions as there may be, or its earlier one does not end. It may try again.
    #[error("there is no room for another session")]
    NoRoom,
    /// The node leaves its site.
    #[error("the node leaves its site; connect to another one")]
    Leaving,
}

/// What was forgotten of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forgotten {
    /// It is connected: nothing.
    Connected,
    /// It was never seen: there was nothing.
    Nothing,
    /// What was seen of it and what was kept for it; gone when this commit is durable.
    All(Ticket),
}

impl Sessions {
    /// Has the catalog say who may connect.
    #[must_use]
    pub fn with_catalog(mut self, catalog: Arc<Catalog>) -> Self {
        self.catalog = Some(catalog);
        self
    }

    /// Whether a client may be connected.
    pub(super) fn lets_in(&self, client_id: &str) -> bool {
        self.catalog.as_ref().is_none_or(|catalog| catalog.lets_in(client_id))
    }

    /// Turns away who is not enrolled, where that is asked for. It is counted, and told people within a bound.
    pub(super) fn check_known(&self, arrival: &Arrival) -> Result<(), TurnedAway> {
        if self.lets_in(&arrival.client_id) {
            return Ok(());
        }
        self.stats.refused_not_enrolled.fetch_add(1, Ordering::Relaxed);
        if self.complaints.lets_through(self.log.clock().wall_ms()) {
            let Arrival { client_id, protocol, remote, .. } = arrival;
            tracing::warn!(client = %client_id, protocol, remote, "a device that is not enrolled was turned away");
        }
        Err(TurnedAway::NotEnrolled)
    }

    /// Ends the session of a device that may not be connected any more, and waits for its end; `false` where it did
    /// not end in time. A device that has none, or may be connected, is left alone.
    pub async fn end_removed(&self, client_id: &str) -> bool {
        if self.lets_in(client_id) {
            return true;
        }
        let mut ended = match self.slots.lock().get(client_id) {
            Some(Slot::Live(entry)) => {
                entry.mailbox.order(Order::Removed);
                entry.ended.subscribe()
            }
            _ => return true,
        };
        tokio::time::timeout(END_WAIT, ended.wait_for(|ended| *ended)).await.is_ok()
    }

    /// Forgets what was seen of a device that is not connected, and what is kept for it.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn forget(&self, client_id: &str) -> Result<Forgotten, StoreError> {
        // Held until the end, so that it does not come back meanwhile.
        let mut slots = self.slots.lock();
        if matches!(slots.get(client_id), Some(Slot::Live(_))) {
            return Ok(Forgotten::Connected);
        }
        let seen = self.presence.get(client_id)?.is_some();
        let kept = slots.remove(client_id);
        if let Some(Slot::Kept { seat, .. }) = &kept {
            self.give_up(client_id, seat);
        }
        if !seen && kept.is_none() {
            return Ok(Forgotten::Nothing);
        }
        let mut open = self.log.lock();
        if seen {
            self.presence.forget(&mut open, client_id);
        }
        Ok(Forgotten::All(open.ticket()))
    }

    /// The live session of a client.
    pub fn live_of(&self, client_id: &str) -> Option<SessionInfo> {
        match self.slots.lock().get(client_id)? {
            Slot::Live(entry) => Some(entry.show()),
            Slot::Kept { .. } => None,
        }
    }

    /// When the session began that is kept here for a client that is away: by the hybrid clock.
    pub fn kept_begun(&self, client_id: &str) -> Option<u64> {
        match self.slots.lock().get(client_id)? {
            Slot::Kept { record, .. } => Some(record.begun),
            Slot::Live(_) => None,
        }
    }

    /// What was seen of a client, as of the last commit.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn seen(&self, client_id: &str) -> Result<Option<Seen>, StoreError> {
        self.presence.get(client_id)
    }

    /// What was seen of at most `max` clients by client id, those after `after`, as of the last commit; fewer only
    /// where there are no more. `None`: a record of an unknown version.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn seen_page(&self, after: Option<&str>, max: usize) -> Result<Vec<(String, Option<Seen>)>, StoreError> {
        self.presence.page(after, max)
    }

    /// How many clients were seen and are remembered.
    pub fn seen_count(&self) -> usize {
        self.presence.known()
    }
}
