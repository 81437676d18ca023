//! Wills that the log does not take when they are due.

use std::sync::Arc;

use sled_data::{Durability, Faults, MemoryBackend, Options, Store, TopicConfig};

use super::site_tests::{gateway, gateway_on, gone, retained, say, until};
use super::tests::{Client, Node, text};
use super::will_tests::appended;
use crate::clock::Clock;
use crate::event_log::{self, EventLog};
use crate::ingest::CATCH_ALL_TOPIC;
use crate::mqtt::session::KeptSession;
use crate::sessions::Arrival;

/// A store whose events go to a topic of this durability.
fn store_with(durability: Durability) -> Arc<MemoryBackend> {
    let backend = Arc::new(MemoryBackend::new());
    let (store, recovered) = Store::on(Arc::clone(&backend) as _, Options::default()).unwrap();
    let clock = Arc::new(Clock::starting_after(recovered.last_hlc));
    let log = EventLog::open(Arc::new(store), clock, event_log::Config::default()).unwrap();
    log.ensure_topic(CATCH_ALL_TOPIC, Some(TopicConfig { partitions: 1, durability, ..TopicConfig::default() }))
        .unwrap();
    log.close();
    log.store().close().unwrap();
    backend
}

fn has_will(node: &Node) -> bool {
    let state = node.sessions.kept_state("c");
    state.is_some_and(|state| KeptSession::from_bytes(&state).unwrap().will.is_some())
}

async fn is_published_once(node: &Node) {
    let is_stored = || {
        node.door.look_after();
        appended(node) == 1
    };
    until("its will is published", is_stored).await;
    assert_eq!(retained(node), [b"offline"]);
    assert!(!has_will(node));
    let again_ms = node.door.now_ms() + 1_500;
    let would_be_again = || {
        node.door.look_after();
        node.door.now_ms() >= again_ms
    };
    until("it would be tried again", would_be_again).await;
    assert_eq!(appended(node), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_waits_for_the_quorum_of_its_topic_over_a_restart_too() {
    for (expiry_s, is_killed) in [(0, false), (60, false), (60, true)] {
        let backend = store_with(Durability::Quorum);
        let mut b = gateway_on(4, &backend);
        let client = Client::connect_with_will(&b, "c", expiry_s, "offline").await;
        b.log.set_quorum_in_reach(false);
        drop(client);
        gone(&b, "c", 0).await;
        b.door.look_after();
        assert_eq!(has_will(&b), expiry_s > 0, "a session that is kept has its will");
        if is_killed {
            let image = Arc::new(backend.image());
            image.power_cut(0);
            b.log.close();
            b = gateway_on(4, &image);
            b.log.set_quorum_in_reach(false);
            b.door.look_after();
        }
        assert_eq!(appended(&b), 0, "{expiry_s} {is_killed}");
        b.log.set_quorum_in_reach(true);
        is_published_once(&b).await;
        b.log.close();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_whose_commit_was_refused_is_published_when_there_is_room() {
    let backend = store_with(Durability::Sync);
    let b = gateway_on(4, &backend);
    let client = Client::connect_with_will(&b, "c", 60, "offline").await;
    until("its coming is stored", || b.sessions.seen("c").unwrap().is_some()).await;
    let newest = b.log.store().last_commit();
    until("all is synced", || b.log.store().synced_commit() >= newest).await;
    backend.set_faults(Faults { full_after_writes: Some(0), ..Faults::default() });
    assert!(b.log.lock().check(1).is_ok(), "it is appended");
    drop(client);
    let is_to_be_again = || {
        b.door.look_after();
        has_will(&b)
    };
    until("its commit is refused, and its session has it again", is_to_be_again).await;
    backend.set_faults(Faults::default());
    is_published_once(&b).await;
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_that_was_refused_is_tried_once_more_when_its_client_is_back() {
    for is_in_reach in [false, true] {
        let b = gateway_on(4, &store_with(Durability::Quorum));
        let client = Client::connect_with_will(&b, "c", 60, "offline").await;
        b.log.set_quorum_in_reach(false);
        drop(client);
        gone(&b, "c", 0).await;
        b.log.set_quorum_in_reach(is_in_reach);
        let (_client, present) = Client::connect(&b, "c", 60, 10).await;
        assert!(present);
        b.log.set_quorum_in_reach(true);
        let later_ms = b.door.now_ms() + 1_500;
        let is_later = || {
            b.door.look_after();
            b.door.now_ms() >= later_ms
        };
        until("it would be tried again", is_later).await;
        assert_eq!(appended(&b), u64::from(is_in_reach), "it was before its client's word, or is not at all");
        b.log.close();
    }
}

/// A client whose session is kept for a minute comes, and goes without a word; its will is due after so many seconds.
async fn goes_with_will(node: &Node, delay_s: u32, payload: &str) {
    let expiry = [&[5, 0x11][..], &60_u32.to_be_bytes()].concat();
    let delay = [&[5, 0x18][..], &delay_s.to_be_bytes()].concat();
    let will = [&delay[..], &text("t"), &text(payload)].concat();
    let begun = node.sessions.seen("c").unwrap().map_or(0, |seen| seen.begun);
    drop(Client::connect_by(node, &[&[5, 0x2c, 0, 0][..], &expiry, &text("c"), &will].concat()).await);
    gone(node, "c", begun).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_that_is_due_leaves_its_clients_next_one_alone() {
    let b = gateway_on(4, &store_with(Durability::Quorum));
    b.log.set_quorum_in_reach(false);
    goes_with_will(&b, 0, "offline").await;
    b.door.look_after();
    let is_due = || !b.door.due_wills().is_empty();
    until("it is to be tried again", is_due).await;
    b.log.set_quorum_in_reach(true);
    // Others are due as well, and before it is its turn its client has come, and has gone with another one.
    let due = b.door.due_wills();
    goes_with_will(&b, 60, "offline again").await;
    assert_eq!(due.len(), 1);
    due.iter().for_each(|client| b.door.look_after_will(client));
    let is_stored = || appended(&b) == 1;
    until("the first one was published when its client came", is_stored).await;
    assert!(has_will(&b), "the next one is kept");
    // And waits: where its session ends, it is published.
    let (_client, present) = Client::connect(&b, "c", 0, 10).await;
    assert!(!present);
    until("it is published", || appended(&b) == 2).await;
    b.log.close();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_that_is_due_when_its_client_comes_is_called_off() {
    let b = gateway(4);
    goes_with_will(&b, 1, "offline").await;
    // Its client is let in; what becomes of its session is not said yet.
    let arrival = Arrival { client_id: "c".into(), protocol: "mqtt-5", remote: "test".into(), clean_start: false };
    let admitted = b.sessions.connect(arrival).await.unwrap();
    assert!(admitted.kept.is_some());
    until("its will is due", || !b.door.due_wills().is_empty()).await;
    b.door.look_after();
    b.door.call_off_will(&admitted.entry.client_id, true);
    let (mut other, _) = Client::connect(&b, "p", 0, 10).await;
    say(&mut other, 1, "x").await;
    assert_eq!(appended(&b), 1, "the other client's word");
    b.log.close();
}
