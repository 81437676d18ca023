//! `/v1/links`: links to upstream sites, and from those that feed this one.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};

use super::ApiError;
use super::blocking::blocking;
use super::body::{Answer, JsonBody};
use super::site::Pending;
use crate::links::detail::{Ask, Detail};

/// What the node does about its links when people ask for it.
pub trait LinkControl: Send + Sync {
    /// Whether a site of this name feeds this one.
    fn feeds(&self, site: &str) -> bool;

    /// What a site is to have of plugins. Reads the store: not for a task.
    fn plugins(&self, site: &str) -> Vec<PluginDownJson>;

    /// Hears from the site's other nodes what sites are to have of plugins, before that is changed here: else what was said there may count.
    fn hear_others<'a>(&'a self) -> Pending<'a, ()>;

    /// Has them hear what was changed: it is theirs as well then, as far as they answer in time.
    fn tell_others<'a>(&'a self) -> Pending<'a, ()>;

    /// How each link is. Reads the store: not for a task.
    fn views(&self) -> Vec<LinkJson>;

    /// Makes a token with which a site may feed this one.
    fn invite<'a>(&'a self, site: &'a str) -> Pending<'a, InviteJson>;

    /// Accepts an invitation; what this site is called upstream.
    fn accept<'a>(&'a self, token: &'a str, name: &'a str) -> Pending<'a, String>;

    /// Pauses a link, or lets it go on.
    ///
    /// # Errors
    /// When there is none of that name here, or it cannot be noted.
    fn pause(&self, name: &str, paused: bool) -> Result<(), ApiError>;

    /// Asks a site that feeds this one for a range of a topic.
    fn detail<'a>(&'a self, site: &'a str, ask: Ask) -> Pending<'a, Detail>;

    /// Removes a link; one that feeds this site may not come back by its certificate.
    fn remove<'a>(&'a self, name: &'a str) -> Pending<'a, ()>;
}

/// The links.
pub type Links = Arc<dyn LinkControl>;

/// A link.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LinkJson {
    /// What it is called here.
    pub name: String,
    /// `up`: this node feeds another site; `down`: another site feeds this one.
    pub direction: String,
    /// `connecting`, `connected`, `cut`, `refused`, `paused`, `revoked`, `broken` (it does not start), `not-accepted` (the configuration alone names it).
    pub state: String,
    /// Why it is not connected.
    pub reason: String,
    /// The other side's address.
    pub address: String,
    /// By what the last connection went, `quic` or `tcp`; empty where there was none since the start.
    #[serde(default)]
    pub transport: String,
    /// Until when the edge's certificate is good, seconds since 1970; none: for ever, or no edge was heard since the start.
    #[serde(default)]
    pub certificate_until_s: Option<u64>,
    /// When the other side was heard last, Unix milliseconds.
    pub last_contact_ms: Option<i64>,
    /// Events that are not upstream yet.
    pub lag_events: u64,
    /// Their bytes as they are stored, about.
    pub lag_bytes: u64,
    /// Age of the oldest of them, milliseconds.
    pub lag_ms: u64,
    /// Events stored upstream, since the start.
    pub events: u64,
    /// Bytes of batches stored upstream, since the start.
    pub bytes: u64,
    /// Events that came again and were here already, since the start. Upstream alone.
    #[serde(default)]
    pub again_events: u64,
    /// Bytes of batches that are kept of what it brought. Upstream alone.
    #[serde(default)]
    pub kept_bytes: u64,
    /// How many it may keep (`[site] link_bytes_max`); none: no bound, or this is the edge.
    #[serde(default)]
    pub kept_bytes_max: Option<u64>,
    /// Bytes of batches that went as they were more than the link's share of the disk, since the start. Upstream alone.
    #[serde(default)]
    pub shed_bytes: u64,
    /// Events a second that are stored upstream, of the last ten seconds. At the edge alone, as all up to `traffic`.
    pub events_per_s: f64,
    /// Bytes of their batches a second.
    pub bytes_per_s: f64,
    /// Bytes a second of the frames that bring them.
    pub sent_bytes_per_s: f64,
    /// Seconds until nothing waits at that rate; `None` where nothing moves.
    pub drain_s: Option<f64>,
    /// How many times smaller the frames are than the events in them, since the start; 0 where nothing went.
    pub ratio: f64,
    /// By priority, the most urgent first.
    pub classes: Vec<ClassJson>,
    /// The connection; `None` while there is none.
    pub traffic: Option<TrafficJson>,
    /// Connections, since the start.
    pub connections: u64,
    /// What is not taken.
    pub refusals: Vec<String>,
    /// What may come down, as the edge lists it: `commands`, `urgent`. Empty upstream until the edge has said so.
    #[serde(default)]
    pub down: Vec<String>,
    /// The topics that come down: at the edge all together, upstream of each gateway.
    #[serde(default)]
    pub topics: Vec<TopicsDownJson>,
    /// The plugins that come down.
    #[serde(default)]
    pub plugins: Vec<PluginDownJson>,
    /// What has come of plugins, since the start.
    #[serde(default)]
    pub plugin_answers: PluginAnswersJson,
    /// Events that never came, the newest news first.
    pub gaps: Vec<GapJson>,
    /// Events that come behind what is newer of their partitions, each range, 1,000 at most.
    #[serde(default)]
    pub later: Vec<LaterJson>,
    /// How many these are in all ranges.
    #[serde(default)]
    pub later_events: u64,
    /// Topics that stay, and go as what plugins make of them. At the edge alone.
    #[serde(default)]
    pub summaries: Vec<SummaryJson>,
}

