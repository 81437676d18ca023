//! `/v1/commands`: sent to devices, listed, waited for, called off, sent again.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use devices::command::{self, CommandId, Payload, Repeat};
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody, Params};
use super::devices::IssuedBy;
use crate::commands::{
    CallOffError, CancelError, CommandInfo, Commands, Filter, NewCommand, RedriveError, SubmitError,
};

/// Commands that one call lists, unless it says otherwise.
const LISTED: usize = 100;
/// Commands that one call lists at most.
const LISTED_MAX: usize = 10_000;
/// How long one call waits at most; who wants to wait longer calls again.
pub const WAIT_MS_MAX: u64 = 30_000;

/// A command to one device.
#[derive(Deserialize)]
struct NewCommandBody {
    device: String,
    #[serde(default)]
    allow_unknown: bool,
    #[serde(flatten)]
    command: CommandBody,
}

/// What is to be done, be it by one device or by many.
#[derive(Deserialize)]
pub(super) struct CommandBody {
    name: String,
    #[serde(flatten)]
    payload: Payload,
    #[serde(default)]
    deliver_within_ms: Option<u64>,
    #[serde(default)]
    execution_timeout_ms: Option<u64>,
    #[serde(default)]
    urgent: bool,
    #[serde(default)]
    supersede: Option<String>,
    #[serde(default)]
    idempotency_key: Option<String>,
    #[serde(default)]
    repeat: Repeat,
    #[serde(default)]
    deliveries_max: Option<u32>,
    #[serde(default)]
    issued_by: IssuedBy,
}

impl CommandBody {
    /// The command to a device.
    pub(super) fn to(self, device: &str) -> NewCommand {
        NewCommand {
            payload: self.payload.0,
            deliver_within_ms: self.deliver_within_ms,
            execution_timeout_ms: self.execution_timeout_ms,
            urgent: self.urgent,
            supersede: self.supersede,
            idempotency_key: self.idempotency_key,
            repeat: self.repeat,
            deliveries_max: self.deliveries_max,
            ..NewCommand::new(device, &self.name, self.issued_by.word())
        }
    }
}

/// Who calls a command off.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct CancelBody {
    issued_by: IssuedBy,
}

/// How a dead letter is sent again.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RedriveBody {
    deliver_within_ms: Option<u64>,
    force: bool,
    issued_by: IssuedBy,
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
    dead: bool,
    #[serde(default)]
    job: Option<String>,
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
struct Taken {
    id: CommandId,
    device: String,
    name: String,
    /// Not where the idempotency key was known with the same content.
    is_new: bool,
}

#[derive(Serialize)]
struct Cancelled {
    id: CommandId,
    state: command::State,
    /// Its site is asked, and has not answered yet.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    asked: bool,
}

#[derive(Serialize)]
struct Redriven {
    id: CommandId,
    redrives: CommandId,
}

/// The calls about commands.
pub fn routes(commands: Arc<Commands>) -> Router {
    Router::new()
        .route("/commands", get(list).post(submit))
        .route("/commands/{id}", get(show))
        .route("/commands/{id}/cancel", post(cancel))
        .route("/commands/{id}/redrive", post(redrive))
        .with_state(commands)
}

impl From<SubmitError> for ApiError {
    fn from(error: SubmitError) -> Self {
        let message = error.to_string();
        match error {
            SubmitError::Append(error) => error.into(),
            SubmitError::Commit(error) => error.into(),
            SubmitError::Random(_) | SubmitError::Lost => Self::internal(message),
            SubmitError::UnknownDevice(_) => Self::new(StatusCode::NOT_FOUND, "unknown_device", message)
                .hint("--unknown lets it wait for the device's first contact (allow_unknown, where there is no CLI)"),
            SubmitError::UnknownSite(_) => Self::new(StatusCode::NOT_FOUND, "unknown_site", message)
                .hint("`edgeway link list` names the sites that feed this one"),
            SubmitError::NotEnrolled(device) => {
                Self::new(StatusCode::NOT_FOUND, "not_enrolled", message).hint(format!("edgeway device add {device}"))
            }
            SubmitError::Elsewhere { .. } => Self::new(StatusCode::CONFLICT, "refused_elsewhere", message),
            SubmitError::Unanswered { .. } => Self::new(StatusCode::GATEWAY_TIMEOUT, "unanswered", message),
            SubmitError::Unknown { .. } => Self::unknown_outcome(message),
            SubmitError::Full => Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_commands", message),
            SubmitError::PayloadTooLarge { .. } => Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message),
            SubmitError::Conflict { .. } => Self::new(StatusCode::CONFLICT, "idempotency_conflict", message),
            SubmitError::Device { .. }
            | SubmitError::Name { .. }
            | SubmitError::Time { .. }
            | SubmitError::Key { .. }
            | SubmitError::UnknownThere
            | SubmitError::Deliveries => Self::bad_request(message),
        }
    }
}

