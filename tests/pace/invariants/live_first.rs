//! While a follower catches up, live commits take little longer than by themselves, and none waits for more than what is on its way.

use super::Checked;
use crate::pace::history::{History, mean};
use crate::pace::world::LIVE_PERCENT;

/// How many times as long as is allowed they may take: the pace is found by going beyond what they bear.
const FELT_TIMES: f64 = 1.2;

pub fn check(history: &History) -> Checked {
    if history.live_a_second == 0 {
        return Ok(());
    }
    let (alone, beside) = (mean(history.alone), mean(history.beside));
    // At the least pace the stream has this part of the pipe, whoever feels it.
    let least = 1.0 + history.least / history.bandwidth;
    let bound = alone * f64::from(LIVE_PERCENT) / 100.0 * FELT_TIMES * least;
    if beside > bound {
        return Err(format!("live commits took {beside:.0} us, and {alone:.0} by themselves: more than {bound:.0}"));
    }
    Ok(())
}
