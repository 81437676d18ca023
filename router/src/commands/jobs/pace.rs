//! How many commands of a job are due: pure.

/// Between two batches at least, in milliseconds: each is a commit.
pub(super) const BATCH_EVERY_MS: u64 = 5;
/// Thousandths of a command that make one.
const WHOLE: u64 = 1_000;

/// A job's rate on the steady clock. What was not used is kept for one second.
#[derive(Debug, Clone)]
pub(super) struct Pace {
    rate: u64,
    /// What may be sent, in thousandths of a command.
    credit: u64,
    counted_ms: Option<u64>,
    not_before_ms: u64,
}

impl Pace {
    /// So many a second; the first at once.
    pub(super) fn new(rate: u32) -> Self {
        Self { rate: u64::from(rate.max(1)), credit: WHOLE, counted_ms: None, not_before_ms: 0 }
    }

    /// How many are due now.
    pub(super) fn due(&mut self, now_ms: u64) -> u32 {
        let passed = self.counted_ms.map_or(0, |counted| now_ms.saturating_sub(counted));
        self.credit = (self.credit.saturating_add(passed.saturating_mul(self.rate))).min(self.rate * WHOLE);
        self.counted_ms = Some(now_ms);
        if now_ms < self.not_before_ms { 0 } else { u32::try_from(self.credit / WHOLE).unwrap_or(u32::MAX) }
    }

    /// So many of those that were due were sent; none: it could not be.
    pub(super) fn sent(&mut self, count: u32, now_ms: u64) {
        self.credit = self.credit.saturating_sub(u64::from(count) * WHOLE);
        self.not_before_ms = now_ms + BATCH_EVERY_MS;
    }

    /// When some are due next.
    pub(super) fn next_ms(&self) -> u64 {
        let Some(counted) = self.counted_ms else { return 0 };
        let missing = WHOLE.saturating_sub(self.credit);
        (counted + missing.div_ceil(self.rate)).max(self.not_before_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sends what is due whenever it says so, for `span_ms`, from a `begin` on; how many went.
    fn sent_within(pace: &mut Pace, begin: u64, span_ms: u64) -> u64 {
        let (mut now, mut sent) = (begin, 0);
        while now < begin + span_ms {
            let due = pace.due(now);
            sent += u64::from(due);
            pace.sent(due, now);
            assert!(pace.next_ms() > now, "it does not ask again at once");
            now = pace.next_ms();
        }
        sent
    }

    #[test]
    fn the_rate_is_kept() {
        for (rate, span_ms, expected) in
            [(1, 10_000, 10), (50, 10_000, 500), (333, 3_000, 999), (10_000, 1_000, 10_000)]
        {
            let sent = sent_within(&mut Pace::new(rate), 7, span_ms);
            assert!(sent.abs_diff(expected) <= 1 + expected / 100, "{sent} at {rate} a second");
        }
    }

    #[test]
    fn after_a_pause_there_is_no_burst_beyond_one_second() {
        let mut pace = Pace::new(50);
        assert_eq!(pace.due(1_000), 1, "the first at once");
        pace.sent(1, 1_000);
        assert_eq!(pace.due(1_001_000), 50);
        pace.sent(50, 1_001_000);
        assert_eq!((pace.due(1_001_000), pace.due(1_001_019)), (0, 0));
        assert_eq!((pace.next_ms(), pace.due(1_001_020)), (1_001_020, 1));
    }
}
