//! What all streams of a link's connection pass before they send: whose turn it is, and whether the rate allows it.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::class::Priority;
use super::pace::Pace;
use super::turns::Turns;
use crate::clock::Clock;
use crate::transport::{FrameSender, SiteConnection, StreamError};

/// QUIC's priorities. `normal` and `low` have the same: a stream that waits for the line keeps its place under the priority that it had
/// when it came, so one that changes takes hold late, or never.
const HIGH: i32 = 2;
const OTHERS: i32 = 0;

/// The gate of one connection.
pub struct Gate {
    clock: Arc<Clock>,
    connection: SiteConnection,
    /// Bytes that were sent before the gate was there.
    before: u64,
    state: Mutex<State>,
    changed: Notify,
}

struct State {
    pace: Option<Pace>,
    turns: Turns,
}

/// One that waits; gone when it is dropped.
struct Waiting<'a> {
    gate: &'a Gate,
    priority: Priority,
}

impl Gate {
    /// The gate of a connection that sends at most `rate` bytes a second.
    pub fn new(clock: &Arc<Clock>, connection: &SiteConnection, rate: Option<u64>) -> Self {
        let pace = rate.map(|rate| Pace::new(rate, clock.monotonic()));
        let turns = if pace.is_some() { Turns::of_pieces() } else { Turns::of_frames() };
        Self {
            clock: Arc::clone(clock),
            connection: connection.clone(),
            before: connection.traffic().sent_bytes,
            state: Mutex::new(State { pace, turns }),
            changed: Notify::new(),
        }
    }

    /// Waits until a frame of batches, of so many bytes, may begin, and notes it until it is [`Self::stored`]. With a rate each piece takes its turn
    /// instead.
    pub async fn begin(&self, priority: Priority, bytes: usize) {
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From now on nothing is missed.
            changed.as_mut().enable();
            {
                let mut state = self.state.lock();
                if state.pace.is_some() || state.turns.try_begin(priority, bytes) {
                    return;
                }
            }
            changed.await;
        }
    }

    /// Sends a frame, in pieces where there is a rate.
    ///
    /// # Errors
    /// The stream's.
    pub async fn send(&self, priority: Priority, out: &mut FrameSender, frame: &[u8]) -> Result<(), StreamError> {
        out.set_priority(match priority {
            Priority::High => HIGH,
            Priority::Normal | Priority::Low => OTHERS,
        });
        let piece = self.state.lock().pace.map(|pace| pace.piece());
        let Some(piece) = piece else { return out.send_frame(frame).await };
        let too_long = |_| StreamError::TooLong { bytes: frame.len(), bytes_max: u32::MAX as usize };
        let length = u32::try_from(frame.len()).map_err(too_long)?.to_le_bytes();
        let (first, rest) = frame.split_at(frame.len().min(piece.saturating_sub(length.len())));
        self.pass(priority, first.len() + length.len()).await;
        out.send_head(&[&length, first].concat()).await?;
        for piece in rest.chunks(piece) {
            self.pass(priority, piece.len()).await;
            out.send_head(piece).await?;
        }
        Ok(())
    }

    /// Notes that so many bytes are stored upstream: without a rate that is what each has had.
    pub fn stored(&self, priority: Priority, bytes: usize) {
        let mut state = self.state.lock();
        if state.pace.is_none() {
            state.turns.stored(priority, bytes);
        }
        drop(state);
        self.changed.notify_waiters();
    }

    /// Waits until so many bytes may go.
    async fn pass(&self, priority: Priority, bytes: usize) {
        self.state.lock().turns.come(priority);
        self.changed.notify_waiters();
        let _waiting = Waiting { gate: self, priority };
        loop {
            let mut changed = std::pin::pin!(self.changed.notified());
            // From now on nothing is missed.
            changed.as_mut().enable();
            match self.try_pass(priority, bytes) {
                Ok(()) => return,
                Err(None) => changed.await,
                Err(Some(wait)) => {
                    let _ = tokio::time::timeout(wait, changed).await;
                }
            }
        }
    }

    /// How long to wait, where it is known.
    fn try_pass(&self, priority: Priority, bytes: usize) -> Result<(), Option<Duration>> {
        let wire = self.connection.traffic().sent_bytes - self.before;
        let State { pace, turns } = &mut *self.state.lock();
        if !turns.is_next(priority) {
            return Err(None);
        }
        let Some(pace) = pace else { return Ok(()) };
        pace.take(self.clock.monotonic(), bytes, priority == Priority::High, wire).map_err(Some)?;
        turns.took(priority, bytes);
        Ok(())
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gate.state.lock().turns.go(self.priority);
        self.gate.changed.notify_waiters();
    }
}
