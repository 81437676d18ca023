//! Nodes of a site in one process: each with a store of its own, and ways between them that can be cut, slow or lossy.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::*;

/// How long anything may take.
const LONG: Duration = Duration::from_secs(30);

/// All ways of a site.
#[derive(Default)]
pub struct Ways {
    nodes: Mutex<BTreeMap<NodeId, Arc<Catalog>>>,
    /// Who does not reach whom.
    cut: Mutex<BTreeSet<(NodeId, NodeId)>>,
    /// Milliseconds that each question takes.
    pub delay_ms: AtomicU64,
    /// Of a hundred questions, and of a hundred answers, so many are lost.
    pub lost_percent: AtomicU64,
    /// Draws what is lost.
    draw: AtomicU64,
    /// Whose questions are held up.
    held: Mutex<Option<(NodeId, Arc<Gate>)>>,
    /// Whether nodes are of a program that cannot be asked whether it hears a leader.
    pub are_older: AtomicBool,
}

/// Where a node's questions are held up.
#[derive(Default)]
pub struct Gate {
    /// A question has come.
    pub came: Notify,
    go: Notify,
}

impl Ways {
    pub fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.lock().contains(&(from, to))
    }

    /// What a node of an older program answers to what it does not know.
    fn unreadable(&self, body: &[u8]) -> Option<Vec<u8>> {
        // The version, the group as a number of seven bits a byte, the kind.
        let group = body.iter().skip(1).position(|byte| *byte < 0x80)?;
        let is_unknown = self.are_older.load(Ordering::Relaxed) && body.get(group + 2) == Some(&4);
        is_unknown.then(|| vec![1, 7, 0])
    }

    fn is_lost(&self) -> bool {
        let drawn = self.draw.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 33;
        drawn % 100 < self.lost_percent.load(Ordering::Relaxed)
    }

    /// Cuts the ways between two groups of nodes.
    pub fn cut(&self, one: &[&Node], other: &[&Node]) {
        let mut cut = self.cut.lock();
        for (a, b) in one.iter().flat_map(|a| other.iter().map(move |b| (a.id, b.id))) {
            cut.extend([(a, b), (b, a)]);
        }
    }

    /// Nothing comes any more from one node to another.
    pub fn cut_from(&self, from: &Node, to: &Node) {
        self.cut.lock().insert((from.id, to.id));
    }

    /// Holds up what a node asks, until it is released.
    pub fn hold(&self, asking: &Node) -> Arc<Gate> {
        let gate = Arc::new(Gate::default());
        *self.held.lock() = Some((asking.id, Arc::clone(&gate)));
        gate
    }

    /// What was held up goes on.
    pub fn release(&self, gate: &Gate) {
        *self.held.lock() = None;
        gate.go.notify_waiters();
    }

    /// Every node reaches every other one.
    pub fn heal(&self) {
        self.cut.lock().clear();
    }
}

struct Way {
    ways: Arc<Ways>,
    me: NodeId,
}

impl Ask for Way {
    fn ask(&self, node: NodeId, body: Vec<u8>) -> Asked<'_> {
        let no_answer = |text: &str, may_be_asked| NoAnswer { text: text.to_owned(), may_be_asked };
        Box::pin(async move {
            assert!(body.len() <= BODY_BYTES_MAX);
            let held =
                self.ways.held.lock().as_ref().filter(|(held, _)| *held == self.me).map(|(_, gate)| Arc::clone(gate));
            if let Some(gate) = held {
                let going = gate.go.notified();
                gate.came.notify_one();
                going.await;
            }
            tokio::time::sleep(Duration::from_millis(self.ways.delay_ms.load(Ordering::Relaxed))).await;
            let reached = self.ways.is_open(self.me, node) && !self.ways.is_lost();
            let catalog = self.ways.nodes.lock().get(&node).cloned().filter(|_| reached);
            let catalog = catalog.ok_or_else(|| no_answer("no way", false))?;
            // Who asks may go away; the other node works at it all the same.
            let from = self.me;
            let unreadable = self.ways.unreadable(&body);
            let answer = match unreadable {
                Some(unreadable) => unreadable,
                None => tokio::spawn(async move { catalog.answer(from, &body).await }).await.unwrap(),
            };
            let reached = self.ways.is_open(node, self.me) && !self.ways.is_lost();
            if reached { Ok(answer) } else { Err(no_answer("the answer was lost", true)) }
        })
    }
}

/// A node of a site.
pub struct Node {
    pub id: NodeId,
    pub backend: Arc<MemoryBackend>,
    pub log: Arc<EventLog>,
    pub catalog: Arc<Catalog>,
}

/// Times for tests.
pub fn fast() -> Timing {
    let beat = Duration::from_millis(150);
    Timing { beat, propose_wait: Duration::from_secs(3), ..Timing::default() }
}

pub struct Site {
    pub ways: Arc<Ways>,
    pub timing: Timing,
}

impl Site {
    pub fn new(timing: Timing) -> Self {
        Self { ways: Arc::default(), timing }
    }

    /// Starts a node on a store. The first one of a site founds it.
    pub fn start_on(&self, id: u64, backend: Arc<MemoryBackend>) -> Node {
        let log = open_log(&backend);
        self.start_with(id, backend, log)
    }

    /// Starts a node on a log that is open.
    pub fn start_with(&self, id: u64, backend: Arc<MemoryBackend>, log: Arc<EventLog>) -> Node {
        self.start_knowing(LEVEL_MAX, id, backend, log)
    }

