//! What can be told of a site of tests: who counted what, and where events came from.

use devices::command::{Step, StepEvent};
use sled_data::{OriginId, PartitionId};

use super::lab::{Lab, Node, PLUGIN, Reader};
use crate::plugin_host::cause::DerivedFrom;

impl Lab {
    /// How often the reader on a node counted each of the published events, where that is not once.
    pub fn miscounted(&self, node: usize) -> Vec<(String, usize)> {
        self.wrong(&self.nodes[node].reader)
    }

    /// The same for one who begins to read now.
    pub fn miscounted_anew(&self, node: usize) -> Vec<(String, usize)> {
        let mut reader = Reader::default();
        reader.poll(&self.nodes[node].log, &self.nodes[node].index);
        self.wrong(&reader)
    }

    fn wrong(&self, reader: &Reader) -> Vec<(String, usize)> {
        let count = |value: &String| (value.clone(), reader.counts.get(value).copied().unwrap_or(0));
        self.published.iter().map(count).filter(|(_, count)| *count != 1).collect()
    }

    /// The events that caused commands, as a node knows them, and whether another may have sent those.
    pub fn doubted(&self, node: usize) -> Vec<(String, bool)> {
        let log = &self.nodes[node].log;
        let mut told = Vec::new();
        let topic = log.topic(devices::command::COMMANDS_TOPIC).unwrap();
        for id in log.partitions_of(&topic).iter().map(|partition| partition.id()) {
            for batch in log.read(id, 0, 16 << 20).unwrap() {
                for (_, record) in batch.events_from(0) {
                    let step = StepEvent::decode(record.value.unwrap()).unwrap();
                    let Step::Queued(queued) = step.step else { continue };
                    let cause = queued.cause.unwrap();
                    let (topic, origin) = (log.topic(&cause.topic).unwrap().id(), OriginId(cause.origin));
                    let source = PartitionId { origin, topic, index: cause.partition };
                    let events = log.read(source, cause.offset, 1).unwrap();
                    let (_, event) = events[0].events_from(cause.offset).next().unwrap();
                    told.push((String::from_utf8(event.value.unwrap().to_vec()).unwrap(), queued.taken.is_some()));
                }
            }
        }
        told.sort();
        told
    }

    fn dead_letters(&self, node: usize) -> Vec<String> {
        let log = &self.nodes[node].log;
        let mut told = Vec::new();
        if let Some(topic) = log.topic(crate::plugin_host::DEAD_LETTERS_TOPIC) {
            for id in log.partitions_of(&topic).iter().map(|partition| partition.id()) {
                for batch in log.read(id, 0, 16 << 20).unwrap() {
                    let text = |value: Option<&[u8]>| String::from_utf8_lossy(value.unwrap_or_default()).into_owned();
                    let dead =
                        batch.events_from(0).map(|(_, record)| format!("{} dead by {}", text(record.value), id.origin));
                    told.extend(dead);
                }
            }
        }
        told
    }

    /// Where events of this value stand on a node, what they were derived from, and who read that.
    pub fn story(&self, node: usize, value: &str) -> Vec<String> {
        let Node { log, index, .. } = &self.nodes[node];
        let mut told = self.dead_letters(node);
        for id in log.partitions_of(&log.topic("out").unwrap()).iter().map(|partition| partition.id()) {
            for batch in log.read(id, 0, 16 << 20).unwrap() {
                for (offset, record) in batch.events_from(0).filter(|(_, r)| r.value == Some(value.as_bytes())) {
                    let cause = record.headers.get(devices::headers::CAUSE).unwrap_or_default();
                    let cause = DerivedFrom::parse(cause).unwrap();
                    let topic = log.topic(cause.topic).unwrap().id();
                    let source = PartitionId { origin: cause.origin, topic, index: cause.partition };
                    let spans = index.view().unwrap().and_then(|view| view.spans(PLUGIN, source).cloned());
                    told.push(format!("{offset} of {}: {cause:?}: {spans:?}", id.origin.0));
                }
            }
        }
        told
    }

    pub fn assert_exact(&self) {
        for node in (0..self.nodes.len()).filter(|node| self.is_here(*node)) {
            assert_eq!(self.miscounted(node), [], "by a reader on node {node}");
            assert_eq!(self.miscounted_anew(node), [], "by a new reader on node {node}");
            assert_eq!(self.dead_letters(node), [""; 0], "state was missing");
        }
    }
}
