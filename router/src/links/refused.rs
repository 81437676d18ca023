//! What is refused of partitions over and over: an edge whose program judges less than this one sends the same again each time that it begins anew.
//! After so many times it is settled here (pure).

use std::collections::BTreeMap;
use std::time::Duration;

use sled_data::{LinkedError, Offset, PartitionId};

/// Refusals of a partition, in a row and at one place, after which it is settled here. Two in a row come of senders that pass each other.
pub const REFUSALS_MAX: u32 = 3;
/// Partitions of a link that are remembered; beyond, the one that was refused longest ago is not.
const REMEMBERED_MAX: usize = 256;
/// How long one that cannot be settled is left out; then it is tried again.
const LEFT_OUT_FOR: Duration = Duration::from_secs(600);
/// Partitions that were settled and are told of; beyond, one of them is not.
const TOLD_MAX: usize = 64;

/// What was refused of one partition.
#[derive(Debug, Clone, Copy)]
struct Row {
    /// Where the partition ended here, and up to before which offset what came could be taken.
    place: (Offset, Offset),
    times: u32,
    last: Duration,
}

/// What one link brought that was refused, since the start.
#[derive(Debug, Default)]
pub struct RefusedParts {
    rows: BTreeMap<PartitionId, Row>,
    settled: BTreeMap<PartitionId, String>,
}

impl RefusedParts {
    /// Notes that something of a partition, which ends at `end` here, was refused: it could be taken up to before `fits_to`. Whether that was so
    /// often enough in a row, and it is to be settled. `now` is monotonic.
    pub fn refuse(&mut self, id: PartitionId, (end, fits_to): (Offset, Offset), now: Duration) -> bool {
        if self.rows.len() >= REMEMBERED_MAX
            && !self.rows.contains_key(&id)
            && let Some(oldest) = self.rows.iter().min_by_key(|(_, row)| row.last).map(|(id, _)| *id)
        {
            self.rows.remove(&oldest);
        }
        let row = self.rows.entry(id).or_insert(Row { place: (end, fits_to), times: 0, last: now });
        if row.place != (end, fits_to) {
            *row = Row { place: (end, fits_to), times: 0, last: now };
        }
        (row.times, row.last) = (row.times.saturating_add(1), now);
        row.times >= REFUSALS_MAX
    }

    /// Notes that a partition goes on here behind what did not fit, and what people are told of it.
    pub fn settle(&mut self, id: PartitionId, text: String) {
        self.rows.remove(&id);
        if self.settled.len() >= TOLD_MAX && !self.settled.contains_key(&id) {
            self.settled.pop_first();
        }
        self.settled.insert(id, text);
    }

    /// What people are told of a partition that was settled.
    pub fn settled(&self, id: PartitionId) -> Option<&str> {
        self.settled.get(&id).map(String::as_str)
    }

    /// Whether a partition that ends at `end` here is left out for now: it was refused so often, and could not be settled.
    pub fn is_left_out(&self, id: PartitionId, end: Offset, now: Duration) -> bool {
        let is_so =
            |row: &Row| row.times >= REFUSALS_MAX && row.place.0 == end && now.saturating_sub(row.last) < LEFT_OUT_FOR;
        self.rows.get(&id).is_some_and(is_so)
    }
}

/// Of which partition something was refused that does not fit, and up to before which end what comes of it fits; `None` where it is another error.
pub fn fits_to(error: &LinkedError) -> Option<(PartitionId, Offset)> {
    match error {
        LinkedError::NotNext { partition, end, .. } => Some((*partition, end.saturating_add(1))),
        LinkedError::Differs { partition, end } => Some((*partition, *end)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(topic: u64) -> PartitionId {
        PartitionId { origin: sled_data::OriginId(1), topic: sled_data::TopicId(topic), index: 0 }
    }

    #[test]
    fn what_is_refused_again_and_again_at_one_place_is_to_be_settled() {
        let at = Duration::from_secs;
        let mut refused = RefusedParts::default();
        // the place, whether it is to be settled, and is left out otherwise
        let steps = [
            ((4, 9), false),
            ((4, 9), false),
            // Some of it came.
            ((6, 9), false),
            ((6, 9), false),
            ((6, 8), false),
            ((6, 8), false),
            ((6, 8), true),
            ((6, 8), true),
        ];
        for (n, (place, expected)) in steps.into_iter().enumerate() {
            assert_eq!(refused.refuse(id(1), place, at(n as u64)), expected, "{n}");
            assert!(!refused.refuse(id(2), (n as u64, 9), at(n as u64)), "one that moves");
            assert_eq!(refused.is_left_out(id(1), place.0, at(n as u64)), expected, "{n}");
        }
        assert!(!refused.is_left_out(id(1), 7, at(8)), "it has moved since");
        assert!(!refused.is_left_out(id(1), 6, at(7) + LEFT_OUT_FOR), "it is tried again");
        assert!(refused.refuse(id(1), (6, 8), at(9) + LEFT_OUT_FOR), "and settled at once");
        refused.settle(id(1), "told".to_owned());
        assert_eq!((refused.settled(id(1)), refused.settled(id(2))), (Some("told"), None));
        assert!(!refused.is_left_out(id(1), 6, at(10)) && !refused.refuse(id(1), (6, 8), at(10)));
    }

    #[test]
    fn so_many_are_remembered_and_no_more() {
        let mut refused = RefusedParts::default();
        for n in 0..REMEMBERED_MAX as u64 + 5 {
            (0..2).for_each(|_| assert!(!refused.refuse(id(n), (0, 1), Duration::from_secs(n))));
            refused.settle(id(1_000 + n), String::new());
        }
        assert_eq!((refused.rows.len(), refused.settled.len()), (REMEMBERED_MAX, TOLD_MAX));
        let now = Duration::from_secs(900);
        assert!(refused.refuse(id(5), (0, 1), now), "the third time");
        assert!(!refused.refuse(id(4), (0, 1), now), "it was refused longest ago");
    }
}
