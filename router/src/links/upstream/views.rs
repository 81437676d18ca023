//! The links by which other sites feed this one, as people see them.

use std::collections::BTreeMap;

use sled_data::{Hole, PartitionId};

use super::super::book::{Direction, Gap, LATER_SHOWN_MAX, Later, LinkView, State};
use super::super::records::LinkRecord;
use super::super::topics::going;
use super::Upstream;
use crate::transport::NodeId;

/// Gaps that are shown of one link.
const GAPS_SHOWN_MAX: usize = 1_000;

impl Upstream {
    /// The links, as people see them. Reads the store.
    pub fn views(&self) -> Vec<LinkView> {
        let (mut gaps, mut later, kept) = (self.gaps(), self.later(), self.kept());
        let view = |record: LinkRecord| {
            let gaps = record.ids.iter().flat_map(|id| gaps.remove(id).unwrap_or_default()).collect();
            let mut behind = (Vec::new(), 0);
            for (shown, events) in record.ids.iter().filter_map(|id| later.remove(id)) {
                behind.0.extend(shown);
                behind.1 += events;
            }
            let first = record.ids.first().copied().unwrap_or_default();
            let page = self.page(first);
            let mut page = page.lock();
            if record.is_revoked {
                page.set(State::Revoked, "it was removed here");
            }
            let connections = self.connected.of(&record.ids).into_iter();
            page.came(connections.map(|one| one.traffic().received).sum(), self.log.clock().wall_ms());
            let (mut view, below) = (
                page.view(&record.name, Direction::Down, (gaps, behind), self.log.clock().monotonic()),
                page.going.clone(),
            );
            drop(page);
            let name = |node: &NodeId| record.nodes.iter().find(|(id, _)| id == node).map(|(_, name)| name.clone());
            let goes = |(node, goes)| going(&self.log, goes, name(node).unwrap_or_default());
            view.topics = below.iter().map(goes).collect();
            view.kept_bytes = kept.get(&first).map_or(0, |kept| kept.bytes);
            let plugins = self.plugins.get().map(|plugins| plugins.of_site(&record.name, &record.nodes));
            view.plugins = plugins.unwrap_or_default();
            view
        };
        self.records.all().into_iter().map(view).collect()
    }

    /// What comes behind what is newer by each link, as many ranges as are shown, and how many events are in all.
    fn later(&self) -> BTreeMap<u64, (Vec<Later>, u64)> {
        let mut later: BTreeMap<u64, (Vec<Later>, u64)> = BTreeMap::new();
        for (id, from, ahead) in self.log.store().aheads() {
            let (Some(linked), Ok(partition)) = (self.log.store().linked_origin(id.origin), self.log.partition(id))
            else {
                continue;
            };
            let (shown, events) = later.entry(linked.link).or_default();
            *events += ahead.from.saturating_sub(from);
            if shown.len() < LATER_SHOWN_MAX {
                shown.push(Later { topic: partition.topic().to_string(), partition: id, from, to: ahead.from });
            }
        }
        later
    }

    /// What never came by each link, the newest news first.
    fn gaps(&self) -> BTreeMap<u64, Vec<Gap>> {
        let store = self.log.store();
        let links: BTreeMap<_, u64> = store.linked().into_iter().map(|(origin, from)| (origin, from.link)).collect();
        let mut gaps: BTreeMap<u64, Vec<Gap>> = BTreeMap::new();
        for partition in self.log.all_partitions() {
            let id = partition.id();
            let (Some(link), holes) = (links.get(&id.origin), store.holes(id)) else { continue };
            if !holes.is_empty() {
                let of_link = gaps.entry(*link).or_default();
                of_link.extend(holes.into_iter().map(|hole| gap(partition.topic(), id, hole)));
            }
        }
        for of_link in gaps.values_mut() {
            of_link.sort_by_key(|gap| std::cmp::Reverse(gap.at_ms));
            of_link.truncate(GAPS_SHOWN_MAX);
        }
        gaps
    }
}

fn gap(topic: &str, partition: PartitionId, hole: Hole) -> Gap {
    let Hole { from, to, why, at_ms } = hole;
    Gap { topic: topic.to_owned(), partition, from, to, why: why.name(), at_ms }
}
