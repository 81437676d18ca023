//! How far nodes of a site are with linked partitions: what is asked, what is answered, and what another one lacks (pure).

use serde::{Deserialize, Serialize};
use sled_data::{Offset, OriginId, PartitionId, TopicId};

use crate::links::begin::Stand;

/// The version that is spoken. The first one had no content; who speaks that one alone does not answer.
const VERSION: u8 = 2;
/// Partitions that one question for ends names at most.
pub const ASKED_MAX: usize = 1_024;
/// Partitions that one question for all that is there names at most: an answer has 256 holes of each.
pub const WHOLE_MAX: usize = 64;

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// Where partitions end.
    Ends,
    /// The same; what there is more of is wanted at once.
    Wants,
    /// Where they end, their holes, and whether they are other ones than these, which are at the one who asks.
    Whole(Vec<Stand>),
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// What is asked.
    pub asks: Asks,
    /// The partitions.
    pub ids: Vec<PartitionId>,
}

/// What a node has of a partition. Frozen, as it is said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// The offset of the next event, all before it synced.
    pub end: Offset,
    /// The first offset that is kept, where it is asked for.
    pub start: Offset,
    /// What never came, where it is asked for: the first offset of each hole, and the one after it.
    pub holes: Vec<(Offset, Offset)>,
    /// Where it is asked for: it has something else than the one who asks, by clock and digest of where that one's ends.
    pub is_other: bool,
}

/// What a node keeps of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeps {
    /// The first offset.
    pub start: Offset,
    /// Where it ends.
    pub stand: Stand,
    /// Where what lies ahead of that ends.
    pub end: Offset,
    /// What never came.
    pub holes: Vec<(Offset, Offset)>,
}

/// What another node lacks of a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lack {
    /// What is behind its end: it may come.
    Behind,
    /// What lies below its end, in these ranges: nothing is put in there.
    Below(Vec<(Offset, Offset)>),
    /// All: it has something else.
    Other,
}

#[derive(Serialize, Deserialize)]
struct QuestionV2(u8, Vec<(u64, u64, u32)>, Vec<(u64, u64, u64, bool)>);

#[derive(Serialize, Deserialize)]
struct AnswerV2(Vec<Held>);

impl Question {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let ids = self.ids.iter().map(|id| (id.origin.0, id.topic.0, id.index)).collect();
        let (asks, stands) = match &self.asks {
            Asks::Ends => (0, &[][..]),
            Asks::Wants => (1, &[][..]),
            Asks::Whole(stands) => (2, &stands[..]),
        };
        let stands = stands.iter().map(|stand| (stand.end, stand.hlc, stand.digest, stand.is_gapless)).collect();
        // Writing numbers to memory does not fail; the reader would say so.
        postcard::to_extend(&QuestionV2(asks, ids, stands), vec![VERSION]).unwrap_or_default()
    }

    /// Reads one; `None` where it is none that is known.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let QuestionV2(asks, ids, stands) = decode(bytes)?;
        let is_whole = asks == 2 && stands.len() == ids.len() && ids.len() <= WHOLE_MAX;
        if !is_whole && !stands.is_empty() || ids.len() > ASKED_MAX {
            return None;
        }
        let stand = |(end, hlc, digest, is_gapless)| Stand { end, hlc, digest, is_gapless };
        let asks = match asks {
            0 => Asks::Ends,
            1 => Asks::Wants,
            2 if is_whole => Asks::Whole(stands.into_iter().map(stand).collect()),
            _ => return None,
        };
        let id = |(origin, topic, index)| PartitionId { origin: OriginId(origin), topic: TopicId(topic), index };
        Some(Self { asks, ids: ids.into_iter().map(id).collect() })
    }
}

/// The bytes of an answer: what is there of each partition, in the question's order.
pub fn encode_answer(all: Vec<Held>) -> Vec<u8> {
    postcard::to_extend(&AnswerV2(all), vec![VERSION]).unwrap_or_default()
}

/// Reads an answer to a question of so many partitions; `None` where it is none that is known.
pub fn decode_answer(bytes: &[u8], count: usize) -> Option<Vec<Held>> {
    let AnswerV2(all) = decode(bytes)?;
    (all.len() == count).then_some(all)
}

fn decode<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Option<T> {
    let (&VERSION, body) = bytes.split_first()? else { return None };
    let (value, []) = postcard::take_from_bytes(body).ok()? else { return None };
    Some(value)
}

/// What another node lacks of what this one keeps; `None`: nothing. What its own retention took is not lacking.
pub fn lacks(keeps: &Keeps, theirs: &Held) -> Option<Lack> {
    if theirs.is_other {
        return Some(Lack::Other);
    }
    if theirs.end < keeps.end {
        return Some(Lack::Behind);
    }
    let kept = theirs.holes.iter().flat_map(|(from, to)| keeps.of(*from, *to)).collect::<Vec<_>>();
    (!kept.is_empty()).then_some(Lack::Below(kept))
}

