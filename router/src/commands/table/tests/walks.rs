//! Random walks over many devices: indexes, outcomes, order, and a restart at any moment.

use std::collections::{BTreeMap, HashSet};

use proptest::prelude::*;

use super::*;
use crate::commands::entry::Entry;

#[derive(Debug, Clone)]
enum Act {
    Submit { device: usize, urgent: bool, key: bool, never: bool },
    Offer(u64),
    Unsent(u64),
    Drop(u64),
    Deliver(u64),
    Answer(u64, usize),
    Cancel(u64),
    Judge(u64, usize),
    Pass(u64),
    HandOver(usize),
    Moved(u64),
    Stays(u64),
    Store,
    Restart,
}

fn act() -> impl Strategy<Value = Act> {
    let submit = (0..3usize, any::<bool>(), any::<bool>(), any::<bool>());
    prop_oneof![
        5 => submit.prop_map(|(device, urgent, key, never)| Act::Submit { device, urgent, key, never }),
        5 => (0..3u64).prop_map(Act::Offer),
        1 => (0..40u64).prop_map(Act::Unsent),
        2 => (0..40u64).prop_map(Act::Drop),
        2 => (0..40u64).prop_map(Act::Deliver),
        3 => ((0..40u64), 0..5usize).prop_map(|(n, status)| Act::Answer(n, status)),
        1 => (0..40u64).prop_map(Act::Cancel),
        3 => ((0..40u64), 0..4usize).prop_map(|(n, verdict)| Act::Judge(n, verdict)),
        2 => (0..400u64).prop_map(Act::Pass),
        1 => (0..3usize).prop_map(Act::HandOver),
        1 => (0..40u64).prop_map(Act::Moved),
        2 => (0..40u64).prop_map(Act::Stays),
        1 => Just(Act::Store),
        1 => Just(Act::Restart),
    ]
}

/// What the indexes must say, counted anew from the entries.
fn check_indexes(table: &Table) -> Result<(), TestCaseError> {
    let pending: Vec<&Entry> = table.entries().filter(|entry| !entry.progress.state().is_outcome()).collect();
    prop_assert_eq!(table.pending(), pending.len());
    prop_assert_eq!(table.pending_bytes, pending.iter().map(|entry| entry.bytes()).sum::<usize>());
    prop_assert_eq!(table.deadlines.len(), pending.len());
    for entry in &pending {
        prop_assert!(table.deadlines.contains(&(entry.deadline().unwrap(), entry.id)));
    }
    prop_assert_eq!(table.shared, pending.iter().filter(|entry| entry.away.is_some()).count());
    let unsure = pending.iter().filter(|entry| entry.away.is_some_and(|away| !away.is_sure));
    prop_assert_eq!(table.unsure.clone(), unsure.map(|entry| entry.id).collect());
    let mut asked = 0;
    for (name, device) in &table.devices {
        let own = pending.iter().filter(|entry| entry.device == *name);
        let count = |state| own.clone().filter(|entry| entry.progress.state() == state).count();
        let lanes = [device.lane(false), device.lane(true)];
        prop_assert_eq!(
            lanes.iter().map(|lane| lane.queue.len()).sum::<usize>(),
            own.clone().filter(|entry| entry.waits_here()).count()
        );
        prop_assert_eq!(lanes.iter().map(|lane| lane.in_flight.len()).sum::<usize>(), count(State::Sent));
        prop_assert_eq!(device.pending, own.clone().count());
        prop_assert_eq!(device.bytes, own.clone().map(|entry| entry.bytes()).sum::<usize>());
        prop_assert!(device.pending > 0);
        asked += own.filter(|entry| device.ask(entry.order) == Some(super::super::device::Ask::Asked)).count();
    }
    prop_assert_eq!(table.asked, asked);
    Ok(())
}

/// What a restart must find again of a command: how far it is, what it holds, what became of it.
type Essence =
    ((State, u32, u32, Option<crate::commands::Away>), Vec<u8>, (Option<WhyCode>, bool), Option<Vec<u8>>, usize);

fn essence(entry: &Entry) -> Essence {
    (
        (entry.progress.state(), entry.progress.attempts(), entry.steps, entry.away),
        entry.queued.payload.0.clone(),
        (entry.why.as_ref().map(|why| why.code), entry.overridden.is_some()),
        entry.result.as_ref().map(|answer| answer.payload.0.clone()),
        entry.recipients.len(),
    )
}

/// The log and the store of a walk, as the room keeps them.
#[derive(Default)]
struct Kept {
    log: Vec<(String, StepEvent)>,
    stored: BTreeMap<CommandId, Entry>,
    stored_at: usize,
}

impl Kept {
    /// All is stored, now.
    fn store(&mut self, table: &Table) {
        self.stored = table.entries().map(|entry| (entry.id, entry.clone())).collect();
        self.stored_at = self.log.len();
    }

    /// The table of a node that died: what was stored, and the log behind it.
    fn restart(&self, config: &Config, at: Now) -> Table {
        let mut table = Table::restore(config.clone(), self.stored.values().cloned().collect());
        // Some of what is stored is read again: the cursor lags.
        for (device, event) in &self.log[self.stored_at.saturating_sub(5)..] {
            table.replay(device, event.clone(), at);
        }
        table.take_effects();
        table
    }
}

