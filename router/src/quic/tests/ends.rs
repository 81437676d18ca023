//! `edgeway/1`: how connections end, and begin again.

use std::sync::atomic::AtomicUsize;

use devices::command::{CommandId, command_topic};
use devices::native::{ALPN, Close, LaneReply, ToDevice, decode};
use devices::sequence::Lane;
use quinn::crypto::rustls::QuicClientConfig;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{DigitallySignedStruct, SignatureScheme};

use super::client::BOUNDS;
use super::device::{Stream, hello, number, publish, twenty_under_way};
use super::*;
use crate::catalog::{self, Catalog, Change, KnownBy};
use crate::sessions::{Delivery, Offer};
use crate::transport::Bounds;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_goodbye_is_answered_when_all_is_acknowledged() {
    let node = Node::start();
    let (hold, mut device, mut lane) = twenty_under_way(&node).await;
    device.goodbye().await;
    hold.set(false);
    lane.acked(number(1, 19)).await;
    assert_eq!(lane.frame().await, Ok(None));
    assert_eq!(code(&device.closed().await), Some(Close::Ended));
    node.counted(Stats::live, 0).await;
    assert!(node.sessions.list().is_empty());
    assert_eq!(node.payloads("t").len(), 20);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_connection_takes_a_device_over_and_goes_on_where_it_was() {
    let node = Node::start();
    let first = node.device("d").await;
    let (mut lane, _) = first.lane(Lane::NORMAL).await;
    lane.write(&publish("t", 1, 0, &["0"])).await;
    lane.acked(number(1, 0)).await;
    let second = node.device("d").await;
    let taken_over = Some(Close::TakenOver);
    assert_eq!(code(&first.closed().await), taken_over);
    assert_eq!(second.lanes.len(), 1);
    // By MQTT, and back.
    let mut mqtt = node.client("d").await;
    assert_eq!(code(&second.closed().await), taken_over);
    let third = node.device("d").await;
    let (kind, body) = mqtt.packet().await.unwrap();
    assert_eq!((kind, body[0]), (0xe0, 0x8e), "DISCONNECT: session taken over");
    let (_, last) = third.lane(Lane::NORMAL).await;
    assert_eq!(last, Some(number(1, 0)));
    assert_eq!(node.sessions.live(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_acknowledges_what_is_under_way_and_says_why() {
    let node = Node::start();
    let (hold, device, mut lane) = twenty_under_way(&node).await;
    let begin = Instant::now();
    while node.ingest.stats().taken.load(Ordering::Relaxed) < 20 {
        assert!(begin.elapsed() < LONG, "not all is appended");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    node.listener.refuse();
    let stopping = tokio::spawn({
        let sessions = Arc::clone(&node.sessions);
        async move { sessions.stop(LONG).await }
    });
    hold.set(false);
    lane.acked(number(1, 19)).await;
    assert_eq!(code(&device.closed().await), Some(Close::Stopping));
    stopping.await.unwrap();
    node.listener.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_does_not_read_is_sent_away_and_nobody_else_waits() {
    let node = Node::start_with(Config { not_reading_s: 1, ..Config::default() }, Default::default());
    let (addr, pin) = (node.listener.addr(), node.listener.fingerprint());
    let small = Bounds { stream_bytes_max: 16 << 10, unread_bytes_max: 64 << 10, ..BOUNDS };
    let lazy = Device::connect_with(addr, pin, &hello("lazy", true), small).await;
    let mut events = lazy.events().await;
    assert!(events.subscribe("t").await);
    let device = node.device("d").await;
    let (mut lane, _) = device.lane(Lane::NORMAL).await;
    let large = "x".repeat(100_000);
    for n in 0..50 {
        lane.write(&publish("t", 1, n, &[&large])).await;
        let LaneReply::Acked { up_to } = lane.reply().await else { panic!("refused") };
        assert_eq!(up_to, number(1, n));
    }
    assert_eq!(code(&lazy.closed().await), Some(Close::NotReading));
    node.counted(Stats::live, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frame_that_was_begun_is_not_waited_for_for_ever() {
    let node = Node::start_with(Config { not_reading_s: 1, ..Config::default() }, Default::default());
    let lazy = node.device("lazy").await;
    let (mut lane, _) = lazy.lane(Lane::BULK).await;
    let whole = publish("t", 1, 1, &["x"]);
    lane.write(&whole).await;
    lane.acked(number(1, 1)).await;
    let half = publish("t", 1, 2, &["x"]);
    lane.write(&half[..half.len() - 1]).await;
    assert_eq!(code(&lazy.closed().await), Some(Close::NoStream));
    node.counted(Stats::live, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_beyond_the_bound_is_told_to_come_later() {
    let node = Node::start();
    // One session is all that the registry of this test has room for, once the first has come.
    let sessions = crate::sessions::Config { sessions_max: 1, ..Default::default() };
    let fan_out = Arc::clone(node.sessions.fan_out());
    let full = Arc::new(Sessions::open(Arc::clone(&node.log), fan_out, sessions));
    let stats = Arc::<Stats>::default();
    let native = Native::new("n1", Config::default(), Arc::clone(&node.ingest), Arc::clone(&full), Arc::clone(&stats));
    let door = Door::new(Arc::clone(&node.ingest), Arc::clone(&full), Default::default());
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::start(SocketAddr::from(([127, 0, 0, 1], 0)), folder.path(), door, native).unwrap();
    let (addr, pin) = (listener.addr(), listener.fingerprint());
    let _first = Device::connect(addr, pin, "a").await;
    let (_endpoint, connection) = super::device::shake_hands(addr, pin, BOUNDS).await.unwrap();
    Stream::open(&connection).await.write(&hello("b", true)).await;
    assert_eq!(code(&soon(connection.closed()).await), Some(Close::Busy));
    assert_eq!(read(&stats.closed[Close::Busy as usize]), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_not_enrolled_is_told_so_and_a_removed_one_goes() {
    let node = Node::start();
    node.log.ensure_topic(crate::event_log::AUDIT_TOPIC, None).unwrap();
    let config = catalog::Config { known_by: KnownBy::Enrolment, ..Default::default() };
    let catalog = Catalog::open(Arc::clone(&node.log), config).unwrap();
    let fan_out = Arc::clone(node.sessions.fan_out());
    let sessions = Sessions::open(Arc::clone(&node.log), fan_out, Default::default());
    let sessions = Arc::new(sessions.with_catalog(Arc::clone(&catalog)));
    let (stats, ingest) = (Arc::<Stats>::default(), Arc::clone(&node.ingest));
    let native = Native::new("n1", Config::default(), ingest, Arc::clone(&sessions), Arc::clone(&stats));
    let door = Door::new(Arc::clone(&node.ingest), Arc::clone(&sessions), Default::default());
    let folder = tempfile::tempdir().unwrap();
    let listener = Listener::start(SocketAddr::from(([127, 0, 0, 1], 0)), folder.path(), door, native).unwrap();
    let (addr, pin) = (listener.addr(), listener.fingerprint());
    let (_endpoint, connection) = super::device::shake_hands(addr, pin, BOUNDS).await.unwrap();
    Stream::open(&connection).await.write(&hello("a", true)).await;
    assert_eq!(code(&soon(connection.closed()).await), Some(Close::NotAllowed));
    let (tags, attributes) = Default::default();
    let add = Change::AddDevice { device: "a".into(), tags, attributes, refuses_repeats: None };
    catalog.propose(add, "cli").await.unwrap();
    let device = Device::connect(addr, pin, "a").await;
    catalog.propose(Change::RemoveDevice { device: "a".into() }, "cli").await.unwrap();
    assert!(sessions.end_removed("a").await);
    assert_eq!(code(&device.closed().await), Some(Close::NotAllowed));
    assert_eq!(read(&stats.closed[Close::NotAllowed as usize]), 2);
}

/// Takes any certificate, and counts how often it is shown one: a session that is resumed shows none.
#[derive(Debug, Default)]
struct Counting(AtomicUsize);

impl ServerCertVerifier for Counting {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        aws_lc_rs::default_provider().signature_verification_algorithms.supported_schemes()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_resumed_but_nothing_is_taken_before_the_handshake() {
    let node = Node::start();
    let counting = Arc::new(Counting::default());
    let mut tls = rustls::ClientConfig::builder_with_protocol_versions(&[&rustls::version::TLS13])
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&counting) as _)
        .with_no_client_auth();
    tls.alpn_protocols = vec![ALPN.to_vec()];
    tls.enable_early_data = true;
    let config = quinn::ClientConfig::new(Arc::new(QuicClientConfig::try_from(tls).unwrap()));
    for round in 0..3 {
        let endpoint = crate::transport::client(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let connecting = endpoint.connect_with(config.clone(), node.listener.addr(), "edgeway").unwrap();
        let connecting = match connecting.into_0rtt() {
            Ok(_) => panic!("early data was offered in round {round}"),
            Err(connecting) => connecting,
        };
        let connection = soon(connecting).await.unwrap();
        let mut control = Stream::open(&connection).await;
        control.write(&hello("d", true)).await;
        control.frame().await.unwrap().unwrap();
        connection.close(0_u32.into(), b"");
        soon(endpoint.wait_idle()).await;
    }
    assert_eq!(counting.0.load(Ordering::Relaxed), 1, "the certificate is shown to the first alone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_may_yet_leave_with_the_last_words_counts_as_sent() {
    let node = Node::start();
    let (addr, pin) = (node.listener.addr(), node.listener.fingerprint());
    let small = Bounds { stream_bytes_max: 1 << 10, ..BOUNDS };
    let mut device = Device::connect_with(addr, pin, &hello("d", true), small).await;
    let told = Arc::new(parking_lot::Mutex::new(Vec::new()));
    let topic = |name: &str| command_topic("d", CommandId::v7(1, [1; 10]), name);
    let handle = node.sessions.find_receiver(&topic("a"), |_| true).unwrap();
    // The first goes whole; the second waits for room that the device does not give.
    for (name, bytes) in [("a", 1), ("b", 50_000)] {
        let told = Arc::clone(&told);
        let offer = Offer::new(topic(name).into(), vec![0; bytes].into(), move |delivery| {
            told.lock().push((name, delivery));
        });
        assert!(handle.offer(offer).is_ok());
    }
    let first = device.control.frame().await.unwrap().unwrap();
    let ToDevice::Command { name: "a", .. } = decode(&first).unwrap() else { panic!("{first:?}") };
    device.goodbye().await;
    // It reads on, and is sent the second with the last words.
    let second = device.control.frame().await.unwrap().unwrap();
    let ToDevice::Command { name: "b", .. } = decode(&second).unwrap() else { panic!("not the second") };
    assert_eq!(code(&device.closed().await), Some(Close::Ended));
    node.counted(Stats::live, 0).await;
    let told = told.lock().clone();
    for name in ["a", "b"] {
        let fate: Vec<Delivery> = told.iter().filter(|(of, _)| *of == name).map(|(_, fate)| *fate).collect();
        assert_eq!(fate, [Delivery::Sent, Delivery::Dropped], "{name}");
    }
}
