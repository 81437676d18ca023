//! `/v1/links/{site}/plugins`: what a site that feeds this one is to have of plugins.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::Serialize;
use tokio::sync::Semaphore;

use super::super::ApiError;
use super::super::blocking::blocking;
use super::super::body::{Answer, JsonBody, Params};
use super::super::links::{Links, PluginDownJson};
use super::{BODY_BYTES_MAX, Deploy, RemoveParams};
use crate::plugin_host::{MANIFEST_BYTES_MAX, WantError, Wants, hex};

#[derive(Clone)]
struct Room {
    wants: Arc<Wants>,
    links: Links,
    /// One at a time, so that large bodies are not held side by side.
    place: Arc<Semaphore>,
}

/// A plugin that a site is to have.
#[derive(Serialize)]
struct GivenView {
    site: String,
    name: String,
    /// SHA-256 of the component, in hexadecimal.
    sha256: String,
}

#[derive(Serialize)]
struct PluginsOfSite {
    plugins: Vec<PluginDownJson>,
}

/// The calls about plugins of sites.
pub fn routes(wants: Arc<Wants>, links: Links) -> Router {
    Router::new()
        .route("/links/{site}/plugins", get(list).post(give).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
        .route("/links/{site}/plugins/{plugin}", delete(take_back))
        .with_state(Room { wants, links, place: Arc::new(Semaphore::new(1)) })
}

impl From<WantError> for ApiError {
    fn from(error: WantError) -> Self {
        let message = error.to_string();
        match error {
            WantError::Plugin(error) => error.into(),
            WantError::Guard(_) => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "plugin_refused", message),
            WantError::TooMany(_) => Self::new(StatusCode::TOO_MANY_REQUESTS, "too-many-plugins", message),
            WantError::Unknown { .. } => {
                Self::not_found(message).hint("`edgeway plugin list --site SITE` names what there is")
            }
            WantError::Commit(error) => error.into(),
            WantError::Store(_) | WantError::File(_) => Self::internal(message),
        }
    }
}

fn feeds(room: &Room, site: &str) -> Result<(), ApiError> {
    if room.links.feeds(site) {
        return Ok(());
    }
    Err(ApiError::not_found(format!("no site {site} feeds this one")).hint("`edgeway link list` names them"))
}

async fn list(State(room): State<Room>, Path(site): Path<String>) -> Result<Answer<PluginsOfSite>, ApiError> {
    feeds(&room, &site)?;
    blocking(move || Ok(Answer(PluginsOfSite { plugins: room.links.plugins(&site) }))).await
}

async fn give(State(room): State<Room>, Path(site): Path<String>, request: Request) -> Result<Response, ApiError> {
    feeds(&room, &site)?;
    // Before the body is read.
    let place = Arc::clone(&room.place).try_acquire_owned();
    let _place = place.map_err(|_| {
        let error = ApiError::new(StatusCode::CONFLICT, "busy", "another plugin is being given to a site");
        error.hint("try again when that is done")
    })?;
    let JsonBody(body) = JsonBody::<Deploy>::from_request(request, &()).await?;
    if body.manifest.len() > MANIFEST_BYTES_MAX {
        return Err(ApiError::bad_request(format!("the manifest has more than {MANIFEST_BYTES_MAX} bytes")));
    }
    room.links.hear_others().await?;
    let links = Arc::clone(&room.links);
    let given = blocking(move || {
        let wasm = BASE64.decode(&body.wasm_base64);
        let wasm = wasm.map_err(|error| ApiError::bad_request(format!("wasm_base64 is no base64: {error}")))?;
        let (name, sha256) = room.wants.give(&site, &wasm, &body.manifest, body.issued_by.word())?;
        Ok(GivenView { site, name, sha256: hex(&sha256) })
    });
    let given = given.await?;
    links.tell_others().await?;
    Ok((StatusCode::ACCEPTED, Answer(given)).into_response())
}

async fn take_back(
    State(room): State<Room>,
    Path((site, plugin)): Path<(String, String)>,
    Params(RemoveParams { issued_by }): Params<RemoveParams>,
) -> Result<StatusCode, ApiError> {
    room.links.hear_others().await?;
    let is_linked = room.links.feeds(&site);
    let links = Arc::clone(&room.links);
    blocking(move || Ok(room.wants.take_back(&site, &plugin, is_linked, issued_by.word())?)).await?;
    links.tell_others().await?;
    Ok(StatusCode::ACCEPTED)
}
