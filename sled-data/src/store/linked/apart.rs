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

    /// Notes at one place what was noted at another one, and no more there. Durable with the next [`Store::sync`].
    ///
    /// # Errors
    /// [`StoreFailed`] where the store cannot be read or written.
    pub fn move_apart(&self, from: &str, to: &str) -> Result<(), StoreFailed> {
        self.check()?;
        let _writer = self.writer.lock();
        let moved = self.notes_apart().and_then(|notes| {
            let mut group = Group::new();
            for (_, key) in notes {
                let Some((head, place)) = key.split_at_checked(9) else { continue };
                if place != cut(from).as_bytes() {
                    continue;
                }
                // The value is of its key.
                let noted = self.meta.get(&key)?.and_then(|value| read::<ApartV1>(&key, &value).ok());
                let new = [head, cut(to).as_bytes()].concat();
                let mut value = Vec::new();
                write(&new, &noted.unwrap_or(ApartV1 { at_ms: i64::MIN }), &mut value);
                group.put(&new, &value);
                group.remove(&key);
            }
            self.meta.apply(&group)
        });
        moved.map_err(|error| self.fail(&error))
    }

    fn put_apart(&self, key: &[u8], at_ms: i64) -> Result<(), BackendError> {
        if self.meta.get(key)?.is_some() {
            return Ok(());
        }
        let (mut group, mut kept) = (Group::new(), Vec::new());
        for (at_ms, noted) in self.notes_apart()? {
            let is_here = |origin| self.partitions().iter().any(|id| id.origin == origin);
            match noted.get(..9).and_then(keys::followed_of).is_some_and(is_here) {
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
