//! A wall clock that is ahead when a process begins, and is set back a moment later.

use std::sync::Arc;

use sled_data::MemoryBackend;

use super::site_tests::{gone, retained, until};
use super::tests::{Client, Node, node_wrong_by, packet, subscribe, text};
use crate::ingest;
use crate::sessions::{KEPT_TREE, KeptRecord};

const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;

/// A node whose wall clock is wrong by so much at the start.
fn begin(wrong_ms: i64, backend: &Arc<MemoryBackend>) -> Node {
    let routing = ingest::Config::default();
    node_wrong_by(wrong_ms, None, 3, backend, (&routing, ingest::LanesConfig::default()))
}

/// Ends a process in order; what it has stored.
async fn end(node: &Node, backend: &MemoryBackend) -> Arc<MemoryBackend> {
    let newest = node.log.store().last_commit();
    until("all is synced", || node.log.store().synced_commit() >= newest).await;
    node.log.close();
    Arc::new(backend.image())
}

/// A client comes and goes, and its session is kept for an hour.
async fn kept(node: &Node, client: &str) {
    let (mut at_node, _) = Client::connect(node, client, 3_600, 2).await;
    at_node.send(&subscribe("t", 1, 5)).await;
    assert_eq!(at_node.next().await.unwrap().0, 0x90, "SUBACK");
    drop(at_node);
    gone(node, client, 0).await;
    // The door notes the end a moment before the session is stored: by a millisecond, now and then.
    let stored = node.log.state_get(KEPT_TREE, client.as_bytes()).unwrap().unwrap();
    let mut record = KeptRecord::decode(&stored).unwrap();
    record.expires_at_ms = record.expires_at_ms.map(|at_ms| at_ms + 1);
    let ticket = {
        let mut open = node.log.lock();
        assert!(open.put_state(KEPT_TREE, client.as_bytes(), Some(&record.encode())));
        open.ticket()
    };
    node.log.durable(ticket).await.unwrap();
}

/// Retains a message for an hour.
async fn retain_for_an_hour(node: &Node) {
    let (mut client, _) = Client::connect(node, "p", 0, 10).await;
    let properties = [&[5, 2][..], &3_600_u32.to_be_bytes()].concat();
    client.send(&packet(0x33, &[&text("t"), &1_u16.to_be_bytes()[..], &properties, b"x"].concat())).await;
    assert_eq!(client.next().await.unwrap(), (0x40, vec![0, 1]));
}

async fn goes_on(node: &Node, client: &str) -> bool {
    Client::connect(node, client, 3_600, 2).await.1
}

/// What a process has stored with the right time, and the next one, which begins a day ahead.
async fn a_day_ahead() -> Node {
    let backend = Arc::new(MemoryBackend::new());
    let before = begin(0, &backend);
    for client in ["soon", "later", "away"] {
        kept(&before, client).await;
    }
    retain_for_an_hour(&before).await;
    let image = end(&before, &backend).await;
    let node = begin(DAY_MS, &image);
    node.door.look_after();
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_begins_ahead_and_is_set_back_ends_nothing_that_a_process_before_has_kept() {
    let node = a_day_ahead().await;
    assert!(goes_on(&node, "soon").await, "it comes before the clock is set");
    node.log.clock().step(-DAY_MS);
    node.door.look_after();
    assert!(goes_on(&node, "later").await, "it comes behind that");
    node.log.clock().pass(120_000);
    node.door.look_after();
    assert!(node.sessions.kept_state("away").is_some());
    assert_eq!(retained(&node), [b"x"]);
    // Each has its hour, and no more.
    node.log.clock().pass(u64::try_from(HOUR_MS).unwrap());
    node.door.look_after();
    assert!(node.sessions.kept_state("away").is_none());
    assert!(retained(&node).is_empty());
    node.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_down_for_a_day_ends_what_is_over_a_minute_after_its_start() {
    let node = a_day_ahead().await;
    assert!(node.sessions.kept_state("away").is_some(), "its clock may be set back yet");
    assert!(retained(&node).is_empty(), "it is shown no more, and is not dropped");
    assert!(node.door.retained.stamp("t").is_some());
    node.log.clock().pass(61_000);
    assert!(!goes_on(&node, "soon").await);
    node.door.look_after();
    assert!(node.sessions.kept_state("away").is_none());
    assert_eq!(node.door.retained.stamp("t"), None);
    node.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_set_back_to_before_what_was_stored_is_not_believed() {
    let node = a_day_ahead().await;
    node.log.clock().pass(61_000);
    node.log.clock().step(-3 * DAY_MS);
    node.door.look_after();
    assert!(node.sessions.kept_state("away").is_none());
    assert_eq!(node.door.retained.stamp("t"), None);
    node.log.close();
}

/// A client with a will, whose delay is ten minutes, goes without a word from a process that began so much ahead, and was set back; the next process, which
/// begins wrong by so much.
async fn kept_ahead(ahead_ms: i64, next_ms: i64) -> Node {
    let backend = Arc::new(MemoryBackend::new());
    let before = begin(ahead_ms, &backend);
    before.log.clock().step(-ahead_ms);
    let properties = [&[5, 0x11][..], &3_600_u32.to_be_bytes()].concat();
    let will = [&[5, 0x18][..], &600_u32.to_be_bytes(), &text("t"), &text("offline")].concat();
    let client = Client::connect_by(&before, &[&[5, 0x2c, 0, 0][..], &properties, &text("c"), &will].concat()).await;
    drop(client);
    gone(&before, "c", 0).await;
    let image = end(&before, &backend).await;
    begin(next_ms, &image)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_ended_in_the_future_has_ended_by_the_start() {
    for (ahead_ms, next_ms) in [(0, 0), (DAY_MS, 0), (0, -DAY_MS)] {
        let node = kept_ahead(ahead_ms, next_ms).await;
        let case = format!("{ahead_ms} {next_ms}");
        node.log.clock().pass(500_000);
        node.door.look_after();
        assert!(retained(&node).is_empty(), "{case}: its will waits");
        node.log.clock().pass(200_000);
        node.door.look_after();
        assert_eq!(retained(&node), [b"offline"], "{case}");
        node.log.clock().pass(2_800_000);
        node.door.look_after();
        assert!(node.sessions.kept_state("c").is_some(), "{case}");
        node.log.clock().pass(200_000);
        assert!(!goes_on(&node, "c").await, "{case}");
        node.log.close();
    }
}
