//! How far commands are at a linked site, for those who look at them at the headquarters: the newest word alone, best effort.
//!
//! Nothing is stored of it, and nothing follows from it: a word that is lost is replaced by the next one, and the end is told in
//! a way of its own.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use devices::command::{CommandId, State};
use serde::{Deserialize, Serialize};
use sled_data::OriginId;

use super::super::Commands;
use super::super::info::AtSite;
use super::notes::Phase;
use super::wire::{TOLD_MAX, decode_as, encode_as};
use crate::sessions::Whereabouts;

/// The version byte of progress, where an end has another one.
pub(super) const VERSION_PROGRESS: u8 = 2;
/// The version byte before what a node of the site hands on of it.
pub(in crate::commands) const VERSION_HANDED_ON: u8 = 7;
/// Commands of one link that are to be told of: as many as it may have brought.
const CHANGED_MAX: usize = 4_096;
/// Commands of which it is known how far they are at their sites; beyond that, of those that have ended it is forgotten first.
const KNOWN_MAX: usize = 16_384;

/// How far a command is at a gateway. Frozen: another shape is another version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct ProgressV2 {
    id: [u8; 16],
    /// The word of the state.
    state: String,
    attempts: u32,
    percent: Option<u8>,
    /// Whether its device is connected there.
    is_connected: bool,
}

/// Commands that an edge has something new to tell of, by links.
#[derive(Debug, Default)]
pub(super) struct Changed(BTreeMap<u64, OfLink>);

/// Those of one link, and the last one that was told of.
#[derive(Debug, Default)]
struct OfLink {
    ids: BTreeSet<CommandId>,
    last: Option<CommandId>,
}

impl Changed {
    pub(super) fn add(&mut self, link: u64, id: CommandId) {
        let of_link = self.0.entry(link).or_default();
        if of_link.ids.len() < CHANGED_MAX {
            of_link.ids.insert(id);
        }
    }

    /// Takes some of a link: those behind the ones that were taken before, and then from the first on, so that busy ones hold up no others.
    fn take(&mut self, link: u64) -> Vec<CommandId> {
        let Some(of_link) = self.0.get_mut(&link) else { return Vec::new() };
        let after = of_link.last.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = of_link.ids.range((after, Bound::Unbounded));
        let some: Vec<CommandId> = behind.chain(&of_link.ids).take(TOLD_MAX.min(of_link.ids.len())).copied().collect();
        for id in &some {
            of_link.ids.remove(id);
        }
        of_link.last = some.last().copied().or(of_link.last);
        some
    }
}

/// What gateways have told last.
#[derive(Debug, Default)]
pub(super) struct Told(HashMap<CommandId, (OriginId, AtSite)>);

impl Told {
    fn put(&mut self, id: CommandId, gateway: OriginId, at: AtSite, is_open: impl Fn(CommandId) -> bool) {
        if self.0.len() >= KNOWN_MAX && !self.0.contains_key(&id) {
            self.0.retain(|id, _| is_open(*id));
        }
        if self.0.len() < KNOWN_MAX || self.0.contains_key(&id) {
            self.0.insert(id, (gateway, at));
        }
    }
}

impl Commands {
    /// A command has come further: the link that has brought it is told.
    pub(in crate::commands) fn note_progress(&self, id: CommandId) {
        let note = self.down.notes.lock().get(id);
        if let Some(note) = note.filter(|note| note.phase == Phase::Open) {
            self.down.changed.lock().add(note.link, id);
        }
    }

    /// How far commands are that a link has brought, where that is new; all of them, a part at a time, where upstream has
    /// come `anew`.
    pub async fn progress_from_above(&self, link: u64, anew: bool) -> Option<Vec<u8>> {
        if anew {
            let open = self.down.notes.lock().open(link);
            let mut changed = self.down.changed.lock();
            open.into_iter().for_each(|id| changed.add(link, id));
        }
        let ids = self.down.changed.lock().take(link);
        if ids.is_empty() {
            return None;
        }
        let newest = *self.newest.lock();
        if let Some(ticket) = newest {
            self.log.durable(ticket).await.ok()?;
        }
        let mut told: Vec<ProgressV2> = Vec::new();
        for id in ids {
            match self.progress_of(id) {
                Some(progress) => told.push(progress),
                // What was taken a moment ago is not in the table yet: it is told the next time.
                None => self.note_progress(id),
            }
        }
        (!told.is_empty()).then(|| encode_as(VERSION_PROGRESS, &told))
    }

    fn progress_of(&self, id: CommandId) -> Option<ProgressV2> {
        let info = self.get(id).filter(|info| !info.state.is_outcome())?;
        let percent = info.result.as_ref().and_then(|result| result.answer.percent);
        let here = || AtSite {
            state: info.state,
            attempts: info.attempts,
            percent,
            device_connected: self.where_to(&info.device, &info.name) != Whereabouts::Nowhere,
        };
        // It may be further on its way to a site behind this one.
        let at = info.at_site.clone().unwrap_or_else(here);
        Some(ProgressV2 {
            id: *id.as_bytes(),
            state: at.state.as_str().to_owned(),
            attempts: at.attempts,
            percent: at.percent,
            is_connected: at.device_connected,
        })
    }

