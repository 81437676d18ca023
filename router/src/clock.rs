//! The only reader of time: wall clock, monotonic clock and the hybrid logical clock of commits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sled_data::HLC_LOGICAL_BITS;

/// How far another node's clock may be ahead of the wall clock here and still be followed, in milliseconds.
const AHEAD_MS_MAX: i64 = 60_000;

/// How far the wall clock may be behind what was stored last at a start, as stamps follow other nodes' clocks, in milliseconds.
const BEHIND_MS_MAX: u64 = 60_000;
/// A wall clock that stands before this was not set: 2024, in milliseconds since 1970.
const SET_MS: u64 = 1_704_067_200_000;

/// The latest moment that is known to be over, by the newest hybrid stamp that was stored (pure).
fn newest_known_ms(stamp: u64) -> u64 {
    u64::try_from(sled_data::hlc_ms(stamp)).unwrap_or(0).max(SET_MS)
}

/// Reads time for the whole node. One for a process; shared by `Arc`.
#[derive(Debug)]
pub struct Clock {
    started: Instant,
    started_wall_ms: u64,
    began_after: u64,
    hybrid: AtomicU64,
    /// By how much a test has stepped the wall clock, in milliseconds.
    #[cfg(test)]
    stepped_ms: std::sync::atomic::AtomicI64,
}

impl Clock {
    /// A clock whose hybrid stamps begin after `last_stored`, the newest stamp found in the store:
    /// a wall clock that was set back does not make later commits look older.
    pub fn starting_after(last_stored: u64) -> Self {
        let hybrid = AtomicU64::new(last_stored);
        let mut clock = Self {
            started: Instant::now(),
            started_wall_ms: 0,
            began_after: last_stored,
            hybrid,
            #[cfg(test)]
            stepped_ms: std::sync::atomic::AtomicI64::new(0),
        };
        clock.started_wall_ms = u64::try_from(clock.wall_ms()).unwrap_or(0);
        clock
    }

    /// Wall time in milliseconds since 1970; 0 where the machine's clock stands before that.
    pub fn wall_ms(&self) -> i64 {
        let wall_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        #[cfg(test)]
        let wall_ms = wall_ms.saturating_add(self.stepped_ms.load(Ordering::Acquire));
        wall_ms
    }

    /// Steps the wall clock by so many milliseconds, as the network's time does with a machine that started without one.
    #[cfg(test)]
    pub fn step(&self, by_ms: i64) {
        self.stepped_ms.fetch_add(by_ms, Ordering::AcqRel);
    }

    /// Wall time, or that of the newest hybrid stamp where the wall clock is behind it, in milliseconds since 1970.
    pub fn newest_ms(&self) -> i64 {
        self.wall_ms().max(sled_data::hlc_ms(self.hybrid.load(Ordering::Acquire)))
    }

    /// Time since the node started; never goes back. Ages and expiries run on it.
    pub fn monotonic(&self) -> Duration {
        self.started.elapsed()
    }

    /// Milliseconds since 1970 as they were at the start, plus the time since: a step of the wall clock does not
    /// disturb what is timed by it, and it can be compared over restarts.
    pub fn steady_ms(&self) -> u64 {
        let since = u64::try_from(self.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.started_wall_ms.saturating_add(since)
    }

    /// By how much the wall clock is ahead of [`Clock::steady_ms`] where this process began without the time and has it now, in milliseconds; else 0. What a
    /// process before has stored is that much older than it seems.
    pub fn set_ahead_ms(&self) -> u64 {
        let began_behind = self.started_wall_ms.saturating_add(BEHIND_MS_MAX) < newest_known_ms(self.began_after);
        let wall_ms = u64::try_from(self.wall_ms()).unwrap_or(0);
        if began_behind { wall_ms.saturating_sub(self.steady_ms()) } else { 0 }
    }

    /// The newest hybrid stamp that was stored before the start: this node's greater ones were given since.
    pub fn began_after(&self) -> u64 {
        self.began_after
    }

    /// The next hybrid stamp: milliseconds above, a counter below; each call's answer is greater
    /// than the one before.
    pub fn next_hybrid(&self) -> u64 {
        let wall = u64::try_from(self.wall_ms()).unwrap_or(0) << HLC_LOGICAL_BITS;
        let before = self
            .hybrid
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |last| Some(wall.max(last + 1)))
            .unwrap_or(wall);
        wall.max(before + 1)
    }