/// A plugin that goes down a link.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginDownJson {
    /// Its name.
    pub name: String,
    /// SHA-256 of its component, in hexadecimal; empty where it is to be removed.
    pub sha256: String,
    /// `waits`: no gateway has said for good what came of it; `done`; `refused`, by one of them at least.
    #[serde(default)]
    pub state: String,
    /// The same in words: upstream what each gateway says, at the edge the version.
    pub said: Vec<String>,
}

/// What has come of the plugins of a link, since the start: at the edge what it has answered, upstream what it has heard.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct PluginAnswersJson {
    /// That one is deployed.
    pub deployed: u64,
    /// That one is removed.
    pub removed: u64,
    /// That one is not wanted there.
    pub refused: u64,
    /// That it cannot be done now, and is tried again.
    pub later: u64,
    /// Bytes of components that went over.
    pub bytes: u64,
}

/// Topics that come down.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicsDownJson {
    /// Upstream: the gateway to which they go.
    pub gateway: String,
    /// `connecting`, `connected`, `cut`, `refused`.
    pub state: String,
    /// Why nothing comes, where there is a reason.
    pub reason: String,
    /// What upstream allows.
    pub allowed: Vec<String>,
    /// Events stored at the edge, since the start.
    pub events: u64,
    /// Bytes of their batches.
    #[serde(default)]
    pub bytes: u64,
    /// Events that are not at the edge yet.
    pub lag_events: u64,
    /// Their bytes as they are stored, about.
    pub lag_bytes: u64,
    /// Age of the oldest of them, milliseconds.
    pub lag_ms: u64,
    /// The topics.
    pub topics: Vec<TopicDownJson>,
    /// What is not taken, since the start.
    pub refusals: Vec<String>,
}

/// A topic that comes down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TopicDownJson {
    /// Its name here.
    pub name: String,
    /// Events of it that are at the edge, those that are not kept any more included.
    pub events: u64,
    /// Events that are not; upstream alone knows.
    pub waiting_events: Option<u64>,
}

/// A topic that stays, and goes as what a plugin makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SummaryJson {
    /// The topic that stays.
    pub topic: String,
    /// The plugin that reads it.
    pub plugin: String,
    /// The topic that goes in its place, as it is called here.
    #[serde(rename = "as")]
    pub made: String,
    /// And upstream, behind the site's name.
    pub upstream: String,
    /// Why nothing new goes of it, and what to do; null where all is well.
    pub problem: Option<String>,
}

