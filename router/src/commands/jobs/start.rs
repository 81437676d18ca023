//! Starting a job: checked, its targets chosen and stored, then handed to the room's task.

use std::sync::Arc;

use devices::command::CommandId;
use serde_json::json;

use super::ask::{Ask, JobError};
use super::info::JobInfo;
use super::record::{self, TARGETS_CHUNK, TARGETS_TREE};
use super::terms::{AbortAbove, Given};
use crate::catalog::{Filter, FilterError};
use crate::commands::{Commands, NewCommand, SubmitError};
use crate::directory::SelectError;
use crate::event_log::{Act, AppendError, CommitFailed, SITE_SEPARATOR};

/// Parts of the targets that are stored with one commit: half a mebibyte.
const PARTS_MAX: usize = 16;
/// Devices of all jobs that have not ended: so many outcomes fit one commit.
const TARGETS_OPEN_MAX: u64 = 2_000_000;

/// A job as people start it.
#[derive(Debug, Clone)]
pub struct NewJob {
    /// Which devices.
    pub filter: String,
    /// The command. The device that it names does not count; its idempotency key is the job's: the same key again is
    /// the same job.
    pub command: NewCommand,
    /// Commands a second.
    pub rate: u32,
    /// With more commands that did not succeed, the job is aborted.
    pub abort_above: Option<AbortAbove>,
}

/// A job that was taken.
#[derive(Debug, Clone, PartialEq)]
pub struct JobStarted {
    /// The job.
    pub job: JobInfo,
    /// Whether it is new; not where its idempotency key was known with the same content.
    pub is_new: bool,
}

