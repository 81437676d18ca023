//! Commands to devices of linked sites: with which gateway they are, and what that says of them.
//!
//! A gateway keeps no log that is read here. So what it says is written down here as well: the step that ends the command is
//! this node's, the outcome is the gateway's.

use std::collections::BTreeSet;
use std::ops::Bound;
use std::sync::Arc;

use devices::command::{Answer, CommandId, Input, Refusal, State, Status, Step, Why, WhyCode};
use sled_data::OriginId;

use super::{CancelError, Now, Room, Table};
use crate::commands::down::is_at_site;
use crate::commands::entry::{Away, Entry};
use crate::event_log::SITE_SEPARATOR;

const FIRST: CommandId = CommandId::from_bytes([0; 16]);
const LAST: CommandId = CommandId::from_bytes([0xff; 16]);

/// Commands by the gateway that has them, or may: those first of which it is not known.
#[derive(Debug, Default)]
pub(super) struct AtSites {
    ids: BTreeSet<(OriginId, bool, CommandId)>,
    /// Those that a gateway is asked about again although it has said that it has them: it has come anew.
    again: BTreeSet<(OriginId, CommandId)>,
    /// Those that a gateway has for certain and is to be asked to call off.
    call_offs: BTreeSet<(OriginId, CommandId)>,
}

impl AtSites {
    /// Notes where a command is from now on; `None`: with no gateway any more.
    pub(super) fn set(&mut self, entry: &Entry, away: Option<Away>) {
        if !is_at_site(&entry.device) {
            return;
        }
        match (away, entry.away) {
            (Some(away), _) => {
                self.ids.insert((away.to, away.is_sure, entry.id));
                if away.is_sure && entry.called_off.is_some() {
                    self.call_offs.insert((away.to, entry.id));
                }
            }
            (None, Some(before)) => {
                self.ids.remove(&(before.to, before.is_sure, entry.id));
                self.again.remove(&(before.to, entry.id));
                self.call_offs.remove(&(before.to, entry.id));
            }
            (None, None) => {}
        }
    }
}

/// How a command ended at its site.
#[derive(Debug, Clone, PartialEq)]
pub struct SiteEnd {
    /// The outcome.
    pub outcome: State,
    /// What the device answered.
    pub answer: Option<Answer>,
    /// Why, where the device did not say so.
    pub why: Option<Why>,
}

impl SiteEnd {
    /// An end without the device's word.
    pub fn because(outcome: State, why: Why) -> Self {
        Self { outcome, answer: None, why: Some(why) }
    }

    /// The end that a step tells of.
    pub(super) fn of(step: &Step) -> Option<Self> {
        let outcome = step.outcome()?;
        let (answer, why) = match step {
            Step::Succeeded(answer) | Step::Failed(answer) | Step::Rejected(answer) => (Some(answer.clone()), None),
            Step::Unknown(why) | Step::Refused(why) | Step::Cancelled(why) | Step::Superseded(why) => {
                (None, Some(why.clone()))
            }
            _ => (None, None),
        };
        Some(Self { outcome, answer, why })
    }

    /// The step that says so; `None` where it says of no outcome.
    fn step(&self) -> Option<Step> {
        let answer = || self.answer.clone().unwrap_or_default();
        let why = || self.why.clone().unwrap_or_else(|| Why::code(WhyCode::NodeLost));
        Some(match self.outcome {
            State::Succeeded => Step::Succeeded(answer()),
            State::Failed => Step::Failed(answer()),
            State::Rejected => Step::Rejected(answer()),
            State::Expired => Step::Expired,
            State::TimedOut => Step::TimedOut,
            State::Unknown => Step::Unknown(why()),
            State::Refused => Step::Refused(why()),
            State::Cancelled => Step::Cancelled(why()),
            State::Superseded => Step::Superseded(why()),
            _ => return None,
        })
    }

    /// Puts what is known of the end into a command.
    pub(super) fn put(self, entry: &mut Entry) {
        if let Some(answer) = self.answer {
            entry.result = Some(Box::new(answer));
            entry.answered = Status::ALL.into_iter().find(|status| status.state() == self.outcome);
        }
        entry.why = self.why.map(Box::new).or(entry.why.take());
    }
}

