//! Where nobody commits, a follower has the whole pipe.

use super::Checked;
use crate::pace::history::History;

/// Seconds until it is seen that nobody commits.
const BEGIN_S: f64 = 1.5;
/// By how much what the pipe can do may be missed.
const MISSED_TIMES: f64 = 1.3;

pub fn check(history: &History) -> Checked {
    if history.live_a_second > 0 {
        return Ok(());
    }
    let bound_s = BEGIN_S + MISSED_TIMES * history.backlog / (history.bandwidth - history.written_a_second);
    match history.came_up {
        Some(at) if at as f64 / 1e6 <= bound_s => Ok(()),
        other => Err(format!("it came up at {other:?} us, and {bound_s:.1} s are enough")),
    }
}