/// Why a job was not started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The filter is wrong.
    #[error("the filter is wrong {0}")]
    Filter(#[from] FilterError),
    /// The filter takes no device.
    #[error("no known device is taken by the filter {0:?}{sites}; see `edgeway device list --where`", sites = of_sites(.0))]
    NoDevices(String),
    /// The filter takes more devices than a job may have.
    #[error("the filter takes more than {max} devices, the bound of one job ([commands] job_targets_max); narrow it")]
    TooManyDevices {
        /// The bound.
        max: usize,
    },
    /// Every job that is listed is under way.
    #[error(
        "{max} jobs are under way, which is the bound ([commands] jobs_max); wait until one has ended, or cancel one"
    )]
    TooManyJobs {
        /// The bound.
        max: usize,
    },
    /// The jobs under way have too many devices together.
    #[error(
        "the jobs under way have {TARGETS_OPEN_MAX} devices at most, together; wait until one has ended, or cancel one"
    )]
    TooManyInAll,
    /// A rate of nothing, or over its bound.
    #[error("the rate is between 1 and {max} commands a second ([commands] job_rate_max)")]
    Rate {
        /// The bound.
        max: u32,
    },
    /// The idempotency key stands for another job.
    #[error("idempotency key {key:?} stands for job {id}, which is another one; use a new key")]
    Conflict {
        /// The key.
        key: String,
        /// The job.
        id: CommandId,
    },
    /// What is seen of devices cannot be read.
    #[error(transparent)]
    Select(SelectError),
    /// The command breaks a bound.
    #[error(transparent)]
    Command(#[from] SubmitError),
    /// The log did not take the targets.
    #[error(transparent)]
    Append(#[from] AppendError),
    /// They did not become durable.
    #[error(transparent)]
    Commit(#[from] CommitFailed),
    /// The room did not take it.
    #[error(transparent)]
    Job(#[from] JobError),
}

/// What is to be said where a filter seems to mean devices of linked sites.
fn of_sites(filter: &str) -> &'static str {
    if filter.contains(SITE_SEPARATOR) { ", as a job has no devices of other sites (start it there)" } else { "" }
}

impl Given {
    /// Whether two jobs ask for the same: what an idempotency key stands for.
    fn asks_the_same(&self, new: &NewJob) -> bool {
        let (one, other) = (&self.command, &new.command);
        self.filter == new.filter
            && (self.rate, self.abort_above) == (new.rate, new.abort_above)
            && (&one.name, &one.payload, one.urgent) == (&other.name, &other.payload, other.urgent)
            && (&one.supersede, one.repeat) == (&other.supersede, other.repeat)
    }
}

impl Commands {
    /// Starts a job; when this returns, it is durable and runs. A job whose idempotency key is known with the same
    /// content is the one that was started first. Once begun it goes on although the caller goes away.
    ///
    /// # Errors
    /// When it breaks a bound, no device is taken, or the log does not take it: then nothing was started.
    pub async fn start_job(self: &Arc<Self>, new: NewJob) -> Result<JobStarted, StartError> {
        let room = Arc::clone(self);
        let started = tokio::spawn(async move { room.start(new).await });
        started.await.unwrap_or(Err(StartError::Job(JobError::Lost)))
    }

    /// The devices that a job would have, in the order of their turns; nothing is started.
    ///
    /// # Errors
    /// As [`Self::start_job`], as far as what is asked for is wrong.
    pub async fn job_would_have(&self, mut new: NewJob) -> Result<Vec<Arc<str>>, StartError> {
        let filter = self.checked(&mut new)?;
        self.choose(filter, &new.filter).await
    }

    /// Checks what is asked for, and reads its filter.
    fn checked(&self, new: &mut NewJob) -> Result<Filter, StartError> {
        let filter = Filter::parse(&new.filter)?;
        new.command.device = "device".to_owned();
        new.command.check()?;
        let rate_max = self.config.job_rate_max;
        match new.rate {
            rate if rate == 0 || rate > rate_max => Err(StartError::Rate { max: rate_max }),
            _ => Ok(filter),
        }
    }

    async fn start(&self, mut new: NewJob) -> Result<JobStarted, StartError> {
        let filter = self.checked(&mut new)?;
        // One after another: each is judged by what those before it came to.
        let _one = self.starting_job.lock().await;
        if let Some(job) = self.same_job(&new)? {
            return Ok(JobStarted { job, is_new: false });
        }
        let max = self.config.jobs_max;
        if !self.jobs.lock().book.has_room(max) {
            return Err(StartError::TooManyJobs { max });
        }
        let names = self.choose(filter, &new.filter).await?;
        if self.jobs.lock().book.targets_open() + names.len() as u64 > TARGETS_OPEN_MAX {
            return Err(StartError::TooManyInAll);
        }
        let now = self.now();
        let mut random = [0; 10];
        getrandom::fill(&mut random).map_err(SubmitError::Random)?;
        let id = CommandId::v7(now.wall, random);
        let total = u32::try_from(names.len()).unwrap_or(u32::MAX);
        let command = NewCommand { device: String::new(), ..new.command };
        let by = command.issued_by.clone();
        let (rate, abort_above, name) = (new.rate, new.abort_above, command.name.clone());
        let given = Given { id, filter: new.filter, command, rate, abort_above, total, at_ms: now.wall };
        let detail = json!({"where": given.filter, "name": name, "total": total, "rate": rate});
        let stored = self.store_targets(id, &names).await;
        let told = match stored {
            Ok(()) => self.ask_job(id, Ask::Start(Box::new(given)), &by).await.map_err(StartError::Job),
            Err(error) => Err(error),
        };
        let outcome = if told.is_ok() { "done" } else { "unavailable" };
        self.audit(Act { who: &by, act: "job.start", what: &id.to_string(), outcome, detail });
        Ok(JobStarted { job: told?, is_new: true })
    }

    /// The job that an idempotency key stands for already.
    fn same_job(&self, new: &NewJob) -> Result<Option<JobInfo>, StartError> {
        let Some(key) = &new.command.idempotency_key else { return Ok(None) };
        let jobs = self.jobs.lock();
        match jobs.book.by_key(key) {
            None => Ok(None),
            Some(job) if job.given.asks_the_same(new) => Ok(Some(job.into())),
            Some(job) => Err(StartError::Conflict { key: key.clone(), id: job.given.id }),
        }
    }

    async fn choose(&self, filter: Filter, text: &str) -> Result<Vec<Arc<str>>, StartError> {
        let max = self.config.job_targets_max;
        let none = || StartError::NoDevices(text.to_owned());
        let directory = Arc::clone(self.directory.get().ok_or_else(none)?);
        let chosen = tokio::task::spawn_blocking(move || directory.select(&filter, max)).await;
        let names = chosen.map_err(|_| JobError::Lost)?.map_err(|error| match error {
            SelectError::TooMany { max } => StartError::TooManyDevices { max },
            SelectError::Store(_) => StartError::Select(error),
        })?;
        if names.is_empty() { Err(none()) } else { Ok(names) }
    }

    /// Stores the targets, some at once. Without the job itself they mean nothing, and are deleted at the next start.
    async fn store_targets(&self, id: CommandId, names: &[Arc<str>]) -> Result<(), StartError> {
        let parts: Vec<&[Arc<str>]> = names.chunks(TARGETS_CHUNK as usize).collect();
        for (batch, parts) in (0..).zip(parts.chunks(PARTS_MAX)) {
            let ticket = {
                let mut open = self.log.lock();
                open.check(0)?;
                let first = batch * PARTS_MAX as u32;
                for (number, part) in (first..).zip(parts) {
                    open.put_state(TARGETS_TREE, &record::targets_key(id, number), Some(&record::encode_targets(part)));
                }
                open.ticket()
            };
            self.log.durable(ticket).await?;
        }
        Ok(())
    }
}
