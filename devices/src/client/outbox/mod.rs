//! The buffer of unacknowledged publishes: bounded, in lanes, in order.
//!
//! A publish gets its number at once and waits in its lane. It is handed to the connection, the urgent lanes first
//! and in order within each, and leaves when it is acknowledged (QoS 1) or written (QoS 0). When the connection ends,
//! all that was handed over waits again in its old place. With a buffer on disk, numbered publishes are written there
//! first, and only the head of each lane is in memory.
//!
//! Numbers come from one counter for all lanes, so that they also tell the order of publishing over all of them.

#[cfg(test)]
pub(super) mod bench;
mod entry;
mod lane;
#[cfg(all(test, feature = "disk"))]
mod model_tests;
#[cfg(not(feature = "disk"))]
mod no_disk;
mod numbers;
mod overflow;
mod replies;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};
use std::io::ErrorKind;

pub(crate) use entry::{Done, Ended, Entry, New};
pub use entry::{Fate, Priority, Qos};
use lane::LaneQueue;
#[cfg(not(feature = "disk"))]
pub(crate) use no_disk::Store;
use overflow::{LISTS, Room, victims};
pub(super) use replies::FOR_NOW;

use super::config::Buffer;
#[cfg(feature = "disk")]
pub(crate) use super::disk::Store;
use crate::sequence::{LANES, Lane, Number};

/// Room beyond the bound that is kept for answers, in publishes: a full buffer must not silence them.
pub(super) const ANSWERS_RESERVED_MAX: usize = 64;
/// The same in bytes.
pub(super) const ANSWERS_RESERVED_BYTES_MAX: u64 = 1 << 20;

/// Why a publish is not taken.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotTaken {
    /// There is no room, and none may be made.
    Full,
    /// The disk does not take it.
    Disk(ErrorKind),
}

/// A connection as the buffer sees it.
pub(super) trait Way {
    /// Whether it takes another of a lane, with so many under way.
    fn has_room(&self, lane: Lane, under_way: usize) -> bool;
    /// Whether it tells when a numbered publish is written, and acknowledges by packet id.
    fn has_packet_ids(&self) -> bool;
    /// Takes one; `false` when it takes no more now.
    fn publish(&mut self, entry: &Entry) -> bool;
}

pub(super) struct Outbox {
    limits: Buffer,
    boot: u64,
    /// Something with this boot was handed to a connection.
    is_boot_used: bool,
    next_seq: u64,
    lanes: [LaneQueue; LANES as usize],
    /// Numbered and handed over, to be written under a packet id.
    unwritten: VecDeque<(Lane, Number)>,
    /// Without a number and handed over.
    loose_handed: VecDeque<Entry>,
    /// Written under a packet id.
    in_flight: BTreeMap<u16, (Lane, Number)>,
    /// Publishes in memory alone, and their bytes.
    publishes: usize,
    bytes: u64,
    store: Option<Store>,
    ended: Vec<Ended>,
}

impl Outbox {
    pub(super) fn new(limits: Buffer, boot: u64, store: Option<Store>) -> Self {
        Self {
            limits,
            boot,
            is_boot_used: false,
            next_seq: 0,
            lanes: Default::default(),
            unwritten: VecDeque::new(),
            loose_handed: VecDeque::new(),
            in_flight: BTreeMap::new(),
            publishes: 0,
            bytes: 0,
            store,
            ended: Vec::new(),
        }
    }

    /// The fates that came about, to be told when the buffer is no longer locked.
    pub(super) fn take_ended(&mut self) -> Vec<Ended> {
        std::mem::take(&mut self.ended)
    }

    /// The boot that new numbers have.
    #[cfg(test)]
    pub(super) fn boot(&self) -> u64 {
        self.boot
    }

    /// The buffer on disk.
    #[cfg(feature = "disk")]
    pub(super) fn store(&mut self) -> Option<&mut Store> {
        self.store.as_mut()
    }

    /// Unacknowledged publishes.
    pub(super) fn len(&self) -> usize {
        let unread: usize = Lane::ALL.iter().map(|lane| self.unread(*lane)).sum();
        let held: usize = self.lanes.iter().map(|l| l.waiting().len() + l.sent.len() + l.loose.len()).sum();
        held + unread + self.loose_handed.len()
    }

    fn unread(&self, lane: Lane) -> usize {
        self.store.as_ref().map_or(0, |store| store.unread(lane))
    }

    fn is_on_disk(&self, qos: Qos) -> bool {
        self.store.is_some() && qos == Qos::AtLeastOnce
    }

    /// Takes a publish, and drops others for it as the rule says.
    pub(super) fn push(&mut self, new: New) -> Result<(), NotTaken> {
        let (answer, lane) = (new.answer, new.lane);
        let entry = Entry::new(new, self.next_number());
        let on_disk = self.is_on_disk(entry.qos);
        let bytes = match on_disk {
            true => Store::bytes_of(&entry),
            false => entry.bytes() as u64,
        };
        let room = self.room(on_disk, answer);
        let overflow = self.limits.overflow;
        let counts = victims(overflow, room, (lane, bytes), |list, at| self.nth_waiting(on_disk, list, at));
        self.drop_oldest(counts.map_err(|_| NotTaken::Full)?);
        self.enqueue(entry).map_err(|(_, kind)| NotTaken::Disk(kind))
    }

    /// The next number, of those that rise.
    fn next_number(&mut self) -> Number {
        let number = Number { boot: self.boot, seq: self.next_seq };
        self.next_seq += 1;
        number
    }

