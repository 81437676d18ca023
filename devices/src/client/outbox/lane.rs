//! What one lane holds, and the head of it that is in memory.

use std::collections::{BTreeMap, VecDeque};

use super::Store;
use super::entry::{Done, Ended, Entry, Fate};
use crate::sequence::{Lane, Number};

/// Most publishes of a lane that are read ahead of the connection from the buffer on disk.
const READ_AHEAD_MAX: usize = 512;
/// Most bytes of them, but for the last.
const READ_AHEAD_BYTES_MAX: usize = 512 << 10;
/// Most publishes of a lane that are on disk alone and whose fates somebody waits for.
const AWAITED_MAX: usize = 16_384;

/// One lane's publishes, the oldest first in each list.
pub(super) struct LaneQueue {
    /// [`READ_AHEAD_MAX`].
    pub(super) read_ahead_max: usize,
    /// Numbered, to be handed over; those that follow on disk are not in it.
    waiting: VecDeque<Entry>,
    waiting_bytes: usize,
    /// Numbered, handed over, not acknowledged.
    pub(super) sent: VecDeque<Entry>,
    /// Without a number, to be handed over.
    pub(super) loose: VecDeque<Entry>,
    /// Who awaits the fates of those that are on disk alone.
    awaited: BTreeMap<Number, Done>,
    /// How many found no place among them since the deaf were last looked for.
    turned_away: usize,
}

/// Inserts by number; most often at one of the ends, where it is cheap.
fn insert(list: &mut VecDeque<Entry>, entry: Entry) {
    let at = match list.back() {
        Some(last) if last.number > entry.number => list.partition_point(|other| other.number < entry.number),
        _ => list.len(),
    };
    list.insert(at, entry);
}

impl Default for LaneQueue {
    fn default() -> Self {
        Self {
            read_ahead_max: READ_AHEAD_MAX,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            sent: VecDeque::new(),
            loose: VecDeque::new(),
            awaited: BTreeMap::new(),
            turned_away: 0,
        }
    }
}

impl LaneQueue {
    pub(super) fn waiting(&self) -> &VecDeque<Entry> {
        &self.waiting
    }

    pub(super) fn push_back(&mut self, entry: Entry) {
        self.waiting_bytes += entry.bytes();
        self.waiting.push_back(entry);
    }

    /// Puts one back that was handed over, in its old place.
    pub(super) fn put_back(&mut self, entry: Entry) {
        self.waiting_bytes += entry.bytes();
        insert(&mut self.waiting, entry);
    }

    /// Notes that one was handed over. What was put back goes before others that are on their way still.
    pub(super) fn handed_over(&mut self, entry: Entry) {
        insert(&mut self.sent, entry);
    }

    pub(super) fn pop_front(&mut self) -> Option<Entry> {
        let entry = self.waiting.pop_front()?;
        self.waiting_bytes -= entry.bytes();
        Some(entry)
    }

    /// Whether a publish that is written to disk now may stay in memory as well.
    pub(super) fn keeps_in_memory(&self, unread: usize) -> bool {
        unread == 0 && self.waiting.len() < self.read_ahead_max && self.waiting_bytes < READ_AHEAD_BYTES_MAX
    }

    /// Reads ahead when nothing waits in memory.
    pub(super) fn refill(&mut self, store: Option<&mut Store>, lane: Lane, ended: &mut Vec<Ended>) {
        let Some(store) = store else { return };
        if !self.waiting.is_empty() {
            return;
        }
        while self.waiting.len() < self.read_ahead_max && self.waiting_bytes < READ_AHEAD_BYTES_MAX {
            if !self.read_one(store, lane, ended) {
                return;
            }
        }
    }

    /// Reads the next from disk behind those that wait; `false` when there is none.
    pub(super) fn read_one(&mut self, store: &mut Store, lane: Lane, ended: &mut Vec<Ended>) -> bool {
        let Some(mut entry) = store.read(lane) else {
            if store.unread(lane) == 0 {
                self.give_up_before(None, ended);
            }
            return false;
        };
        self.give_up_before(Some(entry.number), ended);
        entry.done = self.awaited.remove(&entry.number).unwrap_or(Done::Nobody);
        self.push_back(entry);
        true
    }

    /// Those before a number were not found where they had been written.
    fn give_up_before(&mut self, number: Option<Number>, ended: &mut Vec<Ended>) {
        while let Some(first) = self.awaited.first_entry()
            && number.is_none_or(|number| *first.key() < number)
        {
            ended.push(Ended { done: first.remove(), fate: Fate::Damaged });
        }
    }

    /// Notes who awaits the fate of a publish that is on disk alone.
    pub(super) fn awaits(&mut self, number: Number, done: Done, ended: &mut Vec<Ended>) {
        // A receipt that was thrown away at once is seen at the next publish.
        if let Some(last) = self.awaited.last_entry()
            && last.get().is_deaf()
        {
            last.remove();
        }
        if matches!(done, Done::Nobody) {
            return;
        }
        if self.awaited.len() >= AWAITED_MAX {
            if self.turned_away == 0 {
                self.awaited.retain(|_, done| !done.is_deaf());
            }
            self.turned_away = (self.turned_away + 1) % (AWAITED_MAX / 2);
        }
        if self.awaited.len() >= AWAITED_MAX {
            ended.push(Ended { done, fate: Fate::OnDisk });
        } else {
            self.awaited.insert(number, done);
        }
    }

    /// The oldest number that is in memory.
    pub(super) fn first(&self) -> Option<Number> {
        let fronts = [self.sent.front(), self.waiting.front(), self.loose.front()];
        fronts.into_iter().flatten().map(|entry| entry.number).min()
    }

    /// Takes one out of those that were handed over.
    pub(super) fn take_sent(&mut self, number: Number) -> Option<Entry> {
        let at = self.sent.binary_search_by_key(&number, |entry| entry.number).ok()?;
        self.sent.remove(at)
    }

    /// All that were handed over wait again, in their old places.
    pub(super) fn send_again(&mut self) {
        while let Some(entry) = self.sent.pop_back() {
            self.put_back(entry);
        }
    }

    /// Raises the boot of every number.
    pub(super) fn raise_boots(&mut self, by: u64) {
        let raised = |number: Number| Number { boot: number.boot.saturating_add(by), ..number };
        for entry in self.waiting.iter_mut().chain(&mut self.sent).chain(&mut self.loose) {
            entry.number = raised(entry.number);
        }
        let awaited = std::mem::take(&mut self.awaited);
        self.awaited = awaited.into_iter().map(|(number, done)| (raised(number), done)).collect();
    }

    /// Everything in memory, and whoever waits for what is not.
    pub(super) fn drain(&mut self, ended: &mut Vec<Ended>) {
        self.send_again();
        self.waiting_bytes = 0;
        let entries = self.loose.drain(..).chain(self.waiting.drain(..));
        let mut dones: Vec<(Number, Done)> = entries.map(|entry| (entry.number, entry.done)).collect();
        dones.extend(std::mem::take(&mut self.awaited));
        dones.sort_by_key(|(number, _)| *number);
        ended.extend(dones.into_iter().map(|(_, done)| Ended { done, fate: Fate::Stopped }));
    }
}
