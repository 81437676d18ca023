//! All of it together: nodes, their network, what people set, clients, and the weather.

mod calm;
mod clients;
mod committer;
mod follower;
mod frames;
mod look;
mod opening;
mod peers;
mod quorum;
mod reader;
mod retain;
mod source;
mod weather;

use std::collections::BTreeMap;
use std::sync::Arc;

use sled_data::{CommitNumber, MemoryBackend, OriginId, Sealer};

use super::bug::Bug;
use super::catalog::Catalog;
use super::history::{Fact, History, Support};
use super::life::Written;
use super::network::{Network, Stream};
use super::node::{Disk, Node, Running};
use crate::seeded::random::Random;

/// Steps in bad weather.
const STEPS: usize = 130;
/// The longest time between two steps, in milliseconds.
const STEP_MS: u64 = 40;
/// Milliseconds since 1970 at the beginning.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// Machines that the site has at most.
const NODES_MAX: usize = 5;

pub use follower::BUFFER_BYTES;
pub use quorum::WAITING_MAX;
pub use reader::{READER, Tally};
pub use source::WINDOW_BYTES;

/// Most bytes of one commit: what may be appended, and a reader's state.
pub const COMMIT_BYTES: usize = clients::OPEN_MAX * 160 + 1_000;

/// A store as it was at one moment, as a backup of the whole disk has it.
struct Image {
    node: u64,
    backend: MemoryBackend,
    disk: Disk,
    life: usize,
    ended: Option<OriginId>,
    commits: Vec<Arc<Written>>,
}

/// A run's state.
pub struct World {
    random: Random,
    history: History,
    bug: Option<Bug>,
    nodes: Vec<Node>,
    /// What was on the disks of nodes that are gone.
    graves: BTreeMap<u64, Disk>,
    network: Network,
    catalog: Catalog,
    images: Vec<Image>,
    sealer: Sealer,
    next_event: u64,
    next_node: u64,
    commit_records_max: usize,
    is_calm: bool,
}

/// Runs one seed to its end.
pub fn run(seed: u64, bug: Option<Bug>) -> History {
    let mut world = World::new(seed, bug);
    for _ in 0..STEPS {
        for _ in 0..=world.random.below(3) {
            world.weather();
        }
        world.step();
    }
    world.calm();
    world.history
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut random = Random::new(seed);
        let count = [1, 2, 3, 3, 3, 4, 5][random.place(7)];
        let commit_records_max = [6, 20, 10_000][random.place(3)];
        let mut world = World {
            random,
            history: History { time: BEGIN_MS, ..History::default() },
            bug,
            nodes: Vec::new(),
            graves: BTreeMap::new(),
            network: Network::new(30),
            catalog: Catalog::default(),
            images: Vec::new(),
            sealer: Sealer::new(),
            next_event: 0,
            next_node: 0,
            commit_records_max,
            is_calm: false,
        };
        for _ in 0..count {
            world.add_node(MemoryBackend::new());
        }
        // They were set up together.
        for node in &mut world.nodes {
            node.catalog = world.catalog.clone();
        }
        world
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn at(&self, id: u64) -> Option<usize> {
        self.nodes.iter().position(|node| node.id == id)
    }

    fn wall(&self, at: usize) -> u64 {
        self.history.time.saturating_add_signed(self.nodes[at].skew)
    }

    /// A machine joins the site, with a store or none.
    fn add_node(&mut self, backend: MemoryBackend) -> usize {
        self.next_node += 1;
        // Ids are drawn: their order says nothing of their age.
        let id = self.random.next() >> 40 << 8 | self.next_node;
        self.catalog.add(id);
        let catalog = self.catalog.clone();
        let skew = self.draw_skew();
        let disk = Disk { sync_ms: self.random.below(20), ..Disk::default() };
        let starts_at = self.history.time;
        self.nodes.push(Node {
            id,
            backend,
            disk,
            life: usize::MAX,
            ended: None,
            skew,
            catalog,
            running: None,
            starts_at,
        });
        self.nodes.len() - 1
    }

    fn draw_skew(&mut self) -> i64 {
        const DAY_MS: u64 = 86_400_000;
        let bound = [1_000, 60_000, 3 * DAY_MS, 2_000 * DAY_MS][self.random.place(4)];
        i64::try_from(self.random.below(2 * bound)).unwrap() - i64::try_from(bound).unwrap()
    }

    fn step(&mut self) {
        self.history.time += 1 + self.random.below(STEP_MS);
        for at in 0..self.nodes.len() {
            if self.nodes[at].running.is_none() && self.nodes[at].starts_at <= self.history.time {
                self.open_node(at);
            }
        }
        self.hear();
        let mut order: Vec<usize> = (0..self.nodes.len()).collect();
        self.random.shuffle(&mut order);
        for at in order {
            self.step_node(at);
        }
        for (number, stream) in self.network.take_ended() {
            self.stream_ended(number, stream.follower, stream.source);
        }
    }

    fn step_node(&mut self, at: usize) {
        let Some(mut run) = self.nodes[at].running.take() else { return };
        self.learn(at, &mut run);
        self.beat(at, &mut run);
        self.weigh(at, &mut run);
        self.publish(at, &mut run);
        self.serve(at, &mut run);
        self.follow(at, &mut run);
        self.round(at, &mut run);
        self.weigh(at, &mut run);
        self.read(at, &mut run);
        self.note_load(at, &run);
        if run.store.failure().is_some() {
            run.failed.get_or_insert("its store failed");
        }
        match run.failed.take() {
            Some(why) => self.go_down(at, run, why),
            None => self.nodes[at].running = Some(run),
        }
    }

    /// The process ends. What it had written stays, as the machine goes on.
    fn go_down(&mut self, at: usize, run: Running, why: &'static str) {
        let node = self.nodes[at].id;
        self.history.note(Fact::Down { node, why });
        self.network.drop_node(node, &mut self.random);
        self.nodes[at].note_disk(&run);
        drop(run);
        self.nodes[at].starts_at = self.history.time + self.random.below(200);
    }

    fn note_load(&mut self, at: usize, run: &Running) {
        let node = self.nodes[at].id;
        let out = self.network.streams.values().filter(|stream| stream.source == node);
        let sent = out.map(Stream::down_bytes).max().unwrap_or(0);
        let (buffered, waiting) = (run.buffered(), run.waiting.len());
        let streams = run.serving.len() + run.following.len();
        self.history.note(Fact::Load { node, buffered, sent, waiting, streams });
    }

    /// Who has a commit of this node, of those that count.
    fn support(&self, at: usize, origin: OriginId, commit: CommitNumber) -> Support {
        let node = &self.nodes[at];
        let (others, needed) = node.catalog.replicas(node.id);
        let mut support = Support { asked: needed + 1, ..Support::default() };
        let mut count = |id: u64, disk: &Disk| {
            let of = |map: &BTreeMap<OriginId, CommitNumber>| map.get(&origin).copied().unwrap_or_default();
            if of(&disk.durable) >= commit {
                support.durable.insert(id);
            } else if of(&disk.claimed).max(of(&disk.broken)) >= commit {
                support.lied.insert(id);
            }
        };
        count(node.id, &node.disk);
        // What a twin has of the origin is its own.
        let writes =
            |other: usize| self.history.lives.get(self.nodes[other].life).is_some_and(|life| life.origin == origin);
        for id in others {
            match self.at(id) {
                Some(other) if writes(other) => {}
                Some(other) => count(id, &self.nodes[other].disk),
                None => self.graves.get(&id).into_iter().for_each(|disk| count(id, disk)),
            }
        }
        support
    }
}
