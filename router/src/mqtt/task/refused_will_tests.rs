//! Wills that the log does not take when they are due.

use std::sync::Arc;

use sled_data::{Durability, Faults, MemoryBackend, Options, Store, TopicConfig};

use super::site_tests::{gateway_on, gone, retained, until};
use super::tests::{Client, Node};
use super::will_tests::appended;
use crate::clock::Clock;
use crate::event_log::{self, EventLog};
use crate::ingest::CATCH_ALL_TOPIC;
use crate::mqtt::session::KeptSession;

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
