//! What reaches the room's task besides the log: what sessions report, what guards say, what people ask for.

use std::collections::BTreeSet;

use devices::command::{CommandId, State};
use parking_lot::Mutex;
use sled_data::OriginId;
use tokio::sync::{Notify, oneshot};

use super::down::SiteEnded;
use super::jobs::JobRequest;
use super::move_on::Moves;
use super::table::CancelError;
use crate::security::Judgement;
use crate::sessions::Delivery;

/// Call-offs that may wait for the task.
const CANCELS_MAX: usize = 1_024;
/// Requests about jobs that may wait for the task.
const JOB_REQUESTS_MAX: usize = 256;

/// Reports taken at once at most: what follows from them is in one commit.
const REPORTS_AT_ONCE_MAX: usize = 8_192;

/// How a session fared with a command.
pub(super) struct Report {
    pub(super) id: CommandId,
    pub(super) session: u64,
    pub(super) fate: Fate,
}

/// The last word about an offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// The device confirmed.
    Acked,
    /// It was written, and nothing was heard of it.
    Dropped,
    /// It was never written.
    Unsent,
    /// It was never written, being larger than the client takes.
    TooLarge,
}

impl Fate {
    /// What follows from an offer's news; `Sent` alone is no last word. `written`: whether it was said before.
    pub(super) fn of(delivery: Delivery, written: &mut bool) -> Option<Self> {
        match delivery {
            Delivery::Sent => {
                *written = true;
                None
            }
            Delivery::Acked => Some(Self::Acked),
            Delivery::TooLarge => Some(Self::TooLarge),
            Delivery::Dropped if *written => Some(Self::Dropped),
            Delivery::Dropped => Some(Self::Unsent),
        }
    }
}

/// How a call-off ended.
pub(super) type Cancelled = Result<State, CancelError>;

/// Somebody wants a command called off.
pub(super) struct Cancel {
    pub(super) id: CommandId,
    pub(super) by: String,
    pub(super) reply: oneshot::Sender<Cancelled>,
}

/// A call-off, as it is written down.
pub(super) struct CancelAct {
    pub(super) id: CommandId,
    pub(super) by: String,
    pub(super) ended: Cancelled,
}

impl CancelAct {
    /// `done`, or the code of why not.
    pub(super) fn outcome(&self) -> &'static str {
        match self.ended {
            Ok(_) => "done",
            Err(CancelError::NoCommand) => "no-command",
            Err(CancelError::Refused(refusal)) => refusal.code(),
            Err(CancelError::Asked) => "asked",
        }
    }
}

/// What has arrived since the last round.
#[derive(Default)]
pub(super) struct News {
    /// At most one for each offer that is under way.
    pub(super) reports: Vec<Report>,
    /// At most one for each question that is open, and those are bounded.
    pub(super) judgements: Vec<(CommandId, Judgement)>,
    pub(super) cancels: Vec<Cancel>,
    pub(super) job_requests: Vec<JobRequest>,
    /// At most one for each other node.
    pub(super) moves: Vec<Moves>,
    /// Gateways that have come, with their sites; at most one for each.
    pub(super) sites: BTreeSet<(String, OriginId)>,
    /// Whether links have changed.
    pub(super) links_changed: bool,
    /// At most one for each gateway, and for each other node.
    pub(super) ended_below: Vec<SiteEnded>,
}

/// The task's mailbox.
#[derive(Default)]
pub(super) struct Mail {
    news: Mutex<News>,
    pub(super) arrived: Notify,
}

impl Mail {
    pub(super) fn report(&self, report: Report) {
        self.news.lock().reports.push(report);
        self.arrived.notify_one();
    }

    pub(super) fn judged(&self, id: CommandId, judgement: Judgement) {
        self.news.lock().judgements.push((id, judgement));
        self.arrived.notify_one();
    }

    pub(super) fn moved(&self, moves: Moves) {
        self.news.lock().moves.push(moves);
        self.arrived.notify_one();
    }

    pub(super) fn gateway_came(&self, site: &str, gateway: OriginId) {
        self.news.lock().sites.insert((site.to_owned(), gateway));
        self.arrived.notify_one();
    }

    /// A gateway's line has ended; where else it may be is looked for.
    pub(super) fn gateway_left(&self) {
        self.arrived.notify_one();
    }

    pub(super) fn links_changed(&self) {
        self.news.lock().links_changed = true;
        self.arrived.notify_one();
    }

    pub(super) fn ended_below(&self, ended: SiteEnded) {
        self.news.lock().ended_below.push(ended);
        self.arrived.notify_one();
    }

    /// Takes a call-off; `false` when too many wait.
    pub(super) fn cancel(&self, cancel: Cancel) -> bool {
        let mut news = self.news.lock();
        if news.cancels.len() >= CANCELS_MAX {
            return false;
        }
        news.cancels.push(cancel);
        self.arrived.notify_one();
        true
    }

    /// Takes a request about a job; `false` when too many wait.
    pub(super) fn ask_job(&self, request: JobRequest) -> bool {
        let mut news = self.news.lock();
        if news.job_requests.len() >= JOB_REQUESTS_MAX {
            return false;
        }
        news.job_requests.push(request);
        self.arrived.notify_one();
        true
    }

    /// Takes what has arrived, of reports at most [`REPORTS_AT_ONCE_MAX`]; whether there are more.
    pub(super) fn take(&self) -> (News, bool) {
        let mut news = self.news.lock();
        let later = match news.reports.len() > REPORTS_AT_ONCE_MAX {
            true => news.reports.split_off(REPORTS_AT_ONCE_MAX),
            false => Vec::new(),
        };
        let has_more = !later.is_empty();
        if has_more {
            self.arrived.notify_one();
        }
        (std::mem::replace(&mut *news, News { reports: later, ..News::default() }), has_more)
    }
}
