//! Nodes of a site in one process, with real endpoints on the loopback interface.

mod asks;
mod called_copy;
mod joined;
mod many;
mod quiet;
mod raw;
mod strangers;
mod together;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::watch;

use super::*;
use crate::replication::Pending;
use crate::transport::{NodeKey, site_endpoint};

/// Longer than anything takes.
const LONG: Duration = Duration::from_secs(40);
const SITE: u64 = 0x51;

/// A test that wants nothing of time but that it is short.
fn fast() -> Config {
    Config { heartbeat_ms: 50, lost_after_ms: 400, ..Config::default() }
}

/// What an ask or a long stream of these kinds is answered with.
const ECHO: u8 = 1;
const NEVER: u8 = 2;
const TOO_LONG: u8 = 3;

/// What a node's rooms would hear.
#[derive(Default)]
struct Ear {
    notices: Mutex<Vec<Notice>>,
    heard: Mutex<Vec<(NodeId, Heartbeat)>>,
    /// Nodes that were taken out.
    removed: Mutex<Vec<NodeId>>,
}

impl Serve for Ear {
    fn pulse(&self) -> Pulse {
        Pulse { synced: 7, quorum: 5, hybrid: 9 }
    }

    fn answer<'a>(&'a self, from: NodeId, kind: u8, mut body: Vec<u8>) -> Pending<'a, Option<Vec<u8>>> {
        Box::pin(async move {
            match kind {
                ECHO => {
                    body.push(from.0 as u8);
                    Some(body)
                }
                NEVER => std::future::pending().await,
                TOO_LONG => Some(vec![0; ASK_BYTES_MAX + 1]),
                _ => None,
            }
        })
    }

    fn stream<'a>(
        &'a self,
        _from: NodeId,
        kind: u8,
        mut send: FrameSender,
        mut receive: FrameReceiver,
    ) -> Pending<'a, ()> {
        Box::pin(async move {
            if kind != ECHO {
                return;
            }
            while let Ok(Some(frame)) = receive.receive_frame(1 << 20).await {
                if send.send_frame(&frame).await.is_err() {
                    return;
                }
            }
            send.finish();
        })
    }

    fn was_removed(&self, node: NodeId) -> bool {
        self.removed.lock().contains(&node)
    }

    fn heard(&self, from: NodeId, heartbeat: &Heartbeat) {
        let mut heard = self.heard.lock();
        heard.retain(|(node, _)| *node != from);
        heard.push((from, *heartbeat));
    }

    fn notice(&self, notice: Notice) {
        self.notices.lock().push(notice);
    }
}

/// The identities of a site's nodes, the first with id 1.
struct Ids(Vec<Arc<SiteIdentity>>);

impl Ids {
    fn make(count: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let first = SiteIdentity::init(&folder.path().join("1"), SITE, NodeId(1), "n1").unwrap();
        let others = (2..=count).map(|node| {
            let key = NodeKey::draw().unwrap();
            let admitted = first.admit(NodeId(node), "n", key.public()).unwrap();
            let folder = folder.path().join(node.to_string());
            Arc::new(SiteIdentity::install(&folder, &admitted, &key, &[]).unwrap())
        });
        let others: Vec<_> = others.collect();
        Self(std::iter::once(Arc::new(first)).chain(others).collect())
    }

    fn of(&self, node: u64) -> Arc<SiteIdentity> {
        Arc::clone(&self.0[node as usize - 1])
    }

    fn endpoint(&self, node: u64, config: &Config) -> SiteEndpoint {
        site_endpoint(SocketAddr::from(([127, 0, 0, 1], 0)), self.of(node), config.bounds()).unwrap()
    }
}

fn member(node: u64, address: impl ToString) -> Member {
    Member { node: NodeId(node), name: format!("n{node}"), address: address.to_string() }
}

/// A node of a site.
struct Node {
    peers: Peers,
    ear: Arc<Ear>,
    clock: Arc<Clock>,
    members: watch::Sender<Arc<Vec<Member>>>,
}

impl Node {
    /// A node on an endpoint, whose process is the `incarnation`th of its node.
    fn start(endpoint: SiteEndpoint, incarnation: u64, members: Vec<Member>, config: Config) -> Self {
        Self::start_with(endpoint, incarnation, members, config, None)
    }

    fn start_with(
        endpoint: SiteEndpoint,
        incarnation: u64,
        members: Vec<Member>,
        config: Config,
        desk: Option<Arc<Desk>>,
    ) -> Self {
        let node = endpoint.identity().node();
        let own = Own { node, site: SITE, origin: node.0 + 100, incarnation };
        let ear = Arc::<Ear>::default();
        let (sender, receiver) = watch::channel(Arc::new(members));
        let clock = Arc::new(Clock::starting_after(0));
        let serve = Arc::clone(&ear) as _;
        let peers = Peers::start(Setup {
            own,
            spoken: Arc::default(),
            endpoint,
            members: receiver,
            serve,
            desk,
            guests: None,
            clock: Arc::clone(&clock),
            config,
        });
        Self { peers, ear, clock, members: sender }
    }

    fn address(&self) -> SocketAddr {
        self.peers.address().unwrap()
    }

    fn state(&self, node: u64) -> PeerState {
        self.find(node).unwrap()
    }

    fn find(&self, node: u64) -> Option<PeerState> {
        self.peers.states().into_iter().find(|state| state.node == NodeId(node))
    }

    fn is_connected(&self, node: u64) -> bool {
        self.state(node).is_connected
    }

    /// Waits until what is known of a node is so.
    async fn sees(&self, node: u64, what: &str, is_so: impl Fn(&PeerState) -> bool) -> PeerState {
        let begin = Instant::now();
        loop {
            let state = self.find(node);
            if let Some(state) = state.clone().filter(&is_so) {
                return state;
            }
            assert!(begin.elapsed() < LONG, "never: {what}; {state:?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn sees_connected(&self, node: u64) -> PeerState {
        self.sees(node, "connected", |state| state.is_connected && state.known.as_ref().unwrap().heartbeat.is_some())
            .await
    }

    async fn sees_error(&self, node: u64, words: &str) {
        let says = |state: &PeerState| state.error.as_ref().is_some_and(|error| error.contains(words));
        self.sees(node, words, says).await;
    }

    fn notices(&self) -> Vec<Notice> {
        self.ear.notices.lock().clone()
    }

    async fn hears_notice(&self, what: &str, is_it: impl Fn(&Notice) -> bool) {
        let begin = Instant::now();
        while !self.notices().iter().any(&is_it) {
            assert!(begin.elapsed() < LONG, "never: {what}; {:?}", self.notices());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }
}

/// The nodes of a site, the first with id 1; all know all.
fn site(ids: &Ids, config: &Config) -> Vec<Node> {
    let count = ids.0.len() as u64;
    let endpoints: Vec<_> = (1..=count).map(|node| ids.endpoint(node, config)).collect();
    let address = |(node, endpoint): (u64, &SiteEndpoint)| member(node, endpoint.address().unwrap());
    let members: Vec<_> = (1..).zip(&endpoints).map(address).collect();
    let start =
        |(node, endpoint): (u64, SiteEndpoint)| Node::start(endpoint, node + 10, members.clone(), config.clone());
    (1..).zip(endpoints).map(start).collect()
}
