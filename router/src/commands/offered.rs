//! Commands that another node hands over: what is said of each, and what is done (pure).
//!
//! One that is being taken is not spoken of; one that was declined under a term stays declined under it (`taking`, `declined`).

use std::collections::BTreeSet;

use devices::command::{CommandId, OriginHex, Payload, Queued, Step, StepEvent, Taken};
use serde::{Deserialize, Serialize};
use sled_data::OriginId;

use super::Entry;
use super::declined::Declined;
use super::record;
use super::table::{Now, Table};
use super::taking::Taking;

/// The version byte before a request and before its answer.
pub(super) const VERSION: u8 = 2;

/// A command, as it is handed over. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MoveV2 {
    /// Its id.
    pub id: [u8; 16],
    /// The life of the node that has it.
    pub from: u64,
    /// How long it has been on its way since it was submitted, in milliseconds.
    pub age_ms: u64,
    /// How long it may be delivered yet, in milliseconds.
    pub left_ms: u64,
    /// The command as it is stored.
    pub record: Vec<u8>,
}

/// What became of one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum MovedV2 {
    /// It is the asked node's now.
    Taken,
    /// Its device is not there.
    NotHere,
    /// There is no room for it, or it cannot be read.
    Refused,
}

/// The commands that are handed over, as they are asked about.
pub fn moves_of(table: &Table, own: OriginId, ids: &[CommandId], now: Now) -> Vec<MoveV2> {
    let moves = ids.iter().filter_map(|id| {
        let entry = table.get(*id)?;
        Some(MoveV2 {
            id: *id.as_bytes(),
            from: own.0,
            age_ms: now.wall.saturating_sub(entry.at_ms),
            left_ms: entry.deliver_by.saturating_sub(now.steady),
            record: record::encode(entry),
        })
    });
    moves.collect()
}

/// What is remembered between questions: commands that are being taken, and those that were declined.
#[derive(Default)]
pub struct Desk {
    pub(super) taking: Taking,
    declined: Declined,
}

impl Desk {
    /// What is to be done with a command that another node hands over; it is being taken from then on where it is new. `is_here` says whether
    /// a device takes a command of a name from this node. `None`: nothing may be said of it, nor of those behind it.
    pub fn judge(
        &mut self,
        one: &MoveV2,
        table: &Table,
        is_here: impl FnOnce(&str, &str) -> bool,
        now: Now,
    ) -> Option<Judged> {
        let id = CommandId::from_bytes(one.id);
        if !self.taking.begin(id) {
            return None;
        }
        let judged = self.judge_move(one, table, is_here, now);
        // Before a late question can be judged.
        let is_told = match judged {
            Some(Judged::Declined(_, term)) => self.declined.add(id, term, now.steady),
            Some(Judged::New(..) | Judged::Known(_)) | None => true,
        };
        if !matches!(judged, Some(Judged::New(..))) {
            self.taking.end(id);
        }
        judged.filter(|_| is_told)
    }

    fn judge_move(
        &self,
        one: &MoveV2,
        table: &Table,
        is_here: impl FnOnce(&str, &str) -> bool,
        now: Now,
    ) -> Option<Judged> {
        let id = CommandId::from_bytes(one.id);
        let Some(entry) = record::decode(&one.id, &one.record) else { return Some(Judged::Known(MovedV2::Refused)) };
        let Some(term) = entry.away.map(|away| away.term) else { return Some(Judged::Known(MovedV2::Refused)) };
        if self.declined.has(id, term, now.steady) {
            return Some(Judged::Declined(MovedV2::NotHere, term));
        }
        let bytes = entry.bytes();
        let mut steps = entry.steps;
        if let Some(known) = table.get(id) {
            if !table.comes_back(id, Some(term)) {
                return judge_known(known, &entry, term);
            }
            steps = steps.max(known.steps);
        } else if !table.would_take(&entry.device, bytes, entry.queued.urgent) {
            return Some(Judged::Declined(MovedV2::Refused, term));
        }
        if one.left_ms == 0 || !is_here(&entry.device, &entry.queued.name) {
            return Some(Judged::Declined(MovedV2::NotHere, term));
        }
        let taken = Taken {
            from: OriginHex(one.from),
            term,
            attempts: entry.progress.attempts(),
            may_have_arrived: entry.progress.may_have_arrived(),
            clients: clients(&entry),
            with_device: None,
            is_over: false,
            gateway: None,
            called_off: None,
        };
        let device = entry.device.to_string();
        let step = taken_step(entry, steps, taken, (one.age_ms, one.left_ms), now);
        Some(Judged::New(device, Box::new(step)))
    }

