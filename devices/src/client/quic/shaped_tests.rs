//! Alarms beside bulk over a slow link with a deep queue, and bulk alone over a fast one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::fake_node::FakeNode;
use crate::client::{Client, Config, Fate, Handlers, PublishOptions, Tls, Transport};

/// Packets that wait in front of the slow link.
const QUEUE_MAX: usize = 1_000;
const PACKET_BYTES_MAX: usize = 1_600;

/// Passes one client's packets on, at a rate towards the node and with a delay both ways.
async fn relay(node: SocketAddr, bytes_per_second: u64, one_way: Duration) -> SocketAddr {
    let front = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    let back = Arc::new(UdpSocket::bind("127.0.0.1:0").await.unwrap());
    back.connect(node).await.unwrap();
    let address = front.local_addr().unwrap();
    let (to_client, client) = mpsc::channel::<SocketAddr>(1);
    tokio::spawn(upwards(Arc::clone(&front), Arc::clone(&back), bytes_per_second, one_way, to_client));
    tokio::spawn(downwards(front, back, one_way, client));
    address
}

type Delayed = (Instant, Vec<u8>);

async fn upwards(
    front: Arc<UdpSocket>,
    back: Arc<UdpSocket>,
    bytes_per_second: u64,
    one_way: Duration,
    client: mpsc::Sender<SocketAddr>,
) {
    let (queue, mut queued) = mpsc::channel::<Delayed>(QUEUE_MAX);
    tokio::spawn(async move {
        while let Some((at, packet)) = queued.recv().await {
            sleep_until(at).await;
            let _ = back.send(&packet).await;
        }
    });
    let mut free_at = Instant::now();
    let mut packet = [0; PACKET_BYTES_MAX];
    while let Ok((length, from)) = front.recv_from(&mut packet).await {
        let _ = client.try_send(from);
        let takes = Duration::from_nanos(length as u64 * 1_000_000_000 / bytes_per_second);
        let leaves = free_at.max(Instant::now()) + takes;
        if queue.try_send((leaves + one_way, packet[..length].to_vec())).is_ok() {
            free_at = leaves;
        }
    }
}

async fn downwards(
    front: Arc<UdpSocket>,
    back: Arc<UdpSocket>,
    one_way: Duration,
    mut client: mpsc::Receiver<SocketAddr>,
) {
    let Some(client) = client.recv().await else { return };
    let (queue, mut queued) = mpsc::channel::<Delayed>(QUEUE_MAX);
    tokio::spawn(async move {
        while let Some((at, packet)) = queued.recv().await {
            sleep_until(at).await;
            let _ = front.send_to(&packet, client).await;
        }
    });
    let mut packet = [0; PACKET_BYTES_MAX];
    while let Ok(length) = back.recv(&mut packet).await {
        let _ = queue.try_send((Instant::now() + one_way, packet[..length].to_vec()));
    }
}

fn client(node: &FakeNode, address: SocketAddr) -> Client {
    let tls = Tls::pinned(node.fingerprint()).unwrap();
    let (host, port) = (address.ip().to_string(), address.port());
    let mut config = Config::new(host.clone(), port, "d");
    config.transport = Transport::Quic { host, port, tls, endpoint: None };
    config.buffer.bytes_max = 64 << 20;
    config.buffer.publishes_max = 100_000;
    Client::start(config, Handlers::new()).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_alarm_does_not_wait_for_bulk_on_a_slow_link() {
    const BYTES_PER_SECOND: u64 = 125_000;
    let node = FakeNode::start();
    node.memory().counts_only = true;
    let address = relay(node.address, BYTES_PER_SECOND, Duration::from_millis(50)).await;
    let client = client(&node, address);
    for _ in 0..3_000 {
        drop(client.publish_with("bulk", vec![b'x'; 1_000], PublishOptions::bulk()).unwrap());
    }
    node.until("bulk flows", |memory| memory.bytes > 200_000).await;
    let (begun, bytes) = (Instant::now(), node.memory().bytes);
    let mut waits = Vec::new();
    while begun.elapsed() < Duration::from_secs(8) {
        let published = Instant::now();
        let alarm = client.publish_with("alarm", "hot", PublishOptions::urgent()).unwrap();
        let fate = timeout(Duration::from_secs(10), alarm).await.unwrap();
        assert!(matches!(fate, Fate::Acked { .. }));
        waits.push(published.elapsed());
        sleep(Duration::from_millis(70)).await;
    }
    let arrived = (node.memory().bytes - bytes) as f64;
    let used = arrived / begun.elapsed().as_secs_f64() / BYTES_PER_SECOND as f64;
    waits.sort();
    let (half, most) = (waits[waits.len() / 2], waits[waits.len() * 95 / 100]);
    println!(
        "{} alarms: half within {half:?}, 95 % within {most:?}, all within {:?}; bulk used {used:.2}",
        waits.len(),
        waits.last()
    );
    assert!(most < Duration::from_millis(300), "three round trips, the link's time included: {most:?}");
    assert!(used > 0.75, "of the link: {used:.2}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_is_not_held_back_where_there_is_no_queue() {
    const EVENTS: usize = 600;
    const EVENT_BYTES: usize = 60 << 10;
    let node = FakeNode::start();
    node.memory().counts_only = true;
    let client = client(&node, node.address);
    let begun = Instant::now();
    for _ in 0..EVENTS {
        drop(client.publish_with("bulk", vec![b'x'; EVENT_BYTES], PublishOptions::bulk()).unwrap());
    }
    node.until("all", |memory| memory.bytes == EVENTS * EVENT_BYTES).await;
    let megabytes = (EVENTS * EVENT_BYTES) as f64 / 1e6;
    println!("{:.0} MB/s", megabytes / begun.elapsed().as_secs_f64());
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?} for {megabytes} MB", begun.elapsed());
}
