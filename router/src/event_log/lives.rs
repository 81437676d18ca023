//! How often what others say may end a life of this node's store.
//!
//! A member or an upstream that has more of a life than its writer tells of a store that was restored. What it says cannot be proved: numbers
//! and clocks of commits can be made up. One that only says so would have the node begin a new life at each start. So a life is ended for it
//! once a day at most, for the site and for links each; otherwise it is told, and people look.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{CommitNumber, OriginId, ReadError, Store};

use super::{CommitFailed, EventLog};

/// A key of the small named trees: when a life was ended, 8 bytes, big-endian: Unix milliseconds; then which, 8 bytes, big-endian. Older
/// programs wrote the first 8 alone.
const KEY: &[u8] = b"ended";
/// The key of the lives that were ended before that one and are still here as they were: 8 bytes each, big-endian.
const EARLIER_KEY: &[u8] = b"earlier";
/// A life is ended once in this time: a day.
const EVERY_MS: u64 = 24 * 3_600 * 1_000;

/// Who says that a life is outlived.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outliver {
    /// Another node of the site.
    Site,
    /// The upstream of a link.
    Link,
}

impl Outliver {
    /// The small named tree of its note.
    fn tree(self) -> &'static str {
        match self {
            Self::Site => "site_lives",
            Self::Link => "link_lives",
        }
    }
}

/// A life of this node's that has ended and has left events.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeftLife {
    /// Which.
    pub origin: OriginId,
    /// Its last commit.
    pub last: CommitNumber,
    /// Whether it is followed since, from another node that has all of it.
    pub is_followed: bool,
}

/// What is noted of the last life that was ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Note {
    at_ms: i64,
    /// Which; not known of a note by an older program.
    life: Option<OriginId>,
}

impl Note {
    fn encode(self) -> Vec<u8> {
        let life = self.life.map(|life| life.0.to_be_bytes());
        [&self.at_ms.to_be_bytes()[..], life.as_ref().map_or(&[], |life| &life[..])].concat()
    }

    /// `None` for what is no note.
    fn decode(bytes: &[u8]) -> Option<Self> {
        let (numbers, []) = bytes.as_chunks::<8>() else { return None };
        let (at_ms, life) = match numbers {
            [at_ms] => (at_ms, None),
            [at_ms, life] => (at_ms, Some(OriginId(u64::from_be_bytes(*life)))),
            _ => return None,
        };
        Some(Self { at_ms: i64::from_be_bytes(*at_ms), life })
    }

    /// Whether the life `present` may be ended now (pure): the last end was long ago, or it is that of this life and was not carried out
    /// yet. A clock that has jumped by more than a day allows it.
    fn allows(self, present: OriginId, now_ms: i64) -> bool {
        self.life == Some(present) || now_ms.abs_diff(self.at_ms) >= EVERY_MS
    }
}

impl EventLog {
    /// Whether the present life may be ended now for what others say.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn may_end_life(&self, by: Outliver) -> Result<bool, ReadError> {
        let note = end_of_life(&self.store, by)?;
        Ok(note.is_none_or(|note| note.allows(self.origin(), self.clock().wall_ms())))
    }

    /// Notes that the present life is ended. Durable on return.
    ///
    /// # Errors
    /// When it cannot be stored.
    pub async fn note_end_of_life(&self, by: Outliver) -> Result<(), CommitFailed> {
        let note = Note { at_ms: self.clock().wall_ms(), life: Some(self.origin()) };
        // The note of the one before is written over.
        let here = self.store.ended_lives().into_iter().chain(self.store.ended_lives_without_events());
        let mut outlived: BTreeSet<OriginId> =
            here.map(|(life, _)| life).filter(|life| self.was_outlived(*life).unwrap_or(true)).collect();
        // One that has come back from others is followed like any other's.
        let followed = self.store.followed().into_iter().map(|(life, _)| life);
        outlived.extend(followed.filter(|life| matches!(self.was_outlived(*life), Ok(true))));
        let earlier: Vec<u8> = outlived.iter().flat_map(|life| life.0.to_be_bytes()).collect();
        let ticket = {
            let mut open = self.lock();
            open.put_state(by.tree(), KEY, Some(&note.encode()));
            open.put_state(by.tree(), EARLIER_KEY, Some(&earlier).filter(|all| !all.is_empty()).map(Vec::as_slice));
            open.ticket()
        };
        self.durable(ticket).await
    }

    /// Whether a life of this store was ended for what others said, as far as that is noted.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn was_outlived(&self, life: OriginId) -> Result<bool, ReadError> {
        was_outlived(&self.store, life)
    }

    /// Whether the node that writes `present` has ended `life`, one before it, for what others said, as far as it has noted that and this is here. What of
    /// such a life comes late is not that node's to go on with.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn was_outlived_before(&self, present: OriginId, life: OriginId) -> Result<bool, ReadError> {
        noted_as_outlived(life, |tree, key| self.store.state_get_of(present, tree, key))
    }

    /// The lives of this node's that have ended and that others may have from here, each with its last commit. One that was outlived is told to
    /// nobody: what is here of it may be other than what they have.
    pub fn lives_to_tell(&self) -> Vec<(OriginId, CommitNumber)> {
        let ended = self.store.ended_lives().into_iter();
        ended.filter(|(life, _)| matches!(self.was_outlived(*life), Ok(false))).collect()
    }

    /// The same, and those that are followed since: what retention has to see to, for who has not come to their end.
    pub fn lives_left(&self) -> Vec<LeftLife> {
        let told = self.lives_to_tell().into_iter().map(|(origin, last)| LeftLife { origin, last, is_followed: false });
        let followed = self.store.followed().into_iter().filter(|(origin, _)| self.is_ended(*origin));
        // A copy's head has the number of its last commit from the beginning.
        let followed = followed.map(|(origin, life)| LeftLife { origin, last: life.commit, is_followed: true });
        told.chain(followed).collect()
    }

    /// Those that have ended and hold nothing that others could have from here: what went on of them is in the present life. Each with its last commit.
    pub fn spent_lives(&self) -> Vec<(OriginId, CommitNumber)> {
        let spent = self.store.ended_lives_without_events().into_iter();
        spent.filter(|(life, _)| matches!(self.was_outlived(*life), Ok(false))).collect()
    }

    /// The lives of this node's that have ended, hold events and are not among those that others may have from here, nor had from
    /// another; how many events each holds.
    pub fn lives_here_alone(&self) -> BTreeMap<OriginId, u64> {
        let mut lives = self.store.lives_not_followed();
        let told = self.lives_to_tell();
        lives.retain(|life, _| !told.iter().any(|(told, _)| told == life));
        lives
    }
}

