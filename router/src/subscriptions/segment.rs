//! A run of events that many subscribers share, encoded once for each format in use.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use devices::headers;
use sled_data::{Offset, OriginId, PartitionId, RecordRef};

use crate::event_log::Batch;

/// How many encodings of a segment doors may keep with it.
pub const FORMATS: usize = 5;
/// Marks an event that subscribers do not get from this segment.
const LEFT_OUT: u32 = u32::MAX;

/// What no MQTT topic name has; a key may have it.
const NO_TOPIC_NAME: [char; 3] = ['+', '#', '\0'];

/// A run of events in order, with the MQTT topic of each.
pub struct Segment {
    parts: Vec<Part>,
    topics: Vec<Box<str>>,
    /// For each event of each part in order: the number of its topic.
    numbers: Vec<u32>,
    bytes: usize,
    is_live: bool,
    frames: [OnceLock<Frames>; FORMATS],
}

struct Part {
    batch: Batch,
    from: Offset,
    /// The offset after the last that belongs to the segment.
    to: Offset,
}

impl Part {
    fn events(&self) -> impl Iterator<Item = (Offset, RecordRef<'_>)> {
        self.batch.events_from(self.from).take_while(|(offset, _)| *offset < self.to)
    }
}

/// An event of a segment, for a door that encodes it.
pub struct SegmentEvent<'a> {
    /// Its MQTT topic.
    pub topic: &'a str,
    /// The number of that topic in [`Segment::topics`].
    pub topic_number: u32,
    /// Where it is stored; meaningless for a live segment.
    pub partition: PartitionId,
    /// Its offset; meaningless for a live segment.
    pub offset: Offset,
    /// The event itself.
    pub record: RecordRef<'a>,
}

impl SegmentEvent<'_> {
    /// Seconds until it expires. `Some(None)`: never; `None`: it has expired.
    pub fn seconds_left(&self, now_ms: i64) -> Option<Option<u32>> {
        let Some(expiry) = self.record.headers.get(headers::MQTT_EXPIRY).and_then(|bytes| bytes.try_into().ok()) else {
            return Some(None);
        };
        let total_s = u32::from_be_bytes(expiry);
        let age_ms = now_ms.saturating_sub(self.record.timestamp_ms).max(0);
        let age_s = u32::try_from(age_ms / 1_000).unwrap_or(u32::MAX);
        (total_s > age_s).then(|| Some(total_s - age_s))
    }
}

/// A segment's events in one door's format.
#[derive(Debug, Default)]
pub struct Frames {
    /// All frames, one behind the other.
    pub bytes: Vec<u8>,
    /// Where each begins, and what it is.
    pub list: Vec<Frame>,
}

/// One encoded event.
#[derive(Debug, Clone, Copy)]
pub struct Frame {
    /// Where it begins in [`Frames::bytes`].
    pub start: u32,
    /// Where it ends.
    pub end: u32,
    /// Where the two bytes of its packet id stand, counted from `start`; 0 where it has none.
    pub packet_id_at: u32,
    /// The number of its topic in [`Segment::topics`].
    pub topic: u32,
    /// Where it is stored.
    pub partition: PartitionId,
    /// Its offset.
    pub offset: Offset,
}

/// Says of wills that other nodes have published whether their clients have said something newer since.
pub trait LateWills: Send + Sync {
    /// `origin`: whose log it is in; `begun`: the hybrid clock at which the session began whose will it is. Called on the committer's thread; must not
    /// block.
    fn is_late(&self, origin: OriginId, client_id: &str, begun: u64, mqtt_topic: &str) -> bool;
}

/// Who says it, and the life of this node.
#[derive(Clone)]
pub(super) struct Judge {
    pub(super) own: OriginId,
    pub(super) wills: Arc<dyn LateWills>,
}

impl Judge {
    fn is_late(&self, origin: OriginId, record: &RecordRef<'_>, mqtt_topic: &str) -> bool {
        let begun = record.headers.get(headers::MQTT_WILL).and_then(headers::decode_will);
        let client = record.headers.get(headers::MQTT_CLIENT).and_then(|client| std::str::from_utf8(client).ok());
        begun.zip(client).is_some_and(|(begun, client)| self.wills.is_late(origin, client, begun, mqtt_topic))
    }
}

/// Collects parts into a segment.
pub(crate) struct SegmentBuilder {
    segment: Segment,
    known: std::collections::HashMap<Box<str>, u32>,
    last: u32,
    /// Who leaves late wills out of it.
    judge: Option<Judge>,
}

impl SegmentBuilder {
    /// `is_live`: events on their way in, which have no offset yet.
    pub(crate) fn new(is_live: bool) -> Self {
        let segment = Segment {
            parts: Vec::new(),
            topics: Vec::new(),
            numbers: Vec::new(),
            bytes: 0,
            is_live,
            frames: Default::default(),
        };
        Self { segment, known: std::collections::HashMap::new(), last: LEFT_OUT, judge: None }
    }

