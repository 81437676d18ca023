//! The figures of a real event log on a memory store, as they are written.

use std::sync::Arc;

use devices::native::Close;
use sled_data::{MemoryBackend, Options, Store, TopicConfig};

use super::*;
use crate::admin::links::{ClassJson, LinkJson, PluginAnswersJson, PluginDownJson, TopicsDownJson, TrafficJson};
use crate::clock::Clock;
use crate::event_log::{Config, NO_HEADERS, NewEvent};

pub(super) fn text(metrics: &Metrics) -> String {
    let mut text = String::new();
    encode(&mut text, &metrics.registry).unwrap();
    text
}

fn log() -> Arc<EventLog> {
    let backend: Arc<dyn sled_data::Backend> = Arc::new(MemoryBackend::new());
    let (store, _) = Store::on(backend, Options { seed: Some(3), ..Options::default() }).unwrap();
    EventLog::open(Arc::new(store), Arc::new(Clock::starting_after(0)), Config::default()).unwrap()
}

/// Three events in one commit, the oldest an hour old; reader `slow` has done the first.
fn three_events(log: &EventLog) {
    let topic = log.create_topic("t", TopicConfig { partitions: 1, ..TopicConfig::default() }).unwrap();
    let now_ms = log.clock().wall_ms();
    let mut open = log.lock();
    for age_ms in [9_000_000, 3_600_000, 0] {
        let event = NewEvent {
            timestamp_ms: now_ms - age_ms,
            key: None,
            value: Some(b"value"),
            headers: &NO_HEADERS,
            extra: &NO_HEADERS,
            fanned_out: false,
        };
        open.append(&topic, 0, &event).unwrap();
    }
    open.move_cursor("slow", topic.partition(0).unwrap().id(), 1);
    let ticket = open.ticket();
    drop(open);
    log.durable_blocking(ticket).unwrap();
}