impl Table {
    /// A gateway of a site can be asked now: what waits for the site's devices can go there.
    pub fn site_came(&mut self, site: &str) {
        let prefix = format!("{site}{SITE_SEPARATOR}");
        let from = self.devices.range(Arc::<str>::from(prefix.as_str())..);
        let of_site = from.map(|(device, _)| device).take_while(|device| device.starts_with(&prefix));
        self.wanting.extend(of_site.cloned());
    }

    /// Links have changed: it is looked for a way for all that waits for devices of sites.
    pub fn sites_changed(&mut self) {
        let at_sites = self.devices.iter().filter(|(device, known)| is_at_site(device) && known.waits());
        self.wanting.extend(at_sites.map(|(device, _)| Arc::clone(device)));
    }

    /// Refuses what waits for a site and was submitted before a place in the order of all, at most `max` commands; whether that was all.
    pub fn refuse_at_site(&mut self, site: &str, before: u64, why: &Why, max: usize, now: Now) -> bool {
        let prefix = format!("{site}{SITE_SEPARATOR}");
        let from = self.devices.range(Arc::<str>::from(prefix.as_str())..);
        let of_site = from.take_while(|(device, _)| device.starts_with(&prefix)).map(|(_, device)| device);
        let waiting = of_site.flat_map(|device| [true, false].map(|urgent| device.lane(urgent).queue.range(..before)));
        let mut over: Vec<CommandId> = waiting.flatten().map(|(_, id)| *id).take(max + 1).collect();
        let is_all = over.len() <= max;
        over.truncate(max);
        over.into_iter().for_each(|id| self.refuse(id, why.clone(), now));
        is_all
    }

    /// Whether commands of a site wait here.
    pub fn waits_for_site(&self, site: &str) -> bool {
        let prefix = format!("{site}{SITE_SEPARATOR}");
        let from = self.devices.range(Arc::<str>::from(prefix.as_str())..);
        from.take_while(|(device, _)| device.starts_with(&prefix)).any(|(_, device)| device.waits())
    }

    /// The gateways that have commands which have not ended, or may have.
    pub fn gateways_with_commands(&self) -> Vec<OriginId> {
        let mut found: Vec<OriginId> = Vec::new();
        let after = |last: Option<&OriginId>| match last {
            Some(last) => self.at_sites.ids.range((Bound::Excluded((*last, true, LAST)), Bound::Unbounded)).next(),
            None => self.at_sites.ids.first(),
        };
        while let Some((gateway, ..)) = after(found.last()) {
            found.push(*gateway);
        }
        found
    }

    /// How many commands a gateway has, or may have.
    pub fn under_way_to(&self, gateway: OriginId) -> usize {
        self.at_sites.ids.range((gateway, false, FIRST)..=(gateway, true, LAST)).count()
    }

    /// Commands of which it is not known whether a gateway has them, or has them still, as far as there is room; one at least.
    pub fn unsure_at(&self, gateway: OriginId, mut room: Room) -> Vec<CommandId> {
        let mut found = Vec::new();
        for id in self.all_unsure_at(gateway) {
            let bytes = self.get(id).map_or(0, Entry::bytes);
            if room.count == 0 || (room.bytes < bytes && !found.is_empty()) {
                break;
            }
            (room.count, room.bytes) = (room.count - 1, room.bytes.saturating_sub(bytes));
            found.push(id);
        }
        found
    }

    /// Whether there are such, or some that it is to be asked to call off.
    pub fn is_unsure_at(&self, gateway: OriginId) -> bool {
        self.all_unsure_at(gateway).next().is_some() || !self.call_offs_at(gateway, None, 1).is_empty()
    }

    /// Commands that a gateway is to be asked to call off, at most `max`: those behind `after`, and then from the first on.
    pub fn call_offs_at(&self, gateway: OriginId, after: Option<CommandId>, max: usize) -> Vec<CommandId> {
        let (first, last) = (Bound::Included((gateway, FIRST)), Bound::Included((gateway, LAST)));
        let ids = &self.at_sites.call_offs;
        let behind = ids.range((after.map_or(first, |after| Bound::Excluded((gateway, after))), last));
        let before = after.map(|after| ids.range((first, Bound::Included((gateway, after)))));
        behind.chain(before.into_iter().flatten()).take(max).map(|(_, id)| *id).collect()
    }

