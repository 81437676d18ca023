//! How many bytes may be under way: as many as the path carries, and few that wait in front of its slowest link. Pure.
//!
//! What lies in a queue of the network cannot be overtaken, not even by an alarm. So the window follows the delay: as
//! long as round trips take hardly longer than the shortest known one it grows, beyond a target it shrinks in the
//! proportion in which they take longer, and a little more, so that the queue is empty at times and the shortest
//! round trip can be seen. Packets that are lost halve it. All times are counted from the connection's beginning.

use std::time::Duration;

use crate::congestion::{Shortest, Window};

/// The wait in queues that is taken for none, at least.
const TARGET_MIN: Duration = Duration::from_millis(25);
/// The same as a part of the shortest round trip: a quarter.
const TARGET_PART: u32 = 4;
/// Packets in the smallest window. A packet is sent while it and one more fit, which makes two.
const WINDOW_MIN_PACKETS: u64 = 3;
/// Packets in the first window (RFC 9002 section 7.2).
const WINDOW_FIRST_PACKETS: u64 = 10;
/// Part of the window by which it grows at most in a round trip once it has found its size.
const GROWTH_PART: u64 = 16;
/// Measurements without one at the target that end the quick start.
const START_SAMPLES: u32 = 4;
/// Round trips with the smallest window that prove that the wait is not ours.
const FLOOR_ROUNDS: u32 = 4;

/// The window of one path.
#[derive(Clone, Debug)]
pub(super) struct ShortQueue {
    packet_bytes: u64,
    bytes: u64,
    /// Up to it the window doubles in each round trip.
    quick_up_to: u64,
    base: Shortest,
    round: Round,
    /// What was lost before it was sent has been paid for.
    loss_paid_until: Duration,
    rounds_at_floor: u32,
    /// Measurements in a row that were over the target.
    late: u32,
}

/// The round trip that is being watched: it ends with the first acknowledgement of what was sent in it.
#[derive(Clone, Debug)]
struct Round {
    begun: Duration,
    /// What it measures counts; not right after the window shrank, when what is acknowledged was sent before.
    counts: bool,
    shortest: Option<Duration>,
    newest_sent: Option<Duration>,
}

impl ShortQueue {
    pub(super) fn new(now: Duration, packet_bytes: u64) -> Self {
        Self {
            packet_bytes,
            bytes: WINDOW_FIRST_PACKETS * packet_bytes,
            quick_up_to: u64::MAX,
            base: Shortest::from(now),
            round: Round::new(now, true),
            loss_paid_until: now,
            rounds_at_floor: 0,
            late: 0,
        }
    }
}

impl Window for ShortQueue {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn set_packet_bytes(&mut self, packet_bytes: u64) {
        self.packet_bytes = packet_bytes;
        self.bytes = self.bytes.max(self.floor());
    }

    fn acked(&mut self, _: Duration, sent: Duration, bytes: u64, idle: bool) {
        self.round.newest_sent = self.round.newest_sent.max(Some(sent));
        if idle || !self.round.counts || self.late > 0 || sent < self.loss_paid_until {
            return;
        }
        if self.bytes < self.quick_up_to {
            self.bytes = self.bytes.saturating_add(bytes).min(self.quick_up_to);
        } else {
            self.bytes += self.growth(bytes);
        }
    }

    fn acked_all(&mut self, now: Duration, idle: bool) {
        let Some(sent) = self.round.newest_sent.take() else { return };
        let took = now.saturating_sub(sent);
        if self.base.take(now, took) && !idle {
            self.look_at_the_base();
        }
        let over = self.over(took);
        if self.round.counts {
            self.round.shortest = Some(self.round.shortest.map_or(took, |shortest| shortest.min(took)));
            self.late = if over { self.late + 1 } else { 0 };
        }
        let starts = self.bytes < self.quick_up_to;
        if starts && self.late >= START_SAMPLES && !idle {
            // The pipe is full.
            return self.shrink(now, took);
        }
        if sent >= self.round.begun {
            self.end_round(now, idle);
        }
    }

    fn lost(&mut self, now: Duration, sent: Duration, _: u64, long: bool) {
        if sent < self.loss_paid_until {
            return;
        }
        self.loss_paid_until = now;
        self.bytes = if long { self.floor() } else { (self.bytes / 2).max(self.floor()) };
        // Where nothing is known of the path, the delay says when the start has to end.
        self.quick_up_to = if long { u64::MAX } else { self.bytes };
        self.round = Round::new(now, false);
    }
}

impl ShortQueue {
    fn floor(&self) -> u64 {
        WINDOW_MIN_PACKETS * self.packet_bytes
    }

    /// One packet in a round trip, and a part of the window that is smaller the more the queue holds.
    fn growth(&self, acked: u64) -> u64 {
        let wait = match (self.round.shortest, self.base.get()) {
            (Some(took), Some(base)) => took.saturating_sub(base),
            _ => Duration::ZERO,
        };
        let target = self.target();
        let room = target.saturating_sub(wait).as_micros() as u64;
        let part = self.bytes / GROWTH_PART * room / (target.as_micros() as u64).max(1);
        // Spread over the acknowledgements of one round trip.
        ((self.packet_bytes + part) * acked / self.bytes.max(1)).max(1)
    }

    fn target(&self) -> Duration {
        self.base.get().map_or(TARGET_MIN, |base| TARGET_MIN.max(base / TARGET_PART))
    }

    fn over(&self, took: Duration) -> bool {
        self.base.get().is_some_and(|base| took > base + self.target())
    }

    fn end_round(&mut self, now: Duration, idle: bool) {
        let shortest = self.round.shortest.filter(|took| !idle && self.over(*took));
        let Some(took) = shortest else {
            if self.round.counts {
                self.rounds_at_floor = 0;
            }
            self.round = Round::new(now, true);
            return;
        };
        // It may have grown by a little since it was made the smallest.
        if self.bytes > self.floor() + self.packet_bytes {
            return self.shrink(now, took);
        }
        self.bytes = self.floor();
        self.rounds_at_floor += 1;
        if self.rounds_at_floor >= FLOOR_ROUNDS {
            // Two packets do not make this wait: the path is longer now, or others fill its queue.
            self.base = Shortest::known(now, took);
            self.rounds_at_floor = 0;
        }
        self.round = Round::new(now, true);
        self.late = 0;
    }

    /// To what the path holds without a queue, less an eighth; to a half at most.
    fn shrink(&mut self, now: Duration, took: Duration) {
        let base = self.base.get().unwrap_or(took);
        let (base, took) = (base.as_micros() as u64, (took.as_micros() as u64).max(1));
        let fitting = ((u128::from(self.bytes) * u128::from(base) / u128::from(took)) as u64 / 8) * 7;
        self.bytes = fitting.clamp(self.bytes / 2, self.bytes).max(self.floor());
        self.quick_up_to = self.bytes;
        self.late = 0;
        self.round = Round::new(now, false);
    }

    /// The shortest round trip has aged: for one round trip half of the window shows whether a queue hid a shorter one.
    fn look_at_the_base(&mut self) {
        if self.bytes >= self.quick_up_to {
            self.quick_up_to = self.bytes;
        }
        self.bytes = (self.bytes / 2).max(self.floor());
    }
}

impl Round {
    fn new(begun: Duration, counts: bool) -> Self {
        Self { begun, counts, shortest: None, newest_sent: None }
    }
}

#[cfg(test)]
#[path = "window_tests.rs"]
mod tests;
