//! The only reader of time: wall clock, monotonic clock and the hybrid logical clock of commits.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use sled_data::HLC_LOGICAL_BITS;

/// How far another node's clock may be ahead of the wall clock here and still be followed, in milliseconds.
const AHEAD_MS_MAX: i64 = 60_000;

/// How far the wall clock may be behind what was stored last at a start, as stamps follow other nodes' clocks, in milliseconds.
const BEHIND_MS_MAX: u64 = 60_000;
/// How long after a start a wall clock that may be ahead is not gone by: the network's time sets it back within that.
const SETTLES_WITHIN: Duration = Duration::from_secs(60);
/// A wall clock that stands before this was not set: 2024, in milliseconds since 1970.
const SET_MS: u64 = 1_704_067_200_000;

/// The wall clock's part of a hybrid stamp, in milliseconds since 1970 (pure).
fn stamp_ms(stamp: u64) -> u64 {
    u64::try_from(sled_data::hlc_ms(stamp)).unwrap_or(0)
}

/// The latest moment that is known to be over, by the newest hybrid stamp that was stored (pure).
fn newest_known_ms(stamp: u64) -> u64 {
    stamp_ms(stamp).max(SET_MS)
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
    /// How much more time a test has let pass, in milliseconds.
    #[cfg(test)]
    passed_ms: AtomicU64,
}

impl Clock {
    /// A clock whose hybrid stamps begin after `last_stored`, the newest stamp found in the store:
    /// a wall clock that was set back does not make later commits look older.
    pub fn starting_after(last_stored: u64) -> Self {
        let mut clock = Self {
            started: Instant::now(),
            started_wall_ms: 0,
            began_after: last_stored,
            hybrid: AtomicU64::new(last_stored),
            #[cfg(test)]
            stepped_ms: std::sync::atomic::AtomicI64::new(0),
            #[cfg(test)]
            passed_ms: AtomicU64::new(0),
        };
        clock.started_wall_ms = u64::try_from(clock.wall_ms()).unwrap_or(0);
        clock
    }

    /// The same, whose wall clock is wrong by so many milliseconds at the start.
    #[cfg(test)]
    pub fn starting_wrong(last_stored: u64, by_ms: i64) -> Self {
        let mut clock = Self::starting_after(last_stored);
        clock.step(by_ms);
        clock.started_wall_ms = u64::try_from(clock.wall_ms()).unwrap_or(0);
        clock
    }

