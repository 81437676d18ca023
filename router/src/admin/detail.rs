//! `/v1/links/{link}/topics/{topic}/events`: a range of a topic, asked of the site that feeds this one by that link, as JSON lines.
//!
//! Nothing is kept here. A caller that reads slowly slows its own request, back to the site.

mod lines;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use serde_json::json;
use sled_data::LinkedPart;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::blocking::blocking;
use super::body::Params;
use super::links::Links;
use super::tail::{From, parse_ms, place, until_stopping};
use super::{ApiError, Readiness, ndjson};
use crate::event_log::SITE_SEPARATOR;
use crate::links::detail::{Ask, AskError, Detail, End, From as Begin, Position};

use lines::{Lines, missing_lines};

/// How often an empty line is sent while nothing comes, so that a dead caller is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// How long the caller may take to take a piece: then its place is for others.
const TAKE_WAIT: Duration = Duration::from_secs(300);
/// Bytes of lines that are handed on at once.
const PIECE_BYTES_MAX: usize = 256 << 10;

#[derive(Clone)]
struct Details {
    links: Links,
    readiness: Arc<Readiness>,
    places: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct DetailParams {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    to: Option<String>,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    max: Option<u64>,
    #[serde(default)]
    after: Option<String>,
}

impl DetailParams {
    fn ask(self, topic: String) -> Result<Ask, ApiError> {
        let Self { from, to, partition, max, after } = self;
        let from = match From::parse(from.as_deref().unwrap_or("start")).map_err(ApiError::bad_request)? {
            From::Start => Begin::Start,
            From::Offset(offset) => Begin::Offset(offset),
            From::TimeMs(ms) => Begin::TimeMs(ms),
            From::Newest(_) => {
                return Err(ApiError::bad_request(
                    "from=newest: a range that is asked for begins at a time or an offset",
                ));
            }
            From::End => {
                let error = ApiError::bad_request("from=end: what is still to come is no range that can be asked for");
                return Err(error.hint("follow the topic as the link carries it"));
            }
        };
        let to_ms = to.as_deref().map(parse_ms).transpose().map_err(ApiError::bad_request)?;
        if let (Begin::TimeMs(from), Some(to)) = (from, to_ms)
            && to <= from
        {
            return Err(ApiError::bad_request("the range ends before it begins"));
        }
        let after: Result<Position, _> = after.as_deref().unwrap_or_default().parse();
        let after = after.map_err(|error| ApiError::bad_request(error.to_string()))?;
        Ok(Ask { topic, from, to_ms, partition, events_max: max.unwrap_or(u64::MAX), after, dictionary: 0 })
    }
}

/// The call. It takes the place of a tail.
pub fn routes(links: Links, readiness: Arc<Readiness>, places: Arc<Semaphore>) -> Router {
    let details = Details { links, readiness, places };
    Router::new().route("/links/{link}/topics/{topic}/events", get(detail)).with_state(details)
}

async fn detail(
    State(details): State<Details>,
    Path((link, topic)): Path<(String, String)>,
    Params(params): Params<DetailParams>,
) -> Result<Response, ApiError> {
    let name = format!("{link}{SITE_SEPARATOR}{topic}");
    let ask = params.ask(topic)?;
    let left = ask.events_max;
    let place = place(&details.places)?;
    let detail = details.links.detail(&link, ask).await?;
    let (pieces, response) = ndjson::stream();
    let lines = Lines::new(name.clone(), detail.spans(), left);
    let gone = [lines.gone(), missing_lines(&name, detail.missing())].concat();
    let stopping = details.readiness.watch();
    tokio::spawn(Job { detail, lines, pieces, stopping, _place: place }.run(gone));
    Ok(response)
}

/// One request under way.
struct Job {
    detail: Detail,
    lines: Lines,
    pieces: mpsc::Sender<Bytes>,
    stopping: watch::Receiver<super::State>,
    _place: OwnedSemaphorePermit,
}

impl Job {
    async fn run(mut self, gone: Vec<u8>) {
        if !hand_on(&self.pieces, gone).await {
            return;
        }
        while self.lines.want_more() {
            let parts = match self.next().await {
                Next::Parts(parts) => parts,
                Next::Cut(why) => {
                    // The caller may be gone as well.
                    hand_on(&self.pieces, self.cut_line(&why)).await;
                    return;
                }
                Next::End => return,
            };
            let mut rest = parts;
            while !rest.is_empty() {
                let mut lines = self.lines;
                let read = blocking(move || {
                    let few = lines::first_few(&rest);
                    let read = lines.read(&rest[..few]);
                    rest.drain(..few);
                    Ok((lines, rest, read))
                });
                let Ok((lines, left, read)) = read.await else { return };
                (self.lines, rest) = (lines, left);
                match read {
                    Ok(bytes) => {
                        if !hand_on(&self.pieces, bytes).await {
                            return;
                        }
                    }
                    Err(why) => {
                        hand_on(&self.pieces, self.cut_line(&why)).await;
                        return;
                    }
                }
            }
            self.detail.taken().await;
        }
    }