    fn room(&self, on_disk: bool, answer: bool) -> Room {
        let (publishes, bytes) = if answer { (ANSWERS_RESERVED_MAX, ANSWERS_RESERVED_BYTES_MAX) } else { (0, 0) };
        match &self.store {
            Some(store) if on_disk => Room {
                publishes: 0,
                publishes_max: usize::MAX,
                bytes: store.bytes(),
                bytes_max: store.bytes_max().saturating_add(bytes),
            },
            _ => Room {
                publishes: self.publishes,
                publishes_max: self.limits.publishes_max.saturating_add(publishes),
                bytes: self.bytes,
                bytes_max: (self.limits.bytes_max as u64).saturating_add(bytes),
            },
        }
    }

    /// The order and size of a list's n-th that waits, read from disk where it must be.
    fn nth_waiting(&mut self, on_disk: bool, list: usize, at: usize) -> Option<(Number, u64)> {
        let (lane, numbered) = (Lane::ALL[list / 2], list % 2 == 1);
        let queue = &mut self.lanes[list / 2];
        match (numbered, &mut self.store) {
            (true, Some(store)) => {
                while on_disk && at >= queue.waiting().len() && queue.read_one(store, lane, &mut self.ended) {}
                queue.waiting().get(at).filter(|_| on_disk).map(|entry| (entry.number, Store::bytes_of(entry)))
            }
            (true, None) => queue.waiting().get(at).map(|entry| (entry.number, entry.bytes() as u64)),
            (false, _) => queue.loose.get(at).filter(|_| !on_disk).map(|entry| (entry.number, entry.bytes() as u64)),
        }
    }

    fn drop_oldest(&mut self, counts: [usize; LISTS]) {
        for (list, count) in counts.into_iter().enumerate() {
            for _ in 0..count {
                let queue = &mut self.lanes[list / 2];
                let dropped = if list % 2 == 1 { queue.pop_front() } else { queue.loose.pop_front() };
                if let Some(entry) = dropped {
                    self.end(entry, Fate::Dropped);
                }
            }
        }
    }

    /// Puts a publish at its lane's end, on disk first. Gives back who awaits its fate where the disk does not take it.
    fn enqueue(&mut self, mut entry: Entry) -> Result<(), (Done, ErrorKind)> {
        let queue = &mut self.lanes[entry.lane.index()];
        if entry.qos == Qos::AtMostOnce || self.store.is_none() {
            self.publishes += 1;
            self.bytes += entry.bytes() as u64;
        } else if let Some(store) = &mut self.store {
            let keep = queue.keeps_in_memory(store.unread(entry.lane));
            entry.ticket = match store.append(&entry, keep) {
                Ok(ticket) => ticket,
                Err(kind) => return Err((entry.done, kind)),
            };
            if !keep {
                queue.awaits(entry.number, entry.done, &mut self.ended);
                return Ok(());
            }
        }
        match entry.qos {
            Qos::AtMostOnce => queue.loose.push_back(entry),
            Qos::AtLeastOnce => queue.push_back(entry),
        }
        Ok(())
    }

    /// Hands the next publish over, of the most urgent lane that has one and for which there is room. `false` when
    /// there is none.
    pub(super) fn hand_over(&mut self, way: &mut impl Way) -> bool {
        let under_way = self.lanes.iter().map(|lane| lane.sent.len()).sum::<usize>() + self.loose_handed.len();
        for lane in Lane::ALL {
            if !way.has_room(lane, under_way) {
                continue;
            }
            let queue = &mut self.lanes[lane.index()];
            queue.refill(self.store.as_mut(), lane, &mut self.ended);
            let numbered = queue.waiting().front();
            let loose = queue.loose.front().filter(|loose| numbered.is_none_or(|n| loose.number < n.number));
            let Some(entry) = loose.or(numbered) else { continue };
            let is_loose = loose.is_some();
            if way.publish(entry) {
                self.handed_over(lane, is_loose, way.has_packet_ids());
                return true;
            }
        }
        false
    }

    fn handed_over(&mut self, lane: Lane, is_loose: bool, has_packet_ids: bool) {
        let queue = &mut self.lanes[lane.index()];
        if is_loose {
            // It may travel in its lane, under its number.
            self.is_boot_used = true;
            self.loose_handed.extend(queue.loose.pop_front());
        } else if let Some(mut entry) = queue.pop_front() {
            self.is_boot_used |= entry.number.boot == self.boot;
            entry.unwritten = has_packet_ids;
            if has_packet_ids {
                self.unwritten.push_back((lane, entry.number));
            }
            queue.handed_over(entry);
        }
    }

    /// A publish leaves with its fate.
    fn end(&mut self, entry: Entry, fate: Fate) {
        match (&mut self.store, entry.ticket) {
            (Some(store), Some(ticket)) => store.resolve(entry.lane, ticket),
            _ => {
                self.publishes -= 1;
                self.bytes -= entry.bytes() as u64;
            }
        }
        self.ended.push(Ended { done: entry.done, fate });
    }

    /// Everything that is left is told that the client stops. What is on disk stays there.
    pub(super) fn drain(&mut self) {
        self.disconnected();
        for queue in &mut self.lanes {
            queue.drain(&mut self.ended);
        }
        (self.publishes, self.bytes) = (0, 0);
        if let Some(store) = self.store.take() {
            store.close();
        }
    }
}
