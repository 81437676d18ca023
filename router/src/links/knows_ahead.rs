//! What an edge is told of what lies ahead, by what it knows of that (pure).

use sled_data::PartitionId;

use super::later::LiesAhead;
use super::wire::Answer;
use super::{PROTOCOL_AHEAD, PROTOCOL_ALL_AHEAD};

/// What the other side knows of what lies ahead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KnowsAhead {
    /// Nothing: an open hole it would take for a gap.
    Nothing,
    /// One part of a partition. Of several it is told the last: what is live goes on behind that, and what it sends again of the others is here.
    One,
    /// All parts.
    All,
}

impl KnowsAhead {
    /// What an edge knows by the protocol that it speaks.
    pub(super) fn of(protocol: u8) -> Self {
        match protocol {
            PROTOCOL_ALL_AHEAD.. => Self::All,
            PROTOCOL_AHEAD.. => Self::One,
            _ => Self::Nothing,
        }
    }

    /// What it is told before where partitions end.
    pub(super) fn tells(self, aheads: Vec<(PartitionId, Vec<LiesAhead>)>) -> Option<Answer> {
        match self {
            Self::Nothing => None,
            Self::One => {
                let last = |(id, parts): (PartitionId, Vec<LiesAhead>)| Some((id, *parts.last()?));
                Some(Answer::Ahead(aheads.into_iter().filter_map(last).collect()))
            }
            Self::All => Some(Answer::AllAhead(aheads)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_edge_is_told_the_last_part_or_none() {
        let id = |topic| PartitionId { origin: sled_data::OriginId(1), topic: sled_data::TopicId(topic), index: 0 };
        let part = |from| LiesAhead { from, end: from + 2, first: 5, hlc: 6 };
        let aheads = vec![(id(1), vec![part(4)]), (id(2), vec![part(4), part(9), part(20)])];
        let cases = [
            (1, None),
            (2, None),
            (3, Some(Answer::Ahead(vec![(id(1), part(4)), (id(2), part(20))]))),
            (4, Some(Answer::AllAhead(aheads.clone()))),
            (5, Some(Answer::AllAhead(aheads.clone()))),
        ];
        for (protocol, expected) in cases {
            assert_eq!(KnowsAhead::of(protocol).tells(aheads.clone()), expected, "{protocol}");
        }
    }
}
