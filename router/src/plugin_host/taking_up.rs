//! A plugin takes up the node's duties, between two rounds: it ends what is no longer its own, and begins what is.

use std::collections::BTreeSet;
use std::sync::Arc;

use sled_data::{CopyState, OriginId, PartitionId};

use super::adoption::Before;
use super::carry::{Carry, Chunk};
use super::charge::{CHARGES_TREE, Charge, HeadV1, decode, encode};
use super::charge_index::ChargeIndex;
use super::duties::{Duties, Wanted};
use super::fault::Fault;
use super::manifest::{Manifest, Scope};
use crate::event_log::EventLog;

/// Charges of one plugin that are looked through at once, to end those that have gone on.
const OWN_CHARGES_MAX: usize = 4096;

/// What a plugin reads for now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// The charge; `None` for all that is here.
    pub charge: Option<Charge>,
    /// The term under which it does.
    pub term: u64,
    /// Whether the charge was taken over, so that where it began in each partition is to be recorded.
    pub is_recorded: bool,
}

impl Reading {
    /// Whether it is of a life of this node's own store that has ended: with its state, as if that life went on.
    pub fn is_rest(self, own: OriginId) -> bool {
        !self.is_recorded && matches!(self.charge, Some(Charge::Origin(origin)) if origin != own)
    }

    /// The life whose charge a partition is read under that an earlier one of the same node has written; `None` for any other.
    pub(super) fn later_than(self, id: PartitionId) -> Option<OriginId> {
        match self.charge {
            Some(Charge::Origin(origin)) if origin != id.origin => Some(origin),
            _ => None,
        }
    }
}

/// What became of a plugin's duties.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct TakenUp {
    /// What it reads.
    pub readings: Vec<Reading>,
    /// What it is to read when somebody else has ended it, or when more of that one's commits are here.
    pub waiting: Vec<Charge>,
}

/// Stores a chunk, in one commit; durable on return.
pub type StoreChunk<'a> = dyn FnMut(Chunk) -> Result<(), Fault> + 'a;

/// One plugin and its duties.
pub struct TakingUp<'a> {
    pub log: &'a Arc<EventLog>,
    pub index: &'a ChargeIndex,
    pub manifest: &'a Manifest,
    pub duties: &'a Duties,
}

/// What was found of who had a charge before.
pub(super) enum Found {
    Begins(Option<OriginId>),
    Waits,
}

