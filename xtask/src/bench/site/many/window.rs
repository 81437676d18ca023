//! How much a site has under way, and how large its next frame is (pure).

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A frame that is stored sooner than this lets the next ones be larger, one that takes longer than that smaller.
const SOON: Duration = Duration::from_millis(500);
const LATE: Duration = Duration::from_secs(3);

/// How a site sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manner {
    /// Bytes of batches of the smallest frame, which is the first, and of the largest one.
    pub frame_bytes_min: usize,
    pub frame_bytes_max: usize,
    /// Bytes that it sends before it hears that they are stored.
    pub under_way_bytes_max: usize,
}

impl Manner {
    /// As a node's link sends what is not urgent and has no rate.
    pub const MODEST: Manner =
        Manner { frame_bytes_min: 16 << 10, frame_bytes_max: 512 << 10, under_way_bytes_max: 8 << 20 };
    /// Large frames from the first one on, as much as the connection takes.
    pub const GREEDY: Manner =
        Manner { frame_bytes_min: 4 << 20, frame_bytes_max: 4 << 20, under_way_bytes_max: usize::MAX };
}

/// A frame that is not stored yet.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    bytes: usize,
    events: u64,
    since: Instant,
}

/// What of one stream is under way.
#[derive(Debug)]
pub struct Window {
    manner: Manner,
    frame_bytes: usize,
    bytes: usize,
    number: u64,
    frames: VecDeque<UnderWay>,
}

/// What was stored.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Stored {
    pub events: u64,
    pub bytes: u64,
}

impl Window {
    pub fn new(manner: Manner) -> Window {
        Window { manner, frame_bytes: manner.frame_bytes_min, bytes: 0, number: 0, frames: VecDeque::new() }
    }

    /// Bytes of batches of the next frame; `None` while as much is under way as may be.
    pub fn next_bytes(&self) -> Option<usize> {
        (self.bytes < self.manner.under_way_bytes_max).then_some(self.frame_bytes)
    }

    /// Notes a frame; its number.
    pub fn sent(&mut self, events: u64, bytes: usize, now: Instant) -> u64 {
        self.number += 1;
        self.bytes += bytes;
        self.frames.push_back(UnderWay { number: self.number, bytes, events, since: now });
        self.number
    }

    /// Hears that all up to a number is stored; what that was. An error where it was not sent.
    pub fn stored(&mut self, number: u64, now: Instant) -> Result<Stored, String> {
        if number > self.number {
            return Err(format!("frame {number} is said to be stored, of {} that were sent", self.number));
        }
        let mut all = Stored::default();
        while let Some(done) = self.frames.pop_front_if(|done| done.number <= number) {
            self.bytes -= done.bytes;
            all.events += done.events;
            all.bytes += done.bytes as u64;
            let took = now.saturating_duration_since(done.since);
            if took < SOON {
                self.frame_bytes = (self.frame_bytes * 2).min(self.manner.frame_bytes_max);
            } else if took > LATE {
                self.frame_bytes = (self.frame_bytes / 2).max(self.manner.frame_bytes_min);
            }
        }
        Ok(all)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_grow_while_they_are_stored_soon_and_no_more_is_under_way_than_may_be() {
        let mut window = Window::new(Manner::MODEST);
        let now = Instant::now();
        let mut sizes = Vec::new();
        for (round, after) in [0, 0, 0, 0, 0, 0, 1_000, 4_000, 4_000].into_iter().enumerate() {
            let bytes = window.next_bytes().expect("room");
            sizes.push(bytes >> 10);
            let number = window.sent(10, bytes, now);
            let stored = window.stored(number, now + Duration::from_millis(after));
            assert_eq!(stored, Ok(Stored { events: 10, bytes: bytes as u64 }), "{round}");
            assert!(window.frames.is_empty());
        }
        assert_eq!(sizes, [16, 32, 64, 128, 256, 512, 512, 512, 256]);
        let mut sent = 0;
        while let Some(bytes) = window.next_bytes() {
            window.sent(1, bytes, now);
            sent += bytes;
        }
        let bound = Manner::MODEST.under_way_bytes_max;
        assert!((bound..bound + Manner::MODEST.frame_bytes_max).contains(&sent), "{sent}");
        assert!(window.stored(10_000, now).is_err(), "it was never sent");
        assert_eq!(window.stored(2, now), Ok(Stored::default()), "it was stored before");
    }

    #[test]
    fn one_that_is_greedy_has_large_frames_and_no_bound() {
        let mut window = Window::new(Manner::GREEDY);
        for _ in 0..100 {
            assert_eq!(window.next_bytes(), Some(4 << 20));
            window.sent(1, 4 << 20, Instant::now());
        }
        assert_eq!(window.stored(100, Instant::now() + LATE * 2), Ok(Stored { events: 100, bytes: 400 << 20 }));
        assert_eq!(window.next_bytes(), Some(4 << 20));
    }
}
