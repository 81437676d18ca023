//! The relay's sockets: one for the clients, one for each client towards the node.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::net::UdpSocket;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::sleep_until;

use super::line::{Line, LineConfig, Passage};

/// Addresses that one relay keeps apart; datagrams of further ones are dropped.
pub const CLIENTS_MAX: usize = 10_000;
/// The largest datagram that UDP carries.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// A datagram under way, and who is to get it.
struct Parcel {
    at: Instant,
    bytes: Box<[u8]>,
    socket: Arc<UdpSocket>,
    /// `None`: the node, which the socket is connected to.
    to: Option<SocketAddr>,
}

/// One direction: its line, and what is under way on it. Bounded by the line's queue and delay.
struct Way {
    line: Mutex<Line>,
    parcels: Mutex<VecDeque<Parcel>>,
    more: Notify,
}

struct Shared {
    node: Mutex<SocketAddr>,
    /// Rises when the node moves.
    moves: AtomicU64,
    up: Way,
    down: Way,
    is_cut: AtomicBool,
    passed: AtomicU64,
    dropped: AtomicU64,
}

/// A relay between clients and a node. It ends when it is dropped.
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Way {
    fn new(config: LineConfig, seed: u64) -> Self {
        Self { line: Mutex::new(Line::new(config, seed)), parcels: Mutex::default(), more: Notify::new() }
    }
}

