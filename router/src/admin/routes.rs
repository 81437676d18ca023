//! `/v1/routes`: the routing rules, those of the site and the node's own, and where an MQTT topic goes by them.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::{get, put};
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::body::{Answer, JsonBody, Params};
use super::devices::IssuedBy;
use crate::catalog::{Catalog, Change, NewRoute, ROUTE_ORDER};
use crate::ingest::Ingest;

/// A rule to set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SetRoute {
    /// The MQTT topics that it is about.
    pub pattern: String,
    /// The topic.
    pub topic: String,
    /// The key; null: the MQTT topic.
    #[serde(default)]
    pub key: Option<String>,
    /// Its place: lower ones are asked first.
    #[serde(default = "usual_order")]
    pub order: u32,
    /// Who sets it.
    #[serde(default)]
    pub issued_by: IssuedBy,
}

fn usual_order() -> u32 {
    ROUTE_ORDER
}

/// A rule as it is shown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RouteView {
    /// Its name; null for one of the node's configuration.
    pub name: Option<String>,
    /// Its place; null for one of the node's configuration: those come last, as they stand there.
    pub order: Option<u32>,
    /// The MQTT topics that it is about.
    pub pattern: String,
    /// The topic.
    pub topic: String,
    /// The key; null: the MQTT topic.
    pub key: Option<String>,
}

/// All rules, in the order in which they are asked.
#[derive(Debug, Serialize, Deserialize)]
pub struct RoutesView {
    /// The rules.
    pub routes: Vec<RouteView>,
    /// Whether what no rule names is refused, rather than taken into the catch-all topic.
    pub strict: bool,
    /// Where the MQTT topic goes that was asked for, where it goes anywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub destination: Option<DestinationView>,
}

/// Where an MQTT topic goes.
#[derive(Debug, Serialize, Deserialize)]
pub struct DestinationView {
    /// The topic.
    pub topic: String,
    /// The key.
    pub key: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    /// An MQTT topic.
    #[serde(default)]
    mqtt_topic: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DeleteParams {
    #[serde(default)]
    issued_by: IssuedBy,
}

#[derive(Clone)]
struct Room {
    ingest: Arc<Ingest>,
    catalog: Arc<Catalog>,
}

/// The calls.
pub fn routes(ingest: Arc<Ingest>, catalog: Arc<Catalog>) -> Router {
    Router::new()
        .route("/routes", get(list))
        .route("/routes/{name}", put(set).delete(delete))
        .with_state(Room { ingest, catalog })
}

async fn list(State(room): State<Room>, Params(params): Params<ListParams>) -> Answer<RoutesView> {
    let site = room.catalog.routes().into_iter().map(|(name, route)| RouteView {
        name: Some(name.to_string()),
        order: Some(route.order),
        pattern: route.pattern.clone(),
        topic: route.topic.clone(),
        key: route.key.clone(),
    });
    let config = room.ingest.routing();
    let own = config.rules.iter().map(|rule| RouteView {
        name: None,
        order: None,
        pattern: rule.pattern.clone(),
        topic: rule.topic.clone(),
        key: rule.key.clone(),
    });
    let destination = params.mqtt_topic.and_then(|mqtt_topic| room.ingest.destination(&mqtt_topic));
    Answer(RoutesView {
        routes: site.chain(own).collect(),
        strict: config.strict,
        destination: destination.map(|(topic, key)| DestinationView { topic, key }),
    })
}

async fn set(
    State(room): State<Room>,
    Path(name): Path<String>,
    JsonBody(body): JsonBody<SetRoute>,
) -> Result<Answer<RouteView>, ApiError> {
    let SetRoute { pattern, topic, key, order, issued_by } = body;
    let route = NewRoute { order, pattern: pattern.clone(), topic: topic.clone(), key: key.clone() };
    room.catalog.propose(Change::SetRoute { name: name.clone(), route }, issued_by.word()).await?;
    // What is published here from now on goes by it.
    room.ingest.follow_routes(&room.catalog);
    Ok(Answer(RouteView { name: Some(name), order: Some(order), pattern, topic, key }))
}

async fn delete(
    State(room): State<Room>,
    Path(name): Path<String>,
    Params(DeleteParams { issued_by }): Params<DeleteParams>,
) -> Result<StatusCode, ApiError> {
    room.catalog.propose(Change::DeleteRoute { name }, issued_by.word()).await?;
    room.ingest.follow_routes(&room.catalog);
    Ok(StatusCode::NO_CONTENT)
}
