//! The jobs' part of the room's one round: what is due is submitted, what has changed is written down.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use devices::command::{CommandId, State, StepEvent};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::info::Outcomes;
use super::job::{Job, Notice, Unwritten};
use super::record::{self, JOBS_TREE, Part, TARGETS_CHUNK};
use super::{JobReply, JobRequest, Jobs};
use crate::commands::Commands;
use crate::commands::table::{Effect, Now, Table};
use crate::event_log::{Act, AppendError, NO_HEADERS, NewEvent, OpenCommit, ReadError, Topic};

/// The version of events that is written.
const EVENT_VERSION: u8 = 1;

/// A target's command as it is appended.
struct Submission {
    device: String,
    step: Vec<u8>,
}

/// A job that has ended.
struct Ended {
    id: CommandId,
    issued_by: String,
    state: &'static str,
    detail: Value,
}

/// An entry of a small named tree: tree, key and value; `None` deletes.
type Entry = (&'static str, Vec<u8>, Option<Vec<u8>>);

/// What the jobs have for the next commit.
#[derive(Default)]
pub(in crate::commands) struct JobWork {
    at_ms: i64,
    submissions: Vec<Submission>,
    events: Vec<(CommandId, Vec<u8>)>,
    entries: Vec<Entry>,
    ended: Vec<Ended>,
}

impl JobWork {
    pub(in crate::commands) fn is_empty(&self) -> bool {
        self.submissions.is_empty() && self.entries.is_empty() && self.events.is_empty()
    }

    /// Puts everything into the open commit: appends first, so that what names them is in no commit without them.
    pub(in crate::commands) fn write(
        &self,
        open: &mut OpenCommit<'_>,
        commands: &Topic,
        topic: &Topic,
    ) -> Result<(), AppendError> {
        let mut append = |topic: &Topic, key: &[u8], value: &[u8]| {
            let event = NewEvent {
                timestamp_ms: self.at_ms,
                key: Some(key),
                value: Some(value),
                headers: &NO_HEADERS,
                extra: &NO_HEADERS,
                fanned_out: true,
            };
            open.append_keyed(topic, &event)
        };
        for Submission { device, step } in &self.submissions {
            append(commands, device.as_bytes(), step)?;
        }
        for (id, event) in &self.events {
            append(topic, id.to_string().as_bytes(), event)?;
        }
        for Ended { id, issued_by, state, detail } in &self.ended {
            let (what, detail) = (id.to_string(), detail.clone());
            open.audit(Act { who: issued_by, act: "job.end", what: &what, outcome: state, detail })?;
        }
        for (tree, key, value) in &self.entries {
            open.put_state(tree, key, value.as_deref());
        }
        Ok(())
    }

    fn put(&mut self, id: CommandId, part: Part, value: Vec<u8>) {
        self.entries.push((JOBS_TREE, record::key(id, part), Some(value)));
    }

    fn take(&mut self, job: &Job, unwritten: Unwritten, now: Now) {
        let id = job.given.id;
        if unwritten.is_new {
            self.put(id, Part::Given, record::encode_given(&job.given));
        }
        if unwritten.moving {
            self.put(id, Part::Moving, record::encode_moving(&job.moving));
        }
        for number in unwritten.chunks {
            self.put(id, Part::Outcomes(number), record::encode_outcomes(&job.outcomes, number));
        }
        for notice in unwritten.notices {
            self.events.push((id, event(job, notice, now)));
        }
        if unwritten.has_ended {
            let detail = json!({"total": job.given.total, "submitted": job.moving.next, "outcomes": Outcomes::of(job)});
            let (issued_by, state) = (job.given.command.issued_by.clone(), job.state().as_str());
            self.ended.push(Ended { id, issued_by, state, detail });
        }
    }
}

/// An event of the topic of jobs.
fn event(job: &Job, notice: Notice, now: Now) -> Vec<u8> {
    let (given, moving) = (&job.given, &job.moving);
    let mut event = json!({
        "v": EVENT_VERSION,
        "job": given.id,
        "at_ms": now.wall,
        "event": notice.as_str(),
        "by": moving.by,
        "state": moving.state,
        "ended": job.has_ended(),
        "total": given.total,
        "submitted": moving.next,
        "outcomes": Outcomes::of(job),
    });
    if notice == Notice::Started {
        event["where"] = given.filter.as_str().into();
        event["name"] = given.command.name.as_str().into();
        event["rate"] = given.rate.into();
        event["abort_above"] = json!(given.abort_above);
    }
    event.to_string().into_bytes()
}

impl Commands {
    /// Does what people ask of jobs.
    pub(in crate::commands) fn answer_jobs(
        &self,
        requests: Vec<JobRequest>,
        now: Now,
    ) -> Vec<(oneshot::Sender<JobReply>, JobReply)> {
        let mut jobs = self.jobs.lock();
        requests.into_iter().map(|request| jobs.answer(request, self.config.jobs_max, now)).collect()
    }

    /// Calls off what stopped jobs have waiting, before it can be handed to a session. What that makes of jobs is in
    /// the table's effects.
    pub(in crate::commands) fn call_off_jobs(&self, table: &mut Table, now: Now) {
        self.jobs.lock().book.call_off(table, now);
    }

    /// What this round's effects make of the jobs, and what they have for the commit.
    pub(in crate::commands) fn work_jobs(
        &self,
        table: &mut Table,
        effects: &mut Vec<Effect>,
        now: Now,
    ) -> Result<JobWork, ReadError> {
        let mut jobs = self.jobs.lock();
        let jobs = &mut *jobs;
        jobs.book.heed(table, effects, now);
        let mut work = JobWork { at_ms: i64::try_from(now.wall).unwrap_or(i64::MAX), ..JobWork::default() };
        // While doors wait for the log, jobs do as well.
        let is_full = self.log.lock().over_bound();
        self.submit_due(jobs, &mut work, is_full, now)?;
        for job in jobs.book.jobs() {
            let unwritten = job.take_unwritten(now);
            work.take(job, unwritten, now);
        }
        if let Some((id, total)) = jobs.book.take_forgotten() {
            work.entries.extend(record::keys(id, total).into_iter().map(|(tree, key)| (tree, key, None)));
        }
        Ok(work)
    }

    fn submit_due(&self, jobs: &mut Jobs, work: &mut JobWork, is_full: bool, now: Now) -> Result<(), ReadError> {
        let Jobs { book, targets } = jobs;
        let mut running: HashSet<CommandId> = HashSet::new();
        // Those that have submitted all wait for their commands to end: there may be many, and nothing is due of them.
        for job in book.running().filter(|job| job.moving.next < job.given.total) {
            running.insert(job.given.id);
            let due = job.due(now);
            let count = if is_full { 0 } else { due.end - due.start };
            let mut absent = Vec::new();
            for index in due.take(count as usize) {
                let name = self.target(targets, job.given.id, index)?;
                match name {
                    Some(device) => work.submissions.push(submission(job, index, device, now)),
                    None => absent.push(index),
                }
            }
            if count > 0 || is_full {
                job.submitted(count, now);
            }
            self.stats.job_commands.fetch_add(u64::from(count) - absent.len() as u64, Relaxed);
            for index in absent {
                tracing::error!(job = %job.given.id, index, "a stored target of a job cannot be read; it is left out");
                job.ended_as(index, State::Refused, now);
            }
        }
        targets.retain(|id, _| running.contains(id));
        Ok(())
    }

    /// The name of a job's target, by its place.
    fn target(
        &self,
        parts: &mut std::collections::HashMap<CommandId, (u32, Arc<[String]>)>,
        id: CommandId,
        index: u32,
    ) -> Result<Option<String>, ReadError> {
        let number = index / TARGETS_CHUNK;
        let names = match parts.get(&id) {
            Some((of, names)) if *of == number => Arc::clone(names),
            _ => {
                let names: Arc<[String]> = self.targets(id, number)?.into();
                parts.insert(id, (number, Arc::clone(&names)));
                names
            }
        };
        Ok(names.get((index % TARGETS_CHUNK) as usize).cloned())
    }
}

fn submission(job: &Job, index: u32, device: String, now: Now) -> Submission {
    let (_, mut queued) = job.given.command.clone().queued(now.wall);
    // The key is the job's.
    queued.idempotency_key = None;
    queued.job = Some(job.given.id);
    let id = CommandId::of_job(job.given.id, index);
    Submission { device, step: StepEvent::queued(id, now.wall, queued).encode() }
}
