//! All of it together: sites, the links between them, and the weather.

mod down;
mod edge;
mod reader;
mod upstream;
mod weather;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use edgeway::event_log::PartitionLog;
use edgeway::links::RefusedParts;
use sled_data::{
    Commit, Compression, HLC_LOGICAL_BITS, HeaderBlock, MemoryBackend, Offset, OpenBatch, Options, OriginId,
    PartitionId, ReadError, SealInfo, Sealer, Store, TopicConfig, TopicId, TopicInfo,
};

use super::bug::Bug;
use super::history::{Acknowledged, Ended, Held, History, Life};
use crate::seeded::random::Random;
use crate::seeded::stores;
use down::Down;
use edge::Sending;
use upstream::Receiving;

/// The place of the ring among the shapes.
const RING: usize = 3;
/// Steps in bad weather, and in good weather at most.
const STEPS: usize = 160;
const CALM_STEPS: usize = 400;
/// Milliseconds since 1970 at the beginning.
const BEGIN_MS: u64 = 1_700_000_000_000;
/// How old alarms may be when they are sent on a link that drops them.
pub const DROP_AFTER_MS: u64 = 10_000;
/// The topics of each site: name, partitions.
const TOPICS: [(&str, u32); 2] = [("telemetry", 2), ("alarms", 1)];

/// A node of a site: most sites have one, some that are fed have two.
pub struct Site {
    /// The site's id.
    pub id: u64,
    pub backend: MemoryBackend,
    pub running: Option<Running>,
    /// The life that it writes, by its place in the history.
    pub life: usize,
    pub origins: BTreeSet<OriginId>,
    /// The store as it was once.
    pub image: Option<MemoryBackend>,
    /// Whether its present life goes on from an older store.
    pub was_set_back: bool,
    pub starts_at: u64,
}

/// What is in memory, and gone when the site goes down.
pub struct Running {
    pub store: Store,
    pub hybrid: u64,
    /// When it was started, and the newest stamp before.
    pub began: (u64, u64),
    pub logs: BTreeMap<PartitionId, Arc<PartitionLog>>,
    /// Rises when something is shown.
    pub shown: u64,
    /// Events that are written and not synced.
    pub open: Vec<Acknowledged>,
    /// Up to where each partition is known to be stored upstream, by link.
    pub stored: BTreeMap<(usize, PartitionId), Offset>,
    /// What links brought that does not fit, by link.
    pub refused: BTreeMap<usize, RefusedParts>,
}

/// From a site to another, or from one node of a site to the other.
pub struct Link {
    pub from: usize,
    /// The node that it stands to, or stood to last.
    pub to: usize,
    /// The nodes that it may stand to.
    pub nodes: Vec<usize>,
    /// Within a site: of which link it sends on what that has brought.
    pub within: Option<usize>,
    /// What it brings down, where it leads from upstream to an edge.
    pub down: Option<Down>,
    /// It is cut until then.
    pub cut_until: u64,
    pub session: Option<Session>,
    /// Whether alarms that are older than [`DROP_AFTER_MS`] are not sent.
    pub drops: bool,
    /// Whether what is newest goes before what was missed.
    pub newest: bool,
    /// Up to where was sent, for a planted bug.
    pub sent: BTreeMap<PartitionId, Offset>,
}

impl Link {
    fn of(from: usize, to: usize, down: Option<Down>) -> Link {
        Link {
            from,
            to,
            nodes: vec![to],
            within: None,
            down,
            cut_until: 0,
            session: None,
            drops: false,
            newest: false,
            sent: BTreeMap::new(),
        }
    }
}

/// A connection that stands.
#[derive(Default)]
pub struct Session {
    pub sending: Sending,
    pub receiving: Receiving,
    pub up: VecDeque<Vec<u8>>,
    pub down: VecDeque<Vec<u8>>,
    /// A frame was lost on it: it ends when what is on its way has come, and nothing more is said of what was stored.
    pub is_spoilt: bool,
}

/// A run's state.
pub struct World {
    pub random: Random,
    pub history: History,
    pub now: u64,
    bug: Option<Bug>,
    pub sites: Vec<Site>,
    pub links: Vec<Link>,
    next_event: u64,
    pub is_calm: bool,
    /// Edges are told that something is stored when both nodes of a site have it.
    pub has_quorum: bool,
    /// Chance of its own, where stores are set back often and what would show it goes.
    storms: Option<Random>,
}

