//! What was stored of each site, and how that stood when the first of those that ask for the same had all of it.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::window::Stored;

/// What upstream has said to be stored of one site.
#[derive(Debug, Default)]
pub struct Tally {
    events: AtomicU64,
    bytes: AtomicU64,
}

/// All sites, by their place.
#[derive(Debug)]
pub struct Board {
    tallies: Vec<Tally>,
    /// Events of each when the first had all.
    first: OnceLock<Vec<u64>>,
}

impl Tally {
    pub fn add(&self, stored: Stored) {
        self.events.fetch_add(stored.events, Ordering::Relaxed);
        self.bytes.fetch_add(stored.bytes, Ordering::Relaxed);
    }

    pub fn now(&self) -> Stored {
        Stored { events: self.events.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

impl Board {
    pub fn of(sites: usize) -> Board {
        Board { tallies: (0..sites).map(|_| Tally::default()).collect(), first: OnceLock::new() }
    }

    /// That of the site at a place, which must be one of them.
    pub fn tally(&self, place: usize) -> &Tally {
        &self.tallies[place]
    }

    /// Notes what each has, if nobody has noted it before.
    pub fn note_first(&self) {
        self.first.get_or_init(|| self.events());
    }

    /// What each had when the first had all; what each has where none had.
    pub fn at_first(&self) -> Vec<u64> {
        self.first.get().cloned().unwrap_or_else(|| self.events())
    }

    /// Events of each.
    pub fn events(&self) -> Vec<u64> {
        self.tallies.iter().map(|tally| tally.now().events).collect()
    }

    /// Events and bytes of all.
    pub fn all(&self) -> Stored {
        self.tallies.iter().map(Tally::now).fold(Stored::default(), |sum, one| Stored {
            events: sum.events + one.events,
            bytes: sum.bytes + one.bytes,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_each_had_is_noted_once() {
        let board = Board::of(2);
        let add = |place, events| board.tally(place).add(Stored { events, bytes: events * 10 });
        add(0, 5);
        add(1, 3);
        assert_eq!(board.at_first(), [5, 3], "nobody was first yet");
        board.note_first();
        add(1, 2);
        board.note_first();
        assert_eq!((board.at_first(), board.events()), (vec![5, 3], vec![5, 5]));
        assert_eq!(board.all(), Stored { events: 10, bytes: 100 });
    }
}
