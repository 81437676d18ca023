//! Twins of a site's nodes: changes made at any reach the device wherever it is, and all nodes agree.

use std::sync::Arc;

use devices::twin::{REPORTS_TOPIC, TWINS_TREE, get_topic, report_topic, subscriptions_of};
use serde_json::json;
use sled_data::{CommitNumber, MemoryBackend, OriginId};

use super::TwinView;
use super::tests::{Node, told, until};

fn node(seed: u64) -> Node {
    Node::start_in(Some(1), seed, &Arc::new(MemoryBackend::new()))
}

/// Ships what another node has and this one has not, commit by commit.
async fn ship(from: &Node, to: &Node) {
    let origin = from.log.origin();
    loop {
        let next = CommitNumber(to.log.store().followed_commit(origin).0 + 1);
        let mut commits = from.log.store().commits_to_ship(origin, next, 1 << 20).unwrap();
        commits.truncate(1);
        if commits.is_empty() {
            return;
        }
        to.log.follow(commits).await.unwrap();
    }
}

/// Until what is changed next is later by anybody's clock.
async fn moment(node: &Node) {
    let now = node.log.clock().wall_ms();
    until("the clock goes on", || (node.log.clock().wall_ms() > now).then_some(())).await;
}

fn brief(twin: Option<TwinView>) -> Option<(u64, serde_json::Value, u64, serde_json::Value)> {
    let json = |state| serde_json::to_value(state).unwrap();
    twin.map(|twin| (twin.desired.version, json(twin.desired.state), twin.reported.version, json(twin.reported.state)))
}

