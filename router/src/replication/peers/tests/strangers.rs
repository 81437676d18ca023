//! Nodes that are not what they should be: copies, other versions, others' certificates, garbage.

use super::hello::Hello;
use super::raw::{Raw, beat, code, frame, framed, send_first};
use super::*;
use crate::transport::{Ended, StreamError};

/// A node with id 5 that knows one smaller and one larger.
fn node_5(ids: &Ids) -> Node {
    let members = vec![member(2, "127.0.0.1:9"), member(5, "127.0.0.1:9"), member(7, "127.0.0.1:9")];
    Node::start(ids.endpoint(5, &fast()), 15, members, fast())
}

fn heartbeat(incarnation: u64) -> Heartbeat {
    Heartbeat { incarnation, ..Heartbeat::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copied_data_folder_is_kept_out_and_told_loudly() {
    let ids = Ids::make(2);
    let far = ids.endpoint(2, &fast());
    let members = vec![member(2, far.address().unwrap())];
    let far = Node::start(far, 12, vec![member(1, "127.0.0.1:9")], fast());
    let first = Node::start(ids.endpoint(1, &fast()), 11, members.clone(), fast());
    first.sees_connected(2).await;
    let copy = Node::start(ids.endpoint(1, &fast()), 99, members, fast());
    far.hears_notice("copied", |notice| matches!(notice, Notice::Copied { node: NodeId(1), .. })).await;
    copy.hears_notice("copied here", |notice| matches!(notice, Notice::CopiedHere { by: NodeId(2), .. })).await;
    copy.sees_error(2, "two nodes run as node 0000000000000001, from one copied data folder").await;
    assert!(!copy.is_connected(2) && first.is_connected(2));
    assert!(copy.state(2).calls_copy && !first.state(2).calls_copy);
    assert!(far.state(1).connection.unwrap().is_copied);
    assert_eq!(far.state(1).known.unwrap().incarnation, 11, "the one that came first stays");
    let text = far.notices()[0].to_string();
    assert!(text.contains(&first.address().to_string()) && text.contains(&copy.address().to_string()), "{text}");
    assert_eq!((far.notices().len(), first.notices()), (1, Vec::new()), "once");
    // The first one is stopped: the other may come.
    first.peers.stop().await;
    copy.sees_connected(2).await;
    assert!(!copy.state(2).calls_copy);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_of_a_node_that_is_dialled_hears_of_it_when_it_knocks() {
    let ids = Ids::make(2);
    let nodes = site(&ids, &fast());
    nodes[0].sees_connected(2).await;
    let copy = Raw::new(&ids, 2);
    let ended = copy.greet(&nodes[0], &copy.hello(99)).await.unwrap_err();
    assert_eq!(code(&ended), Some(Close::Contested), "it may be the time of a restart: {ended}");
    nodes[0].hears_notice("copied", |notice| matches!(notice, Notice::Copied { node: NodeId(2), .. })).await;
    let ended = copy.greet(&nodes[0], &copy.hello(99)).await.unwrap_err();
    assert_eq!(code(&ended), Some(Close::Copied));
    let same = copy.greet(&nodes[0], &copy.hello(12)).await.unwrap_err();
    assert_eq!(code(&same), Some(Close::WrongWay), "{same}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_knocks_is_dialled_at_once() {
    let ids = Ids::make(7);
    let node = node_5(&ids);
    node.sees(7, "several failures", |state| state.error.is_some()).await;
    let larger = Raw::new(&ids, 7);
    let list = vec![member(7, larger.address())];
    let ended = larger.greet(&node, &larger.hello(17)).await.unwrap_err();
    assert_eq!(code(&ended), Some(Close::WrongWay));
    node.members.send_replace(Arc::new(list));
    let connection = larger.take(&frame(&larger.hello(17).encode())).await;
    let _beats = beat(connection, heartbeat(17));
    node.sees_connected(7).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_knocks_is_taken_where_nobody_answers_at_its_address() {
    let ids = Ids::make(7);
    let node = node_5(&ids);
    let larger = Raw::new(&ids, 7);
    let begin = Instant::now();
    // The list goes on to say that it is where nobody is.
    let connection = loop {
        match larger.greet(&node, &larger.hello(17)).await {
            Ok(connection) => break connection,
            Err(ended) => assert_eq!(code(&ended), Some(Close::WrongWay), "{ended}"),
        }
        assert!(begin.elapsed() < LONG, "it is not taken");
        tokio::time::sleep(Duration::from_millis(100)).await;
    };
    let _beats = beat(connection, heartbeat(17));
    let state = node.sees_connected(7).await;
    assert_eq!((state.address.as_str(), state.error), ("127.0.0.1:9", None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_process_that_comes_anew_replaces_its_connection() {
    let ids = Ids::make(7);
    let (node, raw) = (node_5(&ids), Raw::new(&ids, 2));
    let first = raw.greet(&node, &raw.hello(1)).await.unwrap();
    let other = raw.greet(&node, &raw.hello(2)).await.unwrap_err();
    assert_eq!(code(&other), Some(Close::Contested));
    let second = raw.greet(&node, &raw.hello(1)).await.unwrap();
    assert_eq!(code(&first.ended().await), Some(Close::Replaced));
    assert!(node.is_connected(2));
    // It falls silent: another process may come.
    let ended = second.ended().await;
    assert!(ended == Ended::Silent || code(&ended) == Some(Close::Silent), "{ended}");
    node.sees(2, "lost", |state| !state.is_connected).await;
    raw.greet(&node, &raw.hello(2)).await.unwrap();
    assert_eq!(node.notices(), Vec::new(), "a restart is no copy");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_from_the_future_says_who_is_to_be_upgraded() {
    let ids = Ids::make(7);
    let (node, smaller, larger) = (node_5(&ids), Raw::new(&ids, 2), Raw::new(&ids, 7));
    let newer = |raw: &Raw, protocols| Hello { protocols, program: "9.9.9".to_owned(), ..raw.hello(1) };
    let ended = smaller.greet(&node, &newer(&smaller, vec![8, 9])).await.unwrap_err();
    assert_eq!(code(&ended), Some(Close::Version));
    assert!(ended.to_string().contains("upgrade node 0000000000000005"), "{ended}");
    let ended = smaller.greet(&node, &newer(&smaller, vec![0])).await.unwrap_err();
    assert!(ended.to_string().contains("upgrade node 0000000000000002"), "{ended}");
    // Where both are known by 1, what else the newer one speaks does not matter, nor what it says besides.
    let hello = newer(&smaller, vec![9, 1, 8]).encode();
    let connection = smaller.dial(&node).await;
    assert!(send_first(&connection, &framed(&[&hello[..], b"more"].concat())).await.unwrap().is_some());
    assert_eq!(node.state(2).known.unwrap().program, "9.9.9");
    // One that is dialled is judged too.
    node.members.send_replace(Arc::new(vec![member(7, larger.address())]));
    let ended = larger.take(&frame(&newer(&larger, vec![8]).encode())).await.ended().await;
    assert_eq!(code(&ended), Some(Close::Version));
    node.sees_error(7, "upgrade node 0000000000000005").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_sits_at_a_members_address_is_checked() {
    let (ids, others) = (Ids::make(4), Ids::make(2));
    let three = Node::start(ids.endpoint(3, &fast()), 13, Vec::new(), fast());
    let other = Node::start(others.endpoint(2, &fast()), 12, Vec::new(), fast());
    let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let members = vec![
        member(2, other.address()),
        member(4, three.address()),
        member(9, nobody.local_addr().unwrap()),
        member(3, three.address()),
    ];
    let one = Node::start(ids.endpoint(1, &fast()), 11, members, fast());
    one.sees_error(2, "not signed by this site's CA").await;
    one.sees_error(4, "that of node 0000000000000003; node 0000000000000004 was expected at this address").await;
    one.sees_error(9, "no answer").await;
    one.sees_error(3, "is not among the nodes that node 0000000000000003 knows").await;
    assert!(one.peers.states().iter().all(|state| !state.is_connected));
    assert_eq!(one.notices(), Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_knows_of_nobody_is_told_of_a_node_of_its_site() {
    let ids = Ids::make(3);
    let stranger = |notice: &Notice| *notice == Notice::Stranger { node: NodeId(2) };
    let (alone, known) = (vec![member(1, "127.0.0.1:9")], vec![member(1, "127.0.0.1:9"), member(3, "127.0.0.1:9")]);
    let raw = Raw::new(&ids, 2);
    for (members, is_told) in [(known, false), (alone, true)] {
        let node = Node::start(ids.endpoint(1, &fast()), 11, members, fast());
        let ended = raw.greet(&node, &raw.hello(1)).await.unwrap_err();
        assert_eq!(code(&ended), Some(Close::NotMember), "{ended}");
        // It is told before the connection is closed.
        assert_eq!(node.notices().iter().any(stranger), is_told);
        // One that was removed is known.
        node.ear.removed.lock().push(NodeId(3));
        let removed = Raw::new(&ids, 3);
        let _ = removed.greet(&node, &removed.hello(1)).await;
        assert!(!node.notices().contains(&Notice::Stranger { node: NodeId(3) }));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_says_otherwise_than_its_certificate_is_sent_away() {
    let ids = Ids::make(7);
    let (node, raw) = (node_5(&ids), Raw::new(&ids, 2));
    for hello in [Hello { node: NodeId(7), ..raw.hello(1) }, Hello { site: 1, ..raw.hello(1) }] {
        let ended = raw.greet(&node, &hello).await.unwrap_err();
        assert_eq!(code(&ended), Some(Close::Impostor), "{ended}");
    }
    assert_eq!(node.state(2).known, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_in_a_greeting_ends_the_connection() {
    let ids = Ids::make(7);
    let (node, raw, larger) = (node_5(&ids), Raw::new(&ids, 2), Raw::new(&ids, 7));
    let whole = framed(&raw.hello(1).encode());
    let wrong_mode = [&[1][..], &whole[1..]].concat();
    for garbage in
        [&b""[..], b"garbage", &whole[..9], &wrong_mode, &framed(b""), &framed(&[1; 2_000]), &framed(&[9; 20])]
    {
        let answer = send_first(&raw.dial(&node).await, garbage).await;
        let Err(StreamError::Lost(ended)) = &answer else { panic!("{garbage:?}: {answer:?}") };
        assert_eq!(code(ended), Some(Close::Garbage), "{garbage:?}: {ended}");
    }
    node.members.send_replace(Arc::new(vec![member(7, larger.address())]));
    for garbage in [&frame(b"garbage")[..], b"ga", &frame(&[1; 2_000])] {
        let _ = larger.take(garbage).await.ended().await;
    }
    node.sees(7, "that it failed", |state| state.error.is_some()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_on_streams_and_in_datagrams_harms_nothing_else() {
    let ids = Ids::make(7);
    let (node, raw) = (node_5(&ids), Raw::new(&ids, 2));
    let connection = raw.greet(&node, &raw.hello(1)).await.unwrap();
    let _beats = beat(connection.clone(), heartbeat(1));
    let too_long = [&[1, ECHO][..], &(ASK_BYTES_MAX as u32 + 1).to_le_bytes()].concat();
    // (what is sent, the code with which the stream is given up)
    let cases = [
        (&b""[..], 1),
        (b"\x07\x01", 1),
        (&framed(b"a greeting again"), 1),
        (&[1, ECHO, 5, 0, 0], 1),
        (&[1, ECHO, 5, 0, 0, 0, 1], 1),
        (&[1, ECHO], 1),
        (&too_long, 3),
        (&[1, 77, 0, 0, 0, 0], 4),
        (&[2, 77, 1, 2], 0),
    ];
    for (bytes, expected) in cases {
        let answer = send_first(&connection, bytes).await;
        assert_eq!(answer, Err(StreamError::GivenUp(expected)), "{bytes:?}");
    }
    // A head that is cut off says nothing, and is not answered.
    assert!(matches!(send_first(&connection, &[1]).await, Err(StreamError::GivenUp(_))));
    let wrong = [b"garbage".to_vec(), Vec::new(), heartbeat(2).encode(), vec![1; 1_000]];
    for datagram in wrong {
        connection.send_datagram(datagram);
    }
    let begin = Instant::now();
    while node.peers.stats().beats_refused.load(Ordering::Relaxed) < 4 {
        assert!(begin.elapsed() < LONG, "{:?}", node.peers.stats());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let answer = send_first(&connection, &[&[1, ECHO][..], &frame(b"x")].concat()).await;
    assert_eq!(answer, Ok(Some(b"x\x02".to_vec())));
    assert!(node.is_connected(2));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clock_that_is_wrong_by_days_is_noted_and_nothing_more() {
    let ids = Ids::make(7);
    let (node, raw) = (node_5(&ids), Raw::new(&ids, 2));
    let hello = Hello { wall_ms: 0, ..raw.hello(1) };
    let connection = raw.greet(&node, &hello).await.unwrap();
    let _beats = beat(connection, Heartbeat { wall_ms: 86_400_000, ..heartbeat(1) });
    let state = node.sees_connected(2).await;
    assert!(state.known.unwrap().clock_ahead_ms < -86_400_000 * 365);
    assert_eq!(node.notices(), Vec::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_joins_is_told_where_none_are_admitted() {
    let ids = Ids::make(7);
    let node = node_5(&ids);
    let pin = ids.of(1).ca_fingerprint();
    let connection = crate::transport::dial_join(node.address(), SITE, pin, fast().bounds()).await.unwrap();
    let ended = connection.ended().await;
    assert_eq!(ended, Ended::Closed { code: Close::Busy as u32, text: "this node admits none".to_owned() });
}
