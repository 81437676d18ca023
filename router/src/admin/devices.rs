//! `/v1/devices`: who has been seen, and who is connected.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::routing::get;
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, Params};
use crate::event_log::EventLog;
use crate::sessions::{DEVICES_TREE, DeviceRecord, SessionInfo, Sessions};

/// Devices that one call lists.
const DEVICES_MAX: usize = 1_000;

#[derive(Clone)]
struct Room {
    log: Arc<EventLog>,
    sessions: Arc<Sessions>,
}

/// A device as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceView {
    /// Its name: the MQTT client id.
    pub device: String,
    /// Whether it is connected now.
    pub connected: bool,
    /// The number of its session, where it is connected.
    pub session: Option<u64>,
    /// `mqtt-3.1.1`, `mqtt-5` and the like, as of its last connection.
    pub protocol: String,
    /// The address that it last came from.
    pub remote: String,
    /// When it was seen first, in milliseconds since 1970.
    pub first_seen_ms: i64,
    /// When it came or went last.
    pub last_seen_ms: i64,
    /// Its subscriptions' filters, where it is connected.
    pub filters: Vec<String>,
}

/// One page of devices, by name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Devices {
    /// The devices.
    pub devices: Vec<DeviceView>,
    /// Give this as `after` to have the next page; null on the last.
    pub next: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    #[serde(default)]
    after: Option<String>,
}

/// The calls about devices.
pub fn routes(log: Arc<EventLog>, sessions: Arc<Sessions>) -> Router {
    Router::new().route("/devices", get(list)).with_state(Room { log, sessions })
}

async fn list(
    State(room): State<Room>,
    Params(ListParams { after }): Params<ListParams>,
) -> Result<Answer<Devices>, ApiError> {
    blocking(move || page(&room, after.as_deref()).map(Answer)).await
}

fn page(room: &Room, after: Option<&str>) -> Result<Devices, ApiError> {
    let known = room.log.state_scan(DEVICES_TREE, &[], after.map(str::as_bytes), DEVICES_MAX);
    let known = known.map_err(|error| ApiError::internal(error.to_string()))?;
    let live: HashMap<String, SessionInfo> =
        room.sessions.list().into_iter().map(|session| (session.device.client_id.clone(), session)).collect();
    let next = if known.len() < DEVICES_MAX { None } else { known.last().map(|(key, _)| key.clone()) };
    let records = known.iter().filter_map(|(_, value)| DeviceRecord::decode(value));
    let devices = records.map(|record| view(live.get(&record.client_id), record)).collect();
    Ok(Devices { devices, next: next.and_then(|key| String::from_utf8(key).ok()) })
}

/// What was recorded, corrected by who is connected now: a node that crashed recorded nobody's going.
fn view(session: Option<&SessionInfo>, record: DeviceRecord) -> DeviceView {
    let now = session.map_or(&record, |session| &session.device);
    DeviceView {
        connected: session.is_some(),
        session: session.map(|session| session.number),
        protocol: now.protocol.clone(),
        remote: now.remote.clone(),
        first_seen_ms: record.first_seen_ms,
        last_seen_ms: now.last_seen_ms.max(record.last_seen_ms),
        filters: session.map(|session| session.filters.clone()).unwrap_or_default(),
        device: record.client_id,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_connected_is_known_of_sessions_alone() {
        let record = |at, connected, remote: &str| DeviceRecord {
            client_id: "s1".into(),
            first_seen_ms: at,
            last_seen_ms: at,
            connected,
            protocol: "mqtt-5".into(),
            remote: remote.into(),
        };
        let crashed = view(None, record(5, true, "a"));
        assert!(!crashed.connected && crashed.session.is_none() && crashed.filters.is_empty());
        let session = SessionInfo { device: record(9, true, "b"), number: 7, filters: vec!["x/#".into()] };
        let live = view(Some(&session), record(5, false, "a"));
        assert_eq!((live.connected, live.session, live.first_seen_ms, live.last_seen_ms), (true, Some(7), 5, 9));
        assert_eq!((live.remote.as_str(), live.filters), ("b", vec!["x/#".to_owned()]));
    }
}
