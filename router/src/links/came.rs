//! The gateways of links that were let in here, kept over restarts. Where one of them is its link's no more, that link was removed, though its name
//! may be another one's by now: what will not come any more is given up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use parking_lot::Mutex;
use sled_data::{HoleWhy, PartitionId, StoreFailed};

use super::records::{LinkRecord, Records};
use crate::event_log::EventLog;
use crate::transport::{LinkPeer, NodeId};

/// Link and node, 8 bytes each, big-endian, to the version.
const TREE: &str = "link_gateways";
/// The version byte before a stored value.
const VERSION: u8 = 1;
/// Gateways that are remembered: those of all links, 1,024 with 32 each. Those of links that were removed go at the next look.
const GATEWAYS_MAX: usize = 32_768;

/// Who was let in.
pub(super) struct Came {
    log: Arc<EventLog>,
    records: Arc<Records>,
    all: Mutex<BTreeSet<(u64, NodeId)>>,
    /// Parts are given up by one at a time: what comes of the next link of a name is not among them.
    closing: Mutex<()>,
}

impl Came {
    /// Reads what was kept. What cannot be read is taken for not let in.
    pub(super) fn open(log: Arc<EventLog>, records: Arc<Records>) -> Self {
        let mut all = BTreeSet::new();
        let read = log.state_walk_of(log.origin(), TREE, |key, value| match read_key(key) {
            Some(gateway) if value == [VERSION] && all.len() < GATEWAYS_MAX => drop(all.insert(gateway)),
            _ => tracing::warn!("which gateway was let in cannot be read"),
        });
        if let Err(error) = read {
            tracing::warn!(%error, "which gateways were let in cannot be read");
        }
        Self { log, records, all: Mutex::new(all), closing: Mutex::default() }
    }

    /// Notes that a gateway is let in; before anything of it is taken.
    pub(super) fn note(&self, peer: LinkPeer) {
        let gateway = (peer.link, peer.node);
        let mut all = self.all.lock();
        if all.len() < GATEWAYS_MAX && all.insert(gateway) {
            self.log.lock().put_state(TREE, &key(gateway), Some(&[VERSION]));
        }
    }

    /// Whether a gateway was let in by this link's certificates that is its no more.
    pub(super) fn has_gone(&self, link: u64) -> bool {
        let Some(record) = self.records.of(link) else { return false };
        let all = self.all.lock();
        let of = |id: &u64| all.range((*id, NodeId(0))..=(*id, NodeId(u64::MAX))).any(|(_, node)| !has(&record, *node));
        record.ids.iter().any(of)
    }

    /// Gives up what will not come any more of links that were removed. Blocks on the disk.
    ///
    /// # Errors
    /// The store's.
    pub(super) fn close_ahead(&self) -> Result<(), StoreFailed> {
        let _one = self.closing.lock();
        // Of one that nobody knows it is not certain that it was removed.
        let mut records: BTreeMap<u64, Option<LinkRecord>> = BTreeMap::new();
        let mut of = |link: u64| records.entry(link).or_insert_with(|| self.records.of(link)).clone();
        let all = self.all.lock().clone();
        let is_gone = |(link, node): &(u64, NodeId)| of(*link).is_some_and(|record| !has(&record, *node));
        let gone: Vec<_> = all.into_iter().filter(is_gone).collect();
        let removed: BTreeSet<u64> =
            gone.iter().filter_map(|(link, _)| self.records.of(*link)).flat_map(|record| record.ids).collect();
        let store = self.log.store();
        let is_removed = |id: &PartitionId| {
            let link = store.linked_origin(id.origin).map(|linked| linked.link);
            let is_revoked = |link| self.records.of(link).is_some_and(|record| record.is_revoked);
            link.is_some_and(|link| removed.contains(&link) || is_revoked(link))
        };
        let ids: Vec<PartitionId> = store.aheads().into_iter().map(|(id, ..)| id).filter(is_removed).collect();
        self.log.close_ahead(&ids, HoleWhy::Removed)?;
        let mut all = self.all.lock();
        for gateway in gone {
            all.remove(&gateway);
            self.log.lock().put_state(TREE, &key(gateway), None);
        }
        Ok(())
    }
}

fn has(record: &LinkRecord, node: NodeId) -> bool {
    record.nodes.iter().any(|(known, _)| *known == node)
}

fn key((link, node): (u64, NodeId)) -> [u8; 16] {
    let mut key = [0; 16];
    key[..8].copy_from_slice(&link.to_be_bytes());
    key[8..].copy_from_slice(&node.0.to_be_bytes());
    key
}

fn read_key(key: &[u8]) -> Option<(u64, NodeId)> {
    let (link, node) = key.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*link), NodeId(u64::from_be_bytes(node.try_into().ok()?))))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_these_bytes() {
        let gateway = (0x0102, NodeId(0x0304));
        assert_eq!(&key(gateway), b"\0\0\0\0\0\0\x01\x02\0\0\0\0\0\0\x03\x04");
        assert_eq!(read_key(&key(gateway)), Some(gateway));
        assert_eq!((read_key(b"\0\0\0\0\0\0\x01\x02"), read_key(&[0; 17])), (None, None));
    }
}