async fn agree(a: &Node, b: &Node, device: &str) {
    ship(a, b).await;
    ship(b, a).await;
    let same = || (brief(a.room.get(device)) == brief(b.room.get(device))).then_some(());
    until("both have the same twin", same).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_is_told_what_was_set_at_another_node_and_its_word_is_heard_there() {
    let (a, b) = (node(7), node(8));
    let device = a.connect("c", &subscriptions_of("d")).await;
    b.set("d", r#"{"a":1}"#, Some(0)).await.unwrap();
    ship(&b, &a).await;
    assert_eq!(told(&device).await, ("edgeway/twin/d/delta/1".into(), json!({"version":1,"delta":{"a":1}})));
    a.say("d", &report_topic("d"), r#"{"a":1}"#, None);
    a.reported("d", 1).await;
    ship(&a, &b).await;
    let heard = until("b has heard it", || b.room.get("d").filter(|twin| twin.reported.version == 1)).await;
    assert!(heard.delta.is_empty());
    // What has no delta is not told again; what is set here goes on from there.
    assert_eq!(b.set("d", r#"{"a":2}"#, Some(1)).await.unwrap().desired, 2);
    ship(&b, &a).await;
    assert_eq!(told(&device).await.1, json!({"version":2,"delta":{"a":2}}));
    a.say("d", &get_topic("d"), "", None);
    let state = json!({"desired":{"version":2,"state":{"a":2}},"reported":{"version":1,"state":{"a":1}}});
    assert_eq!(told(&device).await.1, state);
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changes_made_apart_become_one_twin_and_the_device_is_told_the_later_one() {
    let (a, b) = (node(7), node(8));
    let device = a.connect("c", &subscriptions_of("d")).await;
    a.set("d", r#"{"a":1}"#, None).await.unwrap();
    assert_eq!(told(&device).await.1["version"], 1);
    moment(&a).await;
    b.set("d", r#"{"b":1}"#, None).await.unwrap();
    agree(&a, &b, "d").await;
    // Of the same version and another content: it is told.
    assert_eq!(told(&device).await.1, json!({"version":1,"delta":{"b":1}}));
    a.set("d", r#"{"a":2}"#, None).await.unwrap();
    assert_eq!(told(&device).await.1, json!({"version":2,"delta":{"a":2,"b":1}}));
    agree(&a, &b, "d").await;
    // A deletion at one beats what was changed before at the other.
    b.set("d", r#"{"b":2}"#, None).await.unwrap();
    moment(&a).await;
    a.room.delete("d", None, "cli").await.unwrap();
    agree(&a, &b, "d").await;
    assert!(b.room.get("d").is_none());
    let stored = || b.log.state_get(TWINS_TREE, b"d").unwrap().is_none().then_some(());
    until("b stores it no more", stored).await;
    assert_eq!(b.set("d", r#"{"n":1}"#, Some(0)).await.unwrap().desired, 1);
    agree(&a, &b, "d").await;
    assert_eq!(brief(a.room.get("d")).unwrap().1, json!({"n":1}));
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_finds_what_other_nodes_have_changed() {
    let backend = Arc::new(MemoryBackend::new());
    let (a, b) = (Node::start_in(Some(1), 7, &backend), node(8));
    a.set("d", r#"{"a":1}"#, None).await.unwrap();
    a.set("e", r#"{"e":1}"#, None).await.unwrap();
    agree(&a, &b, "e").await;
    moment(&a).await;
    b.set("d", r#"{"a":2}"#, None).await.unwrap();
    b.room.delete("e", None, "cli").await.unwrap();
    agree(&a, &b, "d").await;
    a.end().await;
    let a = Node::start_in(Some(1), 7, &backend);
    assert_eq!(brief(a.room.get("d")), brief(b.room.get("d")));
    assert_eq!((a.room.get("d").unwrap().desired.version, a.room.get("e")), (2, None));
    a.end().await;
    b.end().await;
}

/// Node 7 with a report of `d` that is stored, and read by nobody.
async fn left_unread(backend: &Arc<MemoryBackend>) -> Node {
    let mut node = Node::start_in(Some(1), 7, backend);
    node.end_room().await;
    node.say("d", &report_topic("d"), r#"{"a":1}"#, None);
    let reports = node.log.topic(REPORTS_TOPIC).unwrap();
    let is_stored = || reports.all_partitions().iter().any(|partition| partition.visible_end() > 0).then_some(());
    until("it is stored", is_stored).await;
    node
}

/// The same node after a kill, when it has read what was there and a report that came since.
async fn killed_and_back(node: Node, backend: &MemoryBackend) -> Node {
    let image = Arc::new(backend.image());
    node.log.close();
    let node = Node::start_in(Some(1), 7, &image);
    node.say("e", &report_topic("e"), r#"{"e":1}"#, None);
    node.reported("e", 1).await;
    node
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_read_after_a_restart_is_as_old_as_it_is() {
    for hears_first in [false, true] {
        let backend = Arc::new(MemoryBackend::new());
        let (a, b) = (left_unread(&backend).await, node(8));
        // a is gone, and the device goes to b.
        moment(&a).await;
        b.say("d", &report_topic("d"), r#"{"a":2}"#, None);
        b.reported("d", 1).await;
        if hears_first {
            ship(&b, &a).await;
        }
        let a = killed_and_back(a, &backend).await;
        agree(&a, &b, "d").await;
        assert_eq!(brief(a.room.get("d")).unwrap().3, json!({"a":2}), "{hears_first}");
        a.end().await;
        b.end().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_device_says_now_counts_though_another_nodes_clock_is_ahead() {
    let b = Node::start_ahead(Some(1), 8, &Arc::new(MemoryBackend::new()), 24 * 3_600_000);
    let a = node(7);
    b.say("d", &report_topic("d"), r#"{"a":1}"#, None);
    b.reported("d", 1).await;
    b.say("e", &report_topic("e"), r#"{"e":1}"#, None);
    b.reported("e", 1).await;
    // It is there before it is deleted: that it is not tells then that a has read of that.
    agree(&a, &b, "e").await;
    b.room.delete("e", None, "cli").await.unwrap();
    agree(&a, &b, "d").await;
    agree(&a, &b, "e").await;
    assert!(a.room.get("e").is_none());
    // Both have come to a.
    a.say("d", &report_topic("d"), r#"{"a":2}"#, None);
    a.say("e", &report_topic("e"), r#"{"e":2}"#, None);
    a.reported("d", 2).await;
    a.reported("e", 1).await;
    agree(&a, &b, "d").await;
    agree(&a, &b, "e").await;
    assert_eq!(brief(b.room.get("d")).unwrap().3, json!({"a":2}));
    assert_eq!(brief(b.room.get("e")).unwrap().3, json!({"e":2}));
    a.end().await;
    b.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_report_that_is_read_late_is_not_made_newer_by_what_is_desired() {
    let backend = Arc::new(MemoryBackend::new());
    let (a, b, c) = (left_unread(&backend).await, node(8), node(9));
    // a is gone; the device speaks at b, and then something is set at c.
    moment(&a).await;
    b.say("d", &report_topic("d"), r#"{"a":2}"#, None);
    b.reported("d", 1).await;
    moment(&b).await;
    c.set("d", r#"{"a":3}"#, None).await.unwrap();
    // It has heard c alone when it was killed, and so it starts.
    ship(&c, &a).await;
    let a = killed_and_back(a, &backend).await;
    assert_eq!(brief(a.room.get("d")).unwrap().1, json!({"a":3}));
    ship(&c, &b).await;
    agree(&a, &b, "d").await;
    assert_eq!(brief(a.room.get("d")).unwrap().3, json!({"a":2}));
    assert_eq!(brief(a.room.get("d")).unwrap().1, json!({"a":3}));
    a.end().await;
    b.end().await;
    c.end().await;
}

/// Takes a copy of a life from another node, as first contact does; node 2 has written it.
fn copy(life: OriginId, from: &Node, to: &Node) {
    let (from, store) = (from.log.store(), to.log.store());
    from.sync().unwrap();
    let head = from.copy_head(life).unwrap();
    store.begin_copy(&head).unwrap();
    let (parts, _) = from.copy_parts(&head, None, &|_| 0, usize::MAX).unwrap();
    store.add_copy(life, &parts).unwrap();
    store.end_copy(life, head.commit).unwrap();
    store.set_follow_node(life, 2).unwrap();
    store.sync().unwrap();
    to.log.show_origin(life);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_node_has_deleted_in_its_next_life_does_not_come_back_from_the_one_before() {
    let (beside, backend) = (Arc::new(MemoryBackend::new()), Arc::new(MemoryBackend::new()));
    let (a, b) = (Node::start_in(Some(1), 7, &beside), Node::start_in(Some(1), 8, &backend));
    b.set("d", r#"{"a":1}"#, None).await.unwrap();
    ship(&b, &a).await;
    until("a has heard it", || a.room.get("d")).await;
    let life = b.log.origin();
    a.log.store().set_follow_node(life, 2).unwrap();
    b.log.close();
    b.log.store().end_life("as after a kill").unwrap();
    drop(b);
    let b = Node::start_in(Some(1), 8, &backend);
    assert_eq!(b.log.ended_lives(), [life]);
    // It was deleted so long ago that the mark of that is gone as well.
    let ticket = {
        let mut open = b.log.lock();
        open.put_state(TWINS_TREE, b"d", None);
        open.ticket()
    };
    b.log.durable(ticket).await.unwrap();
    copy(life, &a, &b);
    copy(b.log.origin(), &b, &a);
    for node in [&a, &b] {
        until("what it had in its life before is gone", || node.room.get("d").is_none().then_some(())).await;
    }
    // Nor is it there after a start.
    let images = [&beside, &backend].map(|backend| Arc::new(backend.image()));
    for node in [a, b] {
        node.log.close();
    }
    for (seed, image) in [7, 8].into_iter().zip(&images) {
        let node = Node::start_in(Some(1), seed, image);
        assert!(node.room.get("d").is_none(), "{seed}");
        node.log.close();
    }
}
