//! The open commands of a node that is lost are taken up, as far as they have arrived here.

use devices::command::Step;
use edgeway::commands::{Around as Known, Lost, take_up_step};
use sled_data::CommitNumber;

use super::super::log::{Log, commands_of, origin};
use super::*;
use crate::simulation::disk::Logged;

impl Node {
    /// Takes up what a node has left, once a term.
    pub fn take_up(&mut self, lost: usize, term: u64, log: &mut Log, around: &Around, now: Now) {
        let is_marked = log.own.marks.get(&lost).is_some_and(|mark| *mark >= term);
        let is_under_way = self.taking_up.get(&lost).is_some_and(|(of, _)| *of >= term);
        if is_marked || is_under_way || self.has(Bug::NobodyTakesUp) {
            return;
        }
        let decided = Lost { origin: origin(lost), term, from_commit: CommitNumber(0), ahead_ms: 0 };
        for entry in self.left_by(lost, log, now) {
            let found = log
                .copies
                .iter()
                .filter(|(other, _)| **other != lost)
                .filter_map(|(_, image)| record::decode(entry.id.as_bytes(), image.stored.get(&entry.id)?));
            let known = Known {
                is_elsewhere: found.into_iter().any(|other| other.term > entry.term),
                gateway: None,
                is_gateway_gone: false,
                refuses_repeats: around.refuses(&entry.device),
                deliveries_max: self.config.deliveries_max,
            };
            let here = self.table.get(entry.id);
            let Some((device, mut event)) = take_up_step(entry.clone(), here, decided, known, now) else { continue };
            if let (Step::Queued(queued), true) = (&mut event.step, self.has(Bug::NeverIsTakenUp)) {
                queued.taken.iter_mut().for_each(|taken| taken.is_over = false);
            }
            log.open.steps.push(Logged { device, event, is_own: false });
        }
        log.open.mark = Some((lost, term));
        let ticket = log.ticket();
        self.taking_up.insert(lost, (term, ticket));
    }

    fn left_by(&self, lost: usize, log: &Log, now: Now) -> Vec<edgeway::commands::Entry> {
        let Some(image) = log.copies.get(&lost) else { return Vec::new() };
        let stored = image.stored.iter().filter_map(|(id, value)| record::decode(id.as_bytes(), value));
        let mut table = Table::restore(self.config.clone(), stored.collect());
        for logged in &image.steps[image.cursor(commands_of(lost))..] {
            table.replay(&logged.device, logged.event.clone(), now);
        }
        let mut open: Vec<_> = table.entries().filter(|entry| !entry.progress.state().is_outcome()).cloned().collect();
        open.sort_by_key(|entry| entry.order);
        open
    }
}
