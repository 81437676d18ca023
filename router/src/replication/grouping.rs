//! When a live commit goes to a follower (pure): at once to those whose sync its acknowledgement waits for, in groups to the others.
//!
//! Each commit costs a follower a wake-up, a write and a sync, however small it is. With three nodes two syncs make a quorum, so
//! under load the third takes a few commits at a time, and leaves processors and disks to those who are waited for.

use std::time::Duration;

use sled_data::CommitNumber;

/// Who is not waited for has what a quorum has after this.
const GROUP_WAIT: Duration = Duration::from_millis(5);
/// Bytes of records that wait for their quorum where there is load; with less, every follower has a commit at once, and the quickest
/// acknowledges it.
const LOAD_BYTES_MIN: usize = 32 << 10;

/// How a follower stands with its source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// The next commit that goes to it.
    pub next: CommitNumber,
    /// The newest that is synced at the source.
    pub synced: CommitNumber,
    /// The newest that has its quorum.
    pub reached: CommitNumber,
    /// Whether enough others are as far as this one.
    pub is_spare: bool,
    /// Bytes of records that wait for their quorum.
    pub waiting_bytes: usize,
    /// Since commits last went to it.
    pub since_sent: Duration,
}

/// What goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Commits up to this one.
    Send(CommitNumber),
    /// Nothing for so long.
    Wait(Duration),
}

/// What goes to a follower now.
pub fn turn(standing: Standing) -> Turn {
    let Standing { next, synced, reached, is_spare, waiting_bytes, since_sent } = standing;
    if !is_spare || waiting_bytes < LOAD_BYTES_MIN {
        return Turn::Send(synced);
    }
    if since_sent < GROUP_WAIT {
        return Turn::Wait(GROUP_WAIT - since_sent);
    }
    // No further than those who are waited for, who else would be the ones that lag. But where none of it has a quorum after that time,
    // it is they who are slow.
    Turn::Send(if reached >= next { reached.min(synced) } else { synced })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_waited_for_has_each_commit_at_once_and_others_have_groups() {
        let now = |next, reached, is_spare, waiting_bytes, ms| {
            let numbers = (CommitNumber(next), CommitNumber(20), CommitNumber(reached));
            let since_sent = Duration::from_millis(ms);
            turn(Standing {
                next: numbers.0,
                synced: numbers.1,
                reached: numbers.2,
                is_spare,
                waiting_bytes,
                since_sent,
            })
        };
        let (load, send, wait) = (LOAD_BYTES_MIN, |n| Turn::Send(CommitNumber(n)), Duration::from_millis);
        assert_eq!(now(15, 18, false, load, 0), send(20));
        assert_eq!(now(15, 18, true, load - 1, 0), send(20));
        assert_eq!(now(15, 18, true, load, 0), Turn::Wait(wait(5)));
        assert_eq!(now(15, 18, true, load, 4), Turn::Wait(wait(1)));
        assert_eq!(now(15, 18, true, load, 5), send(18));
        assert_eq!(now(19, 18, true, load, 5), send(20), "those who are waited for are slow");
        assert_eq!(now(15, 90, true, load, 50), send(20), "nothing that is not synced");
    }
}
