//! Whether the node lives (`/healthz`) and whether it takes work (`/readyz`).

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use parking_lot::RwLock;
use serde::Serialize;
use tokio::sync::watch;

use super::body::Answer;

/// Where the node is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// Parts are being started.
    Starting,
    /// It takes work.
    Ready,
    /// It hands its log over to the other nodes of its site, and takes nothing new.
    Leaving,
    /// Its site has no place for it: it takes nothing, and can be looked at.
    KeptOut,
    /// It is going down.
    Stopping,
}

impl State {
    /// As it is shown.
    pub fn word(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Leaving => "leaving",
            Self::KeptOut => "kept-out",
            Self::Stopping => "stopping",
        }
    }
}

/// A part that may be unable to take work: `None`, or why.
type Check = Box<dyn Fn() -> Option<String> + Send + Sync>;

/// What `/readyz` answers from. The node's start and stop set the state; parts add checks.
pub struct Readiness {
    state: watch::Sender<State>,
    checks: RwLock<Vec<(&'static str, Check)>>,
    /// Why it is kept out of its site; told while it is.
    kept_out: RwLock<String>,
    /// Held by calls that change something, for as long as they last.
    under_way: tokio::sync::RwLock<()>,
    /// Calls that change something are waited for no more: what they come to now nobody may rely on.
    is_shut: AtomicBool,
}

#[derive(Serialize)]
pub(super) struct Ready {
    pub(super) state: State,
    pub(super) problems: Vec<Problem>,
}

#[derive(Serialize)]
pub(super) struct Problem {
    pub(super) part: &'static str,
    pub(super) reason: String,
}

impl Default for Readiness {
    fn default() -> Self {
        Self {
            state: watch::Sender::new(State::Starting),
            checks: RwLock::default(),
            kept_out: RwLock::default(),
            under_way: tokio::sync::RwLock::default(),
            is_shut: AtomicBool::new(false),
        }
    }
}

impl Readiness {
    /// Notes where the node is now.
    pub fn set(&self, state: State) {
        self.state.send_replace(state);
    }

    /// All parts are started: it takes work, unless it takes nothing new already. Whether it does.
    pub fn started(&self) -> bool {
        self.state.send_if_modified(|state| {
            let starts = *state == State::Starting;
            if starts {
                *state = State::Ready;
            }
            starts
        })
    }

    /// Takes nothing new from now on, and waits until what is under way has ended, or `wait` has passed.
    pub async fn leave(&self, wait: Duration) {
        self.set(State::Leaving);
        self.shut(wait).await;
    }

    /// The same for one that its site has no place for; `why` says what happened, and what to do.
    pub async fn keep_out(&self, why: String, wait: Duration) {
        *self.kept_out.write() = why;
        self.set(State::KeptOut);
        self.shut(wait).await;
    }

    async fn shut(&self, wait: Duration) {
        if tokio::time::timeout(wait, self.under_way.write()).await.is_err() {
            tracing::warn!(
                "some calls did not end in time; who made them is told that it is not known what came of them"
            );
        }
        self.is_shut.store(true, Ordering::Release);
    }

    /// Takes everything again.
    pub fn stay(&self) {
        self.is_shut.store(false, Ordering::Release);
        self.set(State::Ready);
    }

    /// A call that changes something begins; it has ended when that is dropped. `None`: nothing new is taken.
    pub(super) async fn begin_call(&self) -> Option<tokio::sync::RwLockReadGuard<'_, ()>> {
        let under_way = self.under_way.read().await;
        (!self.takes_nothing()).then_some(under_way)
    }

    /// Whether nobody waits any more for what calls come to that began before.
    pub(super) fn is_shut(&self) -> bool {
        self.is_shut.load(Ordering::Acquire)
    }

    /// Follows where the node is: long answers end when it stops.
    pub fn watch(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Adds a part that is asked each time; it must answer at once.
    pub fn add_check(&self, part: &'static str, check: impl Fn() -> Option<String> + Send + Sync + 'static) {
        self.checks.write().push((part, Box::new(check)));
    }

    /// Whether it takes nothing new, as it leaves its site, or is kept out of it.
    fn takes_nothing(&self) -> bool {
        matches!(*self.state.borrow(), State::Leaving | State::KeptOut)
    }

    /// Why it is kept out of its site, while it is.
    pub(super) fn kept_out(&self) -> Option<String> {
        (*self.state.borrow() == State::KeptOut).then(|| self.kept_out.read().clone())
    }

    pub(super) fn now(&self) -> Ready {
        let checks = self.checks.read();
        let asked = checks.iter().filter_map(|(part, check)| check().map(|reason| Problem { part, reason }));
        let kept_out = self.kept_out().map(|reason| Problem { part: "site", reason });
        Ready { state: *self.state.borrow(), problems: asked.chain(kept_out).collect() }
    }
}

/// `/healthz` and `/readyz`.
pub fn routes(readiness: Arc<Readiness>) -> Router {
    let ready = move || {
        let now = readiness.now();
        std::future::ready(answer(now))
    };
    Router::new().route("/healthz", get(|| async { "ok\n" })).route("/readyz", get(ready))
}

fn answer(ready: Ready) -> Response {
    let good = ready.state == State::Ready && ready.problems.is_empty();
    let status = if good { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Answer(ready)).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_that_is_kept_out_before_it_has_started_does_not_become_ready() {
        let readiness = Readiness::default();
        readiness.keep_out("it was removed".to_owned(), Duration::ZERO).await;
        assert!(!readiness.started());
        let now = readiness.now();
        assert_eq!((now.state, now.problems.len()), (State::KeptOut, 1));
        assert_eq!((now.problems[0].part, now.problems[0].reason.as_str()), ("site", "it was removed"));
        assert!(readiness.begin_call().await.is_none(), "it takes nothing");
        readiness.stay();
        let now = readiness.now();
        assert_eq!((now.state, now.problems.len()), (State::Ready, 0));
        assert!(readiness.begin_call().await.is_some());
    }
}