impl TakingUp<'_> {
    /// Ends and begins what can be; commits go through `store`. To be repeated while something waits; what a crash cut
    /// short is done again.
    ///
    /// # Errors
    /// The store's.
    pub fn run(&self, store: &mut StoreChunk<'_>) -> Result<TakenUp, Fault> {
        let mut taken = TakenUp::default();
        let mut wanted: Vec<Wanted> = Vec::new();
        match self.manifest.scope {
            Scope::Origin => {
                match self.own_origin()? {
                    Ok(term) => taken.readings.push(Reading {
                        charge: Some(Charge::Origin(self.me())),
                        term,
                        is_recorded: false,
                    }),
                    Err(back) => wanted.push(back),
                }
                self.take_rests(&mut taken, &mut wanted, store)?;
                wanted.extend(self.duties.origins());
            }
            Scope::Site if self.duties.is_alone => {
                taken.readings.push(Reading { charge: None, term: 0, is_recorded: false });
            }
            Scope::Site => wanted.extend(self.duties.shares_of(&self.manifest.name)),
        }
        self.end_others(&wanted, store)?;
        for wanted in wanted {
            match self.take(&wanted, store)? {
                true => taken.readings.push(Reading {
                    charge: Some(wanted.charge),
                    term: wanted.term,
                    is_recorded: wanted.charge != Charge::Origin(self.me()),
                }),
                false => taken.waiting.push(wanted.charge),
            }
        }
        Ok(taken)
    }

    pub(super) fn me(&self) -> OriginId {
        self.log.store().origin()
    }

    /// The term of the node's own origin, or the charge that it must take back first.
    fn own_origin(&self) -> Result<Result<u64, Wanted>, Fault> {
        let charge = Charge::Origin(self.me());
        let begun = self.head(self.me(), charge)?.term;
        Ok(match &self.duties.given_away {
            Some(given) if begun.is_none_or(|term| term <= given.term) => {
                Err(Wanted { charge, term: given.term + 1, predecessors: given.to.clone() })
            }
            _ => Ok(begun.unwrap_or(0)),
        })
    }

    /// How a life stands with a charge of this plugin.
    fn head(&self, life: OriginId, charge: Charge) -> Result<HeadV1, Fault> {
        head_of(self.log, life, charge, &self.manifest.name)
    }

    /// Says of charges that have gone on that nothing more is done under their terms.
    fn end_others(&self, wanted: &[Wanted], store: &mut StoreChunk<'_>) -> Result<(), Fault> {
        if self.duties.is_alone {
            return Ok(());
        }
        let name = &self.manifest.name;
        let ended = self.duties.ended.iter().map(|ended| Charge::Origin(ended.origin));
        let mine: BTreeSet<Charge> =
            wanted.iter().map(|wanted| wanted.charge).chain(ended).chain([self.natural()]).collect();
        let mut chunk = Chunk::default();
        let mut over = |charge: Charge, term: u64, head: HeadV1| {
            if !mine.contains(&charge) && head.over < Some(term) {
                chunk.put(CHARGES_TREE, charge.key(name), Some(encode(&HeadV1 { over: Some(term), ..head })));
            }
        };
        for charge in self.own_charges()? {
            let head = self.head(self.me(), charge)?;
            over(charge, head.term.unwrap_or(0), head);
        }
        for handed in &self.duties.handed_on {
            let fits = match handed.charge {
                Charge::Origin(_) => self.manifest.scope == Scope::Origin,
                Charge::Share(_) => handed.plugin.as_ref() == Some(name),
            };
            if fits {
                over(handed.charge, handed.term, self.head(self.me(), handed.charge)?);
            }
        }
        if chunk.is_empty() { Ok(()) } else { store(chunk) }
    }

    fn natural(&self) -> Charge {
        Charge::Origin(self.me())
    }

    fn own_charges(&self) -> Result<BTreeSet<Charge>, Fault> {
        let prefix = super::registry::state_prefix(&self.manifest.name);
        let mut charges = BTreeSet::new();
        let mut after: Option<Vec<u8>> = None;
        while charges.len() < OWN_CHARGES_MAX {
            // From charge to charge, over the partitions of each.
            let next = self.log.state_scan(CHARGES_TREE, &prefix, after.as_deref(), 1);
            let next = next.map_err(|error| Fault::Store(error.to_string()))?;
            let Some((_, charge, _)) = next.first().and_then(|(key, _)| Charge::of_key(key)) else { break };
            charges.insert(charge);
            after = Some([charge.key(&self.manifest.name).as_slice(), &[0xff; 21]].concat());
        }
        Ok(charges)
    }

    /// Begins a charge, unless that is done; false where it cannot be yet.
    fn take(&self, wanted: &Wanted, store: &mut StoreChunk<'_>) -> Result<bool, Fault> {
        let head = self.head(self.me(), wanted.charge)?;
        if head.over >= Some(wanted.term) || head.term > Some(wanted.term) {
            return Ok(false); // it has ended: to be begun again, it must get a higher term
        }
        if head.term == Some(wanted.term) && head.life == self.me().0 {
            return Ok(true);
        }
        let holder = match self.holder(wanted)? {
            Found::Begins(holder) => holder,
            Found::Waits => return Ok(false),
        };
        let me = self.me();
        let before = match holder {
            None => Before::Own,
            Some(holder) if holder == me => Before::Own,
            Some(_) if wanted.charge == self.natural() => Before::Guest,
            Some(_) => Before::Other,
        };
        let lost = self.lost_holder(wanted, holder);
        let (log, index, manifest, duties) = (self.log, self.index, self.manifest, self.duties);
        let goes_on = head.term == Some(wanted.term);
        let carry = Carry { log, index, manifest, duties, wanted, before, holder, lost, goes_on };
        carry.run(store)?;
        let (plugin, charge, term) = (&self.manifest.name, wanted.charge, wanted.term);
        tracing::info!(plugin, ?charge, term, ?holder, "a charge is begun");
        let head = HeadV1 { life: me.0, term: Some(wanted.term), over: head.over };
        let mut last = Chunk::default();
        last.put(CHARGES_TREE, wanted.charge.key(&self.manifest.name), Some(encode(&head)));
        store(last)?;
        Ok(true)
    }

    /// One who had the charge and is gone: it may have done more than is known here.
    fn lost_holder(&self, wanted: &Wanted, holder: Option<OriginId>) -> Option<OriginId> {
        let before = wanted.predecessors.iter().map(|before| before.life);
        holder.into_iter().chain(before).find(|life| *life != self.me() && self.duties.gone.contains_key(life))
    }

    /// Whose cursors and state the charge goes on from.
    fn holder(&self, wanted: &Wanted) -> Result<Found, Fault> {
        let mut newest: Option<(u64, u64, OriginId)> = None;
        let followed = self.log.store().followed().into_iter().map(|(life, followed)| (life, followed.hlc));
        for (life, hlc) in followed.chain([(self.me(), 0)]) {
            if let Some(term) = self.head(life, wanted.charge)?.term {
                // Of a node's lives, the latest has the record of the others, and goes on.
                newest = newest.max(Some((term, hlc, life)));
            }
        }
        let own = self.head(self.me(), wanted.charge)?.term;
        let holder = match newest {
            Some((term, _, _)) if own == Some(term) => Some(self.me()),
            Some((term, _, _)) if term >= wanted.term => return Ok(Found::Waits), // what is wanted is outdated
            Some((_, _, life)) => Some(life),
            None => wanted.charge.natural().map(|life| if self.duties.is_ended(life) { self.me() } else { life }),
        };
        for before in &wanted.predecessors {
            if !self.is_over(before.life, wanted.charge, before.term)? {
                return Ok(Found::Waits);
            }
        }
        let term = newest.map_or(0, |(term, _, _)| term);
        let is_over = holder.map_or(Ok(true), |life| self.is_over(life, wanted.charge, term))?;
        match holder {
            _ if !is_over => Ok(Found::Waits),
            Some(life) if newest.is_none() && life != self.me() => self.teller(life),
            holder => Ok(Found::Begins(holder)),
        }
    }

    /// Whether a life does nothing more under `term` that this node would have to know.
    fn is_over(&self, life: OriginId, charge: Charge, term: u64) -> Result<bool, Fault> {
        if life == self.me() {
            return Ok(true);
        }
        let followed = self.log.store().followed().into_iter().find(|(followed, _)| *followed == life);
        let Some((_, followed)) = followed.filter(|(_, followed)| followed.copy == CopyState::Whole) else {
            return Ok(false);
        };
        match self.duties.gone.get(&life) {
            Some(last) => Ok(followed.commit >= *last),
            None => Ok(self.head(life, charge)?.over >= Some(term)),
        }
    }
}

/// How a life stands with a charge of a plugin, as far as is known here.
///
/// # Errors
/// The store's, or the record is damaged.
pub(super) fn head_of(log: &EventLog, life: OriginId, charge: Charge, plugin: &str) -> Result<HeadV1, Fault> {
    let stored = log.store().state_get_of(life, CHARGES_TREE, &charge.key(plugin));
    match stored.map_err(|error| Fault::Store(error.to_string()))? {
        Some(value) => decode(&value).map_err(Fault::Store),
        None => Ok(HeadV1::default()),
    }
}
