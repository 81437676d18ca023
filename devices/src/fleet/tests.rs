//! The fleet against a fake node: what it sends, obeys and keeps account of.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::*;
use crate::client::fake_node::FakeNode;
use crate::client::{Buffer, Overflow};
use crate::command::{CommandId, command_topic};

const LONG: Duration = Duration::from_secs(10);

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let begin = std::time::Instant::now();
    while !holds() {
        assert!(begin.elapsed() < LONG, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

fn config(node: &FakeNode, devices: usize) -> Config {
    let mut config = Config::new("127.0.0.1", node.port, devices);
    config.interval = Duration::from_millis(5);
    config.client.backoff_min = Duration::from_millis(5);
    config.client.backoff_max = Duration::from_millis(20);
    config
}

/// Device and sequence number of every reading that the node has, in its order.
fn found(node: &FakeNode) -> Vec<(String, u64)> {
    let readings = node.published().into_iter().filter_map(|(topic, payload)| {
        let device = topic.strip_prefix("sensors/")?.strip_suffix("/temperature")?.to_owned();
        let reading: serde_json::Value = serde_json::from_str(&payload).unwrap();
        assert!(reading["temperature"].is_number() && reading["ts"].is_i64(), "{payload}");
        Some((device, reading["seq"].as_u64().unwrap()))
    });
    readings.collect()
}

fn differences(node: &FakeNode, ledgers: &[(String, Ledger)]) -> Differences {
    let found = found(node);
    let ledgers = ledgers.iter().map(|(name, ledger)| (name.as_str(), ledger));
    compare(ledgers, found.iter().map(|(device, seq)| (device.as_str(), *seq)))
}

#[tokio::test]
async fn the_account_agrees_with_the_node_over_broken_connections() {
    let node = FakeNode::start().await;
    let fleet = Fleet::start(config(&node, 10)).unwrap();
    until("some flowed", || fleet.totals().acked > 100).await;
    node.withhold.store(true, SeqCst);
    let before = fleet.totals().sent;
    until("some are open", || fleet.totals().sent > before + 50).await;
    node.withhold.store(false, SeqCst);
    node.kick();
    until("they are back", || fleet.totals().acked > before + 200).await;
    let ledgers = fleet.stop(LONG).await;
    let differences = differences(&node, &ledgers);
    assert!(differences.is_clean(), "{differences:?}");
    assert!(differences.repeated > 0, "nothing was sent again");
    let sent: u64 = ledgers.iter().map(|(_, ledger)| ledger.sent_count()).sum();
    assert_eq!(differences.found, sent, "all was flushed");
    assert_eq!(ledgers.len(), 10);
    assert_eq!(ledgers[9].0, "sensor-0010");
}

#[tokio::test]
async fn a_seed_gives_one_fleet() {
    let mut lines = Vec::new();
    for _ in 0..2 {
        let node = FakeNode::start().await;
        let fleet = Fleet::start(config(&node, 3)).unwrap();
        until("some flowed", || fleet.totals().acked > 60).await;
        fleet.stop(LONG).await;
        let mut values = vec![Vec::new(); 3];
        for (topic, payload) in node.published() {
            let reading: serde_json::Value = serde_json::from_str(&payload).unwrap();
            let index = ["sensor-0001", "sensor-0002", "sensor-0003"].iter().position(|name| topic.contains(name));
            values[index.unwrap()].push(reading["temperature"].as_f64().unwrap());
        }
        values.iter_mut().for_each(|values| values.truncate(10));
        lines.push(values);
    }
    assert_eq!(lines[0], lines[1]);
    assert_ne!(lines[0][0], lines[0][1]);
}

#[tokio::test]
async fn an_overheated_device_obeys_the_cooling_command() {
    let node = FakeNode::start().await;
    let mut config = config(&node, 2);
    config.signal.heat_ms = 20.0;
    let fleet = Fleet::start(config).unwrap();
    let hot = "sensor-0002";
    until("it subscribed", || node.subscribed.load(SeqCst) == 2).await;
    fleet.inject(hot, Fault::Overheat(50.0)).unwrap();
    until("it is hot", || fleet.status(hot).unwrap().temperature > 80.0).await;
    let send = |n, name: &str, payload: &[u8]| {
        let id = CommandId::v7(n, [0; 10]);
        node.deliver(&command_topic(hot, id, name), payload);
    };
    send(1, "cool", b"");
    until("it is cooled", || fleet.status(hot).unwrap().temperature < 60.0).await;
    send(2, "set-interval", br#"{"ms":2}"#);
    send(3, "set-interval", br#"{"ms":0}"#);
    let answers = || node.published().into_iter().filter(|(topic, _)| topic.starts_with("edgeway/answer/"));
    until("it answered", || answers().count() == 3).await;
    let ends: Vec<_> = answers().map(|(topic, _)| topic.rsplit('/').next().unwrap().to_owned()).collect();
    assert_eq!(ends, ["succeeded", "succeeded", "rejected"]);
    let status = fleet.status(hot).unwrap();
    assert_eq!((status.commands, status.interval, status.fault), (3, Duration::from_millis(2), None));
    assert_eq!(fleet.latencies().len(), 3);
    assert_eq!(fleet.totals().commands, 3);
    assert_eq!(fleet.inject("nobody", Fault::Stuck), Err(UnknownDevice("nobody".into())));
}

#[tokio::test]
async fn a_series_is_replayed_as_fast_as_the_buffer_allows() {
    for overflow in [Overflow::Refuse, Overflow::DropOldest] {
        let node = FakeNode::start().await;
        let text: String = (0..500).map(|n| format!("{},{}.5\n", n * 300_000, n)).collect();
        let mut config = config(&node, 2);
        config.source = Source::Replay { series: Arc::new(Series::parse(&text).unwrap()), speed: 0.0 };
        config.client.buffer = Buffer { publishes_max: 40, bytes_max: 100_000, overflow };
        let fleet = Fleet::start(config).unwrap();
        until("it is played", || fleet.is_finished()).await;
        let ledgers = fleet.stop(LONG).await;
        assert!(ledgers.iter().all(|(_, ledger)| ledger.sent_count() == 500));
        let differences = differences(&node, &ledgers);
        assert!(differences.is_clean(), "{differences:?}");
        if overflow == Overflow::Refuse {
            assert_eq!(differences.found, 1_000);
            let first = node.payloads().into_iter().find(|payload| payload.contains(r#""seq":7,"#));
            assert_eq!(first.unwrap(), r#"{"seq":7,"ts":2100000,"temperature":7.5}"#);
        }
    }
}

#[tokio::test]
async fn a_series_keeps_its_speed() {
    let node = FakeNode::start().await;
    let mut config = config(&node, 1);
    let series = Arc::new(Series::parse("0,1.5\n100000,2.5\n").unwrap());
    config.source = Source::Replay { series, speed: 1_000.0 };
    let begin = std::time::Instant::now();
    let fleet = Fleet::start(config).unwrap();
    until("it is played", || fleet.is_finished()).await;
    assert!(begin.elapsed() >= Duration::from_millis(95), "100 s at 1,000 times the speed");
}

#[tokio::test]
async fn bad_fleets_are_refused() {
    let start = |edit: fn(&mut Config)| {
        let mut config = Config::new("127.0.0.1", 1, 1);
        edit(&mut config);
        Fleet::start(config).map(|_| ()).unwrap_err()
    };
    assert!(matches!(start(|c| c.devices = 100_001), StartError::Bound(_)));
    assert!(matches!(start(|c| c.interval = Duration::ZERO), StartError::Bound(_)));
    assert!(matches!(start(|c| c.prefix = "a/b".into()), StartError::Client(_)));
    let absent = Source::from_csv("/nonexistent/series.csv", 1.0).unwrap_err();
    assert!(absent.to_string().starts_with("/nonexistent/series.csv: "), "{absent}");
}
