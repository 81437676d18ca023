//! How fast a link is, by what it brought over in the last seconds (pure).

use std::collections::VecDeque;
use std::time::Duration;

/// How far back it looks, and how far where nothing came in that time but now.
const LOOK_BACK: Duration = Duration::from_secs(10);
const LOOK_BACK_MAX: Duration = Duration::from_secs(60);
/// Time between two samples, at least.
const SAMPLE_EVERY: Duration = Duration::from_secs(1);
/// Samples that are kept.
const SAMPLES_MAX: usize = 12;

/// What was brought over by some moment.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Brought {
    /// Events that are stored upstream.
    pub events: u64,
    /// Bytes of their batches, as they are stored.
    pub bytes: u64,
    /// Bytes of their keys, values and headers.
    pub record_bytes: u64,
    /// Bytes of the frames that brought them.
    pub sent_bytes: u64,
    /// Events that were not sent, as they were too old; upstream was told.
    pub dropped_events: u64,
    /// Bytes of their batches, as they are stored, about.
    pub dropped_bytes: u64,
}

/// What is brought over in a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct PerSecond {
    /// Events.
    pub events: f64,
    /// Bytes of their batches, as they are stored.
    pub bytes: f64,
    /// Bytes of the frames that bring them.
    pub sent_bytes: f64,
}

/// Samples of late.
#[derive(Debug, Default)]
pub struct Meter {
    samples: VecDeque<(Duration, Brought)>,
}

impl Meter {
    /// Notes what was brought over before more comes.
    pub fn note(&mut self, now: Duration, brought: Brought) {
        if self.samples.back().is_none_or(|(at, _)| now.saturating_sub(*at) >= SAMPLE_EVERY) {
            self.samples.push_back((now, brought));
        }
        if self.samples.len() > SAMPLES_MAX {
            self.samples.pop_front();
        }
    }

    /// The rate of the last seconds.
    pub fn per_second(&self, now: Duration, brought: Brought) -> PerSecond {
        let age = |sample: &(Duration, Brought)| now.saturating_sub(sample.0);
        // Where what comes takes longer than that, the last one before is the beginning.
        let is_before = |sample: &&(Duration, Brought)| (LOOK_BACK..=LOOK_BACK_MAX).contains(&age(sample));
        let late = self.samples.iter().find(|sample| age(sample) <= LOOK_BACK);
        let beginning = self.samples.iter().rev().find(is_before).or(late);
        let Some((at, then)) = beginning.filter(|_| late.is_some()) else { return PerSecond::default() };
        // What came within less than a second says little.
        let seconds = now.saturating_sub(*at).max(SAMPLE_EVERY).as_secs_f64();
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        PerSecond {
            events: rate(brought.events, then.events),
            bytes: rate(brought.bytes, then.bytes),
            sent_bytes: rate(brought.sent_bytes, then.sent_bytes),
        }
    }
}

impl Brought {
    /// Both together.
    pub fn plus(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            bytes: self.bytes + other.bytes,
            record_bytes: self.record_bytes + other.record_bytes,
            sent_bytes: self.sent_bytes + other.sent_bytes,
            dropped_events: self.dropped_events + other.dropped_events,
            dropped_bytes: self.dropped_bytes + other.dropped_bytes,
        }
    }

    /// How many times smaller the frames are than what they bring; 0 where nothing went.
    pub fn ratio(self) -> f64 {
        if self.sent_bytes == 0 { 0.0 } else { self.record_bytes as f64 / self.sent_bytes as f64 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_ten_seconds_count() {
        let mut meter = Meter::default();
        let at = |s| Duration::from_secs(s);
        let brought =
            |n| Brought { events: n, bytes: n * 100, record_bytes: n * 200, sent_bytes: n * 20, ..Brought::default() };
        assert_eq!(meter.per_second(at(1), brought(5)), PerSecond::default());
        for s in 0..60 {
            // Ten a second, then fifty.
            let so_far = if s < 40 { s * 10 } else { 400 + (s - 40) * 50 };
            meter.note(at(s), brought(so_far));
            meter.note(at(s), brought(so_far + 9));
            if s == 30 {
                assert_eq!(meter.per_second(at(s), brought(so_far)).events, 10.0);
            }
        }
        let rate = meter.per_second(at(60), brought(1_400));
        assert_eq!((rate.events, rate.bytes, rate.sent_bytes), (50.0, 5_000.0, 1_000.0));
        assert_eq!(meter.per_second(at(100), brought(1_400)), PerSecond::default());
        assert_eq!(brought(7).ratio(), 10.0);
    }

    #[test]
    fn what_comes_seldom_is_no_burst() {
        let mut meter = Meter::default();
        let brought = |n| Brought { events: n, ..Brought::default() };
        for frame in 0..5 {
            meter.note(Duration::from_secs(frame * 30), brought(frame * 300));
        }
        assert_eq!(
            meter.per_second(Duration::from_secs(120), brought(1_500)).events,
            20.0,
            "two frames in thirty seconds"
        );
        meter.note(Duration::from_secs(4_000), brought(1_500));
        assert_eq!(meter.per_second(Duration::from_secs(4_000), brought(1_800)).events, 300.0, "after an hour");
    }
}
