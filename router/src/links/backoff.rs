//! How long a link waits before it dials again (pure).

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

#[cfg(test)]
mod tests {
    use super::*;

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
