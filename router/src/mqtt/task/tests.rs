//! Connections on a memory store, byte by byte: what was once got wrong.

use std::sync::Arc;
use std::time::Duration;

use sled_data::{Faults, MemoryBackend, Options, Store, TopicConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::door::{Config, Door};
use crate::clock::Clock;
use crate::event_log::{self, EventLog};
use crate::ingest::{self, CATCH_ALL_TOPIC, Ingest};
use crate::sessions::{self, Sessions};
use crate::subscriptions::{self, FanOut};

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(40);

pub(super) struct Node {
    pub(super) log: Arc<EventLog>,
    pub(super) sessions: Arc<Sessions>,
    pub(super) door: Arc<Door>,
}

pub(super) fn node_on(backend: &Arc<MemoryBackend>) -> Node {
    node_with(backend, &ingest::Config::default(), ingest::LanesConfig::default())
}

pub(super) fn node_with(backend: &Arc<MemoryBackend>, routing: &ingest::Config, lanes: ingest::LanesConfig) -> Node {
    node_in(None, 3, backend, routing, lanes)
}

/// A node of a site, whose life `seed` chooses.
pub(super) fn node_in(
    site: Option<u64>,
    seed: u64,
    backend: &Arc<MemoryBackend>,
    routing: &ingest::Config,
    lanes: ingest::LanesConfig,
) -> Node {
    node_wrong_by(0, site, seed, backend, (routing, lanes))
}

/// The same, whose wall clock is wrong by so many milliseconds at the start.
pub(super) fn node_wrong_by(
    wrong_ms: i64,
    site: Option<u64>,
    seed: u64,
    backend: &Arc<MemoryBackend>,
    (routing, lanes): (&ingest::Config, ingest::LanesConfig),
) -> Node {
    let backend: Arc<dyn sled_data::Backend> = Arc::clone(backend) as _;
    let (store, recovered) = Store::on(backend, Options { seed: Some(seed), ..Options::default() }).unwrap();
    let clock = Arc::new(Clock::starting_wrong(recovered.last_hlc, wrong_ms));
    let log = EventLog::open(Arc::new(store), clock, event_log::Config::default()).unwrap();
    site.into_iter().for_each(|site| log.set_site(site));
    let one = TopicConfig { partitions: 1, ..TopicConfig::default() };
    log.ensure_topic(CATCH_ALL_TOPIC, Some(one)).unwrap();
    let fan_out = Arc::new(FanOut::new(subscriptions::Config::default()));
    log.observe(Arc::clone(&fan_out) as _);
    let sessions = Arc::new(Sessions::open(Arc::clone(&log), fan_out, sessions::Config::default()));
    sessions.follow_others().unwrap();
    let ingest = Arc::new(Ingest::new(Arc::clone(&log), routing, lanes).unwrap());
    let door = Door::new(ingest, Arc::clone(&sessions), Config::default());
    Node { log, sessions, door }
}

pub(super) struct Client {
    io: DuplexStream,
}

/// A packet of less than 16 KiB.
pub(super) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    if body.len() > 127 {
        bytes.push(u8::try_from(body.len() % 128).unwrap() | 0x80);
        bytes.push(u8::try_from(body.len() / 128).unwrap());
    } else {
        bytes.push(u8::try_from(body.len()).unwrap());
    }
    bytes.extend(body);
    bytes
}

pub(super) fn text(text: &str) -> Vec<u8> {
    [&u16::try_from(text.len()).unwrap().to_be_bytes(), text.as_bytes()].concat()
}

pub(super) fn publish(topic: &str, qos: u8, id: u16, payload: &[u8]) -> Vec<u8> {
    let id = if qos > 0 { id.to_be_bytes().to_vec() } else { Vec::new() };
    packet(0x30 | qos << 1, &[&text(topic), &id, &[0][..], payload].concat())
}

/// A SUBSCRIBE at QoS 1, of version 5 or 4 (3.1.1).
pub(super) fn subscribe(filter: &str, id: u16, version: u8) -> Vec<u8> {
    let properties = if version == 5 { &[0][..] } else { &[] };
    packet(0x82, &[&id.to_be_bytes(), properties, &text(filter), &[1]].concat())
}

