//! `/v1/plugins`: deployed, listed, removed.

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody, Params};
use super::devices::IssuedBy;
use crate::plugin_host::{
    DeployError, Deployed, MANIFEST_BYTES_MAX, Manifest, PluginHost, PluginStatus, RemoveError, WASM_BYTES_MAX,
};

/// Bytes of a deployment's body: the component in base64, the manifest escaped, and what is around them.
const BODY_BYTES_MAX: usize = WASM_BYTES_MAX.div_ceil(3) * 4 + 2 * MANIFEST_BYTES_MAX + 1_024;

#[derive(Clone)]
struct Room {
    host: Arc<PluginHost>,
    /// One deployment at a time, so that large bodies are not held side by side.
    place: Arc<Semaphore>,
}

/// A plugin to deploy.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Deploy {
    /// The manifest's text.
    pub manifest: String,
    /// The component.
    pub wasm_base64: String,
    /// Who deploys it.
    #[serde(default)]
    pub issued_by: IssuedBy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveParams {
    #[serde(default)]
    issued_by: IssuedBy,
}

#[derive(Serialize)]
struct Plugins {
    plugins: Vec<PluginStatus>,
}

/// The calls about plugins.
pub fn routes(host: Arc<PluginHost>) -> Router {
    Router::new()
        .route("/plugins", get(list).post(deploy).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
        .route("/plugins/{plugin}", delete(remove))
        .with_state(Room { host, place: Arc::new(Semaphore::new(1)) })
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let message = error.to_string();
        match error {
            DeployError::Commit(error) => error.into(),
            DeployError::Topic(error) => error.into(),
            error if error.is_refusal() => Self::new(StatusCode::UNPROCESSABLE_ENTITY, "plugin_refused", message),
            _ => Self::internal(message),
        }
    }
}

impl From<RemoveError> for ApiError {
    fn from(error: RemoveError) -> Self {
        let message = error.to_string();
        match error {
            RemoveError::Unknown(_) => Self::not_found(message).hint("`edgeway plugin list` names what there is"),
            RemoveError::Read(_) => Self::internal(message),
            RemoveError::Commit(error) => error.into(),
        }
    }
}

async fn list(State(room): State<Room>) -> Result<Answer<Plugins>, ApiError> {
    blocking(move || Ok(Answer(Plugins { plugins: room.host.list() }))).await
}

async fn deploy(State(room): State<Room>, request: Request) -> Result<Response, ApiError> {
    // Before the body is read.
    let place = Arc::clone(&room.place).try_acquire_owned();
    let _place = place.map_err(|_| {
        let error = ApiError::new(StatusCode::CONFLICT, "busy", "another plugin is being deployed");
        error.hint("try again when that is done")
    })?;
    let JsonBody(body) = JsonBody::<Deploy>::from_request(request, &()).await?;
    let deployed = blocking(move || put(&room.host, &body)).await?;
    let status = if deployed.redeployed { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Answer(deployed)).into_response())
}

/// Deploys what a body holds, and notes it.
fn put(host: &PluginHost, body: &Deploy) -> Result<Deployed, ApiError> {
    if body.manifest.len() > MANIFEST_BYTES_MAX {
        return Err(ApiError::bad_request(format!("the manifest has more than {MANIFEST_BYTES_MAX} bytes")));
    }
    let wasm = BASE64.decode(&body.wasm_base64);
    let wasm = wasm.map_err(|error| ApiError::bad_request(format!("wasm_base64 is no base64: {error}")))?;
    let who = body.issued_by.word();
    let manifest = match Manifest::parse(&body.manifest) {
        Ok(manifest) => manifest,
        Err(error) => {
            let error = ApiError::from(DeployError::from(error));
            host.audit_deploy(who, &wasm, None, Err(error.code));
            return Err(error);
        }
    };
    let told = host.deploy(&wasm, manifest.clone()).map_err(ApiError::from);
    host.audit_deploy(who, &wasm, Some(&manifest), told.as_ref().map_err(|error| error.code));
    told
}

async fn remove(
    State(room): State<Room>,
    Path(name): Path<String>,
    Params(RemoveParams { issued_by }): Params<RemoveParams>,
) -> Result<StatusCode, ApiError> {
    blocking(move || {
        let kind = room.host.kind_of(&name);
        let told = room.host.remove(&name).map_err(ApiError::from);
        let outcome = told.as_ref().map_or_else(|error| error.code, |()| "done");
        room.host.audit_remove(issued_by.word(), &name, kind, outcome);
        told
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
