//! All jobs: who is told of which command's end, and which job is forgotten. Pure.

use std::collections::BTreeMap;

use devices::command::{CommandId, State, Step, StepEvent};

use super::ask::JobError;
use super::job::Job;
use super::terms::JobState;
use crate::commands::table::{Effect, Now, Table};

/// All jobs, by id and so by age.
#[derive(Debug, Default)]
pub(super) struct Book {
    jobs: BTreeMap<CommandId, Job>,
    /// Jobs that were forgotten, with their number of targets; to be deleted from the store.
    forgotten: Vec<(CommandId, u32)>,
}

impl Book {
    pub(super) fn get(&self, id: CommandId) -> Option<&Job> {
        self.jobs.get(&id)
    }

    pub(super) fn job(&mut self, id: CommandId) -> Result<&mut Job, JobError> {
        self.jobs.get_mut(&id).ok_or(JobError::NoJob(id))
    }

    /// All jobs, the newest first.
    pub(super) fn newest_first(&self) -> impl Iterator<Item = &Job> {
        self.jobs.values().rev()
    }

    pub(super) fn jobs(&mut self) -> impl Iterator<Item = &mut Job> {
        self.jobs.values_mut()
    }

    /// The job that was started with an idempotency key.
    pub(super) fn by_key(&self, key: &str) -> Option<&Job> {
        self.jobs.values().find(|job| job.given.command.idempotency_key.as_deref() == Some(key))
    }

    /// Whether there is room for one more among `max`: ended ones make room.
    pub(super) fn has_room(&self, max: usize) -> bool {
        self.jobs.len() < max || self.jobs.values().any(Job::has_ended)
    }

    /// Adds a job; beyond `max`, the oldest that has ended is forgotten.
    pub(super) fn add(&mut self, job: Job, max: usize) {
        self.jobs.insert(job.given.id, job);
        while self.jobs.len() > max.max(1) {
            let oldest = self.jobs.values().find(|job| job.has_ended()).map(|job| (job.given.id, job.given.total));
            let Some((id, total)) = oldest else { return };
            self.jobs.remove(&id);
            self.forgotten.push((id, total));
        }
    }

    /// One that was forgotten: a commit deletes no more.
    pub(super) fn take_forgotten(&mut self) -> Option<(CommandId, u32)> {
        self.forgotten.pop()
    }

    /// The targets of all jobs that have not ended.
    pub(super) fn targets_open(&self) -> u64 {
        self.jobs.values().filter(|job| !job.has_ended()).map(|job| u64::from(job.given.total)).sum()
    }

    /// How many submit commands, or may yet.
    pub(super) fn open(&self) -> usize {
        self.jobs.values().filter(|job| job.state().is_open()).count()
    }

    /// Takes the ends of commands out of the table's effects, and calls off what stopped jobs have waiting. What the
    /// table wants done for that is added to the effects.
    pub(super) fn heed(&mut self, table: &mut Table, effects: &mut Vec<Effect>, now: Now) {
        if self.jobs.is_empty() {
            return;
        }
        effects.iter().for_each(|effect| self.heed_one(table, effect, now));
        self.call_off(table, now);
        let called_off = table.take_effects();
        called_off.iter().for_each(|effect| self.heed_one(table, effect, now));
        effects.extend(called_off);
    }

    fn heed_one(&mut self, table: &Table, effect: &Effect, now: Now) {
        match effect {
            Effect::Ended(ended) => {
                let Some(of) = ended.job else { return };
                if let (Some(job), Some(index)) = (self.jobs.get_mut(&of), ended.id.index_in(of)) {
                    job.ended_as(index, ended.outcome, now);
                }
            }
            Effect::Append(_, StepEvent { id, step: Step::Returned { .. }, .. }) => {
                let of = table.get(*id).and_then(|entry| entry.queued.job);
                if let Some((of, job)) = of.and_then(|of| Some((of, self.jobs.get_mut(&of)?)))
                    && let Some(index) = id.index_in(of)
                {
                    job.came_back(index);
                }
            }
            _ => {}
        }
    }

    /// Calls off what stopped jobs have waiting: a bounded number of each.
    pub(super) fn call_off(&mut self, table: &mut Table, now: Now) {
        for job in self.jobs.values_mut().filter(|job| !job.state().is_open()) {
            let mut unread = Vec::new();
            for index in job.take_call_off(now) {
                let id = CommandId::of_job(job.given.id, index);
                match table.get(id).map(|entry| entry.progress.state()) {
                    // Whether it can be called off is the command's own matter.
                    Some(State::Queued) => drop(table.cancel(id, &job.moving.by, now)),
                    Some(_) => {}
                    None if job.outcome(index).is_none() => unread.push(index),
                    None => {}
                }
            }
            job.call_off_later(unread, now);
        }
    }

    /// The table is complete after a restart: a command that should be there and is not has an unknown end.
    pub(super) fn resume(&mut self, table: &Table, now: Now) {
        for job in self.jobs.values_mut() {
            let is_lost = |index: &u32| table.get(CommandId::of_job(job.given.id, *index)).is_none();
            let lost: Vec<u32> = job.under_way().filter(is_lost).collect();
            for index in lost {
                job.ended_as(index, State::Unknown, now);
            }
        }
    }

    /// When there is work next, on the steady clock.
    pub(super) fn next_due(&self) -> Option<u64> {
        self.jobs.values().filter_map(Job::next_due).min()
    }

    /// Running jobs, to be asked what is due.
    pub(super) fn running(&mut self) -> impl Iterator<Item = &mut Job> {
        self.jobs.values_mut().filter(|job| job.state() == JobState::Running)
    }
}
