//! What an edge keeps of the commands that links have brought down (pure but for its two callers): which it has, which have
//! ended, and of which upstream knows how.
//!
//! A note is stored in the commit that takes the command, and in that of its end. It may go when upstream knows the end and the
//! command's time is over, and goes when its place is needed: until then the same id is the same command, also where the table has
//! forgotten it, or upstream was set back. Where that makes too little room, those whose end upstream has known for longest go before their time.

use std::collections::HashMap;

use devices::command::{CommandId, DELIVER_WITHIN_MAX_MS};
use serde::{Deserialize, Serialize};

use super::super::table::Now;
use super::wire::{EndedV1, decode, encode};
use crate::event_log::Ticket;

/// The small named tree of notes; a key is a command's 16 bytes. One more key says when the store's life began.
pub const NOTES_TREE: &str = "commands-down";
/// The key of [`LifeV1`].
pub(super) const LIFE_KEY: &[u8] = b"life";
/// Notes of one link at most.
const OF_LINK_MAX: usize = 4_096;
/// Notes in all.
const NOTES_MAX: usize = 16_384;
/// Refusals of one link that are written down in a minute: an upstream that asks on and on pushes nothing else out of the audit.
const REFUSALS_OF_MINUTE_MAX: u32 = 120;
/// How long an end is kept that upstream does not ask for, in milliseconds: it has given the command up long since.
const KEPT_MS: u64 = 30 * 24 * 3_600_000;

/// A note as it is stored. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NoteV1 {
    /// The link, by the id that the upstream site has given it.
    pub(super) link: u64,
    /// Until when it may be delivered, in milliseconds since 1970.
    pub(super) until_ms: u64,
    /// How it ended.
    pub(super) ended: Option<EndedV1>,
    /// Whether upstream knows.
    pub(super) is_known: bool,
}

/// When a life of the store was seen first.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LifeV1 {
    pub(super) origin: u64,
    pub(super) began_ms: u64,
}

/// How far a command is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It has not ended.
    Open,
    /// It has, and upstream is to be told.
    Ended,
    /// Upstream knows.
    Known,
}

/// A note in memory: what it holds of the end is read from the store.
#[derive(Debug, Clone, Copy)]
pub(super) struct Note {
    pub(super) link: u64,
    pub(super) until_ms: u64,
    pub(super) phase: Phase,
    /// Its place among those that have ended, from 1; given when it is put.
    pub(super) place: u64,
    /// Whether upstream has had it called off in this run, with whatever came of it.
    pub(super) is_wished: bool,
    /// The commit that its newest state is in, where that is not known to be durable.
    pub(super) ticket: Option<Ticket>,
}

impl Note {
    /// One that has no place yet, and that nobody has had called off.
    pub(super) fn new(link: u64, until_ms: u64, phase: Phase, ticket: Option<Ticket>) -> Self {
        Self { link, until_ms, phase, place: 0, is_wished: false, ticket }
    }
}

/// All notes.
#[derive(Debug, Default)]
pub(super) struct Notes {
    notes: HashMap<CommandId, Note>,
    /// How many there are of each link, and how many of those are to be told.
    counts: HashMap<u64, (usize, usize)>,
    last_place: u64,
    life: LifeV1,
    /// Whether the store knows of the life.
    is_life_stored: bool,
    /// When it began on the steady clock, where that was in this run: a node that starts may have no other clock that is right.
    began_steady: Option<u64>,
    /// Commands that were taken in commits that may not be written yet.
    under_way: HashMap<CommandId, Note>,
    /// The minute in which a refusal was written down last, on the steady clock, and how many were of each link.
    refusals: (u64, HashMap<u64, u32>),
}

