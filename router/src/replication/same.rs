//! Whether another node has a log up to a commit, and the same: it is asked with that commit's hybrid clock, as one that was restored and wrote
//! on has other commits of the same numbers.

use serde::{Deserialize, Serialize};
use sled_data::{CommitNumber, CopyState, OriginId, ReadError, Store};

/// The version that is spoken.
const VERSION: u8 = 1;
/// Logs that one question names at most.
pub const SAME_LOGS_MAX: usize = 2_048;

/// A commit of a log, as it is where the question comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// The log.
    pub origin: OriginId,
    /// The commit's number.
    pub commit: CommitNumber,
    /// Its hybrid clock.
    pub hlc: u64,
}

impl Point {
    /// Whether the log is here up to this commit, whole and synced, and it is this commit. A commit whose record is kept no more is not known
    /// to be.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn is_in(&self, store: &Store) -> Result<bool, ReadError> {
        let followed = store.followed().into_iter().find(|(followed, _)| *followed == self.origin);
        let is_whole = followed.is_none_or(|(_, followed)| followed.copy == CopyState::Whole);
        if !is_whole || store.synced_commit_of(self.origin) < self.commit {
            return Ok(false);
        }
        // Of the commit with which a copy was taken the clock is known, and there is no record.
        match followed.filter(|(_, followed)| followed.commit == self.commit) {
            Some((_, followed)) => Ok(followed.hlc == self.hlc),
            None => Ok(store.clock_of(self.origin, self.commit)? == Some(self.hlc)),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct QuestionV1(Vec<(u64, u64, u64)>);

#[derive(Serialize, Deserialize)]
struct AnswerV1(Vec<bool>);

/// The question, of at most [`SAME_LOGS_MAX`] logs.
pub fn encode_question(points: &[Point]) -> Vec<u8> {
    let of = |point: &Point| (point.origin.0, point.commit.0, point.hlc);
    // Writing numbers to memory does not fail; the reader would say so.
    let all = points.iter().take(SAME_LOGS_MAX).map(of).collect();
    postcard::to_extend(&QuestionV1(all), vec![VERSION]).unwrap_or_default()
}

/// Reads a question; `None` where it is none that is known.
pub fn decode_question(bytes: &[u8]) -> Option<Vec<Point>> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    let (QuestionV1(all), []) = postcard::take_from_bytes(body).ok()? else { return None };
    let point = |(origin, commit, hlc)| Point { origin: OriginId(origin), commit: CommitNumber(commit), hlc };
    (all.len() <= SAME_LOGS_MAX).then(|| all.into_iter().map(point).collect())
}

/// The answer: for each log of the question, in its order.
pub fn encode_answer(same: Vec<bool>) -> Vec<u8> {
    postcard::to_extend(&AnswerV1(same), vec![VERSION]).unwrap_or_default()
}

/// Reads the answer to a question of so many logs; `None` where it is none.
pub fn decode_answer(bytes: &[u8], logs: usize) -> Option<Vec<bool>> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    let (AnswerV1(same), []) = postcard::take_from_bytes(body).ok()? else { return None };
    (same.len() == logs).then_some(same)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use sled_data::{Commit, MemoryBackend, Options};

    use super::*;

    fn point(origin: u64, commit: u64, hlc: u64) -> Point {
        Point { origin: OriginId(origin), commit: CommitNumber(commit), hlc }
    }

    /// A store; of one seed they are of one life.
    fn open(seed: u64) -> Store {
        Store::on(Arc::new(MemoryBackend::new()), Options { seed: Some(seed), ..Options::default() }).unwrap().0
    }

    fn write(store: &Store, hlcs: &[u64]) {
        for hlc in hlcs {
            store.commit(&Commit { hlc: *hlc, ..Commit::default() }).unwrap();
        }
    }

    #[test]
    fn what_is_said_has_these_bytes() {
        let points = [point(2, 300, 7), point(1, 0, 0)];
        let question = encode_question(&points);
        assert_eq!(question, [1, 2, 2, 0xac, 2, 7, 1, 0, 0]);
        assert_eq!(decode_question(&question).unwrap(), points);
        let answer = encode_answer(vec![true, false]);
        assert_eq!(answer, [1, 2, 1, 0]);
        assert_eq!(decode_answer(&answer, 2), Some(vec![true, false]));
        assert_eq!(decode_answer(&answer, 3), None, "an answer to another question");
        for wrong in [&b""[..], &[2], &[1], &question[..8], &[&question[..], &[0]].concat()] {
            assert_eq!(decode_question(wrong), None, "{wrong:?}");
        }
        for wrong in [&b""[..], &[2, 0], &[1, 1, 2], &[&answer[..], &[0]].concat()] {
            assert_eq!(decode_answer(wrong, 2), None, "{wrong:?}");
        }
        let many = vec![point(1, 1, 1); SAME_LOGS_MAX + 1];
        assert_eq!(decode_question(&encode_question(&many)).map(|all| all.len()), Some(SAME_LOGS_MAX));
    }

    #[test]
    fn a_copy_has_the_commit_with_which_it_was_taken() {
        let (there, here) = (open(1), open(2));
        write(&there, &[10, 11]);
        there.sync().unwrap();
        let own = there.origin();
        let is_here = |commit: u64, hlc: u64| point(own.0, commit, hlc).is_in(&here).unwrap();
        here.begin_copy(&there.copy_head(own).unwrap()).unwrap();
        here.sync().unwrap();
        assert!(!is_here(2, 11), "it is not whole");
        here.end_copy(own, CommitNumber(2)).unwrap();
        here.sync().unwrap();
        assert!(is_here(2, 11) && !is_here(2, 12) && !is_here(1, 10) && !is_here(3, 12));
    }

    /// The log of a store that was restored as it was after its first commit, and wrote on: further than the one that has what it wrote before.
    #[test]
    fn a_restored_log_that_went_further_has_what_it_had_and_nothing_that_came_since() {
        let (store, restored) = (open(7), open(7));
        let own = store.origin();
        assert_eq!(restored.origin(), own);
        write(&store, &[10, 11, 12]);
        store.sync().unwrap();
        write(&restored, &[10, 21, 22, 23]);
        restored.sync().unwrap();
        let is_in = |store: &Store, commit: u64, hlc: u64| point(own.0, commit, hlc).is_in(store).unwrap();
        for (commit, hlc, here, there) in [
            (1, 10, true, true),
            (2, 11, true, false),
            (3, 12, true, false),
            (3, 22, false, true),
            (4, 23, false, true),
            (5, 24, false, false),
        ] {
            assert_eq!((is_in(&store, commit, hlc), is_in(&restored, commit, hlc)), (here, there), "{commit} {hlc}");
        }
        assert!(!point(!own.0, 1, 10).is_in(&store).unwrap(), "a log that is not here");
        // What is not synced may be lost.
        write(&store, &[13]);
        assert!(!is_in(&store, 4, 13));
        store.sync().unwrap();
        assert!(is_in(&store, 4, 13));
    }
}