/// Runs one seed to its end.
pub fn run(seed: u64, bug: Option<Bug>) -> History {
    let mut world = World::new(seed, bug);
    for _ in 0..STEPS {
        world.weather();
        world.storm();
        world.step();
    }
    world.calm();
    world.history
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> World {
        let mut random = Random::new(seed);
        // A chain of two, two gateways, a chain of three, a ring of three; a chain of two whose end has two nodes.
        let links =
            [vec![(0, 1)], vec![(0, 2), (1, 2)], vec![(0, 1), (1, 2)], vec![(0, 1), (1, 2), (2, 0)], vec![(0, 1)]];
        let shape = random.place(links.len());
        let (links, is_double) = (links[shape].clone(), shape == links.len() - 1);
        let count = links.iter().map(|(from, to)| *from.max(to)).max().unwrap_or(0) + 1 + usize::from(is_double);
        let has_quorum = is_double && random.chance(500);
        let mut history = History { links: links.clone(), has_quorum, ..History::default() };
        let drops: Vec<bool> = links.iter().map(|_| random.chance(500)).collect();
        let link = |((from, to), drops)| Link { drops, ..Link::of(from, to, None) };
        let mut links: Vec<Link> = links.into_iter().zip(drops).map(link).collect();
        if is_double {
            links[0].nodes.push(2);
            history.links.push((0, 2));
            links.extend([(1, 2), (2, 1)].map(|pair| Link { within: Some(0), ..link((pair, false)) }));
        }
        // By itself, so that all else of a seed is as it would be.
        let mut apart = Random::new(!seed);
        links.iter_mut().filter(|link| link.within.is_none()).for_each(|link| link.newest = apart.chance(400));
        // Where an origin may come by two links it comes by the first one alone.
        let may_come_down = !is_double && shape != RING && apart.chance(300);
        let mut world = World {
            random,
            history,
            now: BEGIN_MS,
            bug,
            sites: Vec::new(),
            links,
            next_event: 0,
            is_calm: false,
            has_quorum,
            storms: None,
        };
        let mut storms = Random::new(seed.rotate_left(32));
        world.storms = storms.chance(100).then_some(storms);
        for number in 0..count {
            world.sites.push(Site {
                id: if is_double { number.min(1) } else { number } as u64 + 1,
                backend: MemoryBackend::new(),
                running: None,
                life: usize::MAX,
                origins: BTreeSet::new(),
                image: None,
                was_set_back: false,
                starts_at: 0,
            });
        }
        if may_come_down {
            world.bring_down(&mut apart);
        }
        world
    }

    pub fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn step(&mut self) {
        self.now += 1 + self.random.below(500);
        for at in 0..self.sites.len() {
            if self.sites[at].running.is_none() && self.sites[at].starts_at <= self.now {
                self.open(at);
            }
        }
        for at in 0..self.sites.len() {
            self.write(at);
            if self.is_calm || self.random.chance(400) {
                self.sync(at);
            }
        }
        for number in 0..self.links.len() {
            self.carry(number);
        }
        (0..self.sites.len()).for_each(|at| self.read(at));
    }

    /// One turn of a link: its session is made where there is none, and both ends do what they do.
    fn carry(&mut self, number: usize) {
        if self.links[number].session.is_none() {
            let place = self.random.place(self.links[number].nodes.len());
            self.links[number].to = self.links[number].nodes[place];
        }
        let Link { from, to, cut_until, .. } = self.links[number];
        if self.sites[from].running.is_none() || self.sites[to].running.is_none() || cut_until > self.now {
            self.links[number].session = None;
            return;
        }
        if self.links[number].session.is_none() {
            if !self.is_calm && !self.random.chance(300) {
                return;
            }
            self.links[number].session = Some(Session::default());
        }
        let Some(mut session) = self.links[number].session.take() else { return };
        let (mut edge, upstream) = (self.sites[from].running.take(), self.sites[to].running.take());
        let mut upstream = upstream;
        let mut stays = false;
        if let (Some(edge), Some(upstream)) = (&mut edge, &mut upstream) {
            stays = self.send(number, edge, &mut session) && self.receive(number, upstream, &mut session);
        }
        (self.sites[from].running, self.sites[to].running) = (edge, upstream);
        if stays {
            self.links[number].session = Some(session);
        }
        self.end_lives();
    }

    /// Nodes whose life has ended start again.
    fn end_lives(&mut self) {
        for at in 0..self.sites.len() {
            let has_ended = |running: &Running| running.store.failure().is_some();
            if self.sites[at].running.as_ref().is_some_and(has_ended) {
                self.go_down(at, "its life ended");
            }
        }
    }

    fn open(&mut self, at: usize) {
        let options = Options { seed: Some(self.random.next()), reserve_bytes: 0, ..Options::default() };
        let (store, found) = stores::open(&self.sites[at].backend, options, |_| ()).expect("a store opens");
        let origin = store.origin();
        // An older image may be of a life that had ended since.
        let is_of = |life: &Life| life.origin == origin;
        let present =
            self.history.lives.get(self.sites[at].life).filter(|life| is_of(life)).map(|_| self.sites[at].life);
        if let Some(life) = present.or_else(|| self.history.lives.iter().rposition(is_of)) {
            self.sites[at].life = life;
            self.go_on(at, &store);
        } else {
            let id = self.sites[at].id;
            self.history.tell(self.now, format!("site {at} begins life {origin}"));
            self.history.lives.push(Life { origin, events: BTreeMap::new() });
            self.sites[at].life = self.history.lives.len() - 1;
            self.sites[at].was_set_back = false;
            for (number, (name, partitions)) in TOPICS.into_iter().enumerate() {
                let config = TopicConfig { partitions, compression: Compression::None, ..TopicConfig::default() };
                let info = TopicInfo { id: TopicId(id * 100 + number as u64), name: name.to_owned(), config };
                let _ = store.create_topic_as(info);
            }
        }
        self.sites[at].origins.insert(origin);
        store.sync().expect("it syncs");
        let mut running = Running {
            hybrid: found.last_hlc,
            began: (self.now, found.last_hlc),
            logs: BTreeMap::new(),
            shown: 0,
            open: Vec::new(),
            stored: BTreeMap::new(),
            refused: BTreeMap::new(),
            store,
        };
        for id in running.store.partitions() {
            let end = running.store.end_offset(id);
            running.show(id, end);
        }
        self.start_reader(at, &running);
        self.sites[at].running = Some(running);
    }

    /// The same life goes on: what was not synced is as if it had not been. One that was set back goes on apart from what it was.
    fn go_on(&mut self, at: usize, store: &Store) {
        let mut life = self.history.lives[self.sites[at].life].clone();
        for (id, events) in &mut life.events {
            events.truncate(store.end_offset(*id) as usize);
        }
        if self.history.doubtful.contains(&life.origin) {
            self.history.lives.push(life);
            self.sites[at].life = self.history.lives.len() - 1;
        } else {
            let place = self.sites[at].life;
            self.history.lives[place] = life;
        }
    }

    fn write(&mut self, at: usize) {
        if self.is_calm || !self.random.chance(500) {
            return;
        }
        let Some(mut running) = self.sites[at].running.take() else { return };
        running.hybrid = (self.now << HLC_LOGICAL_BITS).max(running.hybrid + 1);
        let hlc = running.hybrid;
        let mut commit = Commit { hlc, ..Commit::default() };
        let life = self.sites[at].life;
        let origin = running.store.origin();
        let mut touched = BTreeMap::new();
        for _ in 0..=self.random.below(3) {
            let topic = self.random.place(TOPICS.len());
            let index = self.random.below(u64::from(TOPICS[topic].1)) as u32;
            let topic = TopicId(self.sites[at].id * 100 + topic as u64);
            self.history.written.insert(self.next_event, hlc >> HLC_LOGICAL_BITS);
            touched.entry(PartitionId { origin, topic, index }).or_insert_with(Vec::new).push(self.next_event);
            self.next_event += 1;
        }
        for (id, events) in touched {
            let base = running.store.end_offset(id);
            commit.appends.push(seal(id, base, hlc, &events));
            self.history.lives[life].events.entry(id).or_default().extend(&events);
            running.open.extend(events.iter().zip(base..).map(|(event, offset)| Acknowledged {
                event: *event,
                partition: id,
                offset,
                site: at,
            }));
        }
        running.store.commit(&commit).expect("it is taken");
        if self.has(Bug::SendsUnsynced) {
            running.show_open();
        }
        self.sites[at].running = Some(running);
    }

    fn sync(&mut self, at: usize) {
        let Some(running) = &mut self.sites[at].running else { return };
        running.store.sync().expect("it syncs");
        running.show_open();
        self.history.acknowledged.append(&mut running.open);
    }

    /// The process ends, or its machine.
    pub fn go_down(&mut self, at: usize, why: &'static str) {
        self.history.tell(self.now, format!("site {at}: {why}"));
        self.history.met.insert(why);
        self.sites[at].running = None;
        self.sites[at].starts_at = self.now + self.random.below(2_000);
        for link in self.links.iter_mut().filter(|link| link.from == at || link.to == at) {
            link.session = None;
        }
    }

    /// Nothing fails any more, nobody writes, and all comes to rest.
    fn calm(&mut self) {
        self.is_calm = true;
        for link in &mut self.links {
            (link.cut_until, link.session) = (0, None);
        }
        let mut still = (Vec::new(), 0);
        for _ in 0..CALM_STEPS {
            self.step();
            let ends = |site: &Site| site.running.as_ref().map(Running::ends);
            let now: Vec<_> = self.sites.iter().map(ends).collect();
            still = if now == still.0 { (now, still.1 + 1) } else { (now, 0) };
            // Longer than what was refused is left alone.
            if still.1 > 12 {
                break;
            }
            self.now += 10_000;
        }
        self.sites.iter().map(ended).collect::<Vec<_>>().into_iter().for_each(|ended| self.history.sites.push(ended));
    }
}