    /// The same for a node that knows no higher level.
    pub fn start_knowing(&self, level_max: u16, id: u64, backend: Arc<MemoryBackend>, log: Arc<EventLog>) -> Node {
        self.open(id, (backend, log), |opening| opening.level_max = level_max)
    }

    /// Starts a node on a store that was told to be older than it was.
    pub fn start_restored(&self, id: u64, backend: Arc<MemoryBackend>) -> Node {
        let log = open_log(&backend);
        self.open(id, (backend, log), |opening| opening.is_restored = true)
    }

    fn open(
        &self,
        id: u64,
        (backend, log): (Arc<MemoryBackend>, Arc<EventLog>),
        change: impl FnOnce(&mut Opening),
    ) -> Node {
        let id = NodeId(id);
        let start = match id.0 {
            1 => Start::Alone(Founder { name: "n1".into(), address: "n1:1".into(), version: "1".into() }),
            _ => Start::Joining,
        };
        let way = Arc::new(Way { ways: Arc::clone(&self.ways), me: id });
        let mut opening = Opening { me: Some(id), start, way, timing: self.timing.clone(), ..Opening::default() };
        change(&mut opening);
        let catalog = Catalog::open_as(Arc::clone(&log), Config::default(), opening).unwrap();
        self.ways.nodes.lock().insert(id, Arc::clone(&catalog));
        Node { id, backend, log, catalog }
    }

    pub fn start(&self, id: u64) -> Node {
        self.start_on(id, Arc::new(MemoryBackend::new()))
    }

    /// Stops a node in order; gives its store.
    pub async fn stop(&self, node: Node) -> Arc<MemoryBackend> {
        self.ways.nodes.lock().remove(&node.id);
        node.catalog.close().await;
        node.log.close();
        node.backend
    }

    /// Nodes 1 to `count`, let in one after another by the first.
    pub async fn of(timing: Timing, count: u64) -> (Self, Vec<Node>) {
        let site = Self::new(timing);
        let mut nodes = vec![site.start(1)];
        for id in 2..=count {
            nodes.push(site.start(id));
            nodes[0].change(member(id)).await.unwrap();
        }
        let voters = [0, 1, 1, 3, 3, 5][count as usize];
        site.until_voters(&nodes, voters).await;
        until("all know the site", || nodes.iter().all(|node| node.catalog.members().len() == nodes.len())).await;
        (site, nodes)
    }

    /// So many vote, and need none of those who voted before.
    pub async fn until_voters(&self, nodes: &[Node], count: usize) {
        let is_done = |node: &Node| node.voters().len() == count && node.catalog.consensus.has_one_set_of_voters();
        until(&format!("{count} vote"), || nodes.iter().all(is_done)).await;
    }
}

impl Node {
    pub async fn change(&self, change: Change) -> Result<Applied, Refusal> {
        self.catalog.propose(change, "test").await
    }

    /// Takes a node out, whose log this one reads on.
    pub async fn take_out(&self, gone: NodeId) -> Result<Applied, Refusal> {
        let members = self.catalog.members();
        let origin = members.iter().find(|member| member.node == gone).and_then(|member| member.origin).unwrap();
        self.change(Change::TakeOver { origin, from_commit: 0, by: self.id, term: 1 }).await?;
        self.change(Change::RemoveMember { node: gone }).await
    }

    pub fn voters(&self) -> Vec<NodeId> {
        let members = self.catalog.members();
        members.iter().filter(|member| member.voter).map(|member| member.node).collect()
    }

    pub fn devices(&self) -> Vec<String> {
        self.catalog.page(None, 100_000).iter().map(|(name, _)| name.to_string()).collect()
    }

    /// All that is set, as it is stored.
    pub fn stored(&self) -> Vec<(Vec<u8>, Vec<u8>)> {
        self.log.state_scan(CATALOG_TREE, b"", None, 100_000).unwrap()
    }

    /// What was done, by the events on the topic of changes.
    pub fn acts(&self, act: &str) -> Vec<serde_json::Value> {
        events(&self.log, CATALOG_TOPIC).into_iter().filter(|event| event["act"] == act).collect()
    }
}

pub fn member(id: u64) -> Change {
    let (name, address) = (format!("n{id}"), format!("n{id}:1"));
    Change::AddMember(NewMember { node: NodeId(id), name, address, origin: Some(id), version: "1".into() })
}

pub fn set_state(id: u64, state: MemberState) -> Change {
    let update = MemberUpdate { state: Some(state), ..MemberUpdate::default() };
    Change::UpdateMember { node: NodeId(id), update }
}

/// The one that leads, by its own word, once all agree.
pub async fn leader(nodes: &[Node]) -> usize {
    let started = Instant::now();
    loop {
        let known: BTreeSet<_> = nodes.iter().map(|node| node.catalog.leader()).collect();
        if let Some(leads) = nodes.iter().position(|node| node.catalog.is_leader()).filter(|_| known.len() == 1) {
            return leads;
        }
        let seen = || nodes.iter().map(|node| node.catalog.consensus_status()).collect::<Vec<_>>();
        assert!(started.elapsed() < LONG, "not in time: all know who leads: {:#?}", seen());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn until(what: &str, mut done: impl FnMut() -> bool) {
    let started = Instant::now();
    while !done() {
        assert!(started.elapsed() < LONG, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// All nodes come to say the same: by their stores, and by what they know, which follows a whole state that is stored.
pub async fn until_same(nodes: &[&Node]) {
    let said = |node: &Node| (node.stored(), node.devices());
    until("all say the same", || nodes.iter().all(|node| said(node) == said(nodes[0]))).await;
}