impl Notes {
    /// As the store has them, and those that it is about to have. What cannot be read is left out: its command is then told of no more.
    pub(super) fn read(&mut self, stored: &[(Vec<u8>, Vec<u8>)], origin: u64, now: Now) {
        let is_first = self.life.origin == 0;
        let began_steady = if is_first { Some(now.steady) } else { self.began_steady };
        let mut notes = Self { life: LifeV1 { origin, began_ms: now.wall }, began_steady, ..Self::default() };
        for (key, value) in stored {
            if key == LIFE_KEY {
                if let Some(life) = decode::<LifeV1>(value).filter(|life| life.origin == origin) {
                    (notes.life, notes.is_life_stored) = (life, true);
                    notes.began_steady = began_steady.filter(|_| !is_first);
                }
            } else if let (Ok(id), Some(note)) = (<[u8; 16]>::try_from(key.as_slice()), decode::<NoteV1>(value)) {
                let phase = match (&note.ended, note.is_known) {
                    (None, _) => Phase::Open,
                    (Some(_), false) => Phase::Ended,
                    (Some(_), true) => Phase::Known,
                };
                let note = Note::new(note.link, note.until_ms, phase, None);
                notes.put(CommandId::from_bytes(id), note);
            }
        }
        for (id, note) in std::mem::take(&mut self.under_way) {
            if notes.get(id).is_none() {
                notes.put(id, note);
            }
            notes.under_way.insert(id, note);
        }
        *self = notes;
    }

    /// Whether the store's life has begun within so many milliseconds.
    pub(super) fn began_within(&self, ms: u64, now: Now) -> bool {
        match self.began_steady {
            Some(began) => ms > now.steady.saturating_sub(began),
            None => now.wall.saturating_sub(ms) < self.life.began_ms,
        }
    }

    /// What is to be stored of the life, where the store knows nothing of it.
    pub(super) fn life_to_store(&mut self, now: Now) -> Option<LifeV1> {
        if std::mem::replace(&mut self.is_life_stored, true) {
            return None;
        }
        let age = self.began_steady.map_or(0, |began| now.steady.saturating_sub(began));
        self.life.began_ms = now.wall.saturating_sub(age);
        Some(self.life)
    }

    /// Puts the note of a command that is taken in a commit which is not written yet.
    pub(super) fn take(&mut self, id: CommandId, note: Note) {
        self.under_way.insert(id, note);
        self.put(id, note);
    }

    /// It is known what became of a commit: of what was taken in it, the store says all.
    pub(super) fn settle(&mut self, ids: &[CommandId], ticket: Ticket) {
        for id in ids {
            if self.under_way.get(id).is_some_and(|note| note.ticket <= Some(ticket)) {
                self.under_way.remove(id);
            }
        }
    }

    /// Whether a refusal of a link may be written down now.
    pub(super) fn may_write(&mut self, link: u64, steady_ms: u64) -> bool {
        let minute = steady_ms / 60_000;
        if self.refusals.0 != minute {
            self.refusals = (minute, HashMap::new());
        }
        let of_link = self.refusals.1.entry(link).or_default();
        *of_link = of_link.saturating_add(1);
        *of_link <= REFUSALS_OF_MINUTE_MAX
    }

    /// Upstream wants a command called off; whether it does so for the first time in this run.
    pub(super) fn wish(&mut self, id: CommandId) -> bool {
        self.notes.get_mut(&id).is_some_and(|note| !std::mem::replace(&mut note.is_wished, true))
    }

    pub(super) fn get(&self, id: CommandId) -> Option<Note> {
        self.notes.get(&id).copied()
    }

    /// Puts a note in the place of the one before.
    pub(super) fn put(&mut self, id: CommandId, mut note: Note) {
        self.remove(id);
        // What was known before this run comes in the order of the ids, which is that of time.
        if note.phase == Phase::Ended || note.phase == Phase::Known && note.place == 0 {
            self.last_place += 1;
            note.place = self.last_place;
        }
        let (all, told) = self.counts.entry(note.link).or_default();
        (*all, *told) = (*all + 1, *told + usize::from(note.phase == Phase::Ended));
        self.notes.insert(id, note);
    }

