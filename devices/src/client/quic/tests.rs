//! The client over QUIC against a node of the tests' own.

use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::SharedEndpoint;
use super::fake_node::FakeNode;
use crate::client::{Client, Config, Fate, Handlers, PublishOptions, Receipt, Tls, Transport};
use crate::native::Close;
use crate::sequence::Lane;

const LONG: Duration = Duration::from_secs(20);

fn config(node: &FakeNode, tls: &Tls, endpoint: Option<SharedEndpoint>) -> Config {
    let (host, port) = (node.address.ip().to_string(), node.address.port());
    let mut config = Config::new(host.clone(), port, "d");
    config.transport = Transport::Quic { host, port, tls: tls.clone(), endpoint };
    config.boot = Some(7);
    config.backoff_min = Duration::from_millis(20);
    config
}

fn client(node: &FakeNode) -> Client {
    let tls = Tls::pinned(node.fingerprint()).unwrap();
    Client::start(config(node, &tls, None), Handlers::new()).unwrap()
}

async fn soon<F: Future>(future: F) -> F::Output {
    timeout(LONG, future).await.expect("within the time")
}

async fn publish_all(client: &Client, payloads: &[String]) -> Vec<Receipt> {
    payloads.iter().map(|payload| client.publish("s/t", payload.clone()).unwrap()).collect()
}

async fn all_acked(receipts: Vec<Receipt>) {
    for receipt in receipts {
        assert!(matches!(soon(receipt).await, Fate::Acked { .. }));
    }
}