/// What must never be seen in the effects of a table.
#[derive(Default)]
struct Seen {
    ended: HashSet<CommandId>,
    offers: BTreeMap<CommandId, u32>,
}

impl Seen {
    fn look(&mut self, table: &Table, effect: &Effect) -> Result<(), TestCaseError> {
        match effect {
            Effect::Ended(ended) => prop_assert!(self.ended.insert(ended.id), "{} ended twice", ended.id),
            Effect::Offer(id, _) => {
                prop_assert!(!self.ended.contains(id), "{id} was offered after its end");
                let times = self.offers.entry(*id).or_default();
                *times += 1;
                let entry = table.get(*id).unwrap();
                prop_assert!(entry.progress.attempts() <= table.config.deliveries_max);
            }
            Effect::Append(_, event) => {
                let is_last =
                    matches!(event.step, Step::Expired | Step::Cancelled(_) | Step::Superseded(_) | Step::Refused(_));
                let attempts = table.get(event.id).map_or(0, |entry| entry.progress.attempts());
                prop_assert!(!is_last || attempts == 0, "it may have arrived: {:?}", event.step);
            }
            _ => {}
        }
        Ok(())
    }
}

fn judgement(n: usize) -> Judgement {
    let guard = "g".to_owned();
    match n {
        0 | 1 => Judgement::Allow,
        2 => Judgement::Rewrite { guard, payload: b"other".to_vec() },
        _ => Judgement::Deny { guard, reason: "no".into() },
    }
}

fn walk(acts: Vec<Act>, guarded: bool) -> Result<(), TestCaseError> {
    let config = Config {
        pending_per_device_max: 6,
        in_flight_per_device_max: 2,
        ended_max: 5,
        deliveries_max: 3,
        ..Config::default()
    };
    let mut table = Table::new(config.clone());
    let (mut kept, mut seen) = (Kept::default(), Seen::default());
    let (mut time, mut next) = (0, 0);
    for act in acts {
        time += 1;
        let at = now(time);
        match act {
            Act::Submit { device, urgent, key, never } => {
                let device = ["d", "e", "f"][device];
                let queued = Queued {
                    urgent,
                    supersede: key.then(|| "key".to_owned()),
                    repeat: if never { Repeat::Never } else { Repeat::Safe },
                    ..queued(1_000, at)
                };
                kept.log.push((device.to_owned(), StepEvent::queued(id(next), at.wall, queued.clone())));
                table.queued(device, id(next), at.wall, queued, at);
                next += 1;
            }
            Act::Offer(session) => offer_with(&mut table, session, guarded, at),
            Act::Unsent(n) => (0..3).for_each(|session| table.unsent(id(n), session, at)),
            Act::Drop(n) => (0..3).for_each(|session| table.dropped(id(n), session, false, at)),
            Act::Deliver(n) => (0..3).for_each(|session| table.delivered(id(n), session, at)),
            Act::Answer(n, status) => {
                let device = table.get(id(n)).map_or("d".into(), |entry| Arc::clone(&entry.device));
                let answer = Answered { device: &device, ..answer(n, Status::ALL[status], n % 3) };
                let _ = table.answered(answer, at);
            }
            Act::Cancel(n) => {
                let _ = table.cancel(id(n), "cli", at);
            }
            Act::Judge(n, verdict) => table.judged(id(n), judgement(verdict), at),
            Act::Pass(ms) => {
                time += ms;
                table.tick(now(time));
            }
            Act::HandOver(device) => {
                let mut room = super::super::Room { count: 2, bytes: 1 << 20 };
                table.hand_over(["d", "e", "f"][device], sled_data::OriginId(1), &mut room, at);
            }
            Act::Moved(n) => table.moved(id(n), sled_data::OriginId(1), at),
            Act::Stays(n) => table.stays(id(n), sled_data::OriginId(1), at),
            Act::Store => kept.store(&table),
            Act::Restart => {
                let found = kept.restart(&config, at);
                for entry in table.entries().filter(|entry| !entry.progress.state().is_outcome()) {
                    let found = found.get(entry.id).map(essence);
                    prop_assert_eq!(found, Some(essence(entry)));
                }
                prop_assert_eq!(found.pending(), table.pending());
                table = found;
                table.resume(|_| false, at);
            }
        }
        check_indexes(&table)?;
        for effect in table.take_effects() {
            seen.look(&table, &effect)?;
            if let Effect::Append(device, event) = effect {
                kept.log.push((device.to_string(), event));
            }
        }
    }
    prop_assert!(table.entries().filter(|entry| entry.progress.state().is_outcome()).count() <= 5);
    Ok(())
}

proptest! {
    #[test]
    fn a_walk_keeps_its_promises(acts in proptest::collection::vec(act(), 0..150)) {
        walk(acts, false)?;
    }

    #[test]
    fn a_guarded_walk_keeps_them_too(acts in proptest::collection::vec(act(), 0..150)) {
        walk(acts, true)?;
    }
}