    /// Nothing of it can be appended: what was to be taken is declined. The answers, as far as they can be given.
    pub fn refuse(&mut self, judged: &[Judged], now: Now) -> Vec<MovedV2> {
        let declined = &mut self.declined;
        let is_told = |one: &&Judged| one.offered().is_none_or(|(id, term)| declined.add(id, term, now.steady));
        let told = judged.iter().take_while(is_told).map(Judged::refused).collect();
        self.end(judged);
        told
    }

    /// What was to be taken will not be: it may be asked for again.
    pub fn end(&mut self, judged: &[Judged]) {
        judged.iter().filter_map(Judged::step).for_each(|(_, step)| self.taking.end(step.id));
    }

    /// The table knows a command that was taken.
    pub fn taken(&mut self, id: CommandId) {
        self.taking.end(id);
    }

    /// The table is rebuilt: what it knows is being taken no more.
    pub fn end_known(&mut self, is_known: impl Fn(CommandId) -> bool) {
        self.taking.end_known(is_known);
    }
}

/// What is said of a command that is known here, and was not given away by this node as far as it knows. Where it was taken up from this node,
/// which has not heard of that yet, it must not say that it has it: each of the two would wait for the other one then.
fn judge_known(known: &Entry, offered: &Entry, term: u64) -> Option<Judged> {
    let had = known.away.map_or(known.term, |away| away.term.max(known.term));
    let is_derived_twice = known.queued.taken.is_none() && offered.queued.taken.is_none();
    if had >= term || is_derived_twice {
        return Some(Judged::Known(MovedV2::Taken));
    }
    // It has ended here, which who offers it does not go by.
    known.progress.state().is_outcome().then_some(Judged::Declined(MovedV2::Refused, term))
}

/// What is to be done with a command that is handed over.
#[derive(Debug)]
pub enum Judged {
    /// It has it, or cannot read it.
    Known(MovedV2),
    /// With the term that it was offered under.
    Declined(MovedV2, u64),
    /// It takes it: its device, and its first step here.
    New(String, Box<StepEvent>),
}

impl Judged {
    /// The device and the first step of one that is taken.
    pub fn step(&self) -> Option<(&str, &StepEvent)> {
        match self {
            Self::Known(_) | Self::Declined(..) => None,
            Self::New(device, step) => Some((device, step)),
        }
    }

    /// What is new, and the term that it was offered under.
    fn offered(&self) -> Option<(CommandId, u64)> {
        let (_, step) = self.step()?;
        let Step::Queued(queued) = &step.step else { return None };
        Some((step.id, queued.taken.as_ref()?.term))
    }

    /// The answer once what is taken is durable.
    pub fn taken(&self) -> MovedV2 {
        match self {
            Self::Known(moved) | Self::Declined(moved, _) => *moved,
            Self::New(..) => MovedV2::Taken,
        }
    }

    fn refused(&self) -> MovedV2 {
        match self {
            Self::Known(moved) | Self::Declined(moved, _) => *moved,
            Self::New(..) => MovedV2::Refused,
        }
    }
}

/// Client ids that a command was sent to.
pub(super) fn clients(entry: &Entry) -> Vec<String> {
    let clients: BTreeSet<&str> = entry.recipients.iter().map(|(_, client)| &**client).collect();
    clients.into_iter().filter(|client| **client != *entry.device).map(str::to_owned).collect()
}

/// The first step of a command at the node that takes it: what was submitted, and what is known of it. Its number follows
/// those of the node before.
pub(super) fn taken_step(entry: Entry, steps: u32, taken: Taken, (age_ms, left_ms): (u64, u64), now: Now) -> StepEvent {
    let queued = Queued {
        payload: Payload(entry.submitted_payload().to_vec()),
        deliver_by_ms: now.wall.saturating_add(left_ms),
        taken: Some(Box::new(taken)),
        ..entry.queued
    };
    let at_ms = now.wall.saturating_sub(age_ms);
    StepEvent::new(entry.id, at_ms, steps.saturating_add(1), Step::Queued(Box::new(queued)))
}

/// What is said, as bytes.
pub(super) fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    postcard::to_extend(value, vec![VERSION]).unwrap_or_default()
}

