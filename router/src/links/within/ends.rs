//! How far nodes of a site are with linked partitions: what is asked, what is answered, and what another one lacks (pure).

use serde::{Deserialize, Serialize};
use sled_data::{Offset, OriginId, PartitionId, TopicId};

/// The version that is spoken.
const VERSION: u8 = 1;
/// Partitions that one question names at most.
pub const ASKED_MAX: usize = 1_024;

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Whether what the other one has more of is to come from there at once.
    pub wants: bool,
    /// The partitions.
    pub ids: Vec<PartitionId>,
}

/// What a node has of a partition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The offset of the next event, all before it synced.
    pub end: Offset,
    /// What never came: the first offset of each hole, and the one after it.
    pub holes: Vec<(Offset, Offset)>,
}

/// What a node keeps of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeps {
    /// The first offset.
    pub start: Offset,
    /// What it has.
    pub held: Held,
}

#[derive(Serialize, Deserialize)]
struct QuestionV1(bool, Vec<(u64, u64, u32)>);

#[derive(Serialize, Deserialize)]
struct AnswerV1(Vec<Held>);

impl Question {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let ids = self.ids.iter().map(|id| (id.origin.0, id.topic.0, id.index)).collect();
        // Writing numbers to memory does not fail; the reader would say so.
        postcard::to_extend(&QuestionV1(self.wants, ids), vec![VERSION]).unwrap_or_default()
    }

    /// Reads one; `None` where it is none that is known.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let QuestionV1(wants, ids) = decode(bytes)?;
        let id = |(origin, topic, index)| PartitionId { origin: OriginId(origin), topic: TopicId(topic), index };
        (ids.len() <= ASKED_MAX).then(|| Self { wants, ids: ids.into_iter().map(id).collect() })
    }
}

/// The bytes of an answer: what is there of each partition, in the question's order.
pub fn encode_answer(all: Vec<Held>) -> Vec<u8> {
    postcard::to_extend(&AnswerV1(all), vec![VERSION]).unwrap_or_default()
}

/// Reads an answer to a question of so many partitions; `None` where it is none that is known.
pub fn decode_answer(bytes: &[u8], count: usize) -> Option<Vec<Held>> {
    let AnswerV1(all) = decode(bytes)?;
    (all.len() == count).then_some(all)
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    let (value, []) = postcard::take_from_bytes(body).ok()? else { return None };
    Some(value)
}

/// Whether another node lacks events that this one keeps. What its own retention took is none of them.
pub fn lacks(keeps: &Keeps, theirs: &Held) -> bool {
    if theirs.end < keeps.held.end {
        return true;
    }
    let is_kept = |from: Offset, to: Offset| {
        let (from, to) = (from.max(keeps.start), to.min(keeps.held.end));
        // What lies in holes of this node is not kept here either. Holes are in order.
        let mut next = from;
        for (hole_from, hole_to) in &keeps.held.holes {
            if *hole_from <= next && next < *hole_to {
                next = *hole_to;
            }
        }
        next < to
    };
    theirs.holes.iter().any(|(from, to)| is_kept(*from, *to))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_answered_has_these_bytes() {
        let id = PartitionId { origin: OriginId(300), topic: TopicId(2), index: 3 };
        let question = Question { wants: true, ids: vec![id] };
        let bytes = [1, 1, 1, 0xac, 2, 2, 3];
        assert_eq!(question.encode(), bytes);
        assert_eq!(Question::decode(&bytes), Some(question));
        let held = vec![Held { end: 300, holes: vec![(1, 4)] }];
        let bytes = [1, 1, 0xac, 2, 1, 1, 4];
        assert_eq!(encode_answer(held.clone()), bytes);
        assert_eq!(decode_answer(&bytes, 1), Some(held));
        assert_eq!(decode_answer(&bytes, 2), None, "it is of another question");
        for wrong in [&[][..], &[2, 0, 0], &[1, 1, 1, 0xac, 2, 2], &[1, 0, 0, 0], &[1, 0]] {
            assert_eq!(Question::decode(wrong), None, "{wrong:?}");
        }
        let many = Question { wants: false, ids: vec![id; ASKED_MAX + 1] };
        assert_eq!(Question::decode(&many.encode()), None);
    }

    #[test]
    fn a_node_lacks_what_lies_in_its_holes_and_is_kept_here() {
        let held = |end, holes: &[(Offset, Offset)]| Held { end, holes: holes.to_vec() };
        let keeps = |start, end, holes: &[(Offset, Offset)]| Keeps { start, held: held(end, holes) };
        let cases = [
            ("the same", keeps(0, 9, &[]), held(9, &[]), false),
            ("it has more", keeps(0, 9, &[]), held(12, &[(9, 10)]), false),
            ("it is behind", keeps(0, 9, &[]), held(8, &[]), true),
            ("it has nothing", keeps(0, 9, &[]), Held::default(), true),
            ("a hole", keeps(0, 9, &[]), held(9, &[(3, 4)]), true),
            ("a hole before what is kept", keeps(4, 9, &[]), held(9, &[(0, 4)]), false),
            ("a hole into what is kept", keeps(3, 9, &[]), held(9, &[(0, 4)]), true),
            ("the same hole", keeps(0, 9, &[(3, 6)]), held(9, &[(3, 6)]), false),
            ("its hole is larger", keeps(0, 9, &[(3, 6)]), held(9, &[(3, 7)]), true),
            ("its hole begins before", keeps(0, 9, &[(3, 6)]), held(9, &[(2, 6)]), true),
            ("two of ours make one of its", keeps(0, 9, &[(3, 5), (5, 7)]), held(9, &[(3, 7)]), false),
            ("an event between them", keeps(0, 9, &[(3, 5), (6, 7)]), held(9, &[(3, 7)]), true),
            ("a hole at the end", keeps(0, 9, &[(7, 9)]), held(11, &[(7, 11)]), false),
        ];
        for (case, keeps, theirs, expected) in cases {
            assert_eq!(lacks(&keeps, &theirs), expected, "{case}");
        }
    }
}
