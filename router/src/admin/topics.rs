//! `/v1/topics`: what there is, made and deleted.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use sled_data::TopicError as StoreTopicError;

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody};
use super::wire::{Extent, NewTopic, TopicView};
use crate::catalog::{AgreeError, Catalog};
use crate::event_log::{CommitFailed, EventLog, PartitionLog, SITE_SEPARATOR, Topic, TopicError};

/// Who the audit says did it.
const WHO: &str = "api";

#[derive(Serialize)]
struct Topics {
    topics: Vec<TopicView>,
}

/// What the calls speak to.
#[derive(Clone)]
struct Parts {
    log: Arc<EventLog>,
    catalog: Arc<Catalog>,
}

impl axum::extract::FromRef<Parts> for Arc<EventLog> {
    fn from_ref(parts: &Parts) -> Self {
        Self::clone(&parts.log)
    }
}

/// The calls about topics as such.
pub fn routes(log: Arc<EventLog>, catalog: Arc<Catalog>) -> Router {
    Router::new()
        .route("/topics", get(list).post(create))
        .route("/topics/{topic}", get(show).delete(delete))
        .with_state(Parts { log, catalog })
}

/// The topic of that name.
///
/// # Errors
/// That there is none.
pub fn find(log: &EventLog, name: &str) -> Result<Arc<Topic>, ApiError> {
    log.topic(name).ok_or_else(|| TopicError::Unknown(name.to_owned()).into())
}

/// Refuses internal topics.
///
/// # Errors
/// That the topic is the node's own.
pub fn refuse_internal(name: &str, what: &str) -> Result<(), ApiError> {
    if !name.starts_with('_') {
        return Ok(());
    }
    let message = format!("topic {name} is the node's own and cannot be {what}");
    Err(ApiError::new(StatusCode::FORBIDDEN, "internal_topic", message))
}

/// Refuses topics of other sites.
///
/// # Errors
/// That the topic is another site's.
pub fn refuse_linked(name: &str, what: &str) -> Result<(), ApiError> {
    if !name.contains(SITE_SEPARATOR) {
        return Ok(());
    }
    let message = format!("topic {name} is another site's, which a link brings, and cannot be {what} here");
    Err(ApiError::new(StatusCode::FORBIDDEN, "linked_topic", message))
}

impl From<AgreeError> for ApiError {
    fn from(error: AgreeError) -> Self {
        match error {
            AgreeError::Refused(refusal) => refusal.into(),
            AgreeError::Log(error) => error.into(),
            AgreeError::Stopping => Self::unavailable(error.to_string()),
        }
    }
}

impl From<TopicError> for ApiError {
    fn from(error: TopicError) -> Self {
        let message = error.to_string();
        match error {
            TopicError::Unknown(name) => {
                Self::not_found(format!("there is no topic {name}")).hint("`edgeway topic list` names what there is")
            }
            TopicError::Exists(_) => Self::conflict(message),
            TopicError::Name(_) | TopicError::Partitions(_) => Self::bad_request(message),
            TopicError::TooMany(_) => Self::conflict(message).hint("raise [log] topics_max, or delete some"),
            TopicError::Store(StoreTopicError::Failed(_)) => Self::unavailable(message),
            TopicError::Store(StoreTopicError::Full) | TopicError::NotDeleted(CommitFailed::Full(_)) => {
                Self::store_full(message)
            }
            TopicError::Store(_) | TopicError::Unreadable(_) | TopicError::NotDeleted(_) => Self::internal(message),
        }
    }
}

async fn list(State(log): State<Arc<EventLog>>) -> Result<Answer<Topics>, ApiError> {
    let topics = blocking(move || {
        let kept = log.events_kept();
        let events = |topic: &Topic| kept.get(&topic.id()).copied().unwrap_or(0);
        Ok(log.topics().iter().map(|topic| view(topic, events(topic))).collect::<Vec<TopicView>>())
    });
    Ok(Answer(Topics { topics: topics.await? }))
}

async fn show(State(parts): State<Parts>, Path(name): Path<String>) -> Result<Answer<TopicView>, ApiError> {
    let topic = find(&parts.log, &name)?;
    Ok(Answer(blocking(move || Ok(whole_view(&parts, &topic))).await?))
}

async fn create(State(parts): State<Parts>, JsonBody(new): JsonBody<NewTopic>) -> Result<Response, ApiError> {
    refuse_internal(&new.name, "made")?;
    let config = new.config(parts.log.topic_defaults());
    let topic = parts.catalog.create_topic(&new.name, config, WHO).await?;
    let view = blocking(move || Ok(whole_view(&parts, &topic)));
    Ok((StatusCode::CREATED, Answer(view.await?)).into_response())
}

async fn delete(State(parts): State<Parts>, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    refuse_internal(&name, "deleted")?;
    if name.contains(SITE_SEPARATOR) {
        // Another site's is no matter of this one's catalog; it comes again while its link carries it.
        let log = parts.log;
        blocking(move || Ok(log.delete_topic(&name)?)).await?;
        return Ok(StatusCode::NO_CONTENT);
    }
    parts.catalog.delete_topic(&name, WHO).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn view(topic: &Topic, events: u64) -> TopicView {
    let config = topic.config();
    TopicView {
        name: topic.name().to_owned(),
        id: topic.id().to_string(),
        internal: topic.is_internal(),
        partitions: topic.partitions(),
        compression: config.compression.into(),
        durability: config.durability.into(),
        retention_ms: config.retention_ms,
        retention_bytes: config.retention_bytes,
        events,
        extents: Vec::new(),
    }
}

/// With what each partition holds, of every origin.
fn whole_view(Parts { log, catalog }: &Parts, topic: &Topic) -> TopicView {
    let members = catalog.members();
    let named = |origin: u64| members.iter().find(|member| member.origin == Some(origin));
    let extent = |partition: &Arc<PartitionLog>| Extent {
        origin: partition.id().origin.to_string(),
        node: named(partition.id().origin.0).map(|member| member.name.clone()),
        partition: partition.id().index,
        start: log.start_offset(partition.id()),
        end: partition.visible_end(),
    };
    let extents: Vec<Extent> = log.partitions_of(topic).iter().map(extent).collect();
    let events = extents.iter().map(|extent| extent.end.saturating_sub(extent.start)).sum();
    TopicView { extents, ..view(topic, events) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_store_is_told_as_such() {
        let full =
            [TopicError::Store(StoreTopicError::Full), TopicError::NotDeleted(CommitFailed::Full("full".into()))];
        for error in full {
            let told = ApiError::from(error);
            assert_eq!((told.status, told.code), (StatusCode::INSUFFICIENT_STORAGE, "store_full"));
        }
    }
}
