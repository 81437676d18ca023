//! What people want of jobs: shown, waited for, paused, let go on, stopped.

use std::time::Duration;

use devices::command::{CommandId, State};
use serde_json::json;
use sled_data::ReadError as StoreError;
use tokio::sync::oneshot;

use super::Jobs;
use super::info::{JobDevice, JobDevices, JobInfo};
use super::job::Job;
use super::record::{self, TARGETS_CHUNK, TARGETS_TREE};
use super::terms::{Given, JobState};
use crate::commands::{Commands, Now};
use crate::event_log::Act;

/// Devices that one page has at most.
const PAGE_MAX: usize = 1_000;

/// Why a job did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// There is no such job.
    #[error("there is no job {0}; ended jobs are forgotten in time")]
    NoJob(CommandId),
    /// It is over.
    #[error("job {id} is {state}, and cannot go on", state = state.as_str())]
    Ended {
        /// The job.
        id: CommandId,
        /// How it ended.
        state: JobState,
    },
    /// Too much is asked at once.
    #[error("too much is asked of jobs at once; try again in a moment")]
    Busy,
    /// It could not be recorded.
    #[error("it could not be recorded; look at the node's log and try again")]
    Lost,
    /// What is stored cannot be read.
    #[error("the job's devices cannot be read: {0}; run `edgeway store verify`")]
    Store(#[from] StoreError),
}

impl JobError {
    /// The code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NoJob(_) => "not_found",
            Self::Ended { .. } => "already_ended",
            Self::Busy => "busy",
            Self::Lost | Self::Store(_) => "unavailable",
        }
    }
}

/// What the room's task is asked to do with a job.
pub(in crate::commands) enum Ask {
    Start(Box<Given>),
    Pause,
    Resume,
    Cancel,
}

/// The answer.
pub(in crate::commands) type JobReply = Result<JobInfo, JobError>;

/// Somebody wants something of a job.
pub(in crate::commands) struct JobRequest {
    pub(super) id: CommandId,
    pub(super) ask: Ask,
    pub(super) by: String,
    pub(super) reply: oneshot::Sender<JobReply>,
}

impl Jobs {
    /// Does what is asked for; the answer is to be given when it is durable.
    pub(super) fn answer(
        &mut self,
        request: JobRequest,
        jobs_max: usize,
        now: Now,
    ) -> (oneshot::Sender<JobReply>, JobReply) {
        let JobRequest { id, ask, by, reply } = request;
        let done = match ask {
            Ask::Start(given) => {
                self.book.add(Job::new(*given, now), jobs_max);
                Ok(())
            }
            Ask::Pause => self.book.job(id).and_then(|job| job.pause(&by, now)),
            Ask::Resume => self.book.job(id).and_then(|job| job.resume(&by, now)),
            Ask::Cancel => self.book.job(id).and_then(|job| job.cancel(&by, now)),
        };
        let told = done.and_then(|()| self.book.job(id).map(|job| JobInfo::from(&*job)));
        (reply, told)
    }
}

impl Commands {
    /// One job, as long as it is listed.
    pub fn job(&self, id: CommandId) -> Option<JobInfo> {
        self.jobs.lock().book.get(id).map(JobInfo::from)
    }

    /// The jobs that are listed, the newest first; at most `jobs_max` of the settings.
    pub fn jobs(&self) -> Vec<JobInfo> {
        self.jobs.lock().book.newest_first().map(JobInfo::from).collect()
    }

    /// How many jobs run or are paused.
    pub fn jobs_open(&self) -> usize {
        self.jobs.lock().book.open()
    }

    /// Waits until a job has ended with all its commands, durably; `None` when it has not within the time.
    pub async fn wait_job(&self, id: CommandId, timeout: Duration) -> Option<JobInfo> {
        let look = || {
            // While a round decides, it holds the table: what it makes of jobs is seen with the commit that it is in.
            let _decided = self.table.lock();
            self.job(id).filter(|job| job.ended)
        };
        let ended = self.durably(look);
        tokio::time::timeout(timeout, ended).await.ok()
    }

