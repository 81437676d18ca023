//! `/v1/commands`: sent to devices, listed, waited for.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use devices::command::{self, CommandId, Payload};
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody, Params};
use crate::commands::{CommandInfo, Commands, Filter, NewCommand, SubmitError};

/// Commands that one call lists, unless it says otherwise.
const LISTED: usize = 100;
/// Commands that one call lists at most.
const LISTED_MAX: usize = 10_000;
/// How long one call waits at most; who wants to wait longer calls again.
pub const WAIT_MS_MAX: u64 = 30_000;

/// A command to send.
#[derive(Deserialize)]
struct NewCommandBody {
    device: String,
    name: String,
    #[serde(flatten)]
    payload: Payload,
    #[serde(default)]
    deliver_within_ms: Option<u64>,
    #[serde(default)]
    answer_within_ms: Option<u64>,
    #[serde(default)]
    issued_by: IssuedBy,
}

/// Who sends it.
#[derive(Default, Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum IssuedBy {
    #[default]
    Api,
    Cli,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    #[serde(default)]
    device: Option<String>,
    #[serde(default)]
    state: Option<command::State>,
    #[serde(default)]
    ended: Option<bool>,
    #[serde(default)]
    max: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitParams {
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Serialize)]
struct List {
    commands: Vec<CommandInfo>,
}

#[derive(Serialize)]
struct Submitted {
    id: CommandId,
    device: String,
    name: String,
}

/// The calls about commands.
pub fn routes(commands: Arc<Commands>) -> Router {
    Router::new().route("/commands", get(list).post(submit)).route("/commands/{id}", get(show)).with_state(commands)
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Append(error) => error.into(),
            SubmitError::Commit(error) => error.into(),
            SubmitError::Random(_) => Self::internal(message),
            SubmitError::Full => Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_commands", message),
            SubmitError::PayloadTooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message),
            SubmitError::Device { .. } | SubmitError::Name { .. } | SubmitError::Time { .. } => {
                Self::bad_request(message)
            }
        }
    }
}

async fn submit(
    State(commands): State<Arc<Commands>>,
    JsonBody(body): JsonBody<NewCommandBody>,
) -> Result<Response, ApiError> {
    let issued_by = match body.issued_by {
        IssuedBy::Api => "api",
        IssuedBy::Cli => "cli",
    };
    let (device, name) = (body.device.clone(), body.name.clone());
    let new = NewCommand {
        device: body.device,
        name: body.name,
        payload: body.payload.0,
        deliver_within_ms: body.deliver_within_ms,
        answer_within_ms: body.answer_within_ms,
        issued_by: issued_by.to_owned(),
    };
    let id = commands.submit(new).await?;
    Ok((StatusCode::ACCEPTED, Answer(Submitted { id, device, name })).into_response())
}

async fn list(
    State(commands): State<Arc<Commands>>,
    Params(params): Params<ListParams>,
) -> Result<Answer<List>, ApiError> {
    let max = params.max.unwrap_or(LISTED).min(LISTED_MAX);
    let filter = Filter { device: params.device, state: params.state, ended: params.ended };
    blocking(move || Ok(Answer(List { commands: commands.list(&filter, max) }))).await
}

async fn show(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    Params(WaitParams { wait_ms }): Params<WaitParams>,
) -> Result<Answer<CommandInfo>, ApiError> {
    let id: CommandId =
        id.parse().map_err(|_| ApiError::bad_request(format!("{id:?} is no command's id: expected a UUID")))?;
    let absent = || ApiError::not_found(format!("there is no command {id}; ended commands are forgotten in time"));
    let now = commands.get(id).ok_or_else(absent)?;
    if wait_ms == 0 || now.state.is_outcome() {
        return Ok(Answer(now));
    }
    let wait = Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
    let ended = commands.wait(id, wait).await;
    ended.or_else(|| commands.get(id)).map(Answer).ok_or_else(absent)
}
