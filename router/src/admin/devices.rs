//! `/v1/devices`: what people set of devices, what was seen of them, and who is connected.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Deserializer, Serialize};

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody, Params};
use crate::catalog::{Change, Class, Filter, FilterError, Refusal, Value};
use crate::directory::{DeviceView, Directory, Page, RemoveError, Removed};

/// Devices that one call lists at most, and unless it says otherwise.
const LISTED_MAX: usize = 1_000;

/// Who asks for a change.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IssuedBy {
    /// A program.
    #[default]
    Api,
    /// A person at the command line.
    Cli,
}

impl IssuedBy {
    pub(super) fn word(self) -> &'static str {
        match self {
            Self::Api => "api",
            Self::Cli => "cli",
        }
    }
}

/// A device to add.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewDevice {
    /// Its name.
    pub device: String,
    /// Its tags.
    #[serde(default)]
    pub tags: BTreeSet<String>,
    /// Its attributes.
    #[serde(default)]
    pub attributes: BTreeMap<String, Value>,
    /// Whether it refuses a command whose id it has seen; null where nobody says.
    #[serde(default)]
    pub refuses_repeats: Option<bool>,
    /// Who asks for it.
    #[serde(default)]
    pub issued_by: IssuedBy,
}

/// Tags to add and to remove.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TagChange {
    /// Tags that the device shall have.
    #[serde(default)]
    pub add: BTreeSet<String>,
    /// Tags that it shall not have.
    #[serde(default)]
    pub remove: BTreeSet<String>,
    /// Who asks for it.
    #[serde(default)]
    pub issued_by: IssuedBy,
}

/// Attributes to set and to remove.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AttributeChange {
    /// What each shall say; null removes it.
    #[serde(default)]
    pub set: BTreeMap<String, Option<Value>>,
    /// Whether it refuses a command whose id it has seen; null: nobody says; left out: as it is.
    #[serde(default, deserialize_with = "present", skip_serializing_if = "Option::is_none")]
    pub refuses_repeats: Option<Option<bool>>,
    /// Who asks for it.
    #[serde(default)]
    pub issued_by: IssuedBy,
}

/// What is there is `Some`, null as well.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Option<bool>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ListParams {
    #[serde(default)]
    after: Option<String>,
    /// A filter.
    #[serde(default, rename = "where")]
    filter: String,
    /// Tags that a device must have, with commas between them.
    #[serde(default)]
    tag: String,
    #[serde(default)]
    connected: Option<bool>,
    #[serde(default)]
    max: Option<usize>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RemoveParams {
    #[serde(default)]
    issued_by: IssuedBy,
}

/// The calls about devices.
pub fn routes(directory: Arc<Directory>) -> Router {
    Router::new()
        .route("/devices", get(list).post(add))
        .route("/devices/{device}", get(show).delete(remove))
        .route("/devices/{device}/tags", post(tag))
        .route("/devices/{device}/attributes", post(set))
        .with_state(directory)
}

impl From<FilterError> for ApiError {
    fn from(error: FilterError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_filter", format!("the filter is wrong {error}"))
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        let (code, message) = (refusal.code(), refusal.to_string());
        let status = match refusal {
            Refusal::Append(error) => return error.into(),
            Refusal::Commit(error) => return error.into(),
            other => match other.class() {
                Class::Bad => StatusCode::BAD_REQUEST,
                Class::Conflict => StatusCode::CONFLICT,
                Class::Unknown => StatusCode::NOT_FOUND,
                Class::TooMuch => StatusCode::TOO_MANY_REQUESTS,
                Class::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
            },
        };
        Self::new(status, code, message)
    }
}

impl From<RemoveError> for ApiError {
    fn from(error: RemoveError) -> Self {
        match error {
            RemoveError::Refused(refusal) => refusal.into(),
            RemoveError::Connected(_) => Self::conflict(error.to_string()),
            RemoveError::Store(_) => Self::internal(error.to_string()),
        }
    }
}

async fn list(
    State(directory): State<Arc<Directory>>,
    Params(params): Params<ListParams>,
) -> Result<Answer<Page>, ApiError> {
    let mut filter = Filter::parse(&params.filter)?;
    for tag in params.tag.split(',').filter(|tag| !tag.is_empty()) {
        filter = filter.and(Filter::with_tag(tag));
    }
    if let Some(connected) = params.connected {
        filter = filter.and(Filter::connected(connected));
    }
    let max = params.max.unwrap_or(LISTED_MAX).clamp(1, LISTED_MAX);
    blocking(move || {
        let page = directory.page(&filter, params.after.as_deref(), max);
        page.map(Answer).map_err(|error| ApiError::internal(error.to_string()))
    })
    .await
}

async fn show(
    State(directory): State<Arc<Directory>>,
    Path(device): Path<String>,
) -> Result<Answer<DeviceView>, ApiError> {
    blocking(move || view(&directory, &device).map(Answer)).await
}

fn view(directory: &Directory, device: &str) -> Result<DeviceView, ApiError> {
    let found = directory.device(device).map_err(|error| ApiError::internal(error.to_string()))?;
    found.ok_or_else(|| Refusal::Unknown(device.to_owned()).into())
}

async fn add(
    State(directory): State<Arc<Directory>>,
    JsonBody(new): JsonBody<NewDevice>,
) -> Result<Response, ApiError> {
    let NewDevice { device, tags, attributes, refuses_repeats, issued_by } = new;
    let change = Change::AddDevice { device: device.clone(), tags, attributes, refuses_repeats };
    directory.propose(change, issued_by.word()).await?;
    let view = blocking(move || view(&directory, &device)).await?;
    Ok((StatusCode::CREATED, Answer(view)).into_response())
}

async fn tag(
    State(directory): State<Arc<Directory>>,
    Path(device): Path<String>,
    JsonBody(tags): JsonBody<TagChange>,
) -> Result<Answer<DeviceView>, ApiError> {
    let TagChange { add, remove, issued_by } = tags;
    let change = Change::SetTags { device: device.clone(), add, remove, seen: false };
    directory.propose(change, issued_by.word()).await?;
    blocking(move || view(&directory, &device).map(Answer)).await
}

async fn set(
    State(directory): State<Arc<Directory>>,
    Path(device): Path<String>,
    JsonBody(change): JsonBody<AttributeChange>,
) -> Result<Answer<DeviceView>, ApiError> {
    let AttributeChange { set, refuses_repeats, issued_by } = change;
    let change = Change::SetAttributes { device: device.clone(), set, refuses_repeats, seen: false };
    directory.propose(change, issued_by.word()).await?;
    blocking(move || view(&directory, &device).map(Answer)).await
}

async fn remove(
    State(directory): State<Arc<Directory>>,
    Path(device): Path<String>,
    Params(RemoveParams { issued_by }): Params<RemoveParams>,
) -> Result<Answer<Removed>, ApiError> {
    Ok(Answer(directory.remove(&device, issued_by.word()).await?))
}