    /// Somebody calls a command off that is with another node or a gateway, or may be.
    pub(super) fn call_off_elsewhere(&mut self, id: CommandId, by: &str, now: Now) -> CancelError {
        match self.get(id).filter(|entry| is_at_site(&entry.device)) {
            None => return CancelError::Refused(Refusal::AlreadySent),
            Some(entry) if entry.called_off.is_some() => {}
            Some(_) => {
                self.set_called_off(id, Some(by.into()));
                self.append(id, now, Step::CallingOff { by: by.to_owned() });
            }
        }
        CancelError::Asked
    }

    /// A gateway has not called a command off.
    pub fn not_called_off(&mut self, id: CommandId, gateway: OriginId, code: Refusal, now: Now) {
        let is_asked = |entry: &Entry| entry.called_off.is_some() && !entry.progress.state().is_outcome();
        if self.get(id).is_some_and(|entry| is_asked(entry) && entry.away.is_some_and(|away| away.to == gateway)) {
            self.set_called_off(id, None);
            self.append(id, now, Step::NotCalledOff { code });
        }
    }

    /// A gateway calls a command off, and will say how it ended: it is asked no more until it comes anew.
    pub fn calls_off(&mut self, id: CommandId, gateway: OriginId) {
        self.at_sites.call_offs.remove(&(gateway, id));
    }

    /// A gateway knows nothing of a command that it has: it is asked what became of it.
    pub fn is_not_known_at(&mut self, id: CommandId, gateway: OriginId) {
        self.calls_off(id, gateway);
        if self.at_sites.ids.contains(&(gateway, true, id)) {
            self.at_sites.again.insert((gateway, id));
        }
    }

    /// Says who calls a command off, and keeps the indexes right.
    pub(super) fn set_called_off(&mut self, id: CommandId, by: Option<Box<str>>) {
        self.change(id, |entry| entry.called_off = by);
        let Some(entry) = self.entries.get(&id).filter(|entry| !entry.progress.state().is_outcome()) else { return };
        let away = entry.away;
        self.at_sites.set(entry, None);
        self.at_sites.set(entry, away);
    }

    /// Ends a command that was called off while a gateway might have had it, and is known not to be there.
    pub(super) fn end_if_called_off(&mut self, id: CommandId, now: Now) {
        let waits = self.get(id).filter(|entry| entry.waits_here());
        if let Some(by) = waits.and_then(|entry| entry.called_off.clone()) {
            self.end_queued(id, Input::Cancelled, Why::by(WhyCode::Cancelled, by), now);
        }
    }

    fn all_unsure_at(&self, gateway: OriginId) -> impl Iterator<Item = CommandId> {
        let unsure = self.at_sites.ids.range((gateway, false, FIRST)..=(gateway, false, LAST));
        let again = self.at_sites.again.range((gateway, FIRST)..=(gateway, LAST));
        unsure.map(|(_, _, id)| *id).chain(again.map(|(_, id)| *id))
    }

    /// A gateway has come: it is asked about all that it has, as its store may be another one, and it may have told its ends to
    /// another node.
    pub fn ask_all_again(&mut self, gateway: OriginId) {
        let sure = self.at_sites.ids.range((gateway, true, FIRST)..=(gateway, true, LAST));
        let sure: Vec<(OriginId, CommandId)> = sure.map(|(_, _, id)| (gateway, *id)).collect();
        let is_called_off = |id: CommandId| self.get(id).is_some_and(|entry| entry.called_off.is_some());
        let called_off: Vec<_> = sure.iter().filter(|(_, id)| is_called_off(*id)).copied().collect();
        self.at_sites.again.extend(sure);
        self.at_sites.call_offs.extend(called_off);
    }

