//! How far the edge may be ahead of the one who asks, and how large its frames are (pure).

use std::collections::VecDeque;
use std::time::Duration;

/// Bytes of frames that are sent and not yet handed on to the one who asks; one frame may always be.
const UNDER_WAY_BYTES_MAX: usize = 512 << 10;
/// Of a link with a rate, no more than it takes so many seconds to send.
const UNDER_WAY_SECONDS: usize = 4;
/// Bytes of batches in one frame, unless one batch is larger.
const ROUND_BYTES_MIN: usize = 16 << 10;
const ROUND_BYTES_MAX: usize = 256 << 10;
/// A frame that is handed on sooner than this lets the next ones be larger, one that takes longer than that smaller.
const ROUND_SHORT: Duration = Duration::from_millis(500);
const ROUND_LONG: Duration = Duration::from_secs(3);

/// The frames that are under way.
#[derive(Debug)]
pub struct Window {
    /// Number, bytes, and when it was sent.
    sent: VecDeque<(u64, usize, Duration)>,
    bytes: usize,
    bytes_max: usize,
    round_bytes: usize,
    number: u64,
}

impl Window {
    /// On a link of a rate in bytes a second, if it has one.
    pub fn new(rate: Option<u64>) -> Self {
        let of_rate = rate.map(|rate| usize::try_from(rate).unwrap_or(usize::MAX).saturating_mul(UNDER_WAY_SECONDS));
        let bytes_max = of_rate.map_or(UNDER_WAY_BYTES_MAX, |bytes| bytes.min(UNDER_WAY_BYTES_MAX));
        Self { sent: VecDeque::new(), bytes: 0, bytes_max, round_bytes: ROUND_BYTES_MIN, number: 0 }
    }

    /// Whether one more frame, of so many bytes, may go. A large one goes alone: then the one who asks is reading.
    pub fn has_room(&self, bytes: usize) -> bool {
        self.bytes == 0 || self.bytes + bytes <= self.bytes_max
    }

    /// Bytes of batches that the next frame is to have, about.
    pub fn round_bytes(&self) -> usize {
        self.round_bytes
    }

    /// The number of the next frame.
    pub fn next_number(&self) -> u64 {
        self.number + 1
    }

    /// Notes that the next frame goes.
    pub fn send(&mut self, bytes: usize, now: Duration) {
        self.number += 1;
        self.bytes += bytes;
        self.sent.push_back((self.number, bytes, now));
    }

    /// Notes that all up to this number was handed on; false where it was not sent.
    pub fn taken(&mut self, number: u64, now: Duration) -> bool {
        while let Some((_, bytes, since)) = self.sent.pop_front_if(|(sent, ..)| *sent <= number) {
            self.bytes -= bytes;
            let took = now.saturating_sub(since);
            if took < ROUND_SHORT {
                self.round_bytes = (self.round_bytes * 2).min(ROUND_BYTES_MAX);
            } else if took > ROUND_LONG {
                self.round_bytes = (self.round_bytes / 2).max(ROUND_BYTES_MIN);
            }
        }
        number <= self.number
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_is_under_way_than_may_be() {
        // (rate, bytes of each frame, frames that go before one is handed on)
        for (rate, bytes, frames) in
            [(None, 256 << 10, 2), (None, 20 << 20, 1), (Some(6_250), 16 << 10, 1), (Some(1), 9, 1)]
        {
            let mut window = Window::new(rate);
            for round in 0..10 {
                let mut sent = 0;
                while window.has_room(bytes) {
                    window.send(bytes, Duration::ZERO);
                    sent += 1;
                }
                assert_eq!(sent, if round == 0 { frames } else { 1 }, "{rate:?} {bytes}");
                let oldest = window.sent.front().map_or(0, |(number, ..)| *number);
                assert!(window.taken(oldest, Duration::ZERO));
                // Once more is the same as once.
                assert!(window.taken(oldest, Duration::ZERO) && window.has_room(bytes));
            }
            // A large frame waits until nothing else is under way.
            assert_eq!(window.has_room(20 << 20), window.bytes == 0, "{rate:?} {bytes}");
            assert!(!window.taken(window.next_number(), Duration::ZERO), "it was not sent");
        }
    }

    #[test]
    fn frames_grow_while_they_are_taken_soon_and_shrink_where_they_are_not() {
        let mut window = Window::new(None);
        let mut after = |ms| {
            window.send(1, Duration::ZERO);
            window.taken(window.number, Duration::from_millis(ms));
            window.round_bytes()
        };
        assert_eq!((after(1), after(1_000), after(4_000)), (ROUND_BYTES_MIN * 2, ROUND_BYTES_MIN * 2, ROUND_BYTES_MIN));
        let grown: Vec<usize> = (0..9).map(|_| after(1)).collect();
        assert_eq!((grown.last(), after(4_000)), (Some(&ROUND_BYTES_MAX), ROUND_BYTES_MAX / 2));
    }
}
