//! Terms that are far apart, as one message of a node that lies leaves them.

use super::site::{Site, fast, leader, member, until, until_same};
use super::*;
use crate::catalog::consensus::leavings;

/// More than a term rises by at once.
const FAR: u64 = 3 << 24;

/// Stops a node, and starts it as one that has come to that term.
async fn raised(site: &Site, node: super::site::Node, term: u64, is_won: bool) -> super::site::Node {
    let id = node.id;
    let backend = site.stop(node).await;
    let log = open_log(&backend);
    leavings::set_term(&log, id, term, is_won);
    log.close();
    site.start_on(id.0, backend)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_has_come_to_no_term_is_let_in_at_any() {
    let site = Site::new(fast());
    let founder = raised(&site, site.start(1), FAR, true).await;
    let new = site.start(2);
    founder.change(member(2)).await.unwrap();
    until_same(&[&founder, &new]).await;
    assert!(new.catalog.consensus_status().term >= FAR);
    // And one that was restored: it has forgotten its term.
    let earlier = Arc::new(site.stop(new).await.image());
    founder.change(add("meanwhile")).await.unwrap();
    let restored = site.start_restored(2, earlier);
    until_same(&[&founder, &restored]).await;
    restored.change(add("after")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn voters_whose_terms_are_far_apart_come_together() {
    // One of three is far ahead; one is far behind the others.
    for raised_count in [1, 2] {
        let (site, mut nodes) = Site::of(fast(), 3).await;
        nodes[0].change(add("before")).await.unwrap();
        until_same(&nodes.iter().collect::<Vec<_>>()).await;
        for at in 1..=raised_count {
            let node = nodes.remove(at);
            nodes.insert(at, raised(&site, node, FAR * at as u64, false).await);
        }
        until("all have come there", || {
            nodes.iter().all(|node| node.catalog.consensus_status().term >= FAR * raised_count as u64)
        })
        .await;
        leader(&nodes).await;
        for (at, node) in nodes.iter().enumerate() {
            node.change(add(&format!("after{at}"))).await.unwrap_or_else(|refusal| panic!("{raised_count}: {refusal}"));
        }
        until_same(&nodes.iter().collect::<Vec<_>>()).await;
        assert_eq!(nodes[0].devices().len(), 4);
    }
}