/// What was said; `None` where it is of another version, or damaged.
pub(super) fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    match bytes.split_first()? {
        (&VERSION, body) => postcard::from_bytes(body).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_have_these_bytes() {
        let moves = vec![MoveV2 { id: [7; 16], from: 1, age_ms: 2, left_ms: 3, record: vec![9] }];
        let golden = [&[2, 1][..], &[7; 16], &[1, 2, 3, 1, 9]].concat();
        assert_eq!(encode(&moves), golden);
        assert_eq!(decode(&golden), Some(moves));
        let answers = vec![MovedV2::Taken, MovedV2::NotHere, MovedV2::Refused];
        assert_eq!(encode(&answers), [2, 3, 0, 1, 2]);
        assert_eq!(decode(&[2, 3, 0, 1, 2]), Some(answers));
        assert_eq!(decode::<Vec<MovedV2>>(&[1, 3, 0, 1, 2]), None);
    }

    const ASKS: OriginId = OriginId(8);
    const TERM: u64 = 1;

    fn now(steady: u64) -> Now {
        Now { steady, wall: 1_000_000 + steady }
    }

    fn id(n: u64) -> CommandId {
        CommandId::v7(n, [0; 10])
    }

    /// Commands of a device, as they are handed over for the `times`th time.
    fn offered(ns: &[u64], times: u64) -> Vec<MoveV2> {
        let mut table = Table::new(crate::commands::Config::default());
        for n in ns {
            table.queued("d", id(*n), now(0).wall, Queued::new("c", vec![1], now(60_000).wall, "cli"), now(0));
        }
        for time in 1..=times {
            let mut room = crate::commands::Room { count: ns.len(), bytes: 1 << 20 };
            let given = table.hand_over("d", OriginId(7), &mut room, now(1));
            if time < times {
                given.into_iter().for_each(|id| table.stays(id, OriginId(7), now(1)));
            }
        }
        let ids: Vec<CommandId> = ns.iter().map(|n| id(*n)).collect();
        moves_of(&table, ASKS, &ids, now(1))
    }

    /// What is said of one, where something is; whether it is taken.
    fn said(desk: &mut Desk, table: &Table, one: &MoveV2, is_here: bool, at: Now) -> Option<(MovedV2, bool)> {
        let judged = desk.judge(one, table, |_, _| is_here, at)?;
        Some((judged.taken(), judged.step().is_some()))
    }

    #[test]
    fn a_question_that_comes_again_is_answered_as_before() {
        let (taken, not_here) = (Some((MovedV2::Taken, true)), Some((MovedV2::NotHere, false)));
        let mut table = Table::new(crate::commands::Config::default());
        let mut desk = Desk::default();
        let [first, second] = [offered(&[1], TERM).remove(0), offered(&[1], TERM + 1).remove(0)];
        // The device is elsewhere, and comes: what was declined under a term is declined under it, and taken under the next one.
        assert_eq!(said(&mut desk, &table, &first, false, now(2)), not_here);
        assert_eq!(said(&mut desk, &table, &first, true, now(3)), not_here);
        assert_eq!(said(&mut desk, &table, &first, true, now(59_999)), not_here);
        let Some(judged) = desk.judge(&second, &table, |_, _| true, now(4)) else { panic!("nothing is said") };
        let Some((_, step)) = judged.step() else { panic!("it is not taken") };
        // While its first step is on its way nothing is said of it, whatever is so meanwhile.
        assert_eq!(said(&mut desk, &table, &second, true, now(5)), None);
        assert_eq!(said(&mut desk, &table, &first, false, now(5)), None);
        table.submitted("d", step.clone(), now(6));
        assert_eq!(said(&mut desk, &table, &second, true, now(6)), None, "until it is known that the table has it");
        desk.taken(id(1));
        for is_here in [true, false] {
            assert_eq!(said(&mut desk, &table, &second, is_here, now(7)), Some((MovedV2::Taken, false)));
        }
        // One whose time is over, one whose table is full, and bytes that are no command.
        let late = MoveV2 { left_ms: 0, ..offered(&[2], TERM).remove(0) };
        assert_eq!(said(&mut desk, &table, &late, true, now(8)), not_here);
        let none = Table::new(crate::commands::Config { pending_max: 0, ..Default::default() });
        assert_eq!(said(&mut desk, &none, &offered(&[3], TERM)[0], true, now(8)), Some((MovedV2::Refused, false)));
        let other = MoveV2 { record: vec![9], ..offered(&[4], TERM).remove(0) };
        assert_eq!(said(&mut desk, &table, &other, true, now(8)), Some((MovedV2::Refused, false)));
        assert_eq!(said(&mut desk, &table, &offered(&[5], TERM)[0], true, now(9)), taken);
    }

    #[test]
    fn what_cannot_be_appended_is_declined_and_may_be_offered_again() {
        let table = Table::new(crate::commands::Config::default());
        let mut desk = Desk::default();
        let (moves, again) = (offered(&[1, 2], TERM), offered(&[1, 2], TERM + 1));
        let judge = |desk: &mut Desk, moves: &[MoveV2], at| -> Vec<Judged> {
            moves.iter().map_while(|one| desk.judge(one, &table, |_, _| true, at)).collect()
        };
        let judged = judge(&mut desk, &moves, now(2));
        assert_eq!(desk.refuse(&judged, now(2)), [MovedV2::Refused; 2]);
        let late: Vec<MovedV2> = judge(&mut desk, &moves, now(3)).iter().map(Judged::taken).collect();
        assert_eq!(late, [MovedV2::NotHere; 2], "that question was answered");
        let judged = judge(&mut desk, &again, now(4));
        assert_eq!(judged.iter().filter(|one| one.step().is_some()).count(), 2);
        // A commit that failed: it is not known whether it is durable, and it is asked about again.
        desk.end(&judged);
        assert_eq!(judge(&mut desk, &again, now(5)).len(), 2);
        // All are being taken: nothing is said of any.
        assert!(judge(&mut desk, &again, now(6)).is_empty());
        // Nor of those behind the first one that is.
        let more = [offered(&[3], TERM), offered(&[1], TERM + 1), offered(&[4], TERM)].concat();
        assert_eq!(judge(&mut desk, &more, now(7)).len(), 1);
    }

    #[test]
    fn what_was_taken_up_from_here_comes_back_when_that_is_known_here() {
        const SURVIVOR: OriginId = OriginId(9);
        // This node had it, was lost, and is back. A survivor has it under the next term, and gives it back, as its device is here.
        let mut here = Table::new(crate::commands::Config::default());
        here.queued("d", id(1), now(0).wall, Queued::new("c", vec![1], now(60_000).wall, "cli"), now(0));
        let taken = |term| Taken {
            from: OriginHex(ASKS.0),
            term,
            attempts: 0,
            may_have_arrived: true,
            clients: Vec::new(),
            with_device: None,
            is_over: false,
            gateway: None,
            called_off: None,
        };
        let queued = Queued { taken: Some(Box::new(taken(1))), ..Queued::new("c", vec![1], now(60_000).wall, "cli") };
        let taken_up = StepEvent::new(id(1), now(0).wall, 1, Step::Queued(Box::new(queued)));
        let mut there = Table::new(crate::commands::Config::default());
        there.submitted("d", taken_up.clone(), now(1));
        there.hand_over("d", ASKS, &mut crate::commands::Room { count: 1, bytes: 1 << 20 }, now(2));
        let asked = moves_of(&there, SURVIVOR, &[id(1)], now(3)).remove(0);
        let mut desk = Desk::default();
        for at in [4, 5] {
            assert_eq!(
                said(&mut desk, &here, &asked, true, now(at)),
                None,
                "it has it no more, and does not know that"
            );
        }
        here.heard(ASKS, SURVIVOR, "d", &taken_up, now(6));
        assert_eq!(said(&mut desk, &here, &asked, true, now(7)), Some((MovedV2::Taken, true)));
        // Had it ended here before that was known, it is the survivor's to end.
        let mut ended = Table::new(crate::commands::Config::default());
        ended.queued("d", id(1), now(0).wall, Queued::new("c", vec![1], now(5).wall, "cli"), now(0));
        ended.tick(now(6));
        assert_eq!(said(&mut Desk::default(), &ended, &asked, true, now(7)), Some((MovedV2::Refused, false)));
        // The same command of a plugin, derived at both: one of the two is enough.
        let both = offered(&[1], TERM).remove(0);
        let mut derived = Table::new(crate::commands::Config::default());
        derived.queued("d", id(1), now(0).wall, Queued::new("c", vec![1], now(60_000).wall, "cli"), now(0));
        assert_eq!(said(&mut Desk::default(), &derived, &both, true, now(7)), Some((MovedV2::Taken, false)));
    }

    #[test]
    fn what_is_taken_carries_what_is_known_of_it() {
        let mut there = Table::new(crate::commands::Config::default());
        there.queued("d", id(1), now(0).wall, Queued::new("c", vec![1], now(60_000).wall, "cli"), now(0));
        there.hand_over("d", OriginId(7), &mut crate::commands::Room { count: 1, bytes: 1 << 20 }, now(10));
        let asked = moves_of(&there, ASKS, &[id(1)], now(20));
        assert_eq!((asked[0].age_ms, asked[0].left_ms, asked[0].from), (20, 59_980, ASKS.0));
        // The clocks of the two differ by days.
        let here = Now { steady: 5, wall: 9_000_000_000 };
        let table = Table::new(crate::commands::Config::default());
        let judged = Desk::default().judge(&asked[0], &table, |_, _| true, here);
        let Some(Judged::New(device, step)) = judged else { panic!("{judged:?}") };
        let Step::Queued(queued) = &step.step else { panic!("{step:?}") };
        assert_eq!((device.as_str(), step.at_ms, queued.deliver_by_ms), ("d", here.wall - 20, here.wall + 59_980));
        assert_eq!(step.n, 2, "behind `queued` and `moving`");
        let taken = queued.taken.as_deref().map(|taken| (taken.from.0, taken.term, taken.may_have_arrived));
        assert_eq!(taken, Some((ASKS.0, TERM, false)));
    }
}
