//! When another node counts as lost (pure; monotonic time alone).
//!
//! A heartbeat a second shows that a node is alive. On a slow link that is full, heartbeats wait behind what fills it,
//! for many seconds; but then other packets come. So a node whose heartbeat is overdue is not lost while packets of it
//! come, up to a bound.

use std::time::Duration;

/// Without a heartbeat a node is lost after so many times the silence that counts, whatever else comes of it.
const OVERDUE_MAX: u32 = 5;

/// The times that decide.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Pace {
    /// Between two heartbeats.
    pub(super) heartbeat: Duration,
    /// The silence after which a node is lost.
    pub(super) lost_after: Duration,
}

/// What is known of one node's signs of life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Liveness {
    pace: Pace,
    /// When the last heartbeat came.
    heard: Duration,
    /// When another packet was seen to have come, while the heartbeat was overdue.
    stirred: Duration,
    /// How many packets had come when the heartbeat was first seen to be overdue, or later.
    packets: Option<u64>,
    looked: Duration,
}

impl Liveness {
    /// A node that has just greeted.
    pub(super) fn new(pace: Pace, now: Duration) -> Self {
        Self { pace, heard: now, stirred: now, packets: None, looked: now }
    }

    /// A heartbeat came.
    pub(super) fn hear(&mut self, now: Duration) {
        self.heard = self.heard.max(now);
        self.packets = None;
    }

    /// Looks whether the node is lost; `packets`: how many have come from it in all. Called when [`Self::next_look`]
    /// says, or sooner. A look that comes much later means that this node stood still and may not have heard what
    /// came: the other one is given the time of one heartbeat then.
    pub(super) fn is_lost(&mut self, now: Duration, packets: u64) -> bool {
        let stood_still = now.saturating_sub(self.looked) > self.pace.heartbeat * 2;
        self.looked = now;
        if stood_still {
            let forgiven = (now + self.pace.heartbeat).saturating_sub(self.pace.lost_after);
            self.heard = self.heard.max(forgiven);
        }
        if now >= self.overdue_from() && self.packets.replace(packets).is_some_and(|before| before != packets) {
            self.stirred = now;
        }
        now >= self.lost_at()
    }

    /// When to look again at the latest.
    pub(super) fn next_look(&self) -> Duration {
        let soon = self.looked + self.pace.heartbeat / 4;
        self.overdue_from().max(soon).min(self.lost_at())
    }

    fn overdue_from(&self) -> Duration {
        self.heard + self.pace.heartbeat * 3 / 2
    }

    /// When it is lost, if nothing comes.
    fn lost_at(&self) -> Duration {
        let silent = self.heard.max(self.stirred) + self.pace.lost_after;
        silent.min(self.heard + self.pace.lost_after * OVERDUE_MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    const PACE: Pace = Pace { heartbeat: Duration::from_secs(1), lost_after: Duration::from_secs(3) };

    /// Looks when it is time, until the node is lost or `end`; `packets` come as they are told. When it was lost.
    fn lost(liveness: &mut Liveness, end: u64, packets: impl Fn(Duration) -> u64) -> Option<Duration> {
        loop {
            let now = liveness.next_look();
            if now > ms(end) {
                return None;
            }
            if liveness.is_lost(now, packets(now)) {
                return Some(now);
            }
        }
    }

    #[test]
    fn is_lost_after_three_seconds_of_silence_and_not_before() {
        // What came right behind the heartbeat, before it was overdue, does not count.
        for packets in [0, 1_900] {
            let mut liveness = Liveness::new(PACE, ms(1_000));
            let come = |now: Duration| u64::from(now > ms(packets));
            assert_eq!(lost(&mut liveness, 60_000, come), Some(ms(4_000)));
        }
        let mut liveness = Liveness::new(PACE, ms(1_000));
        assert_eq!(lost(&mut liveness, 3_900, |_| 0), None);
        liveness.hear(ms(3_900));
        assert_eq!(lost(&mut liveness, 60_000, |_| 0), Some(ms(6_900)));
    }

    #[test]
    fn other_packets_show_that_it_is_alive_up_to_a_bound() {
        let every_second = |now: Duration| now.as_secs();
        let mut liveness = Liveness::new(PACE, ms(1_000));
        assert_eq!(lost(&mut liveness, 60_000, every_second), Some(ms(16_000)), "five times the silence");
        let until_10_s = |now: Duration| now.as_secs().min(10);
        let mut liveness = Liveness::new(PACE, ms(1_000));
        let at = lost(&mut liveness, 60_000, until_10_s).unwrap();
        assert!(at >= ms(13_000) && at <= ms(13_250), "{at:?}");
    }

    #[test]
    fn it_is_looked_seldom_while_all_is_well() {
        let mut liveness = Liveness::new(PACE, ms(1_000));
        assert_eq!(liveness.next_look(), ms(2_500));
        liveness.hear(ms(2_000));
        assert!(!liveness.is_lost(ms(2_500), 1));
        assert_eq!(liveness.next_look(), ms(3_500));
        assert!(!liveness.is_lost(ms(3_500), 1));
        assert_eq!(liveness.next_look(), ms(3_750), "often once it is overdue");
    }

    #[test]
    fn a_node_that_stood_still_itself_does_not_blame_the_others() {
        let mut liveness = Liveness::new(PACE, ms(1_000));
        assert!(!liveness.is_lost(ms(11_000), 0), "it may not have heard");
        assert_eq!(lost(&mut liveness, 60_000, |_| 0), Some(ms(12_000)), "nothing has come since");
        let mut liveness = Liveness::new(PACE, ms(1_000));
        assert!(!liveness.is_lost(ms(11_000), 0));
        liveness.hear(ms(11_500));
        assert_eq!(lost(&mut liveness, 60_000, |_| 0), Some(ms(14_500)));
    }
}
