//! Bounded waiting for what must become true.

use std::time::{Duration, Instant};

/// The longest wait for anything that the node does by itself.
pub const WAIT_MAX: Duration = Duration::from_secs(60);

/// Asks until there is an answer; fails the test after `WAIT_MAX`.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(WAIT_MAX, what, ask)
}

/// Asks until there is an answer; fails the test after `max`.
pub fn until_within<T>(max: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + max;
    loop {
        if let Some(found) = ask() {
            return found;
        }
        assert!(Instant::now() < end, "waited too long for {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Asks until it holds; fails the test after `WAIT_MAX`.
pub fn until_true(what: &str, mut ask: impl FnMut() -> bool) {
    until(what, || ask().then_some(()));
}