fn numbers(range: std::ops::Range<u32>) -> Vec<String> {
    range.map(|n| n.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishes_arrive_once_in_order_and_together() {
    let node = FakeNode::start();
    let client = client(&node);
    let payloads = numbers(0..2_000);
    all_acked(publish_all(&client, &payloads).await).await;
    assert_eq!(node.payloads(Lane::NORMAL), payloads);
    assert!(node.memory().frames < 1_000, "{} frames for 2,000 events", node.memory().frames);
    assert_eq!(client.stop(LONG).await, 0);
    node.until("the goodbye", |memory| memory.goodbyes == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broken_connection_loses_and_repeats_nothing() {
    let node = FakeNode::start();
    let client = client(&node);
    let payloads = numbers(0..3_000);
    let mut receipts = Vec::new();
    for (index, part) in payloads.chunks(500).enumerate() {
        receipts.extend(publish_all(&client, part).await);
        let stored = index * 400;
        node.until("some", |memory| memory.lanes[1].len() >= stored && !memory.connections.is_empty()).await;
        node.cut(Close::Stopping);
    }
    all_acked(receipts).await;
    assert_eq!(node.payloads(Lane::NORMAL), payloads);
    assert!(client.counters().breaks >= 5, "{:?}", client.counters());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lane_that_is_reset_goes_on_and_the_others_do_not_notice() {
    let node = FakeNode::start();
    node.memory().reset = vec![(Lane::NORMAL, 2), (Lane::NORMAL, 0), (Lane::NORMAL, 3), (Lane::NORMAL, 0)];
    let client = client(&node);
    let (mut payloads, mut receipts, mut alarms) = (Vec::new(), Vec::new(), 0);
    let begun = Instant::now();
    while !node.memory().reset.is_empty() {
        assert!(begun.elapsed() < LONG, "the lane does not go on");
        if client.unacked() < 1_000 {
            let part = numbers(payloads.len() as u32..payloads.len() as u32 + 50);
            receipts.extend(publish_all(&client, &part).await);
            payloads.extend(part);
        }
        let alarm = client.publish_with("a", alarms.to_string(), PublishOptions::urgent()).unwrap();
        assert_eq!(soon(alarm).await, Fate::Acked { repeated: false });
        alarms += 1;
    }
    all_acked(receipts).await;
    assert_eq!(node.payloads(Lane::NORMAL), payloads);
    assert_eq!(node.payloads(Lane::URGENT).len(), alarms);
    assert_eq!(client.counters().breaks, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refused_event_is_told_and_the_others_are_stored() {
    let node = FakeNode::start();
    node.memory().refuse = Some("13");
    let client = client(&node);
    let receipts = publish_all(&client, &numbers(0..30)).await;
    for (number, receipt) in receipts.into_iter().enumerate() {
        let expected = if number == 13 { Fate::Refused(0x90) } else { Fate::Acked { repeated: false } };
        assert_eq!(soon(receipt).await, expected, "{number}");
    }
    let too_large = client.publish("s/t", vec![b'x'; 256 << 10]).unwrap();
    assert_eq!(soon(too_large).await, Fate::Refused(0x83), "no frame can carry it");
    let largest = client.publish("s/t", vec![b'x'; (256 << 10) - 100]).unwrap();
    assert_eq!(soon(largest).await, Fate::Acked { repeated: false });
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn commands_are_done_answered_and_confirmed() {
    let node = FakeNode::start();
    node.memory().commands = vec![([1; 16], "cool"), ([2; 16], "heat")];
    let done = Arc::new(Mutex::new(Vec::new()));
    let notes = Arc::clone(&done);
    let handlers = Handlers::new().on("cool", move |call| {
        notes.lock().unwrap().push(call.name.clone());
        call.succeed("cold");
    });
    let tls = Tls::pinned(node.fingerprint()).unwrap();
    let client = Client::start(config(&node, &tls, None), handlers).unwrap();
    node.until("both answers", |memory| memory.lanes[0].len() == 2).await;
    node.until("both confirmations", |memory| memory.received.last() == Some(&2)).await;
    assert_eq!(*done.lock().unwrap(), ["cool"]);
    assert_eq!(node.payloads(Lane::URGENT), ["cold", "no such command"]);
    drop(client);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_may_be_lost_travels_alone_or_in_its_lane() {
    let node = FakeNode::start();
    let client = client(&node);
    soon(client.online().wait_for(|online| *online)).await.unwrap();
    let small = client.publish_with("s/t", "small", PublishOptions::may_be_lost()).unwrap();
    let large = "x".repeat(5_000);
    let receipt = client.publish_with("s/t", large.clone(), PublishOptions::may_be_lost()).unwrap();
    assert_eq!((soon(small).await, soon(receipt).await), (Fate::Written, Fate::Written));
    node.until("the large one", |memory| memory.lanes[1].len() == 1).await;
    node.until("the small one", |memory| memory.loose == ["small"]).await;
    assert_eq!(node.payloads(Lane::NORMAL), [large]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_share_a_port_and_survive_its_change() {
    let node = FakeNode::start();
    let endpoint = SharedEndpoint::bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let tls = Tls::pinned(node.fingerprint()).unwrap();
    let start = |device: &str| {
        let config = Config { device: device.to_owned(), ..config(&node, &tls, Some(endpoint.clone())) };
        Client::start(config, Handlers::new()).unwrap()
    };
    let clients = [start("a"), start("b")];
    let before = endpoint.address().unwrap();
    for round in 0..4 {
        for client in &clients {
            let options = PublishOptions::bulk();
            all_acked(vec![client.publish_with("s/t", round.to_string(), options).unwrap()]).await;
        }
        endpoint.rebind("127.0.0.1:0".parse().unwrap()).unwrap();
    }
    assert_ne!(endpoint.address().unwrap(), before);
    let ports: Vec<u16> = node.memory().connections.iter().map(|c| c.remote_address().port()).collect();
    assert_eq!(ports.len(), 2, "the connections stayed");
    assert!(!ports.contains(&before.port()));
    assert!(clients.iter().all(|client| client.counters().breaks == 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_closes_for_what_stays_is_not_asked_again_soon() {
    let node = FakeNode::start();
    for code in [Close::Malformed, Close::NotAllowed, Close::TakenOver] {
        let tls = Tls::pinned(node.fingerprint()).unwrap();
        let config = Config { backoff_max: Duration::from_secs(600), ..config(&node, &tls, None) };
        let client = Client::start(config, Handlers::new()).unwrap();
        node.until("a connection", |memory| memory.connections.len() == 1).await;
        soon(client.online().wait_for(|online| *online)).await.unwrap();
        node.cut(code);
        soon(client.online().wait_for(|online| !*online)).await.unwrap();
        // Twenty of the short waits.
        let mut online = client.online();
        let again = timeout(Duration::from_millis(400), online.wait_for(|online| *online)).await.is_ok();
        assert!(!again, "{code:?}");
        assert_eq!((client.counters().connects, client.counters().breaks), (1, 1), "{code:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_boot_that_no_other_can_follow_does_not_make_the_client_ask_for_ever() {
    let node = FakeNode::start();
    node.memory().is_stale = true;
    let tls = Tls::pinned(node.fingerprint()).unwrap();
    let config = Config { backoff_max: Duration::from_secs(600), ..config(&node, &tls, None) };
    let client = Client::start(config, Handlers::new()).unwrap();
    drop(client.publish("t", "x").unwrap());
    node.until("two connections", |memory| memory.connections.len() == 2).await;
    let mut online = client.online();
    soon(online.wait_for(|online| !*online)).await.unwrap();
    let third = timeout(Duration::from_millis(400), node.until("a third", |memory| memory.connections.len() == 3));
    assert!(third.await.is_err(), "it waits long");
    node.memory().is_stale = false;
    assert_eq!(client.unacked(), 1, "what it holds is kept");
}

/// Counts how often a certificate is shown.
#[derive(Debug)]
struct Counting(crate::trust::Pin, Arc<AtomicUsize>);

mod counting {
    use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
    use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
    use rustls::{DigitallySignedStruct, Error, SignatureScheme};

    use super::*;

    impl ServerCertVerifier for Counting {
        fn verify_server_cert(
            &self,
            end_entity: &CertificateDer<'_>,
            intermediates: &[CertificateDer<'_>],
            server_name: &ServerName<'_>,
            ocsp: &[u8],
            now: UnixTime,
        ) -> Result<ServerCertVerified, Error> {
            self.1.fetch_add(1, Relaxed);
            self.0.verify_server_cert(end_entity, intermediates, server_name, ocsp, now)
        }

        fn verify_tls12_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls12_signature(message, cert, dss)
        }

        fn verify_tls13_signature(
            &self,
            message: &[u8],
            cert: &CertificateDer<'_>,
            dss: &DigitallySignedStruct,
        ) -> Result<HandshakeSignatureValid, Error> {
            self.0.verify_tls13_signature(message, cert, dss)
        }

        fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
            self.0.supported_verify_schemes()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_is_resumed_and_the_certificate_not_shown_again() {
    let node = FakeNode::start();
    let shown = Arc::new(AtomicUsize::new(0));
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let pin = crate::trust::Pin::new(node.fingerprint(), Arc::clone(&provider));
    let tls = Tls::with_verifier(Arc::new(Counting(pin, Arc::clone(&shown))), provider).unwrap();
    let client = Client::start(config(&node, &tls, None), Handlers::new()).unwrap();
    for round in 1..=3 {
        all_acked(publish_all(&client, &[round.to_string()]).await).await;
        node.cut(Close::Stopping);
        node.until("the next connection", |memory| memory.connections.len() == 1).await;
    }
    assert_eq!(shown.load(Relaxed), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stranger_is_not_spoken_to() {
    let node = FakeNode::start();
    let tls = Tls::pinned("00".repeat(32).parse().unwrap()).unwrap();
    let client = Client::start(config(&node, &tls, None), Handlers::new()).unwrap();
    let _receipt = client.publish("s/t", "secret").unwrap();
    soon(async {
        while client.counters().breaks < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    assert_eq!((client.counters().connects, node.memory().frames), (0, 0));
}
