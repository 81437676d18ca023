//! What one lane holds between the outbox and its stream: batches that wait, and frames without an acknowledgement.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::batch::{Batch, Item};
use crate::native::Limits;
use crate::sequence::{Lane, Number};

/// Batches of a lane that wait for its stream.
const WAITING_MAX: usize = 64;
/// Bytes of them from which no more are taken.
const WAITING_BYTES_MAX: usize = 1 << 20;
/// Bytes that a lane which is not urgent may have under way whatever the window is.
const UNDER_WAY_BYTES_MIN: u64 = 128 << 10;
/// Windows of bytes that it may have under way beyond: one is in the network, one waits to follow it.
const UNDER_WAY_WINDOWS: u64 = 2;
/// Bytes that the bulk lane may have under way at most. What is under way is in one of the node's commits or waits for
/// one: an alarm that comes behind it waits until the disk has it.
const BULK_UNDER_WAY_BYTES_MAX: u64 = 1 << 20;

/// A lane as the task hands publishes over to it and its stream takes them.
pub(super) struct Line {
    pub(super) lane: Lane,
    state: Mutex<State>,
    /// Something may have become possible for whoever sends.
    pub(super) changed: Notify,
}

#[derive(Default)]
struct State {
    waiting: VecDeque<Batch>,
    waiting_bytes: usize,
    under_way: VecDeque<(Number, usize)>,
    under_way_bytes: usize,
    /// The stream was reset, and the task does not know yet.
    halted: bool,
}

impl Line {
    pub(super) fn new(lane: Lane) -> Self {
        Self { lane, state: Mutex::default(), changed: Notify::new() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Every change is one call: what a panicking holder left is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it takes another publish.
    pub(super) fn has_room(&self) -> bool {
        let state = self.state();
        state.waiting.len() < WAITING_MAX && state.waiting_bytes < WAITING_BYTES_MAX
    }

    /// Takes a publish behind the others, which must fit a frame.
    pub(super) fn push(&self, item: &Item<'_>, limits: &Limits) {
        let mut state = self.state();
        if let Some(last) = state.waiting.back_mut() {
            let before = last.bytes();
            if last.add(item, limits) {
                let added = last.bytes() - before;
                state.waiting_bytes += added;
                return;
            }
        }
        let batch = Batch::new(item);
        state.waiting_bytes += batch.bytes();
        state.waiting.push_back(batch);
    }

    /// The next batch to send, if one may be sent now. `window`: bytes that the network takes at once.
    pub(super) fn take(&self, limits: &Limits, window: impl FnOnce() -> u64) -> Option<Batch> {
        let mut state = self.state();
        let credit = state.under_way.len() < limits.frames_in_flight_max.max(1) as usize;
        if state.halted || !credit || state.waiting.is_empty() {
            return None;
        }
        if self.lane != Lane::URGENT && !state.under_way.is_empty() {
            let bytes_max = UNDER_WAY_BYTES_MIN + UNDER_WAY_WINDOWS * window();
            let lane_max = if self.lane == Lane::BULK { BULK_UNDER_WAY_BYTES_MAX } else { u64::MAX };
            if state.under_way_bytes as u64 >= bytes_max.min(lane_max) {
                return None;
            }
        }
        let batch = state.waiting.pop_front()?;
        state.waiting_bytes -= batch.bytes();
        state.under_way.push_back((batch.last(), batch.bytes()));
        state.under_way_bytes += batch.bytes();
        Some(batch)
    }

    /// Everything up to a number is dealt with.
    pub(super) fn acked(&self, up_to: Number) {
        let mut state = self.state();
        while let Some((last, bytes)) = state.under_way.front().copied()
            && last <= up_to
        {
            state.under_way.pop_front();
            state.under_way_bytes -= bytes;
        }
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing is sent until the task knows that the stream was reset.
    pub(super) fn halt(&self) {
        self.state().halted = true;
    }

    /// The task knows: what it handed over before is forgotten, and it hands it over again.
    pub(super) fn begin_anew(&self) {
        *self.state() = State::default();
        self.changed.notify_one();
    }

    /// Whether all that was handed over is acknowledged.
    pub(super) fn is_done(&self) -> bool {
        let state = self.state();
        state.waiting.is_empty() && state.under_way.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    const LIMITS: Limits = Limits { frame_bytes_max: 262_144, events_per_frame_max: 4_096, frames_in_flight_max: 3 };

    fn push(line: &Line, topic: &str, seq: u64, payload: &[u8]) {
        let payload = Bytes::copy_from_slice(payload);
        let number = Number { boot: 1, seq };
        line.push(&Item { topic, number, timestamp_ms: 1, payload: &payload, properties: &[] }, &LIMITS);
    }

    fn last_sent(line: &Line, window: u64) -> Option<u64> {
        line.take(&LIMITS, || window).map(|batch| batch.last().seq)
    }

    #[test]
    fn what_waits_travels_together_as_far_as_there_is_credit() {
        let line = Line::new(Lane::URGENT);
        for (seq, topic) in (0..).zip(["a", "a", "b", "b", "c", "a"]) {
            push(&line, topic, seq, b"x");
        }
        assert_eq!([(); 3].map(|()| last_sent(&line, 0)), [Some(1), Some(3), Some(4)]);
        assert_eq!(last_sent(&line, 0), None, "three frames are the credit");
        line.acked(Number { boot: 1, seq: 2 });
        assert_eq!(last_sent(&line, 0), Some(5), "half a frame is none, the one before it is");
        assert_eq!(last_sent(&line, 0), None);
        assert!(!line.is_done());
        line.acked(Number { boot: 1, seq: 5 });
        assert!(line.is_done());
    }

    #[test]
    fn bulk_does_not_fill_what_the_network_does_not_take() {
        let large = vec![0; 100 << 10];
        for (lane, window, frames) in [(Lane::BULK, 0, 2), (Lane::BULK, 64 << 10, 3), (Lane::URGENT, 0, 3)] {
            let line = Line::new(lane);
            (0..5).for_each(|seq| push(&line, "t", seq, &large));
            let sent = std::iter::from_fn(|| last_sent(&line, window)).count();
            assert_eq!(sent, frames, "{lane:?} with a window of {window}");
            assert!(line.has_room());
            (5..17).for_each(|seq| push(&line, "t", seq, &large));
            assert!(!line.has_room(), "a megabyte is enough");
        }
    }

    #[test]
    fn a_reset_lane_is_silent_until_the_task_knows() {
        let line = Line::new(Lane::NORMAL);
        push(&line, "t", 0, b"x");
        assert_eq!(last_sent(&line, 0), Some(0));
        line.halt();
        push(&line, "t", 1, b"handed over before it knows");
        assert_eq!(last_sent(&line, 0), None);
        line.begin_anew();
        assert!(line.is_done());
        push(&line, "t", 0, b"x");
        assert_eq!(last_sent(&line, 0), Some(0));
    }
}
