//! What a frame brings, counted before it is stored: what is here already is counted apart.

use std::collections::BTreeMap;

use sled_data::{LinkedPart, Offset, PartitionId, Store};

/// What a frame brings.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    /// Events that are new here.
    pub events: u64,
    /// Bytes of their batches.
    pub bytes: u64,
    /// Events that are here already, since two gateways, or two connections, have sent them.
    pub again: u64,
}

impl Counted {
    /// Counts by where the partitions end before it is stored.
    pub fn of(store: &Store, parts: &[LinkedPart]) -> Self {
        // Where each partition ends, and each part ahead of it, by where that begins.
        let mut ends: BTreeMap<(PartitionId, Option<Offset>), Offset> = BTreeMap::new();
        let mut counted = Self::default();
        for part in parts {
            let LinkedPart::Batch(batch) = part else { continue };
            let id = part.partition();
            let parts = store.parts_ahead(id);
            let before = parts.partition_point(|ahead| ahead.from <= batch.base_offset());
            let ahead = before.checked_sub(1).and_then(|place| parts.get(place));
            let here = || ahead.map_or_else(|| store.end_offset(id), |ahead| ahead.end);
            let end = ends.entry((id, ahead.map(|ahead| ahead.from))).or_insert_with(here);
            let events = u64::from(batch.envelope().count);
            if batch.next_offset() <= *end {
                counted.again += events;
                continue;
            }
            *end = batch.next_offset();
            counted.events += events;
            counted.bytes += batch.bytes().len() as u64;
        }
        counted
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use sled_data::{Linked, MemoryBackend, Options, OriginId, TopicConfig, TopicId, TopicInfo};

    use super::*;
    use crate::event_log::rubbish::sound;

    fn batch(partition: PartitionId, base_offset: Offset) -> LinkedPart {
        LinkedPart::Batch(sound(partition, base_offset, 7, &["event", "event"]).into())
    }

    #[test]
    fn what_comes_twice_is_counted_apart() {
        let (store, _) =
            Store::on(Arc::new(MemoryBackend::new()), Options { seed: Some(1), ..Options::default() }).unwrap();
        let (origin, topic) = (OriginId(50), TopicId(9));
        let info = TopicInfo { id: topic, name: "plant/t".to_owned(), config: TopicConfig::default() };
        store.create_topic_as(info).unwrap();
        let id = PartitionId { origin, topic, index: 0 };
        let linked = Linked { link: 5, hlc: 0, path: vec![1] };
        store.take_linked(origin, &linked, &[batch(id, 0), batch(id, 2)]).unwrap();
        let parts = [batch(id, 0), batch(id, 2), batch(id, 4), batch(id, 4), batch(id, 6)];
        let counted = Counted::of(&store, &parts);
        assert_eq!((counted.events, counted.again), (4, 6));
        let LinkedPart::Batch(one) = &parts[0] else { panic!("a batch") };
        assert_eq!(counted.bytes, 2 * one.bytes().len() as u64);
    }
}
