//! `/v1/topics/{topic}/events` (GET): a topic's events as JSON lines, once or followed.
//!
//! `round` reads and orders (no sockets); here is the stream. What it buffers is bounded: a round's
//! bytes, and the pieces of `ndjson`. A caller that reads slowly slows this tail and nobody else.

mod round;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::get;
use serde::Deserialize;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};

use super::blocking::blocking;
use super::body::Params;
use super::topics::find;
use super::{ApiError, Readiness, ndjson};
use crate::event_log::EventLog;

use round::Reading;

pub(super) use round::{From, parse_ms};

/// How often a followed topic without events sends an empty line, so that a dead caller is noticed.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What the calls need.
#[derive(Clone)]
struct Tails {
    log: Arc<EventLog>,
    readiness: Arc<Readiness>,
    places: Arc<Semaphore>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TailParams {
    #[serde(default)]
    from: Option<String>,
    #[serde(default)]
    follow: bool,
    #[serde(default)]
    partition: Option<u32>,
    #[serde(default)]
    max: Option<u64>,
    /// Where it ends: `@` and milliseconds since 1970.
    #[serde(default)]
    to: Option<String>,
}

/// The tail of a topic, while there is a place for one more.
pub fn routes(log: Arc<EventLog>, readiness: Arc<Readiness>, places: Arc<Semaphore>) -> Router {
    let tails = Tails { log, readiness, places };
    Router::new().route("/topics/{topic}/events", get(tail)).with_state(tails)
}

async fn tail(
    State(tails): State<Tails>,
    Path(name): Path<String>,
    Params(params): Params<TailParams>,
) -> Result<Response, ApiError> {
    let topic = find(&tails.log, &name)?;
    let from = From::parse(params.from.as_deref().unwrap_or("start")).map_err(ApiError::bad_request)?;
    let to_ms = params.to.as_deref().map(parse_ms).transpose().map_err(ApiError::bad_request)?;
    if to_ms.is_some() && params.follow {
        return Err(ApiError::bad_request("follow goes on without an end: leave out `to`"));
    }
    if let Some(index) = params.partition.filter(|index| *index >= topic.partitions()) {
        let partitions = topic.partitions();
        return Err(ApiError::not_found(format!(
            "topic {name} has {partitions} partitions, there is no number {index}"
        )));
    }
    let place = place(&tails.places)?;
    let visible = tails.log.watch();
    let log = Arc::clone(&tails.log);
    let begin = move || Reading::begin(log, topic, from, params.partition, params.follow)?.until(to_ms);
    let reading = blocking(begin).await?;
    let (pieces, response) = ndjson::stream();
    let job = Job {
        reading,
        left: params.max.unwrap_or(u64::MAX),
        pieces,
        visible,
        stopping: tails.readiness.watch(),
        _place: place,
    };
    tokio::spawn(job.run(params.follow));
    Ok(response)
}

/// One more tail's place.
///
/// # Errors
/// When as many run as may.
pub(super) fn place(places: &Arc<Semaphore>) -> Result<OwnedSemaphorePermit, ApiError> {
    Arc::clone(places).try_acquire_owned().map_err(|_| {
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_tails", "as many tails run as may");
        error.hint("end one, or raise [http] tails_max")
    })
}

/// One tail under way.
struct Job {
    reading: Reading,
    left: u64,
    pieces: mpsc::Sender<Bytes>,
    visible: watch::Receiver<u64>,
    stopping: watch::Receiver<super::State>,
    _place: OwnedSemaphorePermit,
}

impl Job {
    async fn run(mut self, follow: bool) {
        loop {
            // Before the read: what becomes visible during it wakes the wait after it.
            self.visible.mark_unchanged();
            let (mut reading, left) = (self.reading, self.left);
            let read = blocking(move || {
                let round = reading.round(left);
                Ok((reading, round))
            });
            let Ok((reading, round)) = read.await else { return };
            self.reading = reading;
            self.left -= round.events.min(self.left);
            let idle = round.bytes.is_empty();
            if !idle && self.pieces.send(round.bytes.into()).await.is_err() {
                return;
            }
            if self.left == 0 || round.ended || *self.stopping.borrow() == super::State::Stopping {
                return;
            }
            if idle && !(follow && self.wait().await) {
                return;
            }
        }
    }

    /// Waits for something new; `false` when the caller is gone or the node stops.
    async fn wait(&mut self) -> bool {
        loop {
            tokio::select! {
                changed = self.visible.changed() => return changed.is_ok(),
                () = self.pieces.closed() => return false,
                () = until_stopping(&mut self.stopping) => return false,
                () = tokio::time::sleep(SIGN_OF_LIFE) => {
                    if self.pieces.send(Bytes::from_static(b"\n")).await.is_err() {
                        return false;
                    }
                }
            }
        }
    }
}

/// Returns when the node stops.
pub(super) async fn until_stopping(state: &mut watch::Receiver<super::State>) {
    // An error means that the node is gone, which is a stop too.
    let _ = state.wait_for(|state| *state == super::State::Stopping).await;
}

#[cfg(test)]
mod tests;
