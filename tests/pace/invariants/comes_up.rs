//! Whatever live traffic feels, a follower comes up to who writes.

use super::Checked;
use crate::pace::history::History;

/// Seconds in which the pace is not known yet.
const BEGIN_S: f64 = 3.0;
/// By how much the least pace may be missed: chunks wait for live commits as well.
const MISSED_TIMES: f64 = 1.3;

pub fn check(history: &History) -> Checked {
    let least_s = history.backlog / (history.least - history.written_a_second);
    let bound_s = BEGIN_S + least_s * MISSED_TIMES;
    match history.came_up {
        Some(at) if at as f64 / 1e6 <= bound_s => Ok(()),
        other => Err(format!("it came up at {other:?} us, and {bound_s:.1} s are enough")),
    }
}
