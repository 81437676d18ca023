//! `/v1/jobs`: one command to many devices: started, listed, waited for, paused, resumed, cancelled.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use devices::command::{self, CommandId};
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody, Params};
use super::commands::{CommandBody, WAIT_MS_MAX};
use super::devices::IssuedBy;
use crate::commands::{AbortAbove, Commands, JobDevices, JobError, JobInfo, NewJob, RATE_DEFAULT, StartError};

/// Devices that one call lists, unless it says otherwise; the bound as well.
const LISTED: usize = 1_000;

/// Devices that are named of a job that is not started.
const FIRST_MAX: usize = 5;

/// A job to start.
#[derive(Deserialize)]
struct NewJobBody {
    /// A filter; empty: every known device.
    #[serde(rename = "where")]
    filter: String,
    #[serde(default = "rate_default")]
    rate: u32,
    #[serde(default)]
    abort_above: Option<AbortAbove>,
    /// Nothing is started: it is told which devices it would have.
    #[serde(default)]
    dry_run: bool,
    #[serde(flatten)]
    command: CommandBody,
}

fn rate_default() -> u32 {
    RATE_DEFAULT
}

/// Who asks.
#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct AskBody {
    issued_by: IssuedBy,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WaitParams {
    #[serde(default)]
    wait_ms: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DevicesParams {
    /// The place after which the page begins.
    #[serde(default)]
    after: Option<u32>,
    #[serde(default)]
    state: Option<command::State>,
    #[serde(default)]
    max: Option<usize>,
}

#[derive(Serialize)]
struct List {
    jobs: Vec<JobInfo>,
}

#[derive(Serialize)]
struct Started {
    #[serde(flatten)]
    job: JobInfo,
    /// Not where the idempotency key was known with the same content.
    is_new: bool,
}

/// Which devices a job would have.
#[derive(Serialize)]
struct Chosen {
    total: usize,
    /// The first of them.
    devices: Vec<String>,
}

/// The calls about jobs.
pub fn routes(commands: Arc<Commands>) -> Router {
    Router::new()
        .route("/jobs", get(list).post(start))
        .route("/jobs/{id}", get(show))
        .route("/jobs/{id}/devices", get(devices))
        .route("/jobs/{id}/pause", post(pause))
        .route("/jobs/{id}/resume", post(resume))
        .route("/jobs/{id}/cancel", post(cancel))
        .with_state(commands)
}

impl From<StartError> for ApiError {
    fn from(error: StartError) -> Self {
        let message = error.to_string();
        match error {
            StartError::Filter(error) => error.into(),
            StartError::Command(error) => error.into(),
            StartError::Append(error) => error.into(),
            StartError::Commit(error) => error.into(),
            StartError::Job(error) => error.into(),
            StartError::Select(_) => Self::internal(message),
            StartError::NoDevices(_) => Self::new(StatusCode::NOT_FOUND, "no_devices", message),
            StartError::TooManyDevices { .. } => Self::new(StatusCode::BAD_REQUEST, "too_many_devices", message),
            StartError::TooManyJobs { .. } | StartError::TooManyInAll => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_jobs", message)
            }
            StartError::Rate { .. } => Self::new(StatusCode::BAD_REQUEST, "bad_rate", message),
            StartError::Conflict { .. } => Self::new(StatusCode::CONFLICT, "idempotency_conflict", message),
        }
    }
}

impl From<JobError> for ApiError {
    fn from(error: JobError) -> Self {
        let status = match error {
            JobError::NoJob(_) => StatusCode::NOT_FOUND,
            JobError::Ended { .. } => StatusCode::CONFLICT,
            JobError::Busy => StatusCode::TOO_MANY_REQUESTS,
            JobError::Lost | JobError::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
        };
        Self::new(status, error.code(), error.to_string())
    }
}

async fn start(
    State(commands): State<Arc<Commands>>,
    JsonBody(body): JsonBody<NewJobBody>,
) -> Result<Response, ApiError> {
    let new =
        NewJob { filter: body.filter, command: body.command.to(""), rate: body.rate, abort_above: body.abort_above };
    if body.dry_run {
        let chosen = commands.job_would_have(new).await?;
        let total = chosen.len();
        let devices = chosen.into_iter().take(FIRST_MAX).map(|device| device.to_string()).collect();
        return Ok(Answer(Chosen { total, devices }).into_response());
    }
    let started = commands.start_job(new).await?;
    let (job, is_new) = (started.job, started.is_new);
    let status = if is_new { StatusCode::ACCEPTED } else { StatusCode::OK };
    Ok((status, Answer(Started { job, is_new })).into_response())
}

async fn list(State(commands): State<Arc<Commands>>) -> Answer<List> {
    Answer(List { jobs: commands.jobs() })
}

fn parse_id(id: &str) -> Result<CommandId, ApiError> {
    id.parse().map_err(|_| ApiError::bad_request(format!("{id:?} is no job's id: expected a UUID")))
}

async fn show(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    Params(WaitParams { wait_ms }): Params<WaitParams>,
) -> Result<Answer<JobInfo>, ApiError> {
    let id = parse_id(&id)?;
    let absent = || ApiError::from(JobError::NoJob(id));
    let now = commands.job(id).ok_or_else(absent)?;
    if wait_ms == 0 {
        return Ok(Answer(now));
    }
    let wait = Duration::from_millis(wait_ms.min(WAIT_MS_MAX));
    let ended = commands.wait_job(id, wait).await;
    ended.or_else(|| commands.job(id)).map(Answer).ok_or_else(absent)
}

async fn devices(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    Params(DevicesParams { after, state, max }): Params<DevicesParams>,
) -> Result<Answer<JobDevices>, ApiError> {
    let id = parse_id(&id)?;
    blocking(move || Ok(Answer(commands.job_devices(id, after, state, max.unwrap_or(LISTED))?))).await
}

async fn pause(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<AskBody>,
) -> Result<Answer<JobInfo>, ApiError> {
    Ok(Answer(commands.pause_job(parse_id(&id)?, body.issued_by.word()).await?))
}

async fn resume(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<AskBody>,
) -> Result<Answer<JobInfo>, ApiError> {
    Ok(Answer(commands.resume_job(parse_id(&id)?, body.issued_by.word()).await?))
}

async fn cancel(
    State(commands): State<Arc<Commands>>,
    Path(id): Path<String>,
    JsonBody(body): JsonBody<AskBody>,
) -> Result<Answer<JobInfo>, ApiError> {
    Ok(Answer(commands.cancel_job(parse_id(&id)?, body.issued_by.word()).await?))
}
