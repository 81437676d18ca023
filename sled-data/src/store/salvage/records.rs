//! Records of topics and partitions, known by a checksum that covers their keys: only values of keys that are looked for are found.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::Hash;

use super::census::Census;
use super::report::SalvagedTopic;
use crate::ids::{Offset, PartitionId, TopicId};
use crate::store::keys;
use crate::store::values::{PartitionV1, TopicV1, VALUE_VERSION, read};
use crate::topic::{PARTITIONS_MAX, TOPIC_NAME_BYTES_MAX, TopicConfig};

/// Bytes of a value before its payload: version and checksum.
const HEAD_BYTES: usize = 5;
/// Partition numbers that are looked for in each topic, besides those of which batches were found.
const INDEXES_TRIED: u32 = 16;
/// Most partitions whose records are looked for without a batch of theirs.
const PARTITIONS_TRIED_MAX: usize = 1 << 16;

/// Keys whose values are looked for. A checksum over key, version and payload is the key's part, moved by the payload's length, and the
/// payload's: so the key is found from the value in one step.
struct Keys<K> {
    /// The ids, and the checksum of their key and the version.
    known: Vec<(K, u32)>,
    by_len: HashMap<usize, HashMap<u32, K>>,
}

impl<K: Copy + Eq + Hash> Keys<K> {
    fn new(keys: impl Iterator<Item = (K, Vec<u8>)>) -> Keys<K> {
        let head = |key: &[u8]| crc32c::crc32c_append(crc32c::crc32c(key), &[VALUE_VERSION]);
        Keys { known: keys.map(|(id, key)| (id, head(&key))).collect(), by_len: HashMap::new() }
    }

    /// Which key has this value.
    fn key_of(&mut self, value: &[u8]) -> Option<K> {
        let (head, payload) = value.split_first_chunk::<HEAD_BYTES>()?;
        let moved = |len| self.known.iter().map(|(id, crc)| (crc32c::crc32c_combine(*crc, 0, len), *id)).collect();
        let by_crc = self.by_len.entry(payload.len()).or_insert_with(|| moved(payload.len()));
        let stored = u32::from_le_bytes([head[1], head[2], head[3], head[4]]);
        by_crc.get(&(stored ^ crc32c::crc32c(payload))).copied()
    }
}

/// The records found.
pub(super) struct Records {
    topic_keys: Keys<TopicId>,
    partition_keys: Keys<PartitionId>,
    topics: BTreeMap<TopicId, TopicV1>,
    extents: BTreeMap<PartitionId, PartitionV1>,
}

impl Records {
    /// Nothing found yet, of the topics and partitions of a census and of partitions that they may have besides.
    pub(super) fn looking_for(census: &Census) -> Records {
        let topics = census.topics();
        let mut partitions: BTreeSet<PartitionId> = census.partitions().iter().copied().collect();
        for origin in census.origins() {
            for topic in topics.keys() {
                let others = (0..INDEXES_TRIED).map(|index| PartitionId { origin, topic: *topic, index });
                if partitions.len() < PARTITIONS_TRIED_MAX {
                    partitions.extend(others);
                }
            }
        }
        Records {
            topic_keys: Keys::new(topics.keys().map(|id| (*id, keys::topic(*id)))),
            partition_keys: Keys::new(partitions.into_iter().map(|id| (id, keys::partition(id).to_vec()))),
            topics: BTreeMap::new(),
            extents: BTreeMap::new(),
        }
    }

    /// Looks whether `bytes`, which begin with a value's version, begin with a record. Partition records are short, and chance could make one:
    /// the byte before must be its length, as sled writes it.
    pub(super) fn look(&mut self, before: Option<u8>, bytes: &[u8]) {
        if self.look_for_partition(before, bytes).is_none() {
            let _ = self.look_for_topic(bytes);
        }
    }

