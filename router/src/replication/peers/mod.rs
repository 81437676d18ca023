//! The connections to the site's other nodes: one each, kept by heartbeats, for asks and for long streams.
//!
//! Pure are `plan` (whom to dial, whom to cut), `arrival` (who is taken), `liveness` (who is lost), `version`, and the
//! bytes in `hello` and `heartbeat`. A stream begins with what it is: 0 the greeting, 1 an ask and its kind, 2 a long
//! stream and its kind; frames follow.

mod arrival;
mod carry;
mod close;
mod dial;
mod heartbeat;
mod hello;
mod line;
mod link;
mod listen;
mod liveness;
mod member;
mod plan;
mod serve;
mod state;
mod stats;
mod streams;
mod table;
mod task;
#[cfg(test)]
mod tests;
mod version;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub use close::Close;
pub use heartbeat::Heartbeat;
pub(in crate::replication) use line::network;
pub use link::{ASK_BYTES_MAX, AskError};
pub use member::{MEMBERS_MAX, Member};
pub use serve::{Guests, Notice, Pulse, Serve};
pub use state::{ConnectionState, Known, PeerState};
pub use stats::Stats;
pub use version::{PROTOCOL_MAX, PROTOCOL_MIN, PROTOCOLS_MAX, Speaker, Spoken, VersionGap, agree};

use self::hello::Hello;
use self::link::{Link, Moment};
use self::stats::count;
use self::streams::Room;
use self::table::Table;
use super::Config;
use super::join::Desk;
use crate::clock::Clock;
use crate::transport::{FrameReceiver, FrameSender, NodeId, SiteConnection, SiteEndpoint, SiteIdentity};

/// How long the other nodes have to be told that this one stops.
const CLOSE_WAIT: Duration = Duration::from_millis(500);

/// The time between two warnings of connections that are sent away: who comes again and again fills no disk.
const WARN_EVERY: Duration = Duration::from_secs(60);

/// What this node says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// Its id.
    pub node: NodeId,
    /// Its site's id.
    pub site: u64,
    /// The origin id of its store.
    pub origin: u64,
    /// Drawn by each process: by it two processes of one node are told apart.
    pub incarnation: u64,
}

impl Own {
    /// This process of the node.
    ///
    /// # Errors
    /// When the system gives no randomness.
    pub fn draw(identity: &SiteIdentity, origin: u64) -> Result<Self, getrandom::Error> {
        let mut incarnation = [0; 8];
        getrandom::fill(&mut incarnation)?;
        let incarnation = u64::from_le_bytes(incarnation);
        Ok(Self { node: identity.node(), site: identity.site(), origin, incarnation })
    }
}

/// What the connections are made of.
pub struct Setup {
    /// This process of the node.
    pub own: Own,
    /// What it speaks; shared with the desk.
    pub spoken: Arc<Spoken>,
    /// The node's endpoint.
    pub endpoint: SiteEndpoint,
    /// The site's list; this node may be in it.
    pub members: watch::Receiver<Arc<Vec<Member>>>,
    /// What serves the others.
    pub serve: Arc<dyn Serve>,
    /// Where those that join are received; `None`: they are not.
    pub desk: Option<Arc<Desk>>,
    /// Who takes the connections of links; `None`: they are not taken.
    pub guests: Option<Arc<dyn Guests>>,
    /// The node's clock.
    pub clock: Arc<Clock>,
    /// Times.
    pub config: Config,
}

/// What the tasks of the connections share.
struct Shared {
    own: Own,
    spoken: Arc<Spoken>,
    endpoint: SiteEndpoint,
    serve: Arc<dyn Serve>,
    guests: Option<Arc<dyn Guests>>,
    clock: Arc<Clock>,
    config: Config,
    stats: Arc<Stats>,
    table: Mutex<Table>,
    room: Arc<Room>,
    wake: Notify,
    links: AtomicU64,
    states: watch::Sender<Arc<Vec<PeerState>>>,
    warned: Mutex<Option<Duration>>,
}

/// The connections to the site's other nodes. They end when it is dropped.
pub struct Peers {
    shared: Arc<Shared>,
    tasks: [JoinHandle<()>; 2],
}