    pub(super) fn remove(&mut self, id: CommandId) {
        let Some(note) = self.notes.remove(&id) else { return };
        if let Some((all, told)) = self.counts.get_mut(&note.link) {
            (*all, *told) = (*all - 1, *told - usize::from(note.phase == Phase::Ended));
        }
    }

    /// What a link has brought and has not ended.
    pub(super) fn open(&self, link: u64) -> Vec<CommandId> {
        let is_meant = |note: &Note| note.link == link && note.phase == Phase::Open;
        self.notes.iter().filter(|(_, note)| is_meant(note)).map(|(id, _)| *id).collect()
    }

    /// Whether upstream of a link is to be told of ends.
    pub(super) fn has_ended(&self, link: u64) -> bool {
        self.counts.get(&link).is_some_and(|(_, told)| *told > 0)
    }

    /// What has ended and upstream of a link does not know, behind a place, at most `max`, in the order of the ends.
    pub(super) fn ended(&self, link: u64, after: u64, max: usize) -> Vec<(CommandId, Note)> {
        let is_meant = |note: &Note| note.link == link && note.phase == Phase::Ended && note.place > after;
        let of_link = self.notes.iter().filter(|(_, note)| is_meant(note));
        let mut ended: Vec<_> = of_link.map(|(id, note)| (*id, *note)).collect();
        ended.sort_unstable_by_key(|(_, note)| note.place);
        ended.truncate(max);
        ended
    }

    /// How many more there may be of a link.
    pub(super) fn places(&self, link: u64) -> usize {
        let of_link = OF_LINK_MAX.saturating_sub(self.of_link(link));
        of_link.min(NOTES_MAX.saturating_sub(self.notes.len()))
    }

    fn of_link(&self, link: u64) -> usize {
        self.counts.get(&link).map_or(0, |(all, _)| *all)
    }

    /// What goes before its time, so that there are so many places for a link: those whose ends upstream knows, the link's own ones first, then the oldest
    /// first.
    pub(super) fn surplus(&self, link: u64, wanted: usize, is_kept: impl Fn(CommandId) -> bool) -> Vec<CommandId> {
        let over = |count: usize, max: usize| (count + wanted).saturating_sub(max);
        let known = self.notes.iter().filter(|(id, note)| note.phase == Phase::Known && !is_kept(**id));
        let mut known: Vec<_> = known.map(|(id, note)| (note.link != link, note.place, *id)).collect();
        known.sort_unstable();
        let own = known.partition_point(|(is_other, ..)| !is_other);
        let of_link = over(self.of_link(link), OF_LINK_MAX).min(own);
        known.truncate(of_link.max(over(self.notes.len(), NOTES_MAX)));
        known.into_iter().map(|(.., id)| id).collect()
    }

    /// Notes that may go.
    pub(super) fn over(&self, now_ms: u64) -> Vec<CommandId> {
        let is_over = |note: &Note| match note.phase {
            Phase::Open => false,
            Phase::Ended => note.until_ms.saturating_add(KEPT_MS) < now_ms,
            // One that may be delivered for longer than any may was taken while the clock was ahead.
            Phase::Known => note.until_ms < now_ms || note.until_ms > now_ms.saturating_add(DELIVER_WITHIN_MAX_MS),
        };
        self.notes.iter().filter(|(_, note)| is_over(note)).map(|(id, _)| *id).collect()
    }
}

/// What a note is to be stored as.
pub(super) fn stored(note: &NoteV1) -> Vec<u8> {
    encode(note)
}

#[cfg(test)]
mod tests {
    use devices::command::State;

    use super::*;

    fn id(n: u8) -> CommandId {
        CommandId::from_bytes([n; 16])
    }

    fn note(link: u64, phase: Phase) -> Note {
        Note::new(link, 10, phase, None)
    }

    #[test]
    fn notes_have_these_bytes() {
        let note = NoteV1 { link: 2, until_ms: 3, ended: None, is_known: false };
        assert_eq!(stored(&note), [1, 2, 3, 0, 0]);
        assert_eq!(encode(&LifeV1 { origin: 5, began_ms: 6 }), [1, 5, 6]);
        let ended = NoteV1 { ended: Some(EndedV1::new(id(1), State::Expired, None, None)), is_known: true, ..note };
        assert_eq!(decode(&stored(&ended)), Some(ended));
    }