impl Keeps {
    /// What is kept of a range.
    fn of(&self, from: Offset, to: Offset) -> Vec<(Offset, Offset)> {
        let (mut next, to) = (from.max(self.start), to.min(self.stand.end));
        let mut kept = Vec::new();
        // What lies in holes of this node is not kept here either. Holes are in order.
        for (hole_from, hole_to) in &self.holes {
            let until = (*hole_from).min(to);
            if next < until {
                kept.push((next, until));
            }
            next = next.max(*hole_to);
        }
        if next < to {
            kept.push((next, to));
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked_and_answered_has_these_bytes() {
        let id = PartitionId { origin: OriginId(300), topic: TopicId(2), index: 3 };
        let stand = Stand { end: 300, hlc: 7, digest: 5, is_gapless: true };
        let cases = [
            (Asks::Ends, vec![2, 0, 1, 0xac, 2, 2, 3, 0]),
            (Asks::Wants, vec![2, 1, 1, 0xac, 2, 2, 3, 0]),
            (Asks::Whole(vec![stand]), vec![2, 2, 1, 0xac, 2, 2, 3, 1, 0xac, 2, 7, 5, 1]),
        ];
        for (asks, bytes) in cases {
            let question = Question { asks, ids: vec![id] };
            assert_eq!(question.encode(), bytes);
            assert_eq!(Question::decode(&bytes), Some(question));
        }
        let held = vec![Held { end: 300, start: 1, holes: vec![(1, 4)], is_other: true }];
        let bytes = [2, 1, 0xac, 2, 1, 1, 1, 4, 1];
        assert_eq!(encode_answer(held.clone()), bytes);
        assert_eq!(decode_answer(&bytes, 1), Some(held));
        assert_eq!(decode_answer(&bytes, 2), None, "it is of another question");
        let wrong: [&[u8]; 7] = [
            &[],
            &[1, 0, 0, 0],
            &[2, 1, 1, 0xac, 2, 2],
            &[2, 0, 0, 0, 0],
            &[2, 3, 0, 0],
            &[2, 0, 1, 0xac, 2, 2, 3, 1, 1, 1, 1, 1],
            &[2, 2, 1, 0xac, 2, 2, 3, 0],
        ];
        for wrong in wrong {
            assert_eq!(Question::decode(wrong), None, "{wrong:?}");
        }
        let many = Question { asks: Asks::Ends, ids: vec![id; ASKED_MAX + 1] };
        assert_eq!(Question::decode(&many.encode()), None);
        let many = Question { asks: Asks::Whole(vec![stand; WHOLE_MAX + 1]), ids: vec![id; WHOLE_MAX + 1] };
        assert_eq!(Question::decode(&many.encode()), None);
    }

    #[test]
    fn a_node_lacks_what_lies_in_its_holes_and_is_kept_here() {
        let held = |end, holes: &[(Offset, Offset)]| Held { end, start: 0, holes: holes.to_vec(), is_other: false };
        let keeps = |start, end, holes: &[(Offset, Offset)]| {
            let stand = Stand { end, hlc: 1, digest: 1, is_gapless: holes.is_empty() };
            Keeps { start, stand, end, holes: holes.to_vec() }
        };
        let below = |from, to| Some(Lack::Below(vec![(from, to)]));
        let other = Held { is_other: true, ..held(9, &[]) };
        let cases = [
            ("the same", keeps(0, 9, &[]), held(9, &[]), None),
            ("something else", keeps(0, 9, &[]), other, Some(Lack::Other)),
            ("it has more", keeps(0, 9, &[]), held(12, &[(9, 10)]), None),
            ("it is behind", keeps(0, 9, &[]), held(8, &[]), Some(Lack::Behind)),
            ("behind, with a hole", keeps(0, 9, &[]), held(8, &[(0, 2)]), Some(Lack::Behind)),
            ("it has nothing", keeps(0, 9, &[]), Held::default(), Some(Lack::Behind)),
            ("a hole", keeps(0, 9, &[]), held(9, &[(3, 4)]), below(3, 4)),
            ("a hole before what is kept", keeps(4, 9, &[]), held(9, &[(0, 4)]), None),
            ("a hole into what is kept", keeps(3, 9, &[]), held(9, &[(0, 4)]), below(3, 4)),
            ("something lies ahead", Keeps { end: 12, ..keeps(0, 9, &[]) }, held(9, &[]), Some(Lack::Behind)),
            ("the same hole", keeps(0, 9, &[(3, 6)]), held(9, &[(3, 6)]), None),
            ("its hole is larger", keeps(0, 9, &[(3, 6)]), held(9, &[(3, 7)]), below(6, 7)),
            ("its hole begins before", keeps(0, 9, &[(3, 6)]), held(9, &[(2, 6)]), below(2, 3)),
            ("two of ours make one of its", keeps(0, 9, &[(3, 5), (5, 7)]), held(9, &[(3, 7)]), None),
            ("an event between them", keeps(0, 9, &[(3, 5), (6, 7)]), held(9, &[(3, 7)]), below(5, 6)),
            ("a hole at the end", keeps(0, 9, &[(7, 9)]), held(11, &[(7, 11)]), None),
            ("a hole behind it", keeps(0, 9, &[(7, 8)]), held(9, &[(1, 3)]), below(1, 3)),
        ];
        for (case, keeps, theirs, expected) in cases {
            assert_eq!(lacks(&keeps, &theirs), expected, "{case}");
        }
    }
}
