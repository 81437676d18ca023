//! The buffer against a model: random publishes, acknowledgements, refusals, broken connections and crashes.

use std::collections::{BTreeMap, VecDeque};

use super::bench::Bench;
use super::*;
use crate::client::backoff::splitmix;
use crate::client::config::Overflow;
use crate::client::disk::{Disk, Sync};

const SEEDS: u64 = 300;
/// Each start syncs its boot, which takes most of the time.
const DISK_SEEDS: u64 = 24;
const STEPS: usize = 400;

/// What must hold, as far as the fates that were told and the connection's answers say.
#[derive(Default)]
struct Model {
    /// Numbered publishes by lane that no fate was told of, in the order in which they are to be sent.
    held: [VecDeque<u32>; 3],
    /// The lane of every publish.
    lanes: BTreeMap<u32, Lane>,
    /// Handed over on this connection, by lane, not answered.
    sent: [VecDeque<(u32, Number)>; 3],
    /// The packet ids of those that were written, and those that were not.
    unwritten: VecDeque<(Lane, u32)>,
    written: Vec<(u16, Lane, u32)>,
    /// The newest number that was handed over on this connection.
    newest: [Option<Number>; 3],
    fates: BTreeMap<u32, Fate>,
    /// Names of those that are there twice, and their first names.
    again: BTreeMap<u32, u32>,
}

impl Model {
    fn first_name(&self, name: u32) -> u32 {
        self.again.get(&name).copied().unwrap_or(name)
    }
}

struct Run {
    bench: Bench,
    model: Model,
    random: u64,
    disk: Option<Disk>,
    overflow: Overflow,
    next_name: u32,
    next_packet_id: u16,
    seed: u64,
}

fn limits(overflow: Overflow) -> Buffer {
    Buffer { publishes_max: 40, bytes_max: 10_000, overflow }
}

impl Run {
    fn open(disk: &Option<Disk>, overflow: Overflow) -> Bench {
        let store = disk.as_ref().map(|disk| Store::open(disk, None, 1).unwrap());
        let boot = store.as_ref().map_or(7, Store::boot);
        let mut bench = Bench::of(Outbox::new(limits(overflow), boot, store));
        bench.outbox.lanes.iter_mut().for_each(|lane| lane.read_ahead_max = 4);
        bench
    }

    fn below(&mut self, most: u64) -> u64 {
        splitmix(&mut self.random) % most
    }

    /// Notes the fates that were told.
    fn settle(&mut self) {
        for (name, fate) in self.bench.fates() {
            let lane = self.model.lanes[&name].index();
            if fate == Fate::Dropped {
                let sent = self.model.sent[lane].iter().any(|(sent, _)| *sent == name);
                assert!(!sent, "seed {}: {name} was on its way and was dropped", self.seed);
            }
            assert!(self.model.fates.insert(name, fate).is_none(), "seed {}: two fates for {name}", self.seed);
            self.model.held[lane].retain(|held| *held != name);
            self.model.sent[lane].retain(|(sent, _)| *sent != name);
        }
        let held: usize = self.model.held.iter().map(VecDeque::len).sum();
        assert_eq!(self.bench.outbox.len(), held, "seed {}", self.seed);
    }

    fn publish(&mut self) {
        let priority = [Priority::Urgent, Priority::Normal, Priority::Bulk][self.below(3) as usize];
        let name = self.next_name;
        self.next_name += 1;
        self.model.lanes.insert(name, priority.lane());
        if self.bench.push_as(name, Qos::AtLeastOnce, priority, false).is_ok() {
            self.model.held[priority.lane().index()].push_back(name);
        }
    }

    /// Hands some over: those of each lane in its order, under numbers that rise.
    fn hand_over(&mut self) {
        self.bench.window.most = self.below(20) as usize;
        self.bench.handed();
        for (name, number) in std::mem::take(&mut self.bench.window.taken) {
            let lane = self.model.lanes[&name];
            let sent = &mut self.model.sent[lane.index()];
            let is_sent = |held: &u32| sent.iter().any(|(sent, _)| sent == held);
            let next = self.model.held[lane.index()].iter().find(|held| !is_sent(held));
            assert_eq!(next, Some(&name), "seed {}: order", self.seed);
            assert!(self.model.newest[lane.index()] < Some(number), "seed {}: numbers rise", self.seed);
            self.model.newest[lane.index()] = Some(number);
            sent.push_back((name, number));
            if self.bench.window.packet_ids {
                self.model.unwritten.push_back((lane, name));
            }
        }
    }

    fn answer(&mut self) {
        if self.bench.window.packet_ids { self.answer_packet() } else { self.answer_lane() }
    }

    fn answer_packet(&mut self) {
        if let Some((lane, name)) = self.model.unwritten.pop_front() {
            self.next_packet_id = self.next_packet_id % 60_000 + 1;
            self.bench.outbox.written(self.next_packet_id);
            self.model.written.push((self.next_packet_id, lane, name));
        }
        if self.model.written.is_empty() || self.below(3) == 0 {
            return;
        }
        let at = self.below(self.model.written.len() as u64) as usize;
        let (packet_id, lane, name) = self.model.written.remove(at);
        match self.below(6) {
            0 => self.bench.outbox.refused(packet_id, 0x87),
            1 => {
                assert_eq!(self.bench.outbox.refused_for_now(packet_id), Some(lane));
                self.model.sent[lane.index()].retain(|(sent, _)| *sent != name);
                self.model.newest[lane.index()] = None;
            }
            _ => assert_eq!(self.bench.outbox.acked(packet_id), Some(lane)),
        }
    }

