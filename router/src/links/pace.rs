//! The rate that people set for a link: how long to wait before the next bytes may go (pure).
//!
//! What goes on the wire counts: what QUIC adds, and what is sent again, is paid for when it is seen.

use std::time::Duration;

/// What may go at once after a pause, as a share of a second's bytes.
const BURST_SHARE: f64 = 0.1;
/// The least that goes at once, bytes: a packet's.
const PIECE_BYTES_MIN: u64 = 1_100;
/// The most that goes at once, bytes.
const PIECE_BYTES_MAX: u64 = 64 << 10;
/// Pieces that a second is cut into.
const PIECES_PER_S: u64 = 50;
/// Pieces that what is urgent may go ahead of its time.
const AHEAD_PIECES: f64 = 2.0;

/// A rate, and what of it is not used yet.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    bytes_per_s: f64,
    piece: usize,
    /// Bytes that may go now; negative while those that went are paid for.
    credit: f64,
    at: Duration,
    /// Bytes that went, and those that the wire had on top and that were paid for.
    taken: u64,
    overhead: u64,
}

impl Pace {
    /// A rate in bytes a second, from now on; not 0.
    pub fn new(bytes_per_s: u64, now: Duration) -> Self {
        let piece = (bytes_per_s / PIECES_PER_S).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        let bytes_per_s = bytes_per_s.max(1) as f64;
        Self { bytes_per_s, piece: piece as usize, credit: 0.0, at: now, taken: 0, overhead: 0 }
    }

    /// Bytes that go at once.
    pub fn piece(&self) -> usize {
        self.piece
    }

    /// Takes so many bytes, or says how long to wait. What is urgent goes a little ahead, and the others wait for it then.
    /// `wire` is how many bytes the wire has carried since the pace began.
    pub fn take(&mut self, now: Duration, bytes: usize, urgent: bool, wire: u64) -> Result<(), Duration> {
        let earned = now.saturating_sub(self.at).as_secs_f64() * self.bytes_per_s;
        let most = (self.bytes_per_s * BURST_SHARE).max(self.piece as f64);
        self.at = self.at.max(now);
        let more = wire.saturating_sub(self.taken + self.overhead);
        self.overhead += more;
        // What the wire carried in a pause was paid for by the pause.
        self.credit = (self.credit + earned - more as f64).min(most);
        let ahead = if urgent { AHEAD_PIECES * self.piece as f64 } else { 0.0 };
        // Half a byte less is no byte less: times are whole nanoseconds.
        let lacking = bytes as f64 - self.credit - ahead - 0.5;
        if lacking > 0.0 {
            return Err(Duration::from_secs_f64((lacking + 0.5) / self.bytes_per_s));
        }
        self.credit -= bytes as f64;
        self.taken += bytes as u64;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes so many bytes as soon as it may, and returns when.
    fn take(pace: &mut Pace, mut now: Duration, bytes: usize, wire: u64) -> Duration {
        while let Err(wait) = pace.take(now, bytes, false, wire) {
            now += wait;
        }
        now
    }

    #[test]
    fn the_rate_holds_over_any_time_and_pauses_are_not_saved_up() {
        for (rate, bytes) in [(1_000_u64, 1_100), (6_250, 1_100), (125_000, 2_500), (12_500_000, 65_536)] {
            let mut pace = Pace::new(rate, Duration::ZERO);
            let (mut now, mut sent) = (Duration::ZERO, 0_u64);
            while sent < rate * 20 {
                now = take(&mut pace, now, bytes, 0);
                sent += bytes as u64;
            }
            let took = now.as_secs_f64();
            assert!((19.0..=21.5).contains(&took), "{rate}: {took}");
            // An hour of silence earns a tenth of a second, or one piece.
            now += Duration::from_secs(3_600);
            let burst = (rate / 10).max(pace.piece() as u64);
            assert_eq!(pace.take(now, burst as usize, false, 0), Ok(()), "{rate}");
            assert!(pace.take(now, bytes, false, 0).is_err(), "{rate}");
        }
    }

    #[test]
    fn what_the_wire_has_on_top_is_paid_for_once() {
        let mut pace = Pace::new(10_000, Duration::ZERO);
        let (mut now, mut sent) = (Duration::ZERO, 0);
        while sent < 100_000 {
            // A tenth on top: losses and headers.
            now = take(&mut pace, now, 1_100, sent * 11 / 10);
            sent += 1_100;
        }
        let took = now.as_secs_f64();
        assert!((10.6..=11.4).contains(&took), "{took}");
    }

    #[test]
    fn what_is_urgent_goes_ahead_and_is_paid_for_by_all() {
        let mut pace = Pace::new(1_100, Duration::ZERO);
        let second = Duration::from_secs(1);
        assert!(pace.take(Duration::ZERO, 1_100, false, 0).is_err());
        assert_eq!(pace.take(Duration::ZERO, 1_100, true, 0), Ok(()));
        assert_eq!(pace.take(Duration::ZERO, 1_100, true, 0), Ok(()));
        assert!(pace.take(Duration::ZERO, 1_100, true, 0).is_err(), "not for ever");
        assert!(pace.take(second * 2, 1_100, false, 0).is_err());
        assert_eq!(take(&mut pace, second * 2, 1_100, 0), second * 3);
    }

    #[test]
    fn pieces_are_packets_at_least_and_bounded() {
        let piece = |rate| Pace::new(rate, Duration::ZERO).piece();
        assert_eq!((piece(1), piece(6_250), piece(125_000), piece(u64::MAX)), (1_100, 1_100, 2_500, 65_536));
    }
}