/// An acknowledgement: PUBACK 0x40, PUBREC 0x50, PUBREL 0x62, PUBCOMP 0x70.
pub(super) fn ack(first: u8, id: u16) -> Vec<u8> {
    packet(first, &id.to_be_bytes())
}

impl Client {
    /// Connects with MQTT 5; `expiry_s` 0 begins a session that is not kept.
    pub(super) async fn connect(node: &Node, client_id: &str, expiry_s: u32, receive_max: u16) -> (Self, bool) {
        let (io, far) = tokio::io::duplex(1 << 20);
        tokio::spawn(super::open::serve(Arc::clone(&node.door), far, "test".to_owned()));
        let flags = if expiry_s == 0 { 2 } else { 0 };
        let expiry = expiry_s.to_be_bytes();
        let receive = receive_max.to_be_bytes();
        let properties = [&[8, 0x11][..], &expiry, &[0x21], &receive].concat();
        let body = [&text("MQTT"), &[5, flags, 0, 0][..], &properties, &text(client_id)].concat();
        let mut client = Self { io };
        client.send(&packet(0x10, &body)).await;
        let (first, connack) = client.next().await.unwrap();
        assert_eq!((first, connack[1]), (0x20, 0), "CONNACK");
        (client, connack[0] == 1)
    }

    /// Connects with version 5 or 4 (3.1.1) and nothing asked for.
    pub(super) async fn connect_as(node: &Node, client_id: &str, version: u8) -> Self {
        let properties = if version == 5 { &[0][..] } else { &[] };
        Self::connect_by(node, &[&[version, 2, 0, 0][..], properties, &text(client_id)].concat()).await
    }

    /// Connects with MQTT 5 and a will without delay, at QoS 1, that is retained at `t`; `expiry_s` 0 begins a session
    /// that is not kept.
    pub(super) async fn connect_with_will(node: &Node, client_id: &str, expiry_s: u32, payload: &str) -> Self {
        let flags = if expiry_s == 0 { 0x2e } else { 0x2c };
        let properties = [&[5, 0x11][..], &expiry_s.to_be_bytes()].concat();
        let will = [&[0][..], &text("t"), &text(payload)].concat();
        Self::connect_by(node, &[&[5, flags, 0, 0][..], &properties, &text(client_id), &will].concat()).await
    }

    /// Connects with a CONNECT whose bytes behind the protocol's name are these.
    pub(super) async fn connect_by(node: &Node, rest: &[u8]) -> Self {
        let (io, far) = tokio::io::duplex(1 << 20);
        tokio::spawn(super::open::serve(Arc::clone(&node.door), far, "test".to_owned()));
        let body = [&text("MQTT")[..], rest].concat();
        let mut client = Self { io };
        client.send(&packet(0x10, &body)).await;
        let (first, connack) = client.next().await.unwrap();
        assert_eq!((first, connack[1]), (0x20, 0), "CONNACK");
        client
    }

    pub(super) async fn send(&mut self, bytes: &[u8]) {
        self.io.write_all(bytes).await.unwrap();
    }

    /// The next packet, `None` at the end of the connection.
    pub(super) async fn next(&mut self) -> Option<(u8, Vec<u8>)> {
        let read = async {
            let first = self.io.read_u8().await.ok()?;
            let (mut len, mut shift) = (0_usize, 0);
            loop {
                let byte = self.io.read_u8().await.ok()?;
                len |= usize::from(byte & 127) << shift;
                shift += 7;
                if byte < 128 {
                    break;
                }
            }
            let mut body = vec![0; len];
            self.io.read_exact(&mut body).await.ok()?;
            Some((first, body))
        };
        tokio::time::timeout(LONG, read).await.expect("a packet or the end within its time")
    }

    /// The next PUBLISH's packet id and payload; of MQTT 5 without properties, to a topic of one byte, at QoS 1.
    pub(super) async fn message(&mut self) -> (u16, Vec<u8>) {
        let (first, body) = self.next().await.unwrap();
        assert_eq!(first & 0xf6, 0x32, "a PUBLISH at QoS 1");
        (u16::from_be_bytes([body[3], body[4]]), body[6..].to_vec())
    }
}

