//! `/v1/twins`: what devices shall be and say they are; set, replaced, deleted, waited for.
//!
//! A PATCH's or PUT's body is the document itself: a merge patch of what is desired, or all of it.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::get;
use devices::twin::{Document, Refusal};
use serde::{Deserialize, Serialize};

use super::blocking::blocking;
use super::body::{Answer, Params, RawBody};
use super::{ApiError, WAIT_MS_MAX};
use crate::twins::{Set, TwinError, TwinRow, TwinView, Twins};

/// Twins that one call lists, unless it says otherwise.
const LISTED: usize = 1_000;
/// Twins that one call lists at most.
const LISTED_MAX: usize = 10_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    #[serde(default)]
    after: Option<String>,
    #[serde(default)]
    max: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitParams {
    /// How long to wait for another version than `after_version`.
    #[serde(default)]
    wait_ms: u64,
    /// The version that the caller knows; 0: none.
    #[serde(default)]
    after_version: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SetParams {
    /// The desired version that the change is meant for.
    #[serde(default)]
    if_version: Option<u64>,
    /// Who makes it.
    #[serde(default)]
    by: By,
}

/// Who makes a change.
#[derive(Default, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum By {
    #[default]
    Api,
    Cli,
}

impl By {
    fn name(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Cli => "cli",
        }
    }
}

/// Twins in the order of their devices' names.
#[derive(Debug, Serialize, Deserialize)]
pub struct List {
    /// The twins.
    pub twins: Vec<TwinRow>,
    /// After which device the next call goes on, where there are more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// The calls about twins.
pub fn routes(twins: Arc<Twins>) -> Router {
    let one = get(show).patch(patch).put(replace).delete(delete);
    Router::new().route("/twins", get(list)).route("/twins/{device}", one).with_state(twins)
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::Version { .. } => StatusCode::CONFLICT,
            Refusal::NoRoom => StatusCode::TOO_MANY_REQUESTS,
            Refusal::NoTwin => StatusCode::NOT_FOUND,
            Refusal::Document(devices::twin::DocumentError::TooLarge { .. }) => StatusCode::PAYLOAD_TOO_LARGE,
            Refusal::Document(_) | Refusal::Number(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, refusal.code(), refusal.to_string())
    }
}

impl From<TwinError> for ApiError {
    fn from(error: TwinError) -> Self {
        let message = error.to_string();
        match error {
            TwinError::Refused(refusal) => refusal.into(),
            TwinError::Append(error) => error.into(),
            TwinError::Commit(error) => error.into(),
            TwinError::Device { .. } => Self::bad_request(message),
            TwinError::Store(_) => Self::internal(message),
            TwinError::Unsettled => Self::unavailable(message),
        }
    }
}

fn no_twin(device: &str) -> ApiError {
    let error = ApiError::new(StatusCode::NOT_FOUND, "no_twin", format!("device {device:?} has no twin"));
    error.hint("it gets one when somebody sets what is desired of it, or when it reports")
}

async fn list(
    State(twins): State<Arc<Twins>>,
    Params(ListParams { after, max }): Params<ListParams>,
) -> Result<Answer<List>, ApiError> {
    let max = max.unwrap_or(LISTED).clamp(1, LISTED_MAX);
    blocking(move || {
        let twins = twins.list(after.as_deref(), max);
        let next = twins.last().filter(|_| twins.len() == max).map(|last| last.device.clone());
        Ok(Answer(List { twins, next }))
    })
    .await
}

async fn show(
    State(twins): State<Arc<Twins>>,
    Path(device): Path<String>,
    Params(WaitParams { wait_ms, after_version }): Params<WaitParams>,
) -> Result<Answer<TwinView>, ApiError> {
    let twin = match wait_ms {
        0 => twins.read(&device).await,
        ms => twins.wait(&device, after_version, Duration::from_millis(ms.min(WAIT_MS_MAX))).await,
    };
    twin.map(Answer).ok_or_else(|| no_twin(&device))
}

async fn patch(
    State(twins): State<Arc<Twins>>,
    Path(device): Path<String>,
    Params(params): Params<SetParams>,
    RawBody(body): RawBody,
) -> Result<Answer<TwinView>, ApiError> {
    set(&twins, &device, &params, &body, false).await
}

async fn replace(
    State(twins): State<Arc<Twins>>,
    Path(device): Path<String>,
    Params(params): Params<SetParams>,
    RawBody(body): RawBody,
) -> Result<Answer<TwinView>, ApiError> {
    set(&twins, &device, &params, &body, true).await
}

async fn set(
    twins: &Twins,
    device: &str,
    params: &SetParams,
    body: &[u8],
    replace: bool,
) -> Result<Answer<TwinView>, ApiError> {
    let document = Document::parse(body).map_err(Refusal::from)?;
    let set = Set { document, replace, if_version: params.if_version };
    twins.set_desired(device, set, params.by.name()).await?;
    twins.get(device).map(Answer).ok_or_else(|| no_twin(device))
}

async fn delete(
    State(twins): State<Arc<Twins>>,
    Path(device): Path<String>,
    Params(params): Params<SetParams>,
) -> Result<StatusCode, ApiError> {
    match twins.delete(&device, params.if_version, params.by.name()).await {
        Ok(()) => Ok(StatusCode::NO_CONTENT),
        Err(TwinError::Refused(Refusal::NoTwin)) => Err(no_twin(&device)),
        Err(error) => Err(error.into()),
    }
}
