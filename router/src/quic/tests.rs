//! The QUIC door in process: a real one on a memory store. MQTT by packets that are made by hand is here; `edgeway/1`
//! is in `lanes`, `outward`, `ends` and `bad_input`.

mod bad_input;
mod client;
mod device;
mod ends;
mod lanes;
mod outward;

use std::net::{SocketAddr, UdpSocket};
use std::time::Instant;

use devices::native::Close;
use quinn::{ApplicationClose, ConnectionError, TransportErrorCode, VarInt};
use sled_data::{MemoryBackend, Options, Store};

use self::client::{
    Client, DISCONNECT, PINGREQ, PINGRESP, acknowledged, connect, publish, shake_hands, soon, subscribe,
};
use self::device::Device;
use super::*;
use crate::clock::Clock;
use crate::event_log::EventLog;
use crate::ingest::Ingest;
use crate::mqtt::task::Door;
use crate::sessions::Sessions;
use crate::subscriptions::FanOut;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

const LONG: Duration = Duration::from_secs(40);

struct Node {
    listener: Listener,
    log: Arc<EventLog>,
    sessions: Arc<Sessions>,
    ingest: Arc<Ingest>,
    backend: Arc<MemoryBackend>,
    stats: Arc<Stats>,
    _folder: tempfile::TempDir,
}

impl Node {
    fn start() -> Self {
        Self::start_with(Config::default(), crate::mqtt::task::Config::default())
    }

