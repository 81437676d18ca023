//! How a source begins with a follower: with the commits after those it has, with a copy, or not at all (pure).

use sled_data::{CommitNumber, CopyState, OriginId, Store};

use super::wire::{Follow, RefusedCode, VERSION};

/// What a follower asks for: what follows all that its store has of the origin. Of a life that ended here a copy is asked
/// for, and that it has commits of it is said: a source that has fewer is one that forked.
pub fn asked(store: &Store, origin: OriginId) -> Follow {
    let all = store.followed();
    let here = all.iter().find(|(followed, _)| *followed == origin).map(|(_, followed)| followed);
    let ended = store.last_commit_of(origin);
    Follow {
        version: VERSION,
        origin: origin.0,
        have: here.map_or(ended, |here| here.commit).0,
        hlc: here.map_or(0, |here| here.hlc),
        // Where a copy was taken and commits are missing to make it whole, they are what is asked for.
        whole: here.map_or(ended == CommitNumber(0), |here| here.copy != CopyState::Taking),
    }
}

/// The same, once all that it says is here is synced: the source counts it as that. `None` before. One look at the store tells both.
pub(super) fn asked_when_synced(store: &Store, origin: OriginId) -> Option<Follow> {
    let asked = asked(store, origin);
    let all = store.followed();
    let here = all.iter().find(|(followed, _)| *followed == origin).map(|(_, followed)| followed);
    let is_synced = here.is_none_or(|here| here.copy == CopyState::Taking || here.synced.0 >= asked.have);
    is_synced.then_some(asked)
}

/// What the source has of the origin that is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Has {
    /// The newest commit that is synced here.
    pub synced: CommitNumber,
    /// The oldest one whose record is kept.
    pub first_kept: CommitNumber,
    /// The hybrid clock of the follower's newest commit, as it is kept here; `None`: it is not kept.
    pub hlc_there: Option<u64>,
}

/// How it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Begin {
    /// With this commit.
    Commits(CommitNumber),
    /// With a copy.
    Copy,
    /// Not at all.
    Refuse(RefusedCode),
}

/// Decides; `has` is `None` where the origin is not kept, or not whole.
pub fn begin(asked: &Follow, has: Option<Has>) -> Begin {
    if asked.version != VERSION {
        return Begin::Refuse(RefusedCode::Version);
    }
    let Some(has) = has else { return Begin::Refuse(RefusedCode::NotHere) };
    let have = CommitNumber(asked.have);
    if have == CommitNumber(0) {
        return Begin::Copy;
    }
    let is_other = asked.whole && has.hlc_there.is_some_and(|hlc| hlc != asked.hlc);
    if have > has.synced || is_other {
        return Begin::Refuse(RefusedCode::Forked);
    }
    // The record of the newest commit there must be here as well: without it a fork would not be seen.
    if !asked.whole || has.hlc_there.is_none() || have.next() < has.first_kept {
        return Begin::Copy;
    }
    Begin::Commits(have.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_follower_gets_what_it_can_use() {
        let has = |synced, first, hlc_there| {
            Some(Has { synced: CommitNumber(synced), first_kept: CommitNumber(first), hlc_there })
        };
        let refuse = Begin::Refuse;
        // have, hlc, whole; what the source has; how it begins
        let cases = [
            ("not kept", 5, true, None, refuse(RefusedCode::NotHere)),
            ("first contact", 0, false, has(9, 1, None), Begin::Copy),
            ("the next", 5, true, has(9, 3, Some(70)), Begin::Commits(CommitNumber(6))),
            ("nothing new", 9, true, has(9, 3, Some(70)), Begin::Commits(CommitNumber(10))),
            ("records are gone", 5, true, has(90, 50, None), Begin::Copy),
            ("the last one there is gone", 49, true, has(90, 50, None), Begin::Copy),
            ("a copy that was cut off", 5, false, has(9, 3, Some(70)), Begin::Copy),
            ("more than the source has", 10, true, has(9, 3, None), refuse(RefusedCode::Forked)),
            ("a copy of more than it has", 10, false, has(9, 3, None), refuse(RefusedCode::Forked)),
            ("another commit of that number", 5, true, has(9, 3, Some(71)), refuse(RefusedCode::Forked)),
        ];
        for (case, have, whole, has, expected) in cases {
            let asked = Follow { version: VERSION, origin: 1, have, hlc: 70, whole };
            assert_eq!(begin(&asked, has), expected, "{case}");
        }
        let future = Follow { version: VERSION + 1, origin: 1, have: 0, hlc: 0, whole: true };
        assert_eq!(begin(&future, has(9, 1, None)), refuse(RefusedCode::Version));
    }
}
