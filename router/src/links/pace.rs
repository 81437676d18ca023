//! The rate that people set for a link: how long to wait before the next bytes may go (pure).

use std::time::Duration;

/// What may go at once after a pause, as a share of a second's bytes.
const BURST_SHARE: f64 = 0.1;
/// The least that goes at once, bytes: a packet.
const PIECE_BYTES_MIN: u64 = 1_200;
/// The most that goes at once, bytes.
const PIECE_BYTES_MAX: u64 = 64 << 10;
/// Pieces that a second is cut into.
const PIECES_PER_S: u64 = 20;

/// A rate, and what of it is not used yet.
#[derive(Debug, Clone, Copy)]
pub struct Pace {
    bytes_per_s: f64,
    piece: usize,
    /// Bytes that may go now; negative while those that went are paid for.
    credit: f64,
    at: Duration,
}

impl Pace {
    /// A rate in bytes a second, from now on; not 0.
    pub fn new(bytes_per_s: u64, now: Duration) -> Self {
        let piece = (bytes_per_s / PIECES_PER_S).clamp(PIECE_BYTES_MIN, PIECE_BYTES_MAX);
        Self { bytes_per_s: bytes_per_s.max(1) as f64, piece: piece as usize, credit: 0.0, at: now }
    }

    /// Bytes that go at once.
    pub fn piece(&self) -> usize {
        self.piece
    }

    /// How long so many bytes must wait; they count as gone then.
    pub fn wait(&mut self, now: Duration, bytes: usize) -> Duration {
        let earned = now.saturating_sub(self.at).as_secs_f64() * self.bytes_per_s;
        let most = (self.bytes_per_s * BURST_SHARE).max(self.piece as f64);
        self.credit = (self.credit + earned).min(most);
        self.at = self.at.max(now);
        let lacking = (bytes as f64 - self.credit).max(0.0);
        self.credit -= bytes as f64;
        Duration::from_secs_f64(lacking / self.bytes_per_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_holds_over_any_time_and_pauses_are_not_saved_up() {
        for (rate, bytes) in [(1_000_u64, 1_200), (6_250, 1_200), (125_000, 6_250), (12_500_000, 65_536), (7, 3)] {
            let mut pace = Pace::new(rate, Duration::ZERO);
            let (mut now, mut sent) = (Duration::ZERO, 0_u64);
            while sent < rate * 20 {
                now += pace.wait(now, bytes);
                sent += bytes as u64;
            }
            let took = now.as_secs_f64();
            assert!((19.0..=21.0).contains(&took) || rate < 1_000, "{rate}: {took}");
            // An hour of silence earns a tenth of a second, or one piece.
            now += Duration::from_secs(3_600);
            let burst = (rate / 10).max(pace.piece() as u64);
            assert_eq!(pace.wait(now, burst as usize), Duration::ZERO, "{rate}");
            assert!(pace.wait(now, bytes) > Duration::ZERO, "{rate}");
        }
    }

    #[test]
    fn pieces_are_packets_at_least_and_bounded() {
        let piece = |rate| Pace::new(rate, Duration::ZERO).piece();
        assert_eq!((piece(1), piece(6_250), piece(125_000), piece(u64::MAX)), (1_200, 1_200, 6_250, 65_536));
    }
}
