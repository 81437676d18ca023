//! The doors of a node that leaves its site: closed before it hands over, opened again where it stays.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::links::LinkNode;
use crate::admin::Readiness;
use crate::sessions::Sessions;

/// How long clients have to end.
pub(super) const CLOSE_WAIT: Duration = Duration::from_secs(5);

/// The ways by which something comes in that others rely on.
pub(super) struct Doors {
    sessions: Arc<Sessions>,
    readiness: Arc<Readiness>,
    pub(super) links: Arc<LinkNode>,
    /// Held while they are opened.
    closings: Mutex<Closings>,
}

/// How doors were closed.
#[derive(Debug, Default)]
struct Closings {
    /// How often.
    count: u64,
    /// The node is of its site no more: they stay closed.
    for_good: bool,
}

impl Closings {
    /// Whether doors may be opened that were closed so often; `None`: however often they were.
    fn may_open(&self, closing: Option<u64>) -> bool {
        !self.for_good && closing.is_none_or(|closing| closing == self.count)
    }
}

impl Doors {
    pub(super) fn new(sessions: Arc<Sessions>, readiness: Arc<Readiness>, links: Arc<LinkNode>) -> Self {
        Self { sessions, readiness, links, closings: Mutex::default() }
    }

    pub(super) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    pub(super) async fn close(&self) {
        self.closings.lock().count += 1;
        self.close_all().await;
    }

    /// Closes them for good.
    pub(super) async fn shut(&self) {
        {
            let mut closings = self.closings.lock();
            closings.count += 1;
            closings.for_good = true;
        }
        self.close_all().await;
    }

    async fn close_all(&self) {
        self.links.close(true);
        tokio::join!(self.readiness.leave(CLOSE_WAIT), self.sessions.close(CLOSE_WAIT));
    }

    /// Opens them, unless they are closed for good.
    pub(super) fn reopen(&self) {
        self.reopen_if(None);
    }

    pub(super) fn closings(&self) -> u64 {
        self.closings.lock().count
    }

    /// The same, unless they were closed once more since; whether it did.
    pub(super) fn reopen_after(&self, closing: u64) -> bool {
        self.reopen_if(Some(closing))
    }

    fn reopen_if(&self, closing: Option<u64>) -> bool {
        // Until it is done: who closes them comes before it, or behind it.
        let closings = self.closings.lock();
        let may_open = closings.may_open(closing);
        if may_open {
            self.links.close(false);
            self.sessions.reopen();
            self.readiness.stay();
        }
        may_open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doors_that_are_closed_for_good_stay_closed() {
        for (count, for_good, closing, may_open) in [
            (1, false, None, true),
            (1, false, Some(1), true),
            (2, false, Some(1), false),
            (2, false, None, true),
            (2, true, None, false),
            (2, true, Some(2), false),
        ] {
            let closings = Closings { count, for_good };
            assert_eq!(closings.may_open(closing), may_open, "{closings:?} {closing:?}");
        }
    }
}
