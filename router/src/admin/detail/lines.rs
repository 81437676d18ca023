//! Makes the lines of a range that a site gives (pure).

use std::collections::BTreeMap;

use serde_json::json;
use sled_data::{HoleWhy, LinkedPart, Offset, PartitionId};

use crate::admin::event_json::{self, Place};
use crate::links::detail::{Missing, Span};

/// Its time, whether it is an event's, and its bytes.
type Line = (i64, bool, Vec<u8>);

/// Bytes of records, uncompressed, of which lines are made at once, unless one batch has more: lines are several times as large.
const RECORD_BYTES_MAX: usize = 128 << 10;

/// How many of these parts lines are made of at once; never none of some.
pub(super) fn first_few(parts: &[LinkedPart]) -> usize {
    let mut bytes = 0;
    let fits = |part: &&LinkedPart| {
        bytes += match part {
            LinkedPart::Batch(batch) => batch.envelope().record_bytes as usize,
            LinkedPart::Hole(..) => 0,
        };
        bytes <= RECORD_BYTES_MAX
    };
    parts.iter().take_while(fits).count().max(1).min(parts.len())
}

/// Makes lines of what comes, of each partition in the order of its offsets.
pub(super) struct Lines {
    topic: String,
    left: u64,
    /// Of each partition what was not given yet.
    given: Vec<Span>,
}

impl Lines {
    /// Of so many events at most, of these ranges of a topic.
    pub(super) fn new(topic: String, spans: &[Span], events_max: u64) -> Self {
        Self { topic, left: events_max, given: spans.to_vec() }
    }

    /// Whether more events may come.
    pub(super) fn want_more(&self) -> bool {
        self.left > 0
    }

    /// The lines of partitions of whose range retention may have taken something.
    pub(super) fn gone(&self) -> Vec<u8> {
        self.given.iter().filter_map(|span| gone_line(&self.topic, span)).flatten().collect()
    }

    /// The lines of some parts of a frame, in the order of its events' time where their partitions leave it open.
    ///
    /// # Errors
    /// What cannot be read.
    pub(super) fn read(&mut self, parts: &[LinkedPart]) -> Result<Vec<u8>, String> {
        let mut lines: Vec<Line> = Vec::new();
        let mut latest: BTreeMap<PartitionId, i64> = BTreeMap::new();
        for part in parts {
            let id = part.partition();
            let Some(span) = self.given.iter_mut().find(|span| span.id == id) else { continue };
            let latest = latest.entry(id).or_insert(i64::MIN);
            match part {
                LinkedPart::Hole(_, hole) => {
                    let to = hole.to.min(span.to);
                    let why = if hole.why == HoleWhy::Damage { "damaged" } else { hole.why.name() };
                    let place = Place { topic: &self.topic, partition: id, offset: span.from, is_late: false };
                    lines.push((*latest, false, event_json::gap_line(place, to, why)));
                    span.from = to;
                }
                LinkedPart::Batch(batch) => {
                    let at = batch.base_offset();
                    let records =
                        batch.decompress().map_err(|error| format!("{id} at {at} cannot be read: {error}"))?;
                    for record in records.iter() {
                        let offset = records.offset_of(&record);
                        if offset < span.from || offset >= span.to {
                            continue;
                        }
                        *latest = record.timestamp_ms.max(*latest);
                        let place = Place { topic: &self.topic, partition: id, offset, is_late: false };
                        lines.push((*latest, true, event_json::line(place, &record)));
                    }
                    span.from = batch.next_offset().min(span.to).max(span.from);
                }
            }
        }
        // Stable: a partition's lines rise already and keep their order.
        lines.sort_by_key(|(at_ms, ..)| *at_ms);
        Ok(self.first(lines))
    }

    /// As many as may still come.
    fn first(&mut self, lines: Vec<Line>) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (_, is_event, line) in lines {
            if is_event && self.left == 0 {
                break;
            }
            self.left -= u64::from(is_event);
            bytes.extend_from_slice(&line);
        }
        bytes
    }
}

/// The line of a partition of whose range retention may have taken something.
fn gone_line(topic: &str, span: &Span) -> Option<Vec<u8>> {
    let oldest_ms = span.oldest_ms?;
    let before: Offset = span.from;
    let oldest_ms = (oldest_ms < i64::MAX).then_some(oldest_ms);
    let (origin, partition) = (span.id.origin.to_string(), span.id.index);
    let gone = json!({"before": before, "oldest_ms": oldest_ms, "reason": "retention"});
    Some(format!("{}\n", json!({"topic": topic, "origin": origin, "partition": partition, "gone": gone})).into_bytes())
}

/// The lines of gateways whose events may be missing.
pub(super) fn missing_lines(topic: &str, missing: &[Missing]) -> Vec<u8> {
    let line = |Missing { gateway, reason }: &Missing| {
        format!("{}\n", json!({"topic": topic, "missing": {"gateway": gateway, "reason": reason}})).into_bytes()
    };
    missing.iter().flat_map(line).collect()
}

