//! Keeps what clients do wrong from filling the log.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

/// Lines a second, over all connections; the counters of `ingest` count the rest.
const LINES_PER_SECOND_MAX: u32 = 10;

/// Lets so many lines through in each second.
#[derive(Debug, Default)]
pub struct Gate {
    second: AtomicI64,
    lines: AtomicU32,
}

impl Gate {
    /// Whether one more line may be written now. Callers at a second's turn may together get a few more.
    pub fn lets_through(&self, now_ms: i64) -> bool {
        let second = now_ms.div_euclid(1_000);
        if self.second.swap(second, Ordering::Relaxed) != second {
            self.lines.store(0, Ordering::Relaxed);
        }
        self.lines.load(Ordering::Relaxed) < LINES_PER_SECOND_MAX
            && self.lines.fetch_add(1, Ordering::Relaxed) < LINES_PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_second_has_its_lines() {
        let gate = Gate::default();
        for second in [1_000, 2_000, 1_500_000] {
            let through = (0..100).filter(|ms| gate.lets_through(second + ms)).count();
            assert_eq!(through, LINES_PER_SECOND_MAX as usize, "{second}");
        }
    }
}