#[tokio::test]
async fn a_refusal_behind_a_qos_0_publish_is_sent() {
    let node = node_on(&Arc::new(MemoryBackend::new()));
    let (mut client, _) = Client::connect(&node, "c", 0, 10).await;
    for id in 1..200 {
        client.send(&[publish("t", 0, 0, b"x"), publish("$own", 1, id, b"y")].concat()).await;
        let (first, body) = client.next().await.unwrap();
        assert_eq!((first, body), (0x40, [&id.to_be_bytes()[..], &[0x87]].concat()));
    }
    node.log.close();
}

#[tokio::test]
async fn what_cannot_be_retained_is_refused_and_the_node_goes_on() {
    let node = node_on(&Arc::new(MemoryBackend::new()));
    let (mut client, _) = Client::connect(&node, "c", 0, 10).await;
    let long = "n".repeat(2_000);
    let retained = [&text(&long), &1_u16.to_be_bytes()[..], &[0], b"x"].concat();
    client.send(&packet(0x33, &retained)).await;
    assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 1, 0x83]));
    let removed = [&text(&long), &2_u16.to_be_bytes()[..], &[0]].concat();
    client.send(&packet(0x33, &removed)).await;
    assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 2]));
    client.send(&publish("t", 1, 3, b"x")).await;
    assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 3]));
    node.log.close();
}

#[tokio::test]
async fn a_publisher_finds_the_topic_that_took_a_deleted_ones_place() {
    let node = node_on(&Arc::new(MemoryBackend::new()));
    let (mut client, _) = Client::connect(&node, "c", 0, 10).await;
    client.send(&publish("t", 1, 1, b"gone")).await;
    assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 1]));
    node.log.delete_topic(CATCH_ALL_TOPIC).unwrap();
    client.send(&publish("t", 1, 2, b"kept")).await;
    assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 2]));
    let topic = node.log.topic(CATCH_ALL_TOPIC).unwrap();
    let stored: u64 = topic.all_partitions().iter().map(|partition| partition.visible_end()).sum();
    assert_eq!(stored, 1, "what was acknowledged is in the topic that there is now");
    node.log.close();
}

#[tokio::test]
async fn a_session_resumed_with_a_smaller_window_gets_all_that_was_in_flight_and_goes_on() {
    let node = node_on(&Arc::new(MemoryBackend::new()));
    let (mut client, _) = Client::connect(&node, "c", 60, 20).await;
    client.send(&subscribe("t", 1, 5)).await;
    assert_eq!(client.next().await.unwrap().0, 0x90);
    let (mut publisher, _) = Client::connect(&node, "p", 0, 10).await;
    for id in 1..=30 {
        publisher.send(&publish("t", 1, id, &id.to_be_bytes())).await;
        assert_eq!(publisher.next().await.unwrap(), (0x40, id.to_be_bytes().to_vec()));
    }
    for expected in 1..=20_u16 {
        assert_eq!(client.message().await, (expected, expected.to_be_bytes().to_vec()));
    }
    drop(client);
    let (mut client, session_present) = Client::connect(&node, "c", 60, 2).await;
    assert!(session_present);
    for expected in 1..=30_u16 {
        let (id, payload) = client.message().await;
        assert_eq!(payload, expected.to_be_bytes());
        client.send(&ack(0x40, id)).await;
    }
    node.log.close();
}

#[tokio::test]
async fn a_crash_loses_nothing_that_a_kept_session_was_still_to_get() {
    let backend = Arc::new(MemoryBackend::new());
    let node = node_on(&backend);
    let (mut client, _) = Client::connect(&node, "c", 60, 2).await;
    client.send(&subscribe("t", 1, 5)).await;
    assert_eq!(client.next().await.unwrap().0, 0x90);
    let (mut publisher, _) = Client::connect(&node, "p", 0, 10).await;
    for id in 1..=9 {
        publisher.send(&publish("t", 1, id, &id.to_be_bytes())).await;
        assert_eq!(publisher.next().await.unwrap(), (0x40, id.to_be_bytes().to_vec()));
    }
    assert_eq!(client.message().await.1, 1_u16.to_be_bytes());
    assert_eq!(client.message().await.1, 2_u16.to_be_bytes());
    // The session is stored in the middle of it; then the power fails.
    client.send(&subscribe("other", 2, 5)).await;
    assert_eq!(client.next().await.unwrap().0, 0x90);
    let image = Arc::new(backend.image());
    image.power_cut(0);
    node.log.close();

    let node = node_on(&image);
    let (mut client, session_present) = Client::connect(&node, "c", 60, 2).await;
    assert!(session_present);
    let mut got = Vec::new();
    while got.last() != Some(&9) {
        let (id, payload) = client.message().await;
        got.push(u16::from_be_bytes([payload[0], payload[1]]));
        client.send(&ack(0x40, id)).await;
    }
    for wanted in 1..=9 {
        assert!(got.contains(&wanted), "{wanted} is missing of {got:?}");
    }
    node.log.close();
}

