//! Nodes that are far behind, stores of earlier programs, and what a crash leaves.

use std::time::Duration;

use serde_json::json;
use sled_data::Faults;

use super::site::{Site, fast, leader, member, until, until_same};
use super::*;
use crate::catalog::consensus::leavings;

/// The log is cut off early.
fn short() -> Timing {
    Timing { changes_a_snapshot: 8, changes_kept: 2, ..fast() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_far_behind_gets_the_whole_state() {
    let (site, mut nodes) = Site::of(short(), 3).await;
    let at = (leader(&nodes).await + 1) % 3;
    let behind = nodes.remove(at);
    behind.change(add("old")).await.unwrap();
    behind.change(add("gone")).await.unwrap();
    site.ways.cut(&[&behind], &nodes.iter().collect::<Vec<_>>());
    for n in 0..40 {
        nodes[n % 2].change(add(&format!("d{n:02}"))).await.unwrap();
    }
    nodes[0].change(Change::RemoveDevice { device: "gone".into() }).await.unwrap();
    until("the log is cut off", || nodes.iter().all(|node| leavings::count(&node.log, b"log/") <= 16)).await;
    let before = behind.catalog.consensus_status().last_applied;
    site.ways.heal();
    until_same(&[&behind, &nodes[0], &nodes[1]]).await;
    assert_eq!(behind.devices().len(), 41);
    let gap = behind.acts("catalog.gap").pop().unwrap();
    assert!(gap["set"]["from"] == before && gap["set"]["to"].as_u64() > Some(before), "it is told: {gap}");
    assert_eq!(leavings::count(&behind.log, b"page/") + leavings::count(&behind.log, b"install"), 0);
    // A new node gets it too, with all that was set before it came.
    let new = site.start(4);
    nodes[0].change(member(4)).await.unwrap();
    until("it has all", || new.devices().len() == 41).await;
    until_same(&[&new, &nodes[0]]).await;
    new.change(add("new")).await.unwrap();
    assert!(!new.voters().contains(&NodeId(4)), "a fourth node has no vote");
    // And all of it is there after a restart.
    let backend = site.stop(new).await;
    let new = site.start_on(4, backend);
    assert!(new.catalog.is_enrolled("new") && new.catalog.is_enrolled("old") && !new.catalog.is_enrolled("gone"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_large_state_comes_in_many_commits() {
    let site = Site::new(fast());
    let first = site.start(1);
    let tags: Vec<String> = (0..TAGS_MAX).map(|n| format!("{n:0>60}")).collect();
    let tags: Vec<&str> = tags.iter().map(String::as_str).collect();
    for n in 0..400 {
        first.change(tag(&format!("d{n:03}"), &tags, &[], true)).await.unwrap();
    }
    let new = site.start(2);
    first.change(member(2)).await.unwrap();
    until("it has all", || new.devices().len() == 400).await;
    until_same(&[&first, &new]).await;
}

#[tokio::test]
async fn what_was_set_by_an_earlier_program_stays() {
    let backend = Arc::new(MemoryBackend::new());
    let log = open_log(&backend);
    let device = Device { enrolled: true, ..Device::default() };
    let ticket = {
        let mut open = log.lock();
        open.put_state(CATALOG_TREE, b"device/old", Some(&device.encode()));
        open.ticket()
    };
    log.durable(ticket).await.unwrap();
    let catalog = Catalog::open(Arc::clone(&log), Config::default()).unwrap();
    assert!(catalog.is_enrolled("old"));
    catalog.propose(add("new"), "cli").await.unwrap();
    let members = catalog.members();
    let me = catalog.me();
    assert_eq!((members.len(), members[0].node, members[0].voter), (1, me, true));
    assert_eq!((members[0].origin, catalog.is_leader()), (Some(log.store().origin().0), true));
    let site = catalog.site().unwrap();
    catalog.close().await;
    log.close();
    drop(catalog);
    // It stays the same node and the same site.
    let log = open_log(&backend);
    let catalog = Catalog::open(Arc::clone(&log), Config::default()).unwrap();
    assert_eq!((catalog.me(), catalog.site(), catalog.len()), (me, Some(site), 2));
    let other = Opening { me: Some(NodeId(5)), ..Opening::default() };
    let refused = Catalog::open_as(Arc::clone(&log), Config::default(), other).err();
    assert!(matches!(refused, Some(OpenError::OtherNode { stored, me: NodeId(5) }) if stored == me));
    // It joins another site under a new id: it forgets its group, and waits.
    catalog.close().await;
    let joining = Opening { me: Some(NodeId(5)), start: Start::Joining, timing: fast(), ..Opening::default() };
    let catalog = Catalog::open_as(Arc::clone(&log), Config::default(), joining).unwrap();
    assert_eq!((catalog.me(), catalog.leader()), (NodeId(5), None));
    let refused = catalog.propose(add("x"), "cli").await.unwrap_err();
    assert_eq!(refused, Refusal::NoMajority { missing: Vec::new() });
    catalog.close().await;
    log.close();
}

#[tokio::test]
async fn a_crash_between_log_and_state_makes_a_change_once() {
    let backend = Arc::new(MemoryBackend::new());
    let log = open_log(&backend);
    let catalog = Catalog::open(Arc::clone(&log), Config::default()).unwrap();
    catalog.propose(add("a"), "cli").await.unwrap();
    let me = catalog.me();
    catalog.close().await;
    // As the store is when the power goes after the entry is stored and before it is in the state.
    leavings::leave_entry(&log, me, add("b"));
    log.close();
    drop(catalog);
    for round in 0..2 {
        backend.power_cut(0);
        let log = open_log(&backend);
        let catalog = Catalog::open(Arc::clone(&log), Config::default()).unwrap();
        until("it is in the state", || catalog.is_enrolled("b")).await;
        let told: Vec<_> = events(&log, CATALOG_TOPIC).iter().map(|event| event["device"].to_string()).collect();
        assert_eq!(told, ["\"a\"", "\"b\""], "{round}");
        let acts = events(&log, event_log::AUDIT_TOPIC);
        assert_eq!(acts.iter().filter(|act| act["what"] == "b").count(), 1);
        catalog.close().await;
        log.close();
    }
}

/// The gaps that are told of.
fn gaps(log: &EventLog) -> Vec<serde_json::Value> {
    events(log, CATALOG_TOPIC).into_iter().filter(|event| event["act"] == "catalog.gap").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_a_state_is_installed_ends_in_the_new_one_or_the_old_one() {
    let site = Site::new(short());
    let first = site.start(1);
    for n in 0..20 {
        first.change(add(&format!("d{n:02}"))).await.unwrap();
    }
    let new = site.start(2);
    first.change(member(2)).await.unwrap();
    until_same(&[&first, &new]).await;
    let commits = leavings::install_commits(&new.log, &first.catalog);
    let backend = site.stop(new).await;
    for count in 0..=commits.len() {
        let backend = Arc::new(backend.image());
        let log = open_log(&backend);
        leavings::forget_devices(&log);
        leavings::write(&log, &commits[..count]);
        let told = gaps(&log).len();
        log.close();
        backend.power_cut(0);
        let node = site.start_on(2, backend);
        let whole = leavings::is_staged(&commits[..count]);
        assert_eq!(node.devices().len(), if whole { 20 } else { 0 }, "after {count} commits");
        assert_eq!(leavings::count(&node.log, b"page/") + leavings::count(&node.log, b"install"), 0);
        // What was left to do is told with the last of it.
        let is_finished = whole && count < commits.len();
        let new = gaps(&node.log).split_off(told);
        let to = is_finished.then(|| json!(first.catalog.consensus_status().last_applied));
        assert_eq!(new.iter().map(|gap| gap["set"]["to"].clone()).collect::<Vec<_>>(), Vec::from_iter(to), "{count}");
        site.stop(node).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_is_waited_out() {
    let site = Site::new(Timing { propose_wait: Duration::from_millis(700), ..fast() });
    let node = site.start(1);
    node.change(add("a")).await.unwrap();
    node.backend.set_faults(Faults { full_after_writes: Some(0), ..Faults::default() });
    let first = node.change(add("b")).await.unwrap_err();
    assert_eq!(first.code(), "unknown-outcome", "it is in no log yet, and will be");
    let refused = node.change(add("c")).await.unwrap_err();
    assert_eq!(refused.code(), "unavailable", "{refused}");
    assert!(refused.to_string().contains("full"), "{refused}");
    assert!(node.catalog.is_enrolled("a") && !node.catalog.is_enrolled("b"));
    node.backend.set_faults(Faults::default());
    until("what was begun is made", || node.catalog.is_enrolled("b")).await;
    node.change(add("d")).await.unwrap();
    assert_eq!(node.devices(), ["a", "b", "d"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_store_ends_the_part_of_its_node_alone() {
    let (_site, mut nodes) = Site::of(fast(), 3).await;
    let at = leader(&nodes).await;
    let failed = nodes.remove(at);
    failed.backend.set_faults(Faults { fail_after_writes: Some(0), ..Faults::default() });
    failed.change(add("x")).await.unwrap_err();
    until("it has stopped", || failed.catalog.consensus_status().stopped.is_some()).await;
    let refused = failed.change(add("y")).await.unwrap_err();
    assert_eq!(refused.code(), "unavailable", "{refused}");
    leader(&nodes).await;
    nodes[0].change(add("a")).await.unwrap();
    assert_eq!(failed.catalog.members().len(), 3, "reading goes on");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_at_the_first_start_is_waited_out() {
    let site = Site::new(Timing { propose_wait: Duration::from_millis(500), ..fast() });
    let backend = Arc::new(MemoryBackend::new());
    let log = open_log(&backend);
    let bounded = TopicConfig { partitions: 1, retention_bytes: Some(1 << 20), ..TopicConfig::default() };
    log.ensure_topic(CATALOG_TOPIC, Some(bounded)).unwrap();
    let ticket = {
        let mut open = log.lock();
        open.put_state(CATALOG_TREE, b"device/old", Some(&Device::default().encode()));
        open.ticket()
    };
    log.durable(ticket).await.unwrap();
    backend.set_faults(Faults { full_after_writes: Some(0), ..Faults::default() });
    let node = site.start_with(1, Arc::clone(&backend), log);
    assert!(node.catalog.get("old").is_some(), "what is set can be read");
    let refused = node.change(add("a")).await.unwrap_err();
    assert!(matches!(refused, Refusal::Commit(event_log::CommitFailed::Full(_))), "{refused}");
    backend.set_faults(Faults::default());
    until("it takes part", || node.catalog.is_leader()).await;
    node.change(add("a")).await.unwrap();
    assert_eq!(node.devices(), ["a", "old"]);
}
