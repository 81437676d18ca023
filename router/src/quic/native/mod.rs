//! The node's side of `edgeway/1`: who connects, lanes in, events and commands out.
//!
//! Pure: `order` is a lane's numbers, credit and acknowledgements, `deliveries` the commands under way, `filters` what a
//! client wants. `append` brings frames into the log. With streams: `way` is one with its buffers, `hello` the first
//! frame of a connection, `connection` its turns, `lanes`, `events`, `commands` and `datagrams` what its streams
//! carry, `end` its end, at which nothing is lost.

mod append;
mod commands;
mod connection;
mod datagrams;
mod deliveries;
mod end;
mod events;
mod filters;
mod hello;
mod lanes;
mod order;
mod way;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use devices::native::{Close, EVENTS_PER_FRAME_MAX, FRAME_BYTES_MAX, Limits};
use quinn::Connection;

use super::{Config, Stats};
use crate::event_log::EventLog;
use crate::ingest::{Gate, Ingest};
use crate::mqtt::task::Place;
use crate::sessions::Sessions;

/// `Publish` frames of a lane that may be unacknowledged: the credit.
const FRAMES_IN_FLIGHT_MAX: usize = 64;

/// What all connections of the native protocol share.
pub struct Native {
    pub(super) name: String,
    pub(super) config: Config,
    pub(super) stats: Arc<Stats>,
    ingest: Arc<Ingest>,
    sessions: Arc<Sessions>,
    log: Arc<EventLog>,
    /// What clients do wrong, as lines of the log.
    complaints: Gate,
}

impl Native {
    /// `name` is the node's.
    pub fn new(
        name: &str,
        config: Config,
        ingest: Arc<Ingest>,
        sessions: Arc<Sessions>,
        stats: Arc<Stats>,
    ) -> Arc<Self> {
        let log = Arc::clone(ingest.log());
        Arc::new(Self { name: name.to_owned(), config, stats, ingest, sessions, log, complaints: Gate::default() })
    }

    /// Serves a connection that speaks the native protocol, from its first stream to its end.
    pub(super) async fn serve(self: &Arc<Self>, connection: Connection, _place: Place) {
        match hello::open(self, &connection).await {
            Ok(Some(opened)) => connection::Task::new(Arc::clone(self), connection, opened).run().await,
            Ok(None) => {}
            Err(wrong) => self.close(&connection, "", &wrong),
        }
    }

    fn limits() -> Limits {
        Limits {
            frame_bytes_max: FRAME_BYTES_MAX as u32,
            events_per_frame_max: EVENTS_PER_FRAME_MAX as u32,
            frames_in_flight_max: FRAMES_IN_FLIGHT_MAX as u32,
        }
    }

    /// Closes a connection for what its client did, and says so to people.
    fn close(&self, connection: &Connection, device: &str, wrong: &Wrong) {
        let is_told = *wrong == hello::NOT_ENROLLED;
        if !is_told && !matches!(wrong.code, Close::NoStream | Close::Busy | Close::NotReading) {
            self.ingest.stats().refused_protocol.fetch_add(1, Ordering::Relaxed);
        }
        if !is_told && self.complaints.lets_through(self.log.clock().wall_ms()) {
            let remote = connection.remote_address();
            tracing::warn!(%device, %remote, code = ?wrong.code, why = wrong.why, "a connection is closed");
        }
        super::connection::close(connection, wrong.code, wrong.why, &self.stats);
    }
}

/// What a client did that ends its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Wrong {
    code: Close,
    why: &'static str,
}

impl Wrong {
    const fn new(code: Close, why: &'static str) -> Self {
        Self { code, why }
    }
}

impl From<devices::native::FrameError> for Wrong {
    fn from(error: devices::native::FrameError) -> Self {
        match error {
            devices::native::FrameError::TooLarge => Self::new(Close::TooLarge, "a frame is over the bound"),
            devices::native::FrameError::Malformed => Self::new(Close::Malformed, "a frame cannot be read"),
        }
    }
}
