//! Nodes that find, lose and find each other again.

use devices::fleet::relay::{LineConfig, Relay};

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_nodes_are_connected_each_with_each_and_hear_each_other() {
    let ids = Ids::make(3);
    let nodes = site(&ids, &fast());
    for (own, node) in (1..).zip(&nodes) {
        for other in (1..=3).filter(|other| *other != own) {
            let state = node.sees_connected(other).await;
            let known = state.known.unwrap();
            assert_eq!((known.origin, known.incarnation), (other + 100, other + 10));
            assert_eq!((known.program.as_str(), state.error), (crate::replication::PROGRAM, None));
            assert!(known.clock_ahead_ms.abs() < 1_000, "{} ms", known.clock_ahead_ms);
            let heartbeat = known.heartbeat.unwrap();
            assert_eq!((heartbeat.synced, heartbeat.quorum, heartbeat.hybrid), (7, 5, 9));
            assert_eq!(state.connection.unwrap().protocol, PROTOCOL_MAX);
            assert_eq!(known.protocol_max, PROTOCOL_MAX);
        }
        // A beat is noted before whoever listens is told of it.
        let begin = Instant::now();
        while node.ear.heard.lock().len() < 2 {
            assert!(begin.elapsed() < LONG, "{:?}", node.ear.heard.lock());
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(node.ear.heard.lock().len(), 2);
        assert_eq!(node.notices(), Vec::new());
    }
    let mut watch = nodes[0].peers.watch();
    watch.wait_for(|states| states.iter().all(|state| state.is_connected)).await.unwrap();
}

/// Two nodes; the first reaches the second through a relay.
async fn pair(ids: &Ids, config: &Config) -> (Node, Node, Relay) {
    let (near, far) = (ids.endpoint(1, config), ids.endpoint(2, config));
    let relay = Relay::start(far.address().unwrap(), LineConfig::default(), 1).await.unwrap();
    let members = vec![member(1, near.address().unwrap()), member(2, relay.address())];
    let far = Node::start(far, 12, members.clone(), config.clone());
    (Node::start(near, 11, members, config.clone()), far, relay)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_link_is_noticed_on_both_sides_and_mends() {
    let ids = Ids::make(2);
    let (near, far, relay) = pair(&ids, &fast()).await;
    near.sees_connected(2).await;
    far.sees_connected(1).await;
    let since = near.state(2).since;
    relay.cut(true);
    let begin = Instant::now();
    near.sees(2, "lost", |state| !state.is_connected).await;
    far.sees(1, "lost", |state| !state.is_connected).await;
    assert!(begin.elapsed() < Duration::from_secs(3), "{:?}", begin.elapsed());
    let state = near.state(2);
    assert!(state.since > since && state.known.is_some(), "what was known stays known: {state:?}");
    let says = |error: &str| error.contains("nothing was heard for 400 ms") || error.contains("no answer");
    assert!(says(&state.error.unwrap()));
    let error = near.peers.ask(NodeId(2), ECHO, b"", LONG).await.unwrap_err();
    assert!(matches!(&error, AskError::NotConnected { node: NodeId(2), why } if says(why)), "{error}");
    relay.cut(false);
    near.sees_connected(2).await;
    far.sees_connected(1).await;
    assert_eq!(near.peers.ask(NodeId(2), ECHO, b"", LONG).await, Ok(vec![1]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_the_times_of_every_day_a_dead_node_is_noticed_within_four_seconds() {
    let ids = Ids::make(2);
    let (near, _far, relay) = pair(&ids, &Config::default()).await;
    near.sees_connected(2).await;
    relay.cut(true);
    let begin = Instant::now();
    near.sees(2, "lost", |state| !state.is_connected).await;
    let took = begin.elapsed();
    assert!(took > Duration::from_millis(1_900) && took < Duration::from_secs(4), "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_stops_says_so() {
    let ids = Ids::make(2);
    let nodes = site(&ids, &fast());
    nodes[0].sees_connected(2).await;
    nodes[1].peers.stop().await;
    nodes[0].sees_error(2, "").await;
    assert!(!nodes[0].is_connected(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_killed_and_started_again_is_taken_at_once() {
    let ids = Ids::make(2);
    // Silence would not show it: the heartbeat that it does not know does.
    let slow_to_lose = Config { lost_after_ms: 60_000, ..fast() };
    let (near, far, relay) = pair(&ids, &slow_to_lose).await;
    near.sees_connected(2).await;
    let again = ids.endpoint(2, &slow_to_lose);
    let address = again.address().unwrap();
    let again = Node::start(again, 99, vec![member(1, near.address())], slow_to_lose);
    relay.set_node(address);
    near.sees(2, "its new process", |state| state.known.as_ref().is_some_and(|known| known.incarnation == 99)).await;
    again.sees_connected(1).await;
    assert_eq!((near.notices(), again.notices()), (Vec::new(), Vec::new()));
    drop(far);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_removed_is_cut_and_stays_out() {
    let ids = Ids::make(3);
    let nodes = site(&ids, &fast());
    for (node, other) in [(0, 2), (0, 3), (1, 3), (2, 1)] {
        nodes[node].sees_connected(other).await;
    }
    // Node 1, which dials, is removed in the lists of the others.
    for node in &nodes[1..] {
        let left: Vec<_> = node.members.borrow().iter().filter(|member| member.node != NodeId(1)).cloned().collect();
        node.members.send_replace(Arc::new(left));
    }
    nodes[0].hears_notice("removed", |notice| matches!(notice, Notice::Removed { by: NodeId(2), .. })).await;
    nodes[0].hears_notice("removed", |notice| matches!(notice, Notice::Removed { by: NodeId(3), .. })).await;
    for other in [2, 3] {
        nodes[0].sees_error(other, "node 0000000000000001 is not among the nodes that").await;
    }
    assert!(nodes[1].peers.states().iter().all(|state| state.node != NodeId(1)));
    assert!(nodes[1].is_connected(3), "the others stay");
    assert_eq!(nodes[0].notices().len(), 2, "each says so once: {:?}", nodes[0].notices());
    // It is taken back.
    let all = Arc::clone(&nodes[0].members.borrow());
    nodes[1].members.send_replace(all);
    nodes[0].sees_connected(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_removed_while_it_was_away_is_told_when_it_comes() {
    let ids = Ids::make(2);
    let far = ids.endpoint(2, &fast());
    let at = far.address().unwrap();
    let far = Node::start(far, 12, Vec::new(), fast());
    let near = Node::start(ids.endpoint(1, &fast()), 11, vec![member(2, at)], fast());
    near.sees_error(2, "node 0000000000000001 is not among the nodes that").await;
    assert!(near.notices().is_empty(), "it may have just joined");
    far.ear.removed.lock().push(NodeId(1));
    near.hears_notice("removed", |notice| matches!(notice, Notice::Removed { by: NodeId(2), .. })).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_moves_is_found_again() {
    let ids = Ids::make(2);
    let far = ids.endpoint(2, &fast());
    let address = far.address().unwrap();
    let near = Node::start(ids.endpoint(1, &fast()), 11, vec![member(2, "nowhere.invalid:1")], fast());
    near.sees_error(2, "the address \"nowhere.invalid:1\" is not known").await;
    near.members.send_replace(Arc::new(vec![member(2, format!("localhost:{}", address.port()))]));
    let _far = Node::start(far, 12, vec![member(1, near.address())], fast());
    near.sees_connected(2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_of_a_wall_clock_moves_no_times_of_what_is_stored() {
    const DAY_MS: i64 = 24 * 3_600_000;
    let ids = Ids::make(2);
    let (near, far, relay) = pair(&ids, &fast()).await;
    near.sees_connected(2).await;
    far.sees_connected(1).await;
    near.clock.step(DAY_MS);
    for is_new in [false, true] {
        if is_new {
            relay.cut(true);
            near.sees(2, "lost", |state| !state.is_connected).await;
            far.sees(1, "lost", |state| !state.is_connected).await;
            relay.cut(false);
            near.sees_connected(2).await;
            far.sees_connected(1).await;
        }
        let wall = |expected| {
            move |state: &PeerState| {
                state.known.as_ref().is_some_and(|known| known.clock_ahead_ms.abs_diff(expected) < 5_000)
            }
        };
        near.sees(2, "its wall clock is behind", wall(-DAY_MS)).await;
        far.sees(1, "its wall clock is ahead", wall(DAY_MS)).await;
        for (node, of) in [(&near, 2), (&far, 1)] {
            let ahead_ms = node.state(of).known.unwrap().steady_ahead_ms;
            assert!(ahead_ms.abs() < 5_000, "{is_new} {of}: {ahead_ms} ms");
        }
        // By how much the one's wall clock is ahead of what the other one times by does not depend on what that one's is set to.
        let of_far = near.state(2).known.unwrap().wall_ahead_ms;
        let of_near = far.state(1).known.unwrap().wall_ahead_ms;
        assert!(of_far.abs() < 5_000 && of_near.abs_diff(DAY_MS) < 5_000, "{is_new}: {of_far} and {of_near} ms");
    }
}