#[cfg(test)]
mod tests {
    use sled_data::{Compression, HeaderBlock, Hole, OpenBatch, OriginId, SealInfo, Sealer, StoredBatch, TopicId};

    use super::*;

    fn id(index: u32) -> PartitionId {
        PartitionId { origin: OriginId(1), topic: TopicId(2), index }
    }

    /// A batch of events with these times.
    fn batch(index: u32, base: Offset, times: &[i64]) -> LinkedPart {
        let (mut open, headers) = (OpenBatch::default(), HeaderBlock::new());
        for time in times {
            open.push(*time, None, Some(time.to_string().as_bytes()), &headers).unwrap();
        }
        let info = SealInfo {
            partition: id(index),
            base_offset: base,
            hlc: 1,
            hops: 0,
            term: 0,
            flags: 0,
            compression: Compression::None,
        };
        let sealed = open.seal(info, &mut Sealer::new());
        LinkedPart::Batch(StoredBatch::decode(sealed.bytes().to_vec()).unwrap())
    }

    fn hole(index: u32, from: Offset, to: Offset) -> LinkedPart {
        LinkedPart::Hole(id(index), Hole { from, to, why: HoleWhy::Retention, at_ms: 0 })
    }

    #[test]
    fn lines_are_cut_to_the_range_and_in_the_order_of_time() {
        let span = |index, from, to| Span { id: id(index), from, to, oldest_ms: None };
        // (events at most, what each frame has, what is told of it: PARTITION:OFFSET or a gap's FROM-TO)
        type Case = (u64, Vec<Vec<LinkedPart>>, Vec<&'static str>);
        let cases: [Case; 4] = [
            (9, vec![vec![batch(0, 0, &[1, 3, 2, 9]), batch(1, 5, &[2, 7])]], vec!["1:5 0:1 0:2"]),
            (2, vec![vec![batch(0, 0, &[1, 3, 2, 9]), batch(1, 5, &[2, 7])]], vec!["1:5 0:1"]),
            (9, vec![vec![batch(0, 1, &[3])], vec![batch(0, 1, &[3, 4])]], vec!["0:1", "0:2"]),
            (9, vec![vec![hole(0, 1, 2), batch(0, 2, &[5, 6])], vec![hole(1, 5, 90)]], vec!["0:1-2 0:2", "1:5-6"]),
        ];
        for (max, frames, told) in cases {
            let mut lines = Lines::new("plant/t".to_owned(), &[span(0, 1, 3), span(1, 5, 6)], max);
            for (frame, told) in frames.iter().zip(told) {
                assert_eq!(shown(&lines.read(frame).unwrap()), told, "{frame:?}");
            }
            assert_eq!(lines.want_more(), max == 9);
        }
    }

    fn shown(bytes: &[u8]) -> String {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        let line = |line: &str| {
            let line: serde_json::Value = serde_json::from_str(line).unwrap();
            assert_eq!(line["topic"], "plant/t");
            match line.get("gap") {
                Some(gap) => format!("{}:{}-{}", line["partition"], gap["from"], gap["to"]),
                None => format!("{}:{}", line["partition"], line["offset"]),
            }
        };
        text.lines().map(line).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn lines_are_made_of_a_few_parts_at_once_and_never_of_none() {
        let large = || {
            let times: Vec<i64> = (0..4_000).collect();
            batch(0, 0, &times)
        };
        let bytes = |part: &LinkedPart| match part {
            LinkedPart::Batch(batch) => batch.envelope().record_bytes as usize,
            LinkedPart::Hole(..) => 0,
        };
        let each = bytes(&large());
        assert!(each < RECORD_BYTES_MAX, "{each}");
        let many: Vec<LinkedPart> = (0..40).map(|_| large()).collect();
        for all in 0..many.len() {
            let few = first_few(&many[..all]);
            assert_eq!(few, all.min(RECORD_BYTES_MAX / each), "of {all}");
        }
        let holes: Vec<LinkedPart> = (0..9).map(|n| hole(0, n, n + 1)).collect();
        assert_eq!(first_few(&holes), 9);
    }

    #[test]
    fn what_retention_may_have_taken_is_told() {
        let span = |index, oldest_ms| Span { id: id(index), from: 7, to: 9, oldest_ms };
        let lines = Lines::new("t".to_owned(), &[span(0, None), span(1, Some(5)), span(2, Some(i64::MAX))], 1);
        let text = String::from_utf8(lines.gone()).unwrap();
        let gone: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(gone.len(), 2);
        assert_eq!(gone[0]["gone"], json!({"before": 7, "oldest_ms": 5, "reason": "retention"}));
        assert_eq!(gone[1]["gone"]["oldest_ms"], serde_json::Value::Null);
    }
}
