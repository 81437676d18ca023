//! When another node counts as lost (pure; monotonic time alone).

use std::time::Duration;

/// The times that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Between two heartbeats.
    pub(super) heartbeat: Duration,
    /// The silence after which a node is lost.
    pub(super) lost_after: Duration,
}

/// What is known of one node's heartbeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Liveness {
    pace: Pace,
    heard: Duration,
    looked: Duration,
}

impl Liveness {
    /// A node that has just greeted.
    pub(super) fn new(pace: Pace, now: Duration) -> Self {
        Self { pace, heard: now, looked: now }
    }

    /// A heartbeat came.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
    }

    /// Looks whether the node is lost. Called at least once a heartbeat; a look that comes much later means that this
    /// node stood still and may not have heard what came: the other one is given the time of one heartbeat then.
    pub(super) fn is_lost(&mut self, now: Duration) -> bool {
        let stood_still = now.saturating_sub(self.looked) > self.pace.heartbeat * 2;
        self.looked = now;
        if stood_still {
            let forgiven = (now + self.pace.heartbeat).saturating_sub(self.pace.lost_after);
            self.heard = self.heard.max(forgiven);
        }
        now >= self.deadline()
    }

    /// When it is lost, if nothing comes.
    pub(super) fn deadline(&self) -> Duration {
        self.heard + self.pace.lost_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const PACE: Pace = Pace { heartbeat: Duration::from_secs(1), lost_after: Duration::from_secs(3) };

    #[test]
    fn is_lost_after_three_seconds_of_silence_and_not_before() {
        let mut liveness = Liveness::new(PACE, ms(1_000));
        for now in (1_000..4_000).step_by(500) {
            assert!(!liveness.is_lost(ms(now)), "at {now} ms");
        }
        liveness.hear(ms(3_900));
        assert!(!liveness.is_lost(ms(4_000)));
        assert_eq!(liveness.deadline(), ms(6_900));
        assert!(!liveness.is_lost(ms(5_900)));
        assert!(!liveness.is_lost(ms(6_899)));
        assert!(liveness.is_lost(ms(6_900)));
    }

    #[test]
    fn a_node_that_stood_still_itself_does_not_blame_the_others() {
        let mut liveness = Liveness::new(PACE, ms(1_000));
        assert!(!liveness.is_lost(ms(11_000)), "it may not have heard");
        assert!(!liveness.is_lost(ms(11_900)));
        assert!(liveness.is_lost(ms(12_000)), "nothing has come since");
        let mut liveness = Liveness::new(PACE, ms(1_000));
        assert!(!liveness.is_lost(ms(11_000)));
        liveness.hear(ms(11_500));
        assert!(!liveness.is_lost(ms(12_500)));
        assert!(!liveness.is_lost(ms(14_499)));
    }
}