impl Running {
    fn ends(&self) -> Vec<(PartitionId, Offset)> {
        let ahead = |id| self.store.parts_ahead(id).iter().map(|part| part.end).sum::<Offset>();
        let end = |id| ahead(id) + self.store.end_offset(id);
        self.store.partitions().into_iter().map(|id| (id, end(id))).collect()
    }

    /// Up to where a partition is synced, and shown.
    pub fn end(&self, id: PartitionId) -> Offset {
        self.logs.get(&id).map_or(0, |log| log.visible_end())
    }

    pub fn show(&mut self, id: PartitionId, end: Offset) {
        let Some(topic) = self.store.topics().into_iter().find(|topic| topic.id == id.topic) else { return };
        let log = self.logs.entry(id).or_insert_with(|| Arc::new(PartitionLog::foreign(id, &topic, 0)));
        log.show_up_to(end);
        log.show_ahead(self.store.parts_ahead(id).iter().map(|part| (part.from, part.end)).collect());
        self.shown += 1;
    }

    fn show_open(&mut self) {
        let ends: BTreeMap<PartitionId, Offset> =
            self.open.iter().map(|event| (event.partition, event.offset + 1)).collect();
        ends.into_iter().for_each(|(id, end)| self.show(id, end));
    }
}

fn seal(partition: PartitionId, base_offset: Offset, hlc: u64, events: &[u64]) -> sled_data::SealedBatch {
    let mut open = OpenBatch::new();
    for event in events {
        open.push(1_000, None, Some(&event.to_be_bytes()), &HeaderBlock::new()).expect("it fits");
    }
    let info = SealInfo { partition, base_offset, hlc, compression: Compression::None, hops: 0, term: 0, flags: 0 };
    open.seal(info, &mut Sealer::new())
}

