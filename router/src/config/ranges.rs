//! Numbers of the rooms' settings that would stop the node, each with its range.

use super::{Config, Problem, in_range};
use crate::replication::peers::{PROTOCOL_MAX, PROTOCOL_MIN};
use crate::replication::{LINK_BYTES_MIN, LINK_CERTIFICATE_S_MIN, LINKED_QUORUM_MAX};

/// Whether every number is in its range.
pub(super) fn check(config: &Config) -> Result<(), Problem> {
    let mqtt = &config.mqtt;
    in_range(["mqtt", "connections_max"], mqtt.connections_max, 1..=1_000_000)?;
    in_range(["mqtt", "connect_wait_s"], mqtt.connect_wait_s, 1..=600)?;
    in_range(["mqtt", "packet_bytes_max"], mqtt.packet_bytes_max, 1_024..=16 << 20)?;
    in_range(["mqtt", "receive_max"], mqtt.receive_max, 1..=u16::MAX)?;
    in_range(["mqtt", "in_flight_max"], mqtt.in_flight_max, 1..=u16::MAX)?;
    let quic = &config.quic;
    in_range(["quic", "open_wait_s"], quic.open_wait_s, 1..=600)?;
    in_range(["quic", "idle_s"], quic.idle_s, 5..=3_600)?;
    in_range(["quic", "ping_s"], quic.ping_s, 0..=quic.idle_s / 2)?;
    in_range(["quic", "not_reading_s"], quic.not_reading_s, 1..=3_600)?;
    in_range(["quic", "handshakes_max"], quic.handshakes_max, 1..=100_000)?;
    in_range(["quic", "retry_from"], quic.retry_from, 0..=100_000)?;
    if !quic.is_paired() {
        let found = format!("{:?}", quic.key_file);
        let expected = "a file where certificate_file names one, and none where it does not".to_owned();
        return Err(Problem { path: ["quic", "key_file"], found, expected });
    }
    let site = &config.site;
    in_range(["site", "heartbeat_ms"], site.heartbeat_ms, 100..=60_000)?;
    in_range(["site", "quorum_wait_ms"], site.quorum_wait_ms, 100..=600_000)?;
    let protocol = site.highest_protocol();
    in_range(["site", "protocol_max"], protocol, PROTOCOL_MIN..=PROTOCOL_MAX)?;
    in_range(["site", "lost_after_ms"], site.lost_after_ms, site.heartbeat_ms * 2..=600_000)?;
    in_range(["site", "catch_up_live_percent"], site.catch_up_live_percent, 110..=10_000)?;
    in_range(["site", "retention_wait_ms"], site.retention_wait_ms, 0..=10 * 365 * 24 * 3_600 * 1_000)?;
    in_range(["site", "retention_wait_bytes"], site.retention_wait_bytes, 0..=1 << 50)?;
    in_range(["site", "linked_quorum"], site.linked_quorum.len(), 0..=LINKED_QUORUM_MAX)?;
    if (1..LINK_BYTES_MIN).contains(&site.link_bytes_max) {
        let (found, expected) = (site.link_bytes_max, format!("0 for no bound, or at least {LINK_BYTES_MIN}"));
        return Err(Problem { path: ["site", "link_bytes_max"], found: found.to_string(), expected });
    }
    if site.link_certificate_s > 0 && !site.link_certificate_short {
        let (found, expected) = (site.link_certificate_s, format!("0 for ever, or at least {LINK_CERTIFICATE_S_MIN}"));
        if found < LINK_CERTIFICATE_S_MIN {
            return Err(Problem { path: ["site", "link_certificate_s"], found: found.to_string(), expected });
        }
    }
    let catalog = &config.catalog;
    in_range(["catalog", "devices_max"], catalog.devices_max, 1..=10_000_000)?;
    in_range(["catalog", "bytes_max"], catalog.bytes_max, 64 << 10..=16 << 30)?;
    in_range(["catalog", "retention_bytes"], catalog.retention_bytes, 1 << 20..=1 << 40)?;
    let sessions = &config.sessions;
    in_range(["sessions", "sessions_max"], sessions.sessions_max, 1..=1_000_000)?;
    in_range(["sessions", "kept_max"], sessions.kept_max, 0..=1_000_000)?;
    let subscriptions = &config.subscriptions;
    in_range(["subscriptions", "queue_bytes_max"], subscriptions.queue_bytes_max, 64 << 10..=1 << 30)?;
    in_range(["subscriptions", "filters_per_session_max"], subscriptions.filters_per_session_max, 1..=100_000)?;
    let filter_bytes = subscriptions.filter_bytes_per_session_max;
    in_range(["subscriptions", "filter_bytes_per_session_max"], filter_bytes, 1_024..=64 << 20)?;
    let commands = &config.commands;
    in_range(["commands", "pending_max"], commands.pending_max, 1..=10_000_000)?;
    in_range(["commands", "pending_per_device_max"], commands.pending_per_device_max, 1..=1_000_000)?;
    in_range(["commands", "pending_bytes_max"], commands.pending_bytes_max, 64 << 10..=16 << 30)?;
    in_range(["commands", "in_flight_per_device_max"], commands.in_flight_per_device_max, 1..=1_000)?;
    in_range(["commands", "jobs_max"], commands.jobs_max, 1..=1_000)?;
    in_range(["commands", "job_targets_max"], commands.job_targets_max, 1..=1_000_000)?;
    in_range(["commands", "job_rate_max"], commands.job_rate_max, 1..=1_000_000)?;
    in_range(["commands", "retention_ms"], commands.retention_ms, 60_000..=u64::MAX >> 1)?;
    let twins = &config.twins;
    in_range(["twins", "twins_max"], twins.twins_max, 1..=10_000_000)?;
    in_range(["twins", "bytes_max"], twins.bytes_max, 64 << 10..=16 << 30)?;
    in_range(["twins", "retention_ms"], twins.retention_ms, 60_000..=u64::MAX >> 1)?;
    let lanes = &config.lanes;
    in_range(["lanes", "devices_max"], lanes.devices_max, 1..=10_000_000)?;
    in_range(["lanes", "cached_max"], lanes.cached_max, 100..=10_000_000)?;
    in_range(["lanes", "keep_days"], lanes.keep_days, 1..=36_500)?;
    let log = &config.log;
    in_range(["log", "open_bytes_max"], log.open_bytes_max, 64 << 10..=1 << 30)?;
    in_range(["log", "recent_bytes_max"], log.recent_bytes_max, 0..=16 << 30)?;
    in_range(["log", "memory_sync_ms"], log.memory_sync_ms, 1..=600_000)?;
    in_range(["log", "topics_max"], log.topics_max, 1..=sled_data::TOPICS_MAX)
}
