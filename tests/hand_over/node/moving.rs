//! Commands that go on to another node, and those that another one hands over.

use edgeway::commands::{Room, moves_of};
use sled_data::OriginId;

use super::super::log::{Log, node_of, origin};
use super::*;
use crate::simulation::disk::Logged;
use devices::command::Step;

/// Time between two questions about commands that have no answer, in milliseconds.
const ASK_AGAIN_MS: u64 = 1_000;
/// Commands that one node is asked to take at once.
const BATCH_MAX: usize = 4;

impl Node {
    /// Gives commands to the nodes of their devices, as far as those can be asked now.
    pub(super) fn hand_on(&mut self, found: Vec<(Arc<str>, usize)>, now: Now) -> Vec<Batch> {
        let mut rooms: BTreeMap<usize, (Room, Vec<CommandId>)> = BTreeMap::new();
        for (device, to) in found {
            if self.movers.asked.contains(&to) {
                self.movers.waiting.insert(device);
                continue;
            }
            let room = Room { count: BATCH_MAX, bytes: 1 << 20 };
            let (room, ids) = rooms.entry(to).or_insert((room, Vec::new()));
            ids.extend(self.table.hand_over(&device, origin(to), room, now));
            if self.table.waits(&device) {
                self.movers.waiting.insert(device);
            }
        }
        let mut batches = Vec::new();
        for (to, (_, ids)) in rooms.into_iter().filter(|(_, (_, ids))| !ids.is_empty()) {
            self.movers.asked.insert(to);
            batches.push(self.batch(to, ids, true, now));
        }
        if now.steady >= self.movers.again_ms && !self.has(Bug::AsksOnce) {
            self.movers.again_ms = now.steady + ASK_AGAIN_MS;
            batches.extend(self.ask_again(now));
        }
        batches
    }

    fn ask_again(&mut self, now: Now) -> Vec<Batch> {
        let mut by_node: BTreeMap<usize, Vec<CommandId>> = BTreeMap::new();
        for id in self.table.unsure(1_024) {
            let Some(away) = self.table.get(id).and_then(|entry| entry.away) else { continue };
            let to = node_of(away.to);
            let ids = by_node.entry(to).or_default();
            if !self.movers.asked.contains(&to) && ids.len() < BATCH_MAX {
                ids.push(id);
            }
        }
        by_node.retain(|_, ids| !ids.is_empty());
        self.movers.asked.extend(by_node.keys());
        by_node.into_iter().map(|(to, ids)| self.batch(to, ids, false, now)).collect()
    }

    fn batch(&self, to: usize, ids: Vec<CommandId>, is_first: bool, now: Now) -> Batch {
        let mut moves = moves_of(&self.table, origin(self.place), &ids, now);
        if self.has(Bug::TermStands) {
            for one in &mut moves {
                let Some(mut entry) = record::decode(&one.id, &one.record) else { continue };
                entry.away.iter_mut().for_each(|away| away.term = 1);
                one.record = record::encode(&entry);
            }
        }
        Batch { to, ids, moves, is_first }
    }

    /// A question is out; it may be answered yet, whatever becomes of the round that asked.
    pub fn is_out(&mut self, to: usize) {
        self.movers.out.insert(to);
    }

    /// What came of a question is in the mail.
    pub fn told(&mut self, batch: Batch, answer: Answer) {
        self.movers.out.remove(&batch.to);
        self.mail.moves.push((batch, answer));
    }

    pub(super) fn take_moves(&mut self, batch: &Batch, answer: Answer, now: Now) {
        self.movers.asked.remove(&batch.to);
        let waiting = std::mem::take(&mut self.movers.waiting);
        waiting.iter().for_each(|device| self.table.session_came(device));
        let to: OriginId = origin(batch.to);
        match answer {
            Answer::Said(answers) => {
                for (id, answer) in batch.ids.iter().zip(answers) {
                    match answer {
                        MovedV2::Taken => self.table.moved(*id, to, now),
                        MovedV2::NotHere | MovedV2::Refused => self.table.stays(*id, to, now),
                    }
                }
            }
            Answer::Unreachable if batch.is_first || self.has(Bug::UnreachableMeansNo) => {
                batch.ids.iter().for_each(|id| self.table.stays(*id, to, now));
            }
            Answer::Unreachable | Answer::Unanswered => {}
        }
    }

    /// Another node hands commands over: they are judged, and what is taken is appended. It is answered when that is durable.
    pub fn asked(
        &mut self,
        question: u64,
        moves: &[MoveV2],
        log: &mut Log,
        now: Now,
        is_full: bool,
        history: &mut History,
    ) {
        let here: BTreeSet<String> = self.sessions.values().map(|session| session.client.clone()).collect();
        let is_here = |device: &str| here.contains(device);
        let (mut judged, mut forgotten) = (Vec::new(), 0);
        for one in moves {
            let said = self.desk.judge(one, &self.table, |device, _| is_here(device), now);
            let Some(mut said) = said else {
                history.note(Fact::Weather { node: self.place, what: "it is being taken" });
                if self.has(Bug::TakingIsForgotten) {
                    forgotten += 1;
                }
                break;
            };
            if matches!(said, Judged::Declined(..)) {
                history.note(Fact::Weather { node: self.place, what: "declined" });
                if self.has(Bug::DeclinedIsForgotten) {
                    let again = Desk::default().judge(one, &self.table, |device, _| is_here(device), now);
                    said = again.unwrap_or(said);
                }
            }
            if let (Judged::New(_, step), true) = (&mut said, self.has(Bug::ArrivalIsForgotten))
                && let Step::Queued(queued) = &mut step.step
            {
                queued.taken.iter_mut().for_each(|taken| (taken.may_have_arrived, taken.attempts) = (false, 0));
            }
            judged.push(said);
        }
        let is_new = judged.iter().any(|one| one.step().is_some());
        let mut reply = Reply { question, said: judged.iter().map(Judged::taken).collect(), judged, ticket: None };
        if is_new && is_full {
            reply.said = self.desk.refuse(&reply.judged, now);
        } else if is_new {
            for (device, step) in reply.judged.iter().filter_map(Judged::step) {
                log.open.steps.push(Logged { device: device.to_owned(), event: step.clone(), is_own: false });
            }
            let ticket = log.ticket();
            reply.ticket = Some(ticket).filter(|_| !self.has(Bug::SaysTakenBeforeDurable));
        }
        reply.said.extend((0..forgotten).map(|_| MovedV2::NotHere));
        self.replies.push(reply);
    }
}
