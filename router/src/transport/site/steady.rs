//! How many bytes of a link may be under way: as many as its rate carries in a round trip, whatever is lost at random. Pure.
//!
//! A loss says little on a radio link: halving for it, as TCP does, leaves most of the link unused at 2 %. So the window follows
//! the rate, which people have set or which is measured, and the shortest round trip; what waits in front of the slowest
//! part of the path is a small burst where the rate is set, and about half a round trip where it is measured. Only
//! where much is lost, as a queue loses that has overflown, it shrinks. Times are counted from the connection's beginning.

use std::time::Duration;

use devices::congestion::{Shortest, Window};

/// Packets of the first window, and of the smallest one.
const FIRST_PACKETS: u64 = 10;
const FLOOR_PACKETS: u64 = 4;
/// What may be under way besides what the path holds: time at the rate, and packets at least.
const BURST: Duration = Duration::from_millis(25);
const BURST_PACKETS: u64 = 4;
/// Without a set rate: the window by what was measured, in halves. Above two, so that a free path shows itself.
const GAIN_HALVES: u64 = 3;
/// Round trips over which the largest measured rate counts.
const RATE_ROUNDS: usize = 10;
/// Of a hundred bytes, so many lost ones are more than chance.
const LOSS_PERCENT_MAX: u64 = 15;
/// Packets by which losses are judged, at least.
const JUDGED_PACKETS: u64 = 30;
/// The window's part that is left at the least, of 64; and by how much it shrinks and grows.
const WHOLE: u64 = 64;
const EASED_MIN: u64 = 4;

/// The window of one path.
#[derive(Clone, Debug)]
pub(super) struct Steady {
    packet_bytes: u64,
    /// Bytes a second that were set.
    rate: Option<u64>,
    base: Shortest,
    round: Round,
    /// What was measured in the last rounds, bytes a second; the newest last.
    measured: [u64; RATE_ROUNDS],
    /// What was acknowledged and lost since losses were judged.
    acked: u64,
    lost: u64,
    /// The part of the window that is used, of [`WHOLE`].
    eased: u64,
    /// For a round trip, less goes, so that a queue runs empty and the shortest round trip is seen.
    looks_until: Option<Duration>,
    bytes: u64,
}

/// What was acknowledged since a round trip began.
#[derive(Clone, Copy, Debug, Default)]
struct Round {
    begun: Duration,
    acked: u64,
    /// Nothing waited to be sent: what was measured says too little.
    idle: bool,
}

impl Steady {
    /// A window for packets of this size and a rate that was set, or is to be measured.
    pub(super) fn new(packet_bytes: u64, rate: Option<u64>) -> Self {
        let mut steady = Self {
            packet_bytes,
            rate,
            base: Shortest::default(),
            round: Round::default(),
            measured: [0; RATE_ROUNDS],
            acked: 0,
            lost: 0,
            eased: WHOLE,
            looks_until: None,
            bytes: 0,
        };
        steady.set();
        steady
    }
}

impl Window for Steady {
    fn bytes(&self) -> u64 {
        self.bytes
    }

    fn set_packet_bytes(&mut self, packet_bytes: u64) {
        self.packet_bytes = packet_bytes;
        self.set();
    }

    fn acked(&mut self, now: Duration, sent: Duration, bytes: u64, idle: bool) {
        let took = now.saturating_sub(sent);
        if self.base.take(now, took) {
            self.looks_until = Some(now + took);
        }
        self.acked += bytes;
        self.round.acked += bytes;
        self.round.idle |= idle;
        // Its first acknowledgement ends a round: what was acknowledged in it took as long as it did.
        if sent >= self.round.begun {
            self.end_round(now);
        }
        self.judge_losses();
        if self.looks_until.is_some_and(|until| now >= until) {
            self.looks_until = None;
        }
        self.set();
    }

    fn lost(&mut self, _: Duration, _: Duration, bytes: u64, long: bool) {
        self.lost += bytes;
        if long {
            self.eased = EASED_MIN;
            (self.acked, self.lost) = (0, 0);
        }
        self.judge_losses();
        self.set();
    }
}

impl Steady {
    fn end_round(&mut self, now: Duration) {
        let took = now.saturating_sub(self.round.begun);
        let rate = u128::from(self.round.acked) * 1_000_000 / took.as_micros().max(1);
        let rate = u64::try_from(rate).unwrap_or(u64::MAX);
        // One that had nothing to send may only show more.
        if !self.round.idle || rate > self.most_measured() {
            self.measured.rotate_left(1);
            self.measured[RATE_ROUNDS - 1] = rate;
        }
        self.round = Round { begun: now, acked: 0, idle: false };
    }

    fn judge_losses(&mut self) {
        let all = self.acked + self.lost;
        if all < JUDGED_PACKETS * self.packet_bytes {
            return;
        }
        self.eased = match self.lost * 100 > all * LOSS_PERCENT_MAX {
            true => (self.eased * 3 / 4).max(EASED_MIN),
            false => (self.eased * 5 / 4).min(WHOLE),
        };
        (self.acked, self.lost) = (0, 0);
    }

    fn most_measured(&self) -> u64 {
        self.measured.iter().copied().max().unwrap_or(0)
    }

    fn set(&mut self) {
        let floor = FLOOR_PACKETS * self.packet_bytes;
        let in_time = |rate: u64, time: Duration| {
            u64::try_from(u128::from(rate) * time.as_micros() / 1_000_000).unwrap_or(u64::MAX)
        };
        let burst = |rate| in_time(rate, BURST).max(BURST_PACKETS * self.packet_bytes);
        let whole = match (self.base.get(), self.rate) {
            (None, Some(rate)) => burst(rate).min(FIRST_PACKETS * self.packet_bytes),
            (None, None) => FIRST_PACKETS * self.packet_bytes,
            (Some(base), Some(rate)) => in_time(rate, base).saturating_add(burst(rate)),
            (Some(base), None) => {
                let rate = self.most_measured();
                (in_time(rate, base).saturating_mul(GAIN_HALVES) / 2).saturating_add(burst(rate))
            }
        };
        let eased = u64::try_from(u128::from(whole) * u128::from(self.eased) / u128::from(WHOLE)).unwrap_or(u64::MAX);
        let eased = if self.looks_until.is_some() { eased / 2 } else { eased };
        self.bytes = eased.max(floor);
    }
}

#[cfg(test)]
#[path = "steady_tests.rs"]
mod tests;
