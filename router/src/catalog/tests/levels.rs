//! Nodes of different levels: what is new waits for all, and one that is too old takes no part and harms nobody.

use super::site::{Node, Site, fast, leader, member, until, until_same};
use super::*;

fn start(site: &Site, level_max: u16, id: u64) -> Node {
    let backend = Arc::new(MemoryBackend::new());
    let log = open_log(&backend);
    site.start_knowing(level_max, id, backend, log)
}

fn route(name: &str) -> Change {
    let route = NewRoute { order: 1, pattern: "a/#".into(), topic: "a".into(), key: None };
    Change::SetRoute { name: name.into(), route }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_new_waits_until_all_know_it() {
    let site = Site::new(fast());
    // The first is as it was before; the others are newer.
    let mut nodes = vec![start(&site, 1, 1)];
    for id in 2..=3 {
        nodes.push(start(&site, LEVEL_MAX, id));
        nodes[0].change(member(id)).await.unwrap();
    }
    site.until_voters(&nodes, 3).await;
    for node in &nodes {
        assert_eq!(node.catalog.level(), 1);
        let refused = node.change(route("r")).await.unwrap_err();
        assert_eq!(refused.code(), "site-not-upgraded", "{refused}");
    }
    nodes[1].change(add("d")).await.unwrap();
    until("what is old goes on", || nodes.iter().all(|node| node.devices() == ["d"])).await;
    // The first is upgraded: the same store, a newer program.
    let backend = site.stop(nodes.remove(0)).await;
    nodes.push(site.start_on(1, backend));
    leader(&nodes).await;
    nodes[0].change(Change::RaiseLevel { to: 2 }).await.unwrap();
    nodes[0].change(route("r")).await.unwrap();
    until("all have the rule", || nodes.iter().all(|node| node.catalog.routes().len() == 1)).await;
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
    let again = nodes[1].change(Change::RaiseLevel { to: 2 }).await.unwrap_err();
    assert_eq!(again.code(), "stale-level");

    // It does not go back: its store is of what came since.
    let backend = site.stop(nodes.remove(0)).await;
    let log = open_log(&backend);
    let opening = Opening { level_max: 1, ..Opening::default() };
    let refused = Catalog::open_as(Arc::clone(&log), Config::default(), opening).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Newer { level: 2, known: 1 }), "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_too_old_takes_no_part_and_harms_nobody() {
    let (site, mut nodes) = Site::of(fast(), 3).await;
    assert_eq!(nodes[0].catalog.level(), LEVEL_MAX, "a new site begins where its founder is");
    let old = start(&site, 1, 4);
    nodes[0].change(member(4)).await.unwrap();
    for name in ["r", "s"] {
        nodes[1].change(route(name)).await.unwrap();
    }
    until("the others have it", || nodes.iter().all(|node| node.catalog.routes().len() == 2)).await;
    assert_eq!((old.catalog.level(), old.catalog.routes().len()), (1, 0), "it has taken nothing that it does not know");
    // Upgraded, it is one of them.
    let backend = site.stop(old).await;
    nodes.push(site.start_on(4, backend));
    until("it has all", || nodes[3].catalog.routes().len() == 2).await;
    until_same(&nodes.iter().collect::<Vec<_>>()).await;
}
