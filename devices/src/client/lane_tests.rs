//! The client against a fake node: numbers, lanes, refusals for now, and the buffer on disk.

use std::sync::atomic::Ordering::SeqCst;

use super::fake_node::FakeNode;
use super::tests::{BOTH, LONG, config, publish, texts, until};
use super::*;

#[tokio::test]
async fn what_is_refused_for_now_is_sent_again_under_its_number() {
    for reason in [0x97, 0x80] {
        let node = FakeNode::start().await;
        node.reason.store(reason, SeqCst);
        node.refusals_left.store(5, SeqCst);
        let client = Client::start(config(&node, Version::V5), Handlers::new()).unwrap();
        for receipt in publish(&client, 0..3).await {
            assert_eq!(receipt.await, Fate::Acked { repeated: false });
        }
        assert_eq!((client.counters().postponed, client.counters().acked), (5, 3));
        let sequences = node.sequences();
        assert_eq!(sequences.len(), 8);
        let mut numbers: Vec<u64> = sequences.iter().map(|sequence| sequence.number.seq).collect();
        assert!(numbers[..3].is_sorted() && numbers[3..6].is_sorted(), "{sequences:?}");
        numbers.sort_unstable();
        numbers.dedup();
        assert_eq!(numbers, [0, 1, 2], "under the old numbers");
        assert_eq!(node.payloads()[..3], texts(0..3)[..]);
    }
}

#[tokio::test]
async fn numbers_travel_by_mqtt_5_and_stay_the_same_when_sent_again() {
    let node = FakeNode::start().await;
    node.withhold.store(true, SeqCst);
    let config = Config { boot: Some(17), ..config(&node, Version::V5) };
    let client = Client::start(config, Handlers::new()).unwrap();
    let unit = vec![("unit".to_owned(), "C".to_owned())];
    let options = PublishOptions { properties: unit.clone(), ..PublishOptions::urgent() };
    let urgent = client.publish_with("t", "1", options).unwrap();
    until("it is out", || node.payloads().len() == 1).await;
    node.withhold.store(false, SeqCst);
    node.kick();
    assert_eq!(urgent.await, Fate::Acked { repeated: true });
    client.publish("t", "2").unwrap().await;
    client.publish_with("t", "3", PublishOptions::may_be_lost()).unwrap().await;
    assert_eq!(client.stop(LONG).await, 0);
    until("all are there", || node.payloads().len() == 4).await;
    let sequences: Vec<String> = node.sequences().iter().map(ToString::to_string).collect();
    assert_eq!(sequences, ["0.17.0", "0.17.0", "1.17.1"], "without quality of service 0");
    assert_eq!(node.properties()[0][..1], unit);
    assert!(node.properties()[3].is_empty());
}

#[tokio::test]
async fn what_is_urgent_overtakes_what_waits() {
    for version in BOTH {
        let node = FakeNode::start().await;
        node.closed.store(true, SeqCst);
        let client = Client::start(config(&node, version), Handlers::new()).unwrap();
        let publish = |n: u32, options| client.publish_with("t", n.to_string(), options).unwrap();
        let mut receipts: Vec<Receipt> = (0..3).map(|n| publish(n, PublishOptions::bulk())).collect();
        receipts.extend((3..6).map(|n| publish(n, PublishOptions::default())));
        receipts.extend((6..9).map(|n| publish(n, PublishOptions::urgent())));
        node.closed.store(false, SeqCst);
        for receipt in receipts {
            assert_eq!(receipt.await, Fate::Acked { repeated: false });
        }
        assert_eq!(node.payloads(), ["6", "7", "8", "3", "4", "5", "0", "1", "2"]);
    }
}

#[tokio::test]
async fn an_alarm_finds_room_where_history_waits() {
    let node = FakeNode::start().await;
    node.closed.store(true, SeqCst);
    let mut config = config(&node, Version::V5);
    config.buffer = Buffer { publishes_max: 2, bytes_max: 1_000, overflow: Overflow::KeepByPriority };
    let client = Client::start(config, Handlers::new()).unwrap();
    let publish = |n: &'static str, options| client.publish_with("t", n, options);
    let history = publish("0", PublishOptions::bulk()).unwrap();
    let reading = publish("1", PublishOptions::default()).unwrap();
    assert_eq!(publish("2", PublishOptions::bulk()).map(|_| ()), Err(PublishError::Full));
    let alarm = publish("3", PublishOptions::urgent()).unwrap();
    assert_eq!(history.await, Fate::Dropped);
    node.closed.store(false, SeqCst);
    assert_eq!((alarm.await, reading.await), (Fate::Acked { repeated: false }, Fate::Acked { repeated: false }));
    assert_eq!((node.payloads(), client.counters().dropped), (vec!["3".to_owned(), "1".to_owned()], 1));
}

#[cfg(feature = "disk")]
#[tokio::test]
async fn a_buffer_on_disk_goes_on_where_it_stopped() {
    use std::time::Duration;

    use super::disk::{Disk, Sync};

    for version in BOTH {
        let home = tempfile::tempdir().unwrap();
        let node = FakeNode::start().await;
        let syncs = [Sync::Never, Sync::Every(Duration::from_millis(20)), Sync::Always];
        let mut boots = Vec::new();
        for (start, sync) in syncs.into_iter().enumerate() {
            node.closed.store(start < 2, SeqCst);
            let disk = Disk { sync, ..Disk::new(home.path()) };
            let config = Config { disk: Some(disk), ..config(&node, version) };
            let client = Client::start(config.clone(), Handlers::new()).unwrap();
            assert!(matches!(Client::start(config, Handlers::new()), Err(StartError::Disk(_))), "one at a time");
            assert_eq!(client.unacked(), 700 * start);
            let receipts = publish(&client, 700 * start as u32..700 * (start as u32 + 1)).await;
            if start < 2 {
                assert_eq!(client.stop(Duration::from_millis(5)).await, 700 * (start + 1));
                assert_eq!(last_of(receipts).await, Fate::Stopped);
            } else {
                assert_eq!(last_of(receipts).await, Fate::Acked { repeated: false });
                assert_eq!((client.stop(LONG).await, node.payloads()), (0, texts(0..2_100)));
            }
            boots.extend(node.sequences().last().map(|sequence| sequence.number.boot));
        }
        assert!(node.sequences().is_sorted_by(|a, b| a.number < b.number));
        assert_eq!(boots.len(), usize::from(version == Version::V5));
    }
}

#[cfg(feature = "disk")]
async fn last_of(mut receipts: Vec<Receipt>) -> Fate {
    receipts.pop().unwrap().await
}