    fn start_with(config: Config, mqtt: crate::mqtt::task::Config) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backend = Arc::new(MemoryBackend::new());
        let (store, _) =
            Store::on(Arc::clone(&backend) as _, Options { seed: Some(11), ..Options::default() }).unwrap();
        let log = EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), Default::default()).unwrap();
        let fan_out = Arc::new(FanOut::new(Default::default()));
        log.observe(Arc::clone(&fan_out) as _);
        let sessions = Arc::new(Sessions::open(Arc::clone(&log), fan_out, Default::default()));
        let ingest = Arc::new(Ingest::new(Arc::clone(&log), &Default::default(), Default::default()).unwrap());
        let door = Door::new(Arc::clone(&ingest), Arc::clone(&sessions), mqtt);
        let (stats, address) = (Arc::<Stats>::default(), SocketAddr::from(([127, 0, 0, 1], 0)));
        let native = Native::new("n1", config, Arc::clone(&ingest), Arc::clone(&sessions), Arc::clone(&stats));
        let listener = Listener::start(address, folder.path(), door, native).unwrap();
        Self { listener, log, sessions, ingest, backend, stats, _folder: folder }
    }

    async fn device(&self, name: &str) -> Device {
        Device::connect(self.listener.addr(), self.listener.fingerprint(), name).await
    }

    async fn client(&self, id: &str) -> Client {
        Client::connect(self.listener.addr(), self.listener.fingerprint(), id).await
    }

    /// The payloads that the log has for an MQTT topic, in their order.
    fn payloads(&self, mqtt_topic: &str) -> Vec<String> {
        let topic = self.log.topic(crate::ingest::CATCH_ALL_TOPIC).unwrap();
        let mut payloads = Vec::new();
        for partition in topic.all_partitions() {
            for batch in self.log.read(partition.id(), 0, 1 << 24).unwrap() {
                let of_topic = batch.events_from(0).filter(|(_, record)| record.key == Some(mqtt_topic.as_bytes()));
                payloads.extend(of_topic.map(|(_, record)| String::from_utf8(record.value.unwrap().into()).unwrap()));
            }
        }
        payloads
    }

    /// Waits until a counter has come to `value`.
    async fn counted(&self, counter: impl Fn(&Stats) -> u64, value: u64) {
        let begin = Instant::now();
        while counter(&self.stats) != value {
            assert!(begin.elapsed() < LONG, "{} is not {value}: {:?}", counter(&self.stats), self.stats);
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

fn read(counter: &std::sync::atomic::AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

fn closed_with(code: Close) -> ConnectionError {
    ConnectionError::ApplicationClosed(ApplicationClose {
        error_code: VarInt::from_u32(code as u32),
        reason: Default::default(),
    })
}

/// The code that the node closed with, whatever it said besides.
fn code(error: &ConnectionError) -> Option<Close> {
    let ConnectionError::ApplicationClosed(close) = error else { return None };
    Close::from_number(close.error_code.into_inner())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_event_goes_in_is_durable_when_acknowledged_and_comes_out() {
    let node = Node::start();
    let mut subscriber = node.client("s").await;
    subscriber.write(&subscribe(7, "line/+")).await;
    assert_eq!(subscriber.packet().await, Some((0x90, vec![0, 7, 0, 1])), "SUBACK: QoS 1");
    let mut device = node.client("d").await;
    device.write(&publish("line/1", 3, b"42")).await;
    assert_eq!(acknowledged(&device.packet().await.unwrap()), Some(3));
    assert_eq!(node.payloads("line/1"), ["42"], "what is acknowledged is in the log");
    let (kind, body) = subscriber.packet().await.unwrap();
    assert_eq!((kind & 0xf6, &body[2..8], &body[body.len() - 2..]), (0x32, &b"line/1"[..], &b"42"[..]));
    let remotes: Vec<String> = node.sessions.list().into_iter().map(|session| session.device.remote).collect();
    assert!(remotes.len() == 2 && remotes.iter().all(|remote| remote.starts_with("quic://127.0.0.1:")), "{remotes:?}");
    assert_eq!((read(&node.stats.connected), node.stats.live()), (2, 2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_published_before_a_hasty_end_is_kept() {
    let node = Node::start();
    let mut device = node.client("d").await;
    device.write(&[publish("a", 1, b"last"), DISCONNECT.to_vec()].concat()).await;
    device.send.finish().unwrap();
    assert_eq!(device.packet().await, None, "the stream ends in order");
    assert_eq!(device.closed().await, closed_with(Close::Ended));
    let (address, pin) = (node.listener.addr(), node.listener.fingerprint());
    let (_endpoint, connection) = shake_hands(address, pin, MQTT).await.unwrap();
    let (mut send, _receive) = soon(connection.open_bi()).await.unwrap();
    let all = [connect("e"), publish("a", 1, b"hasty"), DISCONNECT.to_vec()].concat();
    soon(send.write_all(&all)).await.unwrap();
    send.finish().unwrap();
    assert_eq!(soon(send.stopped()).await, Ok(None), "the node has all of it");
    connection.close(0_u32.into(), b"");
    node.counted(|stats| read(&stats.ended), 2).await;
    node.log.close();
    assert_eq!(node.payloads("a"), ["last", "hasty"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_reason_of_an_end_arrives_before_the_close() {
    let node = Node::start();
    let mut first = node.client("same").await;
    let mut second = node.client("same").await;
    let (kind, body) = first.packet().await.unwrap();
    assert_eq!((kind, body[0]), (0xe0, 0x8e), "DISCONNECT: session taken over");
    assert_eq!(first.packet().await, None);
    first.send.finish().unwrap();
    assert_eq!(first.closed().await, closed_with(Close::Ended));
    second.write(&connect("same")).await;
    let (kind, body) = second.packet().await.unwrap();
    assert_eq!((kind, body[0]), (0xe0, 0x82), "DISCONNECT: protocol error");
    assert_eq!(second.packet().await, None);
    second.send.finish().unwrap();
    assert_eq!(second.closed().await, closed_with(Close::Ended));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_says_why_before_it_closes() {
    let node = Node::start();
    let mut device = node.client("d").await;
    let (_endpoint, silent) = shake_hands(node.listener.addr(), node.listener.fingerprint(), MQTT).await.unwrap();
    node.counted(|stats| read(&stats.connected), 2).await;
    let (address, pin) = (node.listener.addr(), node.listener.fingerprint());
    node.listener.refuse();
    assert!(shake_hands(address, pin, MQTT).await.is_err(), "no new connections");
    node.sessions.stop(LONG).await;
    let (kind, body) = device.packet().await.unwrap();
    assert_eq!((kind, body[0]), (0xe0, 0x8b), "DISCONNECT: server shutting down");
    device.send.finish().unwrap();
    node.listener.stop().await;
    assert_eq!(device.closed().await, closed_with(Close::Ended));
    assert_eq!(code(&soon(silent.closed()).await), Some(Close::Stopping), "who has no session is told too");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_protocol_and_a_wrong_pin_end_in_the_handshake() {
    let node = Node::start();
    let (address, pin) = (node.listener.addr(), node.listener.fingerprint());
    let error = shake_hands(address, pin, b"http/9").await.err().unwrap();
    let ConnectionError::ConnectionClosed(close) = &error else { panic!("{error:?}") };
    assert_eq!(close.error_code, TransportErrorCode::crypto(120), "no_application_protocol");
    node.counted(|stats| read(&stats.refused_protocol), 1).await;
    let other = "00".repeat(32).parse().unwrap();
    assert!(matches!(shake_hands(address, other, MQTT).await, Err(ConnectionError::TransportError(_))));
    node.counted(|stats| read(&stats.refused_handshake), 1).await;
    assert_eq!(read(&node.stats.connected), 0);
    node.client("d").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_stream_is_refused() {
    let node = Node::start();
    let mut device = node.client("d").await;
    let connection = device.connection.clone();
    for _ in 0..3 {
        let round_trip = async {
            device.write(PINGREQ).await;
            assert_eq!(device.packet().await, Some(PINGRESP));
        };
        tokio::select! {
            biased;
            _ = connection.open_bi() => panic!("a second two-way stream was granted"),
            _ = connection.open_uni() => panic!("a one-way stream was granted"),
            () = round_trip => {}
        }
    }
    for _ in 0..1_000 {
        connection.send_datagram(vec![7; 1_000].into()).unwrap();
    }
    device.write(PINGREQ).await;
    assert_eq!(device.packet().await, Some(PINGRESP), "datagrams mean nothing here, and are not kept");
    // When the stream ends, there is no room for another either: the connection ends.
    device.write(DISCONNECT).await;
    device.send.finish().unwrap();
    assert_eq!(soon(connection.open_bi()).await.err(), Some(closed_with(Close::Ended)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_opens_no_stream_is_sent_away() {
    let node = Node::start_with(Config { open_wait_s: 1, ..Config::default() }, Default::default());
    let (_endpoint, connection) = shake_hands(node.listener.addr(), node.listener.fingerprint(), MQTT).await.unwrap();
    assert_eq!(code(&soon(connection.closed()).await), Some(Close::NoStream));
    node.counted(|stats| read(&stats.refused_no_stream), 1).await;
    node.counted(Stats::live, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_beyond_the_bound_is_refused_until_there_is_room() {
    let mqtt = crate::mqtt::task::Config { connections_max: 1, ..Default::default() };
    let node = Node::start_with(Config::default(), mqtt);
    let mut first = node.client("a").await;
    let (address, pin) = (node.listener.addr(), node.listener.fingerprint());
    let error = shake_hands(address, pin, MQTT).await.err().unwrap();
    let ConnectionError::ConnectionClosed(close) = &error else { panic!("{error:?}") };
    assert_eq!(close.error_code, TransportErrorCode::CONNECTION_REFUSED);
    assert_eq!(read(&node.stats.refused_too_many), 1);
    first.write(DISCONNECT).await;
    first.send.finish().unwrap();
    first.closed().await;
    node.counted(Stats::live, 0).await;
    let begin = Instant::now();
    while shake_hands(address, pin, MQTT).await.is_err() {
        assert!(begin.elapsed() < LONG, "the place is not free again");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_address_is_proven_where_that_is_asked_for() {
    let node = Node::start_with(Config { retry_from: 0, ..Config::default() }, Default::default());
    let mut device = node.client("d").await;
    device.write(PINGREQ).await;
    assert_eq!(device.packet().await, Some(PINGRESP));
    assert_eq!((read(&node.stats.retried), read(&node.stats.connected)), (1, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_address_loses_nothing() {
    const EVENTS: u16 = 600;
    let node = Node::start();
    let mut subscriber = node.client("s").await;
    subscriber.write(&subscribe(1, "truck")).await;
    subscriber.packet().await.unwrap();
    let mut device = node.client("d").await;
    let before = device.endpoint.local_addr().unwrap();
    let mut acknowledgements = Vec::new();
    for id in 1..=EVENTS {
        device.write(&publish("truck", id, id.to_string().as_bytes())).await;
        if id % 200 == 100 {
            // In the middle of what is on its way, in both directions.
            device.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
            subscriber.endpoint.rebind(UdpSocket::bind("127.0.0.1:0").unwrap()).unwrap();
        }
    }
    assert_ne!(device.endpoint.local_addr().unwrap(), before);
    let mut received = Vec::new();
    for _ in 1..=EVENTS {
        acknowledgements.push(acknowledged(&device.packet().await.unwrap()).unwrap());
        let (_, body) = subscriber.packet().await.unwrap();
        let (id, payload) = (&body[7..9], &body[10..]);
        received.push(String::from_utf8(payload.to_vec()).unwrap());
        subscriber.write(&[0x40, 2, id[0], id[1]]).await;
    }
    let all: Vec<String> = (1..=EVENTS).map(|id| id.to_string()).collect();
    assert_eq!(acknowledgements, (1..=EVENTS).collect::<Vec<_>>());
    assert_eq!(node.payloads("truck"), all, "each once, in order");
    assert_eq!(received, all, "each once, in order");
    assert_eq!(read(&node.stats.connected), 2, "on the same connections");
}