    /// Has a job submit no more commands until it is resumed, for `by`; durable on return.
    ///
    /// # Errors
    /// When there is no such job, it is over, or nothing could be recorded.
    pub async fn pause_job(&self, id: CommandId, by: &str) -> JobReply {
        self.told(id, Ask::Pause, "job.pause", by).await
    }

    /// Has a paused job go on, for `by`; durable on return.
    ///
    /// # Errors
    /// As [`Self::pause_job`].
    pub async fn resume_job(&self, id: CommandId, by: &str) -> JobReply {
        self.told(id, Ask::Resume, "job.resume", by).await
    }

    /// Stops a job for good, for `by`, and calls off what it has submitted and no device has; durable on return.
    ///
    /// # Errors
    /// As [`Self::pause_job`].
    pub async fn cancel_job(&self, id: CommandId, by: &str) -> JobReply {
        self.told(id, Ask::Cancel, "job.cancel", by).await
    }

    async fn told(&self, id: CommandId, ask: Ask, act: &'static str, by: &str) -> JobReply {
        let told = self.ask_job(id, ask, by).await;
        let outcome = told.as_ref().map_or_else(JobError::code, |_| "done");
        self.audit(Act { who: by, act, what: &id.to_string(), outcome, detail: json!(null) });
        told
    }

    pub(super) async fn ask_job(&self, id: CommandId, ask: Ask, by: &str) -> JobReply {
        let (reply, answer) = oneshot::channel();
        if !self.mail.ask_job(JobRequest { id, ask, by: by.to_owned(), reply }) {
            return Err(JobError::Busy);
        }
        answer.await.map_err(|_| JobError::Lost)?
    }

    /// At most `max` of a job's devices after the place `after`, those whose command is in state `only` where it is
    /// given. Reads the store: call it where blocking is fine.
    ///
    /// # Errors
    /// When there is no such job, or the store cannot be read.
    pub fn job_devices(
        &self,
        id: CommandId,
        after: Option<u32>,
        only: Option<State>,
        max: usize,
    ) -> Result<JobDevices, JobError> {
        let max = max.clamp(1, PAGE_MAX);
        let from = after.map_or(0, |after| after.saturating_add(1));
        let mut found: Vec<(u32, Option<CommandId>, Option<State>)> = Vec::new();
        let mut next = None;
        let (submitted, total, outcomes) = {
            let jobs = self.jobs.lock();
            let job = jobs.book.get(id).ok_or(JobError::NoJob(id))?;
            let noted: Vec<Option<State>> = (from..job.given.total).map(|index| job.outcome(index)).collect();
            (job.moving.next, job.given.total, noted)
        };
        for (index, outcome) in (from..total).zip(outcomes) {
            let command = (index < submitted).then(|| CommandId::of_job(id, index));
            let state = outcome.or_else(|| command.map(|command| self.state_of(command)));
            if only.is_some() && state != only {
                continue;
            }
            if found.len() >= max {
                next = found.last().map(|(index, ..)| *index);
                break;
            }
            found.push((index, command, state));
        }
        let mut devices = Vec::with_capacity(found.len());
        let mut part: Option<(u32, Vec<String>)> = None;
        for (index, command, state) in found {
            let number = index / TARGETS_CHUNK;
            let names = match part.take() {
                Some((of, names)) if of == number => names,
                _ => self.targets(id, number)?,
            };
            let device = names.get((index % TARGETS_CHUNK) as usize).cloned().unwrap_or_default();
            part = Some((number, names));
            devices.push(JobDevice { device, command, state });
        }
        Ok(JobDevices { devices, next })
    }

    /// Where a submitted command is; one that was appended and not read yet is queued.
    fn state_of(&self, command: CommandId) -> State {
        self.table.lock().get(command).map_or(State::Queued, |entry| entry.progress.state())
    }

    /// A part of a job's targets; empty where it is absent or damaged.
    pub(super) fn targets(&self, id: CommandId, number: u32) -> Result<Vec<String>, StoreError> {
        let stored = self.log.state_get(TARGETS_TREE, &record::targets_key(id, number))?;
        Ok(stored.and_then(|stored| record::decode_targets(&stored)).unwrap_or_default())
    }
}