    /// What comes next; ends too where the caller is gone or the node stops.
    async fn next(&mut self) -> Next {
        let mut coming = std::pin::pin!(self.detail.next());
        loop {
            tokio::select! {
                next = &mut coming => return match next {
                    Ok(Some(parts)) => Next::Parts(parts),
                    Ok(None) => Next::End,
                    Err(why) => Next::Cut(why.to_string()),
                },
                () = self.pieces.closed() => return Next::End,
                () = until_stopping(&mut self.stopping) => return Next::Cut("this node is stopping".to_owned()),
                () = tokio::time::sleep(SIGN_OF_LIFE) => {
                    if self.pieces.send(Bytes::from_static(b"\n")).await.is_err() {
                        return Next::End;
                    }
                }
            }
        }
    }

    /// The last line where not all came: why, and from where on the rest can be asked for.
    fn cut_line(&self, why: &str) -> Vec<u8> {
        let position = self.detail.position().to_string();
        format!("{}\n", json!({"cut": {"reason": why, "after": position}})).into_bytes()
    }
}

/// Hands lines on, in pieces; false where the caller is gone or takes nothing.
async fn hand_on(pieces: &mpsc::Sender<Bytes>, lines: Vec<u8>) -> bool {
    let mut lines = Bytes::from(lines);
    while !lines.is_empty() {
        let piece = lines.split_to(lines.len().min(PIECE_BYTES_MAX));
        if !matches!(tokio::time::timeout(TAKE_WAIT, pieces.send(piece)).await, Ok(Ok(()))) {
            return false;
        }
    }
    true
}

enum Next {
    Parts(Vec<LinkedPart>),
    End,
    Cut(String),
}

impl std::convert::From<AskError> for ApiError {
    fn from(error: AskError) -> Self {
        let text = error.to_string();
        match error {
            AskError::Unknown(_) => Self::not_found(text).hint("`edgeway link list` names those that do"),
            AskError::Cut(_) => Self::unavailable(text).coded("site_cut").hint(
                "`edgeway link show` tells since when; a gateway is connected to one node of this site: is it another one?",
            ),
            AskError::Busy => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "too_many_ranges", text).hint("try again when one has ended")
            }
            AskError::Silent(_) => Self::unavailable(text).coded("site_silent").hint("try again in a moment"),
            AskError::Site { end, .. } => match end {
                End::NotGiven => Self::new(StatusCode::FORBIDDEN, "not_given", text)
                    .hint("it is allowed there, in the configuration of the link: detail = [\"TOPIC\"]"),
                End::NoTopic => Self::not_found(text).hint("a site's topics are named there: `edgeway topic list`"),
                End::Wrong => Self::bad_request(text),
                End::Done | End::Slow | End::Failed => Self::unavailable(text).coded("site_failed"),
            },
        }
    }
}
