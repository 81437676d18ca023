//! How often what another node says may end this node's life.
//!
//! A member that has more of a life than its writer tells of a store that was restored. What it says cannot be proved: numbers and clocks of
//! commits can be made up. One that only says so would have the node begin a new life at each start. So a life is ended for it once a day at
//! most; otherwise it is told, and people look.

use sled_data::ReadError;

use crate::event_log::{CommitFailed, EventLog};

/// The small named tree, and its one key: when a life of this store was ended so, 8 bytes, big-endian: Unix milliseconds.
const TREE: &str = "site_lives";
const KEY: &[u8] = b"ended";
/// A life is ended once in this time: a day.
const EVERY_MS: u64 = 24 * 3_600 * 1_000;

/// Whether a life may be ended now (pure). A clock that has jumped by more than a day allows it.
fn may_end_at(last_ms: Option<i64>, now_ms: i64) -> bool {
    last_ms.is_none_or(|last_ms| now_ms.abs_diff(last_ms) >= EVERY_MS)
}

/// Whether this life may be ended now for what another node says.
///
/// # Errors
/// When the store cannot be read.
pub(super) fn may_end(log: &EventLog) -> Result<bool, ReadError> {
    let stored = log.state_get(TREE, KEY)?;
    let last_ms = stored.and_then(|bytes| bytes.try_into().ok()).map(i64::from_be_bytes);
    Ok(may_end_at(last_ms, log.clock().wall_ms()))
}

/// Notes that this life is ended. Durable on return.
///
/// # Errors
/// When it cannot be stored.
pub(super) async fn note_end(log: &EventLog) -> Result<(), CommitFailed> {
    let ticket = {
        let mut open = log.lock();
        open.put_state(TREE, KEY, Some(&log.clock().wall_ms().to_be_bytes()));
        open.ticket()
    };
    log.durable(ticket).await
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::replication::stream_tests::log;

    #[test]
    fn a_life_is_ended_once_a_day() {
        let day = EVERY_MS as i64;
        // last, now, whether it may
        let cases = [
            (None, 0, true),
            (Some(5), 5, false),
            (Some(5), 4 + day, false),
            (Some(5), 5 + day, true),
            (Some(5 + day), 6, false),
            (Some(5 + day), 5, true),
            (Some(i64::MAX), i64::MIN, true),
        ];
        for (last, now, may) in cases {
            assert_eq!(may_end_at(last, now), may, "{last:?} {now}");
        }
    }

    #[tokio::test]
    async fn that_it_was_is_remembered_by_the_store() {
        let log = log(1);
        assert!(may_end(&log).unwrap());
        note_end(&log).await.unwrap();
        assert!(!may_end(&log).unwrap());
        log.close();
    }
}