    /// A gateway has answered about a command.
    pub fn asked_again(&mut self, id: CommandId, gateway: OriginId) {
        self.at_sites.again.remove(&(gateway, id));
    }

    /// The gateway that has a command says how it ended. What one says of a command that it was not asked to take is nothing.
    pub fn ended_at_site(&mut self, id: CommandId, gateway: OriginId, end: SiteEnd, now: Now) {
        let Some(entry) = self.get(id).filter(|entry| entry.away.is_some_and(|away| away.to == gateway)) else {
            return;
        };
        let device = Arc::clone(&entry.device);
        let Some(step) = end.step().filter(|_| is_at_site(&device)) else { return };
        if !self.advance(id, Input::Elsewhere(end.outcome), now).is_some_and(|verdict| verdict.moved()) {
            return;
        }
        self.change(id, |entry| end.put(entry));
        self.append(id, now, step);
        self.settle(id);
        // There is room for another one.
        if let Some((site, _)) = device.split_once(SITE_SEPARATOR) {
            self.site_came(site);
        }
    }
}

#[cfg(test)]
mod tests {
    use devices::command::Queued;

    use super::*;
    use crate::commands::Config;

    #[test]
    fn call_offs_are_asked_for_in_turn() {
        let id = |n: u64| CommandId::v7(n, [0; 10]);
        let mut table = Table::new(Config::default());
        for (gateway, n) in [(6, 0), (7, 1), (7, 2), (7, 3), (8, 4)] {
            table.at_sites.call_offs.insert((OriginId(gateway), id(n)));
        }
        let asked = |after: Option<u64>, max| table.call_offs_at(OriginId(7), after.map(id), max);
        assert_eq!(asked(None, 2), [id(1), id(2)]);
        assert_eq!(asked(Some(2), 2), [id(3), id(1)]);
        assert_eq!(asked(Some(2), 9), [id(3), id(1), id(2)], "each once");
        assert_eq!(asked(Some(9), 9), [id(1), id(2), id(3)]);
        assert_eq!(table.call_offs_at(OriginId(7), Some(LAST), 9).len(), 3);
        assert!(table.call_offs_at(OriginId(9), None, 9).is_empty());
    }

    #[test]
    fn what_is_asked_again_fits_one_question() {
        const GATEWAY: OriginId = OriginId(7);
        const BYTES_MAX: usize = 96 << 10;
        let now = Now { steady: 0, wall: 1_000_000 };
        let mut table = Table::new(Config::default());
        // Questions that were lost, one after another.
        for n in 0..20 {
            let queued = Queued::new("c", vec![0; 16_000], now.wall + 60_000, "cli");
            let device = format!("plant/{n}");
            table.queued(&device, CommandId::v7(n, [0; 10]), now.wall, queued, now);
            table.hand_over(&device, GATEWAY, &mut Room { count: 64, bytes: BYTES_MAX }, now);
        }
        assert!(table.is_unsure_at(GATEWAY) && !table.is_unsure_at(OriginId(8)));
        assert_eq!(table.gateways_with_commands(), [GATEWAY]);
        assert!(!table.waits_for_site("plant"), "all are handed over");
        for (n, device) in [(20, "mill/1"), (21, "plant-2/1")] {
            let queued = Queued::new("c", Vec::new(), now.wall + 60_000, "cli");
            table.queued(device, CommandId::v7(n, [0; 10]), now.wall, queued, now);
        }
        assert_eq!(
            ["mill", "plant", "plant-2", "mil"].map(|site| table.waits_for_site(site)),
            [true, false, true, false]
        );
        table.hand_over("mill/1", OriginId(9), &mut Room { count: 1, bytes: BYTES_MAX }, now);
        assert_eq!(table.gateways_with_commands(), [GATEWAY, OriginId(9)]);
        assert_eq!(table.unsure_at(GATEWAY, Room { count: 64, bytes: BYTES_MAX }).len(), 5);
        assert_eq!(table.unsure_at(GATEWAY, Room { count: 2, bytes: BYTES_MAX }).len(), 2);
        assert_eq!(table.unsure_at(GATEWAY, Room { count: 64, bytes: 1 }).len(), 1, "a large one goes alone");
    }
}
