//! The shortest round trip of late (pure).

use std::time::Duration;

/// How long a shortest round trip counts, at least; at most twice as long. The path may change.
const KEPT: Duration = Duration::from_secs(15);

/// The shortest round trip of late. Times are counted from the connection's beginning.
#[derive(Clone, Debug, Default)]
pub struct Shortest {
    since: Duration,
    current: Option<Duration>,
    previous: Option<Duration>,
}

impl Shortest {
    /// None is known from `now` on.
    pub fn from(now: Duration) -> Self {
        Self { since: now, current: None, previous: None }
    }

    /// It is known from `now` on.
    pub fn known(now: Duration, took: Duration) -> Self {
        Self { since: now, current: Some(took), previous: None }
    }

    /// The shortest one.
    pub fn get(&self) -> Option<Duration> {
        self.current.into_iter().chain(self.previous).min()
    }

    /// Takes a measurement; `true` when the older half of what was known has been forgotten.
    pub fn take(&mut self, now: Duration, took: Duration) -> bool {
        let aged = now.saturating_sub(self.since) >= KEPT;
        if aged {
            *self = Self { since: now, previous: self.current, current: None };
        }
        self.current = Some(self.current.map_or(took, |current| current.min(took)));
        aged
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_forgotten_after_a_while() {
        let (s, ms) = (Duration::from_secs, Duration::from_millis);
        let mut shortest = Shortest::default();
        // when, what was measured, whether something is forgotten, the shortest
        let steps = [
            (s(0), ms(50), false, ms(50)),
            (s(1), ms(40), false, ms(40)),
            (s(14), ms(90), false, ms(40)),
            (s(15), ms(90), true, ms(40)),
            (s(29), ms(80), false, ms(40)),
            (s(30), ms(95), true, ms(80)),
            (s(99), ms(99), true, ms(95)),
        ];
        for (now, took, forgets, expected) in steps {
            assert_eq!((shortest.take(now, took), shortest.get()), (forgets, Some(expected)), "{now:?}");
        }
        assert_eq!(Shortest::from(s(5)).get(), None);
        assert_eq!(Shortest::known(s(5), ms(7)).get(), Some(ms(7)));
    }
}
