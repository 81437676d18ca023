//! `/v1/site`: the site that the node belongs to: how it is, who may join, who leaves.

mod view;

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::body::{Answer, JsonBody};
use super::devices::IssuedBy;
use crate::catalog::{Lease, SiteUpdate};

pub use view::{
    BoundView, CatalogView, FollowerView, GapView, LagView, LeftView, NodeView, OriginView, PartitionView, QuorumView,
    RemovedView, SiteView, TokenView, TroubleView,
};

/// What is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

/// What the node does about its site when people ask for it.
pub trait SiteControl: Send + Sync {
    /// How the site is, as this node sees it. Reads the store: not for a task.
    fn view(&self) -> SiteView;

    /// Makes a token with which one node may join.
    fn issue_token(&self) -> Pending<'_, TokenView>;

    /// Takes a node out of the site for good, by its name or id. One that is there hands its log over first.
    fn remove<'a>(&'a self, node: &'a str) -> Pending<'a, RemovedView>;

    /// Takes this node out of its site, and stops it.
    fn leave(&self) -> Pending<'_, LeftView>;

    /// Changes what is set of the site, for `who`.
    fn set(&self, update: SiteUpdate, who: &'static str) -> Pending<'_, ()>;

    /// Has this node decide alone from now on, the majority of its site being lost.
    fn promote_lost(&self) -> Pending<'_, ()>;
}

/// The site, once the node is in it.
pub type Site = Arc<dyn SiteControl>;

#[derive(Serialize)]
struct Done {
    done: bool,
}

/// The calls.
pub fn routes(site: Site) -> Router {
    Router::new()
        .route("/site", get(show).patch(set))
        .route("/site/tokens", post(issue_token))
        .route("/site/nodes/{node}", delete(remove))
        .route("/site/leave", post(leave))
        .route("/site/promote-lost", post(promote_lost))
        .with_state(site)
}

async fn show(State(site): State<Site>) -> Result<Answer<SiteView>, ApiError> {
    super::blocking::blocking(move || Ok(Answer(site.view()))).await
}

/// What shall be otherwise of the site; what is left out stays.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SiteChange {
    /// What people call it.
    pub name: Option<String>,
    /// What its nodes do with plugins while they are cut off: `run` or `pause`.
    pub lease: Option<Lease>,
    /// Who changes it.
    pub issued_by: IssuedBy,
}

async fn set(State(site): State<Site>, JsonBody(change): JsonBody<SiteChange>) -> Result<Answer<SiteView>, ApiError> {
    let SiteChange { name, lease, issued_by } = change;
    site.set(SiteUpdate { name, lease }, issued_by.word()).await?;
    show(State(site)).await
}

async fn issue_token(State(site): State<Site>) -> Result<Response, ApiError> {
    Ok((StatusCode::CREATED, Answer(site.issue_token().await?)).into_response())
}

async fn remove(State(site): State<Site>, Path(node): Path<String>) -> Result<Answer<RemovedView>, ApiError> {
    Ok(Answer(site.remove(&node).await?))
}

async fn leave(State(site): State<Site>) -> Result<Answer<LeftView>, ApiError> {
    Ok(Answer(site.leave().await?))
}

async fn promote_lost(State(site): State<Site>) -> Result<Answer<Done>, ApiError> {
    site.promote_lost().await?;
    Ok(Answer(Done { done: true }))
}
