//! Invariant 11: nothing in memory grows without a named bound.

use super::Checked;
use crate::site::history::{Fact, History};
use crate::site::world::{BUFFER_BYTES, COMMIT_BYTES, WAITING_MAX, WINDOW_BYTES};

/// Lives that are followed or served at once, with some to spare.
const STREAMS_MAX: usize = 40;

pub fn check(history: &History) -> Checked {
    // What is buffered, what came with it, and what of it is on its way into the store.
    let buffered_max = BUFFER_BYTES + 2 * (WINDOW_BYTES + COMMIT_BYTES);
    let sent_max = WINDOW_BYTES + COMMIT_BYTES + 1_000;
    for (at, fact) in &history.facts {
        let Fact::Load { node, buffered, sent, waiting, streams } = fact else { continue };
        let within = *buffered <= buffered_max && *sent <= sent_max && *waiting <= WAITING_MAX + 1;
        if !within || *streams > STREAMS_MAX {
            return Err(format!("{at}: {node} has too much in memory: {fact:?}\n{}", history.story()));
        }
    }
    Ok(())
}