    #[test]
    fn what_is_stored_is_there_after_a_restart_and_a_life_begins_once() {
        let open = NoteV1 { link: 2, until_ms: 3, ended: None, is_known: false };
        let ended = NoteV1 { ended: Some(EndedV1::new(id(2), State::Expired, None, None)), ..open.clone() };
        let known = NoteV1 { is_known: true, ..ended.clone() };
        let mut all: Vec<(Vec<u8>, Vec<u8>)> =
            [open, ended, known].iter().zip(1..).map(|(note, n)| (vec![n; 16], stored(note))).collect();
        all.push((vec![1; 3], vec![1]));
        all.push((vec![9; 16], vec![9]));
        let now = |wall| Now { steady: 1_000, wall };
        let read = |all: &[_], origin, wall| {
            let mut notes = Notes::default();
            notes.read(all, origin, now(wall));
            notes
        };
        let notes = read(&all, 5, 70);
        assert_eq!([1, 2, 3].map(|n| notes.get(id(n)).unwrap().phase), [Phase::Open, Phase::Ended, Phase::Known]);
        assert_eq!(
            (notes.notes.len(), notes.life, notes.is_life_stored),
            (3, LifeV1 { origin: 5, began_ms: 70 }, false)
        );
        all.push((LIFE_KEY.to_vec(), encode(&LifeV1 { origin: 5, began_ms: 6 })));
        assert_eq!(read(&all, 5, 70).life.began_ms, 6);
        assert_eq!(read(&all, 8, 70).life.began_ms, 70, "another life");
    }

    #[test]
    fn a_life_that_began_under_a_wrong_clock_began_when_it_did() {
        let mut notes = Notes::default();
        // A new store, and a clock that was never set.
        notes.read(&[], 5, Now { steady: 100, wall: 7 });
        let set = Now { steady: 30_100, wall: 1_900_000_000_000 };
        assert!(notes.began_within(30_001, set) && !notes.began_within(30_000, set));
        let life = notes.life_to_store(set).unwrap();
        assert_eq!((life.began_ms, notes.life_to_store(set)), (set.wall - 30_000, None));
        // Read again in the same run, and in the next one.
        let stored = vec![(LIFE_KEY.to_vec(), encode(&life))];
        notes.read(&stored, 5, set);
        let mut next = Notes::default();
        next.read(&stored, 5, set);
        for notes in [&notes, &next] {
            assert!(notes.began_within(30_001, set) && !notes.began_within(30_000, set), "{notes:?}");
        }
    }

    #[test]
    fn what_is_taken_and_not_written_yet_is_not_forgotten() {
        let mut notes = Notes::default();
        let now = Now { steady: 0, wall: 0 };
        notes.take(id(1), note(1, Phase::Open));
        notes.read(&[], 5, now);
        assert!(notes.get(id(1)).is_some() && notes.get(id(2)).is_none());
        // It is written, and ends; or it never will be.
        notes.under_way.clear();
        notes.read(&[], 5, now);
        assert!(notes.get(id(1)).is_none());
    }

    #[test]
    fn not_every_refusal_is_written_down() {
        let mut notes = Notes::default();
        let written = |notes: &mut Notes, link, ms| (0..1_000).filter(|_| notes.may_write(link, ms)).count();
        let counts = [(1, 0), (1, 59_999), (2, 59_999), (1, 60_000)].map(|(link, ms)| written(&mut notes, link, ms));
        assert_eq!(counts, [120, 0, 120, 120], "each link for itself");
        notes.put(id(1), note(1, Phase::Open));
        assert_eq!([id(1), id(1), id(2)].map(|id| notes.wish(id)), [true, false, false]);
        notes.put(id(1), Note { phase: Phase::Ended, ..notes.get(id(1)).unwrap() });
        assert!(!notes.wish(id(1)), "it was wished before");
    }

