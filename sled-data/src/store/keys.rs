//! Keys of the meta tree and names of trees. The README draws them.

use crate::ids::{CommitNumber, Offset, OriginId, PARTITION_ID_BYTES, PartitionId, TopicId};

/// Name of the one tree that everything but batches is in.
pub(super) const META_TREE: &[u8] = b"meta";
/// First byte of a partition's tree's name.
const PARTITION_TREE: u8 = b'p';

/// Key of the store's header.
pub(super) const HEADER: &[u8] = &[0];
pub(super) const TOPIC: u8 = 2;
pub(super) const PARTITION: u8 = 3;
pub(super) const COMMIT: u8 = 4;
pub(super) const CURSOR: u8 = 5;
pub(super) const STATE: u8 = 6;
pub(super) const FOLLOWED: u8 = 7;
pub(super) const FOLLOWED_STATE: u8 = 8;
pub(super) const FOLLOWED_CURSOR: u8 = 9;
pub(super) const GAP: u8 = 10;
pub(super) const LINKED: u8 = 11;
pub(super) const HOLE: u8 = 12;
pub(super) const LATE: u8 = 17;
pub(super) const APART: u8 = 24;
pub(super) const FORGOTTEN: u8 = 48;
pub(super) const AHEAD: u8 = 18;
pub(super) const FURTHER_AHEAD: u8 = 19;

/// Whose cursors and state are meant: each followed origin's are kept apart.
#[derive(Copy, Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// This store's.
    Own,
    /// Those that an origin's commits have written, as far as they were followed.
    Followed(OriginId),
}

pub(super) fn partition_tree(id: PartitionId) -> Vec<u8> {
    let mut name = vec![PARTITION_TREE];
    name.extend_from_slice(&id.to_bytes());
    name
}

pub(super) fn partition_of_tree(name: &[u8]) -> Option<PartitionId> {
    let (&kind, id) = name.split_first()?;
    if kind == PARTITION_TREE { PartitionId::from_bytes(id) } else { None }
}

pub(super) fn topic(id: TopicId) -> Vec<u8> {
    let mut key = vec![TOPIC];
    key.extend_from_slice(&id.0.to_be_bytes());
    key
}