    /// The hybrid stamp of a moment `ago_ms` milliseconds ago, about: others may have given it as well.
    pub fn hybrid_before(&self, ago_ms: u64) -> u64 {
        self.next_hybrid().saturating_sub(ago_ms.saturating_mul(1 << HLC_LOGICAL_BITS))
    }

    /// Takes note of another node's hybrid stamp: stamps to come are greater, where it is not ahead of the wall clock
    /// by more than [`AHEAD_MS_MAX`]: a clock that lies by days does not take others with it.
    pub fn observe(&self, stamp: u64) {
        let ahead_ms = sled_data::hlc_ms(stamp).saturating_sub(self.wall_ms());
        if ahead_ms <= AHEAD_MS_MAX {
            self.hybrid.fetch_max(stamp, Ordering::AcqRel);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stamps_rise_even_when_the_wall_clock_is_behind() {
        let far_ahead = u64::MAX >> 8;
        let clock = Clock::starting_after(far_ahead);
        let first = clock.next_hybrid();
        assert!(first > far_ahead);
        assert!(clock.next_hybrid() > first);
    }

    #[test]
    fn a_fresh_stamp_carries_the_wall_clock() {
        let clock = Clock::starting_after(0);
        assert!(sled_data::hlc_ms(clock.next_hybrid()).abs_diff(clock.wall_ms()) < 1_000);
    }

    #[test]
    fn a_stamp_of_a_moment_before_is_older_by_as_much() {
        let clock = Clock::starting_after(0);
        let before = sled_data::hlc_ms(clock.hybrid_before(60_000));
        assert!((clock.wall_ms() - 60_000).abs_diff(before) < 1_000);
        assert_eq!(clock.hybrid_before(u64::MAX), 0);
    }

    #[test]
    fn a_clock_that_began_without_the_time_says_by_how_much_it_was_set() {
        let day_ms: i64 = 24 * 3_600_000;
        let now_ms = u64::try_from(Clock::starting_after(0).wall_ms()).unwrap_or(0);
        let stored = |ahead_ms: i64| now_ms.saturating_add_signed(ahead_ms) << HLC_LOGICAL_BITS;
        // What was stored last is so much ahead of the clock at the start; by how much that is set; what is said.
        for (ahead_ms, step_ms, said) in
            [(day_ms, 2 * day_ms, true), (-day_ms, 2 * day_ms, false), (day_ms, -day_ms, false), (day_ms, 0, false)]
        {
            let clock = Clock::starting_after(stored(ahead_ms));
            clock.step(step_ms);
            let about = if said { u64::try_from(step_ms).unwrap_or(0) } else { 0 };
            assert!(clock.set_ahead_ms().abs_diff(about) < 1_000, "{ahead_ms} {step_ms}: {}", clock.set_ahead_ms());
        }
        assert_eq!(newest_known_ms(0), SET_MS);
    }

    #[test]
    fn another_clock_is_followed_unless_it_lies() {
        let clock = Clock::starting_after(0);
        let ahead = |ms: i64| u64::try_from(clock.wall_ms() + ms).unwrap_or(0) << HLC_LOGICAL_BITS;
        let soon = ahead(20_000);
        clock.observe(soon);
        assert!(clock.next_hybrid() > soon);
        let days = ahead(3 * 24 * 3_600_000);
        clock.observe(days);
        assert!(clock.next_hybrid() < days);
    }
}
