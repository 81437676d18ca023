//! Where batches lie, in order of partition and offset: as many as fit in memory, the others in later passes.

use std::collections::BTreeMap;

use super::census::Census;
use super::scan::{Form, Found};
use super::source::{Place, Source};
use crate::batch::{BATCH_BYTES_MAX, BatchError, ENVELOPE_BYTES, StoredBatch, payload};
use crate::ids::Offset;

/// Values whose places are kept at once, in about 100 MiB; a larger store takes more passes.
const ENTRIES_MAX: usize = 1 << 19;
/// Copies of the first part of a longer batch that are kept; the others are as good.
const COPIES_MAX: usize = 4;

/// What a value is a part of. The tag is the envelope's checksum: equal for copies, different for batches that claim the same offset.
#[derive(Copy, Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    rank: u32,
    base: Offset,
    tag: u32,
    part: u16,
}

/// A value that was found.
#[derive(Clone, Debug)]
struct Entry {
    place: Place,
    /// More places of the same bytes, where only the whole batch tells which of them are sound.
    copies: Vec<Place>,
    len: u32,
    form: Form,
    next: Offset,
    hlc: u64,
    batch_len: usize,
}

/// A batch that may be put together.
#[derive(Clone, Debug)]
pub(super) struct Candidate {
    /// Its partition's place in the census' order.
    pub rank: u32,
    /// Offset of its first record.
    pub base: Offset,
    /// The offset after its last.
    pub next: Offset,
    /// Its hybrid clock.
    pub hlc: u64,
    /// Whether all its parts are there.
    pub sound: bool,
    first: Entry,
    parts: Vec<(Place, u32)>,
}

/// The places of one pass.
#[derive(Default)]
pub(super) struct Window {
    entries: BTreeMap<Key, Entry>,
    entries_max: usize,
    /// Batches before this partition and offset were taken already.
    from: (u32, Offset),
    /// Whether some are left for later passes.
    left: bool,
}

impl Window {
    pub(super) fn new() -> Window {
        Window { entries_max: ENTRIES_MAX, ..Window::default() }
    }

    /// How many passes so many values will need at most.
    pub(super) fn passes(&self, values: u64) -> u64 {
        values.div_ceil(self.entries_max as u64).max(1)
    }

    /// Takes what was found, if it belongs here.
    pub(super) fn add(&mut self, census: &Census, found: &Found<'_>) {
        let (id, base, tag, part, entry) = match *found {
            Found::Value { .. } => return,
            Found::Batch { place, envelope, tag, len, form } => {
                let batch_len = ENVELOPE_BYTES + envelope.kafka_bytes as usize;
                let (next, hlc) = (envelope.next_offset(), envelope.hlc);
                let entry = Entry { place, copies: Vec::new(), len, form, next, hlc, batch_len };
                (envelope.partition, envelope.base_offset, tag, 0, entry)
            }
            Found::Part { place, part } => {
                let len = part.len as u32;
                let entry =
                    Entry { place, copies: Vec::new(), len, form: Form::Complete, next: 0, hlc: 0, batch_len: 0 };
                (part.partition, part.base_offset, part.tag, part.part, entry)
            }
        };
        let Some(rank) = census.rank_of(id).filter(|rank| (*rank, base) >= self.from) else { return };
        self.insert(Key { rank, base, tag, part }, entry);
    }

    fn insert(&mut self, key: Key, entry: Entry) {
        match self.entries.get_mut(&key) {
            Some(known) if known.form < entry.form => *known = entry,
            Some(known) if known.form == Form::First && known.copies.len() + 1 < COPIES_MAX => {
                known.copies.push(entry.place);
            }
            Some(_) => {}
            None => {
                self.entries.insert(key, entry);
            }
        }
        if self.entries.len() > self.entries_max {
            self.entries.pop_last();
            self.left = true;
        }
    }

    /// Whether all batches were taken.
    pub(super) fn is_done(&self) -> bool {
        !self.left
    }

    /// Takes the batches of this pass, in order of partition and offset; what did not fit comes with the next pass.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Candidate> + use<> {
        let mut entries = std::mem::take(&mut self.entries);
        self.left = match entries.last_key_value() {
            Some((last, _)) if self.left => {
                // The last batch may lack parts: it is taken with the next pass, but where it fills this one alone.
                let cut = Key { rank: last.rank, base: last.base, tag: 0, part: 0 };
                let alone = entries.range(..cut).next().is_none();
                self.from = (cut.rank, cut.base + u64::from(alone));
                if !alone {
                    entries.split_off(&cut);
                }
                true
            }
            _ => false,
        };
        Candidates { entries: entries.into_iter().peekable() }
    }
}