impl From<CallOffError> for ApiError {
    fn from(error: CallOffError) -> Self {
        let message = error.to_string();
        match error {
            CallOffError::Command(CancelError::NoCommand) => Self::not_found(message),
            CallOffError::Command(CancelError::Refused(refusal)) => {
                let code = match refusal {
                    command::Refusal::AlreadyEnded => "already_ended",
                    _ => "already_sent",
                };
                Self::new(StatusCode::CONFLICT, code, message)
            }
            CallOffError::Command(CancelError::Asked) => Self::unavailable(message),
            CallOffError::Busy => Self::new(StatusCode::TOO_MANY_REQUESTS, "busy", message),
            CallOffError::Lost => Self::unavailable(message),
        }
    }
}

impl From<RedriveError> for ApiError {
    fn from(error: RedriveError) -> Self {
        let message = error.to_string();
        let conflict = |code| Self::new(StatusCode::CONFLICT, code, message.clone());
        match error {
            RedriveError::NoCommand(_) => Self::not_found(message),
            RedriveError::NotDead { .. } => conflict("not_dead"),
            RedriveError::Again { .. } => conflict("already_redriven"),
            RedriveError::Busy(_) => conflict("busy"),
            RedriveError::NotRepeatable(_) => conflict("not_repeatable"),
            RedriveError::Submit(error) => error.into(),
        }
    }
}

async fn submit(
    State(commands): State<Arc<Commands>>,
    JsonBody(body): JsonBody<NewCommandBody>,
) -> Result<Response, ApiError> {
    let new = NewCommand { allow_unknown: body.allow_unknown, ..body.command.to(&body.device) };
    let (device, name) = (new.device.clone(), new.name.clone());
    let submitted = commands.submit(new).await?;
    let (id, is_new) = (submitted.id, submitted.is_new);
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Answer(Taken { id, device, name, is_new })).into_response())
}

async fn cancel(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<CancelBody>,
) -> Result<Response, ApiError> {
    let id = parse_id(&id)?;
    match commands.cancel(id, body.issued_by.word()).await {
        Ok(state) => Ok(Answer(Cancelled { id, state, asked: false }).into_response()),
        Err(CallOffError::Command(CancelError::Asked)) => {
            let state = commands.get(id).map_or(command::State::Queued, |command| command.state);
            Ok((StatusCode::ACCEPTED, Answer(Cancelled { id, state, asked: true })).into_response())
        }
        Err(error @ CallOffError::Command(CancelError::Refused(_))) => {
            let state = commands.get(id).map(|command| command.at_site.map_or(command.state, |at| at.state));
            let message = state.map(not_called_off);
            let error = ApiError::from(error);
            Err(ApiError { message: message.unwrap_or(error.message), ..error })
        }
        Err(CallOffError::Command(CancelError::NoCommand)) => Err(absent(&commands, id)),
        Err(error) => Err(error.into()),
    }
}

/// Why a command in this state is not called off.
fn not_called_off(state: command::State) -> String {
    match state {
        ended if ended.is_outcome() => format!("it has ended already: {}", ended.as_str()),
        command::State::Queued => "its device has it, or may have it; it cannot be called off".to_owned(),
        command::State::Sent => "it was sent already and may have arrived; it cannot be called off".to_owned(),
        state => format!("it was sent already and is {}; it cannot be called off", state.as_str()),
    }
}

/// That there is no such command; where it is a job, that it is one.
fn absent(commands: &Commands, id: CommandId) -> ApiError {
    match commands.job(id) {
        Some(_) => ApiError::new(StatusCode::NOT_FOUND, "is_job", format!("{id} is a job, not a command"))
            .hint(format!("edgeway job show {id}")),
        None => ApiError::not_found(format!("there is no command {id}; ended commands are forgotten in time")),
    }
}

async fn redrive(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<RedriveBody>,
) -> Result<Response, ApiError> {
    let redrives = parse_id(&id)?;
    let id = commands.redrive(redrives, body.deliver_within_ms, body.force, body.issued_by.word()).await?;
    Ok((StatusCode::ACCEPTED, Answer(Redriven { id, redrives })).into_response())
}

async fn list(
    State(commands): State<Arc<Commands>>,
    Params(params): Params<ListParams>,
) -> Result<Answer<List>, ApiError> {
    let max = params.max.unwrap_or(LISTED).min(LISTED_MAX);
    let job = params.job.as_deref().map(parse_id).transpose()?;
    let filter = Filter { device: params.device, state: params.state, ended: params.ended, dead: params.dead, job };
    blocking(move || Ok(Answer(List { commands: commands.list(&filter, max) }))).await
}

fn parse_id(id: &str) -> Result<CommandId, ApiError> {
    id.parse().map_err(|_| ApiError::bad_request(format!("{id:?} is no command's id: expected a UUID")))
}

async fn show(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    Params(WaitParams { wait_ms }): Params<WaitParams>,
) -> Result<Answer<CommandInfo>, ApiError> {
    let id = parse_id(&id)?;
    let absent = || absent(&commands, id);
    let now = commands.read(id).await.ok_or_else(absent)?;
    if wait_ms == 0 || now.state.is_outcome() {
        return Ok(Answer(now));
    }
    let wait = Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
    let ended = commands.wait(id, wait).await;
    match ended {
        Some(ended) => Ok(Answer(ended)),
        None => commands.read(id).await.map(Answer).ok_or_else(absent),
    }
}
