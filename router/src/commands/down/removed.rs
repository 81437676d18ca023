//! Commands that wait for a site whose link is removed: they are refused here, and none goes to whoever gets the site's name next.
//!
//! A link that is removed and a site that is invited again may be seen as one change, by a node that was away or that is behind. So each node stores
//! which gateways a site had while commands waited for it: where it has others alone, its link was removed in between.

use std::collections::{BTreeMap, BTreeSet};

use devices::command::{Why, WhyCode};
use sled_data::OriginId;

use super::super::table::{ENDED_AT_ONCE_MAX, Now, Table};
use super::super::{Commands, OpenError};
use super::wire::{decode, encode};
use crate::event_log::OpenCommit;

/// The small named tree of sites that commands have waited for: the site's name, and its gateways then.
pub const SITES_TREE: &str = "commands-sites";
/// Sites that are remembered: as many as there may be links.
const SITES_MAX: usize = 1_024;
/// Why a command is refused, as the code of it.
const REMOVED: &str = "link-removed";

/// The gateways of sites, as they were when it was looked last what waits for them.
#[derive(Debug, Default)]
pub(in crate::commands) struct Sites {
    known: BTreeMap<String, Known>,
    /// Those that are to be stored.
    changed: BTreeSet<String>,
}

#[derive(Debug, Default)]
struct Known {
    gateways: BTreeSet<OriginId>,
    /// Commands before this place in the table's order waited then.
    before: u64,
}

impl Sites {
    /// As they are stored; all that is in a table which ends before this place was there when they were.
    fn read(stored: &[(Vec<u8>, Vec<u8>)], before: u64) -> Self {
        let site = |(name, gateways): &(Vec<u8>, Vec<u8>)| {
            let gateways = decode::<Vec<u64>>(gateways)?.into_iter().map(OriginId).collect();
            Some((String::from_utf8(name.clone()).ok()?, Known { gateways, before }))
        };
        Self { known: stored.iter().filter_map(site).collect(), changed: BTreeSet::new() }
    }

    /// The place in the table's order before which all that waits for a site is over, as it has other gateways by now.
    fn over_before(&self, site: &str, gateways: &BTreeSet<OriginId>) -> Option<u64> {
        let known = self.known.get(site).filter(|known| known.gateways.is_disjoint(gateways))?;
        (!gateways.is_empty()).then_some(known.before)
    }

    /// Notes the gateways of a site, none where its link is removed. Where there are too many sites, those go for which nothing `waits`.
    fn note(&mut self, site: &str, gateways: BTreeSet<OriginId>, before: u64, waits: impl Fn(&str) -> bool) {
        if gateways.is_empty() {
            if self.known.remove(site).is_some() {
                self.changed.insert(site.to_owned());
            }
            return;
        }
        if !self.known.contains_key(site) && self.known.len() >= SITES_MAX {
            let (known, gone): (BTreeMap<_, _>, BTreeMap<_, _>) =
                std::mem::take(&mut self.known).into_iter().partition(|(name, _)| waits(name));
            self.known = known;
            self.changed.extend(gone.into_keys());
            if self.known.len() >= SITES_MAX {
                return;
            }
        }
        let known = self.known.entry(site.to_owned()).or_default();
        known.before = before;
        if known.gateways != gateways {
            known.gateways = gateways;
            self.changed.insert(site.to_owned());
        }
    }

    /// Whether something is to be stored.
    pub(in crate::commands) fn has_changed(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Puts what has changed into the open commit; whether there was something.
    pub(in crate::commands) fn write(&mut self, open: &mut OpenCommit<'_>) -> bool {
        let changed = std::mem::take(&mut self.changed);
        for site in &changed {
            let gateways = self.known.get(site).map(|known| known.gateways.iter().map(|id| id.0).collect::<Vec<_>>());
            open.put_state(SITES_TREE, site.as_bytes(), gateways.map(|gateways| encode(&gateways)).as_deref());
        }
        !changed.is_empty()
    }
}

impl Commands {
    /// Links were made or removed, or have other gateways: it is looked which commands are over by that.
    pub fn links_changed(&self) {
        self.mail.links_changed();
    }