    /// A gateway tells how far commands are. Those that another node of the site has given are handed on to it.
    pub(super) fn progress_below(&self, gateway: OriginId, told: &[u8]) {
        if self.take_progress(gateway, told) {
            return;
        }
        let Some(forward) = self.forward.get().map(Arc::clone) else { return };
        let is_handing_on = Arc::clone(&self.down.is_handing_on);
        if is_handing_on.swap(true, Relaxed) {
            // One word at a time: the next one says more.
            return;
        }
        let request = [&[VERSION_HANDED_ON][..], &gateway.0.to_be_bytes(), told].concat();
        let others = self.log.others();
        tokio::spawn(async move {
            for origin in others {
                // Who does not hear it hears the next word.
                let _ = forward.submit(origin, request.clone()).await;
            }
            is_handing_on.store(false, Relaxed);
        });
    }

    /// Another node hands on what a gateway has told it.
    pub(in crate::commands) fn take_handed_on(&self, request: &[u8]) -> Vec<u8> {
        let read = request.strip_prefix(&[VERSION_HANDED_ON]).and_then(<[u8]>::split_first_chunk::<8>);
        if let Some((gateway, told)) = read {
            self.take_progress(OriginId(u64::from_be_bytes(*gateway)), told);
        }
        Vec::new()
    }

    /// Takes what is told of commands that this node has given; whether that was all.
    fn take_progress(&self, gateway: OriginId, told: &[u8]) -> bool {
        let told: Vec<ProgressV2> = decode_as(VERSION_PROGRESS, told).unwrap_or_default();
        let mut is_all = true;
        for one in told.into_iter().take(TOLD_MAX) {
            let id = CommandId::from_bytes(one.id);
            let Some(state) = State::from_name(&one.state).filter(|state| !state.is_outcome()) else { continue };
            let Some(gateway) = self.gave(id, gateway) else {
                is_all = false;
                continue;
            };
            let percent = one.percent.filter(|percent| *percent <= 100);
            let at = AtSite { state, attempts: one.attempts, percent, device_connected: one.is_connected };
            let table = self.table.lock();
            let is_open = |id| table.get(id).is_some_and(|entry| !entry.progress.state().is_outcome());
            self.down.told.lock().put(id, gateway, at, is_open);
            drop(table);
            // This may be an edge itself.
            self.note_progress(id);
        }
        is_all
    }

    /// How far a command is at the gateway that has it.
    pub(in crate::commands) fn at_site(&self, id: CommandId, gateway: u64) -> Option<AtSite> {
        let told = self.down.told.lock();
        told.0.get(&id).filter(|(by, _)| by.0 == gateway).map(|(_, at)| at.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn progress_has_these_bytes() {
        let told =
            vec![ProgressV2 { id: [7; 16], state: "sent".into(), attempts: 2, percent: Some(5), is_connected: true }];
        let golden = [&[2, 1][..], &[7; 16], b"\x04sent\x02\x01\x05\x01"].concat();
        assert_eq!(
            (encode_as(VERSION_PROGRESS, &told), decode_as(VERSION_PROGRESS, &golden)),
            (golden.clone(), Some(told))
        );
    }

    #[test]
    fn what_is_kept_of_it_is_bounded() {
        let id = |n: u64| CommandId::v7(n, [0; 10]);
        let at = AtSite { state: State::Sent, attempts: 1, percent: None, device_connected: true };
        let mut told = Told::default();
        let gateway = OriginId(1);
        (0..2 * KNOWN_MAX as u64).for_each(|n| told.put(id(n), gateway, at.clone(), |_| true));
        assert_eq!(told.0.len(), KNOWN_MAX);
        // Of those that have ended it is forgotten.
        told.put(id(u64::MAX >> 16), gateway, at, |of| of < id(10));
        assert_eq!(told.0.len(), 11);
        let mut changed = Changed::default();
        (0..100).for_each(|n| changed.add(1, id(n % 70)));
        assert_eq!([1, 1, 1, 2].map(|link| changed.take(link).len()), [TOLD_MAX, 70 - TOLD_MAX, 0, 0]);
    }

    #[test]
    fn busy_commands_hold_up_no_others() {
        let id = |n: u64| CommandId::v7(n, [0; 10]);
        let all: BTreeSet<CommandId> = (0..3 * TOLD_MAX as u64 + 1).map(id).collect();
        let (mut changed, mut told) = (Changed::default(), BTreeSet::new());
        for _ in 0..4 {
            // All come further all the time.
            all.iter().for_each(|id| changed.add(1, *id));
            let some: BTreeSet<CommandId> = changed.take(1).into_iter().collect();
            assert_eq!(some.len(), TOLD_MAX, "each once");
            told.extend(some);
        }
        assert!(told == all, "{} of {} are told", told.len(), all.len());
    }
}
