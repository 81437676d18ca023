//! Nodes of a site without a network: commits are carried by hand, and the site's decisions are made by the test.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, OnceLock};

use sled_data::{MemoryBackend, Offset, Options, OriginId, PartitionId, Store, TopicConfig};

use crate::clock::Clock;
use crate::event_log::{Config, EventLog, NO_HEADERS, NewEvent};
use crate::plugin_host::carry::Chunk;
use crate::plugin_host::charge::{CHARGES_TREE, Charge, HeadV1, decode};
use crate::plugin_host::charge_index::ChargeIndex;
use crate::plugin_host::counters::PluginCounters;
use crate::plugin_host::duties::{Assignment, Duties, Site, TakeOver, duties};
use crate::plugin_host::engine::Ticking;
use crate::plugin_host::fault::Fault;
use crate::plugin_host::manifest::Manifest;
use crate::plugin_host::overridden::Verdict;
use crate::plugin_host::registry::StoredState;
use crate::plugin_host::round::{PluginReader, reader_name, store_chunk};
use crate::plugin_host::sandbox::{Sandbox, Template};
use crate::plugin_host::state::PendingState;
use crate::plugin_host::taking_up::TakingUp;
use crate::plugin_host::test_guest::hostile;
use crate::transport::NodeId;

pub const PLUGIN: &str = "hostile";
const MANIFEST: &str = "
name = 'hostile'
topics = ['in']
from = 'start'
[grants]
emit = ['out']
commands = ['cool']
state = true
twins = 'set'
[limits]
call_ms = 10000
";

fn template(scope: &str) -> Arc<Template> {
    static TICKING: OnceLock<(Arc<Ticking>, wasmtime::component::Component)> = OnceLock::new();
    let (ticking, component) = TICKING.get_or_init(|| {
        let ticking = Arc::new(Ticking::start().unwrap());
        let component = wasmtime::component::Component::from_binary(ticking.engine(), &hostile()).unwrap();
        (ticking, component)
    });
    let manifest = Arc::new(Manifest::parse(&format!("scope = '{scope}'{MANIFEST}")).unwrap());
    Arc::new(Template::new(Arc::clone(ticking), component, manifest, Arc::new(|| 1_000_000)).unwrap())
}

/// One node: its log, its plugin, and somebody who reads what the plugin derives.
pub struct Node {
    disk: Arc<MemoryBackend>,
    pub log: Arc<EventLog>,
    pub index: Arc<ChargeIndex>,
    pub duties: Arc<Duties>,
    pub plugin: PluginReader,
    sandbox: Sandbox,
    pub reader: Reader,
}

impl Node {
    /// The term of the plugin's charge over the node's own origin.
    pub fn plugin_term(&self) -> Option<u64> {
        let key = Charge::Origin(self.log.store().origin()).key(PLUGIN);
        let value = self.log.state_get(CHARGES_TREE, &key).unwrap()?;
        decode::<HeadV1>(&value).unwrap().term
    }
}

/// Reads derived events as they come, and counts those that count.
#[derive(Default)]
pub struct Reader {
    cursors: HashMap<PartitionId, Offset>,
    pub counts: BTreeMap<String, usize>,
}

impl Reader {
    pub fn poll(&mut self, log: &EventLog, index: &ChargeIndex) {
        for id in log.partitions_of(&log.topic("out").unwrap()).iter().map(|partition| partition.id()) {
            let view = index.view().unwrap();
            let cursor = self.cursors.entry(id).or_default();
            for batch in log.read(id, *cursor, 16 << 20).unwrap() {
                for (offset, record) in batch.events_from(*cursor) {
                    match view.as_ref().map_or(Verdict::Counts, |view| view.verdict(id.origin, record.headers)) {
                        Verdict::NotYet => break,
                        Verdict::Overridden => {}
                        Verdict::Counts => {
                            let value = String::from_utf8(record.value.unwrap().to_vec()).unwrap();
                            *self.counts.entry(value).or_default() += 1;
                        }
                    }
                    *cursor = offset + 1;
                }
                if *cursor < batch.next_offset() {
                    break;
                }
            }
        }
    }
}

