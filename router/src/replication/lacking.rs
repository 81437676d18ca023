//! Copies that are refused as they lack what is here, and since when (pure).

use std::collections::BTreeMap;
use std::time::Duration;

use sled_data::OriginId;

/// For how long a copy may be refused before people are told: what it lacks was deleted, and that is on its way.
const TOLD_AFTER: Duration = Duration::from_secs(180);
/// A refusal so long after the one before is the first one again.
const AGAIN_WITHIN: Duration = Duration::from_secs(60);

/// When a copy was refused.
#[derive(Debug, Clone, Copy)]
struct Refused {
    first: Duration,
    last: Duration,
}

/// Which copies are refused. No more than are followed: those that are not refused any more are forgotten with the next refusal.
#[derive(Debug, Default)]
pub struct Lacking(BTreeMap<OriginId, Refused>);

impl Lacking {
    /// A copy is refused now, by monotonic time; whether it has been for so long that people should know.
    pub fn refused(&mut self, origin: OriginId, now: Duration) -> bool {
        self.0.retain(|_, refused| now.saturating_sub(refused.last) < AGAIN_WITHIN);
        let refused = self.0.entry(origin).or_insert(Refused { first: now, last: now });
        refused.last = now;
        now.saturating_sub(refused.first) >= TOLD_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_that_is_refused_for_minutes_is_told_of() {
        let mut lacking = Lacking::default();
        let mut told = |origin, s| lacking.refused(OriginId(origin), Duration::from_secs(s));
        assert!((0..18).all(|n| !told(1, n * 10)), "a deletion is on its way");
        assert!(told(1, 180) && told(1, 190));
        assert!(!told(2, 190), "another one");
        assert!(!told(1, 250), "it was taken meanwhile");
        assert_eq!(lacking.0.len(), 1, "the other one is forgotten");
    }
}
