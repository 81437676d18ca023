//! Jobs: one command to many devices, at a bounded rate, over restarts.
//!
//! A job takes its targets once, when it starts. `pace` says how many are due, `job` is one job (pure), `book` all of
//! them (pure); `terms` what it is started
//! with; `record` draws what is stored, `start` stores a new one, `round` is the jobs' part of the room's one
//! round, `restore` reads them back, `ask` is what people want of one that runs, `info` what they are shown.
//!
//! The next targets' `queued` steps and the job's place are one commit, and so are a command's last step and the job's
//! note of it: a restart at any moment neither skips nor doubles a device, and counts each outcome once.

mod ask;
mod book;
mod info;
mod job;
mod pace;
mod record;
mod restore;
mod round;
mod start;
mod terms;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use devices::command::CommandId;

pub use ask::JobError;
pub use info::{JobDevice, JobDevices, JobInfo, Outcomes};

pub use record::JOBS_TREE;
pub use start::{JobStarted, NewJob, StartError};
pub use terms::{AbortAbove, JobState, ParseAbortError};

pub(super) use ask::{JobReply, JobRequest};
pub(super) use round::JobWork;

use super::{Now, Table};
use book::Book;

/// The internal topic of what becomes of jobs (key: the job's id, value: JSON).
pub const JOBS_TOPIC: &str = "_jobs";
/// Commands a second of a job that does not say how many.
pub const RATE_DEFAULT: u32 = 50;

/// What the room has of jobs in memory.
#[derive(Default)]
pub(super) struct Jobs {
    book: Book,
    /// The part of each running job's targets that is under way: its number, and the names.
    targets: HashMap<CommandId, (u32, Arc<[String]>)>,
}

impl Jobs {
    /// The table is complete after a restart.
    pub(super) fn resume(&mut self, table: &Table, now: Now) {
        self.book.resume(table, now);
    }

    /// When there is work next, on the steady clock.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.book.next_due()
    }
}