#[tokio::test]
async fn a_session_is_stored_when_its_client_comes_and_ends_in_time_after_a_crash() {
    let backend = Arc::new(MemoryBackend::new());
    let node = node_on(&backend);
    let (mut client, _) = Client::connect(&node, "c", 1, 2).await;
    client.send(&publish("t", 1, 1, b"x")).await;
    assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 1]));
    let image = Arc::new(backend.image());
    image.power_cut(0);
    node.log.close();

    let node = node_on(&image);
    assert!(node.sessions.kept_state("c").is_some());
    let until = std::time::Instant::now() + LONG;
    while node.sessions.kept_state("c").is_some() {
        assert!(std::time::Instant::now() < until, "a kept session never ends");
        node.sessions.expire();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    node.log.close();
}

#[tokio::test]
async fn a_qos_2_publish_that_was_refused_is_new_when_it_comes_again() {
    let backend = Arc::new(MemoryBackend::new());
    let node = node_on(&backend);
    let (mut client, _) = Client::connect(&node, "c", 60, 10).await;
    client.send(&publish("t", 2, 1, b"x")).await;
    assert_eq!(client.next().await.unwrap(), (0x50, vec![0, 1]));
    client.send(&ack(0x62, 1)).await;
    assert_eq!(client.next().await.unwrap(), (0x70, vec![0, 1]));
    backend.set_faults(Faults { free_bytes: Some(0), ..Faults::default() });
    let mut id = 1;
    loop {
        id += 1;
        client.send(&publish("t", 2, id, b"refused")).await;
        if client.next().await.unwrap().1.len() > 2 {
            break;
        }
    }
    let stored_before = node.log.topic(CATCH_ALL_TOPIC).unwrap().partition(0).unwrap().visible_end();
    // This one's connection is gone before it is answered.
    client.send(&publish("t", 2, 1_000, b"again")).await;
    drop(client);
    backend.set_faults(Faults::default());
    let (mut client, _) = Client::connect(&node, "c", 60, 10).await;
    let mut tries = 0;
    loop {
        client.send(&publish("t", 2, 1_000, b"again")).await;
        if client.next().await.unwrap() == (0x50, 1_000_u16.to_be_bytes().to_vec()) {
            break;
        }
        tries += 1;
        assert!(tries < 1_000, "the store must take events again");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let stored = node.log.topic(CATCH_ALL_TOPIC).unwrap().partition(0).unwrap().visible_end();
    assert_eq!(stored, stored_before + 1, "what was acknowledged is stored, once");
    node.log.close();
}

#[tokio::test]
async fn what_a_failing_store_was_given_is_neither_acknowledged_nor_denied() {
    for qos in [1, 2] {
        let backend = Arc::new(MemoryBackend::new());
        let node = node_on(&backend);
        let (mut client, _) = Client::connect(&node, "c", 60, 10).await;
        backend.set_faults(Faults { fail_after_syncs: Some(0), ..Faults::default() });
        client.send(&publish("t", qos, 1, b"x")).await;
        let (first, body) = client.next().await.unwrap();
        assert_eq!((first, body[0]), (0xe0, 0x80), "QoS {qos}: it ends the connection");
        node.log.close();
    }
}

#[tokio::test]
async fn who_takes_over_is_not_sent_away_by_its_own_order() {
    let node = node_on(&Arc::new(MemoryBackend::new()));
    for _ in 0..50 {
        let (_old, _) = Client::connect(&node, "c", 60, 10).await;
        let (mut new, _) = Client::connect(&node, "c", 60, 10).await;
        new.send(&publish("t", 1, 1, b"x")).await;
        assert_eq!(new.next().await.unwrap(), (0x40, vec![0, 1]));
    }
    node.log.close();
}