    #[test]
    fn what_upstream_has_known_for_longest_goes_first_where_there_is_no_place() {
        let id = |n: usize| CommandId::from_bytes((n as u128).to_be_bytes());
        let mut notes = Notes::default();
        // A full link, whose ids are not in the order of their ends.
        for n in (0..OF_LINK_MAX).rev() {
            let phase = if n < 10 { Phase::Open } else { Phase::Ended };
            notes.put(id(n), note(1, phase));
        }
        let none = |_| false;
        assert!(notes.surplus(1, 64, none).is_empty(), "what is open, or not told, stays");
        for n in 10..OF_LINK_MAX {
            notes.put(id(n), Note { phase: Phase::Known, ..notes.get(id(n)).unwrap() });
        }
        let oldest = |count| (1..=count).map(|n| id(OF_LINK_MAX - n)).collect::<Vec<_>>();
        assert_eq!(notes.surplus(1, 3, none), oldest(3));
        assert_eq!(notes.surplus(1, 2, |kept| kept == id(OF_LINK_MAX - 1)), oldest(3)[1..]);
        assert!(notes.surplus(2, 64, none).is_empty(), "another link has places");
        assert_eq!((notes.places(1), notes.places(2)), (0, OF_LINK_MAX));
        // All places are taken, by others.
        for n in OF_LINK_MAX..NOTES_MAX {
            notes.put(id(n), note(1 + (n / OF_LINK_MAX) as u64, Phase::Ended));
        }
        assert_eq!((notes.places(9), notes.surplus(9, 2, none)), (0, oldest(2)));
    }

    #[test]
    fn notes_are_bounded_and_go_when_they_may() {
        let mut notes = Notes::default();
        for n in 0..OF_LINK_MAX {
            assert!(notes.places(1) > 0);
            notes.put(CommandId::from_bytes((n as u128).to_be_bytes()), note(1, Phase::Known));
        }
        assert_eq!((notes.places(1), notes.places(2)), (0, OF_LINK_MAX));
        assert_eq!((notes.over(10).len(), notes.over(11).len()), (0, OF_LINK_MAX));
        let mut notes = Notes::default();
        for (n, phase) in [(1, Phase::Open), (2, Phase::Ended), (3, Phase::Ended), (4, Phase::Known)] {
            notes.put(id(n), note(1, phase));
        }
        assert_eq!(notes.over(11), [id(4)], "what is open, or not told, stays");
        assert!(notes.has_ended(1) && !notes.has_ended(2));
        let ended = |notes: &Notes, after, max| {
            notes.ended(1, after, max).iter().map(|(id, note)| (*id, note.place)).collect::<Vec<_>>()
        };
        assert_eq!(ended(&notes, 0, 1), [(id(2), 1)]);
        assert_eq!(ended(&notes, 1, 9), [(id(3), 2)]);
        // One that was known and is to be told again comes behind the others.
        notes.put(id(2), note(1, Phase::Ended));
        assert_eq!(ended(&notes, 0, 9), [(id(3), 2), (id(2), 4)]);
        notes.put(id(2), note(1, Phase::Known));
        notes.remove(id(3));
        assert!(!notes.has_ended(1));
        assert_eq!(notes.over(11 + KEPT_MS).len(), 2);
        // Taken while the clock was years ahead: what upstream knows keeps no place until then, what it does not know stays.
        let mut notes = Notes::default();
        let year_ms = 365 * 24 * 3_600_000;
        for (n, phase, until_ms) in [
            (1, Phase::Known, year_ms + DELIVER_WITHIN_MAX_MS),
            (2, Phase::Known, year_ms + DELIVER_WITHIN_MAX_MS + 1),
            (3, Phase::Ended, 9 * year_ms),
            (4, Phase::Open, 9 * year_ms),
        ] {
            notes.put(id(n), Note { until_ms, ..note(1, phase) });
        }
        assert_eq!(notes.over(year_ms), [id(2)]);
    }
}