    fn look_for_partition(&mut self, before: Option<u8>, bytes: &[u8]) -> Option<()> {
        let value = bytes.get(..usize::from(before?))?;
        let extent = decode::<PartitionV1>(value.get(HEAD_BYTES..)?).filter(|(_, left)| *left == 0)?.0;
        let id = self.partition_keys.key_of(value)?;
        read::<PartitionV1>(&keys::partition(id), value).ok()?;
        if extent.start <= extent.end {
            let newest = self.extents.entry(id).or_insert(extent);
            if (extent.end, extent.start) > (newest.end, newest.start) {
                *newest = extent;
            }
        }
        Some(())
    }

    fn look_for_topic(&mut self, bytes: &[u8]) -> Option<()> {
        let payload = bytes.get(HEAD_BYTES..)?;
        // A name's length and first character, before anything is taken apart.
        if payload.first()? == &0 || payload.get(1)? < &b' ' {
            return None;
        }
        let payload = &payload[..payload.len().min(TOPIC_NAME_BYTES_MAX + 64)];
        let (topic, left) = decode::<TopicV1>(payload)?;
        let value = &bytes[..HEAD_BYTES + payload.len() - left];
        let id = self.topic_keys.key_of(value)?;
        read::<TopicV1>(&keys::topic(id), value).ok()?;
        // Only retention ever changes, and which record is newer is not known: what keeps more is taken.
        let keeps = |bound: Option<u64>| bound.unwrap_or(u64::MAX);
        match self.topics.get_mut(&id) {
            Some(known) => {
                let more = |a: Option<u64>, b: Option<u64>| if keeps(a) >= keeps(b) { a } else { b };
                known.retention_ms = more(known.retention_ms, topic.retention_ms);
                known.retention_bytes = more(known.retention_bytes, topic.retention_bytes);
            }
            None => {
                self.topics.insert(id, topic);
            }
        }
        Some(())
    }

    /// The first offset kept and the end of a partition, as last recorded.
    pub(super) fn extent(&self, id: PartitionId) -> Option<(Offset, Offset)> {
        self.extents.get(&id).map(|extent| (extent.start, extent.end))
    }

    /// The partitions whose records were found.
    pub(super) fn partitions(&self) -> impl Iterator<Item = PartitionId> {
        self.extents.keys().copied()
    }
}

/// What `bytes` begin with, and how many of them are left.
fn decode<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Option<(T, usize)> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    Some((value, rest.len()))
}

/// What each topic of the census is named and set to in the new store.
pub(super) fn name_topics(census: &Census, records: &Records) -> Vec<SalvagedTopic> {
    let mut seen: Vec<_> = census.topics().into_iter().collect();
    // A name that was used again is of the topic that was written to last.
    seen.sort_by_key(|(id, topic)| (std::cmp::Reverse(topic.last_hlc), *id));
    let mut taken = BTreeSet::new();
    let mut named = Vec::new();
    for (id, topic) in seen {
        let record = records.topics.get(&id).and_then(|record| Some((record.name.clone(), record.config().ok()?)));
        let (recorded_name, config) = record.unzip();
        let partitions = (topic.index_max + 1).min(PARTITIONS_MAX);
        let mut config = config.unwrap_or_else(|| TopicConfig { partitions, ..TopicConfig::default() });
        config.partitions = config.partitions.clamp(partitions, PARTITIONS_MAX);
        let wanted = recorded_name.as_deref().map(name_in_new_store);
        let free = |name: &String| name.len() <= TOPIC_NAME_BYTES_MAX && !taken.contains(name);
        let mut name = wanted.filter(free).unwrap_or_else(|| format!("salvaged-{id}"));
        while !taken.insert(name.clone()) {
            name.push('_');
        }
        named.push(SalvagedTopic { id, name, recorded_name, config, partitions: Vec::new() });
    }
    named.sort_by(|a, b| a.name.cmp(&b.name));
    named
}

/// Internal topics get a name that is not, and another site's (`SITE/TOPIC`) one of this store's own: its events are of the new life, and nobody
/// could read them where only links write.
fn name_in_new_store(recorded: &str) -> String {
    match recorded.strip_prefix('_') {
        Some(rest) => format!("salvaged_{}", rest.replace('/', ".")),
        None if recorded.contains('/') => format!("salvaged_{}", recorded.replace('/', ".")),
        None => recorded.to_owned(),
    }
}