struct Candidates {
    entries: std::iter::Peekable<std::collections::btree_map::IntoIter<Key, Entry>>,
}

impl Iterator for Candidates {
    type Item = Candidate;

    fn next(&mut self) -> Option<Candidate> {
        loop {
            let (key, first) = self.entries.next()?;
            // Parts without the first one say nothing of how far their batch reaches.
            if key.part != 0 {
                continue;
            }
            let mut parts = Vec::new();
            while let Some((next, part)) = self.entries.peek() {
                if (next.rank, next.base, next.tag) != (key.rank, key.base, key.tag) {
                    break;
                }
                if usize::from(next.part) == parts.len() + 1 {
                    parts.push((part.place, part.len));
                }
                self.entries.next();
            }
            let complete = || first.len as usize + payload_bytes(&parts) >= first.batch_len;
            let sound = match first.form {
                Form::Damaged => false,
                Form::First => complete(),
                Form::Complete => true,
            };
            let Key { rank, base, .. } = key;
            return Some(Candidate { rank, base, next: first.next, hlc: first.hlc, sound, first, parts });
        }
    }
}

fn payload_bytes(parts: &[(Place, u32)]) -> usize {
    parts.iter().map(|(_, len)| (*len as usize).saturating_sub(crate::batch::PART_HEADER_BYTES)).sum()
}

impl Candidate {
    /// Reads and checks the batch; of several copies of its beginning, the first with which it is sound.
    pub(super) fn read(&self, source: &Source) -> Result<StoredBatch, BatchError> {
        let mut rest = Vec::new();
        for (place, len) in &self.parts {
            let mut part = vec![0; (*len as usize).min(BATCH_BYTES_MAX)];
            source.read(*place, &mut part);
            rest.extend_from_slice(payload(&part));
        }
        let mut error = BatchError::Short;
        for place in std::iter::once(&self.first.place).chain(&self.first.copies) {
            let mut bytes = vec![0; self.first.len as usize];
            source.read(*place, &mut bytes);
            bytes.extend_from_slice(&rest);
            match StoredBatch::decode(bytes) {
                Ok(batch) => return Ok(batch),
                Err(e) => error = e,
            }
        }
        Err(error)
    }
}

#[cfg(test)]
impl Candidate {
    /// A batch without bytes, for those who only look at its numbers.
    pub(super) fn of(base: Offset, next: Offset, hlc: u64) -> Candidate {
        let first = tests::entry(0, Form::Complete);
        Candidate { rank: 0, base, next, hlc, sound: true, first, parts: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn entry(at: u64, form: Form) -> Entry {
        let place = Place { file: 0, at };
        Entry { place, copies: Vec::new(), len: 10, form, next: 0, hlc: 0, batch_len: 10 }
    }

    #[test]
    fn a_small_window_takes_all_in_several_passes_and_in_order() {
        for entries_max in [1, 2, 3, 5, 1_000] {
            let mut window = Window { entries_max, ..Window::default() };
            let mut taken = Vec::new();
            loop {
                for n in (0..40_u64).rev().chain(0..40) {
                    let key = Key { rank: (n / 20) as u32, base: n * 7 % 20, tag: 1, part: 0 };
                    if (key.rank, key.base) >= window.from {
                        window.insert(key, entry(n, Form::Complete));
                    }
                }
                taken.extend(window.take().map(|candidate| (candidate.rank, candidate.base)));
                if window.is_done() {
                    break;
                }
            }
            let expected: Vec<_> = (0..2).flat_map(|rank| (0..20).map(move |base| (rank, base))).collect();
            assert_eq!(taken, expected, "{entries_max} at once");
        }
    }

    #[test]
    fn a_sound_copy_is_preferred() {
        let key = Key { rank: 0, base: 0, tag: 1, part: 0 };
        for order in [[Form::Damaged, Form::Complete], [Form::Complete, Form::Damaged]] {
            let mut window = Window::new();
            order.into_iter().for_each(|form| window.insert(key, entry(0, form)));
            assert!(window.take().next().unwrap().sound);
        }
    }
}
