//! The client against a fake node: durability, order, reconnects, commands, stopping.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::time::Duration;

use super::fake_node::FakeNode;
use super::*;
use crate::command::{CommandId, command_topic};

pub(super) const BOTH: [Version; 2] = [Version::V5, Version::V311];
pub(super) const LONG: Duration = Duration::from_secs(10);

pub(super) fn config(node: &FakeNode, version: Version) -> Config {
    Config {
        transport: Transport::Mqtt { host: "127.0.0.1".into(), port: node.port, version },
        backoff_min: Duration::from_millis(5),
        backoff_max: Duration::from_millis(20),
        ..Config::new("127.0.0.1", node.port, "pump")
    }
}

/// Waits for a condition, looking every millisecond; fails after ten seconds.
pub(super) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

pub(super) async fn publish(client: &Client, numbers: std::ops::Range<u32>) -> Vec<Receipt> {
    numbers.map(|n| client.publish("t", n.to_string()).unwrap()).collect()
}

pub(super) fn texts(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn receipts_resolve_when_acknowledged_and_in_order() {
    for version in BOTH {
        let node = FakeNode::start().await;
        let client = Client::start(config(&node, version), Handlers::new()).unwrap();
        for receipt in publish(&client, 0..200).await {
            assert!(matches!(receipt.await, Fate::Acked { .. }));
        }
        let zero = client.publish_with("t", "200", PublishOptions::may_be_lost()).unwrap();
        assert_eq!(zero.await, Fate::Written);
        assert_eq!(client.stop(LONG).await, 0);
        until("the farewell", || node.farewells.load(SeqCst) == 1).await;
        assert_eq!(node.payloads(), texts(0..201));
    }
}

#[tokio::test]
async fn what_was_not_acknowledged_is_sent_again_in_order() {
    for version in BOTH {
        let node = FakeNode::start().await;
        node.withhold.store(true, SeqCst);
        let client = Client::start(config(&node, version), Handlers::new()).unwrap();
        let receipts = publish(&client, 0..100).await;
        until("a window is out", || node.payloads().len() == 32).await;
        node.withhold.store(false, SeqCst);
        node.kick();
        for receipt in receipts {
            assert!(matches!(receipt.await, Fate::Acked { .. }));
        }
        let mut expected = texts(0..32);
        expected.extend(texts(0..100));
        assert_eq!(node.payloads(), expected);
        let counters = client.counters();
        assert_eq!((counters.resent, counters.connects, counters.acked), (32, 2, 100));
    }
}

#[tokio::test]
async fn publishes_made_offline_arrive_later() {
    let node = FakeNode::start().await;
    node.closed.store(true, SeqCst);
    let client = Client::start(config(&node, Version::V5), Handlers::new()).unwrap();
    let receipts = publish(&client, 0..50).await;
    until("it was turned away", || client.counters().breaks >= 3).await;
    assert!(!*client.online().borrow());
    assert_eq!(client.unacked(), 50);
    node.closed.store(false, SeqCst);
    for receipt in receipts {
        assert!(matches!(receipt.await, Fate::Acked { .. }));
    }
    assert_eq!(node.payloads(), texts(0..50));
}

#[tokio::test]
async fn a_full_buffer_follows_its_rule() {
    let node = FakeNode::start().await;
    node.closed.store(true, SeqCst);
    for overflow in [Overflow::Refuse, Overflow::DropOldest, Overflow::KeepByPriority] {
        let mut config = config(&node, Version::V5);
        config.buffer = Buffer { publishes_max: 3, bytes_max: 1_000, overflow };
        let client = Client::start(config, Handlers::new()).unwrap();
        let mut receipts = publish(&client, 0..3).await;
        let more = client.publish("t", "3");
        match overflow {
            Overflow::Refuse | Overflow::KeepByPriority => assert_eq!(more.unwrap_err(), PublishError::Full),
            Overflow::DropOldest => {
                more.unwrap();
                assert_eq!(receipts.remove(0).await, Fate::Dropped);
            }
        }
        assert_eq!(client.unacked(), 3);
        assert_eq!(client.stop(Duration::from_millis(20)).await, 3);
        for receipt in receipts {
            assert_eq!(receipt.await, Fate::Stopped);
        }
    }
}

#[tokio::test]
async fn a_refusal_reaches_the_caller_with_its_reason() {
    let node = FakeNode::start().await;
    node.reason.store(0x87, SeqCst);
    let client = Client::start(config(&node, Version::V5), Handlers::new()).unwrap();
    let receipt = client.publish("t", "x").unwrap();
    assert_eq!(receipt.await, Fate::Refused(0x87));
    assert_eq!((client.counters().refused, client.unacked()), (1, 0));
}

#[tokio::test]
async fn bad_publishes_are_refused_at_once() {
    let node = FakeNode::start().await;
    let client = Client::start(config(&node, Version::V5), Handlers::new()).unwrap();
    let publish = |topic: &str, bytes: usize| {
        client.publish_with(topic, vec![b'x'; bytes], PublishOptions::may_be_lost()).map(|_| ())
    };
    for topic in ["", "a/+", "#", "a\0", &"t".repeat(65_536)] {
        assert_eq!(publish(topic, 1), Err(PublishError::Topic));
    }
    let most = client_payload_max();
    assert_eq!(publish("t", most + 1), Err(PublishError::TooLarge));
    assert_eq!(publish("t", most), Ok(()));
    for properties in
        [vec![("edgeway-seq", "1.1.1".to_owned())], vec![("n", "v".repeat(16 << 10))], vec![("\0", "".into())]]
    {
        let properties = properties.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        let options = PublishOptions { properties, ..PublishOptions::default() };
        assert_eq!(client.publish_with("t", "", options).map(|_| ()), Err(PublishError::Properties));
    }
}

fn client_payload_max() -> usize {
    Config::new("h", 1, "d").payload_bytes_max
}

#[tokio::test]
async fn commands_are_answered_and_repeats_are_not_done_again() {
    for version in BOTH {
        let node = FakeNode::start().await;
        let done = Arc::new(AtomicUsize::new(0));
        let counted = done.clone();
        let handlers = Handlers::new()
            .on("cool", move |call| {
                counted.fetch_add(1, SeqCst);
                call.accept();
                call.progress("50 %");
                let result = format!("to {}", String::from_utf8_lossy(&call.payload));
                call.succeed(result);
            })
            .on("forget", drop);
        let client = Client::start(config(&node, version), handlers).unwrap();
        until("it subscribed", || node.subscribed.load(SeqCst) == 1).await;
        let id = |n| CommandId::v7(n, [n as u8; 10]);
        node.deliver(&command_topic("pump", id(1), "cool"), b"5");
        node.deliver(&command_topic("pump", id(1), "cool"), b"5");
        node.deliver(&command_topic("pump", id(2), "forget"), b"");
        node.deliver(&command_topic("pump", id(3), "explode"), b"");
        node.deliver(&command_topic("other", id(4), "cool"), b"");
        node.deliver("edgeway/command/pump/not-an-id/cool", b"");
        until("the answers are in", || node.published().len() == 6).await;
        let answer = |n, status: &str| format!("edgeway/answer/pump/{}/{status}", id(n));
        let expected = [
            (answer(1, "accepted"), ""),
            (answer(1, "in-progress"), "50 %"),
            (answer(1, "succeeded"), "to 5"),
            (answer(1, "succeeded"), "to 5"),
            (answer(2, "failed/no-answer"), "the handler gave no answer"),
            (answer(3, "rejected/unknown-command"), "no such command"),
        ];
        let expected: Vec<_> = expected.map(|(t, p)| (t, p.to_owned())).into();
        assert_eq!(node.published(), expected);
        until("all are confirmed", || node.device_acks.load(SeqCst) == 6).await;
        assert_eq!(done.load(SeqCst), 1);
        assert_eq!((client.counters().commands, client.counters().repeats), (3, 1));
    }
}

#[tokio::test]
async fn answers_outlive_a_broken_connection() {
    let node = FakeNode::start().await;
    let (sender, mut calls) = tokio::sync::mpsc::unbounded_channel();
    let handlers = Handlers::new().on("slow", move |call| sender.send(call).unwrap());
    let client = Client::start(config(&node, Version::V5), handlers).unwrap();
    until("it subscribed", || node.subscribed.load(SeqCst) == 1).await;
    let id = CommandId::v7(1, [1; 10]);
    node.deliver(&command_topic("pump", id, "slow"), b"");
    let call = calls.recv().await.unwrap();
    node.kick();
    until("it is back", || node.subscribed.load(SeqCst) == 2).await;
    node.deliver(&command_topic("pump", id, "slow"), b"");
    until("the repeat is noticed", || client.counters().repeats == 1).await;
    call.succeed("done");
    until("it answered", || node.payloads() == ["done"]).await;
}

#[tokio::test]
async fn stopping_flushes_and_dropping_tells_the_fates() {
    let node = FakeNode::start().await;
    let client = Client::start(config(&node, Version::V5), Handlers::new()).unwrap();
    let receipts = publish(&client, 0..500).await;
    assert_eq!(client.stop(LONG).await, 0);
    assert_eq!(node.payloads(), texts(0..500));
    for receipt in receipts {
        assert!(matches!(receipt.await, Fate::Acked { .. }));
    }
    node.withhold.store(true, SeqCst);
    let client = Client::start(config(&node, Version::V5), Handlers::new()).unwrap();
    let receipt = publish(&client, 0..1).await.remove(0);
    drop(client);
    assert_eq!(receipt.await, Fate::Stopped);
}

#[test]
fn the_blocking_client_waits_on_its_own_thread() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let node = runtime.block_on(FakeNode::start());
    let client = blocking::Client::start(config(&node, Version::V5), Handlers::new()).unwrap();
    let receipt = client.publish("t", "x").unwrap();
    assert_eq!(receipt.wait(), Fate::Acked { repeated: false });
    assert_eq!(client.counters().acked, 1);
    assert_eq!(client.stop(LONG), 0);
}

#[test]
fn bad_configurations_are_refused_with_the_rule() {
    let good = || Config::new("h", 1, "pump");
    assert_eq!(good().check(), Ok(()));
    let edits: [fn(&mut Config); 7] = [
        |c| c.device = "a/b".into(),
        |c| c.in_flight_max = 0,
        |c| c.keep_alive = Duration::from_secs(4),
        |c| c.keep_alive = Duration::from_secs(70_000),
        |c| c.connect_within = Duration::ZERO,
        |c| c.backoff_min = Duration::from_secs(60),
        |c| c.buffer.publishes_max = 0,
    ];
    for (index, edit) in edits.into_iter().enumerate() {
        let mut config = good();
        edit(&mut config);
        assert!(config.check().is_err(), "edit {index}");
    }
}
