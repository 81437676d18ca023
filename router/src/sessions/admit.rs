//! Letting a client in: which session it goes on with, and what is written of its coming.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use tokio::sync::watch;

use super::keeping::put_record;
use super::kept::{KEPT_TREE, KeptRecord};
use super::known::TurnedAway;
use super::mailbox::Mailbox;
use super::presence::{Change, DeviceRecord, Seen};
use super::registry::{Admitted, Arrival, Ends, Entry, Sessions, Slot};
use super::seat::{Filters, Seat};
use super::site::{Found, Known};

/// A kept session that goes on.
struct Resumed {
    seat: Arc<Seat>,
    record: KeptRecord,
    /// Whether another node may have more of it than has arrived here.
    may_lag: bool,
    /// By how much the clock by which another node has written it, or a process before, is ahead of [`Sessions::steady_ms`], in milliseconds.
    ahead_ms: Option<i64>,
}

impl Sessions {
    pub(super) fn admit(&self, slots: &mut HashMap<Arc<str>, Slot>, arrival: Arrival) -> Result<Admitted, TurnedAway> {
        if self.live() >= self.config.sessions_max {
            self.stats.refused_too_many.fetch_add(1, Ordering::Relaxed);
            return Err(TurnedAway::NoRoom);
        }
        let now_ms = self.log.clock().wall_ms();
        let number = self.next_number.fetch_add(1, Ordering::Relaxed);
        let own = match slots.remove(&arrival.client_id) {
            Some(Slot::Kept { seat, record, ends }) => Some((seat, record, ends)),
            _ => None,
        };
        let known = self.known_of(&arrival.client_id, own.as_ref().map(|(_, record, _)| record), arrival.clean_start);
        // It is the newest, whatever clocks say.
        let begun = self.log.clock().next_hybrid().max(known.newest_begun.saturating_add(1));
        let in_site = known.in_site;
        let resumed = self.resume(&arrival.client_id, own, known);
        if let Some(Resumed { record, .. }) = resumed.as_ref().filter(|_| in_site) {
            // Before the word of its coming, by which others let go of what they keep.
            let record = KeptRecord { begun, live: true, expires_at_ms: None, ..record.clone() };
            put_record(&mut self.log.lock(), &arrival.client_id, &record);
        }
        let info = DeviceRecord {
            client_id: arrival.client_id.to_string(),
            first_seen_ms: now_ms,
            last_seen_ms: now_ms,
            connected: true,
            protocol: arrival.protocol.to_owned(),
            remote: arrival.remote,
        };
        let anew = resumed.is_none();
        let may_lag = resumed.as_ref().is_some_and(|resumed| resumed.may_lag);
        let ahead_ms = resumed.as_ref().and_then(|resumed| resumed.ahead_ms);
        let recorded = self.presence.note(Change::Connected, number, &Seen { device: info.clone(), begun, anew });
        let (seat, kept) = match resumed {
            Some(Resumed { seat, record, .. }) => (seat, Some(record.state)),
            None => (self.new_seat(number), None),
        };
        let client_id = Arc::clone(&arrival.client_id);
        let mailbox = Mailbox::new(Arc::clone(&seat.wake));
        let ended = watch::Sender::new(false);
        let entry = Arc::new(Entry { client_id, number, begun, anew, seat, mailbox, info, ended });
        slots.insert(arrival.client_id, Slot::Live(Arc::clone(&entry)));
        self.by_seat.lock().insert(entry.seat.subscriber.number(), Arc::clone(&entry));
        entry.seat.filters.lock().list().iter().for_each(|filter| self.arrivals.push(filter));
        self.stats.connected.fetch_add(1, Ordering::Relaxed);
        self.changed();
        Ok(Admitted { entry, kept, may_lag, ahead_ms, recorded })
    }

    /// Takes up the session that was chosen, and gives up what is kept here where it is another.
    fn resume(&self, client_id: &str, own: Option<(Arc<Seat>, KeptRecord, Ends)>, known: Known) -> Option<Resumed> {
        let now_ms = self.steady_ms();
        // Who is not heard, or not whole, may have let the client in since.
        let may_lag = !self.knows_all();
        match (known.found, own) {
            (Found::Own, Some((seat, record, ends))) if !self.is_over(&record, ends) => {
                seat.subscriber.come_back();
                return Some(Resumed { seat, record, may_lag, ahead_ms: self.own_ahead_ms(ends) });
            }
            (Found::Other(origin, record), own) => {
                own.iter().for_each(|(seat, ..)| self.give_up(client_id, seat));
                let ahead_ms = self.other_ahead_ms(origin);
                if record.is_expired(now_ms.saturating_add(ahead_ms)) {
                    return None;
                }
                let seat = self.seat_of(&record);
                seat.subscriber.come_back();
                self.stats.fetched.fetch_add(1, Ordering::Relaxed);
                let may_lag = may_lag || record.live;
                return Some(Resumed { seat, record, may_lag, ahead_ms: Some(ahead_ms) });
            }
            (_, own) => own.iter().for_each(|(seat, ..)| self.give_up(client_id, seat)),
        }
        None
    }

    /// A seat for a stored session: nobody sits there yet, and it is owed what came since.
    pub(super) fn seat_of(&self, record: &KeptRecord) -> Arc<Seat> {
        let seat = self.new_seat(self.next_number.fetch_add(1, Ordering::Relaxed));
        for filter in &record.filters {
            self.fan_out.subscribe(seat.subscriber.number(), filter);
        }
        *seat.filters.lock() = Filters::of(record.filters.clone());
        seat.subscriber.go_away([]);
        record.owe(&self.log, &seat.subscriber);
        seat
    }

    /// A session that was to go on begins anew: its door could not use what was kept.
    pub fn begin_anew(&self, entry: &Entry) {
        let filters = std::mem::take(&mut *entry.seat.filters.lock());
        for filter in filters.list() {
            self.fan_out.unsubscribe(entry.seat.subscriber.number(), filter);
        }
        entry.seat.subscriber.forget();
        self.log.lock().put_state(KEPT_TREE, entry.client_id.as_bytes(), None);
        self.changed();
    }
}