    fn answer_lane(&mut self) {
        let lane = Lane::ALL[self.below(3) as usize];
        let sent = &self.model.sent[lane.index()];
        let Some((_, number)) = sent.get((self.random % 7) as usize).or(sent.back()).copied() else { return };
        match self.below(6) {
            0 => self.bench.outbox.refused_range(lane, number.boot, (number.seq, number.seq + 1), 0x90),
            1 => {
                self.bench.outbox.lane_reset(lane);
                self.model.sent[lane.index()].clear();
                self.model.newest[lane.index()] = None;
            }
            _ => self.bench.outbox.acked_up_to(lane, number),
        }
    }

    /// The connection ends; the next is of either kind. It may tell how far the node is, or know a later boot.
    fn reconnect(&mut self) {
        let last: Vec<(Lane, Number)> = Lane::ALL
            .into_iter()
            .filter_map(|lane| self.model.sent[lane.index()].front().map(|(_, number)| (lane, *number)))
            .collect();
        self.bench.outbox.disconnected();
        self.forget_connection();
        match self.below(8) {
            0 => self.bench.outbox.known(&last),
            1 => {
                let boot = self.bench.outbox.boot() + self.random % 5;
                self.bench.outbox.known(&[(Lane::BULK, Number { boot, seq: 0 })]);
            }
            _ => {}
        }
    }

    fn forget_connection(&mut self) {
        self.model.sent = Default::default();
        self.model.newest = Default::default();
        self.model.unwritten.clear();
        self.model.written.clear();
        self.bench.window.packet_ids = self.below(2) == 0;
    }

    /// The process is killed and starts again. What was acknowledged may be there once more, and nothing else.
    fn crash(&mut self) {
        if self.disk.is_none() {
            return;
        }
        if self.below(2) == 0 {
            self.bench.outbox.store().unwrap().write_positions();
        }
        let nothing = Bench::of(Outbox::new(limits(self.overflow), 0, None));
        drop(std::mem::replace(&mut self.bench, nothing));
        self.bench = Self::open(&self.disk, self.overflow);
        self.forget_connection();
        self.bench.window.most = usize::MAX;
        self.bench.handed();
        let found = self.listen_again();
        self.bench.outbox.disconnected();
        for (lane, held) in self.model.held.iter().enumerate() {
            let mut left = found[lane].iter().map(|name| self.model.first_name(*name));
            for name in held {
                let name = self.model.first_name(*name);
                assert!(left.any(|found| found == name), "seed {}: {name} is lost or out of order", self.seed);
            }
        }
        for name in found.iter().flatten() {
            // It is there again, and its fate may come again.
            self.model.fates.remove(name);
        }
        self.model.held = found;
    }

    /// Who waited for fates is gone with the process; the test wants to know all the same. What was refused for now
    /// and is there under its old number too gets a name of its own. Gives what was found.
    fn listen_again(&mut self) -> [VecDeque<u32>; 3] {
        let mut outbox = std::mem::replace(&mut self.bench.outbox, Outbox::new(limits(self.overflow), 0, None));
        let mut found: [VecDeque<u32>; 3] = Default::default();
        for (lane, queue) in outbox.lanes.iter_mut().enumerate() {
            for entry in queue.sent.iter_mut().rev() {
                let mut name = super::bench::name(entry);
                if found[lane].contains(&name) {
                    self.model.again.insert(self.next_name, name);
                    self.model.lanes.insert(self.next_name, entry.lane);
                    name = self.next_name;
                    self.next_name += 1;
                    entry.payload = name.to_string().into();
                }
                entry.done = self.bench.note(name);
                found[lane].push_front(name);
            }
        }
        self.bench.outbox = outbox;
        found
    }

    fn finish(mut self) {
        self.bench.outbox.disconnected();
        self.forget_connection();
        (self.bench.window.most, self.bench.window.packet_ids) = (usize::MAX, false);
        let left = self.bench.handed();
        assert_eq!(left.len(), self.bench.outbox.len(), "seed {}", self.seed);
        for lane in Lane::ALL {
            self.bench.outbox.acked_up_to(lane, Number { boot: u64::MAX, seq: u64::MAX });
        }
        if self.disk.is_none() {
            self.settle();
            assert_eq!((self.bench.outbox.publishes, self.bench.outbox.bytes), (0, 0), "seed {}", self.seed);
        } else {
            assert_eq!(self.bench.outbox.store().unwrap().bytes(), 0, "seed {}", self.seed);
        }
        assert_eq!(self.bench.outbox.len(), 0, "seed {}", self.seed);
    }
}

fn run(seed: u64, disk: Option<Disk>) {
    let overflow = [Overflow::Refuse, Overflow::DropOldest, Overflow::KeepByPriority][seed as usize % 3];
    let bench = Run::open(&disk, overflow);
    let model = Model::default();
    let mut run = Run { bench, model, random: seed, disk, overflow, next_name: 0, next_packet_id: 0, seed };
    for _ in 0..STEPS {
        match run.below(40) {
            0..16 => run.publish(),
            16..24 => run.hand_over(),
            24..38 => run.answer(),
            38 => run.reconnect(),
            _ => run.crash(),
        }
        run.settle();
    }
    run.finish();
}

#[test]
fn in_memory_nothing_disappears_and_order_is_kept() {
    (0..SEEDS).for_each(|seed| run(seed, None));
}

#[test]
fn on_disk_nothing_disappears_and_order_is_kept_over_crashes() {
    for seed in 0..DISK_SEEDS {
        let home = tempfile::tempdir().unwrap();
        let bytes_max = 4 << 10;
        run(seed, Some(Disk { segment_bytes: 512, bytes_max, sync: Sync::Never, ..Disk::new(home.path()) }));
    }
}
