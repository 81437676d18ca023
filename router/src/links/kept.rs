//! What each link keeps of this node's disk, and that it is no more than its share: beyond, the oldest of it goes, never other links' nor the
//! node's own.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use sled_data::{HoleWhy, Offset, PARTS_AHEAD_MAX, PartitionId, ReadError, Store};

use super::upstream::Upstream;
use crate::event_log::{Act, EventLog};

/// Stored batches that one pass may remove.
const BATCHES_PER_PASS_MAX: u64 = 2_000;
/// Of those, of the partition with the oldest ones at once, where much is to go; each has 64 KiB, unless an event is larger.
const BATCHES_AT_ONCE: u64 = 64;
const AT_ONCE_BYTES: u64 = BATCHES_AT_ONCE * (64 << 10);

/// Holes before the first batch of a partition that are looked past: those at its start, the open ones, and those that each part ahead begins with.
const HOLES_BEFORE_MAX: usize = 1 + 2 * PARTS_AHEAD_MAX;

/// What one pass did.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SharePass {
    /// Whether there is more to do at once.
    pub more: bool,
    /// The offsets that went: partition, from, to.
    pub went: Vec<(PartitionId, Offset, Offset)>,
}

/// What a link keeps.
#[derive(Debug, Default)]
pub(super) struct Kept {
    /// Stored bytes of its batches.
    pub(super) bytes: u64,
    partitions: Vec<PartitionId>,
}

impl Upstream {
    /// What links keep here, by the first id of each; of those alone that keep something.
    pub(super) fn kept(&self) -> BTreeMap<u64, Kept> {
        let store = self.log.store();
        let mut firsts: BTreeMap<u64, u64> = BTreeMap::new();
        let first_of = |id: u64| self.records.of(id).and_then(|record| record.ids.first().copied()).unwrap_or(id);
        let linked = store.linked().into_iter();
        let origins: BTreeMap<_, u64> =
            linked.map(|(origin, of)| (origin, *firsts.entry(of.link).or_insert_with(|| first_of(of.link)))).collect();
        let mut kept: BTreeMap<u64, Kept> = BTreeMap::new();
        for id in store.partitions() {
            let reach = store.reach(id);
            // Asked for behind it: what becomes one with it in between counts less, never twice.
            let bytes = reach.bytes + ahead_bytes(store, id);
            if let Some(link) = origins.get(&id.origin).filter(|_| bytes > 0) {
                let of_link = kept.entry(*link).or_default();
                of_link.bytes += bytes;
                of_link.partitions.push(id);
            }
        }
        kept
    }

    /// One pass: lets go of the oldest of what each link keeps beyond so many bytes; 0: no bound. Nobody is waited for. Blocks on the disk.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn keep_share(&self, bytes_max: u64) -> Result<SharePass, ReadError> {
        let mut pass = SharePass::default();
        if bytes_max == 0 {
            return Ok(pass);
        }
        let mut left = BATCHES_PER_PASS_MAX;
        for (link, kept) in self.kept().into_iter().filter(|(_, kept)| kept.bytes > bytes_max) {
            let went = let_go(&self.log, &kept, kept.bytes - bytes_max, &mut left, &mut pass)?;
            if went > 0 {
                self.note_shed(link, went, bytes_max);
            }
        }
        pass.more = left == 0;
        Ok(pass)
    }

    /// Counts it; the first time since the start it is told.
    fn note_shed(&self, link: u64, bytes: u64, bytes_max: u64) {
        let page = self.page(link);
        let is_first = {
            let mut page = page.lock();
            page.shed_bytes += bytes;
            page.shed_bytes == bytes
        };
        if !is_first {
            return;
        }
        let name = self.records.of(link).map_or_else(|| format!("{link:016x}"), |record| record.name);
        tracing::warn!(
            link = name,
            bytes_max,
            "a link keeps more here than its share of the disk: the oldest of it goes"
        );
        let act = Act {
            who: "node",
            act: "link.share",
            what: &name,
            outcome: "shed",
            detail: json!({"bytes_max": bytes_max}),
        };
        if let Err(error) = self.log.audit(act) {
            tracing::warn!(link = name, %error, "that a link keeps more than its share is not in the audit topic");
        }
    }
}

/// Removes the oldest batches of these partitions until `over` bytes have gone, or as many batches as are left; the bytes that went. Where all that is
/// left of one lies ahead, what was to come before that is given up: it would go as soon as it came.
fn let_go(log: &EventLog, kept: &Kept, over: u64, left: &mut u64, pass: &mut SharePass) -> Result<u64, ReadError> {
    let store = log.store();
    let mut oldest: BTreeSet<(u64, PartitionId)> =
        kept.partitions.iter().map(|id| (oldest_hlc(store, *id), *id)).collect();
    let mut went = 0;
    while went < over && *left > 0 {
        let Some((_, id)) = oldest.pop_first() else { break };
        let some = if over - went > AT_ONCE_BYTES { BATCHES_AT_ONCE.min(*left) } else { 1 };
        while store.reach(id).bytes == 0 && ahead_bytes(store, id) > 0 {
            log.close_ahead(&[id], HoleWhy::Retention)?;
        }
        let trimmed = store.trim(id, Offset::MAX, some)?;
        went += trimmed.bytes;
        *left -= trimmed.batches.min(*left);
        pass.went.extend(trimmed.ranges);
        if trimmed.batches > 0 && store.reach(id).bytes + ahead_bytes(store, id) > 0 {
            oldest.insert((oldest_hlc(store, id), id));
        }
    }
    Ok(went)
}

/// Stored bytes of what lies ahead of a partition's end.
fn ahead_bytes(store: &Store, id: PartitionId) -> u64 {
    store.parts_ahead(id).iter().map(|part| part.bytes).sum()
}

/// The hybrid clock of the first batch of a partition, be it ahead of the end; of one that cannot be read it is the oldest.
fn oldest_hlc(store: &Store, id: PartitionId) -> u64 {
    let mut at = store.reach(id).start;
    for _ in 0..=HOLES_BEFORE_MAX {
        match store.read_newest(id, at, 1) {
            Err(ReadError::Trimmed { start, .. }) if start > at => at = start,
            read => return read.ok().and_then(|batches| Some(batches.first()?.envelope().hlc)).unwrap_or(0),
        }
    }
    0
}