/// As [`EventLog::was_outlived`].
pub(super) fn was_outlived(store: &Store, life: OriginId) -> Result<bool, ReadError> {
    noted_as_outlived(life, |tree, key| store.state_get(tree, key))
}

/// Whether it is noted in the small named trees that `get` reads.
fn noted_as_outlived(
    life: OriginId,
    get: impl Fn(&str, &[u8]) -> Result<Option<Vec<u8>>, ReadError>,
) -> Result<bool, ReadError> {
    for by in [Outliver::Site, Outliver::Link] {
        let earlier = get(by.tree(), EARLIER_KEY)?.unwrap_or_default();
        let (earlier, _) = earlier.as_chunks::<8>();
        let last = get(by.tree(), KEY)?.and_then(|bytes| Note::decode(&bytes));
        if last.is_some_and(|note| note.life == Some(life)) || earlier.contains(&life.0.to_be_bytes()) {
            return Ok(true);
        }
    }
    Ok(false)
}

fn end_of_life(store: &Store, by: Outliver) -> Result<Option<Note>, ReadError> {
    Ok(store.state_get(by.tree(), KEY)?.and_then(|bytes| Note::decode(&bytes)))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use std::sync::Arc;

    use sled_data::MemoryBackend;

    use super::super::tests::open_on;
    use super::super::{Act, Config};
    use super::*;

    #[test]
    fn a_life_is_ended_once_a_day_and_until_it_is() {
        let day = EVERY_MS as i64;
        const PRESENT: OriginId = OriginId(8);
        // when the last was ended, which, now, whether this one may be
        let cases = [
            (5, None, 5, false),
            (5, Some(7), 5, false),
            (5, Some(7), 4 + day, false),
            (5, Some(7), 5 + day, true),
            (5 + day, Some(7), 6, false),
            (5 + day, Some(7), 5, true),
            (i64::MAX, None, i64::MIN, true),
            (5, Some(8), 5, true),
            (5, Some(8), 4 + day, true),
        ];
        for (at_ms, life, now, may) in cases {
            let note = Note { at_ms, life: life.map(OriginId) };
            assert_eq!(note.allows(PRESENT, now), may, "{note:?} {now}");
        }
    }

    #[test]
    fn a_note_has_these_bytes_and_older_ones_are_read() {
        let older = [0, 0, 0, 0, 0, 0, 1, 2];
        let bytes = [0, 0, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(Note { at_ms: 258, life: Some(OriginId(9)) }.encode(), bytes);
        assert_eq!(Note::decode(&bytes), Some(Note { at_ms: 258, life: Some(OriginId(9)) }));
        assert_eq!(Note::decode(&older), Some(Note { at_ms: 258, life: None }));
        for wrong in [&bytes[..0], &bytes[..7], &bytes[..15], &[0; 24]] {
            assert_eq!(Note::decode(wrong), None, "{wrong:?}");
        }
    }

    #[tokio::test]
    async fn that_it_was_is_remembered_by_the_store() {
        let backend = Arc::new(MemoryBackend::new());
        let log = open_on(&backend, Config::default());
        let ended = log.origin();
        assert!(log.may_end_life(Outliver::Site).unwrap() && !log.was_outlived(ended).unwrap());
        log.note_end_of_life(Outliver::Site).await.unwrap();
        // Its end was not carried out: the next start is of the same life.
        log.close();
        log.store().close().unwrap();
        let log = open_on(&backend, Config::default());
        assert_eq!(log.origin(), ended);
        assert!(log.may_end_life(Outliver::Site).unwrap(), "the same end is not the next one");
        log.close();
        log.store().end_life("others have more").unwrap();
        let log = open_on(&backend, Config::default());
        assert_ne!(log.origin(), ended);
        assert!(!log.may_end_life(Outliver::Site).unwrap(), "the next one is told, not believed");
        assert!(log.may_end_life(Outliver::Link).unwrap());
        assert!(log.was_outlived(ended).unwrap() && !log.was_outlived(log.origin()).unwrap());
        // Another node, which follows the next life, knows it too.
        let other = open_on(&Arc::new(MemoryBackend::new()), Config::default());
        let present = log.origin();
        let ticket = {
            let mut open = log.lock();
            open.put_state("tree", b"key", Some(b"value"));
            open.ticket()
        };
        log.durable(ticket).await.unwrap();
        assert!(!other.was_outlived_before(present, ended).unwrap());
        let head = log.store().copy_head(present).unwrap();
        other.store().begin_copy(&head).unwrap();
        let (parts, _) = log.store().copy_parts(&head, None, &|_| 0, usize::MAX).unwrap();
        other.store().add_copy(present, &parts).unwrap();
        other.store().end_copy(present, head.commit).unwrap();
        assert!(other.was_outlived_before(present, ended).unwrap());
        assert!(!other.was_outlived_before(present, present).unwrap());
        other.close();
        log.close();
    }

    #[tokio::test]
    async fn lives_that_have_ended_are_told_but_for_those_that_were_outlived() {
        let backend = Arc::new(MemoryBackend::new());
        let mut log = open_on(&backend, Config::default());
        log.ensure_topic(super::super::AUDIT_TOPIC, None).unwrap();
        let mut lives = Vec::new();
        for outlived in [None, Some(Outliver::Site), None, Some(Outliver::Site), Some(Outliver::Link)] {
            let act = Act { who: "test", act: "life", what: "a", outcome: "done", detail: serde_json::Value::Null };
            let ticket = log.audit(act).unwrap();
            log.durable(ticket).await.unwrap();
            if let Some(by) = outlived {
                log.note_end_of_life(by).await.unwrap();
            }
            log.close();
            log.store().end_life("the next one").unwrap();
            lives.push((log.origin(), outlived.is_some()));
            drop(log);
            log = open_on(&backend, Config::default());
        }
        for (life, was_outlived) in &lives {
            let told: Vec<OriginId> = log.lives_to_tell().iter().map(|(life, _)| *life).collect();
            assert_eq!(log.was_outlived(*life).unwrap(), *was_outlived, "{lives:?}");
            assert_eq!(told.contains(life), !was_outlived, "{lives:?}");
            assert_eq!(log.lives_here_alone().get(life), was_outlived.then_some(&1), "{lives:?}");
        }
        // One is followed back.
        let left = |log: &EventLog| log.lives_left().into_iter().map(|life| (life.origin, life)).collect();
        let before: BTreeMap<OriginId, LeftLife> = left(&log);
        let followed = log.ended_lives()[0];
        let head = log.store().copy_head(followed).unwrap();
        log.store().begin_copy(&head).unwrap();
        log.store().end_copy(followed, head.commit).unwrap();
        log.store().sync().unwrap();
        assert_eq!((before.len(), log.lives_to_tell().len()), (2, 1));
        let expected = before.into_iter().map(|(life, left)| {
            assert!(!left.is_followed && left.last > CommitNumber(0));
            (life, LeftLife { is_followed: life == followed, ..left })
        });
        assert_eq!(left(&log), expected.collect::<BTreeMap<_, _>>(), "it is not forgotten, nor its last commit");
        log.close();
    }

    #[tokio::test]
    async fn a_life_that_was_outlived_stays_so_when_it_came_back_and_the_next_one_was_as_well() {
        let backend = Arc::new(MemoryBackend::new());
        let mut log = open_on(&backend, Config::default());
        log.ensure_topic(super::super::AUDIT_TOPIC, None).unwrap();
        let mut lives = Vec::new();
        for _ in 0..3 {
            let act = Act { who: "test", act: "life", what: "a", outcome: "done", detail: serde_json::Value::Null };
            let ticket = log.audit(act).unwrap();
            log.durable(ticket).await.unwrap();
            log.note_end_of_life(Outliver::Site).await.unwrap();
            lives.push(log.origin());
            log.close();
            log.store().end_life("others have more").unwrap();
            drop(log);
            log = open_on(&backend, Config::default());
            // It comes back from others, who have more of it.
            let last = *lives.last().unwrap();
            let head = log.store().copy_head(last).unwrap();
            log.store().begin_copy(&head).unwrap();
            log.store().end_copy(last, head.commit).unwrap();
            log.store().sync().unwrap();
            assert!(log.others().contains(&last));
            for life in &lives {
                assert!(log.was_outlived(*life).unwrap(), "{life} of {lives:?}");
            }
        }
        log.close();
    }
}
