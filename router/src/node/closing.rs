//! The doors of a node that leaves its site, or that its site has no place for: closed before it hands over, opened again where it stays.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use super::links::LinkNode;
use crate::admin::{Readiness, State};
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
    /// The node hands over, and they are not open again since.
    leaves: bool,
    /// The node may be a copy of one that runs.
    is_held: bool,
    /// The node is of its site no more: they stay closed.
    for_good: bool,
}

impl Closings {
    /// Whether doors may be opened that were closed so often; `None`: however often they were.
    fn may_open(&self, closing: Option<u64>) -> bool {
        !self.for_good && closing.is_none_or(|closing| closing == self.count)
    }

    /// Whether nothing keeps them closed.
    fn is_open(&self) -> bool {
        !self.leaves && !self.is_held && !self.for_good
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
        {
            let mut closings = self.closings.lock();
            closings.count += 1;
            closings.leaves = true;
        }
        self.links.close(true);
        tokio::join!(self.readiness.leave(CLOSE_WAIT), self.sessions.close(CLOSE_WAIT));
    }

    /// Closes them for good; `why` says what happened, and what to do.
    pub(super) async fn shut(&self, why: String) {
        {
            let mut closings = self.closings.lock();
            closings.count += 1;
            closings.for_good = true;
        }
        self.keep_out(why).await;
    }

    /// Keeps them closed until they are released, whoever opens them meanwhile; `why` says what happened, and what to do.
    pub(super) async fn hold(&self, why: String) {
        self.closings.lock().is_held = true;
        self.keep_out(why).await;
    }

    /// Holds them no more.
    pub(super) fn release(&self) {
        let mut closings = self.closings.lock();
        closings.is_held = false;
        self.settle(&closings);
    }

    async fn keep_out(&self, why: String) {
        self.links.close(true);
        tokio::join!(self.readiness.keep_out(why, CLOSE_WAIT), self.sessions.close(CLOSE_WAIT));
    }

    /// Opens them, unless they are closed for good.
    pub(super) fn reopen(&self) {
        self.reopen_if(None);
    }

    pub(super) fn closings(&self) -> u64 {
        self.closings.lock().count
    }

    /// The same, unless they were closed once more since; whether nothing but a hold keeps them closed.
    pub(super) fn reopen_after(&self, closing: u64) -> bool {
        self.reopen_if(Some(closing))
    }

    fn reopen_if(&self, closing: Option<u64>) -> bool {
        // Until it is done: who closes them comes before it, or behind it.
        let mut closings = self.closings.lock();
        let may_open = closings.may_open(closing);
        if may_open {
            closings.leaves = false;
            self.settle(&closings);
        }
        may_open
    }

    /// Opens them where nothing keeps them closed; otherwise says what does.
    fn settle(&self, closings: &Closings) {
        if closings.is_open() {
            self.links.close(false);
            self.sessions.reopen();
            self.readiness.stay();
        } else if closings.is_held || closings.for_good {
            self.readiness.set(State::KeptOut);
        } else {
            self.readiness.set(State::Leaving);
        }
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
            let closings = Closings { count, for_good, ..Closings::default() };
            assert_eq!(closings.may_open(closing), may_open, "{closings:?} {closing:?}");
        }
    }

    #[test]
    fn doors_are_open_when_nothing_keeps_them_closed() {
        for (leaves, is_held, for_good) in
            [(true, false, false), (false, true, false), (false, false, true), (true, true, false)]
        {
            let closings = Closings { count: 1, leaves, is_held, for_good };
            assert!(!closings.is_open(), "{closings:?}");
        }
        assert!(Closings { count: 1, ..Closings::default() }.is_open());
    }
}
