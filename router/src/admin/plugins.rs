//! `/v1/plugins`: deployed, listed, granted more or less, removed. What runs is what the site has agreed on.

mod grants;
mod sites;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, FromRequest, Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody, Params};
use super::devices::IssuedBy;
use crate::catalog::{Catalog, Change, Member, MemberState, NewPlugin, PluginRefusal, Refusal, Write};
use crate::plugin_host::{
    DeployError, Grants, Kind, MANIFEST_BYTES_MAX, Manifest, ManifestError, PluginHost, PluginStatus, RecordV2,
    RemoveError, SettleError, WASM_BYTES_MAX, hex,
};

pub use grants::{GrantChange, GrantSet};
pub use sites::routes as routes_of_sites;

/// Bytes of a deployment's body: the component in base64, the manifest escaped, and what is around them.
const BODY_BYTES_MAX: usize = WASM_BYTES_MAX.div_ceil(3) * 4 + 2 * MANIFEST_BYTES_MAX + 1_024;

#[derive(Clone)]
struct Room {
    host: Arc<PluginHost>,
    catalog: Arc<Catalog>,
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

/// A plugin that was deployed.
#[derive(Serialize)]
struct DeployedView {
    name: String,
    /// SHA-256 of the component, in hexadecimal.
    sha256: String,
    /// Whether it took the place of an earlier version.
    redeployed: bool,
    /// How often it was deployed.
    version: u64,
    /// On how many nodes it is to run.
    nodes: usize,
}

/// What a plugin may.
#[derive(Serialize)]
struct GrantedView {
    name: String,
    /// How often it was deployed or its grants changed.
    version: u64,
    grants: Grants,
}

#[derive(Serialize)]
struct Plugins {
    plugins: Vec<PluginStatus>,
}

/// The calls about plugins.
pub fn routes(host: Arc<PluginHost>, catalog: Arc<Catalog>) -> Router {
    Router::new()
        .route("/plugins", get(list).post(deploy).layer(DefaultBodyLimit::max(BODY_BYTES_MAX)))
        .route("/plugins/{plugin}", delete(remove))
        .route("/plugins/{plugin}/grants", post(grant))
        .with_state(Room { host, catalog, place: Arc::new(Semaphore::new(1)) })
}

impl From<DeployError> for ApiError {
    fn from(error: DeployError) -> Self {
        let message = error.to_string();
        match error {
            DeployError::Commit(error) => error.into(),
            DeployError::Topic(error) => error.into(),
            DeployError::Stopping => Self::unavailable(message),
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
    let who = body.issued_by.word();
    let host = Arc::clone(&room.host);
    let new = blocking(move || check(&host, &body)).await?;
    let deployed = room.agree(new, who).await?;
    let status = if deployed.redeployed { StatusCode::OK } else { StatusCode::CREATED };
    Ok((status, Answer(deployed)).into_response())
}

/// Finds out whether what a body holds can run, and keeps the component. A refusal is noted.
fn check(host: &PluginHost, body: &Deploy) -> Result<NewPlugin, ApiError> {
    if body.manifest.len() > MANIFEST_BYTES_MAX {
        return Err(ApiError::bad_request(format!("the manifest has more than {MANIFEST_BYTES_MAX} bytes")));
    }
    let wasm = BASE64.decode(&body.wasm_base64);
    let wasm = wasm.map_err(|error| ApiError::bad_request(format!("wasm_base64 is no base64: {error}")))?;
    let refused = |error: DeployError, manifest: Option<&Manifest>| {
        let error = ApiError::from(error);
        host.audit_refused(body.issued_by.word(), &wasm, manifest, error.code);
        error
    };
    let manifest = Manifest::parse(&body.manifest).map_err(|error| refused(error.into(), None))?;
    let record = host.check(&wasm, &manifest).map_err(|error| refused(error, Some(&manifest)))?;
    Ok(NewPlugin {
        is_guard: manifest.kind == Kind::CommandGuard,
        name: manifest.name,
        manifest: record.manifest,
        sha256: record.sha256,
        bytes: wasm.len() as u64,
    })
}

impl Room {
    /// Has the site agree on a plugin that was checked. It runs here on return.
    async fn agree(&self, new: NewPlugin, who: &str) -> Result<DeployedView, ApiError> {
        let (name, sha256) = (new.name.clone(), new.sha256);
        let applied = self.catalog.propose(Change::DeployPlugin(new), who).await;
        // What may be agreed on yet is kept for that.
        let is_decided = applied.as_ref().err() != Some(&Refusal::UnknownOutcome);
        let settled = match &applied {
            Ok(_) => self.settle(&name).await,
            Err(_) => Ok(()),
        };
        if is_decided {
            let host = Arc::clone(&self.host);
            blocking(move || {
                host.release(&sha256);
                Ok(())
            })
            .await?;
        }
        let version = match applied?.writes.last() {
            Some(Write::Plugin(_, Some(agreed))) => agreed.version,
            _ => 0,
        };
        settled.map_err(|error| {
            error.hint("the site has agreed on it, but it does not run here; `edgeway plugin list` says how it is")
        })?;
        let is_active = |member: &&Member| member.state == MemberState::Active;
        let nodes = self.catalog.members().iter().filter(is_active).count().max(1);
        Ok(DeployedView { name, sha256: hex(&sha256), redeployed: version > 1, version, nodes })
    }

    /// Makes a plugin of this node what was agreed on.
    async fn settle(&self, name: &str) -> Result<(), ApiError> {
        let (host, catalog, name) = (Arc::clone(&self.host), Arc::clone(&self.catalog), name.to_owned());
        let agreed = move || {
            let agreed = || catalog.plugin(&name).map(|agreed| RecordV2::from(&*agreed));
            host.settle(&name, agreed).map(drop).map_err(|error| match error {
                SettleError::Deploy(error) => error.into(),
                SettleError::Remove(error) => error.into(),
            })
        };
        blocking(agreed).await
    }

    /// Removes a plugin that was deployed before sites agreed on plugins.
    async fn remove_here(&self, name: String, who: &'static str) -> Result<(), ApiError> {
        let host = Arc::clone(&self.host);
        blocking(move || {
            let kind = host.kind_of(&name);
            let told = host.remove(&name).map_err(ApiError::from);
            let outcome = told.as_ref().map_or_else(|error| error.code, |()| "done");
            host.audit_remove(who, &name, kind, outcome);
            told
        })
        .await
    }
}

/// Changes what a plugin may do. It goes on at its cursor with the same component: calls that are under way end under the
/// grants before, and those that follow are under the new ones.
async fn grant(
    State(room): State<Room>,
    Path(name): Path<String>,
    JsonBody(change): JsonBody<GrantChange>,
) -> Result<Answer<GrantedView>, ApiError> {
    let who = change.issued_by.word();
    let Some(agreed) = room.catalog.plugin(&name) else {
        return Err(ApiError::from(Refusal::from(PluginRefusal::Unknown(name))));
    };
    let host = Arc::clone(&room.host);
    let version = agreed.version;
    let (manifest, grants) = blocking(move || {
        let unsound = |error: ManifestError| ApiError::from(DeployError::from(error));
        // What was granted before may be refused now: this is how it is mended.
        let mut manifest = Manifest::read(&agreed.manifest).map_err(unsound)?;
        manifest.grants = grants::changed(&manifest.grants, &change);
        host.check_manifest(&manifest)?;
        let text = toml::to_string(&manifest).map_err(|error| ApiError::internal(error.to_string()))?;
        Ok((text, manifest.grants))
    })
    .await?;
    room.catalog.propose(Change::GrantPlugin { name: name.clone(), version, manifest }, who).await?;
    room.settle(&name).await.map_err(|error| {
        error.hint("the site has agreed on it, but it does not run here so; `edgeway plugin list` says how it is")
    })?;
    Ok(Answer(GrantedView { name, version: version + 1, grants }))
}

async fn remove(
    State(room): State<Room>,
    Path(name): Path<String>,
    Params(RemoveParams { issued_by }): Params<RemoveParams>,
) -> Result<StatusCode, ApiError> {
    let who = issued_by.word();
    if room.catalog.plugin(&name).is_none() && room.host.here(&name).is_some_and(|here| here.record.begun == 0) {
        room.remove_here(name, who).await?;
    } else {
        room.catalog.propose(Change::RemovePlugin { name: name.clone() }, who).await?;
        room.settle(&name).await?;
    }
    Ok(StatusCode::NO_CONTENT)
}