/// What a site holds at the end.
fn ended(site: &Site) -> Ended {
    let mut partitions = BTreeMap::new();
    if let Some(Running { store, .. }) = &site.running {
        let topics: BTreeMap<TopicId, String> =
            store.topics().into_iter().map(|topic| (topic.id, topic.name)).collect();
        for id in store.partitions() {
            let reach = store.reach(id);
            let mut held = Held {
                start: reach.start,
                end: reach.end,
                digest: reach.digest,
                holes: store.holes(id),
                events: Vec::new(),
                link: store.linked_origin(id.origin).map(|linked| linked.link),
                path: store.linked_origin(id.origin).map(|linked| linked.path),
                topic: topics.get(&id.topic).cloned().unwrap_or_default(),
            };
            let mut next = reach.start;
            while next < reach.end {
                match store.read(id, next, usize::MAX) {
                    Ok(batches) => {
                        for batch in batches {
                            next = batch.next_offset();
                            let records = batch.decompress().expect("it was checked");
                            let event = |record: &sled_data::RecordRef<'_>| {
                                u64::from_be_bytes(record.value.expect("a value").try_into().expect("a number"))
                            };
                            held.events
                                .extend(records.iter().map(|record| (records.offset_of(&record), event(&record))));
                        }
                    }
                    Err(ReadError::Trimmed { start, .. }) => next = start,
                    Err(error) => panic!("{error}"),
                }
            }
            partitions.insert(id, held);
        }
    }
    Ended { id: site.id, origins: site.origins.clone(), partitions }
}