/// A site of nodes 0, 1, 2, ...
pub struct Lab {
    pub nodes: Vec<Node>,
    pub site: Site,
    /// The lives of each node, the oldest first.
    pub lives: Vec<Vec<OriginId>>,
    pub published: Vec<String>,
    /// What was set and not asked for yet: by an event of which node, under which key.
    set: Vec<(usize, &'static str, String)>,
    runtime: tokio::runtime::Runtime,
    scope: &'static str,
}

fn open(node: usize, disk: &Arc<MemoryBackend>) -> Arc<EventLog> {
    let options = Options { seed: Some(node as u64 + 10), ..Options::default() };
    let (store, recovered) = Store::on(Arc::clone(disk) as _, options).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, Config::default()).unwrap();
    log.set_site(1);
    log
}

/// Takes a copy of an origin, as first contact does, where the source has all of it.
fn copy(of: OriginId, source: &EventLog, target: &EventLog) {
    let (from, store) = (source.store(), target.store());
    from.sync().unwrap();
    if from.synced_commit_of(of).0 == 0 {
        return;
    }
    let head = match from.copy_head(of) {
        Err(sled_data::ReadError::NotWhole(_)) => return,
        head => head.unwrap(),
    };
    store.begin_copy(&head).unwrap();
    let (parts, _) = from.copy_parts(&head, None, &|_| 0, usize::MAX).unwrap();
    store.add_copy(of, &parts).unwrap();
    store.end_copy(of, head.commit).unwrap();
    store.sync().unwrap();
    target.show_origin(of);
}

pub fn id(node: usize) -> NodeId {
    NodeId(node as u64 + 1)
}