#[test]
fn the_log_shows_what_became_durable() {
    let log = log();
    three_events(&log);
    let mut metrics = Metrics::default();
    metrics.add_log(Arc::clone(&log));
    metrics.add_ingest(Arc::new(
        Ingest::new(Arc::clone(&log), &crate::ingest::Config::default(), Default::default()).unwrap(),
    ));
    let text = text(&metrics);
    for line in [
        "edgeway_log_events_total 3",
        "edgeway_log_commits_total 1",
        "edgeway_log_batches_total 1",
        "edgeway_log_refused_total{reason=\"full\"} 0",
        "edgeway_sync_seconds_count 1",
        "edgeway_sync_seconds_bucket{le=\"+Inf\"} 1",
        "edgeway_store_alarm 0",
        "edgeway_events_taken_total 0",
        "edgeway_events_refused_total{reason=\"too_large\"} 0",
        "edgeway_events_refused_total{reason=\"stale_boot\"} 0",
        "edgeway_events_known_total 0",
        "edgeway_numbering_devices 0",
        "edgeway_reader_lag_events{reader=\"slow\"} 2.0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    assert!(text.ends_with("# EOF\n"));
    log.close();
}

#[test]
fn a_reader_lags_by_the_age_of_what_it_has_not_done() {
    let log = log();
    three_events(&log);
    let lags = lag::lags(&log);
    let slow = lags.get("slow").unwrap();
    assert_eq!((lags.len(), slow.events), (1, 2));
    assert!((3_600.0..3_700.0).contains(&slow.seconds), "{}", slow.seconds);
    log.close();
}

#[test]
fn quic_shows_what_it_refused() {
    let stats = Arc::<crate::quic::Stats>::default();
    stats.connected.store(3, std::sync::atomic::Ordering::Relaxed);
    stats.ended.store(1, std::sync::atomic::Ordering::Relaxed);
    stats.refused_protocol.store(2, std::sync::atomic::Ordering::Relaxed);
    stats.closed[Close::OutOfPlace as usize].store(5, std::sync::atomic::Ordering::Relaxed);
    stats.datagrams.store(7, std::sync::atomic::Ordering::Relaxed);
    let mut metrics = Metrics::default();
    metrics.add_quic(stats);
    let text = text(&metrics);
    for line in [
        "edgeway_quic_connections 2",
        "edgeway_quic_connected_total 3",
        "reason=\"protocol\"} 2",
        "reason=\"too_many\"} 0",
        "edgeway_quic_closed_total{reason=\"out_of_place\"} 5",
        "edgeway_quic_datagrams_total 7",
    ] {
        assert!(text.contains(line), "{line} is not in:\n{text}");
    }
}

#[test]
fn links_show_what_comes_down_and_what_they_keep() {
    let topics = TopicsDownJson {
        gateway: "gw-1".to_owned(),
        state: "connected".to_owned(),
        events: 7,
        bytes: 700,
        lag_events: 3,
        lag_bytes: 300,
        lag_ms: 1_500,
        refusals: vec!["not listed".to_owned()],
        ..TopicsDownJson::default()
    };
    let plugin = |state: &str| PluginDownJson { state: state.to_owned(), ..PluginDownJson::default() };
    let fed = LinkJson {
        name: "plant".to_owned(),
        direction: "down".to_owned(),
        topics: vec![topics],
        plugins: vec![plugin("waits"), plugin("done"), plugin("done")],
        plugin_answers: PluginAnswersJson { deployed: 2, removed: 1, refused: 0, later: 4, bytes: 900 },
        kept_bytes: 50,
        kept_bytes_max: Some(60),
        shed_bytes: 5,
        ..LinkJson::default()
    };
    let unbounded = LinkJson { name: "mill".to_owned(), kept_bytes_max: None, ..fed.clone() };
    let at_edge = LinkJson { name: "hq".to_owned(), direction: "up".to_owned(), ..LinkJson::default() };
    let mut metrics = Metrics::default();
    metrics.add("links", move |sheet| links_down::write(&[fed.clone(), unbounded.clone(), at_edge.clone()], sheet));
    let text = text(&metrics);
    for line in [
        "edgeway_link_down_connected{link=\"plant\",gateway=\"gw-1\"} 1.0",
        "edgeway_link_down_events_total{link=\"plant\",gateway=\"gw-1\"} 7",
        "edgeway_link_down_bytes_total{link=\"plant\",gateway=\"gw-1\"} 700",
        "edgeway_link_down_lag_events{link=\"plant\",gateway=\"gw-1\"} 3.0",
        "edgeway_link_down_lag_bytes{link=\"plant\",gateway=\"gw-1\"} 300.0",
        "edgeway_link_down_lag_seconds{link=\"plant\",gateway=\"gw-1\"} 1.5",
        "edgeway_link_down_refusals{link=\"plant\",gateway=\"gw-1\"} 1.0",
        "edgeway_link_plugins{link=\"plant\",state=\"waits\"} 1.0",
        "edgeway_link_plugins{link=\"plant\",state=\"done\"} 2.0",
        "edgeway_link_plugins{link=\"plant\",state=\"refused\"} 0.0",
        "edgeway_link_plugin_answers_total{link=\"plant\",outcome=\"deployed\"} 2",
        "edgeway_link_plugin_answers_total{link=\"plant\",outcome=\"later\"} 4",
        "edgeway_link_plugin_bytes_total{link=\"plant\"} 900",
        "edgeway_link_kept_bytes{link=\"plant\"} 50.0",
        "edgeway_link_kept_bytes_max{link=\"plant\"} 60.0",
        "edgeway_link_shed_bytes_total{link=\"plant\"} 5",
        "edgeway_link_kept_bytes{link=\"mill\"} 50.0",
        "edgeway_link_plugin_answers_total{link=\"hq\",outcome=\"removed\"} 0",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
    for absent in
        ["link_kept_bytes_max{link=\"mill\"}", "link_kept_bytes{link=\"hq\"}", "link_down_events_total{link=\"hq\""]
    {
        assert!(!text.contains(absent), "{absent} is in\n{text}");
    }
}

#[test]
fn what_links_count_only_rises() {
    let class = ClassJson { priority: "high".to_owned(), sent_bytes: 8, dropped_events: 9, ..ClassJson::default() };
    let traffic = TrafficJson { rtt_ms: 20.0, sent: 6, lost: 1, sent_bytes: 600, received_bytes: 60 };
    let link = LinkJson {
        name: "hq".to_owned(),
        direction: "up".to_owned(),
        state: "broken".to_owned(),
        lag_events: 2,
        events: 3,
        bytes: 300,
        again_events: 4,
        connections: 5,
        classes: vec![class],
        traffic: Some(traffic),
        ..LinkJson::default()
    };
    let mut metrics = Metrics::default();
    metrics.add("links", move |sheet| links::write(std::slice::from_ref(&link), sheet));
    let text = text(&metrics);
    for line in [
        "# TYPE edgeway_link_events counter",
        "edgeway_link_events_total{link=\"hq\"} 3",
        "edgeway_link_bytes_total{link=\"hq\"} 300",
        "edgeway_link_again_events_total{link=\"hq\"} 4",
        "edgeway_link_connections_total{link=\"hq\"} 5",
        "edgeway_link_packets_sent_total{link=\"hq\"} 6",
        "edgeway_link_packets_lost_total{link=\"hq\"} 1",
        "edgeway_link_class_sent_bytes_total{link=\"hq\",priority=\"high\"} 8",
        "edgeway_link_class_dropped_events_total{link=\"hq\",priority=\"high\"} 9",
        "# TYPE edgeway_link_connected gauge",
        "edgeway_link_connected{link=\"hq\"} 0.0",
        "edgeway_link_lag_events{link=\"hq\"} 2.0",
        "edgeway_link_round_trip_seconds{link=\"hq\"} 0.02",
    ] {
        assert!(text.lines().any(|found| found == line), "{line} is not in\n{text}");
    }
}
