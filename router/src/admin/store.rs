//! `/v1/store/verify`: reads the whole store and names what is damaged, as JSON lines.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use axum::routing::post;
use serde::{Deserialize, Serialize};
use sled_data::{Store, VerifyReport};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::{ApiError, ndjson};
use crate::event_log::EventLog;

/// How often progress is told.
const PROGRESS_EVERY: Duration = Duration::from_millis(200);

#[derive(Clone)]
struct Room {
    log: Arc<EventLog>,
    /// One verification at a time.
    place: Arc<Semaphore>,
}

/// One line of a verification.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum VerifyLine {
    /// How far it is.
    Progress {
        /// Stored bytes read.
        bytes: u64,
        /// Stored bytes there were when it began.
        bytes_total: u64,
    },
    /// How it ended.
    Report(Report),
    /// Why it broke off.
    Error {
        /// What happened.
        message: String,
    },
}

/// What a verification found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Whether nothing is damaged.
    pub clean: bool,
    /// Partitions read.
    pub partitions: u64,
    /// Sound batches.
    pub batches: u64,
    /// Events in them.
    pub events: u64,
    /// Stored bytes read.
    pub bytes: u64,
    /// Damaged ranges.
    pub damaged: Vec<DamagedRange>,
    /// Damaged ranges beyond those listed.
    pub damaged_unlisted: u64,
    /// Damaged values that are no events.
    pub meta_damaged: Vec<String>,
    /// Events that links told of and that never came, by the reason: `retention`, `damage`, `deadline`. They are not damaged.
    #[serde(default)]
    pub never_came: BTreeMap<String, u64>,
}

/// Damaged events: offsets `from` up to before `to`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DamagedRange {
    /// The topic's name, where it is known.
    pub topic: Option<String>,
    /// The partition's origin, in hexadecimal.
    pub origin: String,
    /// The partition's number.
    pub partition: u32,
    /// First damaged offset.
    pub from: u64,
    /// First offset after them.
    pub to: u64,
    /// What is wrong.
    pub reason: String,
}

impl From<VerifyReport> for Report {
    fn from(report: VerifyReport) -> Self {
        let clean = report.is_clean();
        let damaged = report.damaged.into_iter().map(|damage| DamagedRange {
            topic: damage.topic,
            origin: damage.partition.origin.to_string(),
            partition: damage.partition.index,
            from: damage.from,
            to: damage.to,
            reason: damage.reason,
        });
        Self {
            clean,
            partitions: report.partitions,
            batches: report.batches,
            events: report.events,
            bytes: report.bytes,
            damaged: damaged.collect(),
            damaged_unlisted: report.damaged_unlisted,
            meta_damaged: report.meta_damaged,
            never_came: report.never_came.into_iter().map(|(why, events)| (why.name().to_owned(), events)).collect(),
        }
    }
}

/// The call.
pub fn routes(log: Arc<EventLog>) -> Router {
    Router::new().route("/store/verify", post(verify)).with_state(Room { log, place: Arc::new(Semaphore::new(1)) })
}

async fn verify(State(room): State<Room>) -> Result<Response, ApiError> {
    let place = Arc::clone(&room.place).try_acquire_owned().map_err(|_| {
        ApiError::new(StatusCode::CONFLICT, "busy", "the store is being verified already").hint("wait for that one")
    })?;
    let (lines, response) = ndjson::stream();
    let store = Arc::clone(room.log.store());
    tokio::task::spawn_blocking(move || tell(&store, &lines, place));
    Ok(response)
}

/// Verifies and tells; where the caller is gone it goes on to the end, as nothing breaks it off.
fn tell(store: &Store, lines: &mpsc::Sender<Bytes>, place: OwnedSemaphorePermit) {
    let mut told = Instant::now();
    let found = store.verify(&mut |progress| {
        if told.elapsed() >= PROGRESS_EVERY {
            told = Instant::now();
            let line = VerifyLine::Progress { bytes: progress.bytes, bytes_total: progress.bytes_total };
            // A line that finds no room is left out: the next one says more.
            let _ = lines.try_send(encode(&line));
        }
    });
    let last = match found {
        Ok(report) => VerifyLine::Report(report.into()),
        Err(error) => VerifyLine::Error { message: error.to_string() },
    };
    drop(place);
    if lines.blocking_send(encode(&last)).is_err() {
        tracing::debug!("nobody waited for the end of a verification");
    }
}

fn encode(line: &VerifyLine) -> Bytes {
    let mut bytes = serde_json::to_vec(line).unwrap_or_default();
    bytes.push(b'\n');
    bytes.into()
}
