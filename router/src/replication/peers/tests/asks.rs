//! Asks and long streams between nodes.

use tokio::task::JoinSet;

use super::*;
use crate::replication::config::{ASKS_MAX, LONG_STREAMS_MAX};
use crate::transport::StreamError;

async fn pair() -> Vec<Node> {
    let nodes = site(&Ids::make(2), &fast());
    nodes[0].sees_connected(2).await;
    nodes[1].sees_connected(1).await;
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ask_is_answered_or_says_why_not() {
    let nodes = pair().await;
    let ask = |to: u64, kind, body: Vec<u8>, wait_ms| {
        let from = &nodes[2 - to as usize].peers;
        async move { from.ask(NodeId(to), kind, &body, Duration::from_millis(wait_ms)).await }
    };
    assert_eq!(ask(2, ECHO, b"a".to_vec(), 20_000).await, Ok(b"a\x01".to_vec()));
    assert_eq!(ask(1, ECHO, b"b".to_vec(), 20_000).await, Ok(b"b\x02".to_vec()), "the one that was dialled asks too");
    let large = vec![5; ASK_BYTES_MAX - 1];
    assert_eq!(ask(2, ECHO, large, 20_000).await.unwrap().len(), ASK_BYTES_MAX);
    assert_eq!(ask(2, ECHO, vec![5; ASK_BYTES_MAX + 1], 20_000).await, Err(AskError::TooLong));
    assert_eq!(ask(2, TOO_LONG, Vec::new(), 20_000).await, Err(AskError::TooLong));
    assert_eq!(ask(2, 77, Vec::new(), 20_000).await, Err(AskError::UnknownKind));
    assert_eq!(ask(2, NEVER, Vec::new(), 50).await, Err(AskError::Timeout));
    let stranger = nodes[0].peers.ask(NodeId(9), ECHO, b"", LONG).await.unwrap_err();
    assert_eq!(stranger.to_string(), "node 0000000000000009 is not connected: it is no other node of this site");
    assert!(nodes[0].is_connected(2), "none of it harms the connection");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_asks_at_once_wait_for_their_turn() {
    let nodes = Arc::new(pair().await);
    let mut asks = JoinSet::new();
    for number in 0..ASKS_MAX * 8 {
        let nodes = Arc::clone(&nodes);
        asks.spawn(async move {
            let body = number.to_le_bytes();
            let answer = nodes[0].peers.ask(NodeId(2), ECHO, &body, LONG).await;
            assert_eq!(answer, Ok([&body[..], &[1]].concat()));
        });
    }
    while let Some(asked) = asks.join_next().await {
        asked.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ask_under_way_ends_with_its_connection() {
    let nodes = pair().await;
    let (asked, ()) = tokio::join!(nodes[0].peers.ask(NodeId(2), NEVER, b"", LONG), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        nodes[1].peers.stop().await;
    });
    assert!(matches!(&asked, Err(AskError::Lost(why)) if why.contains("the node was stopped")), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn long_streams_carry_frames_both_ways_and_are_bounded() {
    let nodes = pair().await;
    let peers = &nodes[0].peers;
    let mut open = Vec::new();
    for number in 0..LONG_STREAMS_MAX {
        let (mut send, mut receive) = peers.open(NodeId(2), ECHO).await.unwrap();
        let frame = vec![number as u8; 100_000];
        send.send_frame(&frame).await.unwrap();
        assert_eq!(receive.receive_frame(1 << 20).await, Ok(Some(frame)));
        open.push((send, receive));
    }
    let (_send, mut receive) = peers.open(NodeId(2), ECHO).await.unwrap();
    assert_eq!(receive.receive_frame(1 << 20).await, Err(StreamError::GivenUp(2)), "there is no place for more");
    assert_eq!(peers.ask(NodeId(2), ECHO, b"", LONG).await, Ok(vec![1]), "asks have places of their own");
    let (mut send, mut receive) = open.pop().unwrap();
    send.finish();
    assert_eq!(receive.receive_frame(1 << 20).await, Ok(None));
    drop(open);
    let begin = Instant::now();
    loop {
        let (mut send, mut receive) = peers.open(NodeId(2), 77).await.unwrap();
        send.finish();
        match receive.receive_frame(1 << 20).await {
            Err(StreamError::GivenUp(0)) => return,
            other => assert!(begin.elapsed() < LONG, "a kind that is not known is reset: {other:?}"),
        }
    }
}
