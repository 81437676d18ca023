//! What an edge notes of what lies ahead upstream, beside its cursors: what is there does not wait, also while a link is cut after a restart.

use std::collections::{BTreeMap, BTreeSet};

use sled_data::{Offset, PARTS_AHEAD_MAX, PartitionId};

use crate::event_log::{EventLog, OpenCommit};

/// The link's name, a byte 0 and the partition's id to the version and the parts in order: from and to before each, 8 bytes, big-endian.
const TREE: &str = "link_ahead";
/// The version byte before a stored value.
const VERSION: u8 = 1;

/// The parts that lie ahead of a partition upstream, each from and to before.
pub(super) type Parts = Vec<(Offset, Offset)>;

/// What was noted when the store was written last, of these partitions.
pub(super) fn noted(
    log: &EventLog,
    name: &str,
    ids: impl Iterator<Item = PartitionId>,
) -> BTreeMap<PartitionId, Parts> {
    let parts = |id| read(&log.state_get(TREE, &key(name, id)).ok().flatten()?);
    ids.filter_map(|id| Some((id, parts(id)?))).collect()
}

/// What is to be written of what lies ahead now: entries of `TREE`, `None` for one that goes. `known` are the partitions that may have one, which it brings up
/// to date. Reads the store.
pub(super) fn news(
    log: &EventLog,
    name: &str,
    now: &BTreeMap<PartitionId, Parts>,
    known: &mut BTreeSet<PartitionId>,
) -> Vec<(Vec<u8>, Option<Vec<u8>>)> {
    known.extend(now.keys());
    let mut news = Vec::new();
    known.retain(|id| {
        let (key, value) = (key(name, *id), now.get(id).map(|parts| value(parts)));
        let is_there = value.is_some();
        let stored = log.state_get(TREE, &key).ok().flatten();
        let is_new = stored != value;
        if is_new {
            news.push((key, value));
        }
        is_there || is_new
    });
    news
}

/// Puts it into the open commit.
pub(super) fn put(open: &mut OpenCommit<'_>, news: Vec<(Vec<u8>, Option<Vec<u8>>)>) {
    for (key, value) in news {
        open.put_state(TREE, &key, value.as_deref());
    }
}

fn key(name: &str, id: PartitionId) -> Vec<u8> {
    [name.as_bytes(), &[0], &id.to_bytes()].concat()
}

fn value(parts: &[(Offset, Offset)]) -> Vec<u8> {
    let ends = parts.iter().flat_map(|(from, end)| [*from, *end]);
    std::iter::once(VERSION).chain(ends.flat_map(Offset::to_be_bytes)).collect()
}

/// What cannot be read is taken for not noted.
fn read(value: &[u8]) -> Option<Parts> {
    let (&VERSION, ends) = value.split_first()? else { return None };
    let (ends, rest) = ends.as_chunks::<8>();
    let (parts, odd) = ends.as_chunks::<2>();
    let parts: Parts = parts.iter().map(|[from, end]| (u64::from_be_bytes(*from), u64::from_be_bytes(*end))).collect();
    let is_in_order = parts.iter().all(|(from, end)| from <= end) && parts.is_sorted_by(|one, next| one.1 < next.0);
    let is_sound = rest.is_empty() && odd.is_empty() && is_in_order && parts.len() <= PARTS_AHEAD_MAX;
    is_sound.then_some(parts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_these_bytes() {
        let id = PartitionId { origin: sled_data::OriginId(1), topic: sled_data::TopicId(2), index: 3 };
        assert_eq!(key("up", id), b"up\0\0\0\0\0\0\0\0\x01\0\0\0\0\0\0\0\x02\0\0\0\x03");
        let bytes = b"\x01\0\0\0\0\0\0\0\x05\0\0\0\0\0\0\0\x06\0\0\0\0\0\0\0\x08\0\0\0\0\0\0\0\x08";
        assert_eq!(value(&[(5, 6), (8, 8)]), bytes);
        assert_eq!(read(bytes), Some(vec![(5, 6), (8, 8)]));
        let part = |from: u64, end: u64| [from.to_be_bytes(), end.to_be_bytes()].concat();
        let many: Vec<u8> = (0..=PARTS_AHEAD_MAX as u64).flat_map(|n| part(2 * n, 2 * n + 1)).collect();
        for wrong in
            [vec![], vec![0; 8], part(5, 6)[..15].to_vec(), part(6, 5), [part(5, 6), part(6, 7)].concat(), many]
        {
            let value = [&[VERSION], &wrong[..]].concat();
            assert_eq!(read(&value), wrong.is_empty().then(Vec::new), "{value:?}");
        }
        assert_eq!((read(b""), read(b"\x02")), (None, None));
    }
}
