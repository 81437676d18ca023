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
use serde::Serialize;

use super::ApiError;
use super::body::Answer;

pub use view::{
    CatalogView, FollowerView, GapView, NodeView, OriginView, PartitionView, QuorumView, SiteView, TokenView,
    TroubleView,
};

/// What is on its way.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, ApiError>> + Send + 'a>>;

/// What the node does about its site when people ask for it.
pub trait SiteControl: Send + Sync {
    /// How the site is, as this node sees it. Reads the store: not for a task.
    fn view(&self) -> SiteView;

    /// Makes a token with which one node may join.
    fn issue_token(&self) -> Pending<'_, TokenView>;

    /// Takes a node out of the site for good, by its name or id; its id.
    fn remove<'a>(&'a self, node: &'a str) -> Pending<'a, String>;

    /// Takes this node out of its site, and stops it.
    fn leave(&self) -> Pending<'_, ()>;

    /// Has this node decide alone from now on, the majority of its site being lost.
    fn promote_lost(&self) -> Pending<'_, ()>;
}

/// The site, once the node is in it.
pub type Site = Arc<dyn SiteControl>;

#[derive(Serialize)]
struct Removed {
    node: String,
}

#[derive(Serialize)]
struct Done {
    done: bool,
}

/// The calls.
pub fn routes(site: Site) -> Router {
    Router::new()
        .route("/site", get(show))
        .route("/site/tokens", post(issue_token))
        .route("/site/nodes/{node}", delete(remove))
        .route("/site/leave", post(leave))
        .route("/site/promote-lost", post(promote_lost))
        .with_state(site)
}

async fn show(State(site): State<Site>) -> Result<Answer<SiteView>, ApiError> {
    super::blocking::blocking(move || Ok(Answer(site.view()))).await
}

async fn issue_token(State(site): State<Site>) -> Result<Response, ApiError> {
    Ok((StatusCode::CREATED, Answer(site.issue_token().await?)).into_response())
}

async fn remove(State(site): State<Site>, Path(node): Path<String>) -> Result<Answer<Removed>, ApiError> {
    Ok(Answer(Removed { node: site.remove(&node).await? }))
}

async fn leave(State(site): State<Site>) -> Result<Answer<Done>, ApiError> {
    site.leave().await?;
    Ok(Answer(Done { done: true }))
}

async fn promote_lost(State(site): State<Site>) -> Result<Answer<Done>, ApiError> {
    site.promote_lost().await?;
    Ok(Answer(Done { done: true }))
}
