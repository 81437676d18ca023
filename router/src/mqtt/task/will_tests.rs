//! Wills of clients that have gone to another gateway: what their newer session retains stays.

use std::sync::Arc;

use super::site_tests::{gateway, moment, retain, retained, ship_all, until};
use super::tests::{Client, Node};

/// Two gateways: a client with a will has left one without a word, and says at the other that it is online.
async fn moved() -> (Node, Client, Node, Client) {
    let (a, b) = (gateway(3), gateway(4));
    let mut at_b = Client::connect_with_will(&b, "c", 0, "offline").await;
    retain(&mut at_b, 1, "online at b").await;
    moment(&b).await;
    let mut at_a = Client::connect_as(&a, "c", 5).await;
    retain(&mut at_a, 1, "online").await;
    moment(&a).await;
    (b, at_b, a, at_a)
}

async fn is_online_at_all(a: &Node, b: &Node) {
    // The will was published, and has been stored.
    let newest = b.log.store().last_commit();
    until("it is synced", || b.log.store().synced_commit() >= newest).await;
    ship_all(a, b).await;
    ship_all(b, a).await;
    assert_eq!(retained(a), [b"online"]);
    assert_eq!(retained(b), [b"online"]);
    a.log.close();
    b.log.close();
}

/// What a gateway itself has appended, of what is visible.
fn appended(node: &Node) -> u64 {
    let topic = node.log.topic(crate::ingest::CATCH_ALL_TOPIC).unwrap();
    let own = |partition: &Arc<crate::event_log::PartitionLog>| partition.id().origin == node.log.origin();
    topic.all_partitions().iter().filter(|partition| own(partition)).map(|partition| partition.visible_end()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_will_of_a_session_that_is_taken_over_elsewhere_is_older_than_what_that_one_retains() {
    let (b, mut at_b, a, _at_a) = moved().await;
    // b hears that it has come to a, and not yet what it says there: only its connection is told to end.
    ship_all(&a, &b).await;
    assert_eq!(at_b.next().await.unwrap().0, 0xe0, "DISCONNECT");
    assert_eq!(at_b.next().await, None);
    until("its will is published", || appended(&b) == 2).await;
    is_online_at_all(&a, &b).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_will_at_a_gateway_that_is_cut_off_is_as_old_as_what_was_heard_of_its_client() {
    let (b, at_b, a, _at_a) = moved().await;
    // b does not hear of it, and finds the silent connection broken later.
    drop(at_b);
    until("its will is published", || appended(&b) == 2).await;
    assert_eq!(retained(&b), [b"offline"]);
    is_online_at_all(&a, &b).await;
}