impl Lab {
    pub fn new(nodes: usize, scope: &'static str) -> Lab {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let mut lab = Lab {
            nodes: Vec::new(),
            site: Site::default(),
            lives: Vec::new(),
            published: Vec::new(),
            set: Vec::new(),
            runtime,
            scope,
        };
        for node in 0..nodes {
            let disk = Arc::new(MemoryBackend::new());
            let log = open(node, &disk);
            for (topic, partitions) in [("in", 2), ("out", 1), (devices::command::COMMANDS_TOPIC, 1)] {
                log.ensure_topic(topic, Some(TopicConfig { partitions, ..TopicConfig::default() })).unwrap();
            }
            lab.site.lives.insert(id(node), log.store().origin());
            lab.site.here.insert(id(node));
            lab.lives.push(vec![log.store().origin()]);
            let index = ChargeIndex::new(Arc::clone(&log));
            index.set_running(PLUGIN, true);
            let (plugin, sandbox) = lab.plugin(&log, &index);
            let duties = Arc::new(Duties::alone());
            lab.nodes.push(Node { disk, log, index, duties, plugin, sandbox, reader: Reader::default() });
        }
        lab.decide();
        lab
    }

    fn plugin(&self, log: &Arc<EventLog>, index: &Arc<ChargeIndex>) -> (PluginReader, Sandbox) {
        let template = template(self.scope);
        let plugin = PluginReader::new(Arc::clone(log), Arc::clone(template.manifest()), Arc::clone(index));
        let source = StoredState { log: Arc::clone(log), plugin: PLUGIN.to_owned() };
        (plugin, Sandbox::new(template, PendingState::new(Arc::new(source))))
    }

    pub fn manifest(&self) -> Arc<Manifest> {
        Arc::clone(template(self.scope).manifest())
    }

    pub fn life(&self, node: usize) -> OriginId {
        self.nodes[node].log.store().origin()
    }

    pub fn is_here(&self, node: usize) -> bool {
        self.site.here.contains(&id(node))
    }

    /// Tells the nodes that are not cut off what was decided.
    pub fn decide(&mut self) {
        let followed = |node: &Node| node.log.store().followed().into_iter().map(|(life, _)| life).collect();
        let held: Vec<BTreeSet<OriginId>> = self.nodes.iter().map(followed).collect();
        for (number, node) in self.nodes.iter_mut().enumerate() {
            if self.site.here.contains(&id(number)) {
                let ended = node.log.lives_before(|life| {
                    let by = self.site.take_overs.get(&life).map(|record| record.by);
                    by.is_some_and(|by| by == id(number) || held.iter().any(|held| held.contains(&life)))
                });
                let is_known = self.site.lives.get(&id(number)) == Some(&node.log.store().origin());
                let chains = node.log.chains(id(number).0, &ended);
                node.duties = Arc::new(duties(&Site { me: id(number), ended, chains, is_known, ..self.site.clone() }));
                node.index.set_duties(&node.duties);
                node.plugin.set_duties(&node.duties);
            }
        }
    }

    /// Appends events to a node's own topic `in`, under this key.
    pub fn publish(&mut self, node: usize, key: &str, values: &[String]) {
        let log = &self.nodes[node].log;
        let topic = log.topic("in").unwrap();
        let ticket = {
            let mut open = log.lock();
            for value in values {
                let event = NewEvent {
                    timestamp_ms: 1_000,
                    key: Some(key.as_bytes()),
                    value: Some(value.as_bytes()),
                    headers: &NO_HEADERS,
                    extra: &NO_HEADERS,
                    fanned_out: false,
                };
                open.append_keyed(&topic, &event).unwrap();
            }
            open.ticket()
        };
        log.durable_blocking(ticket).unwrap();
        self.published.extend_from_slice(values);
    }

    pub fn publish_new(&mut self, node: usize, count: usize) {
        let from = self.published.len();
        let values: Vec<String> = (from..from + count).map(|n| format!("S{n}")).collect();
        let key = if from.is_multiple_of(2) { "pump" } else { "valve" };
        self.publish(node, key, &values);
        self.set.extend(values.into_iter().map(|value| (node, key, value)));
    }

    /// Asks for state that an earlier event of the same partition has set; each is asked for once.
    pub fn publish_get(&mut self, pick: usize) {
        if !self.set.is_empty() {
            let (node, key, value) = self.set.swap_remove(pick % self.set.len());
            self.publish(node, key, &[value.replacen('S', "G", 1)]);
        }
    }

    /// Lets a node's plugin do what there is.
    pub fn work(&mut self, node: usize) {
        while self.round(node) {}
    }

    pub fn round(&mut self, node: usize) -> bool {
        let Node { plugin, sandbox, duties, .. } = &mut self.nodes[node];
        plugin.set_duties(duties);
        sandbox.start().unwrap();
        plugin.round(sandbox, &PluginCounters::default(), &AtomicBool::new(false)).unwrap()
    }

    /// A node's plugin is begun anew.
    pub fn restart(&mut self, node: usize) {
        let Node { log, index, .. } = &self.nodes[node];
        let (plugin, sandbox) = self.plugin(log, index);
        (self.nodes[node].plugin, self.nodes[node].sandbox) = (plugin, sandbox);
    }

    /// A node is killed and begins a new life of its store, of which the site does not know yet.
    pub fn begins_anew(&mut self, node: usize) {
        let durability = sled_data::Durability::Memory;
        let old = &self.nodes[node];
        old.log.ensure_topic("loose", Some(TopicConfig { durability, ..TopicConfig::default() })).unwrap();
        old.log.close();
        let (disk, ended) = (Arc::clone(&old.disk), old.log.store().origin());
        let log = open(node, &disk);
        assert_ne!(log.store().origin(), ended);
        self.lives[node].push(log.store().origin());
        let index = ChargeIndex::new(Arc::clone(&log));
        index.set_running(PLUGIN, true);
        let (plugin, sandbox) = self.plugin(&log, &index);
        let duties = Arc::new(Duties::default());
        let reader = Reader::default();
        self.nodes[node] = Node { disk, log, index, duties, plugin, sandbox, reader };
        self.decide();
    }

    /// A node is killed, begins a new life, and the site knows that where it is not lost; what it has had back of the life before is decided anew.
    pub fn is_killed(&mut self, node: usize) {
        let (before, is_here) = (self.life(node), self.is_here(node));
        // What another has read of its life before has its state there.
        self.set.retain(|(of, ..)| *of != node);
        self.begins_anew(node);
        if is_here {
            if let Some(record) = self.site.take_overs.get(&before).cloned() {
                self.decide_anew(before, record, node);
            }
            self.says_where(node);
        }
    }

    fn decide_anew(&mut self, life: OriginId, record: TakeOver, by: usize) {
        let from_commit = self.nodes[by].log.store().last_commit_of(life);
        let (term, before) = (record.term + 2, record.before.into_iter().chain([(record.by, record.term)]).collect());
        self.site.take_overs.insert(life, TakeOver { from_commit, by: id(by), term, before });
    }

    /// A node takes a copy of its life before from another one that has all of it: it follows that life from then on.
    pub fn follows_its_own(&self, node: usize) {
        let store = self.nodes[node].log.store();
        let (life, _) = store.ended_life().unwrap();
        let head = store.copy_head(life).unwrap();
        store.begin_copy(&head).unwrap();
        store.end_copy(life, head.commit).unwrap();
        store.sync().unwrap();
        assert!(self.nodes[node].log.others().contains(&life));
    }

    /// The site learns which life a node lives now.
    pub fn says_where(&mut self, node: usize) {
        let life = self.life(node);
        self.site.lives.insert(id(node), life);
        self.decide();
    }

    /// A node takes up its duties and dies after so many commits; says how many there would have been.
    pub fn crash_while_taking_up(&mut self, node: usize, commits: usize) -> usize {
        let Node { log, index, duties, .. } = &self.nodes[node];
        let template = template(self.scope);
        let mut asked = 0;
        let taking = TakingUp { log, index, manifest: template.manifest(), duties };
        let result = taking.run(&mut |chunk: Chunk| {
            asked += 1;
            if asked > commits {
                return Err(Fault::Stopped);
            }
            store_chunk(log, &reader_name(PLUGIN), &chunk)?;
            index.refresh();
            Ok(())
        });
        assert_eq!(result.is_err(), asked > commits);
        self.restart(node);
        asked
    }

    /// Carries up to `commits` commits of an origin from a node to another. One that began with what a life before has left is taken as a copy first.
    pub fn carry(&mut self, of: OriginId, from: usize, to: usize, commits: usize) {
        let is_new = self.nodes[to].log.store().followed_commit(of).0 == 0;
        self.carry_commits(of, from, to, commits);
        let store = self.nodes[to].log.store();
        if is_new && store.followed_commit(of).0 > 0 {
            let writer = self.lives.iter().position(|lives| lives.contains(&of)).unwrap();
            store.set_follow_node(of, id(writer).0).unwrap();
            // It may know more of a node's lives.
            self.decide();
        }
    }

    fn carry_commits(&mut self, of: OriginId, from: usize, to: usize, commits: usize) {
        let (source, target) = (&self.nodes[from].log, &self.nodes[to].log);
        if target.store().origin() == of || target.ended_lives().contains(&of) {
            return;
        }
        // Nobody is told of one that has ended without events, nor takes it back.
        if [source, target].iter().any(|log| log.spent_lives().iter().any(|(life, _)| *life == of)) {
            return;
        }
        let is_first = self.lives.iter().any(|lives| lives.first() == Some(&of));
        if commits > 0 && !is_first && target.store().followed_commit(of).0 == 0 {
            return copy(of, source, target);
        }
        let mut left = commits;
        while left > 0 {
            let next = target.store().followed_commit(of).next();
            if next > source.store().synced_commit_of(of) {
                return;
            }
            let mut found = match source.store().commits_to_ship(of, next, 1 << 20) {
                Err(sled_data::ReadError::CommitsTrimmed { .. }) => return copy(of, source, target),
                found => found.unwrap(),
            };
            found.truncate(left);
            left -= found.len();
            self.runtime.block_on(target.follow(found)).unwrap();
        }
    }

    /// A node has something in the life that it writes, as each has of the consensus.
    fn says_something(&self, node: usize) {
        let log = &self.nodes[node].log;
        if log.store().last_commit_of(log.store().origin()).0 == 0 {
            let ticket = {
                let mut open = log.lock();
                open.put_state("consensus", b"", Some(b""));
                open.ticket()
            };
            log.durable_blocking(ticket).unwrap();
        }
    }

    /// Every node that is here gets all that others have, and does what there is, until nothing changes.
    pub fn settle(&mut self) {
        (0..self.nodes.len()).for_each(|node| self.says_something(node));
        for _ in 0..6 {
            let here: Vec<usize> = (0..self.nodes.len()).filter(|node| self.is_here(*node)).collect();
            for (from, to) in here.iter().flat_map(|from| here.iter().map(move |to| (*from, *to))) {
                // Of lives before as well.
                for of in self.lives.iter().flatten().copied().collect::<Vec<OriginId>>() {
                    self.carry(of, from, to, usize::MAX);
                }
            }
            for node in here {
                self.work(node);
                self.poll(node);
            }
        }
    }

    pub fn poll(&mut self, node: usize) {
        let Node { reader, log, index, .. } = &mut self.nodes[node];
        reader.poll(log, index);
    }

    /// The site loses a node: the others level up, and `by` reads what it read.
    pub fn lose(&mut self, lost: usize, by: usize) {
        self.site.here.remove(&id(lost));
        let here: Vec<usize> = (0..self.nodes.len()).filter(|node| self.is_here(*node)).collect();
        let has = |lab: &Lab, node: usize, of: OriginId| lab.nodes[node].log.store().last_commit_of(of);
        for of in self.lives.iter().flatten().copied().collect::<BTreeSet<_>>() {
            let best = *here.iter().max_by_key(|node| has(self, **node, of)).unwrap();
            for to in &here {
                self.carry(of, best, *to, usize::MAX);
            }
        }
        // What it had of lives that nobody writes any more.
        let present: BTreeSet<OriginId> = self.site.lives.values().copied().collect();
        for (life, record) in self.site.take_overs.clone() {
            if !present.contains(&life) && record.by == id(lost) {
                self.decide_anew(life, record, by);
            }
        }
        // As far as the site knows.
        let lives: Vec<(usize, OriginId)> =
            (0..self.nodes.len()).map(|node| (node, self.site.lives[&id(node)])).collect();
        for (node, life) in lives {
            let record = self.site.take_overs.get(&life).cloned();
            let read_by_lost = record.as_ref().is_some_and(|record| record.by == id(lost));
            let by = if node != lost && self.is_here(node) { node } else { by };
            if node == lost || read_by_lost {
                let term = record.as_ref().map_or(1, |record| record.term + 2);
                let from_commit = match &record {
                    Some(record) if node != lost => record.from_commit,
                    _ => has(self, by, life),
                };
                let with_last =
                    |record: TakeOver| record.before.into_iter().chain([(record.by, record.term)]).collect();
                let before = record.map(with_last).unwrap_or_default();
                self.site.take_overs.insert(life, TakeOver { from_commit, by: id(by), term, before });
            }
        }
        self.decide();
    }

    /// A node comes back with all that it has; whoever read there begins anew.
    pub fn comes_back(&mut self, node: usize) {
        self.site.here.insert(id(node));
        self.site.lives.insert(id(node), self.life(node));
        self.nodes[node].reader = Reader::default();
        self.decide();
    }

    pub fn assign(&mut self, index: u32, node: usize) {
        let key = (PLUGIN.to_owned(), index);
        let last = self.site.assignments.get(&key).cloned();
        let term = last.as_ref().map_or(1, |record| record.term + 1);
        let with_last = |record: Assignment| record.before.into_iter().chain([(record.node, record.term)]).collect();
        let record = Assignment { node: id(node), term, before: last.map(with_last).unwrap_or_default() };
        self.site.assignments.insert(key, record);
        self.decide();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.nodes.iter().for_each(|node| node.log.close());
    }
}
