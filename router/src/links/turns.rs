//! Whose turn it is on a link: `high` before all others, then `normal` and `low` by their weights (pure).

use super::class::Priority;

/// Bytes of `normal` for each byte of `low`, while both wait.
const NORMAL_FOR_LOW: i64 = 4;
/// Bytes that one of the two may be behind: what was missed before is not made up for.
const BEHIND_BYTES_MAX: i64 = 1 << 20;

/// Who waits, and who has had how much.
#[derive(Debug, Default)]
pub struct Turns {
    waiting: [usize; Priority::ALL.len()],
    /// Bytes by which `low` is ahead of its part, times the weight.
    low_ahead: i64,
}

impl Turns {
    /// One more of a priority waits.
    pub fn come(&mut self, priority: Priority) {
        self.waiting[priority.place()] += 1;
    }

    /// One less waits.
    pub fn go(&mut self, priority: Priority) {
        self.waiting[priority.place()] -= 1;
    }

    /// Whether one of a priority that waits is the next.
    pub fn is_next(&self, priority: Priority) -> bool {
        let waits = |other: Priority| self.waiting[other.place()] > 0;
        match priority {
            Priority::High => true,
            _ if waits(Priority::High) => false,
            Priority::Normal => !waits(Priority::Low) || !self.is_low_behind(),
            Priority::Low => !waits(Priority::Normal) || self.is_low_behind(),
        }
    }

    /// Whether `low` has had less than its part beside `normal`.
    pub fn is_low_behind(&self) -> bool {
        self.low_ahead < 0
    }

    /// Notes that so many bytes went.
    pub fn took(&mut self, priority: Priority, bytes: usize) {
        let bytes = i64::try_from(bytes).unwrap_or(BEHIND_BYTES_MAX);
        let change = match priority {
            Priority::High => 0,
            Priority::Normal => -bytes,
            Priority::Low => bytes.saturating_mul(NORMAL_FOR_LOW),
        };
        self.low_ahead = self.low_ahead.saturating_add(change).clamp(-BEHIND_BYTES_MAX, BEHIND_BYTES_MAX);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(turns: &Turns, waiting: &[Priority]) -> Vec<Priority> {
        waiting.iter().copied().filter(|priority| turns.is_next(*priority)).collect()
    }

    #[test]
    fn high_goes_first_and_the_others_by_their_weights() {
        let mut turns = Turns::default();
        let waiting = Priority::ALL;
        waiting.iter().for_each(|priority| turns.come(*priority));
        for _ in 0..100 {
            assert_eq!(next(&turns, &waiting), [Priority::High]);
            turns.took(Priority::High, 1_000);
        }
        turns.go(Priority::High);
        let mut bytes = [0_usize; 3];
        for _ in 0..1_000 {
            let [one] = next(&turns, &waiting[1..])[..] else { panic!("one is next") };
            turns.took(one, 1_000);
            bytes[one.place()] += 1_000;
        }
        assert_eq!(bytes, [0, 800_000, 200_000]);
    }

    #[test]
    fn one_that_waits_alone_has_all_and_owes_little_for_it() {
        let mut turns = Turns::default();
        turns.come(Priority::Low);
        for _ in 0..10_000 {
            assert_eq!(next(&turns, &[Priority::Low]), [Priority::Low]);
            turns.took(Priority::Low, 100_000);
        }
        turns.come(Priority::Normal);
        let mut waited = 0;
        while next(&turns, &[Priority::Normal, Priority::Low]) == [Priority::Normal] {
            turns.took(Priority::Normal, 10_000);
            waited += 10_000;
        }
        assert!(waited <= BEHIND_BYTES_MAX + 10_000, "{waited}");
    }
}
