//! What the task says to a connection. Nothing here waits.

use std::array;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use quinn::Connection;
use tokio::sync::Notify;

use super::batch::Item;
use super::line::Line;
use crate::client::link::Heard;
use crate::client::outbox::{Entry, Qos};
use crate::native::{Datagram, Limits, Refusal};
use crate::sequence::{LANES, Lane};

/// What the task's side and the connection's share.
pub(super) struct Shared {
    lanes: [Line; LANES as usize],
    /// Once it stands.
    standing: OnceLock<(Connection, Limits)>,
    /// What the task's own side has to tell it; one for each publish that it hands over at most.
    said_here: Mutex<VecDeque<Heard>>,
    /// There is something in it.
    pub(super) said: Notify,
    /// The last delivery that the task has taken.
    taken: AtomicU64,
    going: AtomicBool,
    /// One of the two has changed.
    pub(super) asked: Notify,
}

/// Where the task hands things over.
pub(in crate::client) struct Inlet {
    shared: Arc<Shared>,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            lanes: array::from_fn(|index| Line::new(Lane::ALL[index])),
            standing: OnceLock::new(),
            said_here: Mutex::default(),
            said: Notify::new(),
            taken: AtomicU64::new(0),
            going: AtomicBool::new(false),
            asked: Notify::new(),
        }
    }
}

impl Shared {
    pub(super) fn lane(&self, lane: Lane) -> &Line {
        &self.lanes[lane.index()]
    }

    /// All lanes, the most urgent first.
    pub(super) fn lanes(&self) -> [&Line; LANES as usize] {
        self.lanes.each_ref()
    }

    pub(super) fn connected(&self, connection: Connection, limits: Limits) {
        // There is one connection for each of these.
        let _ = self.standing.set((connection, limits));
    }

    /// The last delivery that the task has taken.
    pub(super) fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }

    /// Whether the client says goodbye.
    pub(super) fn goes(&self) -> bool {
        self.going.load(Relaxed)
    }

    /// Whether an acknowledgement is awaited.
    pub(super) fn awaits(&self) -> bool {
        self.lanes.iter().any(|line| !line.is_done())
    }

    fn say(&self, heard: Heard) {
        self.said_here.lock().unwrap_or_else(PoisonError::into_inner).push_back(heard);
        self.said.notify_one();
    }

    pub(super) fn next_said(&self) -> Option<Heard> {
        self.said_here.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}

impl Inlet {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared }
    }

    /// Whether it takes another publish of a lane.
    pub(in crate::client) fn has_room(&self, lane: Lane) -> bool {
        self.shared.lane(lane).has_room()
    }

    /// Takes a publish; it may wait for others until [`Inlet::flush`].
    pub(in crate::client) fn publish(&mut self, entry: &Entry) -> bool {
        let Some((connection, limits)) = self.shared.standing.get() else { return false };
        let numbered = entry.qos == Qos::AtLeastOnce;
        if !numbered {
            // Once: here it is out of the client's hands.
            self.shared.say(Heard::Written { packet_id: 0 });
            if is_sent_alone(connection, entry) {
                return true;
            }
        }
        let (topic, properties) = (entry.topic.as_str(), entry.properties.as_slice());
        let (number, timestamp_ms, payload) = (entry.number, entry.timestamp_ms, &entry.payload);
        let item = Item { topic, number, timestamp_ms, payload, properties };
        if item.fits(limits) {
            self.shared.lane(entry.lane).push(&item, limits);
        } else if numbered {
            let (lane, boot, first) = (entry.lane, number.boot, number.seq);
            self.shared.say(Heard::RefusedRange { lane, boot, first, last: first, why: Refusal::TooLarge });
        } else {
            tracing::debug!(topic, bytes = payload.len(), "a publish that may be lost is too large to be sent");
        }
        true
    }

    /// Sends what waits for others.
    pub(in crate::client) fn flush(&mut self) {
        self.shared.lanes.iter().for_each(|line| line.changed.notify_one());
    }

    /// Confirms deliveries up to this one.
    pub(in crate::client) fn confirm(&mut self, delivery: u64) {
        self.shared.taken.fetch_max(delivery, Relaxed);
        self.shared.asked.notify_one();
    }

    /// Says goodbye.
    pub(in crate::client) fn disconnect(&mut self) -> bool {
        self.shared.going.store(true, Relaxed);
        self.shared.asked.notify_one();
        true
    }
}

/// Sends what may be lost as a datagram. One that is too large for it, or has properties, travels in its lane, as do
/// all where the node takes no datagrams.
fn is_sent_alone(connection: &Connection, entry: &Entry) -> bool {
    let Some(bytes_max) = connection.max_datagram_size().filter(|_| entry.properties.is_empty()) else { return false };
    let (topic, timestamp_ms, payload) = (entry.topic.as_str(), entry.timestamp_ms, &entry.payload[..]);
    if topic.len() + payload.len() > bytes_max {
        return false;
    }
    match postcard::to_stdvec(&Datagram { topic, timestamp_ms, payload }) {
        Ok(bytes) if bytes.len() <= bytes_max => connection.send_datagram(Bytes::from(bytes)).is_ok(),
        _ => false,
    }
}
