//! The jobs after a restart, or after a commit that failed: as they are stored.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering::Relaxed;

use devices::command::CommandId;
use sled_data::ReadError as StoreError;

use super::book::Book;
use super::job::Job;
use super::record::{self, JOBS_TREE, OUTCOMES_CHUNK, Part, TARGETS_TREE};
use super::terms::{Given, Moving};
use crate::commands::Commands;

/// Stored entries read at once.
const ENTRIES_MAX: usize = 256;

/// What was read of one job.
#[derive(Default)]
struct Found {
    given: Option<Given>,
    moving: Option<Moving>,
    outcomes: Vec<(u32, Vec<u8>)>,
    is_damaged: bool,
}

impl Found {
    fn add(&mut self, id: CommandId, part: Part, value: &[u8]) {
        let known = match part {
            Part::Given => {
                self.given = record::decode_given(id, value);
                self.given.is_some()
            }
            Part::Moving => {
                self.moving = record::decode_moving(value);
                self.moving.is_some()
            }
            Part::Outcomes(number) => {
                let outcomes = record::decode_outcomes(value);
                self.outcomes.extend(outcomes.map(|outcomes| (number, outcomes.to_vec())));
                outcomes.is_some()
            }
        };
        self.is_damaged |= !known;
    }

    fn job(self) -> Option<Job> {
        let (given, moving) = (self.given?, self.moving?);
        let mut outcomes = vec![0; given.total as usize];
        for (number, part) in self.outcomes {
            let from = (number as usize) * OUTCOMES_CHUNK as usize;
            let room = outcomes.get_mut(from..).unwrap_or_default();
            room.iter_mut().zip(part).for_each(|(outcome, stored)| *outcome = stored);
        }
        Some(Job::restore(given, moving, outcomes))
    }
}

impl Commands {
    /// All stored jobs.
    pub(in crate::commands) fn rebuild_jobs(&self) -> Result<(), StoreError> {
        let mut book = Book::default();
        for (_, found) in self.found_jobs()? {
            if found.is_damaged {
                self.stats.unreadable.fetch_add(1, Relaxed);
                tracing::warn!("a stored job of an unknown version is left out");
            } else if let Some(job) = found.job() {
                book.add(job, usize::MAX);
            }
        }
        let mut jobs = self.jobs.lock();
        jobs.book = book;
        jobs.targets.clear();
        Ok(())
    }

    fn found_jobs(&self) -> Result<BTreeMap<CommandId, Found>, StoreError> {
        let mut all: BTreeMap<CommandId, Found> = BTreeMap::new();
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.log.state_scan(JOBS_TREE, &[], after.as_deref(), ENTRIES_MAX)?;
            let Some((last, _)) = page.last() else { return Ok(all) };
            after = Some(last.clone());
            for (key, value) in &page {
                if let Some((id, part)) = record::parse_key(key) {
                    all.entry(id).or_default().add(id, part, value);
                }
            }
        }
    }

    /// Deletes targets that were stored for jobs that never started; to be called before the room takes any.
    pub(in crate::commands) fn delete_unstarted_jobs(&self) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let first = self.log.state_scan(TARGETS_TREE, &[], after.as_deref(), 1)?;
            let Some((key, _)) = first.first() else { return Ok(()) };
            let Some(id) = key.first_chunk::<16>() else {
                after = Some(key.clone());
                continue;
            };
            if self.log.state_get(JOBS_TREE, &record::key(CommandId::from_bytes(*id), Part::Given))?.is_none() {
                self.delete_targets(id)?;
            }
            // Behind all parts of this job.
            after = Some([&id[..], &[0xff; 5]].concat());
        }
    }

    fn delete_targets(&self, id: &[u8]) -> Result<(), StoreError> {
        let mut after: Option<Vec<u8>> = None;
        loop {
            let page = self.log.state_scan(TARGETS_TREE, id, after.as_deref(), ENTRIES_MAX)?;
            let Some((last, _)) = page.last() else { return Ok(()) };
            after = Some(last.clone());
            let mut open = self.log.lock();
            for (key, _) in &page {
                open.put_state(TARGETS_TREE, key, None);
            }
        }
    }
}