pub(super) fn topic_of(key: &[u8]) -> Option<TopicId> {
    Some(TopicId(u64::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}

pub(super) fn partition(id: PartitionId) -> [u8; 1 + PARTITION_ID_BYTES] {
    let mut key = [PARTITION; 1 + PARTITION_ID_BYTES];
    key[1..].copy_from_slice(&id.to_bytes());
    key
}

pub(super) fn partition_of(key: &[u8]) -> Option<PartitionId> {
    PartitionId::from_bytes(key.get(1..)?)
}

/// Key of one part of a commit's record.
pub(super) fn commit(origin: OriginId, number: CommitNumber, part: u16) -> [u8; 19] {
    let mut key = [COMMIT; 19];
    key[1..9].copy_from_slice(&origin.0.to_be_bytes());
    key[9..17].copy_from_slice(&number.0.to_be_bytes());
    key[17..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Origin, number and part of a commit record's key.
pub(super) fn commit_of(key: &[u8]) -> Option<(OriginId, CommitNumber, u16)> {
    let key: &[u8; 18] = key.get(1..)?.try_into().ok()?;
    let (origin, rest) = key.split_first_chunk::<8>()?;
    let (number, part) = rest.split_first_chunk::<8>()?;
    Some((
        OriginId(u64::from_be_bytes(*origin)),
        CommitNumber(u64::from_be_bytes(*number)),
        u16::from_be_bytes(part.try_into().ok()?),
    ))
}

/// Key of how far an origin was followed.
pub(super) fn followed(origin: OriginId) -> [u8; 9] {
    let mut key = [FOLLOWED; 9];
    key[1..].copy_from_slice(&origin.0.to_be_bytes());
    key
}

pub(super) fn followed_of(key: &[u8]) -> Option<OriginId> {
    Some(OriginId(u64::from_be_bytes(key.get(1..)?.try_into().ok()?)))
}

/// Start of the keys of a partition's gaps.
pub(super) fn gaps(id: PartitionId) -> [u8; 1 + PARTITION_ID_BYTES] {
    let mut key = [GAP; 1 + PARTITION_ID_BYTES];
    key[1..].copy_from_slice(&id.to_bytes());
    key
}

/// Key of the gap that begins at `from`.
pub(super) fn gap(id: PartitionId, from: Offset) -> Vec<u8> {
    let mut key = gaps(id).to_vec();
    key.extend_from_slice(&from.to_be_bytes());
    key
}

/// Where the gap of a key begins.
pub(super) fn gap_of(key: &[u8]) -> Option<Offset> {
    Some(u64::from_be_bytes(key.get(1 + PARTITION_ID_BYTES..)?.try_into().ok()?))
}

/// Key of a linked origin.
pub(super) fn linked(origin: OriginId) -> [u8; 9] {
    let mut key = followed(origin);
    key[0] = LINKED;
    key
}

/// Key of a linked origin that was forgotten.
pub(super) fn forgotten(origin: OriginId) -> [u8; 9] {
    let mut key = followed(origin);
    key[0] = FORGOTTEN;
    key
}

/// Start of the keys of a partition's holes.
pub(super) fn holes(id: PartitionId) -> [u8; 1 + PARTITION_ID_BYTES] {
    let mut key = partition(id);
    key[0] = HOLE;
    key
}

/// Key of a hole of a partition, which begins at `from`.
pub(super) fn hole(id: PartitionId, from: Offset) -> [u8; 9 + PARTITION_ID_BYTES] {
    let mut key = [0; 9 + PARTITION_ID_BYTES];
    key[..1 + PARTITION_ID_BYTES].copy_from_slice(&holes(id));
    key[1 + PARTITION_ID_BYTES..].copy_from_slice(&from.to_be_bytes());
    key
}

/// Key of a range of a partition that came late, which begins at `from`; read as a hole's.
pub(super) fn late(id: PartitionId, from: Offset) -> [u8; 9 + PARTITION_ID_BYTES] {
    let mut key = hole(id, from);
    key[0] = LATE;
    key
}

/// Key of the note that an origin is another one at a place.
pub(super) fn apart(origin: OriginId, place: &str) -> Vec<u8> {
    let mut key = followed(origin).to_vec();
    key[0] = APART;
    key.extend_from_slice(place.as_bytes());
    key
}

/// Key of a partition's first part ahead; read as a partition's.
pub(super) fn ahead(id: PartitionId) -> [u8; 1 + PARTITION_ID_BYTES] {
    let mut key = partition(id);
    key[0] = AHEAD;
    key
}

/// Key of a part ahead of a partition behind the first one, which begins at `from`; read as a hole's.
pub(super) fn further_ahead(id: PartitionId, from: Offset) -> [u8; 9 + PARTITION_ID_BYTES] {
    let mut key = hole(id, from);
    key[0] = FURTHER_AHEAD;
    key
}

/// Partition and beginning of a hole's key.
pub(super) fn hole_of(key: &[u8]) -> Option<(PartitionId, Offset)> {
    let (id, from) = key.get(1..)?.split_at_checked(PARTITION_ID_BYTES)?;
    Some((PartitionId::from_bytes(id)?, Offset::from_be_bytes(from.try_into().ok()?)))
}

/// Start of the keys of a reader's cursors.
pub(super) fn cursors(owner: Owner, reader: &str, key: &mut Vec<u8>) {
    named(all_cursors(owner), reader, key);
}

/// Start of a state tree's keys.
pub(super) fn state(owner: Owner, tree: &str, key: &mut Vec<u8>) {
    named(all_state(owner), tree, key);
}

/// Start of the keys of all cursors.
pub(super) fn all_cursors(owner: Owner) -> Prefix {
    owned(CURSOR, FOLLOWED_CURSOR, owner)
}

/// Start of the keys of all state.
pub(super) fn all_state(owner: Owner) -> Prefix {
    owned(STATE, FOLLOWED_STATE, owner)
}

/// A kind, and the origin where it is another's.
#[derive(Copy, Clone)]
pub(super) struct Prefix {
    bytes: [u8; 9],
    len: usize,
}

impl Prefix {
    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

fn owned(own: u8, followed: u8, owner: Owner) -> Prefix {
    match owner {
        Owner::Own => Prefix { bytes: [own; 9], len: 1 },
        Owner::Followed(origin) => {
            let mut bytes = [followed; 9];
            bytes[1..].copy_from_slice(&origin.0.to_be_bytes());
            Prefix { bytes, len: 9 }
        }
    }
}

fn named(prefix: Prefix, name: &str, key: &mut Vec<u8>) {
    key.clear();
    key.extend_from_slice(prefix.bytes());
    key.extend_from_slice(name.as_bytes());
    key.push(0);
}

/// The smallest key above all keys that start with `prefix`; `None` where there is none.
pub(super) fn after_prefix(prefix: &[u8]) -> Option<Vec<u8>> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.last_mut() {
        if *last < 0xff {
            *last += 1;
            return Some(end);
        }
        end.pop();
    }
    None
}

/// Key, in a partition's tree, of the first part of the batch at `base`.
pub(super) fn batch(base: Offset) -> [u8; 8] {
    base.to_be_bytes()
}

/// Key of a later part of the batch at `base`.
pub(super) fn batch_part(base: Offset, part: u16) -> [u8; 10] {
    let mut key = [0; 10];
    key[..8].copy_from_slice(&base.to_be_bytes());
    key[8..].copy_from_slice(&part.to_be_bytes());
    key
}

/// Base offset and part of a key in a partition's tree.
pub(super) fn batch_of(key: &[u8]) -> Option<(Offset, u16)> {
    let (base, part) = key.split_first_chunk::<8>()?;
    let base = u64::from_be_bytes(*base);
    match part {
        [] => Some((base, 0)),
        [high, low] => Some((base, u16::from_be_bytes([*high, *low]))),
        _ => None,
    }
}

/// What a key of the meta tree is of, for people.
pub(super) fn describe(key: &[u8]) -> String {
    let name = |from: usize| {
        let name = key.get(from..).and_then(|rest| rest.split(|b| *b == 0).next());
        String::from_utf8_lossy(name.unwrap_or_default()).into_owned()
    };
    let origin = || key.get(..9).and_then(followed_of).map_or_else(|| "an origin".into(), |id| format!("origin {id}"));
    match key.first() {
        Some(0) => "the header".to_owned(),
        Some(&TOPIC) => topic_of(key).map_or_else(|| "a topic".into(), |id| format!("topic {id}")),
        Some(&PARTITION) => partition_of(key).map_or_else(|| "a partition".into(), |id| format!("partition {id}")),
        Some(&COMMIT) => commit_of(key).map_or_else(|| "a commit".into(), |(_, n, _)| format!("commit {n}")),
        Some(&GAP) => key
            .get(1..1 + PARTITION_ID_BYTES)
            .and_then(PartitionId::from_bytes)
            .map_or_else(|| "a gap".into(), |id| format!("a gap of partition {id}")),
        Some(&CURSOR) => format!("a cursor of {}", name(1)),
        Some(&STATE) => format!("a value of state tree {}", name(1)),
        Some(&FOLLOWED) => format!("how far {} was followed", origin()),
        Some(&FOLLOWED_STATE) => format!("a value of state tree {} of {}", name(9), origin()),
        Some(&FOLLOWED_CURSOR) => format!("a cursor of {} of {}", name(9), origin()),
        Some(&LINKED) => format!("the linked {}", origin()),
        Some(&FORGOTTEN) => format!("the forgotten {}", origin()),
        Some(&HOLE) => hole_of(key).map_or_else(|| "a hole".into(), |(id, from)| format!("the hole of {id} at {from}")),
        Some(&LATE) => {
            hole_of(key).map_or_else(|| "late events".into(), |(id, from)| format!("late events of {id} at {from}"))
        }
        Some(&APART) => format!("the note that {} is another one elsewhere", origin()),
        Some(&AHEAD) => {
            partition_of(key).map_or_else(|| "a part ahead".into(), |id| format!("the part ahead of partition {id}"))
        }
        Some(&FURTHER_AHEAD) => {
            hole_of(key).map_or_else(|| "a part ahead".into(), |(id, from)| format!("the part ahead of {id} at {from}"))
        }
        _ => "a key of no known kind".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_batch_sort_after_its_start_and_before_the_next() {
        let keys = [batch(7).to_vec(), batch_part(7, 1).to_vec(), batch_part(7, 256).to_vec(), batch(8).to_vec()];
        assert!(keys.is_sorted());
        assert_eq!(
            keys.iter().map(|k| batch_of(k)).collect::<Vec<_>>(),
            [Some((7, 0)), Some((7, 1)), Some((7, 256)), Some((8, 0)),]
        );
        assert_eq!(batch_of(&[0; 9]), None);
    }

    #[test]
    fn keys_come_back() {
        let id = PartitionId { origin: OriginId(1), topic: TopicId(2), index: 3 };
        assert_eq!(partition_of(&partition(id)), Some(id));
        assert_eq!(partition_of_tree(&partition_tree(id)), Some(id));
        assert_eq!(topic_of(&topic(TopicId(9))), Some(TopicId(9)));
        assert_eq!(followed_of(&followed(OriginId(8))), Some(OriginId(8)));
        assert_eq!(followed_of(&linked(OriginId(8))), Some(OriginId(8)));
        assert_eq!((followed_of(&forgotten(OriginId(8))), forgotten(OriginId(8))[0]), (Some(OriginId(8)), 0x30));
        assert_eq!(hole_of(&hole(id, 9)), Some((id, 9)));
        assert!(hole(id, 9).starts_with(&holes(id)));
        assert_eq!((hole_of(&late(id, 9)), late(id, 9)[0]), (Some((id, 9)), 17));
        let noted = apart(OriginId(8), "hq");
        assert_eq!((noted[0], noted.get(..9).and_then(followed_of), &noted[9..]), (24, Some(OriginId(8)), &b"hq"[..]));
        assert_eq!((partition_of(&ahead(id)), ahead(id)[0]), (Some(id), 18));
        assert_eq!((hole_of(&further_ahead(id, 9)), further_ahead(id, 9)[0]), (Some((id, 9)), 19));
        let key = commit(OriginId(4), CommitNumber(5), 6);
        assert_eq!(commit_of(&key), Some((OriginId(4), CommitNumber(5), 6)));
        assert_eq!(after_prefix(&[1, 0xff]), Some(vec![2]));
        assert_eq!(after_prefix(&[0xff]), None);
    }
}
