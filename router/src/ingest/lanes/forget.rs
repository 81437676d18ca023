//! Forgets devices that have sent nothing for long, a bounded number a pass, never by a clock that is in doubt.

use std::collections::BTreeSet;

use super::cache::{Device, Last};
use super::{Lanes, stored};

/// Devices that one pass looks at under the lock.
const LOOK_COUNT_MAX: usize = 100;
/// Steps of the wall clock in this run above which nothing is forgotten: a day, in milliseconds.
const CLOCK_STEP_MS_MAX: u64 = DAY_MS;
/// Before this a clock has not been set (2024, in milliseconds since 1970).
const CLOCK_SET_MS: u64 = 1_704_067_200_000;
const DAY_MS: u64 = 24 * 3_600 * 1_000;

/// What a pass makes of a lane's age.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Age {
    /// It was used of late.
    Fresh,
    /// It was not used for as long as it is kept.
    Old,
    /// It was written by a clock that was not set: its age begins now.
    Unknown,
}

impl Lanes {
    /// One pass: looks at the next entries of the store and forgets devices all of whose lanes are old. How many were
    /// forgotten.
    pub fn forget(&self) -> usize {
        let clock = self.log.clock();
        let wall_ms = u64::try_from(clock.wall_ms()).unwrap_or(0);
        if !is_sane(wall_ms, clock.steady_ms()) {
            return 0;
        }
        let keep_ms = u64::from(self.config.keep_days) * DAY_MS;
        let mut begin = self.forgotten_to.lock();
        match stored::page(&self.log, begin.as_deref()) {
            Ok(Some(stored::Page { entries, last_key })) => {
                let due = entries.into_iter().filter(|entry| age(entry.last.last_ms, wall_ms, keep_ms) != Age::Fresh);
                let due: BTreeSet<String> = due.map(|entry| entry.device).collect();
                *begin = Some(last_key);
                if let Some(next) = due.iter().nth(LOOK_COUNT_MAX) {
                    // The rest of the page is for the next pass.
                    *begin = Some(stored::before(next));
                }
                due.iter().take(LOOK_COUNT_MAX).filter(|device| self.look(device, wall_ms, keep_ms)).count()
            }
            Ok(None) => {
                *begin = None;
                0
            }
            Err(error) => {
                tracing::error!(%error, "the last numbers of devices cannot be read, none is forgotten");
                0
            }
        }
    }

    /// Forgets a device if all its lanes are old, as they are now; nobody uses it meanwhile.
    fn look(&self, device: &str, now_ms: u64, keep_ms: u64) -> bool {
        let mut open = self.log.lock();
        let mut cache = self.cache(&open);
        let lanes = cache.get(device).cloned().unwrap_or_else(|| self.load(device)).lanes;
        let age_of = |last: &Last| age(last.last_ms, now_ms, keep_ms);
        let is_used = lanes.iter().flatten().any(|last| age_of(last) == Age::Fresh);
        let is_unknown = lanes.iter().flatten().any(|last| age_of(last) == Age::Unknown);
        if is_used || Device::of(lanes).is_new() {
            return false;
        }
        if is_unknown {
            drop(cache);
            stored::stamp(&mut open, device, &lanes, now_ms);
            return false;
        }
        cache.forget(device, open.ticket());
        drop(cache);
        stored::remove(&mut open, device);
        true
    }
}

fn age(last_ms: u64, now_ms: u64, keep_ms: u64) -> Age {
    if last_ms < CLOCK_SET_MS {
        Age::Unknown
    } else if now_ms.saturating_sub(last_ms) > keep_ms {
        Age::Old
    } else {
        Age::Fresh
    }
}

/// Whether ages can be told: the wall clock is set, and has not been moved far since the node was started.
fn is_sane(wall_ms: u64, steady_ms: u64) -> bool {
    wall_ms >= CLOCK_SET_MS && wall_ms.abs_diff(steady_ms) <= CLOCK_STEP_MS_MAX
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_told_by_a_clock_that_is_set() {
        let now_ms = CLOCK_SET_MS + 100 * DAY_MS;
        let keep_ms = 30 * DAY_MS;
        let cases = [
            (now_ms, Age::Fresh),
            (now_ms + DAY_MS, Age::Fresh),
            (now_ms - keep_ms, Age::Fresh),
            (now_ms - keep_ms - 1, Age::Old),
            (CLOCK_SET_MS, Age::Old),
            (CLOCK_SET_MS - 1, Age::Unknown),
            (0, Age::Unknown),
        ];
        for (last_ms, expected) in cases {
            assert_eq!(age(last_ms, now_ms, keep_ms), expected, "{last_ms}");
        }
        assert!(is_sane(now_ms, now_ms));
        assert!(!is_sane(1_000, 1_000), "it was never set");
        assert!(!is_sane(now_ms, now_ms - 2 * DAY_MS), "it was moved on");
        assert!(!is_sane(now_ms, now_ms + 2 * DAY_MS), "it was set back");
    }
}