impl Peers {
    /// Begins to keep connections, and to take them.
    pub fn start(setup: Setup) -> Self {
        let Setup { own, spoken, endpoint, members, serve, desk, guests, clock, config } = setup;
        let shared = Arc::new(Shared {
            own,
            spoken,
            endpoint,
            serve,
            guests,
            clock,
            config,
            stats: Arc::default(),
            table: Mutex::new(Table::new(own.node, own.incarnation)),
            room: Arc::new(Room::new()),
            wake: Notify::new(),
            links: AtomicU64::new(0),
            states: watch::Sender::new(Arc::default()),
            warned: Mutex::default(),
        });
        // Before anybody is taken, so that no member is sent away as a stranger.
        let notice = shared.table.lock().sync(&Arc::clone(&members.borrow()), shared.clock.monotonic());
        shared.tell(notice);
        shared.publish();
        let tasks = [
            tokio::spawn(task::drive(Arc::clone(&shared), members)),
            tokio::spawn(listen::listen(Arc::clone(&shared), desk)),
        ];
        Self { shared, tasks }
    }

    /// Where the node listens for the others.
    pub fn address(&self) -> Option<SocketAddr> {
        self.shared.endpoint.address().ok()
    }

    /// This process of the node.
    pub fn own(&self) -> Own {
        self.shared.own
    }

    /// What is known of the other nodes: told anew when one is connected or lost, and each second.
    pub fn watch(&self) -> watch::Receiver<Arc<Vec<PeerState>>> {
        self.shared.states.subscribe()
    }

    /// What is known of the other nodes at this moment.
    pub fn states(&self) -> Vec<PeerState> {
        self.shared.table.lock().states()
    }

    /// Counters.
    pub fn stats(&self) -> &Stats {
        &self.shared.stats
    }

    /// Asks a node and waits for its answer, `wait` at most. The body and the answer have at most [`ASK_BYTES_MAX`]
    /// bytes. Some 32 asks to a node are under way at once; further ones wait for a place, within `wait`.
    ///
    /// # Errors
    /// When the node is not connected, or does not answer; whether it did what was asked is not known then.
    pub async fn ask(&self, node: NodeId, kind: u8, body: &[u8], wait: Duration) -> Result<Vec<u8>, AskError> {
        count(&self.shared.stats.asked);
        let answered = match self.link(node) {
            Ok(link) => timeout(wait, link.ask(kind, body)).await.unwrap_or(Err(AskError::Timeout)),
            Err(error) => Err(error),
        };
        if answered.is_err() {
            count(&self.shared.stats.asks_failed);
        }
        answered
    }

    /// Opens a long stream to a node. Some 32 from one node to another stand at once; further ones are reset by the
    /// other side.
    ///
    /// # Errors
    /// When the node is not connected, or the connection ends.
    pub async fn open(&self, node: NodeId, kind: u8) -> Result<(FrameSender, FrameReceiver), AskError> {
        self.link(node)?.open(kind).await
    }

    /// Tells the others that this node stops, and ends all connections.
    pub async fn stop(&self) {
        self.shared.endpoint.close(Close::Stopping as u32, "the node was stopped", CLOSE_WAIT).await;
        self.tasks.iter().for_each(JoinHandle::abort);
    }

    fn link(&self, node: NodeId) -> Result<Arc<Link>, AskError> {
        self.shared.table.lock().link(node).map_err(|why| AskError::NotConnected { node, why })
    }
}

impl Drop for Peers {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Shared {
    fn moment(&self) -> Moment {
        Moment { monotonic: self.clock.monotonic(), wall_ms: self.clock.wall_ms(), steady_ms: self.clock.steady_ms() }
    }

    fn hello(&self) -> Hello {
        Hello::of(&self.own, &self.spoken, self.moment())
    }

    /// Of a connection whose greeting has been heard.
    fn link(&self, node: NodeId, hello: Hello, connection: SiteConnection, protocol: u16) -> Arc<Link> {
        let number = self.links.fetch_add(1, Ordering::Relaxed);
        Arc::new(Link::new(number, node, hello, connection, protocol, self.moment()))
    }

    /// A connection has its seat; the one that had it before is closed. `Err`, with words, where it has none, as the
    /// node is no member.
    fn seated(&self, before: Result<Option<Arc<Link>>, ()>) -> Result<(), &'static str> {
        if let Some(before) = before.map_err(|()| "the node is not of this site any more")? {
            before.close(Close::Replaced, "the same process has connected anew");
        }
        self.wake.notify_one();
        Ok(())
    }

    /// Whether it is time for another warning of a connection that is sent away.
    fn may_warn(&self) -> bool {
        let (now, mut warned) = (self.clock.monotonic(), self.warned.lock());
        let may = warned.is_none_or(|at| now.saturating_sub(at) >= WARN_EVERY);
        if may {
            *warned = Some(now);
        }
        may
    }

    fn publish(&self) {
        let states = self.table.lock().states();
        self.states.send_replace(Arc::new(states));
    }

    fn tell(&self, notice: Option<Notice>) {
        if let Some(notice) = notice {
            tracing::warn!("{notice}");
            self.serve.notice(notice);
        }
    }
}
