//! `/v1/topics/{topic}/events` (POST) and `/latest`: publish, and the newest event of a key.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use devices::headers;
use serde::Deserialize;
use sled_data::{HeaderBlock, PartitionId, ReadError, StoredBatch};

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody, Params};
use super::event_json::{self, Place};
use super::topics::{find, refuse_internal, refuse_linked};
use super::wire::{Publish, PublishEvent, Published};
use crate::event_log::{AppendError, CommitFailed, EventLog, NO_HEADERS, NewEvent, Ticket, Topic};

/// Events that one call may publish.
pub const EVENTS_MAX: usize = 10_000;

/// What a stored record adds to its key, value and headers, at most.
const RECORD_OVERHEAD_BYTES: usize = 64;

/// Publish, and the newest event of a key.
pub fn routes(log: Arc<EventLog>) -> Router {
    Router::new()
        .route("/topics/{topic}/events", post(publish))
        .route("/topics/{topic}/latest", get(latest))
        .with_state(log)
}

/// An event whose text forms have become bytes.
struct Ready {
    timestamp_ms: i64,
    key: Option<String>,
    value: Option<Vec<u8>>,
    headers: HeaderBlock,
}

impl Ready {
    fn from(event: PublishEvent, now_ms: i64) -> Result<Self, ApiError> {
        let value = event.value_bytes().map_err(ApiError::bad_request)?;
        let mut block = HeaderBlock::new();
        for (name, value) in &event.headers {
            if headers::is_reserved(name) {
                return Err(ApiError::bad_request(format!("header {name:?} is reserved for what came by MQTT")));
            }
            block.push(name, value.as_bytes());
        }
        let timestamp_ms = event.timestamp_ms.unwrap_or(now_ms);
        Ok(Self { timestamp_ms, key: event.key, value, headers: block })
    }

    fn event(&self) -> NewEvent<'_> {
        NewEvent {
            timestamp_ms: self.timestamp_ms,
            key: self.key.as_ref().map(String::as_bytes),
            value: self.value.as_deref(),
            headers: &self.headers,
            extra: &NO_HEADERS,
            fanned_out: false,
        }
    }

    fn bytes(&self) -> usize {
        let key = self.key.as_ref().map_or(0, String::len);
        key + self.value.as_ref().map_or(0, Vec::len) + self.headers.bytes().len()
    }
}

impl From<AppendError> for ApiError {
    fn from(error: AppendError) -> Self {
        let message = error.to_string();
        match error {
            AppendError::TooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message),
            // Since an earlier failure: nothing of this was given to the store.
            AppendError::Refused(CommitFailed::Failed(_)) => Self::unavailable(message),
            AppendError::Refused(failed) => failed.into(),
            AppendError::Closing => Self::unavailable(message),
            AppendError::NoQuorum { .. } => Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_quorum", message),
            AppendError::Deleted { .. } => Self::not_found(message),
            AppendError::NoPartition { .. } => Self::not_found(message),
        }
    }
}

impl From<CommitFailed> for ApiError {
    fn from(error: CommitFailed) -> Self {
        let message = error.to_string();
        match error {
            CommitFailed::Full(_) => Self::store_full(message),
            CommitFailed::Refused(_) => Self::unavailable(message),
            CommitFailed::Unreplicated(_) => Self::new(StatusCode::SERVICE_UNAVAILABLE, "unreplicated", message),
            CommitFailed::Failed(_) => Self::unknown_outcome(message),
        }
    }
}

async fn publish(
    State(log): State<Arc<EventLog>>,
    Path(name): Path<String>,
    JsonBody(Publish { events }): JsonBody<Publish>,
) -> Result<Answer<Published>, ApiError> {
    refuse_internal(&name, "published to")?;
    refuse_linked(&name, "published to")?;
    let topic = log.topic(&name).ok_or_else(|| {
        let error = ApiError::not_found(format!("there is no topic {name}"));
        error.hint(format!("make it with `edgeway topic create {name}`"))
    })?;
    if events.is_empty() || events.len() > EVENTS_MAX {
        let count = events.len();
        return Err(ApiError::bad_request(format!("a call publishes 1 to {EVENTS_MAX} events, not {count}")));
    }
    let now_ms = log.clock().wall_ms();
    let ready: Vec<Ready> = events.into_iter().map(|event| Ready::from(event, now_ms)).collect::<Result<_, _>>()?;
    let ticket = append(&log, &topic, &ready)?;
    log.replicated(ticket).await?;
    Ok(Answer(Published { topic: name, events: ready.len() }))
}

/// Appends all or none.
fn append(log: &EventLog, topic: &Topic, events: &[Ready]) -> Result<Ticket, ApiError> {
    let mut open = log.lock();
    if open.over_bound() {
        return Err(ApiError::unavailable("more is waiting for the disk than may wait").hint("try again in a moment"));
    }
    for event in events {
        open.check(event.bytes() + RECORD_OVERHEAD_BYTES)?;
    }
    for event in events {
        open.append_keyed(topic, &event.event())?;
    }
    Ok(open.ticket())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct LatestParams {
    key: String,
}

async fn latest(
    State(log): State<Arc<EventLog>>,
    Path(name): Path<String>,
    Params(LatestParams { key }): Params<LatestParams>,
) -> Result<Response, ApiError> {
    let topic = find(&log, &name)?;
    let line = blocking(move || newest(&log, &topic, &key)).await?;
    Ok(([(CONTENT_TYPE, "application/json")], line).into_response())
}

fn newest(log: &EventLog, topic: &Topic, key: &str) -> Result<Vec<u8>, ApiError> {
    let absent = || ApiError::not_found(format!("topic {} has no event with key {key:?}", topic.name()));
    let index = sled_data::partition_for_key(key.as_bytes(), topic.partitions());
    // Over several origins the newest by clock and origin wins.
    let mut newest: Option<(u64, PartitionId, u64, StoredBatch)> = None;
    for partition in log.partitions_of(topic).into_iter().filter(|partition| partition.id().index == index) {
        let id = partition.id();
        let found = log.store().latest_by_key(id, key.as_bytes(), partition.newest_end());
        if let Some((offset, batch)) = found.map_err(unreadable)? {
            let hlc = batch.envelope().hlc;
            if newest.as_ref().is_none_or(|(clock, of, ..)| (*clock, of.origin) < (hlc, id.origin)) {
                newest = Some((hlc, id, offset, batch));
            }
        }
    }
    let (_, id, offset, batch) = newest.ok_or_else(absent)?;
    let records = batch.decompress().map_err(|error| ApiError::internal(format!("{id} at {offset}: {error}")))?;
    let record = records.iter().find(|record| records.offset_of(record) == offset).ok_or_else(absent)?;
    if record.value.is_none() {
        let error = ApiError::not_found(format!("key {key:?} of topic {} was deleted", topic.name()));
        return Err(error.hint(format!("by the event at partition {index}, offset {offset}")));
    }
    let is_late = log.store().is_late(id, offset);
    Ok(event_json::line(Place { topic: topic.name(), partition: id, offset, is_late }, &record))
}

fn unreadable(error: ReadError) -> ApiError {
    ApiError::internal(error.to_string()).hint("`edgeway store verify` names what is damaged")
}