    /// Reads the gateways that sites had.
    pub(in crate::commands) fn read_sites(&self, table: &Table) -> Result<(), OpenError> {
        let stored = self.log.state_scan(SITES_TREE, &[], None, SITES_MAX)?;
        *self.down.sites.lock() = Sites::read(&stored, table.next_order());
        Ok(())
    }

    /// The gateways that a site had, as a life has stored it while commands waited there; `None` where that is not known.
    pub(in crate::commands) fn gateways_had(&self, life: OriginId, site: &str) -> Option<BTreeSet<OriginId>> {
        let stored = self.log.store().state_get_of(life, SITES_TREE, site.as_bytes()).ok()??;
        Some(decode::<Vec<u64>>(&stored)?.into_iter().map(OriginId).collect())
    }

    /// The gateway that commands of a site which wait here can go to now: one that the site's link lists, be it at another node; it is looked for where none
    /// is known. What waits and is over by a removal of the link is refused before.
    pub(in crate::commands) fn way_to(&self, table: &mut Table, site: &str, now: Now) -> Option<OriginId> {
        let way = self.down.way()?;
        let (is_removed, gateways) = (way.is_removed(site), way.gateways_of(site));
        let gateways: BTreeSet<OriginId> = gateways.into_iter().filter(|_| !is_removed).collect();
        let mut sites = self.down.sites.lock();
        let over = if is_removed { Some(u64::MAX) } else { sites.over_before(site, &gateways) };
        if let Some(before) = over {
            let text = format!("the link of {site} was removed before it was handed over");
            let why = Why { code: WhyCode::LinkRefused, by: REMOVED.to_owned(), text };
            if !table.refuse_at_site(site, before, &why, ENDED_AT_ONCE_MAX, now) {
                // The rest is refused in the next round.
                table.site_came(site);
                return None;
            }
        }
        if is_removed || !gateways.is_empty() {
            let next = table.next_order();
            sites.note(site, gateways.clone(), next, |site| table.waits_for_site(site));
        }
        drop(sites);
        self.gateway_for(site, &gateways)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gateways(ids: &[u64]) -> BTreeSet<OriginId> {
        ids.iter().copied().map(OriginId).collect()
    }

    #[test]
    fn what_waited_while_a_site_had_other_gateways_is_over() {
        let mut sites = Sites::default();
        let over = |sites: &Sites, now: &[u64]| sites.over_before("plant", &gateways(now));
        assert_eq!(over(&sites, &[1]), None, "nothing is known");
        sites.note("plant", gateways(&[1, 2]), 5, |_| true);
        for (now, before) in [(&[1][..], None), (&[2, 3], None), (&[], None), (&[3], Some(5))] {
            assert_eq!(over(&sites, now), before, "{now:?}");
        }
        // What waits later is another matter.
        sites.note("plant", gateways(&[3]), 8, |_| true);
        assert_eq!((over(&sites, &[3]), over(&sites, &[4])), (None, Some(8)));
        sites.note("plant", gateways(&[]), 9, |_| true);
        assert_eq!(over(&sites, &[4]), None);
    }

    #[test]
    fn sites_have_these_bytes_and_are_bounded() {
        let stored = [(b"plant".to_vec(), encode(&vec![7_u64])), (b"mill".to_vec(), vec![9]), (vec![0xff], vec![1, 0])];
        assert_eq!(stored[0].1, [1, 1, 7]);
        let mut sites = Sites::read(&stored, 3);
        assert_eq!(sites.known.keys().collect::<Vec<_>>(), ["plant"], "what cannot be read is left out");
        assert_eq!((sites.over_before("plant", &gateways(&[8])), sites.has_changed()), (Some(3), false));
        for n in 0..2 * SITES_MAX {
            sites.note(&format!("s{n}"), gateways(&[1]), 4, |site| site != "s0");
        }
        assert_eq!((sites.known.len(), sites.changed.len()), (SITES_MAX, SITES_MAX));
        assert!(!sites.known.contains_key("s0") && sites.changed.contains("s0"));
    }
}