impl Relay {
    /// Starts a relay on a free port of the loopback interface; `config` holds for both directions.
    ///
    /// # Errors
    /// When the system gives no socket.
    pub async fn start(node: SocketAddr, config: LineConfig, seed: u64) -> io::Result<Self> {
        let socket = Arc::new(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?);
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            node: Mutex::new(node),
            moves: AtomicU64::new(0),
            up: Way::new(config, seed),
            down: Way::new(config, seed ^ 0x5bd1_e995),
            is_cut: AtomicBool::new(false),
            passed: AtomicU64::new(0),
            dropped: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(take_from_clients(Arc::clone(&shared), socket));
        tasks.spawn(deliver(Arc::clone(&shared), |shared| &shared.up));
        tasks.spawn(deliver(Arc::clone(&shared), |shared| &shared.down));
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes both directions.
    pub fn set(&self, config: LineConfig) {
        lock(&self.shared.up.line).set(config);
        lock(&self.shared.down.line).set(config);
    }

    /// Cuts the link, or mends it: while it is cut everything is dropped, what is under way included.
    pub fn cut(&self, is_cut: bool) {
        self.shared.is_cut.store(is_cut, Relaxed);
    }

    /// The node has another address now: what clients send from now on goes there.
    pub fn set_node(&self, node: SocketAddr) {
        *lock(&self.shared.node) = node;
        self.shared.moves.fetch_add(1, Relaxed);
    }

    /// Datagrams passed on, and those dropped.
    pub fn counts(&self) -> (u64, u64) {
        (self.shared.passed.load(Relaxed), self.shared.dropped.load(Relaxed))
    }
}

impl Shared {
    fn take(&self, way: &Way, bytes: &[u8], socket: &Arc<UdpSocket>, to: Option<SocketAddr>) {
        if self.is_cut.load(Relaxed) {
            self.dropped.fetch_add(1, Relaxed);
            return;
        }
        let Passage::At(at) = lock(&way.line).pass(Instant::now(), bytes.len()) else {
            self.dropped.fetch_add(1, Relaxed);
            return;
        };
        lock(&way.parcels).push_back(Parcel { at, bytes: bytes.into(), socket: Arc::clone(socket), to });
        way.more.notify_one();
    }
}

async fn take_from_clients(shared: Arc<Shared>, socket: Arc<UdpSocket>) {
    let mut clients: HashMap<SocketAddr, Arc<UdpSocket>> = HashMap::new();
    let mut answering = JoinSet::new();
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    let mut moves = 0;
    loop {
        // An error belongs to an earlier datagram: its receiver is gone.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let moves_now = shared.moves.load(Relaxed);
        if moves != moves_now {
            moves = moves_now;
            clients.clear();
            answering.shutdown().await;
        }
        let known = clients.get(&client).cloned();
        let upstream = match known {
            Some(upstream) => upstream,
            None if clients.len() >= CLIENTS_MAX => continue,
            None => {
                let node = *lock(&shared.node);
                let Ok(upstream) = connect(node).await else { continue };
                let upstream = Arc::new(upstream);
                clients.insert(client, Arc::clone(&upstream));
                let (shared, socket) = (Arc::clone(&shared), Arc::clone(&socket));
                answering.spawn(take_from_node(shared, Arc::clone(&upstream), socket, client));
                upstream
            }
        };
        shared.take(&shared.up, &buffer[..length], &upstream, None);
    }
}

async fn connect(node: SocketAddr) -> io::Result<UdpSocket> {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    socket.connect(node).await?;
    Ok(socket)
}

async fn take_from_node(shared: Arc<Shared>, upstream: Arc<UdpSocket>, socket: Arc<UdpSocket>, client: SocketAddr) {
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    loop {
        // The node may be away for a while: each refusal of its port is one error.
        let Ok(length) = upstream.recv(&mut buffer).await else { continue };
        shared.take(&shared.down, &buffer[..length], &socket, Some(client));
    }
}

/// Sends what is due. Datagrams of one direction arrive in order, so that the first is the next.
async fn deliver(shared: Arc<Shared>, way: fn(&Shared) -> &Way) {
    let way = way(&shared);
    loop {
        let Some(at) = lock(&way.parcels).front().map(|parcel| parcel.at) else {
            way.more.notified().await;
            continue;
        };
        if at > Instant::now() {
            sleep_until(at.into()).await;
        }
        let Some(parcel) = lock(&way.parcels).pop_front() else { continue };
        if shared.is_cut.load(Relaxed) {
            shared.dropped.fetch_add(1, Relaxed);
            continue;
        }
        // Who is gone does not get it: a datagram may be lost.
        let sent = match parcel.to {
            Some(client) => parcel.socket.send_to(&parcel.bytes, client).await,
            None => parcel.socket.send(&parcel.bytes).await,
        };
        let count = if sent.is_ok() { &shared.passed } else { &shared.dropped };
        count.fetch_add(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    async fn echo() -> SocketAddr {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = socket.local_addr().unwrap();
        tokio::spawn(async move {
            let mut buffer = [0; 2_000];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                let _ = socket.send_to(&buffer[..length], from).await;
            }
        });
        address
    }

    async fn heard(client: &UdpSocket, within: Duration) -> Option<Vec<u8>> {
        let mut buffer = [0; 2_000];
        let length = timeout(within, client.recv(&mut buffer)).await.ok()?.ok()?;
        Some(buffer[..length].to_vec())
    }

    #[tokio::test]
    async fn carries_both_ways_late_and_keeps_clients_apart() {
        let delay = Duration::from_millis(30);
        let config = LineConfig { delay, ..LineConfig::default() };
        let relay = Relay::start(echo().await, config, 1).await.unwrap();
        let long = Duration::from_secs(10);
        let clients = [connect(relay.address()).await.unwrap(), connect(relay.address()).await.unwrap()];
        let begin = Instant::now();
        for (number, client) in clients.iter().enumerate() {
            client.send(&[number as u8]).await.unwrap();
        }
        for (number, client) in clients.iter().enumerate() {
            assert_eq!(heard(client, long).await.unwrap(), [number as u8]);
        }
        assert!(begin.elapsed() >= 2 * delay, "{:?}", begin.elapsed());
        assert_eq!(relay.counts(), (4, 0));
    }

    #[tokio::test]
    async fn a_cut_link_carries_nothing_until_it_is_mended() {
        let relay = Relay::start(echo().await, LineConfig::default(), 1).await.unwrap();
        let client = connect(relay.address()).await.unwrap();
        relay.cut(true);
        client.send(b"lost").await.unwrap();
        assert_eq!(heard(&client, Duration::from_millis(50)).await, None);
        relay.cut(false);
        client.send(b"carried").await.unwrap();
        assert_eq!(heard(&client, Duration::from_secs(10)).await.unwrap(), b"carried");
        relay.set(LineConfig::default().losing(1.0));
        client.send(b"lost").await.unwrap();
        assert_eq!(heard(&client, Duration::from_millis(50)).await, None);
    }

    #[tokio::test]
    async fn a_node_that_moves_is_found_again() {
        let silent = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let relay = Relay::start(silent.local_addr().unwrap(), LineConfig::default(), 1).await.unwrap();
        let client = connect(relay.address()).await.unwrap();
        client.send(b"to the first").await.unwrap();
        assert_eq!(heard(&silent, Duration::from_secs(10)).await.unwrap(), b"to the first");
        relay.set_node(echo().await);
        client.send(b"to the second").await.unwrap();
        assert_eq!(heard(&client, Duration::from_secs(10)).await.unwrap(), b"to the second");
    }
}