    /// The same, without wills of other nodes that are late.
    pub(super) fn judged_by(self, judge: Option<Judge>) -> Self {
        Self { judge, ..self }
    }

    /// Adds the events of a batch in a span of offsets.
    pub(crate) fn add(&mut self, log_topic: &str, batch: Batch, span: Range<Offset>) {
        let catch_all = log_topic == crate::ingest::CATCH_ALL_TOPIC;
        let mut made = String::new();
        let origin = batch.partition().origin;
        let judge = self.judge.as_ref().filter(|judge| judge.own != origin);
        let part = Part { batch, from: span.start, to: span.end };
        for (_, record) in part.events() {
            let number = if !self.segment.is_live && is_qos_0(&record) {
                LEFT_OUT
            } else if let Some(topic) = mqtt_topic(&record, log_topic, catch_all, &mut made)
                && !judge.is_some_and(|judge| judge.is_late(origin, &record, topic))
            {
                number_of(&mut self.segment.topics, &mut self.known, self.last, topic)
            } else {
                LEFT_OUT
            };
            self.segment.numbers.push(number);
            if number != LEFT_OUT {
                self.last = number;
            }
        }
        self.segment.bytes += part.batch.record_bytes();
        self.segment.parts.push(part);
    }

    pub(crate) fn build(self) -> Segment {
        self.segment
    }
}

fn number_of(
    topics: &mut Vec<Box<str>>,
    known: &mut std::collections::HashMap<Box<str>, u32>,
    last: u32,
    topic: &str,
) -> u32 {
    if topics.get(last as usize).is_some_and(|last| **last == *topic) {
        return last;
    }
    if let Some(number) = known.get(topic) {
        return *number;
    }
    let number = u32::try_from(topics.len()).unwrap_or(LEFT_OUT);
    topics.push(topic.into());
    known.insert(topic.into(), number);
    number
}

fn is_qos_0(record: &RecordRef<'_>) -> bool {
    record.headers.get(headers::MQTT_QOS) == Some(&[0])
}

/// The MQTT topic that an event is offered under: the one it came by, else `{topic}/{key}`.
fn mqtt_topic<'a>(record: &RecordRef<'a>, log_topic: &str, catch_all: bool, made: &'a mut String) -> Option<&'a str> {
    if let Some(topic) = record.headers.get(headers::MQTT_TOPIC) {
        return std::str::from_utf8(topic).ok();
    }
    let key = std::str::from_utf8(record.key.unwrap_or_default()).ok()?;
    if catch_all {
        return Some(key).filter(|key| !key.is_empty() && !key.contains(NO_TOPIC_NAME));
    }
    made.clear();
    made.push_str(log_topic);
    if !key.is_empty() {
        made.push('/');
        made.push_str(key);
    }
    (!made.contains(NO_TOPIC_NAME)).then_some(made.as_str())
}

impl Segment {
    /// The MQTT topics in it, each once.
    pub fn topics(&self) -> &[Box<str>] {
        &self.topics
    }

    /// Whether its events are on their way in (QoS 0) and have no offset yet.
    pub fn is_live(&self) -> bool {
        self.is_live
    }

    /// What it costs to keep, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Its batches: partition, first offset, offset after the last.
    pub(super) fn spans(&self) -> impl Iterator<Item = (PartitionId, Offset, Offset)> {
        self.parts.iter().map(|part| {
            let (first, next) = (part.from.max(part.batch.base_offset()), part.to.min(part.batch.next_offset()));
            (part.batch.partition(), first, next)
        })
    }

    /// The first offset of each of its batches.
    pub fn starts(&self) -> impl Iterator<Item = (PartitionId, Offset)> {
        self.spans().map(|(partition, first, _)| (partition, first))
    }

    /// Its events in order, without those that subscribers have had already.
    pub fn events(&self) -> impl Iterator<Item = SegmentEvent<'_>> {
        let all = self.parts.iter().flat_map(|part| {
            let partition = part.batch.partition();
            part.events().map(move |(offset, record)| (partition, offset, record))
        });
        all.zip(&self.numbers).filter_map(|((partition, offset, record), number)| {
            let topic = self.topics.get(*number as usize)?;
            Some(SegmentEvent { topic, topic_number: *number, partition, offset, record })
        })
    }

    /// The segment in a door's format number `format` (below [`FORMATS`]); `encode` runs once for all subscribers.
    pub fn frames(&self, format: usize, encode: impl FnOnce(&Segment) -> Frames) -> &Frames {
        self.frames[format].get_or_init(|| encode(self))
    }
}
