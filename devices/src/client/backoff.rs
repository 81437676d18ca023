//! How long to wait before connecting again: doubling, bounded, with jitter; pure.

use std::time::Duration;

/// The waits of one client.
pub(super) struct Backoff {
    min: Duration,
    max: Duration,
    next: Duration,
    random: u64,
}

impl Backoff {
    pub(super) fn new(min: Duration, max: Duration, seed: u64) -> Self {
        Self { min, max, next: min, random: seed }
    }

    /// The next wait: between half of the step and the step, so that a fleet spreads out.
    pub(super) fn wait(&mut self) -> Duration {
        let step = self.next;
        self.next = (step * 2).min(self.max);
        let parts = (splitmix(&mut self.random) % 1_001) as u32;
        step / 2 + step / 2 * parts / 1_000
    }

    /// The longest wait, where trying again soon cannot end otherwise.
    pub(super) fn wait_long(&mut self) -> Duration {
        self.next = self.max;
        self.wait()
    }

    /// A connection stood: start from the shortest wait.
    pub(super) fn reset(&mut self) {
        self.next = self.min;
    }
}

/// One step of SplitMix64.
pub(crate) fn splitmix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *state;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_bound_within_their_jitter() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(100), ms(1_000), 1);
        for step in [100, 200, 400, 800, 1_000, 1_000] {
            let wait = backoff.wait();
            assert!(wait >= ms(step / 2) && wait <= ms(step), "{step}: {wait:?}");
        }
        backoff.reset();
        assert!(backoff.wait() <= ms(100));
        let wait = backoff.wait_long();
        assert!(wait >= ms(500) && wait <= ms(1_000), "{wait:?}");
    }

    #[test]
    fn seeds_spread_a_fleet() {
        let waits: std::collections::HashSet<_> =
            (0..50).map(|seed| Backoff::new(Duration::from_secs(1), Duration::from_secs(1), seed).wait()).collect();
        assert!(waits.len() > 40, "{}", waits.len());
    }
}
