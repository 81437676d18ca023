//! Lanes that pause because the node takes nothing of them for now; pure.

use std::time::{Duration, Instant};

use super::backoff::Backoff;
use crate::sequence::{LANES, Lane};

struct Pause {
    until: Option<Instant>,
    backoff: Backoff,
}

/// The lanes' pauses: each longer than the last, until something of the lane is acknowledged.
pub(super) struct Pauses([Pause; LANES as usize]);

impl Pauses {
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self(Lane::ALL.map(|lane| {
            let seed = seed.wrapping_add(1 + u64::from(lane.number()));
            Pause { until: None, backoff: Backoff::new(min, max, seed) }
        }))
    }

    pub(super) fn is_paused(&self, lane: Lane) -> bool {
        self.0[lane.index()].until.is_some()
    }

    /// A lane pauses, unless it does already.
    pub(super) fn pause(&mut self, lane: Lane, now: Instant) {
        let pause = &mut self.0[lane.index()];
        if pause.until.is_none() {
            pause.until = Some(now + pause.backoff.wait());
        }
    }

    /// Something of a lane was acknowledged: its next pause is a short one.
    pub(super) fn acked(&mut self, lane: Lane) {
        self.0[lane.index()].backoff.reset();
    }

    /// When the next pause ends.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.iter().filter_map(|pause| pause.until).min()
    }

    /// Ends the pauses that are over.
    pub(super) fn resume(&mut self, now: Instant) {
        for pause in &mut self.0 {
            pause.until = pause.until.filter(|until| *until > now);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_until_something_is_acknowledged_and_lanes_are_apart() {
        let ms = Duration::from_millis;
        let now = Instant::now();
        let mut pauses = Pauses::new(ms(100), ms(10_000), 7);
        assert_eq!(pauses.next(), None);
        let mut longest = ms(0);
        for _ in 0..5 {
            pauses.pause(Lane::BULK, now);
            let until = pauses.next();
            pauses.pause(Lane::BULK, now + ms(1));
            assert_eq!(pauses.next(), until, "one that pauses already goes on as it did");
            assert!(pauses.is_paused(Lane::BULK) && !pauses.is_paused(Lane::NORMAL));
            longest = until.map_or(ms(0), |until| until - now);
            pauses.resume(now + longest - ms(1));
            assert!(pauses.is_paused(Lane::BULK));
            pauses.resume(now + longest);
            assert!(!pauses.is_paused(Lane::BULK));
        }
        assert!(longest >= ms(800));
        pauses.acked(Lane::BULK);
        pauses.pause(Lane::BULK, now);
        assert!(pauses.next() <= Some(now + ms(100)));
    }
}
