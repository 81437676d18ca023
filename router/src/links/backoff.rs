//! How long a link waits before it dials again, and at which address it begins (pure).

use std::time::Duration;

/// The first wait.
const WAIT_MIN: Duration = Duration::from_millis(200);
/// The longest wait.
const WAIT_MAX: Duration = Duration::from_secs(30);

/// The wait after so many attempts in a row that brought nothing over; `random` spreads links that were cut off together:
/// between half of the wait and all of it.
pub fn wait(failures: u32, random: u64) -> Duration {
    let whole = WAIT_MIN.saturating_mul(1 << failures.min(16)).min(WAIT_MAX);
    let half = whole / 2;
    half + half.mul_f64(random as f64 / u64::MAX as f64)
}

/// What came of the attempts so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Tries {
    /// Attempts in a row that brought nothing over.
    pub failures: u32,
    /// Which address is tried first, counted on and on: a node may answer and not take the link.
    pub turn: u32,
}

impl Tries {
    /// A connection, or the attempt at one, has ended. `was_good`: it brought something over, or stood for long. `sent_away`: the node
    /// upstream wants another one to be tried, whatever this connection has brought.
    pub fn ended(&mut self, was_good: bool, sent_away: bool) {
        self.failures = if was_good { 0 } else { self.failures.saturating_add(1) };
        self.turn = if was_good && !sent_away { 0 } else { self.turn.wrapping_add(1) };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_sent_away_tries_another_node_whatever_was_brought() {
        let mut tries = Tries::default();
        // was it good, was it sent away, failures and turn then
        let steps = [
            (false, false, 1, 1),
            (false, true, 2, 2),
            (true, true, 0, 3),
            (true, true, 0, 4),
            (false, false, 1, 5),
            (true, false, 0, 0),
            (true, true, 0, 1),
        ];
        for (was_good, sent_away, failures, turn) in steps {
            tries.ended(was_good, sent_away);
            assert_eq!(tries, Tries { failures, turn }, "{was_good} {sent_away}");
        }
    }

    #[test]
    fn waits_grow_to_a_bound_and_are_spread() {
        let ms = |failures, random| wait(failures, random).as_millis();
        assert_eq!((ms(0, 0), ms(0, u64::MAX)), (100, 200));
        assert_eq!((ms(3, 0), ms(3, u64::MAX)), (800, 1_600));
        assert_eq!((ms(9, 0), ms(u32::MAX, u64::MAX)), (15_000, 30_000));
        let middle = ms(3, u64::MAX / 2);
        assert!((1_150..=1_250).contains(&middle), "{middle}");
    }
}
