//! The device client against a real node: `edgeway/1` over QUIC, and MQTT over TLS.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use devices::client::{Config, Fate, Handlers, PublishOptions, blocking};

use crate::harness::{Node, wait};

const LONG: Duration = Duration::from_secs(30);

fn free_ports() -> (u16, u16) {
    // The node comes back to the same ports after it was killed.
    let udp = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    (udp.local_addr().unwrap().port(), tcp.local_addr().unwrap().port())
}

fn start() -> Node {
    let (udp, tcp) = free_ports();
    Node::start_with(&format!("[listen]\nquic = '127.0.0.1:{udp}'\nmqtts = '127.0.0.1:{tcp}'\n"))
}

fn written(node: &Node, name: &str) -> String {
    fs::read_to_string(node.data().join(name)).unwrap()
}

/// The address of a node's door, with its fingerprint as the pin.
fn url(node: &Node, scheme: &str) -> String {
    let file = if scheme == "quic" { "quic.addr" } else { "mqtts.addr" };
    format!("{scheme}://{}?pin={}", written(node, file), written(node, "quic.fingerprint"))
}

fn client(url: &str, device: &str, handlers: Handlers) -> blocking::Client {
    let mut config = Config::from_url(url, device).unwrap();
    config.backoff_max = Duration::from_millis(300);
    blocking::Client::start(config, handlers).unwrap()
}

fn texts(node: &Node, key: &str) -> Vec<String> {
    node.events("mqtt").iter().filter(|event| event.key() == key).map(|event| event.text()).collect()
}

#[test]
fn a_killed_node_has_everything_once_and_in_order() {
    for scheme in ["quic", "mqtts"] {
        const EVENTS: usize = 6_000;
        let mut node = start();
        let client = client(&url(&node, scheme), "pump-7", Handlers::new());
        let acked = Arc::new(AtomicUsize::new(0));
        for number in 0..EVENTS {
            let counted = Arc::clone(&acked);
            let done = move |fate| {
                let is_acked = matches!(fate, Fate::Acked { .. });
                counted.fetch_add(usize::from(is_acked), Ordering::Relaxed);
            };
            client.publish_then("pump/rpm", number.to_string(), PublishOptions::default(), done).unwrap();
            if number % 2_000 == 1_000 {
                let enough = number / 4;
                wait::until_true("acknowledgements", || acked.load(Ordering::Relaxed) > enough);
                node.kill();
                node.run();
            }
        }
        wait::until_true("all are acknowledged", || acked.load(Ordering::Relaxed) == EVENTS);
        let found = texts(&node, "pump/rpm");
        let wrong = (0..EVENTS).find(|number| found.get(*number) != Some(&number.to_string()));
        assert_eq!((wrong, found.len()), (None, EVENTS), "{scheme}: each once, in order");
        assert_eq!(client.stop(LONG), 0);
    }
}

#[test]
fn a_command_goes_to_the_device_and_its_answer_comes_back() {
    let node = start();
    for scheme in ["quic", "mqtts"] {
        let handlers = Handlers::new().on("cool", |call| {
            let payload = call.payload.clone();
            call.succeed(payload);
        });
        let early = node.send_command(scheme, "cool", "21", None);
        let client = client(&url(&node, scheme), scheme, handlers);
        wait::until_true("the early command", || node.command_state(&early) == "succeeded");
        let command = node.send_command(scheme, "cool", "22", None);
        wait::until_true("the command", || node.command_state(&command) == "succeeded");
        assert_eq!(client.counters().commands, 2);
        assert_eq!(client.stop(LONG), 0);
    }
}

#[test]
fn an_alarm_overtakes_bulk() {
    const EVENTS: usize = 3_000;
    let node = start();
    let client = client(&url(&node, "quic"), "pump-7", Handlers::new());
    for _ in 0..EVENTS {
        drop(client.publish_with("pump/history", vec![b'x'; 2_000], PublishOptions::bulk()).unwrap());
    }
    let alarm = client.publish_with("pump/alarm", "hot", PublishOptions::urgent()).unwrap();
    assert!(matches!(alarm.wait(), Fate::Acked { .. }));
    let before = client.unacked();
    assert_eq!(client.stop(LONG), 0);
    assert_eq!(texts(&node, "pump/history").len(), EVENTS);
    assert!(before > EVENTS / 2, "{before} of {EVENTS} were still on their way");
}

#[test]
fn a_node_with_another_certificate_gets_nothing() {
    let node = start();
    for scheme in ["quic", "mqtts"] {
        let file = if scheme == "quic" { "quic.addr" } else { "mqtts.addr" };
        let wrong = format!("{scheme}://{}?pin={}", written(&node, file), "00".repeat(32));
        let stranger = client(&wrong, "pump-7", Handlers::new());
        drop(stranger.publish("pump/rpm", "secret").unwrap());
        wait::until_true("two attempts", || stranger.counters().breaks >= 2);
        assert_eq!(stranger.counters().connects, 0);
        // What the node made itself vouches for itself.
        let ca = node.data().join("quic.crt");
        let port = written(&node, file).rsplit(':').next().unwrap().to_owned();
        let trusting = client(&format!("{scheme}://localhost:{port}?ca={}", ca.display()), "pump-8", Handlers::new());
        assert!(matches!(trusting.publish("pump/ca", scheme).unwrap().wait(), Fate::Acked { .. }));
    }
    assert_eq!(texts(&node, "pump/rpm"), [""; 0]);
    assert_eq!(texts(&node, "pump/ca"), ["quic", "mqtts"]);
}