    /// Wall time in milliseconds since 1970; 0 where the machine's clock stands before that.
    pub fn wall_ms(&self) -> i64 {
        let wall_ms = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| i64::try_from(since.as_millis()).unwrap_or(i64::MAX));
        #[cfg(test)]
        let wall_ms = wall_ms
            .saturating_add(self.stepped_ms.load(Ordering::Acquire))
            .saturating_add_unsigned(self.passed_ms.load(Ordering::Acquire));
        wall_ms
    }

    /// Steps the wall clock by so many milliseconds, as the network's time does with a machine that started without one.
    #[cfg(test)]
    pub fn step(&self, by_ms: i64) {
        self.stepped_ms.fetch_add(by_ms, Ordering::AcqRel);
    }

    /// Lets so many milliseconds pass, by all clocks.
    #[cfg(test)]
    pub fn pass(&self, ms: u64) {
        self.passed_ms.fetch_add(ms, Ordering::AcqRel);
    }

    /// Wall time, or that of the newest hybrid stamp where the wall clock is behind it, in milliseconds since 1970.
    pub fn newest_ms(&self) -> i64 {
        self.wall_ms().max(sled_data::hlc_ms(self.hybrid.load(Ordering::Acquire)))
    }

    /// Time since the node started; never goes back. Ages and expiries run on it.
    pub fn monotonic(&self) -> Duration {
        let since = self.started.elapsed();
        #[cfg(test)]
        let since = since + Duration::from_millis(self.passed_ms.load(Ordering::Acquire));
        since
    }

    /// Milliseconds since 1970 as they were at the start, plus the time since: a step of the wall clock does not
    /// disturb what is timed by it, and it can be compared over restarts.
    pub fn steady_ms(&self) -> u64 {
        let since = u64::try_from(self.monotonic().as_millis()).unwrap_or(u64::MAX);
        self.started_wall_ms.saturating_add(since)
    }

    /// By how much the wall clock is ahead of [`Clock::steady_ms`] where it was wrong when this process began and is right by now, in milliseconds; else 0. It is
    /// ahead where the process began without the time, and behind (less than 0) where the clock was set back, and not to before what was stored last. What a
    /// process before has stored is that much older than it seems.
    pub fn set_ahead_ms(&self) -> i64 {
        let newest_ms = newest_known_ms(self.began_after);
        let wall_ms = u64::try_from(self.wall_ms()).unwrap_or(0);
        let by_ms = i64::try_from(wall_ms).unwrap_or(i64::MAX).saturating_sub_unsigned(self.steady_ms());
        let is_so = match by_ms >= 0 {
            true => self.started_wall_ms.saturating_add(BEHIND_MS_MAX) < newest_ms,
            false => wall_ms.saturating_add(BEHIND_MS_MAX) >= newest_ms,
        };
        if is_so { by_ms } else { 0 }
    }

    /// Whether this process has just begun, a minute or more later than what was stored last, and its wall clock may yet be set back: until then nothing that was
    /// stored before is to end by it.
    pub fn may_be_set_back(&self) -> bool {
        let is_later = self.down_ms().is_some_and(|down_ms| down_ms > BEHIND_MS_MAX);
        is_later && self.monotonic() < SETTLES_WITHIN && self.set_ahead_ms().unsigned_abs() <= BEHIND_MS_MAX
    }

    /// By how much the clock by which ends what a process before has stored is ahead of [`Clock::steady_ms`], in milliseconds: [`Clock::set_ahead_ms`], but
    /// as if no time had passed between the two processes while [`Clock::may_be_set_back`].
    pub fn earlier_ahead_ms(&self) -> i64 {
        match self.down_ms().filter(|_| self.may_be_set_back()) {
            Some(down_ms) => i64::try_from(down_ms).unwrap_or(i64::MAX).saturating_neg(),
            None => self.set_ahead_ms(),
        }
    }

    /// How much later than what was stored last this process began, by the wall clock; `None`: nothing was stored, or it began earlier.
    fn down_ms(&self) -> Option<u64> {
        let stored_ms = Some(self.began_after).filter(|stamp| *stamp > 0).map(stamp_ms)?;
        self.started_wall_ms.checked_sub(stored_ms)
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

    const DAY_MS: i64 = 24 * 3_600_000;

    /// A stamp that is so much ahead of the wall clock.
    fn stored(ahead_ms: i64) -> u64 {
        let now_ms = u64::try_from(Clock::starting_after(0).wall_ms()).unwrap_or(0);
        now_ms.saturating_add_signed(ahead_ms) << HLC_LOGICAL_BITS
    }

    #[test]
    fn a_clock_that_began_wrong_says_by_how_much_it_was_set() {
        // What was stored last is so much ahead of the clock at the start; by how much that is set; what is said.
        for (ahead_ms, step_ms, said_ms) in [
            (DAY_MS, 2 * DAY_MS, 2 * DAY_MS),
            (-DAY_MS, 2 * DAY_MS, 0),
            (DAY_MS, -DAY_MS, 0),
            (-2 * DAY_MS, -DAY_MS, -DAY_MS),
            (DAY_MS, 0, 0),
        ] {
            let clock = Clock::starting_after(stored(ahead_ms));
            clock.step(step_ms);
            assert!(clock.set_ahead_ms().abs_diff(said_ms) < 1_000, "{ahead_ms} {step_ms}: {}", clock.set_ahead_ms());
        }
        assert_eq!(newest_known_ms(0), SET_MS);
    }

    #[test]
    fn a_clock_that_is_ahead_of_what_was_stored_is_gone_by_after_a_minute_or_when_it_is_set() {
        let about = |clock: &Clock, ms: i64| clock.earlier_ahead_ms().abs_diff(ms) < 1_000;
        for (ahead_ms, waits) in [(-DAY_MS, true), (-1_000, false), (DAY_MS, false)] {
            let clock = Clock::starting_after(stored(ahead_ms));
            assert_eq!(clock.may_be_set_back(), waits, "{ahead_ms}");
            assert!(about(&clock, if waits { ahead_ms } else { 0 }), "{ahead_ms}");
        }
        assert!(!Clock::starting_after(0).may_be_set_back(), "there is nothing that could end");
        let clock = Clock::starting_after(stored(-DAY_MS));
        clock.pass(59_000);
        assert!(clock.may_be_set_back() && about(&clock, -DAY_MS));
        clock.pass(1_000);
        assert!(!clock.may_be_set_back() && about(&clock, 0));
        let clock = Clock::starting_after(stored(-DAY_MS));
        clock.step(-DAY_MS / 2);
        assert!(!clock.may_be_set_back() && about(&clock, -DAY_MS / 2));
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