/// What goes of one priority.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClassJson {
    /// `high`, `normal`, `low`.
    pub priority: String,
    /// Events stored upstream, since the start.
    pub events: u64,
    /// Bytes of their batches as they are stored.
    pub bytes: u64,
    /// Bytes of their keys, values and headers.
    pub record_bytes: u64,
    /// Bytes of the frames that brought them.
    pub sent_bytes: u64,
    /// Events that were not sent, as they were older than their class's deadline, since the start; upstream has a gap in their place.
    #[serde(default)]
    pub dropped_events: u64,
    /// Bytes of their batches as they are stored, about.
    #[serde(default)]
    pub dropped_bytes: u64,
    /// Events that are not upstream yet.
    pub lag_events: u64,
    /// Their bytes as they are stored, about.
    pub lag_bytes: u64,
    /// Age of the oldest of them, milliseconds.
    pub lag_ms: u64,
}

/// What the connection of a link has carried, all that QUIC adds counted, without the headers of IP and UDP.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrafficJson {
    /// The time there and back, milliseconds.
    pub rtt_ms: f64,
    /// Packets sent, and those of them that were lost.
    pub sent: u64,
    /// See above.
    pub lost: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Bytes received.
    pub received_bytes: u64,
}

/// Events that never came.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GapJson {
    /// The topic's name here.
    pub topic: String,
    /// The origin.
    pub origin: String,
    /// The partition's number.
    pub partition: u32,
    /// The first of them.
    pub from: u64,
    /// The first one after them.
    pub to: u64,
    /// `retention`, `damage`, `deadline`, `link-removed`.
    pub why: String,
    /// When that was heard, Unix milliseconds.
    pub at_ms: i64,
}

/// Events that come behind what is newer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaterJson {
    /// The topic's name here.
    pub topic: String,
    /// The origin.
    pub origin: String,
    /// The partition's number.
    pub partition: u32,
    /// The first of them.
    pub from: u64,
    /// The first one after them.
    pub to: u64,
}

/// An invitation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InviteJson {
    /// What the site will be called here.
    pub site: String,
    /// The token, which serves once.
    pub token: String,
    /// Until when.
    pub expires_at_ms: i64,
}

/// What `accept` answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AcceptedJson {
    /// What the link is called here.
    pub name: String,
    /// What this site is called upstream.
    pub site: String,
}

#[derive(Serialize)]
struct All {
    links: Vec<LinkJson>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Invite {
    site: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Accept {
    token: String,
    name: String,
}

#[derive(Serialize)]
struct Done {
    done: bool,
}

/// The calls.
pub fn routes(links: Links) -> Router {
    Router::new()
        .route("/links", get(list))
        .route("/links/invite", post(invite))
        .route("/links/accept", post(accept))
        .route("/links/{link}", get(show).delete(remove))
        .route("/links/{link}/pause", post(pause))
        .route("/links/{link}/resume", post(resume))
        .with_state(links)
}

async fn list(State(links): State<Links>) -> Result<Answer<All>, ApiError> {
    blocking(move || Ok(Answer(All { links: links.views() }))).await
}

async fn show(State(links): State<Links>, Path(name): Path<String>) -> Result<Answer<LinkJson>, ApiError> {
    let unknown = format!("there is no link {name}");
    let found = blocking(move || Ok(links.views().into_iter().find(|link| link.name == name))).await?;
    found.map(Answer).ok_or_else(|| ApiError::not_found(unknown).hint("`edgeway link list` names them"))
}

async fn invite(State(links): State<Links>, JsonBody(asked): JsonBody<Invite>) -> Result<Response, ApiError> {
    Ok((StatusCode::CREATED, Answer(links.invite(&asked.site).await?)).into_response())
}

async fn accept(State(links): State<Links>, JsonBody(asked): JsonBody<Accept>) -> Result<Response, ApiError> {
    let Accept { token, name } = asked;
    let site = links.accept(&token, &name).await?;
    Ok((StatusCode::CREATED, Answer(AcceptedJson { name, site })).into_response())
}

async fn pause(State(links): State<Links>, Path(name): Path<String>) -> Result<Answer<Done>, ApiError> {
    blocking(move || links.pause(&name, true).map(|()| Answer(Done { done: true }))).await
}

async fn resume(State(links): State<Links>, Path(name): Path<String>) -> Result<Answer<Done>, ApiError> {
    blocking(move || links.pause(&name, false).map(|()| Answer(Done { done: true }))).await
}

async fn remove(State(links): State<Links>, Path(name): Path<String>) -> Result<Answer<Done>, ApiError> {
    links.remove(&name).await?;
    Ok(Answer(Done { done: true }))
}
