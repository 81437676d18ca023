//! Notes of origins that were found to be others elsewhere: a store was set back or copied, and went on apart.
//!
//! What showed it goes with retention, at either side. The note stays, until nothing of the origin is here any more.

use std::ops::ControlFlow;

use crate::backend::{BackendError, Direction, Group, Span};
use crate::ids::OriginId;
use crate::store::values::{ApartV1, read, write};
use crate::store::{Store, StoreFailed, keys};

/// Most notes that are kept; beyond, the oldest goes.
pub const APART_MAX: usize = 1_024;
/// Bytes of a place's name that count.
const PLACE_BYTES_MAX: usize = 128;
/// Bytes of a note's key before its place: the kind and the origin.
const HEAD_BYTES: usize = 9;

impl Store {
    /// Notes that an origin is another one at a place (a link, a node) than here. Durable with the next [`Store::sync`]. `at_ms` is when
    /// that was found, Unix milliseconds.
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be read or written.
    pub fn note_apart(&self, origin: OriginId, place: &str, at_ms: i64) -> Result<(), StoreFailed> {
        self.check()?;
        let _writer = self.writer.lock();
        let key = keys::apart(origin, cut(place));
        let written = self.put_apart(&key, at_ms);
        written.map_err(|error| self.fail(&error))
    }

    /// Whether an origin was noted to be another one at a place. One that cannot be read counts.
    pub fn is_apart(&self, origin: OriginId, place: &str) -> bool {
        !matches!(self.meta.get(&keys::apart(origin, cut(place))), Ok(None))
    }

    /// Notes at one place too what is noted at another one, the newest first, as long as there are no more notes than there may be. What is noted at both
    /// stays as it is. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be read or written.
    pub fn copy_apart(&self, from: &str, to: &str) -> Result<(), StoreFailed> {
        self.check()?;
        let _writer = self.writer.lock();
        let copied = self.notes_apart().and_then(|mut notes| {
            let room = APART_MAX.saturating_sub(notes.len());
            notes.retain(|(_, key)| key.get(HEAD_BYTES..) == Some(cut(from).as_bytes()));
            notes.sort_unstable();
            let (mut group, mut new) = (Group::new(), 0);
            for (at_ms, key) in notes.into_iter().rev() {
                let copy = [key.get(..HEAD_BYTES).unwrap_or_default(), cut(to).as_bytes()].concat();
                if new < room && self.meta.get(&copy)?.is_none() {
                    // The value is of its key.
                    let mut value = Vec::new();
                    write(&copy, &ApartV1 { at_ms }, &mut value);
                    group.put(&copy, &value);
                    new += 1;
                }
            }
            self.meta.apply(&group)
        });
        copied.map_err(|error| self.fail(&error))
    }

    /// Forgets what is noted at a place. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be read or written.
    pub fn forget_apart(&self, place: &str) -> Result<(), StoreFailed> {
        self.check()?;
        let _writer = self.writer.lock();
        let forgotten = self.notes_apart().and_then(|notes| {
            let mut group = Group::new();
            let of_place = notes.iter().filter(|(_, key)| key.get(HEAD_BYTES..) == Some(cut(place).as_bytes()));
            of_place.for_each(|(_, key)| group.remove(key));
            self.meta.apply(&group)
        });
        forgotten.map_err(|error| self.fail(&error))
    }

    fn put_apart(&self, key: &[u8], at_ms: i64) -> Result<(), BackendError> {
        if self.meta.get(key)?.is_some() {
            return Ok(());
        }
        let (mut group, mut kept) = (Group::new(), Vec::new());
        for (at_ms, noted) in self.notes_apart()? {
            let is_here = |origin| self.partitions().iter().any(|id| id.origin == origin);
            match noted.get(..HEAD_BYTES).and_then(keys::followed_of).is_some_and(is_here) {
                true => kept.push((at_ms, noted)),
                false => group.remove(&noted),
            }
        }
        kept.sort_unstable();
        let too_many = (kept.len() + 1).saturating_sub(APART_MAX);
        kept.iter().take(too_many).for_each(|(_, noted)| group.remove(noted));
        let mut value = Vec::new();
        write(key, &ApartV1 { at_ms }, &mut value);
        group.put(key, &value);
        self.meta.apply(&group)
    }

    /// When each was noted, and its key.
    fn notes_apart(&self) -> Result<Vec<(i64, Vec<u8>)>, BackendError> {
        let mut found = Vec::new();
        let span = Span::between(&[keys::APART], &[keys::APART + 1]);
        self.meta.scan(span, Direction::Forward, &mut |key, value| {
            // One that cannot be read is the oldest.
            let at_ms = read::<ApartV1>(key, value).map_or(i64::MIN, |note| note.at_ms);
            found.push((at_ms, key.to_vec()));
            ControlFlow::Continue(())
        })?;
        Ok(found)
    }
}

fn cut(place: &str) -> &str {
    &place[..place.floor_char_boundary(PLACE_BYTES_MAX)]
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Hole, HoleWhy, Linked, LinkedPart, MemoryBackend, Options, PartitionId, TopicId};

    #[test]
    fn what_is_noted_at_one_place_is_noted_at_another_one_too() {
        let options = Options { seed: Some(1), ..Options::default() };
        let (store, _) = Store::on(Arc::new(MemoryBackend::new()), options).unwrap();
        let id = PartitionId { origin: OriginId(50), topic: TopicId(1), index: 0 };
        let hole = Hole { from: 0, to: 2, why: HoleWhy::Retention, at_ms: 0 };
        let linked = Linked { link: 5, hlc: 0, path: vec![1] };
        store.take_linked(id.origin, &linked, &[LinkedPart::Hole(id, hole)]).unwrap();
        let noted = || ["up", "ca", "cloud"].map(|place| store.is_apart(id.origin, place));
        store.note_apart(id.origin, "up", 5).unwrap();
        // Whichever program starts next, and however often, finds it.
        for (from, to) in [("up", "ca"), ("up", "ca"), ("ca", "up"), ("up", "ca")] {
            store.copy_apart(from, to).unwrap();
            assert_eq!(noted(), [true, true, false], "{from} {to}");
        }
        store.forget_apart("up").unwrap();
        assert_eq!(noted(), [false, true, false]);
        store.copy_apart("ca", "up").unwrap();
        assert_eq!(noted(), [true, true, false]);
        // A copy takes no other note's place.
        for number in 2..APART_MAX {
            store.note_apart(id.origin, &format!("{number}"), 8).unwrap();
        }
        store.copy_apart("ca", "cloud").unwrap();
        assert_eq!(noted(), [true, true, false], "there are as many as there may be");
        assert!(store.is_apart(id.origin, "2"));
    }
}
