//! Many of one address, who begin to shake hands and never end.

use std::sync::atomic::AtomicUsize;

use tokio::net::UdpSocket;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::raw::{Raw, code};
use super::*;
use crate::transport::dial_join;

/// Of one address.
const SILENT: usize = 64;

/// What the silent ones have come to.
#[derive(Default)]
struct Come {
    /// Who has sent something.
    sent: AtomicUsize,
    /// Who was answered, or was asked to prove the address and did.
    reached: AtomicUsize,
}

/// Whether a packet asks to prove an address: its header is a long one, of kind 3.
fn is_retry(packet: &[u8]) -> bool {
    packet.first().is_some_and(|first| first & 0xb0 == 0xb0)
}

/// Brings what a client sends to a node, and nothing back but that it is to prove its address.
async fn hold_back(client_side: UdpSocket, node: SocketAddr, come: Arc<Come>) {
    let node_side = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let (mut up, mut down) = ([0; 2_048], [0; 2_048]);
    let (mut client, mut is_asked, mut is_reached) = (None, false, false);
    loop {
        tokio::select! {
            come_up = client_side.recv_from(&mut up) => {
                let (count, from) = come_up.unwrap();
                node_side.send_to(&up[..count], node).await.unwrap();
                if client.replace(from).is_none() {
                    come.sent.fetch_add(1, Ordering::Relaxed);
                }
                if is_asked && !std::mem::replace(&mut is_reached, true) {
                    come.reached.fetch_add(1, Ordering::Relaxed);
                }
            }
            come_down = node_side.recv_from(&mut down) => {
                let (count, _) = come_down.unwrap();
                match client.filter(|_| is_retry(&down[..count])) {
                    Some(client) => {
                        is_asked = true;
                        client_side.send_to(&down[..count], client).await.unwrap();
                    }
                    None if !std::mem::replace(&mut is_reached, true) => {
                        come.reached.fetch_add(1, Ordering::Relaxed);
                    }
                    None => {}
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_address_keeps_no_node_of_another_from_coming() {
    let ids = Ids::make(7);
    let members = vec![member(2, "127.0.0.2:9"), member(5, "127.0.0.1:9")];
    let node = Node::start(ids.endpoint(5, &fast()), 15, members, fast());
    let (address, come, pin) = (node.address(), Arc::<Come>::default(), ids.of(1).ca_fingerprint());
    let mut silent = JoinSet::new();
    for _ in 0..SILENT {
        let client_side = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let held = client_side.local_addr().unwrap();
        silent.spawn(hold_back(client_side, address, Arc::clone(&come)));
        silent.spawn(async move {
            let _ = dial_join(held, SITE, pin, Config::default().bounds()).await;
        });
    }
    let begin = Instant::now();
    while come.sent.load(Ordering::Relaxed) < SILENT || come.reached.load(Ordering::Relaxed) < SILENT / 2 {
        assert!(begin.elapsed() < LONG, "{} of {SILENT} have come", come.reached.load(Ordering::Relaxed));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let other = SocketAddr::from(([127, 0, 0, 2], 0));
    let endpoint = site_endpoint(other, ids.of(2), Config::default().bounds()).unwrap();
    let raw = Raw { endpoint };
    let greeted = timeout(Duration::from_secs(4), raw.greet(&node, &raw.hello(1))).await;
    let greeted = greeted.expect("it waits for none of them, who are given up after five seconds");
    assert!(greeted.is_ok(), "{:?}", greeted.map_err(|ended| code(&ended)).err());
    silent.abort_all();
}
